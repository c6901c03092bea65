"""Cutting a byte stream into length-prefixed frames, with a limit that holds before any memory is spent."""

from __future__ import annotations

import struct
from typing import Final

LENGTH: Final = struct.Struct(">I")
"""Before each frame: how many bytes it has."""


class Malformed(Exception):
    """Bytes from the other side that are not a message; the text says what is wrong, `reason` is a word for counts.

    A word of a fixed set: shape, range, length, kind, checksum.
    """

    def __init__(self, text: str, reason: str = "shape") -> None:
        super().__init__(text)
        self.reason = reason


class FrameCutter:
    """Feed it what arrives, get whole frames (without their length prefix). Holds at most one incomplete frame."""

    __slots__ = ("_rest", "_wanted", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._rest = bytearray()
        self._wanted = LENGTH.size
        """Bytes that must be there before cutting is worth another look."""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes. Raises Malformed when a length is beyond the limit; feed no more then."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        frames: list[bytes] = []
        at, end = 0, len(data)
        while end - at >= LENGTH.size:
            (size,) = LENGTH.unpack_from(data, at)
            if size > self.frame_bytes_max:
                raise Malformed(f"frame of {size} bytes, limit {self.frame_bytes_max}", "length")
            stop = at + LENGTH.size + size
            if stop > end:
                self._wanted = stop - at
                self._rest += data[at:]
                return frames
            frames.append(data[at + LENGTH.size : stop])
            at = stop
        if at < end:
            self._wanted = LENGTH.size
            self._rest += data[at:]
        return frames

    @property
    def held_size(self) -> int:
        """Bytes of the incomplete frame held."""
        return len(self._rest)
