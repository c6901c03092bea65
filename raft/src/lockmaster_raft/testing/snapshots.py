"""Logical snapshots of the simulator: sorted records in small chunks, byte-equal on every replica at one index."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

CHUNK_BYTES: Final = 256
"""Small, so that even a small state takes several chunks."""
_LENGTHS: Final = struct.Struct(">II")


def chunks_of(contents: dict[bytes, bytes]) -> tuple[bytes, ...]:
    """The chunks, at least one."""
    chunks: list[bytes] = []
    current = bytearray()
    for key in sorted(contents):
        value = contents[key]
        current += _LENGTHS.pack(len(key), len(value)) + key + value
        if len(current) >= CHUNK_BYTES:
            chunks.append(bytes(current))
            current.clear()
    if current or not chunks:
        chunks.append(bytes(current))
    return tuple(chunks)


def contents_of(chunks: Sequence[bytes]) -> dict[bytes, bytes]:
    """The records in those chunks."""
    contents: dict[bytes, bytes] = {}
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            key_size, value_size = _LENGTHS.unpack_from(chunk, at)
            at += _LENGTHS.size
            contents[chunk[at : at + key_size]] = chunk[at + key_size : at + key_size + value_size]
            at += key_size + value_size
    return contents
