"""S10: what a disk or a snapshot gives back is the state of its index, and snapshots of one index are byte-equal.

restore(snapshot(x)) = x, by the hashes that I14 has compared after every entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.ready import HardState
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class StateHash(Invariant):
    """Looks at states that were not made by applying."""

    rule = "S10 state hash"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._chunks: dict[int, tuple[bytes, ...]] = {}

    def booting(self, host: Host, hard: HardState) -> None:
        """What the disk gave back is the state of that index."""
        self._same(host, host.meta.index)

    def installed(self, host: Host, index: int) -> None:
        """A restored snapshot is the state of that index."""
        self._same(host, index)

    def _same(self, host: Host, index: int) -> None:
        known = self.checker.state_hashes.get(index)
        if host.replica is not None and known is not None and host.replica.state_hash() != known:
            self.fail(f"host {host.number} has another state at {index}")

    def snapshot(self, host: Host, index: int, chunks: tuple[bytes, ...]) -> None:
        """Equal bytes at equal index."""
        if self._chunks.setdefault(index, chunks) != chunks:
            self.fail(f"host {host.number} makes another snapshot of {index}")
