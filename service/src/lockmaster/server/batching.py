"""Group commit's pure half: what waits for the next entry, when it is formed, and what is in flight.

Everything that waits becomes one entry (performance.md): the leader's own write and the followers' round trip are
paid once for all of it. Nothing lingers: a lone write forms its entry at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lockmaster.errors import LockmasterError
from lockmaster.statemachine.commands import (
    CancelAcquire,
    CloseSession,
    Command,
    Compact,
    Delete,
    OpenSession,
    Release,
    Result,
)

Done = Callable[[Result | LockmasterError], None]

BATCH_OPERATIONS_MAX: Final = 512
"""Most commands of one entry: at 8 µs each, applying them stays below the 5 ms slice."""
BATCH_BYTES_MAX: Final = 1 << 20
"""Bytes after which a batch is closed; one larger command travels alone."""
QUEUE_OPERATIONS_MAX: Final = 32_768
QUEUE_BYTES_MAX: Final = 64 << 20
"""Most commands and bytes that wait; what comes on top is Overloaded."""
RESERVED_OPERATIONS_MAX: Final = 32_768
"""As many again for reserved commands (keepalive, release, expiry), which would otherwise end every session."""


@dataclass(slots=True)
class Batch:
    """One entry's commands with their callbacks, in order."""

    commands: list[Command]
    encoded: list[bytes]
    dones: list[Done | None]
    reserved: bool
    term: int = 0
    """Term of the entry once appended."""
    formed_ns: int = 0
    """When it was formed (perf_counter_ns), where metrics are on."""


class ProposalQueue:
    """Commands waiting for the next entry, bounded."""

    __slots__ = ("_waiting", "size")

    def __init__(self) -> None:
        self._waiting: deque[tuple[Command, bytes, Done | None, bool]] = deque()
        self.size = 0
        """Encoded bytes that wait."""

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, command: Command, encoded: bytes, done: Done | None, reserved: bool) -> bool:
        """Queue it; False (and nothing done) when the stated maximum is reached."""
        count = len(self._waiting)
        if count >= QUEUE_OPERATIONS_MAX or self.size + len(encoded) > QUEUE_BYTES_MAX:
            if not reserved or count >= QUEUE_OPERATIONS_MAX + RESERVED_OPERATIONS_MAX:
                return False
        self._waiting.append((command, encoded, done, reserved))
        self.size += len(encoded)
        return True

    def take(self) -> Batch | None:
        """The next batch, or None when nothing waits."""
        waiting = self._waiting
        if not waiting:
            return None
        commands: list[Command] = []
        parts: list[bytes] = []
        dones: list[Done | None] = []
        any_reserved, size = False, 0
        while waiting and len(commands) < BATCH_OPERATIONS_MAX:
            command, encoded, done, reserved = waiting[0]
            if commands and size + len(encoded) > BATCH_BYTES_MAX:
                break
            waiting.popleft()
            commands.append(command)
            parts.append(encoded)
            dones.append(done)
            any_reserved |= reserved
            size += len(encoded)
        self.size -= size
        return Batch(commands, parts, dones, any_reserved)

    def drain(self) -> list[Done]:
        """Empty the queue; the callbacks that must be told."""
        dones = [done for _, _, done, _ in self._waiting if done is not None]
        self._waiting.clear()
        self.size = 0
        return dones


_FREES_ROOM: Final = (Delete, Compact, CloseSession, CancelAcquire, Release)
SESSIONS_FREE_BYTES: Final = 64 << 20
"""With less room than this no session is opened any more; with more it is, for nobody deletes without one."""


def admitted_when_full(command: Command, reserved: bool, free_bytes: int) -> bool:
    """May this be proposed on a nearly full disk? Reserved kinds, what frees room, and what that needs."""
    if isinstance(command.operation, OpenSession):
        return free_bytes >= SESSIONS_FREE_BYTES
    return reserved or isinstance(command.operation, _FREES_ROOM)


def may_form(writes_in_flight: int, commit_index: int, last_index: int) -> bool:
    """Form the next entry now? Own sync done, or everything before it committed (a slow own disk delays nobody)."""
    return writes_in_flight == 0 or commit_index >= last_index
