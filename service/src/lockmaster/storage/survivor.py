"""The last full member of a cluster whose majority is lost for good: what it holds, and what it cannot know.

A new cluster begins with all that a survivor has: its state, and every entry of its log on top, also those that it
never learned to be committed. An entry that was acknowledged may be among them, and one that was not is an operation
whose caller was told "unknown": so both outcomes are right, and dropping them would not be. What was acknowledged by
others after this member's last entry is lost, and nothing here can tell whether there was any.

Laws. Nothing of the survivor's directory is changed beyond what any boot of it writes. A witness holds no state, so
it is refused (raft.md §2): its log can be replayed on top of a backup.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lockmaster_raft.entry import EntryKind
from lockmaster_raft.gates import decode_gate, fold
from lockmaster_raft.ids import Index
from lockmaster_raft.membership import Configuration, Levels, Member, decode_configuration

from lockmaster.statemachine.records import META, META_KEY
from lockmaster.storage.directory import DataDirectory
from lockmaster.storage.errors import CorruptLog
from lockmaster.storage.founding import Source, entries_after
from lockmaster.storage.records import LARGE_PREFIX, TABLES_FIRST, Meta, resolve
from lockmaster.storage.records import META_KEY as STORED_META_KEY


class NoSurvivor(Exception):
    """This directory cannot found a cluster; the text is one line: why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """What a survivor's directory holds."""

    cluster_id: bytes
    member_id: int
    applied: int
    """Last entry that its state has on the disk."""
    last_index: int
    last_term: int
    """Last entry of its log: all up to it will be in the new cluster."""
    term: int
    """Highest term it has seen: above last_term, somebody may have led, and acknowledged, without it."""
    revision: int
    """Newest revision in the stored state."""
    configuration: Configuration
    """The latest one in its log."""
    levels: Levels
    """In force at `applied`."""

    @property
    def member(self) -> Member | None:
        """Itself in the configuration; None: it was removed."""
        return next((m for m in self.configuration.members if m.member_id == self.member_id), None)


def examine(directory: DataDirectory) -> Survivor:
    """Look at an open directory. Raises NoSurvivor, CorruptLog."""
    identity, journal = directory.identity, directory.journal
    if identity.cluster_id is None:
        raise NoSurvivor(f"{directory.path}: is blank: it never belonged to a cluster; name another survivor")
    base = journal.base
    store = directory.store
    configuration, levels, applied = base.configuration, base.levels, 0 if store is None else store.applied_stored
    for entry in entries_after(directory, base.index):
        if entry.kind is EntryKind.CONFIG:
            configuration = decode_configuration(entry.payload)
        elif entry.kind is EntryKind.GATE and entry.index <= applied:
            levels = fold(levels, entry.index, decode_gate(entry.payload))
    where = f"{directory.path}: member {identity.member_id} of cluster {identity.cluster_id.hex()}"
    own = next((m for m in configuration.members if m.member_id == identity.member_id), None)
    if own is not None and not own.is_full:
        raise NoSurvivor(
            f"{where} is a witness: it has the log from entry {base.index + 1} to {journal.last_index} and no state to "
            "apply it to; restore a backup and replay this log on top: lockmaster restore ARCHIVE --replay "
            f"{directory.path} --data-dir NEW --name NAME"
        )
    meta = store.get(META, META_KEY) if store is not None and applied else None
    if meta is None:
        raise NoSurvivor(f"{where} has no state yet; name another survivor, or restore a backup")
    return Survivor(
        identity.cluster_id,
        identity.member_id,
        applied,
        journal.last_index,
        journal.last_term,
        identity.hard_state.term,
        meta.revision,
        configuration,
        levels,
    )


def source_of(directory: DataDirectory, survivor: Survivor) -> Source:
    """Its state and its log's tail, read as they are asked for."""
    database = directory.state.database
    raw = database.get(STORED_META_KEY)
    if raw is None:
        raise CorruptLog(f"{database.path}: has no meta record")

    def records() -> Iterator[tuple[bytes, bytes]]:
        for full_key, stored in database.scan(TABLES_FIRST, LARGE_PREFIX):
            yield full_key, resolve(database.get, full_key, stored)

    size = sum(directory.files.size(f"{database.path}/{name}") for name in directory.files.list_dir(database.path))
    tail = entries_after(directory, survivor.applied)
    return Source((Meta.decode(raw), records()), database.path, size, survivor.levels, tail)


def check_follows(directory: DataDirectory, cluster_id: str, index: int, term: int) -> None:
    """Whether a directory's log goes on from the entry that a backup of `cluster_id` stands at. Raises NoSurvivor."""
    identity, journal = directory.identity, directory.journal
    own = identity.cluster_id.hex() if identity.cluster_id is not None else ""
    if own != cluster_id:
        raise NoSurvivor(f"{directory.path}: belongs to cluster {own or '(none)'}, the backup to {cluster_id}")
    if not journal.base.index <= index <= journal.last_index:
        why = "there is nothing to replay" if index > journal.last_index else "what lies between is gone"
        reach = f"its log reaches from entry {journal.base.index + 1} to {journal.last_index}"
        raise NoSurvivor(f"{directory.path}: {reach}; the backup stands at {index}: {why}")
    if journal.term(Index(index)) != term:
        raise NoSurvivor(f"{directory.path}: entry {index} is not of term {term}, as in the backup")
