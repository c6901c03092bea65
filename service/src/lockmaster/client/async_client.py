"""AsyncClient: one session, one stream, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import secrets
import weakref
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar, overload

import grpc
import grpc.aio

from lockmaster.api import session_pb2
from lockmaster.client import arguments
from lockmaster.client import locks as lock_module
from lockmaster.client.admin import Admin
from lockmaster.client.calls import MessageCall, ReadCall
from lockmaster.client.clock import suspend_clock
from lockmaster.client.config import Config
from lockmaster.client.connection import Channels, Connection
from lockmaster.client.endpoints import TLS
from lockmaster.client.failures import error_of_rpc
from lockmaster.client.holds import Session
from lockmaster.client.keepalive import Keepalive
from lockmaster.client.locks import Lock, Locks, OnLost
from lockmaster.client.patience import Patience
from lockmaster.client.policy import Raise, policy
from lockmaster.client.session_core import SessionCore
from lockmaster.client.surroundings import label_of, reached
from lockmaster.client.telemetry import NAMESPACE, telemetry_if_on
from lockmaster.client.typed import SETTINGS_KEY, TypedConfig
from lockmaster.errors import ForkedClient, LockmasterError, Unavailable, WrongLoop

P = ParamSpec("P")
R = TypeVar("R")

TTL_SECONDS_DEFAULT = 15.0
TTL_SECONDS_MAX = 86_400.0
LOCK_DELAY_SECONDS_MAX = 60.0
OPERATION_SECONDS_DEFAULT = 10.0
CLOSE_SECONDS_MAX = 2.0
UNARY_ATTEMPTS_MAX = 64


class Message(Protocol):
    """A protobuf message class's way in and out."""

    def SerializeToString(self) -> bytes: ...  # noqa: D102


M = TypeVar("M")

_clients: weakref.WeakSet[AsyncClient] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client.forked = True


os.register_at_fork(after_in_child=_after_fork_in_child)


def _namespace_of(message: Any) -> str:
    return str(getattr(message, "namespace", ""))


class AsyncClient:
    """Distributed locks and configuration for one event loop.

    `endpoints`: host:port of any members. `ttl`: seconds after which this client's locks pass on if it can't be heard.
    `tls`: needed unless all endpoints are on this machine or `insecure`. Where `endpoints`, `tls` or `label` is None,
    LOCKMASTER_* variables decide, then what Kubernetes has given the pod (docs/authentication.md).
    `lock_delay`: seconds, 60 at most, that a lock stays free after this client loses it without releasing.
    `stall_max`: seconds without an answer of the event loop, then the session is renewed no more (default 2 x ttl).
    `operation_timeout`: seconds that a call other than waiting for a lock may take.

    Raises ValueError or TypeError that name the argument, its limit or the file that can't be used.
    Connects with the first call and opens its session with the first mutation. Use `async with`, or `close()`.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str] | None = None,
        *,
        ttl: float = TTL_SECONDS_DEFAULT,
        label: str | None = None,
        tls: TLS | None = None,
        insecure: bool = False,
        lock_delay: float = 1.0,
        stall_max: float | None = None,
        operation_timeout: float = OPERATION_SECONDS_DEFAULT,
    ) -> None:
        self.endpoints, tls = reached(endpoints, tls, insecure)
        if tls is not None:
            tls.check()
        self.ttl = arguments.seconds("ttl", ttl, above=0, most=TTL_SECONDS_MAX)
        self.operation_timeout = arguments.seconds("operation_timeout", operation_timeout, above=0)
        self.clock: Callable[[], float] = suspend_clock
        self.telemetry = telemetry_if_on()
        # When a thread of the user last called, by `clock`; None: only the loop is asked (the sync client sets it).
        self.touched: Callable[[], float] | None = None
        self.forked = False
        self.locks = Locks(self)
        self.admin = Admin(self)
        self.loop: asyncio.AbstractEventLoop
        self._label = label_of(tls) if label is None else arguments.text("label", label)
        self._tls = tls
        self._lock_delay = arguments.seconds("lock_delay", lock_delay, most=LOCK_DELAY_SECONDS_MAX)
        self._stall_max = 2 * ttl if stall_max is None else arguments.seconds("stall_max", stall_max, above=0)
        self._core: SessionCore | None = None
        self._connection: Connection | None = None
        self._unary_channels: Channels | None = None
        self._patience = Patience(len(self.endpoints))
        self._keepalive: Keepalive | None = None
        self._watch_id = 0
        self._leader = ""
        self._closed = False
        _clients.add(self)

    # ---- locks and configuration -----------------------------------------------------------------------------------

    def lock(self, name: str, timeout: float | None = None, *, on_lost: OnLost = None) -> Lock:
        """A lock by name (1 to 512 bytes of UTF-8), to be used by `async with`, `acquire` or `try_acquire`.

        `timeout`: seconds to wait, None without end, 0 not at all. `on_lost`: called with LockLost if the lock is
        lost, or "cancel": the task that acquired it is cancelled then, and `async with` raises LockLost.
        """
        return Lock(self, name, timeout, on_lost)

    def locked(
        self, name: str, timeout: float | None = None, *, on_lost: OnLost = None
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
        """A decorator for coroutine functions: each call runs while it holds the lock."""
        return lock_module.locked(self, name, timeout, on_lost)

    @overload
    def config(self, namespace: str) -> Config: ...

    @overload
    def config(self, namespace: str, *, model: type[R], key: str = SETTINGS_KEY) -> TypedConfig[R]: ...

    def config(
        self, namespace: str, *, model: type[R] | None = None, key: str = SETTINGS_KEY
    ) -> Config | TypedConfig[R]:
        """The configuration keys of a namespace; with `model`, one of its keys as an object.

        `model`: a pydantic model or a dataclass, kept as JSON under `key`. Raises ModuleNotFoundError if pydantic is
        not installed: pip install "lockmaster[typed]".
        """
        config = Config(self, namespace)
        return config if model is None else TypedConfig(config, model, key)

    @property
    def session_id(self) -> int:
        """The id of the open session, 0 if there is none yet."""
        return self._core.session.id if self._core is not None and self._core.session is not None else 0

    @property
    def alive(self) -> bool:
        """False once closed or forked."""
        return not self._closed and not self.forked

    # ---- for the parts of this package -----------------------------------------------------------------------------

    def core(self) -> SessionCore:
        """The session core, bound to the running loop. Raises ForkedClient, WrongLoop, Unavailable if closed."""
        core = self._core
        loop = asyncio.get_running_loop()
        if core is not None and not self.forked and not self._closed and loop is self.loop:
            return core
        if self.forked:
            raise ForkedClient("this client was made before a fork: make a new one in the child")
        if self._closed:
            raise Unavailable("this client is closed")
        if core is not None:
            raise WrongLoop("this AsyncClient belongs to another event loop: make one per loop")
        return self._bind(loop)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> SessionCore:
        self.loop = loop
        self._unary_channels = Channels(self._tls, self.endpoints, self.clock, self._patience)
        channels = Channels(self._tls, self.endpoints, self.clock, self._patience)
        self._connection = connection = Connection(self.endpoints, channels, self.clock, loop)
        self._core = connection.core = SessionCore(
            ttl=self.ttl,
            label=self._label,
            lock_delay=self._lock_delay,
            wake=connection.wake,
            nonce=lambda: secrets.token_bytes(16),
            draw=random.random,
            session_changed=self._session_changed,
            now=self.clock(),
        )
        self._core.traced = self.telemetry is not None and self.telemetry.tracing
        return self._core

    def _session_changed(self, session: Session | None) -> None:
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None
        if session is None:
            if self.telemetry is not None:
                self.telemetry.forget()
            return
        self._keepalive = Keepalive(
            session,
            endpoints=self.endpoints,
            tls=self._tls,
            loop=self.loop,
            stall_max=self._stall_max,
            patience=self._patience,
            expired=self._expired,
            clock=self.clock,
            touched=self.touched,
        )
        self._keepalive.start()

    def _expired(self, session: Session) -> None:
        if self._core is not None:
            self._core.session_ended(session, "the session expired")

    def next_watch_id(self) -> int:
        """A number no watch of this client has had."""
        self._watch_id += 1
        return self._watch_id

    async def mutate(self, field: str, message: Any, size: int = 0) -> Any:
        """Sends a mutation under the session, exactly once, and returns its answer."""
        core = self.core()
        waiter = self.loop.create_future()
        call = MessageCall(waiter, field, message, size)
        core.submit(call, self.operation_timeout)
        if self.telemetry is not None:
            return await self.telemetry.measured(field, call, NAMESPACE, _namespace_of(message))
        return await waiter

    async def read(self, field: str, message: Any) -> Any:
        """Sends a read and returns its answer."""
        core = self.core()
        waiter = self.loop.create_future()
        call = ReadCall(waiter, field, message)
        core.submit(call, self.operation_timeout)
        if self.telemetry is not None:
            return await self.telemetry.measured(field, call, NAMESPACE, _namespace_of(message))
        return await waiter

    async def unary(
        self,
        method: str,
        request: Message,
        answer: type[M],
        *,
        endpoint: str | None = None,
        timeout: float | None = None,
    ) -> M:
        """A unary call, to `endpoint` or to whichever member answers; follows leader hints, tries again by policy.

        Only for operations that may be repeated.
        """
        self.core()
        seconds = self.operation_timeout if timeout is None else timeout
        if self.telemetry is None:
            return await self._unary(method, request, answer, endpoint, seconds, None)
        name = method.removeprefix("/lockmaster.v1.")
        operation = self.telemetry.begin(name)
        traceparent = None if operation is None else operation.traceparent
        try:
            found = await self._unary(method, request, answer, endpoint, seconds, traceparent)
        except BaseException as error:
            self.telemetry.end(operation, name, error)
            raise
        self.telemetry.end(operation, name)
        return found

    async def _unary(
        self,
        method: str,
        request: Message,
        answer: type[M],
        endpoint: str | None,
        seconds: float,
        traceparent: str | None,
    ) -> M:
        deadline = self.clock() + seconds
        metadata = None if traceparent is None else (("traceparent", traceparent),)
        address = endpoint or self._leader or random.choice(self.endpoints)
        for attempt in range(1, UNARY_ATTEMPTS_MAX + 1):
            left = deadline - self.clock()
            try:
                return await self._unary_once(address, method, request, answer, left, metadata)
            except LockmasterError as error:
                if self._closed:
                    raise
                decision = policy(error, attempt, deadline - self.clock(), draw=random.random())
                if isinstance(decision, Raise) or (endpoint is not None and attempt > 2):
                    raise
            await asyncio.sleep(decision.delay)
            if isinstance(decision.to, str):
                address = self._leader = decision.to
            elif endpoint is None:
                turn = self.endpoints.index(address) if address in self.endpoints else -1
                address = self.endpoints[(turn + 1) % len(self.endpoints)]
        raise Unavailable(f"{method} was refused {UNARY_ATTEMPTS_MAX} times")

    async def _unary_once(
        self,
        address: str,
        method: str,
        request: Message,
        answer: type[M],
        left: float,
        metadata: tuple[tuple[str, str], ...] | None,
    ) -> M:
        channels = self._unary_channels
        if channels is None or self._closed:
            raise Unavailable("this client is closed")
        if channels.rotated():
            await channels.close()
        deadline = self.clock() + left
        try:
            channel = await channels.connected(address, left)
        except OSError as error:
            raise Unavailable(f"{address}: {error or 'no connection in time'}") from None
        call: Any = channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        try:
            result: M = await call(
                request, timeout=max(deadline - self.clock(), 0.001) if math.isfinite(left) else None, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            raise error_of_rpc(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # gRPC's word for a channel that was closed meanwhile, by `close` or for newer certificates.
            raise Unavailable(f"{address}: the connection was closed under the call") from None
        return result

    # ---- the end ---------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Ends the session, which releases what it holds at once, and closes all connections. Never raises for that."""
        if self._closed or self.forked:
            self._closed = True
            return
        if self._core is not None:
            core = self.core()
            session = core.session
            if session is not None and not session.ended:
                waiter = self.loop.create_future()
                request = session_pb2.CloseSessionRequest(session_id=session.id)
                core.submit(ReadCall(waiter, "close_session", request), CLOSE_SECONDS_MAX)
                with contextlib.suppress(LockmasterError, TimeoutError):
                    await asyncio.wait_for(waiter, CLOSE_SECONDS_MAX)
                core.session_ended(session, "the client was closed")
        self._closed = True
        if self._keepalive is not None:
            self._keepalive.stop()
        if self._core is not None:
            self._core.abandon()
        if self._connection is not None:
            await self._connection.close()
        if self._unary_channels is not None:
            await self._unary_channels.close()
        if self.telemetry is not None:
            self.telemetry.close()

    async def __aenter__(self) -> AsyncClient:
        self.core()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
