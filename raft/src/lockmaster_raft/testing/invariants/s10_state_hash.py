"""S10: state hash equal at equal applied index; snapshots of one index are byte-equal; restore(snapshot(x)) = x."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.ready import HardState
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class StateHash(Invariant):
    """index -> hash, from whoever was first."""

    rule = "S10 state hash"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._hashes: dict[int, int] = {}
        self._chunks: dict[int, tuple[bytes, ...]] = {}

    def applied(self, host: Host, entry: Entry, outcome: Outcome) -> None:
        """After every entry, on every replica."""
        self._same(host, entry.index)

    def booting(self, host: Host, hard: HardState) -> None:
        """What the disk gave back is the state of that index."""
        if host.replica is not None and host.meta.index in self._hashes:
            self._same(host, host.meta.index)

    def installed(self, host: Host, index: int) -> None:
        """A restored snapshot is the state of that index."""
        if index in self._hashes:
            self._same(host, index)

    def _same(self, host: Host, index: int) -> None:
        if host.replica is None:
            return
        mine = host.replica.state_hash()
        if self._hashes.setdefault(index, mine) != mine:
            self.fail(f"host {host.number} has another state at {index}")

    def snapshot(self, host: Host, index: int, chunks: tuple[bytes, ...]) -> None:
        """Equal bytes at equal index."""
        if self._chunks.setdefault(index, chunks) != chunks:
            self.fail(f"host {host.number} makes another snapshot of {index}")
