"""Quorum arithmetic: pure functions over voter ids, majority now, both majorities during a joint change (§4.3).

Laws: two quorums of one configuration intersect; with `outgoing` empty only `voters` decides; a set that is not a
quorum stays none when values fall. An id counts once however often it answered (a mapping, never a counter).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lockmaster_raft.ids import NodeId


def majority(count: int) -> int:
    """Fewest of `count` voters that are a quorum."""
    return count // 2 + 1


def majority_value(values: Sequence[int]) -> int:
    """The largest value that a majority of `values` reach; 0 for no voters at all."""
    if not values:
        return 0
    return sorted(values)[(len(values) - 1) // 2]


def quorum_value(voters: Sequence[NodeId], outgoing: Sequence[NodeId], values: Mapping[NodeId, int]) -> int:
    """The largest value reached by a quorum: match indexes, rounds or times. A voter without a value counts as 0."""
    new = majority_value([values.get(v, 0) for v in voters])
    if not outgoing:
        return new
    return min(new, majority_value([values.get(v, 0) for v in outgoing]))


def commit_value(voters: Sequence[NodeId], outgoing: Sequence[NodeId], values: Mapping[NodeId, int]) -> int:
    """Like quorum_value with half of an even number of ≥ 4 voters enough (MicroRaft's improved majority quorums).

    Every election quorum (n/2 + 1) meets every half. Never in a joint change, and not while one may begin: the caller
    uses plain majorities while a CONFIG is uncommitted.
    """
    count = len(voters)
    if outgoing or not is_reduced(count):
        return quorum_value(voters, outgoing, values)
    return sorted((values.get(v, 0) for v in voters), reverse=True)[count // 2 - 1]


def is_reduced(count: int) -> bool:
    """Whether that many voters have a commit quorum below the majority."""
    return count >= 4 and count % 2 == 0


def has_quorum(voters: Sequence[NodeId], outgoing: Sequence[NodeId], granted: Collection[NodeId]) -> bool:
    """Whether `granted` holds a quorum. False for an empty configuration: nobody elects itself from nothing."""
    if not voters or sum(v in granted for v in voters) < majority(len(voters)):
        return False
    return not outgoing or sum(v in granted for v in outgoing) >= majority(len(outgoing))


def is_lost(voters: Sequence[NodeId], outgoing: Sequence[NodeId], refused: Collection[NodeId]) -> bool:
    """Whether those who refused leave no quorum to be had any more."""
    left = [v for v in {*voters, *outgoing} if v not in refused]
    return not has_quorum(voters, outgoing, left)
