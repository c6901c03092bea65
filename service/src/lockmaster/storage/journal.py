"""The journal: the Raft log in append-only segment files (service.md §5, FORMAT.md §3).

Theory of operation. One Persist that touches the log is one frame and one pwrite on an O_DSYNC descriptor. `begin`
(loop thread) encodes it and gives it number, place and crc; `Write.run` (any one thread, in order) makes it durable;
`finish` (loop thread) lets reads and deletion see it. Nothing is rewritten: an ENTRY or TRUNCATE supersedes.

Laws.
1. Frame numbers rise by one, across segments and boots; number n is written only when n - 1 is durable.
2. A segment's opening, its content's preallocation and its name are durable before the first frame in it is written.
3. A segment is deleted only from the oldest end, not being the current one, when every entry in it is at or below the
   index of the latest synced BASE.
4. After a failure of any write or sync, every later `begin` and `run` fails: the process must exit.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from lockmaster_raft.entry import Entry
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index, Term
from lockmaster_raft.ready import Base, HardState, Persist

from lockmaster.storage.boot import BootedJournal, boot
from lockmaster.storage.errors import CorruptLog, StorageFailed
from lockmaster.storage.files import Files
from lockmaster.storage.frame import (
    FRAME_BYTES_MAX,
    FRAME_MAGIC,
    FRAME_OVERHEAD,
    Record,
    SegmentHeader,
    Truncate,
    encode_base,
    encode_entries,
    encode_frame,
    encode_truncate,
    padded,
    parse_frame,
)
from lockmaster.storage.guard import GuardFile, Marker
from lockmaster.storage.housekeeper import Housekeeper
from lockmaster.storage.log_index import LogIndex
from lockmaster.storage.segment import derive_segment_id, encode_opening, records_at, segment_name

SEGMENT_BYTES: Final = 32 << 20
WITNESS_SEGMENT_BYTES: Final = 8 << 20
"""Size of a segment file; a larger frame gets a larger one."""


class Write:
    """One Persist on its way to the disk. Made by Journal.begin; run once, in order."""

    __slots__ = (
        "base",
        "crc",
        "data",
        "done",
        "hard_state",
        "journal",
        "kept",
        "level",
        "number",
        "offset",
        "opening",
        "records",
        "segment",
    )

    def __init__(self, journal: Journal, hard_state: HardState | None, level: int | None, kept: Index) -> None:
        self.journal = journal
        self.hard_state = hard_state
        self.level = level
        self.data: bytes | None = None
        self.number = 0
        self.segment = 0
        self.offset = 0
        self.crc = 0
        self.opening: tuple[int, bytes, int] | None = None
        """(segment, opening bytes, segment size) if this frame is the first of a new segment."""
        self.records: list[Record] = []
        self.done = False
        self.kept = kept
        """The log up to here stays as it is."""

    def run(self) -> None:
        """Make it durable: hard state, level in both guard slots, then the frame. Raises StorageFailed: exit then."""
        self.journal.write(self)


class Journal:
    """The open journal; a lockmaster_raft.storage.LogStore. Use from the loop thread, except Write.run."""

    def __init__(
        self,
        files: Files,
        directory: str,
        guard: GuardFile,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        threads: bool = True,
    ) -> None:
        self._files = files
        self._directory = directory
        self._guard = guard
        self._segment_bytes = segment_bytes
        booted: BootedJournal = boot(files, directory, guard.state.mark)
        self._index: LogIndex = booted.index
        self._entry_max: dict[int, int] = booted.entry_max
        self._sizes: dict[int, int] = booted.sizes
        self._next_number = booted.last_number + 1
        self._segment = booted.last_segment
        self._offset = booted.end
        self._crc = booted.crc
        self._size = 0
        self._segment_id = 0
        self._handle = -1
        self._begun_last: Index = booted.index.last_index
        self._begun_base: Base = booted.index.base
        self._placed_last, self._placed_base = self._begun_last, self._begun_base
        self._pending: deque[Write] = deque()
        self._protected = Index(0)
        self._failed: StorageFailed | None = None
        self._housekeeper: Housekeeper | None = None
        self._marker: Marker | None = None
        for path in booted.leftovers:
            files.unlink(path)
            files.sync_dir(directory)
        self._written = booted.last_number
        self._roll(None, 0)
        if booted.last_segment and files.size(self._path(booted.last_segment)) > booted.end:
            files.trim(self._path(booted.last_segment), booted.end)
        if threads:
            self._housekeeper = Housekeeper(files, directory)
            self._housekeeper.prepare(self._path(self._segment + 1), segment_bytes)
            self._marker = Marker(guard, booted.last_number)

    # Reads (LogStore).

    @property
    def base(self) -> Base:
        """The latest durable base."""
        return self._index.base

    @property
    def last_index(self) -> Index:
        """Index of the last finished entry, or base.index: this member's durable index."""
        return self._index.last_index

    @property
    def durable_index(self) -> Index:
        """Up to here the log is on this disk and no begun write supersedes any of it: the state may hold that much.

        An entry of the same index that waits to be superseded is not the one that was committed and applied.
        """
        return Index(min((write.kept for write in self._pending), default=self._index.last_index))

    @property
    def last_term(self) -> Term:
        """Term at last_index."""
        return self._index.last_term

    @property
    def last_number(self) -> int:
        """Number of the last frame begun."""
        return self._next_number - 1

    @property
    def log_bytes(self) -> int:
        """Bytes of frames in all segments: what retention budgets count."""
        return sum(self._sizes.values()) + self._offset

    def closed_segments(self) -> list[tuple[str, int, int]]:
        """(path, number, end) of each segment that holds frames and that no write is changing now: for the scrub."""
        ends = dict(self._sizes)
        if not self._pending:
            ends[self._segment] = self._offset
        return [(self._path(segment), segment, end) for segment, end in sorted(ends.items())]

    def term(self, index: Index) -> Term | None:
        """Term of the entry at `index` (base.index included), or None if it is not in the store."""
        return self._index.term(index)

    def entries(self, first: Index, stop: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Entries first … stop - 1, cut after the one that reaches `bytes_max`. Raises StorageFailed, CorruptLog."""
        if first <= self.base.index:
            raise InvariantViolation(f"read of index {first} at or below base {self.base.index}")
        found: list[Entry] = []
        size, at, stop = 0, first, min(stop, Index(self.last_index + 1))
        while at < stop and size < bytes_max:
            for entry in self._read_frame(at, stop):
                found.append(entry)
                size += entry.size
                at = Index(at + 1)
                if size >= bytes_max:
                    break
        return tuple(found)

    def _read_frame(self, first: Index, stop: Index) -> list[Entry]:
        segment, offset, after = self._index.place(first)
        path = self._path(segment)
        data = self._files.read(path, offset, 64 << 10)
        frame = parse_frame(data, 0)
        if frame is None:  # longer than the first guess, or damaged since boot
            data = self._files.read(path, offset, padded(_frame_size(data)))
            frame = parse_frame(data, 0)
        if frame is None:
            raise CorruptLog(f"{path}: offset {offset}: the frame that held entry {first} is damaged")
        live = [
            r for r in records_at(path, offset, frame) if isinstance(r, Entry) and first <= r.index < min(stop, after)
        ]
        live = [e for e in live if e.term == self._index.term(e.index)]
        if not live or live[0].index != first:
            raise CorruptLog(f"{path}: offset {offset}: entry {first} is not in its frame")
        return live

    # Writes.

    def protect(self, index: Index) -> None:
        """Entries up to `index` have been applied here: to supersede one of them is a bug that stops the process."""
        if index > self._protected:
            self._protected = index

    def begin(self, persist: Persist) -> Write:
        """Encode one Persist and give it its place. Raises InvariantViolation for one that breaks a law of the log."""
        if self._failed is not None:
            raise self._failed
        write = Write(self, persist.hard_state, persist.level, self._begun_last)
        records, parts = write.records, list[bytes]()
        if persist.truncate_from is not None and persist.truncate_from <= self._begun_last:
            self._check_supersede(persist.truncate_from)
            records.append(Truncate(persist.truncate_from))
            parts.append(encode_truncate(persist.truncate_from))
            self._begun_last = write.kept = Index(persist.truncate_from - 1)
        if persist.entries:
            self._begin_entries(persist.entries)
            write.kept = min(write.kept, Index(persist.entries[0].index - 1))
            records += persist.entries
            encode_entries(persist.entries, parts)
        if persist.base is not None and persist.base.index > self._begun_base.index:
            base = persist.base
            if base.index > self._begun_last or self._begun_term(write, base.index) != base.term:
                if base.index < self._begun_last:
                    records.append(Truncate(Index(base.index + 1)))
                    parts.append(encode_truncate(Index(base.index + 1)))
                self._begun_last = base.index  # LogIndex.set_base empties the log there
                write.kept = min(write.kept, self._begun_base.index)
            records.append(base)
            parts.append(encode_base(base))
            self._begun_base = base
        if parts:
            self._place(write, b"".join(parts))
        self._pending.append(write)
        return write

    def finish(self, write: Write) -> None:
        """Take a run Write into the index: it can be read, and segments it frees are deleted. In order."""
        if not write.done or not self._pending or self._pending.popleft() is not write:
            raise InvariantViolation("a write was finished out of order or before it was run")
        if write.data is None:
            return
        self._index.apply(write.records, write.segment, write.offset)
        entry_max = max((r.index for r in write.records if isinstance(r, Entry)), default=0)
        self._entry_max[write.segment] = max(self._entry_max.get(write.segment, 0), entry_max)
        if any(isinstance(r, Base) for r in write.records):
            try:
                self._delete_covered(write.segment)
            except StorageFailed as error:
                self._failed = error
                raise

    def close(self) -> None:
        """Stop the threads, write the last mark, close the segment."""
        if self._marker is not None:
            self._marker.close()
        elif self._failed is None:
            self._guard.write_mark(self._written)
        if self._housekeeper is not None:
            self._housekeeper.close()
        if self._handle >= 0:
            self._files.close(self._handle)
            self._handle = -1

    def write(self, write: Write) -> None:
        """Write.run. One thread at a time."""
        if self._failed is not None:
            raise self._failed
        try:
            if self._housekeeper is not None and self._housekeeper.failure is not None:
                raise self._housekeeper.failure
            if write.hard_state is not None and write.hard_state != self._guard.state.hard_state:
                self._guard.set_hard_state(write.hard_state)
            if write.level is not None:
                self._guard.set_level(write.level)
            if write.data is not None:
                if write.opening is not None:
                    self._open_segment(*write.opening)
                self._write_frame(write.number, write.offset, write.data)
        except StorageFailed as error:
            self._failed = error
            raise
        write.done = True

    def _begin_entries(self, entries: tuple[Entry, ...]) -> None:
        first = entries[0].index
        if first <= self._begun_last:
            self._check_supersede(first)
            old = self._begun_term(None, first)
            if old is not None and entries[0].term <= old:
                raise InvariantViolation(f"entry {first} of term {entries[0].term} would supersede one of term {old}")
        elif first != self._begun_last + 1:
            raise InvariantViolation(f"append of {first} after {self._begun_last}")
        if entries[-1].index != first + len(entries) - 1:
            raise InvariantViolation(f"entries {first} … {entries[-1].index} are not contiguous")
        self._begun_last = entries[-1].index

    def _check_supersede(self, index: Index) -> None:
        floor = max(self._begun_base.index, self._protected)
        if index <= floor:
            raise InvariantViolation(f"entry {index} would be superseded, but everything up to {floor} is committed")

    def _begun_term(self, current: Write | None, index: Index) -> Term | None:
        """Term at `index` as it will be once every begun write is finished. Rare; walks what is pending."""
        writes = [*self._pending, current] if current is not None else list(self._pending)
        for write in reversed(writes):
            for record in reversed(write.records):
                if isinstance(record, Truncate):
                    if record.index <= index:
                        return None
                elif isinstance(record, Entry | Base) and record.index == index:
                    return record.term
        return self._index.term(index)

    def _place(self, write: Write, records: bytes) -> None:
        write.number = self._next_number
        size = padded(FRAME_OVERHEAD + len(records))
        if self._offset + size > self._size:
            self._roll(write, size)
        write.segment, write.offset = self._segment, self._offset
        write.data, write.crc = encode_frame(FRAME_MAGIC, write.number, self._segment_id, self._crc, records)
        self._crc = write.crc
        self._offset += size
        self._next_number += 1
        self._placed_last, self._placed_base = self._begun_last, self._begun_base

    def _roll(self, write: Write | None, room: int) -> None:
        """Move to the next segment; its opening is written by the run of `write`, or by the boot."""
        if self._segment:
            self._sizes[self._segment] = self._offset
        segment = self._segment + 1
        nonce = self._guard.state.boot_nonce
        segment_id = derive_segment_id(nonce, segment)
        header = SegmentHeader(
            segment, segment_id, nonce, self._next_number, self._offset, self._crc, self._placed_last
        )
        opening, crc = encode_opening(header, self._placed_base)
        size = max(self._segment_bytes, len(opening) + room)
        self._segment, self._segment_id, self._size = segment, segment_id, size
        self._offset, self._crc = len(opening), crc
        if write is not None:
            write.opening = (segment, opening, size)
        else:
            self._open_segment(segment, opening, size)

    def _open_segment(self, segment: int, opening: bytes, size: int) -> None:
        path = self._path(segment)
        if self._housekeeper is None:
            self._files.create_zeroed(path, size)
            self._files.sync_dir(self._directory)
        else:
            prepared, prepared_size = self._housekeeper.take()
            if prepared != path:
                raise StorageFailed(f"{path}: {prepared} was prepared in its place")
            if prepared_size < size:  # a frame larger than a segment: rare, so made here
                self._files.create_zeroed(path, size)
            self._housekeeper.prepare(self._path(segment + 1), self._segment_bytes)
        if self._handle >= 0:
            self._files.close(self._handle)
        self._handle = self._files.open_sync(path)
        self._files.write(self._handle, 0, opening)

    def _write_frame(self, number: int, offset: int, data: bytes) -> None:
        marker = self._marker
        if marker is not None:
            marker.frame_starts()
            self._files.write(self._handle, offset, data)
            marker.frame_done(number)
        else:
            self._guard.write_mark(self._written)
            self._files.write(self._handle, offset, data)
        self._written = number

    def _delete_covered(self, current: int) -> None:
        """Law 3. Bounded by the number of segments."""
        for segment in sorted(self._sizes):
            if segment >= current or self._entry_max.get(segment, 0) > self.base.index:
                return
            del self._sizes[segment]
            self._entry_max.pop(segment, None)
            path = self._path(segment)
            if self._housekeeper is not None:
                self._housekeeper.delete(path)
            else:
                self._files.unlink(path)
                self._files.sync_dir(self._directory)

    def _path(self, segment: int) -> str:
        return f"{self._directory}/{segment_name(segment)}"


def _frame_size(data: bytes) -> int:
    """Bytes of the frame that these bytes begin, by its own length field, bounded."""
    length = int.from_bytes(data[4:8], "big")
    return min(FRAME_OVERHEAD + length, FRAME_BYTES_MAX)
