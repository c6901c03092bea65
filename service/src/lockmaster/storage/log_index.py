"""Where each live entry of the log lies: one offset per frame, one number per run of equal terms.

Memory is bounded by the log's byte budget: 16 bytes per frame, a frame being at least 512 bytes on disk.
Laws. base.index <= last_index; frame marks ascend by first index; every live index above the base belongs to the last
mark whose first index is not above it; term runs ascend by first index and cover base.index … last_index.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from lockmaster_raft.entry import Entry
from lockmaster_raft.ids import Index, Term
from lockmaster_raft.ready import Base

from lockmaster.storage.errors import CorruptLog
from lockmaster.storage.frame import NO_BASE, Record, SegmentHeader, Truncate

_OFFSET_BITS: Final = 32
_OFFSET_MASK: Final = (1 << _OFFSET_BITS) - 1


class LogIndex:
    """The live log as seen after some prefix of the frames. Changed by `apply` alone, at boot and at run time."""

    def __init__(self) -> None:
        self.base: Base = NO_BASE
        self.last_index: Index = Index(0)
        self._firsts = array("Q")
        self._places = array("Q")
        self._run_firsts: list[int] = [0]
        self._run_terms: list[int] = [0]

    @property
    def first_present(self) -> int:
        """Lowest index with a known place, or last_index + 1."""
        return self._firsts[0] if self._firsts else self.last_index + 1

    @property
    def last_term(self) -> Term:
        """Term at last_index."""
        return Term(self._run_terms[-1])

    def term(self, index: Index) -> Term | None:
        """Term of the entry at `index`, base.index included; None outside of the log."""
        if not self.base.index <= index <= self.last_index or self.base.index < index < self.first_present:
            return None
        return Term(self._run_terms[bisect_right(self._run_firsts, index) - 1])

    def place(self, index: Index) -> tuple[int, int, int]:
        """(segment, offset, first index of the next mark) of the frame that holds `index`, which must be live."""
        at = bisect_right(self._firsts, index) - 1
        place = self._places[at]
        after = self._firsts[at + 1] if at + 1 < len(self._firsts) else self.last_index + 1
        return place >> _OFFSET_BITS, place & _OFFSET_MASK, after

    def open_at(self, last_index: int) -> None:
        """The oldest segment kept opened with the log reaching to `last_index`; entries up to it have no place here.

        They were under a later BASE when their segments were deleted: a base that stays below them is corruption.
        """
        self.last_index = Index(max(last_index, self.base.index))

    def apply(self, records: Sequence[Record], segment: int, offset: int) -> None:
        """Take over one frame's records; CorruptLog if they break a law of the log."""
        first: int | None = None
        for record in records:
            if isinstance(record, Entry):
                fresh = record.index <= self.last_index
                self.append(record.index, record.term)
                if first is None or fresh:
                    first = record.index
                    self._mark(first, segment, offset)
            elif isinstance(record, Truncate):
                self.truncate(record.index)
            elif isinstance(record, SegmentHeader):
                continue
            else:
                self.set_base(record)

    def append(self, index: Index, term: Term) -> None:
        """One entry: next in line, or one that supersedes (§5: a higher term, and above the base)."""
        if index <= self.last_index:
            old = self.term(index)
            if index <= self.base.index or (old is not None and term <= old):  # None: in a deleted segment
                raise CorruptLog(f"entry {index} of term {term} supersedes one of term {old}, base {self.base.index}")
            self.truncate(index)
        elif index != self.last_index + 1:
            raise CorruptLog(f"entry {index} follows {self.last_index}: entries are missing")
        if term != self._run_terms[-1]:
            self._run_firsts.append(index)
            self._run_terms.append(term)
        self.last_index = index

    def truncate(self, index: Index) -> None:
        """Entries from `index` on are gone."""
        if index <= self.base.index:
            raise CorruptLog(f"truncation from {index}, at or below base {self.base.index}")
        if index > self.last_index:
            return
        keep = bisect_left(self._firsts, index)
        del self._firsts[keep:]
        del self._places[keep:]
        runs = bisect_left(self._run_firsts, index)
        del self._run_firsts[runs:]
        del self._run_terms[runs:]
        self.last_index = Index(index - 1)

    def set_base(self, base: Base) -> None:
        """Move the base. What lies above stays if the log holds (index, term) of it; else the log is empty there."""
        if base.index < self.base.index:
            raise CorruptLog(f"base {base.index} below base {self.base.index}")
        # Inside a gap (entries of a deleted segment) the log did hold it: else a TRUNCATE would have come first.
        known = self.base.index < base.index < self.first_present or self.term(base.index) == base.term
        self.base = base
        if known and base.index < self.last_index:
            self._drop_below(base)
            return
        del self._firsts[:]
        del self._places[:]
        self._run_firsts, self._run_terms = [base.index], [base.term]
        self.last_index = base.index

    def _drop_below(self, base: Base) -> None:
        keep = max(0, bisect_right(self._firsts, base.index + 1) - 1)
        del self._firsts[:keep]
        del self._places[:keep]
        run = bisect_right(self._run_firsts, base.index) - 1
        del self._run_firsts[:run]
        del self._run_terms[:run]
        self._run_firsts[0], self._run_terms[0] = base.index, base.term

    def _mark(self, first: int, segment: int, offset: int) -> None:
        self._firsts.append(first)
        self._places.append(segment << _OFFSET_BITS | offset)
