"""The log as the core sees it: unpersisted and cached entries in memory over a LogStore.

Theory of operation. Everything the host was told to write, and that is not yet reported durable, is kept here; so
are recent durable entries, up to a byte budget, for sending and applying. Older entries are read from the store.

Laws:
- base.index <= durable_index <= last_index; entries are contiguous above base.index.
- An index is durable only if its *latest* write has a sequence <= the one reported (raft.md §1): a truncation clips
  the pending writes before it, so their completion says nothing about what replaced them.
- Terms never fall with the index: term searches are binary.
- `configurations` and `gates` hold every CONFIG and GATE above the base: truncation rolls back any number of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import Final

from lockmaster_raft.entry import CONFIG, GATE, Entry
from lockmaster_raft.errors import CorruptLog, InvariantViolation, StorageFailed
from lockmaster_raft.gates import check_supported, decode_gate, fold
from lockmaster_raft.ids import Index, Nanos, PersistSeq, Term
from lockmaster_raft.membership import LEVEL_MAX, LEVEL_MIN, Configuration, Levels, decode_configuration
from lockmaster_raft.ready import Base
from lockmaster_raft.storage import LogStore

_SCAN_BYTES: Final = 4 << 20
_MARK_EVERY: Final = 128
_MARK_BYTES: Final = 128 << 10
"""A mark at every so many entries, or bytes: what is told of the log's bytes is precise to one of them."""
"""Entries between two byte marks; retention is counted to this precision."""


class _Write:
    """One pending write: entries first … last of Persist `seq` (empty once clipped below first)."""

    __slots__ = ("first", "last", "seq", "size")

    def __init__(self, seq: PersistSeq, first: int, last: int, size: int) -> None:
        self.seq = seq
        self.first = first
        self.last = last
        self.size = size


class RaftLog:
    """See the module's text. Owned and mutated by one Core only."""

    def __init__(
        self, store: LogStore, cache_bytes_max: int, level_min: int = LEVEL_MIN, level_max: int = LEVEL_MAX
    ) -> None:
        self._store = store
        self._level_min = level_min
        self._level_max = level_max
        self._cache_bytes_max = cache_bytes_max
        self.base: Base = store.base
        self.last_index: Index = store.last_index
        last_term = store.term(store.last_index)
        if last_term is None:
            raise CorruptLog(f"the store has no term for its last index {store.last_index}")
        self.last_term: Term = last_term
        self.durable_index: Index = store.last_index
        self.unsynced_bytes = 0
        self.last_time: Nanos = Nanos(0)
        self._cache: list[Entry] = []
        self._cache_first: int = store.last_index + 1
        self._cache_bytes = 0
        self._writes: deque[_Write] = deque()
        self._bytes_total = 0
        self._mark_indexes: list[int] = [self.base.index]
        self._mark_bytes: list[int] = [0]
        self.configurations: list[tuple[Index, Configuration]] = [
            (self.base.configuration_index, self.base.configuration)
        ]
        self.gates: list[tuple[Index, Levels]] = [self._gate_of(self.base)]
        self._scan()

    def _scan(self) -> None:
        """At boot, once: configurations, byte marks and the last stamp of what the store holds."""
        first = self.base.index + 1
        while first <= self.last_index:
            for entry in self._store.entries(Index(first), Index(self.last_index + 1), _SCAN_BYTES):
                if entry.index != first:
                    raise CorruptLog(f"the store gave index {entry.index} where {first} was due")
                self._note(entry)
                first += 1

    def _note(self, entry: Entry) -> None:
        if entry.kind is CONFIG:
            self.configurations.append((entry.index, decode_configuration(entry.payload)))
        elif entry.kind is GATE:
            levels = fold(self.levels, entry.index, decode_gate(entry.payload))
            check_supported(levels, self._level_min, self._level_max, f"entry {entry.index}")
            self.gates.append((entry.index, levels))
        self._bytes_total += entry.size
        if entry.index % _MARK_EVERY == 0 or self._bytes_total - self._mark_bytes[-1] >= _MARK_BYTES:
            self._mark_indexes.append(entry.index)
            self._mark_bytes.append(self._bytes_total)
        if entry.leader_time > self.last_time:
            self.last_time = entry.leader_time

    def _gate_of(self, base: Base) -> tuple[Index, Levels]:
        check_supported(base.levels, self._level_min, self._level_max, f"the log's base {base.index}")
        return base.levels.index, base.levels

    # --- reading -------------------------------------------------------------------------------------------------

    def term(self, index: int) -> Term | None:
        """Term of the entry at `index` (base.index included), or None when it is outside the log."""
        if index == self.last_index:
            return self.last_term
        if index >= self._cache_first:
            return self._cache[index - self._cache_first].term if index < self.last_index else None
        if index == self.base.index:
            return self.base.term
        if index < self.base.index:
            return None
        term = self._store.term(Index(index))
        if term is None:
            raise StorageFailed(f"index {index} is not in the store (base {self.base.index}, last {self.last_index})")
        return term

    def term_at(self, index: int) -> Term:
        """Term of an index that must be in the log."""
        term = self.term(index)
        if term is None:
            raise InvariantViolation(f"index {index} is outside the log ({self.base.index}, {self.last_index}]")
        return term

    def entries(self, first: int, stop: int, count_max: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries first … stop - 1, at most `count_max`, cut after the one that reaches `bytes_max`."""
        stop = min(stop, first + count_max, self.last_index + 1)
        if stop <= first:
            return ()
        if first < self._cache_first:
            stop = min(stop, self._cache_first)
            found = self._store.entries(Index(first), Index(stop), bytes_max)
            if not found or found[0].index != first:
                raise StorageFailed(f"the store did not give index {first}")
            return found
        start = first - self._cache_first
        chosen = self._cache[start : start + stop - first]
        size = 0
        for count, entry in enumerate(chosen, 1):
            size += len(entry.payload) + 48
            if size >= bytes_max:
                return tuple(chosen[:count])
        return tuple(chosen)

    def last_index_at_most_term(self, term: int, high: int) -> int:
        """Largest index <= `high` whose term is <= `term`, or base.index when there is none above it."""
        low: int = self.base.index
        high = min(high, self.last_index)
        while low < high:
            middle = (low + high + 1) // 2
            if self.term_at(middle) <= term:
                low = middle
            else:
                high = middle - 1
        return low

    def first_index_of_term_at(self, index: int) -> int:
        """Smallest index above the base with the same term as `index`."""
        term = self.term_at(index)
        low, high = self.base.index + 1, index
        while low < high:
            middle = (low + high) // 2
            if self.term_at(middle) >= term:
                high = middle
            else:
                low = middle + 1
        return low

    def bytes_above(self, index: int) -> int:
        """About how many bytes the entries above `index` take (precise to one mark, never too few)."""
        at = bisect_right(self._mark_indexes, index) - 1
        return self._bytes_total - (self._mark_bytes[at] if at >= 0 else 0)

    def index_within_bytes(self, bytes_max: int) -> int:
        """The smallest marked index such that what is above it fits `bytes_max`."""
        for index, before in zip(self._mark_indexes, self._mark_bytes, strict=True):
            if self._bytes_total - before <= bytes_max:
                return index
        return self.last_index

    def is_worth_moving(self, keep: int, entries: int, bytes_max: int) -> bool:
        """Whether to cut up to `keep`: an eighth of `entries`, or of `bytes_max`, goes at once; each cut is a write."""
        moved = keep - self.base.index
        if moved < 1:
            return False
        least = max(1, entries // 8)
        return moved >= least or self.bytes_above(self.base.index) - self.bytes_above(keep) >= max(1, bytes_max // 8)

    def boundaries(self, first: int, last: int, bytes_max: int, entries_max: int, count_max: int) -> list[int]:
        """Ends of at most `count_max` parts of (first, last], one after the other from `first` on, at least one.

        A part has at most `entries_max` entries and about `bytes_max` bytes: entries between two marks count as equal.
        """
        ends, at = list[int](), first
        while at < last and len(ends) < count_max:
            end = min(last, at + entries_max)
            while end - at > 1 and self._bytes_upto(end) - self._bytes_upto(at) > bytes_max:
                end = at + (end - at) // 2
            ends.append(end)
            at = end
        return ends

    def _bytes_upto(self, index: int) -> int:
        """About how many bytes the entries above the first mark take up to `index`."""
        place = bisect_right(self._mark_indexes, index) - 1
        if place < 0:
            return 0
        start, before = self._mark_indexes[place], self._mark_bytes[place]
        if place + 1 < len(self._mark_indexes):
            stop, upto = self._mark_indexes[place + 1], self._mark_bytes[place + 1]
        else:
            stop, upto = self.last_index, self._bytes_total
        return before + (upto - before) * (index - start) // max(1, stop - start)

    @property
    def configuration(self) -> Configuration:
        """The latest configuration in the log, committed or not: effective when appended (§4.1)."""
        return self.configurations[-1][1]

    @property
    def configuration_index(self) -> Index:
        """Index of the latest configuration."""
        return self.configurations[-1][0]

    def configuration_at(self, index: int) -> tuple[Index, Configuration]:
        """The configuration in force at `index`, with its own index."""
        for at, configuration in reversed(self.configurations):
            if at <= index:
                return at, configuration
        return self.configurations[0]

    @property
    def levels(self) -> Levels:
        """The latest gate state in the log, committed or not: what it forbids holds from here on (I9)."""
        return self.gates[-1][1]

    def levels_at(self, index: int) -> Levels:
        """The gate state at `index`: what behaviour there is keyed by."""
        for at, levels in reversed(self.gates):
            if at <= index:
                return levels
        return self.gates[0][1]

    # --- writing -------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry], seq: PersistSeq) -> None:
        """Append entries that Persist `seq` will write."""
        size = 0
        for entry in entries:
            if entry.index != self.last_index + 1 or entry.term < self.last_term:
                raise InvariantViolation(
                    f"append of ({entry.index}, {entry.term}) after ({self.last_index}, {self.last_term})"
                )
            self._note(entry)
            self._cache.append(entry)
            self.last_index = entry.index
            self.last_term = entry.term
            size += len(entry.payload) + 48
        self._cache_bytes += size
        self.unsynced_bytes += size
        writes = self._writes
        if writes and writes[-1].seq == seq and writes[-1].last >= writes[-1].first:
            writes[-1].last = self.last_index
            writes[-1].size += size
        else:
            writes.append(_Write(seq, entries[0].index, self.last_index, size))

    def truncate(self, first: Index) -> None:
        """Drop `first` and everything after it. The caller has checked that none of it is committed."""
        if first <= self.base.index:
            raise InvariantViolation(f"truncation from {first} at or below the base {self.base.index}")
        if first > self.last_index:
            return
        self.last_term = self.term_at(first - 1)
        self.last_index = Index(first - 1)
        self.durable_index = min(self.durable_index, self.last_index)
        if first < self._cache_first:
            dropped, self._cache, self._cache_first = self._cache, [], first
        else:
            keep = first - self._cache_first
            dropped = self._cache[keep:]
            del self._cache[keep:]
        size = sum(entry.size for entry in dropped)
        self._cache_bytes -= size
        self._bytes_total = max(0, self._bytes_total - size)
        while self._mark_indexes and self._mark_indexes[-1] >= first:
            self._mark_indexes.pop()
            self._mark_bytes.pop()
        for write in self._writes:
            write.last = min(write.last, self.last_index)
        while self.configurations[-1][0] >= first and len(self.configurations) > 1:
            self.configurations.pop()
        while self.gates[-1][0] >= first and len(self.gates) > 1:
            self.gates.pop()

    def persisted(self, seq: PersistSeq) -> None:
        """Persist `seq` and all before it are durable."""
        writes = self._writes
        while writes and writes[0].seq <= seq:
            write = writes.popleft()
            self.unsynced_bytes -= write.size
            if write.last >= write.first and write.last > self.durable_index:
                self.durable_index = Index(write.last)
        if self._cache_bytes > self._cache_bytes_max:
            self._evict()

    @property
    def cached_bytes(self) -> int:
        """Bytes of the entries in memory, durable or not."""
        return self._cache_bytes

    def seq_of(self, index: int) -> PersistSeq:
        """The Persist that must be durable before `index` is; 0 when it is already."""
        if index <= self.durable_index:
            return PersistSeq(0)
        for write in reversed(self._writes):
            if write.first <= index <= write.last:
                return write.seq
        raise InvariantViolation(f"index {index} is neither durable (up to {self.durable_index}) nor being written")

    def _evict(self) -> None:
        """Drop the oldest durable entries from memory, down to three quarters of the budget."""
        target, count = self._cache_bytes_max * 3 // 4, 0
        size = self._cache_bytes
        for entry in self._cache:
            if entry.index > self.durable_index or size <= target:
                break
            size -= entry.size
            count += 1
        del self._cache[:count]
        self._cache_first += count
        self._cache_bytes = size

    def move_base(self, base: Base) -> None:
        """The log now starts after base.index: everything up to it lives in the state."""
        if not self.base.index <= base.index <= self.last_index:
            raise InvariantViolation(f"base {base.index} outside [{self.base.index}, {self.last_index}]")
        kept = [c for c in self.configurations if c[0] > base.index]
        self.configurations = [(base.configuration_index, base.configuration), *kept]
        self.gates = [self._gate_of(base), *(g for g in self.gates if g[0] > base.index)]
        self.base = base
        drop = min(max(0, base.index + 1 - self._cache_first), len(self._cache))
        self._cache_bytes -= sum(entry.size for entry in self._cache[:drop])
        del self._cache[:drop]
        self._cache_first += drop
        at = max(0, bisect_right(self._mark_indexes, base.index) - 1)
        below = self._mark_bytes[at] if self._mark_bytes else 0
        self._mark_indexes = self._mark_indexes[at:] or [base.index]
        self._mark_bytes = [b - below for b in self._mark_bytes[at:]] or [0]
        self._bytes_total -= below

    def reset(self, base: Base, seq: PersistSeq) -> None:
        """Replace the whole log by a snapshot's base, which Persist `seq` will write (§5)."""
        self.base = base
        self.last_index, self.last_term = base.index, base.term
        self._cache, self._cache_first, self._cache_bytes = [], base.index + 1, 0
        self._bytes_total, self._mark_indexes, self._mark_bytes = 0, [base.index], [0]
        self.configurations = [(base.configuration_index, base.configuration)]
        self.gates = [self._gate_of(base)]
        self.unsynced_bytes = 0
        self.durable_index = Index(0)
        self._writes.clear()
        self._writes.append(_Write(seq, 0, base.index, 0))
