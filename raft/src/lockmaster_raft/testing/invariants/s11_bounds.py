"""S11: nothing grows without bound: what a node holds in memory is within its maximum, and logs are cut again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.host import Host

EVERY: Final = 8
"""Looked at with every so many rises of a commit index: what is above its maximum stays so for long."""
ENTRIES_UNCUT_MAX: Final = 100
"""Entries that a log may hold above what it shall keep, once everything is back: it is cut with the next heartbeats."""


class Bounds(Invariant):
    """Loads now and then; the logs' lengths after healing."""

    rule = "S11 bounds"
    _rises = 0

    def commits(self, host: Host, node: Node, old: int, new: int) -> None:
        """Each thing that could grow."""
        self._rises += 1
        if self._rises % EVERY:
            return
        for what, held, most in node.loads():
            if held > most:
                self.fail(f"host {host.number}: {what}: {held}, at most {most}")

    def content(self) -> bool:
        """Every log is cut again."""
        return not self._uncut()

    def finished(self) -> None:
        """The bound is the healing phase's length."""
        if uncut := self._uncut():
            self.fail(f"after healing: {uncut}")

    def _uncut(self) -> str:
        cluster = self.checker.cluster
        keep = cluster.mix.config.retained_entries_min
        most = keep + keep // 8 + ENTRIES_UNCUT_MAX
        if any(host.lost for host in cluster.hosts):
            return ""  # a witness keeps its log for a full voter that is gone until an operator replaces it (I6)
        lead = cluster.leader()
        members = lead.node.configuration.members if lead is not None and lead.node is not None else ()
        present = {member.member_id for member in members}
        for host in cluster.hosts:
            if host.node is None or host.member_id not in present:
                continue
            # What is not flushed is in the log only; how seldom a state is flushed is the host's business.
            done = host.state.flushed_meta.index if host.state is not None else host.node.commit_index
            length = done - host.node.log_first + 1
            if length > most:
                return f"the log of host {host.number} has {length} entries up to {done}, it shall keep {keep}"
        return ""
