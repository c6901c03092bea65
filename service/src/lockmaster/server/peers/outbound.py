"""Dialled peer connections: two lanes per member, reconnecting with bounded backoff, queues with a stated maximum."""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import Final, Protocol, cast

from lockmaster_raft.ids import NodeId
from lockmaster_raft.ready import Channel

from lockmaster.addresses import split_address
from lockmaster.framing import FrameCutter, Malformed
from lockmaster.server.peers import codec, handshake
from lockmaster.server.peers.codec import PeerMessage
from lockmaster.server.peers.handshake import Hello, Verdict
from lockmaster.server.tasks import end_task
from lockmaster.sockets import keep_alive

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for TCP, TLS and the handshake together."""
BACKOFF_MIN: Final = 0.05
BACKOFF_MAX: Final = 1.0
"""Seconds between attempts, doubled from the one to the other, each drawn from [0.5, 1] of it."""
QUEUE_BYTES_MAX: Final = {Channel.CONTROL: 8 << 20, Channel.BULK: 40 << 20}
"""Most unsent bytes of a lane; what comes on top is dropped and counted, which Raft takes for loss."""
JOIN_BYTES_MAX: Final = 16 << 10
"""Frames up to this size are joined into one buffer: one write instead of several."""


class LaneOwner(Protocol):
    """What a lane asks of the hub."""

    counters: dict[str, int]

    def hello(self, member_id: NodeId, channel: Channel) -> Hello | None:
        """The Hello for a new connection, or None while it cannot be made (blank member)."""

    def address_of(self, member_id: NodeId) -> str:
        """host:port to dial; read anew for each attempt."""

    def client_context(self) -> ssl.SSLContext | None:
        """TLS for dialling, or None for plaintext."""

    def check_certificate(self, member_id: NodeId, certificate: dict[str, object] | None) -> bool:
        """May the peer with this certificate be that member?"""

    def lane_up(self, member_id: NodeId) -> None:
        """A lane was accepted."""

    def lane_down(self, member_id: NodeId) -> None:
        """A lane that was accepted is gone."""


class Lane(asyncio.Protocol):
    """One channel to one member: at most one connection, frames out only."""

    def __init__(self, owner: LaneOwner, member_id: NodeId, channel: Channel) -> None:
        self.owner = owner
        self.member_id = member_id
        self.channel = channel
        self.up = False
        self.last_error = ""
        self._transport: asyncio.Transport | None = None
        self._cutter = FrameCutter(handshake.HELLO_BYTES_MAX)
        self._welcomed: asyncio.Future[Verdict] | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self._seen: asyncio.Event = asyncio.Event()
        self._queue_bytes_max = QUEUE_BYTES_MAX[channel]
        self._bytes_to = f"peer_bytes_to_{member_id}"
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"lane-{member_id}-{channel.name}")

    def send(self, message: PeerMessage) -> None:
        """Write the message, or drop and count it: no connection, or the queue is full."""
        transport = self._transport
        if not self.up or transport is None:
            self._count("peer_dropped_unconnected")
            return
        if transport.get_write_buffer_size() > self._queue_bytes_max:
            self._count("peer_dropped_full")
            return
        parts = codec.encode(message)
        size = sum(map(len, parts))
        counters = self.owner.counters
        counters[self._bytes_to] = counters.get(self._bytes_to, 0) + size
        if len(parts) == 1:
            transport.write(parts[0])
        elif size <= JOIN_BYTES_MAX:
            transport.write(b"".join(parts))
        else:
            transport.writelines(parts)

    def seen(self) -> None:
        """The member has dialled this one, so it is there: no waiting for the next attempt."""
        if not self.up:
            self._seen.set()

    async def _run(self) -> None:
        backoff = BACKOFF_MIN
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    accepted = await self._connect()
                if accepted:
                    backoff = BACKOFF_MIN
                    self._seen.clear()
                    await self._lost.wait()
            except (OSError, TimeoutError, ValueError, ssl.SSLError, Malformed) as error:
                self.last_error = f"{type(error).__name__}: {error}"
                self._count("peer_connect_failures")
            finally:
                self._abandon()
            backoff = await self._rest(backoff)

    async def _rest(self, backoff: float) -> float:
        """Wait before the next attempt; returns the backoff after it."""
        try:
            async with asyncio.timeout(backoff * random.uniform(0.5, 1.0)):
                await self._seen.wait()
        except TimeoutError:
            return min(backoff * 2, BACKOFF_MAX)
        self._seen.clear()
        return BACKOFF_MIN

    async def _connect(self) -> bool:
        hello = self.owner.hello(self.member_id, self.channel)
        if hello is None:
            return False
        loop = asyncio.get_running_loop()
        host, port = split_address(self.owner.address_of(self.member_id))
        context = self.owner.client_context()
        self._cutter = FrameCutter(handshake.HELLO_BYTES_MAX)
        self._welcomed = loop.create_future()
        self._lost = asyncio.Event()
        await loop.create_connection(lambda: self, host, port, ssl=context)
        transport = self._transport
        if transport is None:
            raise ConnectionError("closed at once")
        if context is not None and not self.owner.check_certificate(
            self.member_id, transport.get_extra_info("peercert")
        ):
            self._count("peer_bad_certificate")
            raise ConnectionError(f"the certificate at {host}:{port} is not member {self.member_id}'s")
        keep_alive(transport)
        transport.write(handshake.encode_hello(hello))
        verdict = await self._welcomed
        if verdict is not Verdict.ACCEPTED:
            raise ConnectionError(f"member {self.member_id} refused: {verdict.name}")
        self.last_error = ""
        self.up = True
        self.owner.lane_up(self.member_id)
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it
        self._transport.set_write_buffer_limits(high=self._queue_bytes_max)

    def data_received(self, data: bytes) -> None:
        """The Welcome, and never anything more."""
        future = self._welcomed
        if future is None or future.done():
            self._abandon()
            return
        try:
            for frame in self._cutter.feed(data):
                welcome = handshake.decode_welcome(frame)
                if not future.done():
                    future.set_result(welcome.verdict)
        except Malformed as error:
            if not future.done():
                future.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report it and let the dialling task go on."""
        self._transport = None
        self._lost.set()
        if self._welcomed is not None and not self._welcomed.done():
            self._welcomed.set_exception(ConnectionError("closed during the handshake"))
        self._mark_down()

    def _mark_down(self) -> None:
        if self.up:
            self.up = False
            self.owner.lane_down(self.member_id)

    def _abandon(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        future = self._welcomed
        if future is not None and future.done() and not future.cancelled():
            future.exception()
        self._lost.set()
        self._mark_down()

    def _count(self, what: str) -> None:
        self.owner.counters[what] = self.owner.counters.get(what, 0) + 1

    async def close(self) -> None:
        """Stop dialling and close; what is queued in the kernel may still arrive."""
        transport, self._transport = self._transport, None
        self.up = False
        if transport is not None:
            transport.close()
        await end_task(self._task)


class Link:
    """Both lanes to one member."""

    def __init__(self, owner: LaneOwner, member_id: NodeId) -> None:
        self.control = Lane(owner, member_id, Channel.CONTROL)
        self.bulk = Lane(owner, member_id, Channel.BULK)

    @property
    def up(self) -> bool:
        """Both lanes are accepted."""
        return self.control.up and self.bulk.up

    def seen(self) -> None:
        """The member has dialled this one: lanes that wait for their next attempt make it now."""
        self.control.seen()
        self.bulk.seen()

    async def close(self) -> None:
        """Close both."""
        await self.control.close()
        await self.bulk.close()
