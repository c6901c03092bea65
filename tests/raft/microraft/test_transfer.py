"""MicroRaft's rows T: leadership transfer."""

from __future__ import annotations

from lockmaster_raft.config import SECOND
from lockmaster_raft.errors import ChangeRefused, NotLeader, NotReady
from lockmaster_raft.events import Propose, TransferLeadership
from lockmaster_raft.ids import NodeId
from lockmaster_raft.messages import AppendEntries
from lockmaster_raft.ready import Refused, Resolved, Role

from ..rig import Rig
from ..shapes import add
from ..test_elections import elect
from .stage import (
    STEP,
    applied,
    at,
    drop,
    error_of,
    followers,
    group,
    grown,
    heal,
    propose,
    write,
)


def to(number: int, proposal_id: int = 9) -> TransferLeadership:
    return TransferLeadership(proposal_id, NodeId(number))


def test_t01_to_itself_succeeds_at_once() -> None:
    cluster = group()
    cluster.step(cluster.leader, to(cluster.leader))
    assert cluster.proposals == [Resolved(9, NodeId(cluster.leader))]


def test_t04_a_learner_gets_no_leadership() -> None:
    cluster = group(3, 1)
    assert isinstance(error_of(cluster, to(4)), ChangeRefused)


def test_t05_a_follower_has_none_to_give() -> None:
    cluster = group()
    mine, other = followers(cluster)
    assert isinstance(error_of(cluster, to(other), mine), NotLeader)


def test_t06_a_transfer_beside_an_uncommitted_change_carries_it_along() -> None:
    """Ours refuses it not: the target must have the whole log, the change included, before it is told."""
    cluster = grown(3)
    assert error_of(cluster, add(4)) is None
    assert error_of(cluster, to(2)) is None
    cluster.run(SECOND)
    assert cluster.leader == 2
    assert at(cluster).committed_configuration.member(NodeId(4)) is not None


def test_t07_not_before_an_own_term_commit() -> None:
    """MicroRaft allows it; ours asks for a commit first, as for every change."""
    rig = Rig()
    elect(rig)
    (answer,) = rig.step(to(2)).proposals
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, NotReady)


def test_t08_the_target_leads_a_higher_term_and_the_old_leader_follows() -> None:
    cluster = group()
    write(cluster)
    old, term, target = cluster.leader, at(cluster).term, followers(cluster)[1]
    cluster.step(old, to(target))
    cluster.run(SECOND // 5)
    assert cluster.leader == target
    assert at(cluster).term == term + 1
    assert at(cluster, old).role is Role.FOLLOWER
    assert cluster.proposals[-1] == Resolved(9, NodeId(target))


def test_t09_a_target_that_gets_no_entries_times_out() -> None:
    cluster = group()
    lead, target = cluster.leader, followers(cluster)[0]
    drop(cluster, AppendEntries, to=lambda number: number == target)
    propose(cluster)
    cluster.step(lead, to(target))
    cluster.run(2 * SECOND)
    answer = cluster.proposals[-1]
    assert isinstance(answer, Refused)
    assert str(answer.error) == f"member {target} did not take over within one election timeout"
    assert cluster.leader == lead


def test_t11_a_second_target_is_refused_while_one_is_on_its_way() -> None:
    cluster = group()
    first, second = followers(cluster)
    cluster.step(cluster.leader, to(first))
    error = error_of(cluster, to(second, 10))
    assert isinstance(error, NotReady)
    assert str(error) == f"a transfer to member {first} is running"


def test_t13_t14_writes_go_to_the_new_leader_only() -> None:
    cluster = group()
    old, target = cluster.leader, followers(cluster)[0]
    cluster.step(old, to(target))
    cluster.run(SECOND // 5)
    assert isinstance(error_of(cluster, Propose(1, b"x"), old), NotLeader)
    write(cluster, at=target)


def test_t15_what_is_uncommitted_when_it_begins_commits_before_it_ends() -> None:
    cluster = group()
    old, target = cluster.leader, followers(cluster)[0]
    drop(cluster, AppendEntries)
    propose(cluster, b"pending")
    cluster.step(old, to(target))
    cluster.run(STEP)
    heal(cluster)
    cluster.run(SECOND)
    assert cluster.leader == target
    assert applied(cluster, target) == [b"pending"]
