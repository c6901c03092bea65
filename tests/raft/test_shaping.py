"""Quorum shaping (raft.md §5, WR 3.6)."""

from __future__ import annotations

from dataclasses import replace

from lockmaster_raft.config import SECOND
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration
from lockmaster_raft.role_policy import RolePolicy
from lockmaster_raft.shaping import Silence, shape

from .rig import configuration
from .shapes import CALM, asked_for_nothing, shaped, until, write

AFTER = 45 * SECOND
FOUR = configuration((1, 2, 3, 4))


def shaped_to(
    conf: Configuration, silent: dict[int, int], *, missed: int = 2, leader: int = 1, promotable: bool = False
) -> tuple[int, ...] | None:
    """Voters after shaping, `silent` seconds by member; None: nothing is to be done."""
    silences = {
        m.member_id: Silence(silent.get(m.member_id, 0) * SECOND, missed if m.member_id in silent else 0)
        for m in conf.members
    }
    after = shape(conf, NodeId(leader), silences, AFTER, promotable=promotable)
    return after.voter_ids if after is not None else None


def test_a_silent_voter_of_four_becomes_a_learner() -> None:
    assert shaped_to(FOUR, {3: 45}) == (1, 2, 4)
    assert shaped_to(FOUR, {3: 44}) is None


def test_it_keeps_its_place_and_comes_back_by_itself() -> None:
    after = shape(FOUR, NodeId(1), {NodeId(3): Silence(AFTER, 2)}, AFTER, promotable=False)
    assert after is not None
    member = after.member(NodeId(3))
    assert member is not None
    assert member.promote_when_caught_up
    assert not member.voter


def test_a_leader_whose_rounds_nobody_confirmed_shapes_nobody() -> None:
    assert shaped_to(FOUR, {3: 60}, missed=1) is None


def test_the_floor_is_three_voters() -> None:
    assert shaped_to(configuration((1, 2, 3)), {3: 60}) is None


def test_one_at_a_time() -> None:
    assert shaped_to(configuration((1, 2, 3, 4, 5)), {3: 60, 4: 60}) == (1, 2, 4, 5)


def test_the_leader_itself_is_never_set_aside() -> None:
    assert shaped_to(FOUR, {3: 60}, leader=3) is None


def test_a_witness_is_promoted_first() -> None:
    conf = configuration((1, 2, 3, 4), witnesses=(4,))
    assert shaped_to(conf, {3: 60}, promotable=True) is None
    assert shaped_to(conf, {3: 60}, promotable=False) == (1, 2, 4)
    assert shaped_to(conf, {4: 60}, promotable=True) == (1, 2, 3)


def test_full_voters_stay_the_majority() -> None:
    conf = configuration((1, 2, 3, 4, 5), witnesses=(4, 5))
    assert shaped_to(conf, {3: 60, 4: 60, 5: 60}) == (1, 2, 3, 5)
    assert shaped_to(configuration((1, 2, 4, 5), witnesses=(4, 5)), {2: 60}) is None


def test_nothing_during_another_change() -> None:
    assert shaped_to(replace(FOUR, outgoing=(NodeId(1), NodeId(2))), {3: 60}) is None


def test_five_voters_lose_two_one_after_the_other_and_get_them_back() -> None:
    """Static five would stand still with three down; shaped, three of five may go one by one."""
    roles = RolePolicy(shape_after_ns=3 * SECOND)
    cluster = shaped(5, 0, replace(CALM, role_policy=roles))
    for gone in (5, 4):
        cluster.down.add(gone)
        until(cluster, lambda gone=gone: gone not in cluster.nodes[1].committed_configuration.voter_ids)  # type: ignore[misc]
    assert cluster.nodes[1].configuration.voter_ids == (1, 2, 3)
    cluster.down.add(3)
    cluster.run(6 * SECOND)
    last = write(cluster, 3)
    assert cluster.nodes[1].commit_index == last
    cluster.down.clear()
    for number in (3, 4, 5):
        cluster.step(number, asked_for_nothing())
    until(cluster, lambda: cluster.nodes[1].committed_configuration.voter_ids == (1, 2, 3, 4, 5))
