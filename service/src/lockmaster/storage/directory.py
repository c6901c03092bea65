"""A member's data directory: one object that owns all four things on disk (service.md §5, FORMAT.md).

Layout: LOCK (flock), FORMAT, guard, STATE (names the state directory), journal/, state-N/ (RocksDB), snapshots/,
ballast. Order of creation: everything else first, FORMAT last; a directory without FORMAT was never used.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from lockmaster_raft.ids import NO_NODE, NO_TIME, Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import LEVEL_MAX, Configuration, Levels
from lockmaster_raft.ready import Base, HardState, Persist
from lockmaster_raft.storage import BootState

from lockmaster.statemachine.records import META, META_KEY
from lockmaster.statemachine.view import StateView
from lockmaster.storage.boot import boot
from lockmaster.storage.errors import Amnesia, CorruptLog, StorageFailed, WrongFormat
from lockmaster.storage.files import Files, RealFiles, failed, replace_file
from lockmaster.storage.format import FORMAT_NAME, check_format, check_level, write_format
from lockmaster.storage.guard import GUARD_NAME, GuardFile
from lockmaster.storage.journal import SEGMENT_BYTES, Journal, Write
from lockmaster.storage.rocks import Database, StateDatabase
from lockmaster.storage.segment import segment_name, segment_numbers
from lockmaster.storage.state import StateStore

STATE_NAME: Final = "STATE"
BALLAST_NAME: Final = "ballast"
BALLAST_BYTES: Final = 64 << 20
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
    threads: bool = True


class DataDirectory:
    """The open data directory. One per process; loop thread, except Write.run and StateStore.flush."""

    def __init__(
        self,
        path: str,
        lock: int,
        guard: GuardFile,
        journal: Journal,
        state: StateStore,
        disk: Disk,
    ) -> None:
        self.path = path
        self.guard = guard
        self.journal = journal
        self.state = state
        self._lock = lock
        self.files = disk.files
        self.open_database = disk.open_database
        self._state_replaced = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        create: bool,
        segment_bytes: int = SEGMENT_BYTES,
        ballast_bytes: int = BALLAST_BYTES,
        level_max: int = LEVEL_MAX,
        disk: Disk | None = None,
    ) -> DataDirectory:
        """Lock and open a data directory, making a blank one if `create` and there is none.

        `level_max` is the highest level that this binary knows, `disk` what it all lies on; only tests pass others
        than the build's and the machine's.

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
            _create_if_blank(files, root, create, ballast_bytes)
            needed = check_format(files, root, level_max)
            guard = GuardFile.open(files, root)
            check_level(guard.state.level, guard.path, level_max)
            if needed != guard.state.level:  # a crash between the two writes of a change of level
                write_format(files, root, guard.state.level)
            guard.set_boot_nonce(secrets.randbits(63))
            if guard.state.cluster_id is None:
                _forget_aborted_genesis(files, root, guard)
            journal = Journal(files, f"{root}/journal", guard, segment_bytes=segment_bytes, threads=disk.threads)
            if journal.last_term > guard.state.hard_state.term:
                term = guard.state.hard_state.term
                raise CorruptLog(f"{guard.path}: term {term} is below the journal's last term {journal.last_term}")
            state = StateStore(disk.open_database(f"{root}/{_state_name(files, root)}"))
            files.sync_dir(root)
            directory = cls(root, lock, guard, journal, state, disk)
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
        s, meta = self.guard.state, self.state.get(META, META_KEY)
        time = Nanos(meta.cluster_time) if meta is not None else NO_TIME
        return BootState(s.hard_state, self.journal, self.state.applied_stored, s.level, s.boot_nonce, time)

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

    def begin(self, persist: Persist) -> Write:
        """Encode one Persist (loop thread). Then `run` it in any one thread, then `finish` it, all in order."""
        self.journal.protect(self.state.applied)
        return self.journal.begin(persist)

    def finish(self, write: Write) -> None:
        """Let reads, durable_index and base see a run Write (loop thread)."""
        self.journal.finish(write)
        if self._state_replaced and self.journal.base.index >= self.state.applied_stored:
            self._state_replaced = False
            self._remove_side_states()

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
        self._store_all(self.journal.durable_index)
        self.state.flush()
        self.state.close()
        self.journal.close()
        self.guard.close()
        self.files.close(self._lock)

    def abandon(self) -> None:
        """Unlock and stop the threads without storing anything: after a storage error, before the process exits."""
        self.files.close(self._lock)

    def replace_state(self, name: str) -> None:
        """Make `name` (verified, flushed, fsynced) the state directory, durably, and open it as `self.state`.

        The old one goes when the BASE that follows is finished, or at the next boot.
        """
        self.state.close()
        _write_state_name(self.files, self.path, name)
        self.state = StateStore(self.open_database(f"{self.path}/{name}"))
        self._state_replaced = True

    def next_state_name(self) -> str:
        """A name for a side directory of state that is not in use (remains of an earlier try are removed)."""
        self._remove_side_states()
        return _following(self.state.path)

    def _persist(self, persist: Persist) -> None:
        write = self.begin(persist)
        write.run()
        self.finish(write)

    def _store_all(self, durable: Index) -> None:
        self.state.release()
        while self.state.store(durable):  # ends: each turn writes one of finitely many generations
            pass
        self.state.store(durable)  # the one that was open

    def _reconcile(self) -> None:
        """Log and state must meet: base.index <= applied <= last_index, or the state is a snapshot just installed."""
        self._remove_side_states()
        applied, term = self.state.applied_stored, self.state.applied_term
        base = self.state.base()
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

    def _remove_side_states(self) -> None:
        keep = os.path.basename(self.state.path)
        for name in self.files.list_dir(self.path):
            if name.startswith("state-") and name != keep:
                self.files.remove_tree(f"{self.path}/{name}")


def _refuse_foreign(files: Files, root: str) -> None:
    """Raises WrongFormat if a directory without FORMAT holds what no member ever wrote."""
    if files.exists(f"{root}/{FORMAT_NAME}"):
        return
    names = set(files.list_dir(root)) - {"LOCK", "lost+found"}
    strange = sorted(n for n in names if n.split("-")[0].split(".")[0] not in _OURS)
    if strange:
        raise WrongFormat(f"{root}: is not a data directory: it holds {strange[0]!r} and no {FORMAT_NAME}")


def _create_if_blank(files: Files, root: str, create: bool, ballast_bytes: int) -> None:
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
    _write_state_name(files, root, "state-1")
    if ballast_bytes:
        files.create_zeroed(f"{root}/{BALLAST_NAME}", ballast_bytes)
    GuardFile.create(files, root, secrets.token_bytes(16)).close()
    files.sync_dir(journal)
    write_format(files, root)
    files.sync_dir(os.path.dirname(os.path.abspath(root)))


_OURS: Final = frozenset({"journal", "state", "snapshots", STATE_NAME, BALLAST_NAME, GUARD_NAME, FORMAT_NAME})


def _write_state_name(files: Files, root: str, name: str) -> None:
    replace_file(files, root, STATE_NAME, f"{name} {crc32(name.encode()):08x}\n".encode())


def _state_name(files: Files, root: str) -> str:
    path = f"{root}/{STATE_NAME}"
    if not files.exists(path):
        raise CorruptLog(f"{path}: is missing; it names the state directory")
    name, _, crc = files.read(path, 0, 256).rstrip(b"\n").rpartition(b" ")
    if crc != f"{crc32(name):08x}".encode():
        raise CorruptLog(f"{path}: checksum does not match")
    return name.decode()


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
    name = _state_name(files, root)
    if files.exists(f"{root}/{name}"):
        _write_state_name(files, root, _following(name))


def _following(name: str) -> str:
    return f"state-{int(name.rpartition('-')[2]) + 1}"
