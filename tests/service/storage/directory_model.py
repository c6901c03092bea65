"""Whole data directories on the recording layer: what each step acknowledges, and what a boot may find then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from lockmaster.statemachine.records import NONCES
from lockmaster.statemachine.view import StateView, record_hash
from lockmaster.storage.directory import DataDirectory, Disk
from lockmaster.storage.recording import RecordingFiles
from lockmaster.storage.recording_database import ModelDatabase
from lockmaster.storage.records import Meta
from lockmaster.storage.snapshot import (
    SnapshotWriter,
    chunk_digest,
    encode_stream_head,
    encode_stream_record,
    fetched_paths,
)
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels, MemberRole
from lockmaster_raft.ready import Base, HardState, Persist

from . import journal_model as jm

CLUSTER = b"cluster-id-16byt"
KEYS = 5
"""Entry i writes i under key i % KEYS: the state at an index is known without replaying."""


def records_at(index: int) -> dict[bytes, int]:
    """The state after entries 2 … index (genesis stands at 1)."""
    found = {b"genesis": 1}
    for at in range(2, index + 1):
        found[b"k%d" % (at % KEYS)] = at
    return found


def initialise(view: StateView) -> None:
    """Genesis."""
    view.put(NONCES, b"genesis", 1)


@dataclass
class Promise:
    """What is acknowledged: logs that may be found (the newest step may be there or not), and floors."""

    possible: list[jm.Model] = field(default_factory=lambda: [jm.Model()])
    flushed: int = 0
    """Applied index of the last flush that returned."""
    member_ids: tuple[int, ...] = (0,)
    """Identities that may be there; 0: none yet."""
    states: tuple[str, ...] = ("own",)
    """What of a state may be there: "none", "own", or "side N" of the promotion with epoch N."""
    witness: bool = False
    """Made to join as a witness."""
    installing: int = 0
    """Index of the snapshot that is or was installed."""


@dataclass
class Actor:
    """A host that does to a data directory what the engine does, and notes what it has acknowledged."""

    files: RecordingFiles
    promise: Promise
    removes_last: bool = False
    """A replaced state goes after the BASE that follows it, not before: threads do both, in either order."""

    def open(self) -> DataDirectory:
        """A boot."""
        disk = Disk(self.files, partial(ModelDatabase, self.files), is_model=True)
        return DataDirectory.open(
            jm.ROOT,
            create=True,
            witness=self.promise.witness,
            segment_bytes=jm.SEGMENT_BYTES,
            ballast_bytes=512,
            disk=disk,
        )

    def found(self, directory: DataDirectory) -> None:
        """Genesis."""
        base = Base(Index(1), Term(1), jm.CONFIGURATION, Index(1), Levels())
        model = jm.Model(base, {}, HardState(Term(1), NodeId(0)))
        # Without identity nothing was promised; the term of an aborted genesis may stay, which promises nothing either.
        self.promise.possible += [jm.Model(hard=model.hard), model]
        self.promise.member_ids = (0, 1)
        directory.genesis(
            cluster_id=CLUSTER,
            member_id=NodeId(1),
            configuration=jm.CONFIGURATION,
            levels=Levels(),
            initialise=initialise,
        )
        self.promise.possible, self.promise.member_ids, self.promise.flushed = [model], (1,), 1

    def join(self, directory: DataDirectory) -> None:
        """What a blank member does when it is adopted."""
        self.promise.member_ids = (0, 2)
        directory.assign(CLUSTER, NodeId(2))
        self.promise.member_ids = (2,)

    def persist(self, directory: DataDirectory, write: Persist) -> None:
        """One Persist, from begin to finish."""
        before = self.promise.possible[-1]
        self.promise.possible = [before, before.hard_only(write), before.after(write)]
        pending = directory.begin(write)
        pending.run()
        self.promise.possible = self.promise.possible[2:]
        directory.finish(pending)

    def apply(self, directory: DataDirectory, first: int, last: int, term: int) -> None:
        """Apply and store entries first … last, one batch each."""
        for index in range(first, last + 1):
            directory.state.put(NONCES, b"k%d" % (index % KEYS), index)
            directory.state.sealed(Index(index), Term(term))
            directory.state.store(directory.journal.durable_index)

    def flush(self, directory: DataDirectory) -> None:
        """Make the stored state durable."""
        self.promise.flushed = directory.state.flush()

    def install(self, directory: DataDirectory, base: Base) -> None:
        """A snapshot at `base`: chunks, state, switch; then BASE, as the node asks for it."""
        chunks = snapshot_chunks(base)
        writer = SnapshotWriter(directory, base, [chunk_digest(c) for c in chunks], sum(map(len, chunks)))
        for number, chunk in enumerate(chunks):
            writer.store_chunk(number, chunk)
        writer.build()
        before = self.promise.possible[-1]
        after = before.after(jm.persist(base=base))
        self.promise.possible = [before, after]  # a boot that finds the state ahead writes the BASE itself
        self.promise.installing = base.index
        replaced = directory.attach_state(writer.switch())
        self.promise.flushed = base.index
        self.promise.possible = [before, after]
        if not self.removes_last:
            directory.remove_replaced(replaced)
        pending = directory.begin(jm.persist(base=base))
        pending.run()
        self.promise.possible = [after]
        directory.finish(pending)
        if self.removes_last:
            directory.remove_replaced(replaced)

    def build_side(self, directory: DataDirectory, epoch: int, index: int, term: int) -> None:
        """P2 and P3's begin: fetched, built, open at the snapshot's index."""
        base = Base(Index(index), Term(term), witness_configuration(), Index(1), Levels(2, 2))
        chunks = snapshot_chunks(base)
        writer = SnapshotWriter(directory, base, [chunk_digest(c) for c in chunks], sum(map(len, chunks)))
        for number, chunk in enumerate(chunks):
            writer.store_chunk(number, chunk)
        writer.build_side(epoch)
        directory.attach_state(directory.open_side(epoch, base.index, base.term), side_epoch=epoch)
        writer.discard()

    def finish_side(self, directory: DataDirectory, epoch: int) -> None:
        """P3's end."""
        self.promise.states = ("none", f"side {epoch}")
        flushed = directory.finish_side(epoch)
        self.promise.states, self.promise.flushed = (f"side {epoch}",), flushed

    def adopt_side(self, directory: DataDirectory, epoch: int) -> None:
        """P4."""
        self.promise.states = (f"side {epoch}", "own")
        directory.adopt_side(epoch)
        self.promise.states = ("own",)

    def drop_state(self, directory: DataDirectory) -> None:
        """D2, or an abort."""
        self.promise.states = (*self.promise.states, "none")
        self.promise.flushed = 0
        directory.erase_states(directory.detach_state())
        self.promise.states = ("none",)


def witness_configuration() -> Configuration:
    """Member 2, this one, is a witness."""
    first = jm.CONFIGURATION.members[0]
    witness = replace(first, member_id=NodeId(2), name="two", incarnation=b"w" * 16, role=MemberRole.WITNESS)
    return jm.CONFIGURATION.with_member(witness)


def state_found(directory: DataDirectory) -> str:
    """What of a state a boot opened."""
    if directory.store is None:
        return "none"
    return "own" if directory.side_epoch is None else f"side {directory.side_epoch}"


def snapshot_chunks(base: Base) -> list[bytes]:
    """The snapshot stream of the state at base.index, in two slices."""
    rows = sorted(
        (NONCES.prefix + NONCES.encode_key(k), NONCES.encode_value(v)) for k, v in records_at(base.index).items()
    )
    state_hash = sum(record_hash(key, value) for key, value in rows) % 2**64
    stream = encode_stream_head(Meta(base.index, base.term, state_hash))
    stream += b"".join(encode_stream_record(key, value) for key, value in rows)
    return [stream[: len(stream) // 2], stream[len(stream) // 2 :]]


def check_boot(files: RecordingFiles, promise: Promise) -> DataDirectory:
    """Boot, and hold it against the promise. AssertionError, or what the boot refuses with."""
    directory = Actor(files, Promise(witness=promise.witness)).open()
    identity = directory.identity
    found = jm.held(directory.guard, directory.journal)
    assert found in promise.possible, f"{found} is none of {promise.possible}"
    assert identity.member_id in promise.member_ids
    assert state_found(directory) in promise.states, f"{state_found(directory)}, not {promise.states}"
    left = [f"{jm.ROOT}/{n}" for n in files.list_dir(jm.ROOT) if n.startswith(("state-", "side-"))]
    assert left == ([] if directory.store is None else [directory.store.path]), "what nothing names is removed"
    if directory.store is None:
        return directory
    state, journal = directory.state, directory.journal
    applied = state.applied_stored
    assert promise.flushed <= applied
    if 0 < promise.installing <= applied:
        assert fetched_paths(directory) == [], "chunks that nobody would remove"
    assert journal.base.index <= applied <= journal.last_index
    if applied:
        assert dict(state.scan(NONCES, b"", None)) == records_at(applied), f"the state is not that of index {applied}"
    return directory


Step = Callable[[Actor, DataDirectory], None]


def _writes(*writes: Persist) -> Step:
    def step(actor: Actor, directory: DataDirectory) -> None:
        for write in writes:
            actor.persist(directory, write)

    return step


def _applies(first: int, last: int, term: int = 1) -> Step:
    return lambda actor, directory: actor.apply(directory, first, last, term)


def _installs(index: int, term: int) -> Step:
    base = Base(Index(index), Term(term), jm.CONFIGURATION, Index(1), Levels())
    return lambda actor, directory: actor.install(directory, base)


def _founds(actor: Actor, directory: DataDirectory) -> None:
    actor.found(directory)


def _joins(actor: Actor, directory: DataDirectory) -> None:
    actor.join(directory)


def _flushes(actor: Actor, directory: DataDirectory) -> None:
    actor.flush(directory)


def _joins_as_witness(actor: Actor, directory: DataDirectory) -> None:
    actor.join(directory)


def _builds(epoch: int, index: int, term: int) -> Step:
    return lambda actor, directory: actor.build_side(directory, epoch, index, term)


def _finishes(epoch: int) -> Step:
    return lambda actor, directory: actor.finish_side(directory, epoch)


def _adopts(epoch: int) -> Step:
    return lambda actor, directory: actor.adopt_side(directory, epoch)


def _drops(actor: Actor, directory: DataDirectory) -> None:
    actor.drop_state(directory)


def _anchor(index: int, term: int) -> Persist:
    return jm.persist(base=Base(Index(index), Term(term), witness_configuration(), Index(1), Levels(2, 2)))


def _becomes_witness_by_base(actor: Actor, directory: DataDirectory) -> None:
    """Ready's order: the BASE above the state, then the state dropped; a crash in between finds both."""
    before = actor.promise.states
    actor.promise.states, actor.promise.flushed = (*before, "none"), 0
    actor.persist(directory, _anchor(16, 4))
    actor.promise.states = ("none",)
    actor.drop_state(directory)


WITNESS_SCENARIOS: dict[str, Sequence[Step]] = {
    "witness: an anchor into an empty log, entries, a BASE": (
        _joins_as_witness,
        _writes(jm.persist(hard=(3, 0)), _anchor(9, 2)),
        _writes(jm.persist(jm.entry(10, 3), jm.entry(11, 3, 2000)), jm.persist(jm.entry(12, 3, 3000))),
        _writes(_anchor(11, 3), jm.persist(jm.entry(13, 3, 4000))),
    ),
    "promotion: P2 to P4, then a full member's BASE": (
        _joins_as_witness,
        _writes(jm.persist(hard=(3, 0)), _anchor(9, 2)),
        _writes(jm.persist(jm.entry(10, 3), jm.entry(11, 3, 900))),
        _builds(5, 10, 3),
        _writes(jm.persist(jm.entry(12, 3))),
        _applies(11, 12, 3),
        _finishes(5),
        _writes(jm.persist(jm.entry(13, 3))),
        _applies(13, 13, 3),
        _adopts(5),
        _flushes,
        _writes(jm.persist(jm.entry(14, 3, 2500), base=jm.base(12, 3))),
        _applies(14, 14, 3),
    ),
    "aborted promotions: before and after sm_ready, then one that ends well": (
        _joins_as_witness,
        _writes(jm.persist(hard=(3, 0)), _anchor(9, 2)),
        _writes(jm.persist(*(jm.entry(i, 3) for i in range(10, 15)))),
        _builds(5, 10, 3),
        _applies(11, 12, 3),
        _drops,
        _builds(7, 11, 3),
        _finishes(7),
        _drops,
        _writes(jm.persist(*(jm.entry(i, 3) for i in range(15, 18)))),
        _builds(9, 12, 3),
        _applies(13, 14, 3),
        _finishes(9),
        _adopts(9),
        _applies(15, 17, 3),
    ),
    "demotion: D2 after a promotion, the state goes, a BASE far above it": (
        _joins_as_witness,
        _writes(jm.persist(hard=(3, 0)), _anchor(9, 2)),
        _writes(jm.persist(*(jm.entry(i, 3) for i in range(10, 14)))),
        _builds(5, 10, 3),
        _applies(11, 13, 3),
        _finishes(5),
        _adopts(5),
        _drops,
        _writes(_anchor(13, 3), jm.persist(jm.entry(14, 3))),
    ),
    "demotion learned from an anchor: BASE first, then the state goes": (
        _joins_as_witness,
        _writes(jm.persist(hard=(3, 0)), _anchor(9, 2)),
        _writes(jm.persist(*(jm.entry(i, 3) for i in range(10, 14)))),
        _builds(5, 10, 3),
        _applies(11, 12, 3),
        _finishes(5),
        _adopts(5),
        _writes(jm.persist(hard=(4, 0))),
        _becomes_witness_by_base,
        _writes(jm.persist(jm.entry(17, 4))),
    ),
}
SCENARIOS: dict[str, Sequence[Step]] = {
    "founder: genesis, batches, a flush, a BASE, segments that go": (
        _founds,
        _writes(jm.persist(jm.entry(2, 1), jm.entry(3, 1, 900))),
        _applies(2, 3),
        _writes(jm.persist(jm.entry(4, 1, 3000))),
        _applies(4, 4),
        _flushes,
        _writes(jm.persist(hard=(2, 1)), jm.persist(jm.entry(5, 2, 5000)), jm.persist(base=jm.base(4, 1))),
        _applies(5, 5, 2),
        _flushes,
        _writes(jm.persist(jm.entry(6, 2, 2500), base=jm.base(5, 2)), jm.persist(jm.entry(7, 2))),
        _applies(6, 7, 2),
    ),
}

INSTALL_SCENARIOS: dict[str, Sequence[Step]] = {
    "joiner: a snapshot into an empty log, entries after it": (
        _joins,
        _writes(jm.persist(hard=(3, 0))),
        _installs(9, 2),
        _writes(jm.persist(jm.entry(10, 3), jm.entry(11, 3, 2000))),
        _applies(10, 11, 3),
        _flushes,
        _writes(jm.persist(base=jm.base(10, 3))),
    ),
    "behind: a snapshot above a log that reaches below it": (
        _founds,
        _writes(jm.persist(*(jm.entry(i, 1) for i in range(2, 6)))),
        _applies(2, 4),
        _writes(jm.persist(hard=(4, 2))),
        _installs(12, 3),
        _writes(jm.persist(jm.entry(13, 4))),
        _applies(13, 13, 4),
    ),
    "holding: a snapshot inside a log that holds its (index, term): what lies above stays": (
        _founds,
        _writes(jm.persist(*(jm.entry(i, 1) for i in range(2, 9)))),
        _applies(2, 3),
        _flushes,
        _applies(4, 4),
        _installs(6, 1),
        _writes(jm.persist(jm.entry(9, 1, 600))),
        _applies(7, 9),
        _flushes,
    ),
    "conflicting: a snapshot at an index that the log has in another term: the log is dropped": (
        _founds,
        _writes(jm.persist(*(jm.entry(i, 1) for i in range(2, 9)))),
        _applies(2, 3),
        _writes(jm.persist(hard=(5, 2))),
        _installs(6, 4),
        _writes(jm.persist(jm.entry(7, 5))),
        _applies(7, 7, 5),
    ),
}
SCENARIOS |= INSTALL_SCENARIOS | WITNESS_SCENARIOS
