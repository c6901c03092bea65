"""What the leader does by itself when something is in the way: dead witnesses, no room, promotions that don't end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.events import Propose, StorageReport
from lockmaster_raft.membership import MemberPhase, MemberRole, change_aborted
from lockmaster_raft.ready import Refused
from lockmaster_raft.role_policy import LogPolicy, RolePolicy

from .rig import Cluster, configuration, member
from .shapes import report, shaped, until, write
from .test_role_policy import NOW, POLICY, decided, observed, seen

HOUR = 3600 * SECOND


def pressed(policy: RolePolicy, fulls: int, witnesses: int, *, starved: int = 0) -> Cluster:
    """Member 2 is down and the log of every witness above its budget; `starved` gets no piece of a snapshot stored."""
    config = RaftConfig(retained_entries_min=1, witness_log_bytes_max=20_000, role_policy=policy)
    cluster = shaped(fulls, witnesses, config)
    piece = cluster._piece
    cluster._piece = lambda n, asked: None if n == starved else piece(n, asked)  # type: ignore[method-assign,assignment]
    cluster.crash(2)
    write(cluster, 300)
    return cluster


def changes(cluster: Cluster, code: str = "role_change") -> list[str]:
    return [a.text for _, a in cluster.alarms if a.code == code]


def test_a_witness_above_its_budget_that_dies_blocks_nothing_any_more() -> None:
    cluster = pressed(RolePolicy(log_policy=LogPolicy.BLOCK, promote_after_ns=HOUR), 2, 1)
    cluster.run(2 * SECOND)
    cluster.step(cluster.leader, Propose(8, b"x"))
    assert isinstance(cluster.proposals[-1], Refused)
    cluster.crash(3)
    cluster.restart(2)
    cluster.run(30 * SECOND)
    cluster.step(cluster.leader, Propose(9, b"x"))
    assert not isinstance(cluster.proposals[-1], Refused)


def test_for_a_dead_witness_s_budget_no_other_is_promoted() -> None:
    cluster = pressed(RolePolicy(log_policy=LogPolicy.ALARM, promote_after_ns=HOUR), 3, 2)
    cluster.run(2 * SECOND)
    assert cluster.nodes[1]._core.witness_pressed == (4, 5)
    cluster.crash(4)
    cluster.restart(2)
    cluster.run(30 * SECOND)
    report(cluster)
    cluster.run(30 * SECOND)
    assert cluster.nodes[cluster.leader]._core.witness_pressed == ()


def test_a_promotion_under_pressure_that_was_aborted_waits_for_the_cool_down() -> None:
    policy = RolePolicy(promote_after_ns=HOUR, change_timeout_ns=5 * SECOND, cool_down_ns=60 * SECOND)
    cluster = pressed(policy, 2, 1, starved=3)
    until(cluster, lambda: len(changes(cluster, "promotion_aborted")) == 1)
    cluster.run(50 * SECOND)
    assert len(changes(cluster)) == 1
    cluster.run(20 * SECOND)
    assert len(changes(cluster)) == 2


@pytest.mark.parametrize("aborted", [False, True])
def test_only_an_abort_makes_pressure_wait(aborted: bool) -> None:
    look = replace(observed(seen(2, 1), seen(3, pressed=True), changed=1), change_aborted=aborted)
    assert (decided(look) is None) == aborted
    later = replace(look, role_changed_at=NOW - POLICY.cool_down_ns)
    assert decided(later) is not None


def test_a_promotion_for_which_there_is_no_room_keeps_no_voter_in_the_quorum_and_is_told_once() -> None:
    policy = RolePolicy(promote_after_ns=20 * SECOND)
    cluster = shaped(3, 1, RaftConfig(retained_entries_min=1, role_policy=policy))
    for number in cluster.nodes:
        cluster.step(number, StorageReport(cluster.nodes[number].applied, 1000, 1_000_000, 1 << 30))
    cluster.run(SECOND)
    cluster.crash(2)
    until(cluster, lambda: changes(cluster, "role_change_refused") != [])
    cluster.run(300 * SECOND)
    assert 2 not in cluster.nodes[cluster.leader].configuration.voter_ids
    (told,) = changes(cluster, "role_change_refused")
    assert "promote 4: full member 2 is silent" in told
    assert "1000 bytes free, a promotion needs 2147483648" in told


def test_an_abort_is_one_and_a_completion_is_none() -> None:
    shape = configuration((1, 2, 3), witnesses=(3,))
    running = shape.with_member(replace(member(3), role=MemberRole.WITNESS, phase=MemberPhase.PROMOTING))
    back = running.with_member(replace(member(3), role=MemberRole.WITNESS, phase=MemberPhase.STEADY))
    done = running.with_member(replace(member(3), role=MemberRole.FULL, phase=MemberPhase.STEADY))
    assert change_aborted(running, back)
    assert not change_aborted(running, done)
    assert not change_aborted(shape, running)
    assert not change_aborted(shape, shape)


def test_large_entries_are_kept_by_their_bytes_and_by_fewer_at_a_witness() -> None:
    """Ten thousand entries of 64 KiB would be 640 MiB; a witness is there to be cheap."""
    sizes = {"retained_bytes_max": 1 << 20, "witness_retained_bytes_max": 256 << 10}
    cluster = shaped(2, 1, RaftConfig(**sizes, role_policy=RolePolicy(promote_after_ns=HOUR)))
    write(cluster, 60, b"x" * (64 << 10))
    report(cluster)
    cluster.run(SECOND)
    report(cluster)
    last = cluster.nodes[1].last_index
    kept = {number: last - node.log_first + 1 for number, node in cluster.nodes.items()}
    assert 14 <= kept[1] <= 20
    assert 14 <= kept[2] <= 20
    assert 2 <= kept[3] <= 7


def test_the_budget_is_kept_again_as_soon_as_the_full_member_is_back_however_large_the_entries_are() -> None:
    """Counted by every 128th entry alone, a log that was cut seemed full until as many keepalives had come."""
    policy = RolePolicy(log_policy=LogPolicy.BLOCK, promote_after_ns=HOUR)
    cluster = shaped(2, 1, RaftConfig(witness_log_bytes_max=1 << 20, role_policy=policy))
    cluster.crash(2)
    write(cluster, 20, b"x" * (64 << 10))
    cluster.run(SECOND)
    cluster.step(1, Propose(8, b"x"))
    assert isinstance(cluster.proposals[-1], Refused)
    cluster.restart(2)
    report(cluster)
    cluster.run(2 * SECOND)
    cluster.step(1, Propose(9, b"x"))
    assert not isinstance(cluster.proposals[-1], Refused)
