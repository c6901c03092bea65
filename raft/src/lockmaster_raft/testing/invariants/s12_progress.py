"""S12: heal a quorum, and it makes progress in bounded time; no churn while healthy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.ready import Role
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.membership import Configuration
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host

ELECTIONS_AFTER_HEALING_MAX: Final = 5
QUIET_SECONDS: Final = 3


class Progress(Invariant):
    """After healing: one leader, every client served again, every member caught up, quiet."""

    rule = "S12 progress"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._elections: list[int] = []
        self._healed_commit = 0

    def led(self, host: Host, node: Node) -> None:
        """Count elections after healing."""
        if self.checker.healed_at:
            self._elections.append(self.checker.cluster.scheduler.now)
            if len(self._elections) > ELECTIONS_AFTER_HEALING_MAX:
                self.fail(f"{len(self._elections)} elections after healing")

    def healed(self) -> None:
        """Remember where it stood."""
        self._healed_commit = self.checker.commit_top

    def content(self) -> bool:
        """Everything is back."""
        now = self.checker.cluster.scheduler.now
        if self._elections and now - self._elections[-1] < QUIET_SECONDS * SECOND:
            return False
        return not self.missing()

    def missing(self) -> str:
        """What is not back yet, or nothing."""
        cluster = self.checker.cluster
        if self.checker.commit_top <= self._healed_commit:
            return "nothing commits"
        lead = cluster.leader()
        if lead is None or lead.node is None or lead.node.role is not Role.LEADER:
            return "no leader"
        for client in cluster.clients:
            if client.last_success <= self.checker.healed_at:
                return f"client {client.number} was not served again"
        configuration = lead.node.configuration
        members = {member.member_id for member in configuration.members}
        if self._full_voter_lost(configuration):
            # A witness that doesn't vote yet gets no anchor that a lost full voter isn't proved to be past (I7): the
            # leader's alarm names that voter, and an operator replaces it (seed 100).
            members -= {m.member_id for m in configuration.members if not m.is_full and not m.voter}
        for host in cluster.hosts:
            if host.member_id not in members or host.lost:
                continue
            at = host.meta.index if host.state is not None or host.node is None else host.node.commit_index
            if at + 20 < lead.node.commit_index:
                return f"host {host.number} stands at {at}, commit is {lead.node.commit_index}"
        if lead.node.configuration.outgoing or lead.node.is_caretaker:
            return "a joint change or a caretaker is still there"
        return ""

    def _full_voter_lost(self, configuration: Configuration) -> bool:
        lost = {host.member_id for host in self.checker.cluster.hosts if host.lost}
        return any(m.is_full and m.voter and m.member_id in lost for m in configuration.members)

    def finished(self) -> None:
        """The bound is the healing phase's length."""
        missing = self.missing()
        if missing:
            self.fail(f"after healing: {missing}")
