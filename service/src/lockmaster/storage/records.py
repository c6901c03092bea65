"""How records lie in RocksDB: prefixes, tags, large values in parts, the store's own meta record (FORMAT.md §4)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from lockmaster.storage.errors import CorruptLog

LOCAL_PREFIX: Final = b"\x00"
"""Keys of this member alone: outside of hash and chunks."""
LARGE_PREFIX: Final = b"\xff"
"""Parts of large values; outside of hash and chunks too: the record they belong to counts."""
TABLES_FIRST: Final = b"\x01"
META_KEY: Final = b"\x00meta"
BASE_KEY: Final = b"\x00base"
INLINE: Final = b"\x00"
_POINTER_TAG: Final = b"\x01"
_POINTER: Final = struct.Struct(">cQI")
_META: Final = struct.Struct(">QQQ")
_PART: Final = struct.Struct(">QH")
LARGE_BYTES_MIN: Final = 64 << 10
"""Values above this lie in parts, ahead of their batch."""
PART_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Meta:
    """What each batch says of itself."""

    applied: int
    term: int
    state_hash: int

    def encode(self) -> bytes:
        """The meta record's value."""
        return _META.pack(self.applied, self.term, self.state_hash)

    @classmethod
    def decode(cls, raw: bytes) -> Meta:
        """The meta record; CorruptLog if its length is wrong."""
        if len(raw) != _META.size:
            raise CorruptLog(f"state: meta record of {len(raw)} bytes")
        return cls(*_META.unpack(raw))


@dataclass(frozen=True, slots=True)
class Pointer:
    """The stored value of a large record: where its parts are."""

    index: int
    size: int

    @property
    def part_count(self) -> int:
        """How many parts it has."""
        return -(-self.size // PART_BYTES)

    def encode(self) -> bytes:
        """The stored value."""
        return _POINTER.pack(_POINTER_TAG, self.index, self.size)

    @classmethod
    def decode(cls, stored: bytes) -> Pointer | None:
        """The pointer in a stored value, or None if the value is inline."""
        if stored[:1] != _POINTER_TAG or len(stored) != _POINTER.size:
            return None
        _, index, size = _POINTER.unpack(stored)
        return cls(index, size)


def part_key(full_key: bytes, index: int, number: int) -> bytes:
    """Where part `number` of the value written at `index` lies."""
    return LARGE_PREFIX + full_key + _PART.pack(index, number)


def part_owner(key: bytes) -> tuple[bytes, int]:
    """(full key, index) that a part belongs to."""
    index, _ = _PART.unpack_from(key, len(key) - _PART.size)
    return key[1 : -_PART.size], index


def split_parts(raw: bytes) -> Iterator[bytes]:
    """A large value in pieces."""
    for at in range(0, len(raw), PART_BYTES):
        yield raw[at : at + PART_BYTES]


def resolve(get: Callable[[bytes], bytes | None], full_key: bytes, stored: bytes) -> bytes:
    """The record's value from what is stored; CorruptLog if a part is missing."""
    if stored[:1] == INLINE:
        return stored[1:]
    pointer = Pointer.decode(stored)
    if pointer is None:
        raise CorruptLog(f"state: record {full_key!r} has an unknown tag")
    parts = [get(part_key(full_key, pointer.index, number)) for number in range(pointer.part_count)]
    whole = b"".join(part for part in parts if part is not None)
    if len(whole) != pointer.size:
        raise CorruptLog(f"state: record {full_key!r} lacks a part")
    return whole
