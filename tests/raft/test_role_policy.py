"""decide(observed, policy, now): who is promoted, demoted, swapped, and when nothing is (raft.md §4, "Who decides")."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration, MemberPhase, MemberRole
from lockmaster_raft.role_policy import (
    Demote,
    HandOver,
    LogPolicy,
    Observed,
    Promote,
    RoleMode,
    RolePolicy,
    Seen,
    Step,
    Swap,
    decide,
)

from .rig import configuration, member
from .shapes import CALM, asked_for_nothing, shaped, standing, until, write

NOW = 10_000 * SECOND
SHAPE = configuration((1, 2, 3), witnesses=(3,))
PROMOTED = configuration((1, 2, 3))
POLICY = RolePolicy(witness_names=frozenset({"m3"}))
OPERATED = replace(POLICY, mode=RoleMode.OPERATED)


def seen(number: int, silent: int = 0, *, caught_up: bool = True, pressed: bool = False, lost: bool = False) -> Seen:
    return Seen(NodeId(number), silent * SECOND, caught_up, pressed, lost)


def observed(
    *members: Seen,
    conf: Configuration = SHAPE,
    leader: int = 1,
    changed: int | None = None,
    healthy: int | None = None,
    by_leader: bool = True,
) -> Observed:
    """`changed` and `healthy`: seconds ago."""
    changed_at = None if changed is None else NOW - changed * SECOND
    since = None if healthy is None else NOW - healthy * SECOND
    known = {m.member_id: m for m in (*(seen(m.member_id) for m in conf.members), *members)}
    return Observed(conf, NodeId(leader), 2, False, changed_at, since, by_leader, tuple(known.values()))


def decided(look: Observed, policy: RolePolicy = POLICY) -> Step | None:
    steps = decide(look, policy, NOW)
    assert len(steps) <= 1
    return steps[0] if steps else None


def test_a_witness_is_promoted_when_a_full_voter_is_silent_for_promote_after() -> None:
    assert decided(observed(seen(2, 59))) is None
    step = decided(observed(seen(2, 60)))
    assert isinstance(step, Promote)
    assert step.member_id == 3


@pytest.mark.parametrize(
    "look",
    [
        observed(seen(2, 60), seen(3, 5)),
        observed(seen(2, 60), seen(3, caught_up=False)),
        observed(seen(2, 60), changed=599),
        observed(seen(2, 60), leader=3),
        replace(observed(seen(2, 60)), change_open=True),
        observed(seen(2, 60), conf=SHAPE.with_member(member(3, role=MemberRole.WITNESS, phase=MemberPhase.PROMOTING))),
        observed(seen(2, 60), conf=replace(SHAPE, outgoing=(NodeId(1), NodeId(2), NodeId(4)))),
        observed(seen(2, 60), conf=PROMOTED),
    ],
)
def test_nothing_is_promoted(look: Observed) -> None:
    assert not isinstance(decided(look), Promote)


def test_after_the_cool_down_it_is() -> None:
    assert isinstance(decided(observed(seen(2, 60), changed=600)), Promote)


def test_the_leader_is_the_backstop_of_an_operator_after_three_times_as_long() -> None:
    assert decided(observed(seen(2, 179)), OPERATED) is None
    assert isinstance(decided(observed(seen(2, 180)), OPERATED), Promote)
    assert isinstance(decided(observed(seen(2, 60), by_leader=False), OPERATED), Promote)


def test_log_pressure_promotes_at_once_in_both_modes_and_in_the_cool_down() -> None:
    look = observed(seen(2, 1), seen(3, pressed=True), changed=1)
    assert isinstance(decided(look), Promote)
    assert isinstance(decided(look, OPERATED), Promote)
    assert decided(look, replace(POLICY, log_policy=LogPolicy.BLOCK)) is None
    assert decided(look, replace(POLICY, log_policy=LogPolicy.ALARM)) is None


def test_with_two_witnesses_the_pressed_one_is_promoted_first() -> None:
    conf = configuration((1, 2, 3, 4, 5), witnesses=(4, 5))
    step = decided(observed(seen(2, 60), seen(5, pressed=True), conf=conf))
    assert isinstance(step, Promote)
    assert step.member_id == 5


def test_evidence_of_an_operator_needs_no_wait() -> None:
    assert isinstance(decided(observed(seen(2, 1, lost=True), by_leader=False), OPERATED), Promote)


def test_the_configured_place_is_restored_once_all_is_well() -> None:
    assert decided(observed(conf=PROMOTED, healthy=59)) is None
    step = decided(observed(conf=PROMOTED, healthy=60))
    assert isinstance(step, Demote)
    assert step.member_id == 3


@pytest.mark.parametrize(
    ("look", "policy"),
    [
        (observed(conf=PROMOTED), POLICY),
        (observed(conf=PROMOTED, healthy=60, changed=599), POLICY),
        (observed(conf=PROMOTED, healthy=60), OPERATED),
        (observed(conf=PROMOTED, healthy=60), RolePolicy()),
        (observed(conf=configuration((1, 3)), healthy=60), POLICY),
    ],
)
def test_the_shape_is_not_restored(look: Observed, policy: RolePolicy) -> None:
    assert decided(look, policy) is None


def test_an_operator_restores_the_shape() -> None:
    assert isinstance(decided(observed(conf=PROMOTED, healthy=60, by_leader=False), OPERATED), Demote)


def test_the_leader_hands_over_before_it_is_demoted() -> None:
    step = decided(observed(conf=PROMOTED, healthy=60, leader=3))
    assert isinstance(step, HandOver)
    assert step.target == 1


def test_a_lost_member_is_swapped_for_the_learner_that_waits() -> None:
    newcomer = replace(member(4, voter=False), promote_when_caught_up=False)
    conf = SHAPE.with_member(newcomer)
    step = decided(observed(seen(2, 1, lost=True), conf=conf, by_leader=False), OPERATED)
    assert step == Swap(NodeId(2), NodeId(4), step.why if isinstance(step, Swap) else "")
    behind = observed(seen(2, 1, lost=True), seen(4, caught_up=False), conf=conf, by_leader=False)
    assert isinstance(decided(behind, OPERATED), Promote)


def test_the_same_look_gives_the_same_answer() -> None:
    look = observed(seen(2, 60))
    assert decide(look, POLICY, NOW) == decide(look, POLICY, NOW)


# --- the leader runs it ---


def test_a_2_1_cluster_promotes_and_restores_by_itself() -> None:
    roles = RolePolicy(
        promote_after_ns=3 * SECOND,
        restore_after_ns=2 * SECOND,
        cool_down_ns=5 * SECOND,
        witness_names=frozenset({"m3"}),
    )
    cluster = shaped(config=replace(CALM, role_policy=roles))
    cluster.run(6 * SECOND)
    cluster.down.add(2)
    until(cluster, lambda: standing(cluster, 3) == (MemberRole.FULL, MemberPhase.STEADY))
    write(cluster, 5)
    cluster.down.discard(2)
    cluster.step(2, asked_for_nothing())
    until(cluster, lambda: standing(cluster, 3) == (MemberRole.WITNESS, MemberPhase.STEADY))
    assert cluster.nodes[3].promotion is None
    assert not cluster.nodes[3].serves_state


def test_without_witnesses_nothing_is_decided() -> None:
    roles = RolePolicy(promote_after_ns=SECOND, cool_down_ns=0)
    cluster = shaped(3, 0, replace(CALM, role_policy=roles))
    cluster.down.add(2)
    epoch = cluster.nodes[1].configuration.epoch
    cluster.run(10 * SECOND)
    assert cluster.nodes[1].configuration.epoch == epoch
