"""Segment files: names, openings, and the reading of one at boot (FORMAT.md §3)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from lockmaster_raft.ready import Base

from lockmaster.storage.errors import CorruptLog
from lockmaster.storage.files import Files
from lockmaster.storage.frame import (
    FRAME_MAGIC,
    OPENING_MAGIC,
    SECTOR,
    Frame,
    Record,
    SegmentHeader,
    decode_records,
    encode_base,
    encode_frame,
    encode_header,
    parse_frame,
)

_NAME: Final = re.compile(r"^(\d{12})\.seg$")


def segment_name(segment: int) -> str:
    """File name of a segment."""
    return f"{segment:012d}.seg"


def segment_numbers(names: list[str]) -> list[int]:
    """Numbers of the segment files among these names, ascending."""
    return sorted(int(found[1]) for name in names if (found := _NAME.match(name)))


def derive_segment_id(boot_nonce: int, segment: int) -> int:
    """64 bits that no other segment of any boot has, so bytes of one never count in another."""
    seed = boot_nonce.to_bytes(8, "big") + segment.to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")


def encode_opening(header: SegmentHeader, base: Base) -> tuple[bytes, int]:
    """The bytes at a segment's start and their crc, where its chain begins."""
    records = encode_header(header) + encode_base(base)
    return encode_frame(OPENING_MAGIC, header.first_number, header.segment_id, 0, records)


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment whose opening is valid, read whole."""

    path: str
    segment: int
    data: bytes
    header: SegmentHeader
    records: list[Record]
    crc: int
    end: int
    """Offset of the first frame."""


def read_segment(files: Files, path: str, segment: int) -> Opened | bytes:
    """The opened segment, or its bytes if it has no valid opening."""
    data = files.read(path, 0, files.size(path))
    frame = parse_frame(data, 0)
    if frame is None or frame.magic != OPENING_MAGIC:
        return data
    records = records_at(path, 0, frame)
    header = records[0] if records else None
    if not isinstance(header, SegmentHeader) or header.segment != segment or header.segment_id != frame.segment_id:
        raise CorruptLog(f"{path}: offset 0: the header belongs to another segment")
    return Opened(path, segment, data, header, records, frame.crc, frame.size)


def next_frame(opened: Opened, at: int, number: int, previous_crc: int) -> Frame | None:
    """The frame at `at` if it is valid and the next of the chain."""
    frame = parse_frame(opened.data, at)
    if frame is None or frame.magic != FRAME_MAGIC or frame.segment_id != opened.header.segment_id:
        return None
    return frame if frame.number == number and frame.previous_crc == previous_crc else None


def later_frame(data: bytes, at: int, segment_id: int | None) -> int | None:
    """Offset of the first valid frame at or after `at` (of that segment, if given): proof that `at` isn't the end."""
    for magic in (FRAME_MAGIC, OPENING_MAGIC):
        found = data.find(magic, at)
        while found >= 0:  # ends: `found` rises
            if found % SECTOR == 0:
                frame = parse_frame(data, found)
                if frame is not None and segment_id in (None, frame.segment_id):
                    return found
            found = data.find(magic, found + 1)
    return None


def records_at(path: str, offset: int, frame: Frame) -> list[Record]:
    """The frame's records; CorruptLog that names file and offset."""
    try:
        return decode_records(frame.records)
    except CorruptLog as error:
        raise CorruptLog(f"{path}: offset {offset}: {error}") from error
