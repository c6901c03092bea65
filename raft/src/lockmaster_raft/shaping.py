"""Quorum shaping (raft.md §5): a voter that is silent for long becomes a learner, and a voter again once caught up.

Pure; the leader runs it (role_changes.py). Only ever a committed configuration change under the old rule, one voter at
a time, so it is safe whatever it decides; a leader that merely stopped counting somebody would be split-brain. The
member keeps its place and its id. Promotion back is that of every learner (members.promote_learners).

Laws: never below three voters (a floor of two is twice as bad: two of two needs both, WR 1.3) nor two full, steady
ones; the silence is the leader's own, over rounds that a quorum confirmed, so that a leader that was cut off itself
shapes nobody; a witness that can be promoted in a silent full voter's stead goes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration
from lockmaster_raft.record import record

VOTERS_FLOOR: Final = 3
FULL_FLOOR: Final = 2
ROUNDS_MISSED_MIN: Final = 2
"""Confirmed rounds a voter must have missed, besides the time."""


@record
class Silence:
    """What a leader's own rounds say of a member."""

    silent_ns: int
    """0 for one that answers."""
    rounds_missed: int
    """Rounds that a quorum confirmed since the last one it answered."""


def shape(
    configuration: Configuration,
    leader_id: NodeId,
    silences: Mapping[NodeId, Silence],
    after_ns: int,
    *,
    promotable: bool,
) -> Configuration | None:
    """The configuration with the first voter, by id, that should be a learner for now; None: leave it as it is.

    `promotable`: a witness could be promoted now. It is, before the group is shrunk by a full voter.
    """
    if configuration.outgoing or configuration.changing is not None:
        return None
    for member in configuration.members:
        silence = silences.get(member.member_id)
        if not member.voter or member.member_id == leader_id or silence is None:
            continue
        if silence.silent_ns < after_ns or silence.rounds_missed < ROUNDS_MISSED_MIN:
            continue
        if member.is_full and promotable:
            continue
        after = configuration.with_member(replace(member, voter=False, promote_when_caught_up=True))
        if _above_floor(after):
            return after
    return None


def _above_floor(after: Configuration) -> bool:
    voters, full = len(after.voter_ids), after.full_voter_count
    return voters >= VOTERS_FLOOR and full >= max(FULL_FLOOR, after.full_min) and 2 * full > voters
