"""S12 for a quorum alone: in some seeds a majority is healed first, the others stay down, and it must make progress.

"A quorum" is one of every configuration that any member knows, joint halves included, because a change that only one
knows of may be lost, or may be found again when that one starts. Whose disk is lost or damaged stays out first.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import CONFIG
from lockmaster_raft.membership import decode_configuration
from lockmaster_raft.testing.invariants.base import Violation

if TYPE_CHECKING:
    from lockmaster_raft.membership import Configuration
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.host import Host

SHARE: Final = 0.4
QUORUM_SECONDS_MAX: Final = 30


class QuorumFirst:
    """The phase between chaos and healing."""

    def __init__(self, cluster: Cluster, draw: random.Random) -> None:
        self._cluster = cluster
        self._on = draw.random() < SHARE
        self._draw = draw

    def run(self) -> None:
        """Take the minority down, heal the rest, demand that something new is committed."""
        out = self._minority() if self._on else None
        if not out:
            return
        cluster = self._cluster
        for host in out:
            if host.running:
                host.crash(True)
        cluster.note(f"a quorum is healed without {[host.number for host in out]}")
        cluster.nemesis.heal(but=out)
        goal = 1 + max(h.node.last_index for h in cluster.hosts if h.node is not None)
        end = cluster.scheduler.now + QUORUM_SECONDS_MAX * SECOND
        cluster.scheduler.run_until(end, lambda: cluster.checker.commit_top >= goal)
        if cluster.checker.commit_top < goal:
            text = f"a healed quorum commits nothing new in {QUORUM_SECONDS_MAX} s without {[h.number for h in out]}"
            raise Violation("S12 progress", text)
        cluster.count("quorum healed alone")

    def _minority(self) -> list[Host]:
        """Who may stay down, at least one; None if the lost ones alone are too many."""
        groups = self._groups()
        members = {member for group in groups for member in group}
        hosts = [h for h in self._cluster.hosts if h.member_id in members]
        self._draw.shuffle(hosts)
        hosts.sort(key=lambda host: not (host.lost or host.law.damaged))
        out: list[Host] = []
        for host in hosts:
            ids = {other.member_id for other in (*out, host)}
            if all(2 * sum(member not in ids for member in group) > len(group) for group in groups):
                out.append(host)
            elif host.lost or host.law.damaged:
                return []
        return out

    def _groups(self) -> list[tuple[int, ...]]:
        """The voters of every configuration known, and the outgoing ones."""
        found = [c for host in self._cluster.hosts for c in _known(host)]
        groups = {tuple(voters) for c in found for voters in (c.voter_ids, c.outgoing) if voters}
        return sorted(groups)


def _known(host: Host) -> list[Configuration]:
    """The configuration in force and the committed one; of a stopped member, what its disk says of these."""
    if host.node is not None:
        return [host.node.configuration, host.node.committed_configuration]
    if host.disk is None:
        return []
    store = host.disk.store
    logged = [decode_configuration(entry.payload) for entry in store.log if entry.kind is CONFIG]
    return [store.base.configuration, *logged][-2:]
