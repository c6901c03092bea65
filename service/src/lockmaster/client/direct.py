"""Dialling direct session streams (lockmaster/direct.py): which member has a session port, and which can be reached."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

import grpc

from lockmaster.addresses import split_address
from lockmaster.api import session_pb2
from lockmaster.client.endpoints import TLS
from lockmaster.direct import ANSWER_BYTES_MAX, DirectStream, Verdict, decode_welcome, encode_hello

logger = logging.getLogger(__name__)

DIRECT_METHOD = "/lockmaster.v1.Sessions/Direct"
DIAL_SECONDS_MAX = 1.0
ASK_SECONDS_MAX = 2.0
UNREACHABLE_SECONDS = 60.0
"""So long a session port that could not be reached isn't tried again: firewalls don't change their minds often."""
KNOWN_MAX = 64


class _ClientEnd(DirectStream):
    """Sends the hello, waits for the welcome."""

    def __init__(self, key: bytes, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(ANSWER_BYTES_MAX)
        self._key = key
        self.welcomed: asyncio.Future[int] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.write(encode_hello(self._key))  # type: ignore[attr-defined]  # a Transport, which uvloop's isn't

    def greet(self, frame: bytes) -> None:
        verdict = decode_welcome(frame)
        if verdict == Verdict.ACCEPTED:
            self.open()
        if not self.welcomed.done():
            self.welcomed.set_result(verdict)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError(self.failure or "the connection was closed"))
            self.welcomed.exception()  # whoever waits is told; nobody may be waiting


class DirectDialler:
    """Opens direct streams; remembers the session ports of at most KNOWN_MAX members. For one event loop."""

    def __init__(self, tls: TLS | None, clock: Callable[[], float], loop: asyncio.AbstractEventLoop) -> None:
        self._tls = tls
        self._clock = clock
        self._loop = loop
        self._context: ssl.SSLContext | None = None
        self._known: dict[str, session_pb2.DirectResponse] = {}
        self._unreachable_until: dict[str, float] = {}

    def forget(self) -> None:
        """The TLS files have changed: they are read again."""
        self._context = None

    async def open_known(self, address: str) -> DirectStream | None:
        """A stream to a member whose session port is known, without asking it first; None where it isn't, or is gone.

        Raises TimeoutError where the member doesn't answer.
        """
        found = self._known.get(address)
        if found is None:
            return None
        try:
            return await self._dial(address, found)
        except TimeoutError:
            del self._known[address]
            raise
        except (OSError, ssl.SSLError) as error:
            del self._known[address]
            logger.debug("the session port of %s is gone: %s", address, error)
            return None

    async def open(self, address: str, channel: grpc.aio.Channel) -> DirectStream | None:
        """Asks the member over a channel that is up, then dials; None where it has no session port that can be reached.

        Raises grpc.aio.AioRpcError where the member doesn't answer in ASK_SECONDS_MAX.
        """
        now = self._clock()
        if self._unreachable_until.get(address, 0.0) > now:
            return None
        ask: Any = channel.unary_unary(
            DIRECT_METHOD, session_pb2.DirectRequest.SerializeToString, session_pb2.DirectResponse.FromString
        )
        try:
            found = await ask(session_pb2.DirectRequest(), timeout=ASK_SECONDS_MAX)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED):
                raise
            found = session_pb2.DirectResponse()  # a member of an earlier release
        if not found.port:
            return None
        try:
            stream = await self._dial(address, found)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            logger.info("the session port %d of %s cannot be reached, gRPC is used: %s", found.port, address, error)
            self._remember(self._unreachable_until, address, now + UNREACHABLE_SECONDS)
            return None
        self._remember(self._known, address, found)
        return stream

    @staticmethod
    def _remember(known: dict[str, Any], address: str, value: Any) -> None:
        if len(known) >= KNOWN_MAX:
            known.clear()
        known[address] = value

    async def _dial(self, address: str, found: session_pb2.DirectResponse) -> DirectStream:
        host = split_address(address)[0]
        stream = _ClientEnd(found.key, self._loop)
        try:
            async with asyncio.timeout(DIAL_SECONDS_MAX):
                await self._loop.create_connection(
                    lambda: stream,
                    host,
                    found.port,
                    ssl=self._ssl_context(),
                    server_hostname=host if self._tls is not None else None,
                )
                verdict = await stream.welcomed
        except BaseException:
            stream.cancel()
            raise
        if verdict != Verdict.ACCEPTED:
            stream.cancel()
            raise ConnectionRefusedError(f"verdict {verdict} on the hello")
        return stream

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self._tls is not None and self._context is None:
            self._context = self._tls.context()
        return self._context
