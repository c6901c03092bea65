"""Primitives of the command and record formats: big-endian integers, length-prefixed bytes and UTF-8 text.

Each value has one encoding and a decoder accepts no other, so decode-then-encode gives the same bytes back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from lockmaster.statemachine.faults import InvalidEntry

U64: Final = struct.Struct(">Q")
U32: Final = struct.Struct(">I")


def pack_bytes(value: bytes) -> bytes:
    """u32 length, then the bytes."""
    return U32.pack(len(value)) + value


def pack_text(value: str) -> bytes:
    """u32 length, then UTF-8."""
    return pack_bytes(value.encode())


def pack_ids(ids: Iterable[int]) -> bytes:
    """u32 count, then u64 each."""
    numbers = tuple(ids)
    return struct.pack(f">I{len(numbers)}Q", len(numbers), *numbers)


class Reader:
    """Reads values one after the other; anything short, long or out of form is InvalidEntry."""

    __slots__ = ("data", "offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self.data = data
        self.offset = offset

    def raw(self, size: int) -> bytes:
        """The next `size` bytes."""
        start = self.offset
        self.offset = stop = start + size
        if stop > len(self.data):
            raise InvalidEntry(f"{size} bytes wanted at {start}, {len(self.data) - start} left")
        return self.data[start:stop]

    def u64(self) -> int:
        """An unsigned 64-bit integer."""
        return int.from_bytes(self.raw(8), "big")

    def u32(self) -> int:
        """An unsigned 32-bit integer."""
        return int.from_bytes(self.raw(4), "big")

    def flag(self) -> bool:
        """One byte, 0 or 1."""
        value = self.raw(1)[0]
        if value > 1:
            raise InvalidEntry(f"flag byte {value} at {self.offset - 1}")
        return value == 1

    def sized(self) -> bytes:
        """Length-prefixed bytes."""
        return self.raw(self.u32())

    def text(self) -> str:
        """Length-prefixed UTF-8."""
        try:
            return self.sized().decode()
        except UnicodeDecodeError as error:
            raise InvalidEntry(f"text before {self.offset} is not UTF-8") from error

    def ids(self) -> tuple[int, ...]:
        """u32 count and that many u64."""
        count = self.u32()
        return tuple(value for (value,) in U64.iter_unpack(self.raw(8 * count)))

    def finish(self) -> None:
        """Check that nothing is left."""
        if self.offset != len(self.data):
            raise InvalidEntry(f"{len(self.data) - self.offset} bytes too many")
