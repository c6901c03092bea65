"""S4: no state is older than the node says (BOUNDED), and no lease outlives what was acknowledged elsewhere.

Looked at from outside at every acknowledged write, on every host that is awake: then somebody has just committed, and
a deposed leader or a cut-off follower that still thinks itself fresh shows. No draw and no action of its own: the run
is the same without it.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from lockmaster_raft.ids import Nanos
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.frontend import Answer
    from lockmaster_raft.testing.host import Host


class AgesAndLeases(Invariant):
    """What each host would answer by itself, against what was acknowledged when."""

    rule = "S4 ages and leases"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._times: list[int] = []
        self._tops: list[int] = []
        # _times and _tops rise: at _times[i] the highest acknowledged index became _tops[i].
        mix = checker.cluster.mix
        self._ordered = not mix.reorder and not mix.duplication
        """Leases rely on ordered channels (lease.py)."""

    def acknowledged(self, session: int, seq: int, answer: Answer) -> None:
        """Ask every host that is awake, as a read that begins now would."""
        cluster = self.checker.cluster
        if answer.index > (self._tops[-1] if self._tops else 0):
            self._times.append(cluster.scheduler.now)
            self._tops.append(answer.index)
        for host in cluster.hosts:
            if host.node is not None and host.running and not host.paused_until and host.replica is not None:
                self._age(host, host.node)
                if self._ordered:
                    self._lease(host, host.node)

    def _age(self, host: Host, node: Node) -> None:
        age = node.state_age_ns(Nanos(host.clock.now()))
        if age is None:
            return
        cluster = self.checker.cluster
        before = bisect_left(self._times, cluster.scheduler.now - age)
        floor = self._tops[before - 1] if before else 0
        if host.meta.index < floor:
            text = f"host {host.number} has {host.meta.index} and calls it {age / 1e9:.4f} s old at most"
            self.fail(f"{text}; {floor} was acknowledged before that")
        who = "leader" if node.role is LEADER else "follower"
        cluster.count(f"age known at a {who}")
        if host.meta.index < self._tops[-1]:
            cluster.count(f"age known at a {who} that is behind")

    def _lease(self, host: Host, node: Node) -> None:
        if not node.holds_lease(Nanos(host.clock.now())):
            return
        if node.commit_index < self._tops[-1]:
            text = f"host {host.number} leads by a lease with commit index {node.commit_index}"
            self.fail(f"{text}; {self._tops[-1]} is acknowledged")
        self.checker.cluster.count("lease held")
