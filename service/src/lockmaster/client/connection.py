"""The session stream: one stream that carries raw bytes between SessionCore and whichever member leads.

It is a direct one (lockmaster/direct.py) where the member's session port can be reached, else one of gRPC.

One task owns the stream and reads; a second one writes everything that waits as one message, so that the calls of
one loop turn share it. When the stream breaks, or the core says `redirect`, the next member is tried: the named
leader, else an endpoint, joined after a moment by the addresses of members that the cluster has named and by the other
endpoints (racing.py). A Service may lead to a vanished pod for seconds, and members' own names may lead nowhere from
outside of the cluster: neither waits for the other. Calls go to the winner alone.

While nobody leads, rounds of attempts are BACKOFF_MAX_SECONDS apart at most (policy.py, with its jitter), and that
pause is spent listening on the stream to the member that was asked: it says who leads as soon as it knows.

Bounds. ADDRESSES_MAX attempts a round, racing.ATTEMPTS_MAX at a time, a second one only where the first is not open
after Patience.stagger. While an election is long, rounds are 0.25 to 0.5 s apart: some 2,700 a second of 1,000 clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import grpc.aio

from lockmaster.client.direct import DirectDialler
from lockmaster.client.endpoints import TLS, channel_options, dialled
from lockmaster.client.failures import error_of_rpc
from lockmaster.client.patience import Patience
from lockmaster.client.policy import backoff
from lockmaster.client.racing import first_open
from lockmaster.client.session_core import TICK_SECONDS, Redirect, SessionCore
from lockmaster.direct import STREAM_END

logger = logging.getLogger(__name__)

CONNECT_METHOD = "/lockmaster.v1.Sessions/Connect"
TLS_CHECK_SECONDS = 10.0
CHANNELS_MAX = 8
ADDRESSES_MAX = 6
AVOID_SECONDS = 0.5
"""So long no hint leads to a member that could not be reached, or whose stream broke with an error."""
DOUBT_SECONDS = 2.0
"""So long a hint to it, or to one that has just ended its stream, is followed beside other attempts: members go on
naming a dead leader until they miss it."""
DOWN_MAX = 64
NEWS_SPREAD_SECONDS = 0.05
"""Clients that are told of a new leader at the same time go there within this."""
BROKEN = (grpc.aio.AioRpcError, grpc.aio.UsageError, OSError)
"""How an attempt or a stream fails where nobody has made a mistake."""


class Channels:
    """Open channels by address, at most CHANNELS_MAX; all are rebuilt when the TLS files change."""

    def __init__(
        self, tls: TLS | None, endpoints: tuple[str, ...], clock: Callable[[], float], patience: Patience
    ) -> None:
        """With a token, every member is dialled on the first endpoint's port."""
        self.tls = tls
        self._first = endpoints[0]
        self._clock = clock
        self._patience = patience
        self._fingerprint = tls.fingerprint() if tls is not None else b""
        self._open: dict[str, grpc.aio.Channel] = {}

    async def connected(self, address: str, seconds_max: float = float("inf")) -> grpc.aio.Channel:
        """The channel to an address, made if there is none, once it is up; or it is closed, and OSError raised.

        That is a TimeoutError after what Patience allows (or `seconds_max`), a ConnectionError where it is refused.
        """
        allowed = self._patience.seconds(address)
        channel = self._get(address, allowed)
        if channel.get_state() is grpc.ChannelConnectivity.READY:
            return channel
        began = self._clock()
        try:
            await asyncio.wait_for(_ready(channel), min(allowed, seconds_max))
        except OSError:
            self._patience.failed(address, self._clock() - began, allowed)
            await self.drop(address)
            raise
        self._patience.reached(address, self._clock() - began)
        return channel

    def stagger(self) -> float:
        """Seconds until an attempt is joined by one at another address."""
        return self._patience.stagger()

    def _get(self, address: str, connect_s: float) -> grpc.aio.Channel:
        channel = self._open.get(address)
        if channel is None:
            options = channel_options(connect_s)
            if self.tls is None:
                channel = grpc.aio.insecure_channel(address, options=options)
            else:
                there = dialled(address, self._first, self.tls)
                channel = grpc.aio.secure_channel(there, self.tls.credentials(), options=options)
            self._open[address] = channel
        return channel

    async def drop(self, address: str) -> None:
        """Closes one channel, so that the next attempt dials at once."""
        channel = self._open.pop(address, None)
        if channel is not None:
            await channel.close(None)

    async def shrink(self, keep: str) -> None:
        """Closes the oldest channels beyond the maximum, but not `keep`."""
        for address in list(self._open)[: max(0, len(self._open) - CHANNELS_MAX)]:
            if address != keep:
                await self.drop(address)

    def rotated(self) -> bool:
        """True once after the TLS files have changed (grpcio can't reload them in a channel)."""
        if self.tls is None:
            return False
        fingerprint = self.tls.fingerprint()
        if not fingerprint or fingerprint == self._fingerprint:
            return False
        self._fingerprint = fingerprint
        return True

    async def close(self) -> None:
        """Closes all."""
        for address in list(self._open):
            await self.drop(address)


async def _ready(channel: grpc.aio.Channel) -> None:
    """Returns once the channel is connected; a refused or broken attempt raises at once."""
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:  # ends: the caller's limit
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            raise ConnectionError("cannot connect")
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)


def _text_of(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details() or error.code().name
    return str(error) or type(error).__name__


def _remember(until: dict[str, float], address: str, at: float) -> None:
    """An empty address is one that isn't known."""
    if not address:
        return
    if len(until) >= DOWN_MAX:
        until.clear()
    until[address] = at


class _Next(NamedTuple):
    """Where to go, None for anywhere, after so many seconds."""

    redirect: Redirect | None
    pause: float


class Connection:
    """Keeps a stream open while the core has work. All methods on one event loop."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        channels: Channels,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.core: SessionCore
        self.address = ""
        self._endpoints = endpoints
        self._channels = channels
        self._clock = clock
        self._loop = loop
        self._direct = DirectDialler(channels.tls, clock, loop)
        self._wanted = asyncio.Event()
        self._turn = random.randrange(len(endpoints))
        self._leader = ""
        self._task: asyncio.Task[None] | None = None
        self._stream_call: Any = None
        self._ticking: asyncio.TimerHandle | None = None
        self._tls_checked = clock()
        self._closed = False
        self._rotated = False
        self._fruitless = 0
        # Leaders that were named since the last success; at most as many as there are members.
        self._hints: dict[str, None] = {}
        self._avoid_until: dict[str, float] = {}
        self._doubt_until: dict[str, float] = {}

    def wake(self) -> None:
        """There is something to send. Called by the core, at most once per frame."""
        if self._closed:
            return
        self._wanted.set()
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="lockmaster-connection")
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        now = self._clock()
        self.core.tick(now)
        if now - self._tls_checked > TLS_CHECK_SECONDS:
            self._tls_checked = now
            if self._channels.rotated():
                self._rotated = True
                self.core.redirect = Redirect(self.address, 0.0)
        if self.core.redirect is not None and self._stream_call is not None:
            self._stream_call.cancel()
        if self._ticking is not None:  # something to send has armed one meanwhile: one chain, not one more with each
            self._ticking.cancel()
            self._ticking = None
        if not self._closed and (not self.core.idle or self.core.session is not None):
            self._ticking = self._loop.call_later(self.core.next_tick(now), self._tick)

    def _tick_sooner(self) -> None:
        """A retry is due before the next tick."""
        sooner = self._loop.time() + self.core.next_tick(self._clock())
        if self._ticking is not None and sooner < self._ticking.when():
            self._ticking.cancel()
            self._ticking = self._loop.call_at(sooner, self._tick)

    async def _run(self) -> None:
        # wait_for and grpc.aio can swallow the cancellation of `close` or turn it into an error of their own, so
        # every round, and the wait at its end, begins with a look at `_closed`.
        while not self._closed:
            if self.core.idle:
                self._wanted.clear()
                await self._wanted.wait()
            self._fruitless += 1
            after: _Next | None = None
            redirect: Redirect | None = None
            try:
                after = await self._stream()
            except asyncio.CancelledError:
                # grpc.aio raises this too where we cancelled the call, not the task.
                redirect = self.core.redirect
                task = asyncio.current_task()
                if redirect is None or self._closed or (task is not None and task.cancelling()):
                    raise
            except BROKEN as error:
                await self._failed(self.address, error)
                self._avoid(self.core.member)
            except Exception:
                # A bug or a malformed message: said loudly, but the calls of this client go on.
                logger.exception("the stream to %s failed", self.address)
                await self._channels.drop(self.address)
            finally:
                self._stream_call = None
                self.core.disconnected(self._clock())
            if after is None:
                after = _Next(redirect, self._pause(redirect))
            self._leader = after.redirect.address if after.redirect is not None else ""
            if self._rotated:
                self._rotated = False
                self._direct.forget()
                await self._channels.close()
            if after.pause and not self._closed:
                await asyncio.sleep(after.pause)
            await self._channels.shrink(self._leader)

    def _pause(self, redirect: Redirect | None) -> float:
        """Seconds before the next attempt; none before one at a leader that was not named since the last success."""
        named = redirect.address if redirect is not None else ""
        now = self._clock()
        if named and named not in self._hints and self._avoid_until.get(named, 0.0) <= now:
            self._hints[named] = None
            return 0.0
        delay = redirect.delay if redirect is not None else 0.0
        patience = len(self._endpoints)
        doubted = self._doubt_until.get(named, 0.0) > now
        if redirect is None or doubted or self._fruitless > 2 * patience + 2:
            delay = max(delay, backoff(max(1, self._fruitless - patience), random.random()))
        return delay

    def _next_addresses(self) -> list[str]:
        """The leader that was named, alone; or all that may be tried, in this order, where there is none to rely on.

        A leader that is doubted comes first then. The endpoint that is next comes before members: it
        is all that can be reached from some places. Those that are avoided come last.
        """
        leader, self._leader = self._leader, ""
        now = self._clock()
        if leader and self._doubt_until.get(leader, 0.0) <= now:
            return [leader]
        first = [leader] if leader and self._avoid_until.get(leader, 0.0) <= now else []
        for _ in self._endpoints:
            self._turn = (self._turn + 1) % len(self._endpoints)
            if self._avoid_until.get(self._endpoints[self._turn], 0.0) <= now:
                break
        first.append(self._endpoints[self._turn])
        others = [*self.core.members, *self._endpoints]
        random.shuffle(others)
        others.sort(key=lambda each: self._avoid_until.get(each, 0.0) > now)
        return list(dict.fromkeys([*first, *others]))[:ADDRESSES_MAX]

    def _avoid(self, address: str) -> None:
        """It is down."""
        _remember(self._avoid_until, address, self._clock() + AVOID_SECONDS)
        self._doubt(address)

    def _doubt(self, *addresses: str) -> None:
        """The member with these addresses may be down."""
        for address in addresses:
            _remember(self._doubt_until, address, self._clock() + DOUBT_SECONDS)

    async def _failed(self, address: str, error: Exception) -> None:
        self.core.trouble = f"{address}: {_text_of(error)}"
        if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.UNAUTHENTICATED:
            self.core.locked_out(error_of_rpc(error))
        self._avoid(address)
        await self._channels.drop(address)

    async def _stream(self) -> _Next:
        """Opens one stream and runs it to its end."""
        opened = await first_open(self._next_addresses(), self._attempt, self._channels.stagger())
        if opened is None:
            return _Next(None, self._pause(None))
        self.address, call = opened
        core, clock = self.core, self._clock
        self._stream_call = call
        core.connected(clock())
        self._wanted.set()
        writer = self._loop.create_task(self._write(call), name="lockmaster-writer")
        try:
            while True:
                data = await call.read()
                if data is STREAM_END:
                    if core.redirect is None:  # else it is we who ended it
                        self._doubt(self.address, core.member)
                    return _Next(core.redirect, self._pause(core.redirect))
                core.receive(data, clock())
                if core.redirect is not None:
                    return await self._leave(call, core.redirect)
                if core.has_retries:
                    self._tick_sooner()
                if self._fruitless:
                    self._fruitless = 0
                    self._hints.clear()
        finally:
            writer.cancel()
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await writer

    async def _leave(self, call: Any, redirect: Redirect) -> _Next:
        """Spends the pause before the next attempt with listening: this member may learn who leads, and says so."""
        core, pause = self.core, self._pause(redirect)
        until = self._loop.time() + pause
        self._stream_call = None  # ticks don't end it
        if pause:
            with contextlib.suppress(*BROKEN):  # TimeoutError is an OSError
                async with asyncio.timeout(pause):
                    while (data := await call.read()) is not STREAM_END:
                        core.receive(data, self._clock())
                        news = core.redirect
                        if news is not None and news.address and news is not redirect:
                            self._hints[news.address] = None
                            return _Next(news, random.random() * NEWS_SPREAD_SECONDS)
        return _Next(redirect, max(0.0, until - self._loop.time()))

    async def _attempt(self, address: str) -> Any:
        """A stream to this member; None where it is down."""
        try:
            return await self._open(address)
        except asyncio.CancelledError:
            await self._channels.drop(address)
            raise
        except BROKEN as error:
            await self._failed(address, error)
            return None

    async def _open(self, address: str) -> Any:
        """A stream to this member: something with read, write and cancel."""
        stream = await self._direct.open_known(address)
        if stream is None:
            channel = await self._channels.connected(address)
            stream = await self._direct.open(address, channel)
            if stream is None:
                # No serializers: bytes in, bytes out.
                connect: Any = channel.stream_stream(
                    CONNECT_METHOD, request_serializer=None, response_deserializer=None
                )
                return connect()
        return stream

    async def _write(self, call: Any) -> None:
        core, clock, wanted = self.core, self._clock, self._wanted
        try:
            while True:
                await wanted.wait()
                wanted.clear()
                while (frame := core.next_frame(clock())) is not None:
                    await call.write(frame)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, OSError):
            # The reader learns of it too, and says why.
            return

    async def close(self) -> None:
        """Ends the stream and closes all channels."""
        self._closed = True
        if self._ticking is not None:
            self._ticking.cancel()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._channels.close()
