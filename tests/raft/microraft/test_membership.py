"""MicroRaft's rows M: membership. Its callers promote by hand; here a learner that is fit is promoted by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.errors import ChangeRefused, NotReady
from lockmaster_raft.events import AddMember, ChangeMember, Propose, RemoveMember
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.messages import AppendEntries, AppendEntriesReply, InstallSnapshot
from lockmaster_raft.quorum import majority
from lockmaster_raft.ready import Appended, Refused, Role

from ..rig import Cluster, Rig, append, config_entry, configuration
from ..shapes import add, join, report
from ..test_elections import elect
from .stage import (
    STEP,
    apart,
    applied,
    at,
    drop,
    error_of,
    followers,
    group,
    grown,
    heal,
    is_learner,
    known_leader,
    propose,
    record,
    same_state,
    voters,
    write,
)


def vote(cluster: Cluster, number: int) -> ChangeMember:
    """Make this learner a voter."""
    return ChangeMember(7, record(cluster, number))


def remove(number: int, proposal_id: int = 7) -> RemoveMember:
    return RemoveMember(proposal_id, NodeId(number))


def equal_configurations(cluster: Cluster) -> None:
    up = [node for n, node in cluster.nodes.items() if n not in cluster.down and node.role is not Role.REMOVED]
    assert len({(node.configuration, node.committed_configuration) for node in up}) == 1


def test_m01_a_member_that_is_added_votes_and_has_the_old_entries() -> None:
    cluster = grown(3)
    write(cluster, b"old")
    join(cluster, 4)
    assert voters(cluster) == (1, 2, 3, 4)
    assert majority(len(voters(cluster))) == 3
    equal_configurations(cluster)
    assert applied(cluster, 4) == [b"old"]
    assert at(cluster, 4).role is Role.FOLLOWER
    assert NodeId(4) in at(cluster).progress_view()


def test_m02_a_learner_has_the_entries_and_no_vote() -> None:
    cluster = grown(3)
    write(cluster, b"old")
    join(cluster, 4, promote=False)
    assert voters(cluster) == (1, 2, 3)
    equal_configurations(cluster)
    assert applied(cluster, 4) == [b"old"]
    assert is_learner(cluster, 4)


def test_m04_m05_m08_learners_and_voters_are_added_beside_learners() -> None:
    cluster = grown(3)
    join(cluster, 4, promote=False)
    join(cluster, 5, promote=False)
    assert voters(cluster) == (1, 2, 3)
    join(cluster, 6)
    assert voters(cluster) == (1, 2, 3, 6)
    assert error_of(cluster, vote(cluster, 4)) is None
    cluster.run(SECOND)
    join(cluster, 7, promote=False)
    assert voters(cluster) == (1, 2, 3, 4, 6)
    assert [n for n in cluster.nodes if is_learner(cluster, n)] == [5, 7]


def test_m07_m09_learners_are_promoted_by_name() -> None:
    cluster = grown(3)
    for number in (4, 5):
        join(cluster, number, promote=False)
    for number in (4, 5):
        assert error_of(cluster, vote(cluster, number)) is None
        cluster.run(SECOND)
        assert at(cluster, number).role is Role.FOLLOWER
    assert voters(cluster) == (1, 2, 3, 4, 5)
    assert majority(len(voters(cluster))) == 3


def test_m11_a_learner_that_has_not_seen_its_promotion_elects_who_has() -> None:
    cluster = grown(2)
    join(cluster, 3, promote=False)
    drop(cluster, AppendEntries, to=lambda number: number == 3)
    assert error_of(cluster, vote(cluster, 3)) is None
    cluster.run(SECOND // 1000)
    assert at(cluster, 2).configuration.voter_ids == (1, 2, 3)
    assert is_learner(cluster, 3)
    cluster.down.add(1)
    heal(cluster)
    cluster.run(5 * SECOND)
    assert cluster.leader == 2
    assert voters(cluster) == (1, 2, 3)
    assert at(cluster, 3).role is Role.FOLLOWER


def test_m13_m14_a_removed_member_is_gone_and_a_new_one_has_all_entries() -> None:
    cluster = grown(3)
    write(cluster, b"old")
    assert error_of(cluster, remove(3)) is None
    cluster.run(SECOND)
    join(cluster, 4)
    equal_configurations(cluster)
    assert [m.member_id for m in at(cluster).committed_configuration.members] == [1, 2, 4]
    assert applied(cluster, 4) == [b"old"]
    assert NodeId(3) not in at(cluster).progress_view()


def test_m15_the_same_by_a_snapshot() -> None:
    cluster = grown(3, RaftConfig(retained_entries_min=1))
    for number in range(20):
        write(cluster, b"%d" % number)
    assert error_of(cluster, remove(3)) is None
    cluster.run(SECOND)
    report(cluster)
    assert at(cluster).log_first > 10
    join(cluster, 4)
    assert any(isinstance(s.message, InstallSnapshot) and s.to == 4 for s in cluster.sends)
    equal_configurations(cluster)
    assert at(cluster, 4).commit_index == at(cluster).commit_index
    assert voters(cluster) == (1, 2, 4)


def test_m12_a_member_that_was_removed_comes_back_under_a_new_id_only() -> None:
    """MicroRaft refuses it for good. Ours knows members by incarnation: a removed one is nobody any more."""
    cluster = grown(3)
    assert error_of(cluster, remove(3)) is None
    cluster.run(SECOND)
    assert error_of(cluster, add(3, promote=False)) is None
    cluster.run(SECOND)
    assert [m.member_id for m in at(cluster).committed_configuration.members] == [1, 2, 4]


@pytest.mark.parametrize("last", [2, 3])
def test_m16_m18_a_leader_that_removes_itself_is_gone_everywhere_and_another_leads(last: int) -> None:
    cluster = grown(last, full_min=1)
    assert error_of(cluster, remove(1)) is None
    cluster.run(5 * SECOND)
    assert at(cluster, 1).role is Role.REMOVED
    assert cluster.leader != 1
    assert all(voters(cluster, n) == tuple(range(2, last + 1)) for n in range(2, last + 1))
    assert NodeId(1) not in at(cluster).progress_view()
    write(cluster)


def test_m22_m23_a_change_waits_for_an_entry_of_the_leaders_own_term_to_be_committed() -> None:
    rig = Rig()
    elect(rig)
    assert rig.node.role is Role.LEADER
    (refused,) = rig.step(remove(3)).proposals
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, NotReady)
    cluster = group(3)
    assert error_of(cluster, remove(followers(cluster)[0], 8)) is None


def test_m25_the_removal_of_a_leader_that_dies_is_committed_by_the_next() -> None:
    cluster = grown(3)
    drop(cluster, AppendEntriesReply)
    assert error_of(cluster, remove(1)) is None
    cluster.run(STEP)
    assert voters(cluster, 2) == (1, 2, 3)
    cluster.down.add(1)
    heal(cluster)
    cluster.run(5 * SECOND)
    write(cluster, b"new")
    assert voters(cluster) == (2, 3)


def test_m26_of_two_changes_in_one_message_the_first_is_committed_and_the_second_in_force() -> None:
    rig = Rig(term=2)
    second, third = configuration((1, 2, 3, 4), epoch=2), configuration((1, 2, 3, 4, 5), epoch=3)
    rig.receive(append(2, 2, (1, 1), [config_entry(2, 2, second), config_entry(3, 2, third)], commit=2))
    assert rig.node.committed_configuration == second
    assert rig.node.configuration == third
    rig.receive(append(2, 2, (3, 2), commit=3))
    assert rig.node.committed_configuration == third


def test_m27_a_write_behind_the_leaders_own_removal_is_committed_or_refused_never_lost() -> None:
    """MicroRaft refuses it. Ours leads, uncounted, until its removal commits (§4.2.2), and goes on admitting."""
    cluster = grown(3)
    assert error_of(cluster, remove(1)) is None
    cluster.step(1, Propose(8, b"behind"))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Appended)
    cluster.run(3 * SECOND)
    assert at(cluster).commit_index >= answer.index
    assert applied(cluster, cluster.leader) == [b"behind"]


def test_m28_a_change_lost_with_its_leader_is_repeated_under_the_same_epoch() -> None:
    cluster = grown(3)
    epoch = at(cluster).configuration.epoch
    apart(cluster, 1)
    assert error_of(cluster, RemoveMember(7, NodeId(3), epoch)) is None
    cluster.run(5 * SECOND)
    heal(cluster)
    cluster.run(2 * SECOND)
    assert voters(cluster, 1) == (1, 2, 3)
    assert error_of(cluster, RemoveMember(8, NodeId(3), epoch)) is None
    cluster.run(3 * SECOND)
    assert 3 not in voters(cluster)
    equal_configurations(cluster)


def test_m29_m37_a_learner_may_go_and_the_last_voter_may_not() -> None:
    cluster = group(1, 1)
    assert isinstance(error_of(cluster, remove(1)), ChangeRefused)
    assert error_of(cluster, remove(2)) is None
    cluster.run(SECOND)
    assert [m.member_id for m in at(cluster).committed_configuration.members] == [1]
    assert isinstance(error_of(cluster, remove(1)), ChangeRefused)


@pytest.mark.parametrize("learner", [True, False])
def test_m30_m36_the_voter_left_behind_completes_the_removal_and_leads_alone(learner: bool) -> None:
    """The leader's own removal is appended, nobody's answer reaches it, and then it is gone."""
    cluster = grown(2, full_min=1)
    if learner:
        join(cluster, 3, promote=False)
    drop(cluster, AppendEntriesReply)
    assert error_of(cluster, remove(1)) is None
    cluster.run(STEP)
    assert at(cluster, 2).configuration.voter_ids == (2,)
    cluster.down.add(1)
    heal(cluster)
    cluster.run(5 * SECOND)
    assert cluster.leader == 2
    assert voters(cluster) == (2,)
    write(cluster)


def test_m32_m33_m39_a_group_of_one_grows_and_commits_by_two() -> None:
    cluster = grown(1)
    join(cluster, 2)
    write(cluster, b"both")
    apart(cluster, 2)
    index = propose(cluster, b"pending")
    cluster.run(SECOND // 2)
    assert at(cluster, 1).commit_index < index
    heal(cluster)
    cluster.run(3 * SECOND)
    assert at(cluster).commit_index >= index
    cluster.run(SECOND)
    assert applied(cluster, 1) == applied(cluster, 2) == [b"both", b"pending"]


def test_m34_a_leader_goes_on_alone() -> None:
    cluster = grown(2, full_min=1)
    assert error_of(cluster, remove(2)) is None
    cluster.run(SECOND)
    write(cluster)
    assert voters(cluster, 1) == (1,)


def test_m35_a_follower_goes_on_alone() -> None:
    cluster = grown(2, full_min=1)
    term = at(cluster).term
    assert error_of(cluster, remove(1)) is None
    cluster.run(5 * SECOND)
    assert cluster.leader == 2
    assert at(cluster).term > term
    write(cluster)


def test_m40_members_are_added_one_after_the_other_by_the_epoch_that_the_last_one_gave() -> None:
    cluster = grown(1)
    for number in (2, 3):
        before = at(cluster).configuration.epoch
        cluster.step(1, _expecting(number, before))
        assert isinstance(cluster.proposals[-1], Appended)
        cluster.run(STEP)
        cluster.boot(number)
        cluster.run(3 * SECOND)
    write(cluster, b"value")
    cluster.run(SECOND)
    assert all(applied(cluster, n) == [b"value"] for n in (1, 2, 3))
    assert known_leader(cluster, 1, 2, 3) == {1}
    assert isinstance(error_of(cluster, _expecting(4, 1)), ChangeRefused)
    same_state(cluster)
    assert followers(cluster) == [2, 3]
    assert at(cluster).configuration_index > Index(1)


def _expecting(number: int, epoch: int) -> AddMember:
    return replace(add(number), expected_epoch=epoch)
