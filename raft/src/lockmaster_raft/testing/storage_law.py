"""The law of the storage, as a simulated host obeys it: what fails stops the process, what can't be trusted stays down.

service.md §5: a short or failed write or sync ends the process, without a retry; a boot reads every frame and refuses
damage and amnesia. A directory that was refused is given up: its host is `lost`, and whoever operates the cluster
replaces the member by a new incarnation (role_churn.py). On a full disk nothing starts until there is room again.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.errors import CorruptLog, StorageFailed
from lockmaster_raft.testing.disk import Amnesia

if TYPE_CHECKING:
    from lockmaster_raft.messages import InstallSnapshot
    from lockmaster_raft.testing.host import Host

FREE_BYTES: Final = 1 << 34
LOW_BYTES: Final = 1 << 20


class StorageLaw:
    """One host's; outlives its boots."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.full_until = 0
        """The disk is nearly or wholly full before that time."""
        self.flip_chunk = False
        """The next snapshot chunk that is stored here gets a flipped bit."""
        self.flip_served_chunk = False
        """So does the next chunk that is served from here, on this disk."""
        self.unreadable_state = False
        """The next use of the state store fails with EIO."""

    @property
    def low(self) -> bool:
        """Whether so little room is left that a leader admits only what is reserved (service.md §5, Space)."""
        return self.full_until > self._host.cluster.scheduler.now

    @property
    def free_bytes(self) -> int:
        """What a StorageReport says."""
        return LOW_BYTES if self.low else FREE_BYTES

    @property
    def damaged(self) -> bool:
        """Whether a boot would refuse this directory now, or could after a torn write."""
        host = self._host
        state = host.dirs.own is not None and host.dirs.own.flipped
        return state or (host.disk is not None and host.disk.damaged)

    def stop(self, why: str) -> None:
        """The storage failed: the process ends before anything else happens in it; somebody starts it again."""
        host = self._host
        if not host.running or host.node is None:
            return
        cluster = host.cluster
        cluster.note(f"{host.number} stops: {why}")
        cluster.count(f"stopped: {why}")
        host.node = None
        boots = host.boots

        def end() -> None:
            if boots == host.boots:
                host.crash(False)
                self.start_later(0.05, 3)

        cluster.scheduler.after(0, end)

    def reads_state(self, *, whole: bool) -> bool:
        """The state store is used, its `whole` read; False: that failed, and the process ends."""
        state = self._host.state
        if self.unreadable_state:
            self.unreadable_state = False
            self.stop("EIO in the state store")
        elif whole and state is not None and state.flipped:
            self.stop("corrupt block read")
        return self._host.node is not None

    def stored(self, chunk: bytes) -> bytes:
        """A received chunk as the disk has it: with a flipped bit if that fault is due."""
        if not self.flip_chunk or not chunk:
            return chunk
        self.flip_chunk = False
        return bytes((chunk[0] ^ 1,)) + chunk[1:]

    def damaged_piece(self, snapshot: InstallSnapshot) -> int | None:
        """The number of a stored chunk that does not match its digest any more (it is thrown away), or None."""
        pieces = self._host.pieces
        for number, digest in enumerate(snapshot.chunk_digests):
            where = (snapshot.last_index, number)
            if where in pieces and blake2b(pieces[where], digest_size=32).digest() != digest:
                del pieces[where]
                self._host.cluster.count("damaged chunk thrown away")
                return number
        return None

    def reads_chunk(self, found: bool) -> bool:
        """A chunk is read to be served, and compared with its digest; False: it is damaged, the process ends."""
        if found and self.flip_served_chunk:
            self.flip_served_chunk = False
            self.stop("own chunk damaged")
            return False
        return True

    def start_later(self, least: float, most: float) -> None:
        """Start the host again after a drawn number of seconds, unless somebody has by then."""
        host = self._host

        def start() -> None:
            if not host.running and not host.lost:
                host.boot()

        host.cluster.scheduler.after(int(SECOND * host.draw.uniform(least, most)), start)

    def may_boot(self) -> bool:
        """What a process finds before it starts its node; False: it ends again at once."""
        host, disk = self._host, self._host.disk
        if disk is None:
            return True
        if disk.room is not None and self.low:
            host.cluster.count("no start on a full disk")
            self.start_later(0.3, 2)
            return False
        disk.room = None
        if disk.store.unreadable:
            disk.store.unreadable = False
            host.cluster.count("no start: EIO at a read")
            self.start_later(0.3, 2)
            return False
        try:
            mended = disk.examine()
            if host.dirs.own is not None and host.dirs.own.flipped:
                raise CorruptLog("state: a block does not match its checksum")
        except StorageFailed as error:
            self._refuse(error)
            return False
        if mended:
            host.cluster.count(f"{mended} at boot")
        return True

    def _refuse(self, error: StorageFailed) -> None:
        host = self._host
        kind = "amnesia" if isinstance(error, Amnesia) else f"corrupt {str(error).split(':')[0]}"
        host.cluster.note(f"{host.number} refuses to start: {error}")
        host.cluster.count(f"refused to start: {kind}")
        host.lost = True
        host.refused = kind
