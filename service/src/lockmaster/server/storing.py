"""When applied state is stored and flushed. Pure; the engine does it.

Storing (one RocksDB batch, no sync) comes after the answers, at most 100 ms later. Flushing (to disk for good) is
due after so much log or so many commands that a restart replays within seconds; members start at different offsets so
that three of them don't flush at once.
"""

from __future__ import annotations

from typing import Final

STORE_INTERVAL: Final = 0.1
"""Seconds between an apply and the storing of what it wrote, at most."""
FLUSH_LOG_BYTES: Final = 64 << 20
FLUSH_COMMANDS: Final = 200_000
FLUSH_RETRY_INTERVAL: Final = 0.1
IDLE_FLUSH_INTERVAL: Final = 600.0
"""Seconds after which an applied but unflushed state is flushed although little was written."""


class FlushSchedule:
    """Counts what was applied since the last flush."""

    __slots__ = ("_bytes", "_commands", "_last_flush")

    def __init__(self, member_id: int, now: float) -> None:
        third = member_id % 3
        self._bytes = FLUSH_LOG_BYTES * third // 3
        self._commands = FLUSH_COMMANDS * third // 3
        self._last_flush = now

    def applied(self, commands: int, size: int) -> None:
        """One more entry was applied."""
        self._commands += commands
        self._bytes += size

    def due(self, now: float) -> bool:
        """Flush now?"""
        if self._bytes >= FLUSH_LOG_BYTES or self._commands >= FLUSH_COMMANDS:
            return True
        return self._commands > 0 and now - self._last_flush >= IDLE_FLUSH_INTERVAL

    def begun(self, now: float) -> None:
        """A flush covers everything counted so far."""
        self._bytes = 0
        self._commands = 0
        self._last_flush = now
