"""RaftLog against a dumb twin that remembers every write: appends, truncations, syncs, base moves, eviction."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.gates import Gate, GateOperation, encode_gate
from lockmaster_raft.ids import Index, Nanos, PersistSeq, Term
from lockmaster_raft.log import RaftLog
from lockmaster_raft.membership import Levels
from lockmaster_raft.ready import Base, Persist
from lockmaster_raft.testing.memory_store import MemoryStore

from .rig import base, config_entry, configuration, entries

KINDS = st.sampled_from([EntryKind.DATA, EntryKind.CONFIG, EntryKind.GATE])


class LogTwin(RuleBasedStateMachine):
    """The twin: a list of entries, and for each index the sequence of its latest write."""

    def __init__(self) -> None:
        super().__init__()
        self.conf = configuration()
        self.store = MemoryStore(base(self.conf))
        self.log = RaftLog(self.store, cache_bytes_max=300)
        self.twin: list[Entry] = []
        self.first = 2
        self.written: dict[int, int] = {}
        self.queue: list[Persist] = []
        self.seq = 0
        self.synced = 0
        self.term = 1
        self.epoch = 1

    @property
    def last(self) -> int:
        return self.first + len(self.twin) - 1

    def _write(self, new: list[Entry], truncate_from: int | None = None) -> None:
        self.seq += 1
        if truncate_from is not None:
            self.log.truncate(Index(truncate_from))
            del self.twin[truncate_from - self.first :]
        self.log.append(new, PersistSeq(self.seq))
        self.twin += new
        for entry in new:
            self.written[entry.index] = self.seq
        write = Persist(
            PersistSeq(self.seq),
            truncate_from=Index(truncate_from) if truncate_from is not None else None,
            entries=tuple(new),
        )
        self.store.persist(write)

    def _new(self, at: int, count: int, last: EntryKind) -> list[Entry]:
        """`count` entries from index `at` on, the last of this kind."""
        new = list(entries(at, *[self.term] * count))
        if last is EntryKind.CONFIG:
            self.epoch += 1
            new[-1] = config_entry(at + count - 1, self.term, configuration(epoch=self.epoch))
        elif last is EntryKind.GATE:
            fenced, fence = self._fence_before(at)
            gate = Gate(GateOperation.CANCEL, 2, Index(fence)) if fenced else Gate(GateOperation.FENCE, 2)
            where = (Index(at + count - 1), Term(self.term), EntryKind.GATE, Nanos(0))
            new[-1] = make_entry(*where, encode_gate(gate))
        return new

    def _fence_before(self, at: int) -> tuple[bool, int]:
        """(whether a fence stands before `at`, index of the last gate entry there): they take turns here."""
        base = self.log.base.levels
        fenced, index = base.fence > base.active, int(base.index)
        for entry in self.twin:
            if entry.index < at and entry.kind is EntryKind.GATE:
                fenced, index = not fenced, entry.index
        return fenced, index

    @rule(count=st.integers(1, 4), last=KINDS, rise=st.booleans())
    def append(self, count: int, last: EntryKind, rise: bool) -> None:
        self.term += rise
        self._write(self._new(self.last + 1, count, last))

    @precondition(lambda self: len(self.twin) > 1)
    @rule(data=st.data(), count=st.integers(1, 3), last=KINDS)
    def overwrite(self, data: st.DataObject, count: int, last: EntryKind) -> None:
        at = data.draw(st.integers(self.first, self.last))
        self.term += 1
        self._write(self._new(at, count, last), truncate_from=at)

    @precondition(lambda self: self.synced < self.seq)
    @rule(data=st.data())
    def sync(self, data: st.DataObject) -> None:
        self.synced = data.draw(st.integers(self.synced + 1, self.seq))
        self.log.persisted(PersistSeq(self.synced))

    @precondition(lambda self: self._durable() >= self.first)
    @rule(data=st.data())
    def move_base(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.first, self._durable()))
        at, conf = self.log.configuration_at(index)
        moved = Base(Index(index), self.log.term_at(index), conf, at, self.log.levels_at(index))
        self.log.move_base(moved)
        self.seq += 1
        self.store.persist(Persist(PersistSeq(self.seq), base=moved))
        self.twin = self.twin[index + 1 - self.first :]
        self.first = index + 1

    def _durable(self) -> int:
        durable = self.first - 1
        while durable < self.last and self.written[durable + 1] <= self.synced:
            durable += 1
        return durable

    @invariant()
    def same_entries(self) -> None:
        assert self.log.last_index == self.last
        assert self.log.durable_index == self._durable()
        found: list[Entry] = []
        while self.first + len(found) <= self.last:
            found += self.log.entries(self.first + len(found), self.last + 1, 3, 200)
        assert found == self.twin
        for entry in self.twin:
            assert self.log.term(entry.index) == entry.term
            assert self.log.seq_of(entry.index) == (0 if entry.index <= self._durable() else self.written[entry.index])
        assert self.log.term(self.last + 1) is None

    @invariant()
    def same_configurations(self) -> None:
        above = [e.index for e in self.twin if e.kind == 2]
        assert [i for i, _ in self.log.configurations[1:]] == above
        assert len(self.log.configurations) == 1 + len(above)

    @invariant()
    def same_gates(self) -> None:
        for index in range(self.first - 1, self.last + 1):
            fenced, at = self._fence_before(index + 1)
            assert self.log.levels_at(index) == Levels(1, 1 + fenced, Index(at))
        assert self.log.levels == self.log.levels_at(self.last)

    @invariant()
    def searches(self) -> None:
        for entry in self.twin[:: max(1, len(self.twin) // 4)]:
            first = self.log.first_index_of_term_at(entry.index)
            assert first == min(e.index for e in self.twin if e.term == entry.term)
            last = self.log.last_index_at_most_term(entry.term, self.last)
            assert last == max(e.index for e in self.twin if e.term <= entry.term)


LogTwin.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_log_equals_its_twin = LogTwin.TestCase
