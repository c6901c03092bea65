"""§6.2, raft.md §1: a leader that finds its quorum lost does nothing else as a leader in that step, whatever came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.events import Receive, SnapshotInstalled
from lockmaster_raft.messages import AppendEntries, Heartbeat, ReadIndexReply
from lockmaster_raft.ready import Appended
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.host import Host


class CheckQuorumFirst(Invariant):
    """The event of such a step finds a follower: no proposal enters, no read goes, nothing commits by counting."""

    rule = "check-quorum first"

    def seldom(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Look at what left in the step of a lost quorum."""
        if not any(alarm.code == "quorum_lost" for alarm in ready.alarms):
            return
        self.checker.cluster.count("quorum lost")
        where = f"host {host.number}, term {node.term}, in the step that found its quorum lost:"
        if any(isinstance(outcome, Appended) for outcome in ready.proposals):
            self.fail(f"{where} a proposal was taken")
        if any(read.index is not None for read in ready.reads):
            self.fail(f"{where} a read was released")
        if any(isinstance(send.message, ReadIndexReply) and send.message.ok for send in ready.send):
            self.fail(f"{where} a forwarded read was released")
        if self._told(event):
            return
        if ready.persist is not None and ready.persist.entries:
            self.fail(f"{where} entry {ready.persist.entries[0].index} was appended")
        before = self.checker.commit_before[host.number]
        if node.commit_index > before:
            self.fail(f"{where} commit rose from {before} to {node.commit_index} by {type(event).__name__}")

    @staticmethod
    def _told(event: Event) -> bool:
        """Another leader's word may append and commit here, as on any follower."""
        if isinstance(event, Receive):
            return isinstance(event.message, AppendEntries | Heartbeat)
        return isinstance(event, SnapshotInstalled)
