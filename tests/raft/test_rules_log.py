"""The log's count of its bytes, which truncation and catch-up go by: what `make mutation` showed that no test held."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster_raft.entry import Entry
from lockmaster_raft.errors import StorageFailed
from lockmaster_raft.ids import Index, PersistSeq, Term
from lockmaster_raft.log import RaftLog
from lockmaster_raft.ready import Base
from lockmaster_raft.testing.memory_store import MemoryStore

from .rig import base, configuration, entries

MARK = 128
MARK_BYTES = 1 << 17


class Counted:
    """A log from index 2 on and, beside it, the sizes of its entries."""

    def __init__(self, sizes: list[int]) -> None:
        self.log = RaftLog(MemoryStore(base(configuration())), cache_bytes_max=1 << 30)
        self.sizes: dict[int, int] = {}
        self.append(sizes)

    def append(self, sizes: list[int]) -> None:
        at = self.log.last_index + 1
        new: list[Entry] = []
        for index, size in enumerate(sizes, at):
            new += entries(index, 1, payload=b"x" * size)
        if new:
            self.log.append(new, PersistSeq(1))
        self.sizes.update({e.index: e.size for e in new})

    def truncate(self, first: int) -> None:
        self.log.truncate(Index(first))
        self.sizes = {i: size for i, size in self.sizes.items() if i < first}

    def above(self, index: int) -> int:
        return sum(size for i, size in self.sizes.items() if i > index)

    def marks(self) -> list[int]:
        """The start, every 128th index, and each by which there are 128 KiB since the mark before."""
        found, since = [int(self.log.base.index)], 0
        for index in range(found[0] + 1, self.log.last_index + 1):
            since += self.sizes[index]
            if index % MARK == 0 or since >= MARK_BYTES:
                found.append(index)
                since = 0
        return found

    def check(self) -> None:
        """The count above a place is exact at a mark, and that of the mark below elsewhere."""
        start, last, marks = int(self.log.base.index), int(self.log.last_index), self.marks()
        for index in range(start, last + 1):
            mark = max(i for i in marks if i <= index)
            assert self.log.bytes_above(index) == self.above(mark)
        for budget in (0, 1, self.above(start) // 2, self.above(start)):
            fits = [i for i in marks if self.above(i) <= budget]
            assert self.log.index_within_bytes(budget) == (fits[0] if fits else last)


counts = st.lists(st.integers(0, 9), min_size=130, max_size=420)


@settings(deadline=None, max_examples=25)
@given(sizes=counts, more=counts, cut=st.integers(2, 400))
def test_bytes_are_counted_to_a_mark_through_truncation_and_appends(
    sizes: list[int], more: list[int], cut: int
) -> None:
    counted = Counted(sizes)
    counted.check()
    counted.truncate(min(cut, counted.log.last_index + 1))
    counted.check()
    counted.append(more)
    counted.check()


large = st.lists(st.sampled_from([0, 9, 30_000, 131_023, 131_024, 200_000]), min_size=1, max_size=40)


@settings(deadline=None, max_examples=25)
@given(sizes=large, more=large, cut=st.integers(2, 40))
def test_few_large_entries_are_counted_to_128_kib(sizes: list[int], more: list[int], cut: int) -> None:
    counted = Counted(sizes)
    counted.check()
    counted.truncate(min(cut, counted.log.last_index + 1))
    counted.append(more)
    counted.check()
    marks = counted.marks()
    counted.log.move_base(base(configuration(), index=marks[len(marks) // 2]))
    counted.sizes = {i: size for i, size in counted.sizes.items() if i > counted.log.base.index}
    counted.check()


@settings(deadline=None, max_examples=25)
@given(
    count=st.integers(1, 600),
    size=st.integers(0, 9),
    bytes_max=st.integers(1, 9000),
    entries_max=st.integers(1, 300),
    parts=st.integers(1, 20),
    bounds=st.tuples(st.integers(1, 600), st.integers(1, 600)),
)
def test_parts_of_a_range_are_halved_until_they_fit(
    count: int, size: int, bytes_max: int, entries_max: int, parts: int, bounds: tuple[int, int]
) -> None:
    """Entries of one size: what is estimated between two marks is exact."""
    counted = Counted([size] * count)
    first, last = (min(b, counted.log.last_index) for b in sorted(bounds))
    expected, at = list[int](), first
    while at < last and len(expected) < parts:
        end = min(last, at + entries_max)
        while end > at + 1 and (end - at) * (size + 48) > bytes_max:
            end = at + (end - at) // 2
        expected.append(end)
        at = end
    assert counted.log.boundaries(first, last, bytes_max, entries_max, parts) == expected


def test_truncation_forgets_the_marks_that_it_removes() -> None:
    counted = Counted([1] * 400)
    counted.truncate(129)
    counted.append([5] * 300)
    counted.check()


def test_a_base_that_moves_to_a_mark_takes_what_is_below_off_every_mark() -> None:
    counted = Counted([1] * 700)
    counted.log.move_base(base(configuration(), index=256))
    counted.sizes = {i: size for i, size in counted.sizes.items() if i > 256}
    counted.check()


def test_what_a_snapshot_replaced_is_counted_no_more() -> None:
    counted = Counted([1] * 400)
    counted.log.reset(base(configuration(), index=1000), PersistSeq(2))
    assert counted.log.bytes_above(1000) == 0
    assert counted.log.unsynced_bytes == 0
    assert counted.log.term(1000) == Term(1)


class Forgetful:
    """A LogStore that gives less than it says it has. Holds one and isn't one: a compiled MemoryStore has no heirs."""

    def __init__(self, whole: MemoryStore) -> None:
        self.whole = whole
        self.lost: tuple[int, ...] = ()

    @property
    def base(self) -> Base:
        return self.whole.base

    @property
    def last_index(self) -> Index:
        return self.whole.last_index

    def term(self, index: Index) -> Term | None:
        return self.whole.term(index)

    def entries(self, first: Index, stop: Index, bytes_max: int) -> tuple[Entry, ...]:
        return tuple(e for e in self.whole.entries(first, stop, bytes_max) if e.index not in self.lost)


@pytest.mark.parametrize("lost", [(2, 3, 4), (2,)])
def test_row_31_what_the_store_does_not_give_is_an_error_and_no_end_of_the_log(lost: tuple[int, ...]) -> None:
    store = Forgetful(MemoryStore(base(configuration()), list(entries(2, 1, 1, 1))))
    log = RaftLog(store, cache_bytes_max=0)
    assert [entry.index for entry in log.entries(2, 5, 9, 1 << 20)] == [2, 3, 4]
    store.lost = lost
    with pytest.raises(StorageFailed, match="did not give index 2"):
        log.entries(2, 5, 9, 1 << 20)
