"""I5: what a leader commits is durable, as this very entry, on a majority of its voters' disks; §3.6.2 besides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.membership import Configuration, Member
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class CommitQuorum(Invariant):
    """Looks at the disks at the moment of a leader's commit."""

    rule = "I5 commit quorum"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._before: dict[int, Configuration] = {}
        self._now: dict[int, Configuration] = {}

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Keep the configuration that was in force before this step."""
        number = host.number
        self._before[number] = self._now.get(number, node.configuration)
        self._now[number] = node.configuration

    def commits(self, host: Host, node: Node, old: int, new: int) -> None:
        """Only a leader decides; the others were told."""
        if node.role is not LEADER:
            return
        term = self.checker.shadow[host.number].term(new)  # type: ignore[arg-type]
        if term != node.term:
            self.fail(f"leader {host.number} of term {node.term} counts copies of {new} of term {term} (§3.6.2)")
        # A step may append a CONFIG after it commits: the rule that decided is the one before or after the step.
        choices = [node.configuration, self._before.get(host.number, node.configuration)]
        if all(self._short(configuration, new, term) for configuration in choices):
            self.fail(f"leader {host.number} commits {new} without a durable quorum of {choices[0].voter_ids}")

    def _short(self, configuration: Configuration, index: int, term: int | None) -> bool:
        for voters in (configuration.voter_ids, configuration.outgoing):
            members = [configuration.member(voter) for voter in voters]
            copies = sum(self._holds(member, index, term) for member in members if member is not None)
            if voters and copies < self._needed(configuration, len(voters)):
                return True
        return False

    @staticmethod
    def _needed(configuration: Configuration, count: int) -> int:
        """Copies: a majority, or half of an even number with the reduced commit quorum (raft.md §5)."""
        reduced = configuration.reduced_commit and not configuration.outgoing and count >= 4 and count % 2 == 0
        return count // 2 if reduced else count // 2 + 1

    def _holds(self, member: Member, index: int, term: int | None) -> bool:
        for host in self.checker.cluster.hosts:
            if host.incarnation == member.incarnation and host.disk is not None:
                store = host.disk.store
                return store.base.index >= index or store.term(index) == term  # type: ignore[arg-type]
        return False
