"""An old cluster's state with everything that a founding must end: as records, and as a directory that survived."""

from __future__ import annotations

from functools import partial

from lockmaster.statemachine.apply import StateMachine
from lockmaster.statemachine.codec import decode_batch, encode_batch
from lockmaster.statemachine.commands import Acquire, Command, Dedup, OpenSession, Put
from lockmaster.statemachine.memory import DictView
from lockmaster.storage.directory import DataDirectory, Disk
from lockmaster.storage.founding import Founder, Source
from lockmaster.storage.recording import RecordingFiles
from lockmaster.storage.recording_database import ModelDatabase
from lockmaster.storage.records import Meta
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels, Member, MemberRole

from . import journal_model as jm

OLD = "/old"
NEW = "/d"
CLUSTER = b"old-cluster-id16"
OLD_REVISION = 1_790_000_000 << 20
NOW_S = 1_800_000_000
FIRST = NOW_S << 20
FOUNDER = Founder("new", "127.0.0.1:1", "127.0.0.1:2", full_min=1)
SECOND = 1_000_000_000
DELAY = 5 * SECOND
HOLDER, WAITER = OLD_REVISION + 1, OLD_REVISION + 2
TERM = 3


def _open(digit: bytes) -> Command:
    return Command(OpenSession(bytes(15) + digit, 15 * SECOND, "alice", "pod", DELAY))


def _take(session_id: int) -> Command:
    return Command(Acquire("orders", True, 0), Dedup(session_id, 1, 1, bytes(8)))


def _put(key: str, value: bytes, owner: int = 0) -> Command:
    dedup = Dedup(owner, 2, 1, bytes(8)) if owner else None
    return Command(Put("app", key, value, None, "", 0, "", "", owner), dedup)


BATCHES: tuple[tuple[Command, ...], ...] = (
    (_open(b"1"), _open(b"2")),
    (_take(HOLDER), _take(WAITER)),
    (_put("a", b"one"), _put("a", b"two"), _put("here", b"pod", HOLDER)),
    (_put("big", bytes(200 << 10)),),
    (_put("late", b"in the log's tail"),),
)
"""Entries 2 … 6: two sessions, a lock that one holds and the other waits for, an ephemeral key, one of 200 KiB."""
LAST = len(BATCHES) + 1
STORED = LAST - 1
"""A survivor's state stands here; its log has one entry more."""


def entries(first: int = 2, last: int = LAST) -> list[Entry]:
    """The old cluster's log."""
    return [
        make_entry(Index(i), Term(TERM), EntryKind.DATA, Nanos(SECOND * i), encode_batch(BATCHES[i - 2]))
        for i in range(first, last + 1)
    ]


def old_view(last: int = LAST) -> DictView:
    """The old cluster's state after entry `last`."""
    view = DictView()
    StateMachine.initialise(view, index=1, term=1, revision=OLD_REVISION)
    machine = StateMachine(view)
    for entry in entries(2, last):
        machine.apply(entry, decode_batch(entry.payload))
    return view


def archived(last: int = STORED, *, spoilt: bool = False) -> Source:
    """What a restore founds on: the state's records, and the log's tail on top."""
    view = old_view(last)
    rows = view.dump()
    meta = Meta(last, TERM, view.hash + spoilt)
    size = sum(len(key) + len(value) for key, value in rows)
    return Source((meta, iter(rows)), "the archive", size, Levels(2, 2), entries(last + 1))


def model_disk(files: RecordingFiles) -> Disk:
    """Where both directories lie."""
    return Disk(files, partial(ModelDatabase, files), is_model=True)


def make_survivor(files: RecordingFiles, role: MemberRole = MemberRole.FULL) -> None:
    """The old directory: founded, its log whole, its state stored up to STORED."""
    directory = DataDirectory.open(OLD, create=True, segment_bytes=1 << 20, ballast_bytes=0, disk=model_disk(files))
    own = Member(NodeId(1), "one", "h:1", "h:2", jm.INCARNATION, True, role)
    configuration = Configuration(1, (own,), NodeId(4))
    revision = OLD_REVISION
    directory.genesis(
        cluster_id=CLUSTER,
        member_id=NodeId(1),
        configuration=configuration,
        levels=Levels(2, 2),
        revision=revision,
    )
    write = directory.begin(jm.persist(*entries(), hard=(TERM + 1, 1)))
    write.run()
    directory.finish(write)
    machine = StateMachine(directory.state)
    for entry in entries(2, STORED):
        machine.apply(entry, decode_batch(entry.payload))
        directory.state.sealed(entry.index, entry.term)
    directory.close()


def open_survivor(files: RecordingFiles) -> DataDirectory:
    """A boot of it."""
    return DataDirectory.open(OLD, create=False, segment_bytes=1 << 20, ballast_bytes=0, disk=model_disk(files))


def open_new(files: RecordingFiles, *, create: bool = False) -> DataDirectory:
    """A boot of the target."""
    return DataDirectory.open(NEW, create=create, segment_bytes=8192, ballast_bytes=512, disk=model_disk(files))
