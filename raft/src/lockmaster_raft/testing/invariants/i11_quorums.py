"""I11: quorums of consecutive configurations intersect, elections with commits too (also the reduced commit quorum)."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from lockmaster_raft.entry import CONFIG
from lockmaster_raft.membership import Configuration, decode_configuration
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host

_Quorum = frozenset[int]


def quorums(configuration: Configuration, *, commit: bool) -> set[_Quorum]:
    """The least quorums, spelled out."""
    sides = []
    for voters in (configuration.voter_ids, configuration.outgoing):
        count = len(voters)
        reduced = commit and configuration.reduced_commit and not configuration.outgoing and count >= 4
        size = count // 2 if reduced and count % 2 == 0 else count // 2 + 1
        if voters:
            sides.append([frozenset(c) for c in combinations(voters, size)])
    if len(sides) == 1:
        return set(sides[0])
    return {one | other for one in sides[0] for other in sides[1]}


class Quorums(Invariant):
    """Looks at each CONFIG that a leader appends; each pair once."""

    rule = "I11 quorums"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._seen: set[tuple[object, ...]] = set()

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Elections of both meet elections and commits of both."""
        if ready.persist is None or node.role is not LEADER:
            return
        for entry in ready.persist.entries:
            if entry.kind is CONFIG and entry.term == node.term:
                before = node.configuration_at(entry.index - 1)[1]  # type: ignore[arg-type]
                self._look(host, before, decode_configuration(entry.payload))

    def _look(self, host: Host, before: Configuration, after: Configuration) -> None:
        key = tuple((c.voter_ids, c.outgoing, c.reduced_commit) for c in (before, after))
        if key in self._seen:
            return
        self._seen.add(key)
        pair = (before, after)
        for one in pair:
            for other in pair:
                against = quorums(other, commit=False) | quorums(other, commit=True)
                for q in quorums(one, commit=False):
                    if any(not q & r for r in against):
                        self.fail(f"leader {host.number} goes from {before.voter_ids} to {after.voter_ids}: {set(q)}")
