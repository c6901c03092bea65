"""What a simulated host does for Ready.state: side directories, `sm_ready`, adoption and deletion, each crash-safe.

Models docs/consensus.md. On disk there is at most one state directory (`own`) and one side directory; what a boot opens
is decided from these two and the log's base alone. Deleting and renaming take a while, or never happen before a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lockmaster_raft.events import Applied, PieceRefused, SideOpened, SideReady
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels
from lockmaster_raft.ready import AdoptSide, Base, DropState, FinishSide, OpenSide, StateAction
from lockmaster_raft.storage import SideState
from lockmaster_raft.testing.disk import StateDisk
from lockmaster_raft.testing.snapshots import contents_of

if TYPE_CHECKING:
    from lockmaster_raft.testing.host import Host

BLANK: Final = Base(Index(0), Term(0), Configuration(0, (), NodeId(1)), Index(0), Levels())


@dataclass(slots=True)
class SideDirectory:
    """side-<epoch>; `ready` once `sm_ready` is in it."""

    epoch: int
    disk: StateDisk
    ready: bool = False


class StateDirs:
    """The state directories of one data directory, across crashes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.own: StateDisk | None = None
        self.side: SideDirectory | None = None

    def format(self, contents: dict[bytes, bytes], base: Base) -> StateDisk:
        """A full member's new directory."""
        self.own = StateDisk(contents, base)
        return self.own

    def at_boot(self, base: Base) -> tuple[StateDisk | None, SideState | None]:
        """What a boot opens: (the open store, or None; the side state to tell the core of, or None)."""
        host = self._host
        if self.side is not None and (not self.side.ready or self.own is not None):
            host.cluster.count("side directory deleted at boot")
            self.side = None
        own = self.own
        if own is not None and own.flushed_meta.index < base.index:
            record = base.configuration.member(host.member_id)
            if record is not None and not record.is_full:
                host.cluster.count("state below the base deleted at boot")
                self.own = own = None
        if own is not None:
            return own, None
        if self.side is not None:
            host.cluster.count("booted with a side state")
            return self.side.disk, SideState(self.side.epoch, self.side.disk.flushed_meta.index)
        return None, None

    def do(self, action: StateAction) -> None:
        """Start what Ready.state asks for."""
        host = self._host
        match action:
            case OpenSide():
                self._later(host.cluster.mix.side_ns, lambda: self._open(action))
            case FinishSide():
                self._later(host.cluster.mix.side_ns, lambda: self._finish(action.epoch))
            case AdoptSide():
                host.cluster.count("side state adopted")
                if host.draw.random() < 0.5:
                    self._later(10_000_000, lambda: self._adopt(action.epoch))
            case DropState():
                host.cluster.count("state dropped")
                host.close_state()
                self._later(10_000_000, self._delete)

    def _later(self, delay: int, action: Callable[[], None]) -> None:
        host, boots = self._host, self._host.boots
        when = int(delay * (0.2 + 2 * host.draw.random()))
        host.cluster.scheduler.after(when, lambda: host.when_awake(lambda: action() if boots == host.boots else None))

    def replayed(self, index: Index) -> None:
        """A side state applied up to there; the node hears of it when the replay has taken its time."""
        state = self._host.state
        self._later(
            self._host.cluster.mix.side_ns,
            lambda: self._host.step(Applied(index)) if state is self._host.state is not None else None,
        )

    def _open(self, action: OpenSide) -> None:
        host, snapshot = self._host, action.snapshot
        if host.node is None or host.node.promotion != (action.epoch, "opening"):
            return
        for number in range(len(snapshot.chunk_digests)):
            if (snapshot.last_index, number) not in host.pieces:
                host.step(PieceRefused(snapshot.last_index, number, "not there"))
                return
        damaged = host.law.damaged_piece(snapshot)
        if damaged is not None:
            host.step(PieceRefused(snapshot.last_index, damaged, "damaged on this disk"))
            return
        contents = contents_of([host.pieces[(snapshot.last_index, n)] for n in range(len(snapshot.chunk_digests))])
        where = (snapshot.configuration, snapshot.configuration_index, snapshot.levels)
        meta = Base(snapshot.last_index, snapshot.last_term, *where)
        self.side = SideDirectory(action.epoch, StateDisk(contents, meta))
        host.pieces.clear()
        host.open_state(self.side.disk)
        host.cluster.count("side state opened")
        host.step(SideOpened(action.epoch, meta.index))

    def _finish(self, epoch: int) -> None:
        host, side = self._host, self.side
        if side is None or side.epoch != epoch or host.state is not side.disk:
            return
        host.store_state()
        side.disk.flush(side.disk.stored)
        side.ready = True
        host.step(SideReady(epoch, side.disk.flushed_meta.index))

    def _adopt(self, epoch: int) -> None:
        side = self.side
        if side is not None and side.epoch == epoch and self._host.state is side.disk:
            self.own, self.side = side.disk, None

    def _delete(self) -> None:
        if self._host.state is None:
            self.own = self.side = None

    def replaced(self, contents: dict[bytes, bytes], meta: Base) -> StateDisk:
        """A snapshot was switched in as the own state."""
        if self.own is None:
            self.own, self.side = StateDisk(contents, meta), None
        else:
            self.own.replace(contents, meta)
        return self.own
