"""Peer frames: every message of the core as length-prefixed bytes, and back.

Theory of operation. A frame is {length u32 of what follows, kind u8, term u64, level_min u16, level_max u16, body},
big-endian. Cluster id, sender and receiver are not in it: they are the connection's, agreed on and authenticated in
the handshake, so no frame can claim another's. Entry payloads are passed through as the bytes they are.

Laws.
1. decode(encode(m)) == m for every message whose numbers are in 0 … INDEX_MAX.
2. Anything else raises Malformed: a length beyond the limit, an unknown kind of frame, a number out of range, bytes
   missing or left over, an entry whose checksum does not hold. The transport counts it and closes the connection.
3. Side messages, between hosts and not for the core, have kinds from SIDE_KIND_MIN on. An unknown one of them is
   counted and ignored: a later release may add some, and a member that does not know them goes on.
4. Kinds 17 to 25 are level 2: the core sends them only once that level is active, and to members that have promised it
   (raft.md §6). A binary of level 1 would find them Malformed.
5. A whole entry of a kind that this binary does not know raises LevelUnsupported: the member stops, it never skips.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import Any, Final

from lockmaster_raft import messages as m
from lockmaster_raft.entry import Entry, entry_crc32, known_kind
from lockmaster_raft.errors import CorruptLog
from lockmaster_raft.ids import INDEX_MAX, Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Levels, decode_configuration, encode_configuration

from lockmaster.framing import Malformed

CONTROL_FRAME_MAX: Final = 4 << 20
"""Most bytes of one frame on the control channel (the longest is a snapshot manifest)."""
BULK_FRAME_MAX: Final = 10 << 20
"""Most bytes of one frame on the bulk channel: a batch plus one entry of the largest payload, or a chunk."""
ENTRIES_MAX: Final = 4096
"""Most entries of one AppendEntries."""
ANCHORS_MAX: Final = 1025
"""Most anchors of one CatchUp."""
DIGESTS_MAX: Final = 100_000
DIGEST_BYTES: Final = 32
SOURCES_MAX: Final = 32
SIDE_KIND_MIN: Final = 128
HASHES_MAX: Final = 64
"""Most hashes in one StateHashes."""
REASON_BYTES_MAX: Final = 512

_HEAD: Final = struct.Struct(">IBQHH")
_BODY_HEAD: Final = struct.Struct(">BQHH")
_APPEND: Final = struct.Struct(">QQQQQI")
_ENTRY: Final = struct.Struct(">QQBQII")
_SNAPSHOT: Final = struct.Struct(">QQQQHHQQIIH")
_ANCHOR: Final = struct.Struct(">QQQQHHQ")
_CATCH_UP: Final = struct.Struct(">QHH")
_PAIR: Final = struct.Struct(">QQ")
_SOURCE_REPORT: Final = struct.Struct(">QQQ")
_RANGE: Final = struct.Struct(">QQI")
_FETCH: Final = struct.Struct(">QQ")
_PIECE: Final = struct.Struct(">QQ?")
_HASH: Final = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Peering:
    """Whose frames these are: what the handshake of a connection settled."""

    cluster_id: bytes
    sender: NodeId
    receiver: NodeId


@dataclass(frozen=True, slots=True)
class StateHashes:
    """The sender's state hash at indexes of the hash grid (I14), ascending."""

    header: m.Header
    hashes: tuple[tuple[int, int], ...]
    """(applied index, state hash)."""


PeerMessage = m.Message | StateHashes


@dataclass(frozen=True, slots=True)
class _Plain:
    """A message of numbers and booleans, with perhaps one text."""

    kind: int
    cls: type[Any]
    layout: struct.Struct
    names: tuple[str, ...]
    has_reason: bool


def _plain(kind: int, cls: type[Any], layout: str) -> _Plain:
    names = tuple(f.name for f in fields(cls) if f.name not in ("header", "reason"))
    return _Plain(kind, cls, struct.Struct(">" + layout), names, any(f.name == "reason" for f in fields(cls)))


_PLAIN: Final = (
    _plain(1, m.PreVote, "QQQQ?"),
    _plain(2, m.PreVoteReply, "QQ?QQ"),
    _plain(3, m.RequestVote, "QQ?"),
    _plain(4, m.RequestVoteReply, "?QQ"),
    _plain(6, m.AppendEntriesReply, "QQ?QQQQQQQQ"),
    _plain(7, m.Heartbeat, "QQQQQ"),
    _plain(8, m.HeartbeatReply, "QQQQQQQQ"),
    _plain(9, m.ReadIndex, "Q"),
    _plain(10, m.ReadIndexReply, "Q?Q"),
    _plain(12, m.InstallSnapshotReply, "QQ?QQ"),
    _plain(15, m.TimeoutNow, ""),
    _plain(16, m.Removed, "Q"),
    _plain(17, m.Coverage, "Q"),
    _plain(18, m.WitnessReport, "QQQQQQQ"),
    _plain(20, m.Retain, "QQ"),
    _plain(23, m.CatchUpReply, "QQQQQ"),
    _plain(24, m.FetchRange, "QQQQ"),
)
_APPEND_ENTRIES: Final = 5
_INSTALL_SNAPSHOT: Final = 11
_FETCH_PIECE: Final = 13
_FETCH_PIECE_REPLY: Final = 14
_INSTALL_ANCHOR: Final = 19
_SOURCE_REPORT_KIND: Final = 21
_CATCH_UP_KIND: Final = 22
_FETCH_RANGE_REPLY: Final = 25
_STATE_HASHES: Final = 128
_BY_CLASS: Final = {plain.cls: plain for plain in _PLAIN}
_BY_KIND: Final = {plain.kind: plain for plain in _PLAIN}


def encode(message: PeerMessage) -> list[bytes]:
    """The frame of `message` as buffers to write in order; payloads are the very objects of the entries."""
    if type(message) is m.AppendEntries:
        return _encode_append(message)
    plain = _BY_CLASS.get(type(message))
    if plain is None:
        return _encode_large(message)
    body = plain.layout.pack(*[getattr(message, name) for name in plain.names])
    if plain.has_reason:
        reason: str = getattr(message, "reason")  # noqa: B009 - the type is only known from the table
        body += reason.encode()[:REASON_BYTES_MAX]
    return [_head(plain.kind, message.header, len(body)) + body]


def _head(kind: int, header: m.Header, body_size: int) -> bytes:
    return _HEAD.pack(_BODY_HEAD.size + body_size, kind, header.term, header.level_min, header.level_max)


def _encode_entries(entries: tuple[Entry, ...]) -> tuple[list[bytes], int]:
    """An empty buffer, then header and payload of each entry; and their bytes together."""
    parts: list[bytes] = [b""]
    size = 0
    for entry in entries:
        payload = entry.payload
        parts.append(_ENTRY.pack(entry.index, entry.term, entry.kind, entry.leader_time, entry.crc32, len(payload)))
        parts.append(payload)
        size += _ENTRY.size + len(payload)
    return parts, size


def _encode_append(message: m.AppendEntries) -> list[bytes]:
    parts, size = _encode_entries(message.entries)
    size += _APPEND.size
    parts[0] = _head(_APPEND_ENTRIES, message.header, size) + _APPEND.pack(
        message.stream_epoch,
        message.request_id,
        message.prev_index,
        message.prev_term,
        message.commit,
        len(message.entries),
    )
    return parts


def _encode_large(message: PeerMessage) -> list[bytes]:
    if isinstance(message, m.InstallSnapshot):
        configuration = encode_configuration(message.configuration)
        digests = b"".join(message.chunk_digests)
        sources = struct.pack(f">{len(message.sources)}Q", *message.sources)
        fixed = _SNAPSHOT.pack(
            message.stream_epoch,
            message.last_index,
            message.last_term,
            message.configuration_index,
            message.levels.active,
            message.levels.fence,
            message.levels.index,
            message.bytes_total,
            len(configuration),
            len(message.chunk_digests),
            len(message.sources),
        )
        body = fixed + configuration + digests + sources
        return [_head(_INSTALL_SNAPSHOT, message.header, len(body)) + body]
    if isinstance(message, m.InstallAnchor):
        fixed = _ANCHOR.pack(
            message.stream_epoch,
            message.index,
            message.index_term,
            message.configuration_index,
            message.levels.active,
            message.levels.fence,
            message.levels.index,
        )
        body = fixed + encode_configuration(message.configuration)
        return [_head(_INSTALL_ANCHOR, message.header, len(body)) + body]
    if isinstance(message, m.FetchPiece):
        body = _FETCH.pack(message.last_index, message.number) + message.digest
        return [_head(_FETCH_PIECE, message.header, len(body)) + body]
    if isinstance(message, m.FetchPieceReply):
        fixed = _PIECE.pack(message.last_index, message.number, message.found)
        return [_head(_FETCH_PIECE_REPLY, message.header, len(fixed) + len(message.data)) + fixed, message.data]
    if isinstance(message, m.FetchRangeReply):
        parts, size = _encode_entries(message.entries)
        fixed = _RANGE.pack(message.prev_index, message.last_index, len(message.entries))
        parts[0] = _head(_FETCH_RANGE_REPLY, message.header, size + len(fixed)) + fixed
        return parts
    if isinstance(message, m.CatchUp):
        fixed = _CATCH_UP.pack(message.stream_epoch, len(message.anchors), len(message.sources))
        sources = struct.pack(f">{len(message.sources)}Q", *message.sources)
        body = fixed + b"".join([_PAIR.pack(*anchor) for anchor in message.anchors]) + sources
        return [_head(_CATCH_UP_KIND, message.header, len(body)) + body]
    if isinstance(message, m.SourceReport):
        fixed = _SOURCE_REPORT.pack(message.log_first, message.snapshot_index, message.snapshot_term)
        body = fixed + message.manifest
        return [_head(_SOURCE_REPORT_KIND, message.header, len(body)) + body]
    if isinstance(message, StateHashes):
        body = b"".join([_HASH.pack(*pair) for pair in message.hashes])
        return [_head(_STATE_HASHES, message.header, len(body)) + body]
    raise TypeError(f"no frame for {type(message).__name__}")


def decode(frame: bytes, peering: Peering) -> m.Message:
    """The message in a frame (without its length prefix); Malformed if it is anything else. Raises LevelUnsupported."""
    try:
        kind, term, level_min, level_max = _BODY_HEAD.unpack_from(frame)
        if term > INDEX_MAX:
            raise Malformed("term out of range", "range")
        header = m.Header(peering.cluster_id, peering.sender, peering.receiver, Term(term), level_min, level_max)
        if kind == _APPEND_ENTRIES:
            return _decode_append(frame, header)
        plain = _BY_KIND.get(kind)
        if plain is not None:
            return _decode_plain(frame, header, plain)
        return _decode_large(frame, header, kind)
    except (struct.error, UnicodeDecodeError, CorruptLog) as error:
        raise Malformed(f"frame of {len(frame)} bytes: {error}") from error


def is_side(frame: bytes) -> bool:
    """Is this frame (without its length prefix) for `decode_side`?"""
    return frame[:1] >= _SIDE_FIRST


_SIDE_FIRST: Final = bytes([SIDE_KIND_MIN])


def decode_side(frame: bytes, peering: Peering) -> StateHashes | None:
    """The side message in a frame, None if its kind is not known here; Malformed if it is known and broken."""
    try:
        kind, term, level_min, level_max = _BODY_HEAD.unpack_from(frame)
        if kind != _STATE_HASHES:
            return None
        pairs = tuple(_HASH.iter_unpack(frame[_BODY_HEAD.size :]))
    except struct.error as error:
        raise Malformed(f"frame of {len(frame)} bytes: {error}") from error
    if len(pairs) > HASHES_MAX or term > INDEX_MAX or any(index > INDEX_MAX for index, _ in pairs):
        raise Malformed("a number of StateHashes is out of range", "range")
    header = m.Header(peering.cluster_id, peering.sender, peering.receiver, Term(term), level_min, level_max)
    return StateHashes(header, pairs)


def _decode_plain(frame: bytes, header: m.Header, plain: _Plain) -> m.Message:
    values = plain.layout.unpack_from(frame, _BODY_HEAD.size)
    if values and max(values) > INDEX_MAX:
        raise Malformed(f"a number of {plain.cls.__name__} is out of range", "range")
    rest = frame[_BODY_HEAD.size + plain.layout.size :]
    named = dict(zip(plain.names, values))
    if plain.has_reason:
        if len(rest) > REASON_BYTES_MAX:
            raise Malformed("reason too long", "length")
        named["reason"] = rest.decode(errors="replace")
    elif rest:
        raise Malformed(f"{len(rest)} bytes left over")
    message: m.Message = plain.cls(header=header, **named)
    return message


def _decode_append(frame: bytes, header: m.Header) -> m.AppendEntries:
    at = _BODY_HEAD.size
    stream_epoch, request_id, prev_index, prev_term, commit, count = _APPEND.unpack_from(frame, at)
    if count > ENTRIES_MAX or max(stream_epoch, request_id, prev_index, prev_term, commit) > INDEX_MAX:
        raise Malformed("a number of AppendEntries is out of range", "range")
    entries = _decode_entries(frame, at + _APPEND.size, count)
    return m.AppendEntries(header, stream_epoch, request_id, Index(prev_index), Term(prev_term), entries, Index(commit))


def _decode_entries(frame: bytes, at: int, count: int) -> tuple[Entry, ...]:
    """The `count` entries that fill the rest of the frame."""
    entries = []
    for _ in range(count):
        index, term, kind, leader_time, crc32, size = _ENTRY.unpack_from(frame, at)
        at += _ENTRY.size
        payload = frame[at : at + size]
        at += size
        if len(payload) != size or max(index, term, leader_time) > INDEX_MAX:
            raise Malformed(f"entry {index} is cut short or out of range", "range")
        if entry_crc32(Index(index), Term(term), kind, Nanos(leader_time), payload) != crc32:
            raise Malformed(f"entry {index} does not match its checksum", "checksum")
        known = known_kind(Index(index), kind)
        entries.append(Entry(Index(index), Term(term), known, Nanos(leader_time), payload, crc32))
    if at != len(frame):
        raise Malformed(f"{len(frame) - at} bytes left over")
    return tuple(entries)


def _decode_large(frame: bytes, header: m.Header, kind: int) -> m.Message:
    at = _BODY_HEAD.size
    if kind == _INSTALL_SNAPSHOT:
        return _decode_snapshot(frame, header)
    if kind == _INSTALL_ANCHOR:
        return _decode_anchor(frame, header)
    if kind == _FETCH_PIECE:
        last_index, number = _FETCH.unpack_from(frame, at)
        digest = frame[at + _FETCH.size :]
        if len(digest) != 32 or max(last_index, number) > INDEX_MAX:
            raise Malformed("fetch of a piece is out of range", "range")
        return m.FetchPiece(header, Index(last_index), number, digest)
    if kind == _FETCH_PIECE_REPLY:
        last_index, number, found = _PIECE.unpack_from(frame, at)
        if max(last_index, number) > INDEX_MAX:
            raise Malformed("piece is out of range", "range")
        return m.FetchPieceReply(header, Index(last_index), number, found, frame[at + _PIECE.size :])
    if kind == _FETCH_RANGE_REPLY:
        prev_index, last_index, count = _RANGE.unpack_from(frame, at)
        if count > ENTRIES_MAX or max(prev_index, last_index) > INDEX_MAX:
            raise Malformed("range is out of range", "range")
        entries = _decode_entries(frame, at + _RANGE.size, count)
        return m.FetchRangeReply(header, Index(prev_index), Index(last_index), entries)
    if kind == _CATCH_UP_KIND:
        return _decode_catch_up(frame, header)
    if kind == _SOURCE_REPORT_KIND:
        log_first, index, index_term = _SOURCE_REPORT.unpack_from(frame, at)
        manifest = frame[at + _SOURCE_REPORT.size :]
        if len(manifest) != DIGEST_BYTES or max(log_first, index, index_term) > INDEX_MAX:
            raise Malformed("source report is out of range", "range")
        return m.SourceReport(header, Index(log_first), Index(index), Term(index_term), manifest)
    raise Malformed(f"unknown kind {kind}", "kind")


def _decode_catch_up(frame: bytes, header: m.Header) -> m.CatchUp:
    at = _BODY_HEAD.size
    epoch, count, sources = _CATCH_UP.unpack_from(frame, at)
    at += _CATCH_UP.size
    if count > ANCHORS_MAX or sources > SOURCES_MAX or at + _PAIR.size * count + 8 * sources != len(frame):
        raise Malformed("lengths of CatchUp do not add up")
    numbers = struct.unpack_from(f">{2 * count + sources}Q", frame, at)
    if max(epoch, *numbers) > INDEX_MAX:
        raise Malformed("a number of CatchUp is out of range", "range")
    anchors = tuple((Index(numbers[2 * n]), Term(numbers[2 * n + 1])) for n in range(count))
    return m.CatchUp(header, epoch, anchors, tuple(NodeId(source) for source in numbers[2 * count :]))


def _decode_anchor(frame: bytes, header: m.Header) -> m.InstallAnchor:
    values = _ANCHOR.unpack_from(frame, _BODY_HEAD.size)
    epoch, index, index_term, configuration_index, active, fence, gate_index = values
    if max(values) > INDEX_MAX:
        raise Malformed("a number of InstallAnchor is out of range", "range")
    return m.InstallAnchor(
        header,
        epoch,
        Index(index),
        Term(index_term),
        decode_configuration(frame[_BODY_HEAD.size + _ANCHOR.size :]),
        Index(configuration_index),
        Levels(active, fence, Index(gate_index)),
    )


def _decode_snapshot(frame: bytes, header: m.Header) -> m.InstallSnapshot:
    at = _BODY_HEAD.size
    values = _SNAPSHOT.unpack_from(frame, at)
    epoch, last_index, last_term, configuration_index, *levels, total, config_size, digests, sources = values
    if max(values) > INDEX_MAX or digests > DIGESTS_MAX or sources > SOURCES_MAX:
        raise Malformed("a number of InstallSnapshot is out of range", "range")
    at += _SNAPSHOT.size
    if at + config_size + 32 * digests + 8 * sources != len(frame):
        raise Malformed("lengths of InstallSnapshot do not add up")
    configuration = decode_configuration(frame[at : at + config_size])
    at += config_size
    digest_list = tuple(frame[at + 32 * i : at + 32 * i + 32] for i in range(digests))
    source_list = struct.unpack_from(f">{sources}Q", frame, at + 32 * digests)
    if any(source > INDEX_MAX for source in source_list):
        raise Malformed("a source is out of range", "range")
    return m.InstallSnapshot(
        header,
        epoch,
        Index(last_index),
        Term(last_term),
        configuration,
        Index(configuration_index),
        Levels(levels[0], levels[1], Index(levels[2])),
        digest_list,
        total,
        tuple(NodeId(source) for source in source_list),
    )
