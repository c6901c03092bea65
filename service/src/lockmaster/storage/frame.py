"""Frames and records: the bytes of the journal (FORMAT.md §3). Pure: no I/O.

A frame is {magic, length, number, segment id, previous crc, header crc} records {crc}, padded with zeros to a multiple
of 512 bytes. The last crc covers everything before it, so it covers segment id and previous crc: frames chain, and a
frame can be checked alone, which is what lets a boot tell a torn tail from damage in the middle.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from lockmaster_raft.entry import Entry, entry_crc32, known_kind
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels, decode_configuration, encode_configuration
from lockmaster_raft.ready import Base

from lockmaster.storage.errors import CorruptLog

SECTOR: Final = 512
FRAME_MAGIC: Final = b"LMFR"
OPENING_MAGIC: Final = b"LMSG"
FRAME_BYTES_MAX: Final = 64 << 20
"""Largest frame; a length above it is damage, not a frame."""

_HEAD: Final = struct.Struct(">4sIQQI")
_CRC: Final = struct.Struct(">I")
HEAD_SIZE: Final = _HEAD.size + _CRC.size
FRAME_OVERHEAD: Final = HEAD_SIZE + _CRC.size

RECORD_ENTRY: Final = 1
RECORD_TRUNCATE: Final = 2
RECORD_BASE: Final = 3
RECORD_HEADER: Final = 4
_RECORD: Final = struct.Struct(">BI")
_ENTRY: Final = struct.Struct(">BIQQBqI")
_ENTRY_FIXED: Final = _ENTRY.size - _RECORD.size
_ENTRY_BODY: Final = struct.Struct(">QQBqI")
_TRUNCATE: Final = struct.Struct(">BIQ")
_BASE_BODY: Final = struct.Struct(">QQQIIQ")
_HEADER_BODY: Final = struct.Struct(">HQQQQQIQ")
SEGMENT_FORMAT: Final = 1

NO_BASE: Final = Base(Index(0), Term(0), Configuration(0, (), NodeId(1)), Index(0), Levels())
"""The base of a log that has none yet: a member that waits to be joined."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """How a segment opens: who wrote it, its first frame's number, and where the segment before ends."""

    segment: int
    segment_id: int
    boot_nonce: int
    first_number: int
    previous_end: int
    """Offset after the last frame of the segment before; bytes past it don't count. 0: no segment before."""
    previous_crc: int
    last_index: int
    """Index of the log's last entry before this segment: what lies between BASE and it is in earlier segments."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame found on disk, its checksums right."""

    magic: bytes
    number: int
    segment_id: int
    previous_crc: int
    records: bytes
    crc: int
    size: int
    """Bytes on disk, padding included."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Record: entries from `index` on are gone."""

    index: Index


Record = Entry | Truncate | Base | SegmentHeader


def padded(size: int) -> int:
    """`size` rounded up to the next sector boundary."""
    return (size + SECTOR - 1) & -SECTOR


def encode_frame(magic: bytes, number: int, segment_id: int, previous_crc: int, records: bytes) -> tuple[bytes, int]:
    """The frame's bytes, padded, and its crc (the next frame's previous crc)."""
    head = _HEAD.pack(magic, len(records), number, segment_id, previous_crc)
    head += _CRC.pack(crc32(head))
    crc = crc32(records, crc32(head))
    size = FRAME_OVERHEAD + len(records)
    return b"".join((head, records, _CRC.pack(crc), bytes(-size % SECTOR))), crc


def parse_frame(data: bytes, at: int) -> Frame | None:
    """The valid frame that starts at `at`, or None. Says nothing about its place in the chain."""
    if at + FRAME_OVERHEAD > len(data):
        return None
    magic, length, number, segment_id, previous_crc = _HEAD.unpack_from(data, at)
    if magic not in (FRAME_MAGIC, OPENING_MAGIC):
        return None
    head = data[at : at + _HEAD.size]
    stop = at + HEAD_SIZE + length
    if _CRC.unpack_from(data, at + _HEAD.size)[0] != crc32(head) or stop + _CRC.size > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, stop)
    if crc32(memoryview(data)[at:stop]) != crc:
        return None
    records = data[at + HEAD_SIZE : stop]
    return Frame(magic, number, segment_id, previous_crc, records, crc, padded(FRAME_OVERHEAD + length))


def encode_entries(entries: Sequence[Entry], parts: list[bytes]) -> None:
    """Append the ENTRY records of `entries` to `parts`."""
    for e in entries:
        payload = e.payload
        parts.append(
            _ENTRY.pack(RECORD_ENTRY, _ENTRY_FIXED + len(payload), e.index, e.term, e.kind, e.leader_time, e.crc32)
        )
        parts.append(payload)


def encode_truncate(index: Index) -> bytes:
    """A TRUNCATE record."""
    return _TRUNCATE.pack(RECORD_TRUNCATE, 8, index)


def encode_base_body(base: Base) -> bytes:
    """A BASE record's body; also the form in which a state directory and a snapshot manifest carry it."""
    levels = base.levels
    where = (base.index, base.term, base.configuration_index)
    fixed = _BASE_BODY.pack(*where, levels.active, levels.fence, levels.index)
    return fixed + encode_configuration(base.configuration)


def encode_base(base: Base) -> bytes:
    """A BASE record."""
    body = encode_base_body(base)
    return _RECORD.pack(RECORD_BASE, len(body)) + body


def encode_header(header: SegmentHeader) -> bytes:
    """A HEADER record."""
    h = header
    body = _HEADER_BODY.pack(
        SEGMENT_FORMAT,
        h.segment,
        h.segment_id,
        h.boot_nonce,
        h.first_number,
        h.previous_end,
        h.previous_crc,
        h.last_index,
    )
    return _RECORD.pack(RECORD_HEADER, len(body)) + body


def decode_base_body(body: bytes) -> Base:
    """The Base in these bytes; CorruptLog if it is anything else."""
    try:
        index, term, configuration_index, active, fence, gate_index = _BASE_BODY.unpack_from(body)
    except struct.error as error:
        raise CorruptLog(f"base record of {len(body)} bytes does not decode") from error
    configuration = decode_configuration(body[_BASE_BODY.size :])
    levels = Levels(active, fence, Index(gate_index))
    return Base(Index(index), Term(term), configuration, Index(configuration_index), levels)


def _decode_entry(body: bytes) -> Entry:
    index, term, kind, leader_time, crc = _ENTRY_BODY.unpack_from(body)
    payload = body[_ENTRY_BODY.size :]
    if entry_crc32(index, term, kind, leader_time, payload) != crc:
        raise CorruptLog(f"entry {index}: checksum of header and payload does not match")
    return Entry(Index(index), Term(term), known_kind(Index(index), kind), Nanos(leader_time), payload, crc)


def _decode_header(body: bytes) -> SegmentHeader:
    version, *rest = _HEADER_BODY.unpack(body)
    if version != SEGMENT_FORMAT:
        raise CorruptLog(f"segment format {version} is unknown to this binary")
    return SegmentHeader(*rest)


def decode_records(records: bytes) -> list[Record]:
    """The records of a valid frame, in order; CorruptLog on an unknown kind (never skipped) or a bad length."""
    at, found = 0, list[Record]()
    try:
        while at < len(records):
            kind, length = _RECORD.unpack_from(records, at)
            at += _RECORD.size
            body = records[at : at + length]
            if len(body) != length:
                raise CorruptLog("record reaches beyond its frame")
            at += length
            if kind == RECORD_ENTRY:
                found.append(_decode_entry(body))
            elif kind == RECORD_TRUNCATE:
                found.append(Truncate(Index(int.from_bytes(body, "big"))))
            elif kind == RECORD_BASE:
                found.append(decode_base_body(body))
            elif kind == RECORD_HEADER:
                found.append(_decode_header(body))
            else:
                raise CorruptLog(f"record kind {kind} is unknown to this binary")
    except (struct.error, ValueError) as error:
        raise CorruptLog(f"record does not decode: {error}") from error
    return found
