"""The first frame of a peer connection, and its answer.

A connection carries frames one way, from who dialled to who accepted; replies go over the other member's own pair.
The dialler states who it is, whom it wants (cluster, member id and incarnation of the data directory behind it) and
where it can be dialled back; the acceptor answers with a code and its own incarnation. `epoch` orders the connections
of one boot of the dialler: a newer one replaces an older one, an older one that arrives late is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from lockmaster_raft.ids import INDEX_MAX, NodeId
from lockmaster_raft.ready import Channel

from lockmaster.addresses import ADDRESS_BYTES_MAX
from lockmaster.framing import Malformed

MAGIC: Final = b"LKMP"
PROTOCOL_VERSION: Final = 1
HELLO_BYTES_MAX: Final = 512
"""Most bytes of a handshake frame: an unauthenticated peer gets no more of our memory than this."""
INCARNATION_BYTES: Final = 16

_HELLO: Final = struct.Struct(">4sHB16sQQ16s16sHHQQH")
_WELCOME: Final = struct.Struct(">4sHB16s")


class Verdict(IntEnum):
    """What the acceptor says to a Hello; the numbers are wire format."""

    ACCEPTED = 0
    WRONG_CLUSTER = 1
    WRONG_RECEIVER = 2
    WRONG_INCARNATION = 3
    WRONG_VERSION = 4
    WRONG_LEVEL = 5
    UNKNOWN_SENDER = 6
    STALE_EPOCH = 7
    BAD_CERTIFICATE = 8
    BUSY = 9


@dataclass(frozen=True, slots=True)
class Hello:
    """Who dials whom."""

    channel: Channel
    cluster_id: bytes
    sender: NodeId
    receiver: NodeId
    receiver_incarnation: bytes
    sender_incarnation: bytes
    level_min: int
    level_max: int
    boot: int
    """Start time of the dialler's process on its boot clock: newer boots win over older ones' epochs."""
    epoch: int
    address: str
    """Where the dialler's own peer port is."""
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer."""

    verdict: Verdict
    incarnation: bytes
    version: int = PROTOCOL_VERSION


def encode_hello(hello: Hello) -> bytes:
    """The frame, with its length prefix."""
    address = hello.address.encode()
    body = _HELLO.pack(
        MAGIC,
        hello.version,
        hello.channel,
        hello.cluster_id,
        hello.sender,
        hello.receiver,
        hello.receiver_incarnation,
        hello.sender_incarnation,
        hello.level_min,
        hello.level_max,
        hello.boot,
        hello.epoch,
        len(address),
    )
    return struct.pack(">I", len(body) + len(address)) + body + address


def decode_hello(frame: bytes) -> Hello:
    """The Hello in a frame (without its length prefix); Malformed if it is anything else."""
    try:
        magic, version, channel, cluster_id, sender, receiver, theirs, ours, low, high, boot, epoch, size = (
            _HELLO.unpack_from(frame)
        )
        address = frame[_HELLO.size :].decode()
        if magic != MAGIC or size > ADDRESS_BYTES_MAX or len(frame) != _HELLO.size + size:
            raise Malformed("not a hello")
        if max(sender, receiver, boot, epoch) > INDEX_MAX or not sender or not receiver:
            raise Malformed("a number of the hello is out of range")
        return Hello(
            Channel(channel),
            cluster_id,
            NodeId(sender),
            NodeId(receiver),
            theirs,
            ours,
            low,
            high,
            boot,
            epoch,
            address,
            version,
        )
    except (struct.error, ValueError) as error:
        raise Malformed(f"hello of {len(frame)} bytes: {error}") from error


def encode_welcome(welcome: Welcome) -> bytes:
    """The frame, with its length prefix."""
    body = _WELCOME.pack(MAGIC, welcome.version, welcome.verdict, welcome.incarnation)
    return struct.pack(">I", len(body)) + body


def decode_welcome(frame: bytes) -> Welcome:
    """The Welcome in a frame (without its length prefix); Malformed if it is anything else."""
    try:
        magic, version, verdict, incarnation = _WELCOME.unpack(frame)
        if magic != MAGIC:
            raise Malformed("not a welcome")
        return Welcome(Verdict(verdict), incarnation, version)
    except (struct.error, ValueError) as error:
        raise Malformed(f"welcome of {len(frame)} bytes: {error}") from error


def judge_hello(
    hello: Hello,
    *,
    cluster_id: bytes | None,
    member_id: NodeId | None,
    incarnation: bytes,
    level_min: int,
    level_max: int,
) -> Verdict:
    """May this connection be used? A blank member (no cluster, no id) takes whoever knows its incarnation."""
    if hello.version != PROTOCOL_VERSION:
        return Verdict.WRONG_VERSION
    if hello.receiver_incarnation != incarnation:
        return Verdict.WRONG_INCARNATION
    if cluster_id is not None and hello.cluster_id != cluster_id:
        return Verdict.WRONG_CLUSTER
    if member_id is not None and hello.receiver != member_id:
        return Verdict.WRONG_RECEIVER
    if hello.level_max < level_min or hello.level_min > level_max:
        return Verdict.WRONG_LEVEL
    if hello.sender == hello.receiver:
        return Verdict.UNKNOWN_SENDER
    return Verdict.ACCEPTED
