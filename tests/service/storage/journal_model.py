"""What a journal and guard must hold: a dumb model and a workload that visits every kind of write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lockmaster.storage.files import Files
from lockmaster.storage.frame import NO_BASE
from lockmaster.storage.guard import GuardFile
from lockmaster.storage.journal import Journal
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.ids import NO_NODE, Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import Configuration, Levels, Member
from lockmaster_raft.ready import Base, HardState, Persist

ROOT = "/d"
JOURNAL = "/d/journal"
SEGMENT_BYTES = 8192
INCARNATION = bytes(range(16))
CONFIGURATION = Configuration(1, (Member(NodeId(1), "one", "h:1", "h:2", INCARNATION, True),), NodeId(2))


def entry(index: int, term: int, size: int = 40) -> Entry:
    payload = (b"%d/%d|" % (index, term)) * (size // 4 + 1)
    return make_entry(Index(index), Term(term), EntryKind.DATA, Nanos(index), payload[:size])


def base(index: int, term: int) -> Base:
    return Base(Index(index), Term(term), CONFIGURATION, Index(1), Levels())


def persist(
    *entries: Entry, hard: tuple[int, int] | None = None, truncate: int | None = None, base: Base | None = None
) -> Persist:
    hard_state = None if hard is None else HardState(Term(hard[0]), NodeId(hard[1]))
    return Persist(PersistSeq(1), hard_state, None if truncate is None else Index(truncate), entries, base)


@dataclass
class Model:
    """Base, entries by index, hard state."""

    base: Base = NO_BASE
    log: dict[int, Entry] = field(default_factory=dict)
    hard: HardState = field(default_factory=lambda: HardState(Term(0), NO_NODE))

    def after(self, write: Persist) -> Model:
        """The model with this Persist in it."""
        log, start = dict(self.log), self.base
        if write.truncate_from is not None:
            log = {i: e for i, e in log.items() if i < write.truncate_from}
        for e in write.entries:
            log = {i: old for i, old in log.items() if i < e.index}
            log[e.index] = e
        if write.base is not None:
            start = write.base
            held = log.get(start.index)
            log = {i: e for i, e in log.items() if i > start.index and held is not None and held.term == start.term}
        return Model(start, log, write.hard_state or self.hard)

    def hard_only(self, write: Persist) -> Model:
        """The model when only the guard part of this Persist came through."""
        return replace(self, hard=write.hard_state or self.hard)


WORKLOAD: tuple[Persist, ...] = (
    persist(hard=(1, 1), base=base(1, 1)),
    persist(entry(2, 1)),
    persist(entry(3, 1), entry(4, 1, 900)),
    persist(hard=(2, 0)),
    persist(entry(5, 1, 2500)),
    persist(entry(5, 2), truncate=5),
    persist(entry(6, 2), entry(7, 2, 1800)),
    persist(base=base(5, 2)),
    persist(entry(8, 2, 3000), hard=(3, 2)),
    persist(entry(8, 3, 30)),
    persist(entry(9, 3, 5000)),
    persist(entry(10, 3), base=base(9, 3)),
    persist(entry(11, 3, 2000)),
    persist(truncate=11),
    persist(entry(11, 3, 100)),
    persist(base=base(20, 3)),
    persist(entry(21, 3, 4000)),
    persist(entry(22, 3, 10_000)),
    persist(entry(23, 3)),
)


def make(files: Files) -> None:
    """A blank guard file and journal directory."""
    files.make_dir(ROOT)
    files.make_dir(JOURNAL)
    GuardFile.create(files, ROOT, INCARNATION).close()


def boot(files: Files, nonce: int) -> tuple[GuardFile, Journal]:
    """Guard and journal as DataDirectory opens them, without threads."""
    guard = GuardFile.open(files, ROOT)
    guard.set_boot_nonce(nonce)
    return guard, Journal(files, JOURNAL, guard, segment_bytes=SEGMENT_BYTES, threads=False)


def held(guard: GuardFile, journal: Journal) -> Model:
    """What a boot found."""
    first, stop = Index(journal.base.index + 1), Index(journal.last_index + 1)
    entries = journal.entries(first, stop, 1 << 30) if stop > first else ()
    return Model(journal.base, {e.index: e for e in entries}, guard.state.hard_state)
