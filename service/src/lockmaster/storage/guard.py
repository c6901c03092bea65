"""The guard file: the only home of identity, term, vote, level and the journal's mark (FORMAT.md §2).

Two slots of one sector, 4096 bytes apart, each with sequence and crc; the valid one with the higher sequence counts.
A change of identity, term, vote, level or boot nonce goes to both slots, one after the other, before the call returns:
so damage to either slot leaves the other with the same hard state. A mark goes to one slot, in turn, and carries the
same hard state. Law: slots differ in nothing but sequence and mark once a call has returned.
"""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass, replace
from typing import Final
from zlib import crc32

from lockmaster_raft.ids import NO_NODE, NodeId, Term
from lockmaster_raft.ready import HardState

from lockmaster.storage.errors import CorruptLog, StorageFailed
from lockmaster.storage.files import Files
from lockmaster.storage.format import write_format

GUARD_NAME: Final = "guard"
SLOT_SIZE: Final = 512
SLOT_DISTANCE: Final = 4096
GUARD_SIZE: Final = 2 * SLOT_DISTANCE
_MAGIC: Final = b"LMGUARD1"
_SLOT: Final = struct.Struct(">8sQB16sQ16sQQQIQ")
_CRC: Final = struct.Struct(">I")
MARK_SECONDS: Final = 0.01
"""A mark is begun this long after the first frame that no mark covers."""


@dataclass(frozen=True, slots=True)
class GuardState:
    """What one slot says."""

    cluster_id: bytes | None
    member_id: NodeId
    incarnation: bytes
    boot_nonce: int
    hard_state: HardState
    level: int
    mark: int
    """Number of the last journal frame known to be complete."""


def encode_slot(sequence: int, state: GuardState) -> bytes:
    """One slot's bytes."""
    s = state
    known = s.cluster_id is not None
    cluster = s.cluster_id or bytes(16)
    hard = (s.hard_state.term, s.hard_state.voted_for)
    body = _SLOT.pack(
        _MAGIC, sequence, known, cluster, s.member_id, s.incarnation, s.boot_nonce, *hard, s.level, s.mark
    )
    return (body + _CRC.pack(crc32(body))).ljust(SLOT_SIZE, b"\0")


def decode_slot(data: bytes) -> tuple[int, GuardState] | None:
    """(sequence, state) of a valid slot, else None."""
    if len(data) < _SLOT.size + _CRC.size:
        return None
    magic, sequence, known, cluster, member, incarnation, nonce, term, vote, level, mark = _SLOT.unpack_from(data)
    if magic != _MAGIC or _CRC.unpack_from(data, _SLOT.size)[0] != crc32(data[: _SLOT.size]):
        return None
    hard_state = HardState(Term(term), NodeId(vote))
    cluster_id = cluster if known else None
    return sequence, GuardState(cluster_id, NodeId(member), incarnation, nonce, hard_state, level, mark)


class GuardFile:
    """The open guard file. Thread-safe: one lock, so hard state and marks never write at once."""

    def __init__(self, files: Files, path: str, handle: int, sequence: int, state: GuardState) -> None:
        self._files = files
        self.path = path
        self.level_floor = state.level
        """Lowest level of a binary that can open the directory: what guard file and FORMAT ask for, the higher one."""
        self._handle = handle
        self._sequence = sequence
        self._state = state
        self._lock = threading.Lock()
        self._failed: StorageFailed | None = None

    @classmethod
    def create(cls, files: Files, directory: str, incarnation: bytes) -> GuardFile:
        """A new guard file without identity, both slots and the name durable."""
        path = f"{directory}/{GUARD_NAME}"
        files.create_zeroed(path, GUARD_SIZE)
        state = GuardState(None, NO_NODE, incarnation, 0, HardState(Term(0), NO_NODE), 1, 0)
        guard = cls(files, path, files.open_sync(path), 0, state)
        guard._both(state)
        files.sync_dir(directory)
        return guard

    @classmethod
    def open(cls, files: Files, directory: str) -> GuardFile:
        """The guard file as found; CorruptLog if it is missing or no slot is valid."""
        path = f"{directory}/{GUARD_NAME}"
        if not files.exists(path):
            raise CorruptLog(f"{path}: the guard file is missing; this member cannot know its term and vote")
        found = [decode_slot(files.read(path, slot * SLOT_DISTANCE, SLOT_SIZE)) for slot in (0, 1)]
        valid = [slot for slot in found if slot is not None]
        if not valid:
            raise CorruptLog(f"{path}: no valid slot at offset 0 or {SLOT_DISTANCE}")
        sequence, state = max(valid, key=lambda slot: slot[0])
        # kill -9 may leave the newest slot in the page cache only: it counts once it is on the disk.
        files.sync_file(path)
        return cls(files, path, files.open_sync(path), sequence, state)

    @property
    def state(self) -> GuardState:
        """What the file says now."""
        return self._state

    def set_identity(self, cluster_id: bytes, member_id: NodeId) -> None:
        """Give this data directory its place, durably. Raises StorageFailed."""
        with self._lock:
            self._both(replace(self._state, cluster_id=cluster_id, member_id=member_id))

    def set_hard_state(self, hard_state: HardState) -> None:
        """Term and vote, in both slots when it returns. Raises StorageFailed."""
        with self._lock:
            self._both(replace(self._state, hard_state=hard_state))

    def set_level(self, level: int) -> None:
        """The level this member has promised, in both slots and in FORMAT when it returns. Raises StorageFailed.

        A crash between the two leaves them different: then a binary below either refuses, and any other one's boot
        makes FORMAT say what the guard says.
        """
        with self._lock:
            self.level_floor = max(self.level_floor, level)
            self._both(replace(self._state, level=level))
            write_format(self._files, os.path.dirname(self.path), level)
            self.level_floor = level

    def set_boot_nonce(self, boot_nonce: int) -> None:
        """The nonce of this boot. Repairs a damaged slot, since both are written."""
        with self._lock:
            self._both(replace(self._state, boot_nonce=boot_nonce))

    def reset(self) -> None:
        """Term, vote and mark back to nothing: only for a directory without identity, after an aborted genesis."""
        with self._lock:
            self._both(replace(self._state, hard_state=HardState(Term(0), NO_NODE), mark=0))

    def write_mark(self, number: int) -> None:
        """Note that frame `number` is complete, in the slot whose turn it is. Raises StorageFailed."""
        with self._lock:
            if number > self._state.mark:
                self._one(replace(self._state, mark=number))

    def close(self) -> None:
        """Close the descriptor."""
        with self._lock:
            if self._handle >= 0:
                self._files.close(self._handle)
                self._handle = -1

    def _both(self, state: GuardState) -> None:
        self._one(state)
        self._one(state)

    def _one(self, state: GuardState) -> None:
        if self._failed is not None:
            raise self._failed
        sequence = self._sequence + 1
        try:
            self._files.write(self._handle, (sequence % 2) * SLOT_DISTANCE, encode_slot(sequence, state))
        except StorageFailed as error:
            self._failed = error  # no second try on this file in this process
            raise
        self._sequence = sequence
        self._state = state


class Marker:
    """Writes marks in its own thread, each at most MARK_SECONDS after the frame that it covers was completed.

    Beside a busy journal one mark covers all frames of that time: a mark a frame would double the device's syncs for
    nothing, since a damaged frame with a valid one after it is known as corruption without any mark.
    Law: written mark <= completed frame. A failure is kept and raised by the next `frame_starts`.
    """

    def __init__(self, guard: GuardFile, completed: int) -> None:
        self._guard = guard
        self._completed = completed
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.failure: StorageFailed | None = None
        self._thread = threading.Thread(target=self._run, name="lockmaster-marker", daemon=True)
        self._thread.start()

    def frame_starts(self) -> None:
        """A frame is about to be written."""
        if self.failure is not None:
            raise self.failure

    def frame_done(self, number: int) -> None:
        """Frame `number` is durable."""
        self._completed = number
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Stop the thread and leave the last mark written."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        if self.failure is None:
            self._guard.write_mark(self._completed)

    def _run(self) -> None:
        while not self._closing.is_set():  # ends on close(); each turn waits
            self._wake.wait()
            if self._closing.wait(MARK_SECONDS):
                return
            self._wake.clear()
            completed = self._completed
            try:
                self._guard.write_mark(completed)
            except StorageFailed as error:
                self.failure = error
                return
