"""The session port: accepts direct session streams (lockmaster/direct.py) and has each served like one of gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from lockmaster.addresses import split_address
from lockmaster.direct import (
    KEY_BYTES,
    REQUEST_BYTES_MAX,
    DirectStream,
    Verdict,
    encode_end,
    encode_welcome,
    hello_key,
    judge_hello,
)
from lockmaster.errors import PermissionDenied
from lockmaster.server.callers import TICKET_SECONDS, Caller, names_in

_log = logging.getLogger(__name__)
HANDSHAKE_SECONDS: Final = 10.0
"""For TLS, and as long again for the hello: gRPC's own limit on the client port."""
HALF_OPEN_MAX: Final = 1024
"""Most connections without an accepted hello; more are closed at once."""
CLOSE_SECONDS: Final = 1.0
TICKETS_MAX: Final = 10_000
TICKETS_OF_ONE_MAX: Final = 256
"""Of one principal: more drive out its own oldest, and nobody else's."""


class Aborted(Exception):
    """The stream was ended with a status, which the client was told."""


class AcceptedStream(DirectStream):
    """The member's end. Has what a handler wants of grpc.aio's context: `read`, `write`, `abort`."""

    def __init__(self, port: DirectPort) -> None:
        super().__init__(REQUEST_BYTES_MAX)
        self._port = port
        self._timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake's clock, or refuse when too many are half open."""
        super().connection_made(transport)
        if len(self._port.half_open) >= HALF_OPEN_MAX:
            self.break_off("too many half-open connections")
            return
        self._port.half_open.add(self)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.break_off, "no hello in time")

    def greet(self, frame: bytes) -> None:
        """Judge the hello, answer, have the stream served."""
        transport = self.transport
        if transport is None:
            return
        verdict = judge_hello(frame, self._port.key)
        caller = None
        if verdict in (Verdict.ACCEPTED, Verdict.WRONG_KEY):
            caller = self._port.caller(hello_key(frame), transport.get_extra_info("peercert"))
            verdict = Verdict.WRONG_KEY if caller is None else Verdict.ACCEPTED
        if verdict is Verdict.ACCEPTED and self._port.full:
            verdict = Verdict.BUSY
        transport.write(encode_welcome(verdict))
        self._handshake_over()
        if verdict is not Verdict.ACCEPTED or caller is None:
            transport.close()
            return
        self.open()
        self.task = self._port.serve(self, caller)

    def _handshake_over(self) -> None:
        self._port.half_open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """Tells the client why and ends the stream. Raises Aborted."""
        if self.transport is not None:
            self.transport.write(encode_end(code.value[0], details))
        raise Aborted(details)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to serve."""
        super().connection_lost(exc)
        self._handshake_over()
        if self.task is not None:
            self.task.cancel()


def anybody(names: tuple[str, ...]) -> Caller:
    """Whom a verified certificate names, or nobody in particular: TLS has decided who may connect."""
    return Caller(names[0] if names else "", names)


class DirectPort:
    """Listens until closed; `serve_stream(stream, caller)` serves one stream to its end.

    The process's key is for those that the certificate identifies. Who has logged in by token gets a key of his own, a
    ticket, which is his identity here for TICKET_SECONDS.
    """

    def __init__(
        self,
        serve_stream: Callable[[Any, Caller], Awaitable[None]],
        full: Callable[[], bool],
        certified: Callable[[tuple[str, ...]], Caller] = anybody,
    ) -> None:
        """`certified`: who has these names in his certificate; raises PermissionDenied where that is not enough."""
        self.key = os.urandom(KEY_BYTES)
        self.number = 0
        """The port it listens on; 0 = it doesn't."""
        self.half_open: set[AcceptedStream] = set()
        self._serve_stream = serve_stream
        self._full = full
        self._certified = certified
        self._tickets: dict[bytes, tuple[Caller, float]] = {}
        """Oldest first, all together and in `_tickets_of` each principal's."""
        self._tickets_of: dict[str, deque[bytes]] = {}
        self._server: asyncio.Server | None = None
        self._streams: dict[AcceptedStream, asyncio.Task[None]] = {}

    @property
    def full(self) -> bool:
        """No room for one more stream."""
        return self._full()

    def key_for(self, caller: Caller) -> bytes:
        """What this caller shows in the hello."""
        if not caller.token:
            return self.key
        ticket = os.urandom(KEY_BYTES)
        self._tickets[ticket] = (caller, asyncio.get_running_loop().time() + TICKET_SECONDS)
        own = self._tickets_of.setdefault(caller.principal, deque())
        own.append(ticket)
        if len(own) > TICKETS_OF_ONE_MAX:
            self._drop(own[0])
        elif len(self._tickets) > TICKETS_MAX:
            self._drop(next(iter(self._tickets)))
        return ticket

    def _drop(self, ticket: bytes) -> None:
        """A principal's oldest."""
        principal = self._tickets.pop(ticket)[0].principal
        own = self._tickets_of[principal]
        own.popleft()
        if not own:
            del self._tickets_of[principal]

    def caller(self, key: bytes, certificate: dict[str, Any] | None) -> Caller | None:
        """Who shows this key and this verified certificate; None: nobody who may."""
        if key != self.key:
            held = self._tickets.get(key)
            return held[0] if held is not None and asyncio.get_running_loop().time() < held[1] else None
        try:
            return self._certified(names_in(certificate))
        except PermissionDenied:
            return None

    async def listen(self, address: str, context: ssl.SSLContext | None) -> None:
        """Bind it. OSError if that is not possible."""
        host, port = split_address(address)
        timeout = HANDSHAKE_SECONDS if context is not None else None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: AcceptedStream(self), host, port, ssl=context, ssl_handshake_timeout=timeout, backlog=512
        )
        self.number = self._server.sockets[0].getsockname()[1]

    def serve(self, stream: AcceptedStream, caller: Caller) -> asyncio.Task[None]:
        """A stream is open: the task that serves it."""
        task = asyncio.get_running_loop().create_task(self._serve(stream, caller), name="direct-stream")
        self._streams[stream] = task
        task.add_done_callback(lambda _: self._streams.pop(stream, None))
        return task

    async def _serve(self, stream: AcceptedStream, caller: Caller) -> None:
        try:
            await self._serve_stream(stream, caller)
        except (Aborted, OSError):
            pass
        except Exception:
            _log.exception("a direct session stream ended by a bug; please report this")
        finally:
            if stream.transport is not None:
                stream.transport.close()  # what was written is still sent

    async def close(self) -> None:
        """Stop listening and end every stream."""
        if self._server is None:
            return
        self._server.close()
        for stream in [*self.half_open, *self._streams]:
            stream.cancel()
        tasks = list(self._streams.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        with contextlib.suppress(TimeoutError):  # from Python 3.12 on it waits for every connection
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._server.wait_closed()
