"""A new cluster out of an old one's state: what `lockmaster restore` and `lockmaster recover` do to a blank directory.

Theory of operation. Both read a stream of records (an archive's chunks, or a survivor's own state), build a RocksDB of
it in a side directory of the blank data directory, replay entries of a log on top where there is one, end every
session (statemachine/refounding.py), and move the result to index 1, term 1: a new genesis (raft.md §2). Only then is
the directory switched to it and given its identity, which is new: cluster id, member id, incarnation.

Laws.
1. The source is never changed; a survivor's directory is read, and can be recovered from again.
2. Until the identity is durable the target is UNFINISHED: nothing opens it but another founding.
3. After an error the target is as blank as it was; after a crash it is that, or UNFINISHED.
4. Memory: one chunk, one batch, the bounded overlay and cache of a StateStore, one page of log entries.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lockmaster_raft.entry import Entry, EntryKind
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.gates import decode_gate, fold
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.membership import LEVEL_MAX, Configuration, Levels, Member
from lockmaster_raft.ready import Base

from lockmaster.archive import ArchiveDamaged, Head, NotAnArchive, Progress, read_chunks
from lockmaster.statemachine.apply import StateMachine
from lockmaster.statemachine.codec import decode_batch
from lockmaster.statemachine.records import NAMESPACES, WHOLE_HISTORY
from lockmaster.statemachine.refounding import REVISION_SHIFT, Refounding, revision_floor
from lockmaster.storage.directory import BALLAST_BYTES, UNFINISHED_NAME, DataDirectory, Disk
from lockmaster.storage.errors import CorruptLog, StorageFailed, WrongFormat
from lockmaster.storage.files import Files, RealFiles
from lockmaster.storage.frame import decode_base_body
from lockmaster.storage.guard import GUARD_NAME, SLOT_DISTANCE, SLOT_SIZE, decode_slot
from lockmaster.storage.journal import SEGMENT_BYTES
from lockmaster.storage.records import META_KEY, Meta, resolve
from lockmaster.storage.rocks import Database, StateDatabase
from lockmaster.storage.side import state_name
from lockmaster.storage.snapshot import Stream, fill, read_stream
from lockmaster.storage.state import StateStore, write_base

NO_LIMIT: Final = Index(1 << 62)
"""Nothing is held back for a log's sake: what is built becomes durable as a whole or not at all."""
ROOM_SHARE: Final = 1.25
ROOM_BYTES: Final = 2 * SEGMENT_BYTES + BALLAST_BYTES + (64 << 20)
"""Free bytes asked for before anything is written: the state by its size, and what every directory begins with."""
LOG_PAGE_BYTES: Final = 4 << 20
FAILURES: Final = (StorageFailed, InvariantViolation, ArchiveDamaged, NotAnArchive, OSError, KeyboardInterrupt)
"""What may end a founding and leave this process to clean up."""


LEVEL_KNOWN: Final = LEVEL_MAX
"""Highest level that a cluster founded by this binary can begin with."""


class NotBlank(Exception):
    """The target belongs to a cluster already; nothing was written. The text is one line."""


class NoRoom(StorageFailed):
    """The file system has too little room; nothing was written."""


@dataclass(frozen=True, slots=True)
class Founder:
    """The one member of the new cluster, as its configuration names it."""

    name: str
    peer_address: str
    client_address: str
    full_min: int = 2
    """Fewest full voters before writes are admitted (I8); 1 only where no other member is to come."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a cluster is founded on."""

    stream: Stream
    where: str
    """Names it in errors."""
    bytes_total: int
    """About how much it will take on the disk."""
    levels: Levels
    """In force at the stream's index."""
    entries: Iterable[Entry] = ()
    """Entries right after the stream's index, to be applied on top."""


@dataclass(frozen=True, slots=True)
class Founded:
    """What came of it."""

    cluster_id: bytes
    member_id: int
    index: int
    term: int
    """Last entry of the old log that is in the new state."""
    replayed: int
    """Entries that were applied on top of the stream."""
    stored_revision: int
    """The old cluster's newest revision."""
    first_revision: int
    """Everything that the new cluster hands out is above it."""
    sessions_ended: int
    locks_released: int


def found(
    path: str,
    source: Source,
    founder: Founder,
    *,
    unix_seconds: int,
    cluster_id: bytes = b"",
    segment_bytes: int = SEGMENT_BYTES,
    ballast_bytes: int = BALLAST_BYTES,
    disk: Disk | None = None,
) -> Founded:
    """Make `path` the first member of a new cluster that begins with the source's state.

    `unix_seconds` is the wall clock: it decides where the revision starts (service.md §1). `cluster_id`: 16 bytes, of
    whoever must know it before; empty: drawn. Raises NotBlank, NoRoom,
    DirectoryBusy, WrongFormat, CorruptLog and ArchiveDamaged (the source), StorageFailed; the target is as blank then
    as it was before.
    """
    disk = disk or Disk(RealFiles(), Database)
    files = disk.files
    refuse_unless_blank(files, path)
    there = files.exists(path)
    names = [n for n in files.list_dir(path) if n not in ("LOCK", "lost+found")] if there else []
    worthless = not names or UNFINISHED_NAME in names
    if not disk.is_model:
        refuse_without_room(path, source.bytes_total)
    directory = DataDirectory.open(
        path, create=True, founding=True, segment_bytes=segment_bytes, ballast_bytes=ballast_bytes, disk=disk
    )
    try:
        founded = _found(directory, source, founder, unix_seconds, cluster_id or secrets.token_bytes(16))
    except FAILURES:
        with contextlib.suppress(StorageFailed):
            directory.close()
        if worthless:
            _clear(files, path, there=there)
        raise
    directory.close()
    return founded


def archive_source(head: Head, path: Path, progress: Progress | None) -> Source:
    """An archive whose head was verified, as a source; its chunks are verified again as they are read.

    Raises WrongFormat for a level that this binary does not know, CorruptLog, ArchiveDamaged, OSError.
    """
    base = decode_base_body(head.base)
    if base.levels.active > LEVEL_KNOWN:
        raise WrongFormat(f"{path}: is of level {base.levels.active}; this binary knows up to {LEVEL_KNOWN}")
    stream = read_stream(read_chunks(path, progress), head.bytes_total, base)
    return Source(stream, str(path), head.bytes_total, base.levels)


def member_of(files: Files, path: str) -> tuple[bytes, int] | None:
    """(cluster id, member id) of a directory; None: it is blank or not there. Looks, and touches nothing."""
    guard = f"{path}/{GUARD_NAME}"
    if not files.exists(guard):
        return None
    for slot in (0, 1):
        known = decode_slot(files.read(guard, slot * SLOT_DISTANCE, SLOT_SIZE))
        if known is not None and known[1].cluster_id is not None:
            return known[1].cluster_id, known[1].member_id
    return None


def begun_at(path: str) -> int:
    """`first_revision` of the founding on a source that made this directory, on which no server runs.

    Looks, and changes nothing. Raises CorruptLog, StorageFailed.
    """
    database = Database(f"{path}/{state_name(RealFiles(), path)}", read_only=True)
    try:
        key = NAMESPACES.prefix + NAMESPACES.encode_key(WHOLE_HISTORY)
        stored = database.get(key)
        if stored is None:
            raise CorruptLog(f"{database.path}: does not say where its history begins")
        return NAMESPACES.decode_value(resolve(database.get, key, stored)).compacted
    finally:
        database.close()


def second_above(revision: int) -> int:
    """The first second since 1970 at which a cluster that begins hands out none but higher revisions by its clock."""
    return -(-revision >> REVISION_SHIFT)


def refuse_unless_blank(files: Files, path: str) -> None:
    """Raises NotBlank for a directory that has an identity. Looks, and touches nothing."""
    known = member_of(files, path)
    if known is not None:
        raise NotBlank(
            f"{path}: is not blank: it is member {known[1]} of cluster {known[0].hex()}; "
            "a cluster is founded only in a directory that is blank or not there yet"
        )


def refuse_unless_new(files: Files, path: str, cluster_id: bytes) -> bool:
    """Whether a directory is blank; False: it is that cluster's already. Raises NotBlank. Looks, and touches nothing.

    Stricter than `member_of`: data without a guard file that can be read is somebody's.
    """
    known = member_of(files, path)
    if known is not None and known[0] == cluster_id:
        return False
    refuse_unless_blank(files, path)
    names = sorted(set(files.list_dir(path)) - {"LOCK", "lost+found"}) if files.exists(path) else []
    guard = f"{path}/{GUARD_NAME}"
    slots = (decode_slot(files.read(guard, at * SLOT_DISTANCE, SLOT_SIZE)) for at in (0, 1) if files.exists(guard))
    if names and UNFINISHED_NAME not in names and all(slot is None for slot in slots):
        what = f"holds {names[0]!r} and no guard file that can be read, so whose it is can't be told"
        raise NotBlank(f"{path}: is not blank: it {what}")
    return True


def room_for(bytes_total: int) -> int:
    """Free bytes that founding on a state of this size asks for."""
    return int(bytes_total * ROOM_SHARE) + ROOM_BYTES


def refuse_without_room(path: str, bytes_total: int) -> None:
    """Raises NoRoom. The nearest directory that is there tells how much room there is."""
    at = os.path.abspath(path)
    while not os.path.isdir(at) and at != os.path.dirname(at):  # ends: at gets shorter
        at = os.path.dirname(at)
    space = os.statvfs(at)
    free, need = space.f_bavail * space.f_frsize, room_for(bytes_total)
    if free < need:
        need_mib, free_mib = -(-need >> 20), free >> 20  # rounded so that the three numbers add up
        room = f"{need_mib} MiB are needed and {free_mib} MiB are free"
        raise NoRoom(f"{path}: {room}, {need_mib - free_mib} MiB are missing: nothing was written")


def _clear(files: Files, path: str, *, there: bool) -> None:
    """Remove all that a failed founding left, as far as that is possible; the directory too if it was not there."""
    if not there:
        files.remove_tree(path)
        return
    for name in files.list_dir(path):
        if name not in ("LOCK", "lost+found", UNFINISHED_NAME):
            _remove(files, f"{path}/{name}")
    _remove(files, f"{path}/{UNFINISHED_NAME}")  # last: what could not be removed is not taken for a directory


def _remove(files: Files, path: str) -> None:
    with contextlib.suppress(StorageFailed):
        files.remove_tree(path)
        files.unlink(path)


def _found(directory: DataDirectory, source: Source, founder: Founder, unix_seconds: int, cluster_id: bytes) -> Founded:
    name = directory.next_state_name()
    side = f"{directory.path}/{name}"
    configuration = _configuration(founder, directory.identity.incarnation)
    database = directory.open_database(side)
    try:
        fill(database, source.stream, source.where)
        store = StateStore(database)
        levels, term = _replay(store, source)
        index = store.applied
        refounding = Refounding(store, unix_seconds=unix_seconds)
        for _ in refounding.steps(index=1, term=1):
            _seal(store, Index(store.applied + 1), term)
        _store_all(store)
        base = Base(Index(1), Term(1), configuration, Index(1), Levels(levels.active, levels.active))
        _move_to(database, base, store.hash)
        database.flush()
    finally:
        database.close()
    directory.files.sync_dir(side)
    directory.files.sync_dir(directory.path)
    directory.found(name, cluster_id=cluster_id, member_id=NodeId(1), configuration=configuration, levels=base.levels)
    return Founded(
        cluster_id,
        1,
        index,
        term,
        index - source.stream[0].applied,
        refounding.stored_revision,
        refounding.first_revision,
        refounding.sessions_ended,
        refounding.locks_released,
    )


def _configuration(founder: Founder, incarnation: bytes) -> Configuration:
    """The founder alone (raft.md §2); the others join it, with ids that it mints."""
    where = (founder.name, founder.peer_address, founder.client_address, incarnation)
    return Configuration(1, (Member(NodeId(1), *where, voter=True),), NodeId(2), founder.full_min)


def _replay(store: StateStore, source: Source) -> tuple[Levels, Term]:
    """Apply the source's entries; the levels in force after them and the last one's term."""
    levels, machine, term = source.levels, None, store.applied_term
    for entry in source.entries:
        if machine is None:
            machine = StateMachine(store)
        if entry.kind is EntryKind.GATE:
            levels = fold(levels, entry.index, decode_gate(entry.payload))
        machine.apply(entry, decode_batch(entry.payload) if entry.kind is EntryKind.DATA else ())
        term = entry.term
        _seal(store, entry.index, term)
    return levels, term


def _seal(store: StateStore, index: Index, term: Term) -> None:
    if store.sealed(index, term):
        while store.store(NO_LIMIT):  # ends: each turn writes one of finitely many generations, or parts of one
            pass


def _store_all(store: StateStore) -> None:
    while store.applied_stored < store.applied:  # ends: as in _seal; the last turn closes what is open
        store.store(NO_LIMIT)


def _move_to(database: StateDatabase, base: Base, state_hash: int) -> None:
    """The same records, standing at `base`: index and hash of a state are the store's own record, outside the hash."""
    database.write(((META_KEY, Meta(base.index, base.term, state_hash).encode()),))
    write_base(database, base)


def entries_after(directory: DataDirectory, index: int) -> Iterator[Entry]:
    """Every entry of a directory's log above `index`, a page at a time. Raises CorruptLog, StorageFailed."""
    journal, at = directory.journal, Index(index + 1)
    while at <= journal.last_index:  # ends: at rises
        page = journal.entries(at, Index(journal.last_index + 1), LOG_PAGE_BYTES)
        yield from page
        at = Index(page[-1].index + 1)


def initialise(
    path: str,
    founder: Founder,
    *,
    cluster_id: bytes,
    level: int,
    unix_seconds: int,
    disk: Disk | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    ballast_bytes: int = BALLAST_BYTES,
) -> None:
    """Genesis in a directory that is blank or not there: the first member of a new, empty cluster, once.

    Raises NotBlank, DirectoryBusy, WrongFormat, StorageFailed; what is left then is blank.
    """
    disk = disk or Disk(RealFiles(), Database)
    refuse_unless_blank(disk.files, path)
    there = disk.files.exists(path)
    if not disk.is_model:
        refuse_without_room(path, 0)
    directory = DataDirectory.open(
        path, create=True, segment_bytes=segment_bytes, ballast_bytes=ballast_bytes, disk=disk
    )
    try:
        directory.genesis(
            cluster_id=cluster_id,
            member_id=NodeId(1),
            configuration=_configuration(founder, directory.identity.incarnation),
            levels=Levels(level, level),
            revision=revision_floor(unix_seconds),
        )
    except FAILURES:
        with contextlib.suppress(StorageFailed):
            directory.close()
        if not there:
            disk.files.remove_tree(path)
        raise
    directory.close()
