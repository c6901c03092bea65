"""I6: for every full voter x and witness w, w's log starts at most one beyond what x holds durably.

Looked at whenever one of the two sides may have changed for the worse: a witness moves its log's start, or a CONFIG is
appended. What x holds is read from its disk: its state, and its log as far as that is the committed one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.entry import CONFIG
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.membership import Configuration, Member
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.host import Host


class WitnessCoverage(Invariant):
    """{x, w} can rebuild everything."""

    rule = "I6 coverage"

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """A witness's BASE, or a leader's CONFIG."""
        write = ready.persist
        if write is None:
            return
        own = node.own_member
        if write.base is not None and own is not None and not own.is_full:
            self.checker.cluster.count("witness moved its log's start")
            for configuration in self._configurations(host, node):
                self._look(configuration, host, write.base.index)
        elif node.role is LEADER and any(e.kind is CONFIG for e in write.entries):
            for member in node.configuration.members:
                other = self._host_of(member)
                if not member.is_full and other is not None and other.disk is not None and not other.lost:
                    self._look(node.configuration, other, other.disk.store.base.index)

    def _configurations(self, host: Host, node: Node) -> list[Configuration]:
        """Committed or pending, as this witness and the leader know them; none that a committed one has replaced.

        A leader's word on coverage may reach a witness before the entry by which a voter left: that one is committed,
        so every later leader has it, and nobody waits for the voter any more (seeds 146, 171).
        """
        lead = self.checker.cluster.leader()
        nodes = [node] if lead is None or lead.node is None or lead.node.term < node.term else [node, lead.node]
        running = [h.node.committed_configuration.epoch for h in self.checker.cluster.hosts if h.node is not None]
        newest = max(running, default=0)
        return [c for n in nodes for c in (n.configuration, n.committed_configuration) if c.epoch >= newest]

    def _look(self, configuration: Configuration, witness: Host, base: int) -> None:
        for member in configuration.members:
            if not member.is_full or member.member_id not in configuration.deciders:
                continue
            host = self._host_of(member)
            if host is None or host.lost or host.disk is None:
                continue
            if not self._holds(host, base):
                self.fail(f"witness {witness.number} starts after {base}, full voter {host.number} doesn't hold that")

    def _holds(self, host: Host, index: int) -> bool:
        """Committed entries match: to hold the one at `index` is to hold all up to it."""
        if host.disk is None or host.disk.store.base.index >= index:
            return True
        known = self.checker.committed.get(index)
        return known is not None and host.disk.store.term(index) == known[0]  # type: ignore[arg-type]

    def _host_of(self, member: Member) -> Host | None:
        number = int.from_bytes(member.incarnation, "big")
        hosts = self.checker.cluster.hosts
        return hosts[number - 1] if 0 < number <= len(hosts) else None
