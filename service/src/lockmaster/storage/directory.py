"""A member's data directory: one object that owns all four things on disk (service.md §5, FORMAT.md).

Layout: LOCK (flock), FORMAT, guard, STATE (names the state directory, or says that there is none), journal/, state-N/
(RocksDB), side-N/ (a promotion's, side.py), snapshots/, ballast. Order of creation: everything else first, FORMAT last;
a directory without FORMAT was never used.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import NO_NODE, NO_TIME, Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import LEVEL_MAX, Configuration, Levels
from lockmaster_raft.ready import Base, HardState, Persist
from lockmaster_raft.storage import BootState, SideState

from lockmaster.statemachine.records import META, META_KEY
from lockmaster.statemachine.view import StateView
from lockmaster.storage.boot import boot
from lockmaster.storage.errors import Amnesia, CorruptLog, StorageFailed, WrongFormat
from lockmaster.storage.files import Files, RealFiles, failed, replace_file
from lockmaster.storage.format import FORMAT_NAME, check_format, check_level, write_format
from lockmaster.storage.guard import GUARD_NAME, GuardFile
from lockmaster.storage.journal import SEGMENT_BYTES, WITNESS_SEGMENT_BYTES, Journal, Write
from lockmaster.storage.rocks import Database, StateDatabase
from lockmaster.storage.segment import segment_name, segment_numbers
from lockmaster.storage.side import (
    NO_STATE,
    STATE_NAME,
    clear_ready,
    find_ready,
    following,
    side_name,
    state_directories,
    state_name,
    state_number,
    write_ready,
    write_state_name,
)
from lockmaster.storage.state import StateStore

UNFINISHED_NAME: Final = "UNFINISHED"
"""There from the first byte of a restore or recovery until the cluster is founded: `found`."""
BALLAST_NAME: Final = "ballast"
BALLAST_BYTES: Final = 64 << 20
WITNESS_BALLAST_BYTES: Final = 16 << 20
FREE_BYTES_MIN: Final = 512 << 20
FREE_SHARE_MIN: Final = 0.10


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this data directory is. `cluster_id` None and `member_id` 0: blank, waiting to be joined."""

    cluster_id: bytes | None
    member_id: NodeId
    incarnation: bytes
    boot_nonce: int
    hard_state: HardState
    level: int


@dataclass(frozen=True, slots=True)
class Space:
    """Room on the file system. `low`: below max(10 %, 512 MiB), the leader admits only reserved kinds."""

    free_bytes: int
    total_bytes: int

    @property
    def low(self) -> bool:
        """Whether admission must be narrowed."""
        return self.free_bytes < max(FREE_BYTES_MIN, int(self.total_bytes * FREE_SHARE_MIN))


@dataclass(frozen=True, slots=True)
class Disk:
    """What a data directory lies on; recording.py and recording_database.py are the model of one that can crash."""

    files: Files
    open_database: Callable[[str], StateDatabase]
    is_model: bool = False
    """No other thread or process may work on it, and it has no size."""


class DataDirectory:
    """The open data directory. One per process; loop thread, except where a method says otherwise."""

    def __init__(self, path: str, lock: int, guard: GuardFile, journal: Journal, disk: Disk) -> None:
        self.path = path
        self.guard = guard
        self.journal = journal
        self.store: StateStore | None = None
        """The open state; None on a witness."""
        self.side_epoch: int | None = None
        """Of the promotion whose side directory `store` is; None: it is this member's own."""
        self._lock = lock
        self.files = disk.files
        self.open_database = disk.open_database
        self.is_model = disk.is_model

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        create: bool,
        witness: bool = False,
        segment_bytes: int = 0,
        ballast_bytes: int = -1,
        level_max: int = LEVEL_MAX,
        founding: bool = False,
        disk: Disk | None = None,
    ) -> DataDirectory:
        """Lock and open a data directory, making a blank one if `create` and there is none.

        A blank one is made for the role that it shall join with: without a state for a `witness`. One that belongs to
        a cluster is what the cluster made of it.

        Without a state (a witness's) segments and ballast are small: WITNESS_SEGMENT_BYTES, WITNESS_BALLAST_BYTES. Two
        segments lie ready at any time and it keeps little log. Who is promoted has such segments until the next boot.

        `level_max` is the highest level that this binary knows, `disk` what it all lies on; only tests pass others
        than the build's and the machine's, and other sizes. `founding` marks a blank directory UNFINISHED until `found`
        has returned; one so marked is opened for nothing else.

        Raises one-line errors: WrongFormat, CorruptLog, Amnesia, DirectoryBusy, StorageFailed. Nothing is repaired by
        guessing; a boot that finds the state ahead of the log (a snapshot was just installed) writes its BASE again.
        """
        disk = disk or Disk(RealFiles(), Database)
        files, root = disk.files, str(path)
        if create:
            files.make_dir(root)
        elif not files.exists(root):
            raise StorageFailed(f"{root}: there is no data directory")
        _refuse_foreign(files, root)  # before the first byte is written in it
        lock = files.lock(f"{root}/LOCK")
        try:
            if founding:
                replace_file(files, root, UNFINISHED_NAME, b"a restore or recovery has not ended: run it again\n")
            if ballast_bytes < 0:
                ballast_bytes = WITNESS_BALLAST_BYTES if witness else BALLAST_BYTES
            _create_if_blank(files, root, create, ballast_bytes, NO_STATE if witness else _FIRST_STATE)
            needed = check_format(files, root, level_max)
            guard = GuardFile.open(files, root)
            check_level(guard.state.level, guard.path, level_max)
            if needed != guard.state.level:  # a crash between the two writes of a change of level
                write_format(files, root, guard.state.level)
            _check_finished(files, root, guard, founding)
            guard.set_boot_nonce(secrets.randbits(63))
            if guard.state.cluster_id is None:
                _forget_aborted_genesis(files, root, guard)
                if witness is not (state_name(files, root) == NO_STATE):
                    write_state_name(files, root, NO_STATE if witness else _FIRST_STATE)
            if not segment_bytes:
                segment_bytes = WITNESS_SEGMENT_BYTES if state_name(files, root) == NO_STATE else SEGMENT_BYTES
            journal = Journal(files, f"{root}/journal", guard, segment_bytes=segment_bytes, threads=not disk.is_model)
            if journal.last_term > guard.state.hard_state.term:
                term = guard.state.hard_state.term
                raise CorruptLog(f"{guard.path}: term {term} is below the journal's last term {journal.last_term}")
            directory = cls(root, lock, guard, journal, disk)
            directory._open_state()
            files.sync_dir(root)
            directory._reconcile()
        except BaseException:
            files.close(lock)
            raise
        return directory

    @property
    def identity(self) -> Identity:
        """Who this is, as the guard file says."""
        s = self.guard.state
        return Identity(s.cluster_id, s.member_id, s.incarnation, s.boot_nonce, s.hard_state, s.level)

    @property
    def boot_state(self) -> BootState:
        """What Node starts from."""
        s, store, epoch = self.guard.state, self.store, self.side_epoch
        applied = store.applied_stored if store is not None else self.journal.base.index
        side = SideState(epoch, applied) if epoch is not None else None
        own_state = store is not None and side is None
        meta = store.get(META, META_KEY) if store is not None else None
        time = Nanos(meta.cluster_time) if meta is not None else NO_TIME
        return BootState(s.hard_state, self.journal, applied, s.level, s.boot_nonce, own_state, side, time)

    @property
    def state(self) -> StateStore:
        """The open state. InvariantViolation where there is none: ask `store` first where that may be."""
        if self.store is None:
            raise InvariantViolation(f"{self.path}: holds no state")
        return self.store

    @property
    def space(self) -> Space:
        """Free and total bytes of the file system."""
        try:
            found = os.statvfs(self.path)
        except OSError as error:
            raise failed("statvfs", self.path, error) from error
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    def assign(self, cluster_id: bytes, member_id: NodeId) -> None:
        """Give a blank directory its place in a cluster, durably. Refused if it has another one."""
        known = self.guard.state
        if (known.cluster_id, known.member_id) == (cluster_id, member_id):
            return
        if known.cluster_id is not None:
            raise StorageFailed(
                f"{self.path}: belongs to member {known.member_id} already; it cannot become {member_id}"
            )
        self.guard.set_identity(cluster_id, member_id)

    def genesis(
        self,
        *,
        cluster_id: bytes,
        member_id: NodeId,
        configuration: Configuration,
        levels: Levels,
        revision: int = 0,
        initialise: Callable[[StateView], None] | None = None,
    ) -> None:
        """Found a cluster: state and BASE at index 1, term 1, then identity, all durable. Refused if not blank.

        The state machine's meta record starts at `revision`; `initialise` replaces what writes it (tests). A crash in
        the middle leaves a directory without identity, whose remains the next `open` removes.
        """
        if self.store is None:
            raise StorageFailed(f"{self.path}: is a witness's; a cluster is founded by a full member")
        if self.guard.state.cluster_id is not None or self.journal.last_index or self.state.applied:
            raise StorageFailed(f"{self.path}: is not blank; a cluster is founded only in a blank data directory")
        base = Base(Index(1), Term(1), configuration, Index(1), levels)
        if initialise is not None:
            initialise(self.state)
        else:
            from lockmaster.statemachine.apply import StateMachine  # here: only genesis needs it

            StateMachine.initialise(self.state, index=base.index, term=base.term, revision=revision)
        self.state.sealed(base.index, base.term)
        self.state.write_base(base)
        self._store_all(base.index)
        self.state.flush()
        level = max(levels.active, levels.fence)
        self._persist(Persist(PersistSeq(0), HardState(Term(1), NO_NODE), None, (), base, level))
        self.guard.set_identity(cluster_id, member_id)

    def found(
        self, name: str, *, cluster_id: bytes, member_id: NodeId, configuration: Configuration, levels: Levels
    ) -> None:
        """Found a cluster on a state that was built in the side directory `name`: verified, flushed, fsynced.

        Like `genesis`: BASE at index 1, term 1, identity last. A crash in the middle leaves a directory that is still
        marked UNFINISHED and without identity. Raises StorageFailed, refusing one that is not blank.
        """
        if self.guard.state.cluster_id is not None or self.journal.last_index or self.state.applied:
            raise StorageFailed(f"{self.path}: is not blank; a cluster is founded only in a blank data directory")
        base = Base(Index(1), Term(1), configuration, Index(1), levels)
        self.remove_replaced(self.attach_state(self.open_replacement(name, base)))
        level = max(levels.active, levels.fence)
        self._persist(Persist(PersistSeq(0), HardState(Term(1), NO_NODE), None, (), base, level))
        self.guard.set_identity(cluster_id, member_id)
        self.files.unlink(f"{self.path}/{UNFINISHED_NAME}")
        self.files.sync_dir(self.path)

    def begin(self, persist: Persist) -> Write:
        """Encode one Persist (loop thread). Then `run` it in any one thread, then `finish` it, all in order."""
        if self.store is not None:
            self.journal.protect(self.store.applied)
        return self.journal.begin(persist)

    def finish(self, write: Write) -> None:
        """Let reads, durable_index and base see a run Write (loop thread)."""
        self.journal.finish(write)

    def remove_ballast(self) -> bool:
        """Give back the ballast's room on a full disk. False if it is gone already."""
        path = f"{self.path}/{BALLAST_NAME}"
        there = self.files.exists(path)
        self.files.unlink(path)
        return there

    def checkpoint(self, path: str) -> None:
        """A copy of the state at rest, by hard links. Blocks: call it in a thread. Raises StorageFailed."""
        self.files.remove_tree(path)
        self.files.make_dir(os.path.dirname(path))
        self.state.flush()
        self.state.database.checkpoint(path)

    def close(self) -> None:
        """Flush the state, write the last mark, close all, unlock."""
        if self.store is not None:
            self._store_all(self.journal.durable_index)
            self.store.flush()
            self.store.close()
        self.journal.close()
        self.guard.close()
        self.files.close(self._lock)

    def abandon(self) -> None:
        """Unlock and stop the threads without storing anything: after a storage error, before the process exits."""
        self.files.close(self._lock)

    def open_replacement(self, name: str, base: Base) -> StateStore:
        """Make `name` (verified, flushed, fsynced) the state directory, durably, and open it. Blocks: in a thread.

        From here on a boot goes on with it and writes its BASE itself; this process does after `attach_state`. Raises
        StorageFailed, changing nothing, if it is not the state at `base`.
        """
        store = self._open_built(name, base.index, base.term)
        write_state_name(self.files, self.path, name)
        return store

    def _open_built(self, name: str, index: Index, term: Term) -> StateStore:
        store = StateStore(self.open_database(f"{self.path}/{name}"))
        if (store.applied_stored, store.applied_term) != (index, term):
            found = f"({store.applied_stored}, {store.applied_term})"
            store.close()
            raise StorageFailed(
                f"{store.path}: holds the state at {found}, not the one that was built, at ({index}, {term})"
            )
        return store

    def attach_state(self, store: StateStore, *, side_epoch: int | None = None) -> StateStore | None:
        """Go on with an opened state (loop thread); the one so far, for `remove_replaced`."""
        before, self.store, self.side_epoch = self.store, store, side_epoch
        return before

    def remove_replaced(self, before: StateStore | None) -> None:
        """Close the state that another was attached in place of, and remove it. Blocks: in a thread."""
        if before is not None:
            before.close()
        self._remove_side_states()

    def next_state_name(self) -> str:
        """A name for a side directory of state that is not in use (remains of an earlier try are removed)."""
        self._remove_side_states()
        return following(self.state.path)

    def next_side(self, epoch: int) -> str:
        """The name of a blank side directory for this promotion; all others are removed. Blocks: in a thread."""
        if self.store is not None:
            raise InvariantViolation(f"{self.path}: a side state is to be built beside an open one")
        self._remove_side_states()
        self.files.sync_dir(self.path)  # else a removed one with `sm_ready` might come back
        return side_name(epoch)

    def open_side(self, epoch: int, index: Index, term: Term) -> StateStore:
        """Open the side directory that was built for this promotion (P3), for `attach_state`. Blocks: in a thread.

        Raises StorageFailed if it is not the state at (index, term).
        """
        if self.store is not None:
            raise InvariantViolation(f"{self.path}: a side state is to be opened beside an open one")
        return self._open_built(side_name(epoch), index, term)

    def finish_side(self, epoch: int) -> Index:
        """Flush the open side state and write its `sm_ready` (end of P3); the index it is flushed to. In a thread."""
        if self.side_epoch != epoch:
            raise InvariantViolation(f"{self.path}: the open state is not that of promotion {epoch}")
        flushed = self.state.flush()
        write_ready(self.files, f"{self.path}/{side_name(epoch)}", epoch, flushed)
        return flushed

    def adopt_side(self, epoch: int) -> bool:
        """The side state is this member's own from here on, durably (P4). False if it is not (or no longer) a side."""
        if self.side_epoch != epoch:
            return False
        write_state_name(self.files, self.path, side_name(epoch))
        self.side_epoch = None
        return True

    def detach_state(self) -> StateStore | None:
        """No state from here on, in memory only: `erase_states` makes it so on the disk. The store, for it to close."""
        store, self.store, self.side_epoch = self.store, None, None
        return store

    def erase_states(self, detached: StateStore | None) -> None:
        """Close a detached state and remove every one there is, durably (D2, or an abort). Blocks: in a thread.

        Crash-safe: no side counts, then STATE says `none`, before the first byte goes. (The other way round an adopted
        side directory would be a promotion's again in between.)
        """
        clear_ready(self.files, self.path)
        if state_name(self.files, self.path) != NO_STATE:
            write_state_name(self.files, self.path, NO_STATE)
        if detached is not None:
            detached.close()
        for name in state_directories(self.files, self.path):
            self.files.remove_tree(f"{self.path}/{name}")
        self.files.sync_dir(self.path)

    def _persist(self, persist: Persist) -> None:
        write = self.begin(persist)
        write.run()
        self.finish(write)

    def _store_all(self, durable: Index) -> None:
        self.state.release()
        while self.state.store(durable):  # ends: each turn writes one of finitely many generations
            pass
        self.state.store(durable)  # the one that was open

    def _open_state(self) -> None:
        """Open what the boot goes on with: the own state, or a whole side one, or nothing."""
        files, name = self.files, state_name(self.files, self.path)
        if name != NO_STATE:
            self.store = StateStore(self.open_database(f"{self.path}/{name}"))
            return
        side = find_ready(files, self.path)
        if side is None:
            return
        store = StateStore(self.open_database(f"{self.path}/{side.name}"))
        if store.applied_stored < side.index:
            stands = f"stands at {store.applied_stored}"
            raise CorruptLog(f"{store.path}: {stands}, but was flushed up to {side.index}")
        self.store, self.side_epoch = store, side.epoch

    def _reconcile(self) -> None:
        """Log and state must meet: base.index <= applied <= last_index, or the state is a snapshot just installed."""
        self._remove_side_states()
        if self.store is None:
            return
        applied, term = self.state.applied_stored, self.state.applied_term
        if applied < self.journal.base.index and self._is_no_full_member_at_base():
            # It became a witness, and ended between that BASE and the removal of its state.
            self.erase_states(self.detach_state())
            return
        base = self.state.base() if self.side_epoch is None else None
        installed = base is not None and base.index == applied and base.index > self.journal.base.index
        if base is not None and installed and self.journal.term(base.index) != base.term:
            self._persist(Persist(PersistSeq(0), None, None, (), base))
        if applied > self.journal.last_index:
            raise Amnesia(f"{self.path}: the state stands at {applied}, the journal ends at {self.journal.last_index}")
        if applied < self.journal.base.index:
            raise CorruptLog(
                f"{self.state.path}: stands at {applied}, below the journal's base {self.journal.base.index}"
            )
        held = self.journal.term(applied)
        if applied and held != term:
            raise CorruptLog(f"{self.state.path}: applied entry {applied} of term {term}; the journal has term {held}")

    def _is_no_full_member_at_base(self) -> bool:
        member = self.journal.base.configuration.member(self.guard.state.member_id)
        return member is not None and not member.is_full

    def _remove_side_states(self) -> None:
        keep = os.path.basename(self.store.path) if self.store is not None else ""
        for name in state_directories(self.files, self.path):
            if name != keep:
                self.files.remove_tree(f"{self.path}/{name}")


_FIRST_STATE: Final = "state-1"


def _refuse_foreign(files: Files, root: str) -> None:
    """Raises WrongFormat if a directory without FORMAT holds what no member ever wrote."""
    if files.exists(f"{root}/{FORMAT_NAME}"):
        return
    names = set(files.list_dir(root)) - {"LOCK", "lost+found"}
    strange = sorted(n for n in names if n.split("-")[0].split(".")[0] not in _OURS)
    if strange:
        raise WrongFormat(f"{root}: is not a data directory: it holds {strange[0]!r} and no {FORMAT_NAME}")


def _create_if_blank(files: Files, root: str, create: bool, ballast_bytes: int, state: str) -> None:
    if files.exists(f"{root}/{FORMAT_NAME}"):
        return
    _refuse_foreign(files, root)
    journal = f"{root}/journal"
    used = files.exists(journal) and bool(segment_numbers(files.list_dir(journal)))
    if used:
        raise CorruptLog(f"{root}/{FORMAT_NAME}: is missing, but there is a journal")
    if not create:
        raise StorageFailed(f"{root}: is blank; there is no {FORMAT_NAME} file")
    files.make_dir(journal)
    write_state_name(files, root, state)
    if ballast_bytes:
        files.create_zeroed(f"{root}/{BALLAST_NAME}", ballast_bytes)
    GuardFile.create(files, root, secrets.token_bytes(16)).close()
    files.sync_dir(journal)
    write_format(files, root)
    files.sync_dir(os.path.dirname(os.path.abspath(root)))


def _check_finished(files: Files, root: str, guard: GuardFile, founding: bool) -> None:
    """A founding whose last step is there is whole; any other is opened only to be done again."""
    if founding or not files.exists(f"{root}/{UNFINISHED_NAME}"):
        return
    if guard.state.cluster_id is None:
        raise WrongFormat(f"{root}: a restore or recovery into it has not ended: run it again, or remove the directory")
    files.unlink(f"{root}/{UNFINISHED_NAME}")
    files.sync_dir(root)


_OURS: Final = frozenset(
    {"journal", "state", "side", "snapshots", STATE_NAME, BALLAST_NAME, GUARD_NAME, FORMAT_NAME, UNFINISHED_NAME}
)


def _forget_aborted_genesis(files: Files, root: str, guard: GuardFile) -> None:
    """Without identity nothing was ever acknowledged: what a crashed genesis left is removed, if it is only that."""
    directory = f"{root}/journal"
    last_index = boot(files, directory, guard.state.mark).index.last_index
    if last_index > 1:
        raise CorruptLog(f"{guard.path}: has no identity, but the journal reaches index {last_index}")
    if last_index == 1:
        guard.reset()
        for segment in segment_numbers(files.list_dir(directory)):
            files.unlink(f"{directory}/{segment_name(segment)}")
        files.sync_dir(directory)
    # A founding that crashed may have left side states: above them all, nothing comes back after another crash.
    names = [n for n in files.list_dir(root) if n.startswith("state-") and n[6:].isdigit()]
    if files.exists(f"{root}/{state_name(files, root)}"):
        write_state_name(files, root, following(max(names, key=state_number)))
