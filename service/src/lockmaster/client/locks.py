"""Locks for users: `client.lock(name)` gives a Lock, acquiring it gives a Held. Only a Held means holding.

Errors of the body and of the release both survive: two ordinary errors become an ExceptionGroup; a cancellation or
KeyboardInterrupt goes on as it is, with the release's error as a note.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from lockmaster.api import lock_pb2
from lockmaster.client import arguments
from lockmaster.client.calls import AcquireCall, ReleaseCall
from lockmaster.client.consistency import LINEARIZABLE, Consistency, read_options
from lockmaster.client.holds import Hold
from lockmaster.client.ownership import NOT_RENEWED
from lockmaster.client.telemetry import LOCK_NAME
from lockmaster.errors import LockBusy, LockJeopardy, LockLost, LockmasterError, NotHeld

if TYPE_CHECKING:
    from lockmaster.client.async_client import AsyncClient

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT_SECONDS_MAX = 86_400.0
TIMEOUT_GRACE_SECONDS = 0.2
"""The server ends a wait at its timeout; the client does so by itself this much later."""

OnLost = Callable[[LockLost], object] | Literal["cancel"] | None


class Held:
    """A lock that was granted: proof for others is `fencing_token`, proof for you is `ensure()`."""

    __slots__ = ("_cancelled", "_client", "_hold", "_lost_event", "_release_call", "_task")

    def __init__(self, client: AsyncClient, hold: Hold) -> None:
        self._client = client
        self._hold = hold
        self._lost_event: asyncio.Event | None = None
        self._release_call: ReleaseCall | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def __repr__(self) -> str:
        state = "lost" if self._hold.lost is not None else "released" if self._hold.released else "held"
        return f"<Held {self._hold.name!r} token={self._hold.token} {state}>"

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._hold.name

    @property
    def fencing_token(self) -> int:
        """The revision of the grant: rises from holder to holder. Give it to whatever the lock protects."""
        return self._hold.token

    @property
    def session_id(self) -> int:
        """The session that holds it."""
        return self._hold.session.id

    @property
    def remaining(self) -> float:
        """Seconds for which it is certainly held without another renewal; 0.0 if it is not."""
        hold = self._hold
        if hold.lost is not None or hold.released or hold.session.ended:
            return 0.0
        return max(0.0, hold.session.valid_until - self._client.clock())

    @property
    def valid(self) -> bool:
        """True while it is certainly held."""
        return self.remaining > 0.0

    @property
    def lost(self) -> asyncio.Event:
        """Set when the lock is lost (not when it is released)."""
        if self._lost_event is None:
            self._lost_event = event = asyncio.Event()
            if self._hold.lost is not None:
                event.set()
            else:
                self.on_lost(lambda _: event.set())
        return self._lost_event

    @property
    def loss(self) -> LockLost | None:
        """Why it was lost, or None."""
        return self._hold.lost

    def ensure(self, min_remaining: float = 0.0) -> None:
        """Returns if the lock is certainly held for `min_remaining` more seconds.

        Raises LockLost if it is lost, NotHeld after release, LockJeopardy if less validity remains than asked for.
        """
        if self._hold.lost is not None:
            raise self._hold.lost
        if self._hold.released:
            raise NotHeld(f"lock {self.name!r} was released")
        remaining = self.remaining
        if remaining <= 0.0:
            raise LockLost(self.name, self.fencing_token, NOT_RENEWED)
        if remaining < min_remaining:
            raise LockJeopardy(f"lock {self.name!r}: {remaining:.2f} s remain, {min_remaining:.2f} s asked for")

    def on_lost(self, callback: Callable[[LockLost], object]) -> None:
        """Calls back once, on the client's loop, when the lock is lost; at once if it already is."""
        hold = self._hold
        if hold.lost is not None:
            callback(hold.lost)
            return
        if hold.callbacks is None:
            hold.callbacks = []
        hold.callbacks.append(callback)

    def on_jeopardy(self, callback: Callable[[], object]) -> None:
        """Calls back, on the client's loop, when renewals stop being confirmed: the lock may soon be lost."""
        if self._hold.jeopardy_callbacks is None:
            self._hold.jeopardy_callbacks = []
        self._hold.jeopardy_callbacks.append(callback)

    def cancel_on_lost(self) -> None:
        """Cancels the current task if the lock is lost; leaving `async with` then raises LockLost instead."""
        task = self._task = asyncio.current_task()

        def cancel(_: LockLost) -> None:
            if task is not None and not task.done():
                self._cancelled = True
                task.cancel()

        self.on_lost(cancel)

    async def release(self) -> None:
        """Gives the lock back; a second call does nothing.

        Shielded: once called, the release is sent and repeated until it is answered, also if this task is cancelled.
        Raises LockLost if the lock had been lost, Unavailable or Indeterminate if no answer came in time.
        """
        hold = self._hold
        call = self._release_call
        if call is None:
            if hold.lost is not None:
                raise hold.lost
            if hold.released:
                return
            hold.released = True
            client = self._client
            core = client.core()
            waiter = client.loop.create_future()
            call = self._release_call = ReleaseCall(waiter, hold.session, hold.name, hold.token, hold)
            core.submit(call, client.operation_timeout)
            if client.telemetry is not None:
                client.telemetry.released(hold)
                await client.telemetry.measured("release", call, LOCK_NAME, hold.name)
                return
            await waiter
            return
        waiter = call.waiter  # type: ignore[assignment]
        if not waiter.done():
            await asyncio.wait([waiter])

    async def __aenter__(self) -> Held:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.release()
            return
        await _release_after(self, error)


async def _release_after(held: Held, error: BaseException) -> None:
    """Releases after the body failed with `error`; raises only what must replace or join that error."""
    lost = held.loss
    if held._cancelled and lost is not None and isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task is held._task and task.uncancel() == 0:
            raise lost from error
        return
    try:
        await held.release()
    except LockmasterError as failure:
        join_errors(error, failure, held.name)


def join_errors(error: BaseException, failure: LockmasterError, name: str) -> None:
    """Makes both the body's error and the release's survive: raises a group of them, or leaves a note and returns."""
    if failure is error:
        return
    if isinstance(error, Exception):
        raise ExceptionGroup(f"the body and the release of lock {name!r} failed", [error, failure]) from None
    error.add_note(f"the release of lock {name!r} failed too: {failure}")


class Lock:
    """A named exclusive lock, first come, first served across the cluster. Not reentrant.

    `async with client.lock(name, timeout=5) as held:` raises LockTimeout and never runs the body unheld.
    """

    __slots__ = ("_client", "_held", "name", "on_lost", "timeout")

    def __init__(self, client: AsyncClient, name: str, timeout: float | None, on_lost: OnLost) -> None:
        self._client = client
        self.name = arguments.text("name", name)
        self.timeout = arguments.waiting("timeout", timeout)
        if on_lost is not None and on_lost != "cancel" and not callable(on_lost):
            raise TypeError(f'on_lost must be a callable or "cancel", not {on_lost!r}')
        self.on_lost = on_lost
        self._held: dict[asyncio.Task[Any] | None, Held] = {}

    async def acquire(self, timeout: float | None = None) -> Held:
        """Waits for the lock; `timeout` seconds at most (default: the Lock's own; None: without end).

        Raises LockTimeout (LockBusy if the timeout is 0), SessionExpired if the session ended while waiting,
        Unavailable if no member answered in time. Cancelling withdraws the place in the queue.
        """
        timeout = self.timeout if timeout is None else arguments.waiting("timeout", timeout)
        if timeout is not None and timeout <= 0:
            return await self._acquire(False, None)
        return await self._acquire(True, timeout)

    async def try_acquire(self) -> Held | None:
        """The lock if it is free now, else None."""
        try:
            return await self._acquire(False, None)
        except LockBusy:
            return None

    async def _acquire(self, wait: bool, timeout: float | None) -> Held:
        client = self._client
        core = client.core()
        timeout_ms = 0
        if timeout is not None:
            timeout_ms = max(1, round(min(timeout, TIMEOUT_SECONDS_MAX) * 1000))
        waiter = client.loop.create_future()
        call = AcquireCall(waiter, self.name, wait, timeout_ms)
        core.submit(call, None if wait else client.operation_timeout)
        operation = client.telemetry.acquiring(call) if client.telemetry is not None else None
        timer = None
        if timeout is not None:
            timer = client.loop.call_later(timeout + TIMEOUT_GRACE_SECONDS, core.time_out, call, timeout)
        try:
            hold = await waiter
        except asyncio.CancelledError as error:
            core.withdraw(call)
            if client.telemetry is not None:
                client.telemetry.end(operation, "acquire", error)
            raise
        except Exception as error:
            if client.telemetry is not None:
                client.telemetry.end(operation, "acquire", error)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if client.telemetry is not None:
            client.telemetry.granted(operation, hold)
        held = Held(client, hold)
        on_lost = self.on_lost
        if on_lost is not None:
            if on_lost == "cancel":
                held.cancel_on_lost()
            else:
                held.on_lost(on_lost)
        return held

    async def __aenter__(self) -> Held:
        held = await self.acquire()
        self._held[asyncio.current_task()] = held
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held = self._held.pop(asyncio.current_task())
        if error is None:
            await held.release()
            return
        await _release_after(held, error)


def locked(
    client: AsyncClient, name: str, timeout: float | None, on_lost: OnLost
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """A decorator: the coroutine function runs while the lock is held."""

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> R:
            async with client.lock(name, timeout=timeout, on_lost=on_lost):
                return await function(*args, **kwargs)

        return run

    return decorate


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. `since` is seconds of cluster time."""

    session_id: int
    label: str
    token: int
    since: float


@dataclass(frozen=True, slots=True)
class QueuedWaiter:
    """Who waits for a lock; position 1 is next. `waited` is seconds of cluster time."""

    session_id: int
    label: str
    position: int
    waited: float


@dataclass(frozen=True, slots=True)
class LockStatus:
    """A lock as the cluster sees it. `queue` has at most the first 1,000 waiters, `queue_length` counts all."""

    name: str
    holder: Holder | None
    queue: tuple[QueuedWaiter, ...]
    queue_length: int
    delay_remaining: float
    last_token: int


def status_of(info: lock_pb2.LockInfo) -> LockStatus:
    """From the wire."""
    holder = None
    if info.HasField("holder"):
        holder = Holder(info.holder.session_id, info.holder.label, info.holder.token, info.holder.held_ms / 1000)
    queue = tuple(QueuedWaiter(w.session_id, w.label, w.position, w.waited_ms / 1000) for w in info.queue)
    return LockStatus(info.name, holder, queue, info.queue_length, info.delay_remaining_ms / 1000, info.last_token)


class Locks:
    """Looks at locks, and takes them away from others."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def inspect(self, name: str, *, consistency: Consistency = LINEARIZABLE) -> LockStatus:
        """Holder, token and queue of a lock, as fresh as `consistency` says."""
        request = lock_pb2.InspectLockRequest(name=name, read=read_options(consistency))
        answer = await self._client.read("inspect_lock", request)
        return status_of(answer.lock)

    async def list(
        self, prefix: str = "", limit: int | None = None, *, consistency: Consistency = LINEARIZABLE
    ) -> list[LockStatus]:
        """The locks that exist, by name; all of them, in pages of 1,000, unless `limit` is given."""
        found: list[LockStatus] = []
        after = ""
        while limit is None or len(found) < limit:
            page = min(1_000, limit - len(found)) if limit is not None else 1_000
            request = lock_pb2.ListLocksRequest(
                prefix=prefix,
                after=after,
                limit=page,
                read=read_options(consistency),
            )
            answer: lock_pb2.ListLocksResponse = await self._client.unary(
                "/lockmaster.v1.Locks/List", request, lock_pb2.ListLocksResponse
            )
            found.extend(status_of(info) for info in answer.locks)
            if not answer.more or not answer.locks:
                break
            after = answer.locks[-1].name
        return found

    async def force_release(self, name: str, reason: str, token_max: int = 0) -> int:
        """Takes a lock from its holder, whose token must not be above `token_max` (0: any); audited with `reason`.

        Returns the token that was taken away, 0 if nobody held it.
        """
        request = lock_pb2.ForceReleaseRequest(name=name, token_max=token_max, reason=reason)
        answer = await self._client.mutate("force_release", request)
        return answer.token if answer.released else 0
