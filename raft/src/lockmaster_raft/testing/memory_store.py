"""A LogStore on a list. Here, not beside LogStore: what derives from a compiled class cannot be interpreted."""

from __future__ import annotations

from dataclasses import dataclass, field

from lockmaster_raft.entry import Entry
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index, Term
from lockmaster_raft.ready import Base, Persist


@dataclass(slots=True)
class MemoryStore:
    """A LogStore on a list, for tests and the simulator."""

    base: Base
    log: list[Entry] = field(default_factory=list)

    @property
    def last_index(self) -> Index:
        """Index of the last entry, or base.index."""
        return self.log[-1].index if self.log else self.base.index

    def term(self, index: Index) -> Term | None:
        """Term at `index`, or None."""
        if index == self.base.index:
            return self.base.term
        offset = index - self.base.index - 1
        return self.log[offset].term if 0 <= offset < len(self.log) else None

    def entries(self, first: Index, stop: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Entries first … stop - 1 within `bytes_max` (at least one)."""
        start = first - self.base.index - 1
        if start < 0:
            raise InvariantViolation(f"read of index {first} at or below base {self.base.index}")
        chosen: list[Entry] = []
        size = 0
        for entry in self.log[start : stop - self.base.index - 1]:
            chosen.append(entry)
            size += entry.size
            if size >= bytes_max:
                break
        return tuple(chosen)

    def persist(self, write: Persist) -> None:
        """Apply one Persist, as the journal does: truncate, append, then move the base."""
        if write.truncate_from is not None:
            del self.log[max(0, write.truncate_from - self.base.index - 1) :]
        for entry in write.entries:
            if entry.index != self.last_index + 1:
                raise InvariantViolation(f"append of {entry.index} after {self.last_index}")
            self.log.append(entry)
        if write.base is not None and write.base.index >= self.base.index:
            self.log = [e for e in self.log if e.index > write.base.index]
            self.base = write.base
