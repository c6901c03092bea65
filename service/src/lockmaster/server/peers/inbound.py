"""Accepted peer connections: a bounded handshake, then frames in, one call of the hub per message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from lockmaster_raft.errors import LevelUnsupported
from lockmaster_raft.ids import NodeId
from lockmaster_raft.messages import Message
from lockmaster_raft.ready import Channel

from lockmaster.framing import FrameCutter, Malformed
from lockmaster.server.peers import codec, handshake
from lockmaster.server.peers.codec import Peering, StateHashes
from lockmaster.server.peers.handshake import Hello, Verdict, Welcome
from lockmaster.sockets import keep_alive

HELLO_TIMEOUT: Final = 5.0
"""Seconds a dialler has for its Hello (and as long again for TLS before it)."""
HALF_OPEN_MAX: Final = 64
"""Most connections without an accepted Hello; more are closed at once."""
ACCEPTED_MAX: Final = 128
"""Most accepted connections: two per member of the largest configuration, and as many that are being replaced."""


class InboundOwner(Protocol):
    """What accepted connections ask of the hub."""

    counters: dict[str, int]

    def judge(self, hello: Hello, certificate: dict[str, object] | None) -> Verdict:
        """May this connection be used? Adopts the identity offered, when this member is blank."""

    @property
    def incarnation(self) -> bytes:
        """This data directory's."""

    def deliver(self, message: Message) -> None:
        """One message, in order of its channel."""

    def told(self, message: StateHashes) -> None:
        """One message that is not for the core."""

    def fail(self, error: BaseException) -> None:
        """A peer sent an entry that this binary may not skip: the member stops."""


class Acceptor:
    """All accepted connections of one hub, with their limits."""

    def __init__(self, owner: InboundOwner) -> None:
        self.owner = owner
        self.half_open: set[InboundConnection] = set()
        self.accepted: dict[tuple[NodeId, Channel], InboundConnection] = {}

    def make(self) -> asyncio.Protocol:
        """The protocol of the next connection."""
        return InboundConnection(self)

    def count(self, what: str) -> None:
        """One more of `what`."""
        self.owner.counters[what] = self.owner.counters.get(what, 0) + 1

    def install(self, connection: InboundConnection, hello: Hello) -> Verdict:
        """Make it the connection of (sender, channel), replacing an older one; STALE_EPOCH if it is the older."""
        key = (hello.sender, hello.channel)
        before = self.accepted.get(key)
        if before is not None and before.hello is not None:
            theirs = (before.hello.boot, before.hello.epoch)
            if before.hello.sender_incarnation == hello.sender_incarnation and theirs > (hello.boot, hello.epoch):
                return Verdict.STALE_EPOCH
            before.close("replaced")
        elif len(self.accepted) >= ACCEPTED_MAX:
            return Verdict.BUSY
        self.accepted[key] = connection
        self.half_open.discard(connection)
        return Verdict.ACCEPTED

    def gone(self, connection: InboundConnection) -> None:
        """Forget it."""
        self.half_open.discard(connection)
        hello = connection.hello
        if hello is not None and self.accepted.get((hello.sender, hello.channel)) is connection:
            del self.accepted[(hello.sender, hello.channel)]

    def drop_others(self, members: Callable[[NodeId], bool]) -> None:
        """Close connections from ids that `members` does not know."""
        for key in sorted(self.accepted):
            if not members(key[0]):
                self.accepted[key].close("not a member")

    def close(self) -> None:
        """Close every connection."""
        for connection in [*self.half_open, *self.accepted.values()]:
            connection.close("closing")


class InboundConnection(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, acceptor: Acceptor) -> None:
        self.acceptor = acceptor
        self.hello: Hello | None = None
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._cutter = FrameCutter(handshake.HELLO_BYTES_MAX)
        self._peering: Peering | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake's clock, or refuse when too many are half open."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it
        if len(self.acceptor.half_open) >= HALF_OPEN_MAX:
            self.acceptor.count("peer_half_open_refused")
            self.close("too many half-open connections")
            return
        self.acceptor.half_open.add(self)
        keep_alive(transport)
        self._timer = asyncio.get_running_loop().call_later(HELLO_TIMEOUT, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Cut, decode, deliver; anything malformed is counted and ends the connection."""
        if self.closed:
            return
        try:
            if self._peering is None:
                self._greet(data)
                return
            peering, deliver = self._peering, self.acceptor.owner.deliver
            for frame in self._cutter.feed(data):
                if codec.is_side(frame):
                    self._side(frame, peering)
                else:
                    deliver(codec.decode(frame, peering))
                if self.closed:
                    return
        except Malformed as error:
            self.acceptor.count("peer_frames_refused")
            self.acceptor.count(f"peer_frames_refused_{error.reason}")
            self.close(str(error))
        except LevelUnsupported as error:
            self.close(str(error))
            self.acceptor.owner.fail(error)

    def _side(self, frame: bytes, peering: Peering) -> None:
        message = codec.decode_side(frame, peering)
        if message is None:
            self.acceptor.count("peer_frames_ignored")
        else:
            self.acceptor.owner.told(message)

    def _greet(self, data: bytes) -> None:
        frames = self._cutter.feed(data)
        if not frames:
            return
        if len(frames) > 1 or self._cutter.held_size:
            raise Malformed("bytes after the hello, before its answer")
        hello = handshake.decode_hello(frames[0])
        owner, transport = self.acceptor.owner, self.transport
        if transport is None:
            return
        certificate = transport.get_extra_info("peercert")
        verdict = owner.judge(hello, certificate)
        if verdict is Verdict.ACCEPTED:
            verdict = self.acceptor.install(self, hello)
        transport.write(handshake.encode_welcome(Welcome(verdict, owner.incarnation)))
        if verdict is not Verdict.ACCEPTED:
            self.acceptor.count(f"peer_hello_{verdict.name.lower()}")
            self.close(verdict.name)
            return
        if self._timer is not None:
            self._timer.cancel()
        self.hello = hello
        self._peering = Peering(hello.cluster_id, hello.sender, hello.receiver)
        large = hello.channel is Channel.BULK
        self._cutter = FrameCutter(codec.BULK_FRAME_MAX if large else codec.CONTROL_FRAME_MAX)

    def _too_slow(self) -> None:
        self.acceptor.count("peer_hello_timeouts")
        self.close("no hello in time")

    def close(self, why: str) -> None:
        """Close it; `why` is for debugging."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None:
            self.transport.close()
        self.acceptor.gone(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.acceptor.gone(self)
