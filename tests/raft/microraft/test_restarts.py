"""MicroRaft's rows V (restarts; what the store itself does is in tests/service/storage) and S (groups of one)."""

from __future__ import annotations

import pytest
from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import EntryKind
from lockmaster_raft.events import RemoveMember
from lockmaster_raft.ids import NodeId
from lockmaster_raft.messages import AppendEntries
from lockmaster_raft.ready import Role

from ..rig import Cluster, Rig, config_entry, configuration
from ..shapes import join
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
    propose,
    same_state,
    voters,
    write,
)
from .test_membership import equal_configurations, vote
from .test_snapshots import TIGHT, caught_up, offers, write_and_cut


def on_disk(cluster: Cluster, number: int) -> list[bytes]:
    """Payloads of the DATA entries that the member's store holds."""
    return [e.payload for e in cluster.stores[number].log if e.kind is EntryKind.DATA]


def test_v01_term_and_vote_on_every_disk_follow_the_elections() -> None:
    cluster = group(3)
    for _ in range(2):
        lead, up = cluster.leader, [n for n in cluster.nodes if n not in cluster.down]
        assert {cluster.hard[n].term for n in up} == {at(cluster).term}
        assert cluster.hard[lead].voted_for == lead
        assert {cluster.hard[n].voted_for for n in up} <= {0, lead}
        cluster.crash(lead)
        cluster.run(5 * SECOND)
        cluster.restart(lead)
        cluster.run(2 * SECOND)


def test_v02_all_disks_hold_what_is_committed() -> None:
    cluster = group(3)
    for number in range(10):
        write(cluster, b"%d" % number)
    cluster.run(SECOND)
    assert all(on_disk(cluster, n) == [b"%d" % i for i in range(10)] for n in cluster.nodes)


def test_v05_the_disk_of_a_leader_in_the_minority_is_cut_and_written_anew() -> None:
    cluster = group(3)
    old = cluster.leader
    write(cluster, b"common")
    apart(cluster, old)
    for _ in range(10):
        propose(cluster, b"lost", old)
    cluster.run(5 * SECOND)
    assert on_disk(cluster, old).count(b"lost") == 10
    write(cluster, b"kept")
    heal(cluster)
    cluster.run(3 * SECOND)
    assert all(on_disk(cluster, n) == [b"common", b"kept"] for n in cluster.nodes)


@pytest.mark.parametrize("cut", [False, True])
def test_v06_a_leader_that_was_replaced_comes_back_as_a_follower(cut: bool) -> None:
    """With `cut`, row V09: by a snapshot."""
    cluster = grown(3, TIGHT)
    old = cluster.leader
    write(cluster, b"before")
    cluster.crash(old)
    cluster.run(5 * SECOND)
    write(cluster, b"meanwhile")
    if cut:
        write_and_cut(cluster)
    cluster.restart(old)
    cluster.run(5 * SECOND)
    assert at(cluster, old).role is Role.FOLLOWER
    assert at(cluster, old).term == at(cluster).term
    same_state(cluster)
    assert bool(offers(cluster, old)) is cut
    if not cut:
        assert applied(cluster, old) == [b"before", b"meanwhile"]


@pytest.mark.parametrize("cut", [False, True])
def test_v07_a_group_that_restarts_before_anyone_elects_goes_on_in_a_higher_term(cut: bool) -> None:
    """Any of them may lead then: a leader that restarts has no claim. With `cut`, row V09: its log begins late."""
    cluster = grown(3, TIGHT)
    write(cluster, b"value")
    if cut:
        write_and_cut(cluster)
    old, term, commit = cluster.leader, at(cluster).term, at(cluster).commit_index
    for number in followers(cluster):
        cluster.restart(number)  # late: no member votes for an election timeout after its start
    cluster.restart(old)
    cluster.run(8 * SECOND)
    assert at(cluster).term > term
    assert at(cluster).commit_index == commit + 1  # the NOOP of its term
    same_state(cluster)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("learner", [False, True])
def test_v08_v13_a_member_that_restarts_after_a_missed_write_catches_up_and_is_what_it_was(
    learner: bool, cut: bool
) -> None:
    """With `cut`, row V09: by a snapshot."""
    cluster = grown(3, TIGHT)
    join(cluster, 4, promote=not learner)
    write(cluster, b"before")
    cluster.run(SECOND)
    cluster.crash(4)
    cluster.sends.clear()
    write(cluster, b"missed")
    if cut:
        write_and_cut(cluster)
    cluster.restart(4)
    assert is_learner(cluster, 4) is learner
    cluster.run(5 * SECOND)
    assert is_learner(cluster, 4) is learner
    same_state(cluster)
    assert bool(offers(cluster, 4)) is cut
    if not cut:
        assert applied(cluster, 4) == [b"before", b"missed"]


@pytest.mark.parametrize("cut", [False, True])
def test_v11_a_learner_promoted_while_it_is_down_is_a_follower_after_its_restart(cut: bool) -> None:
    """With `cut`, row V12: its promotion lies in a snapshot."""
    cluster = grown(3, TIGHT)
    join(cluster, 4, promote=False)
    promotion = vote(cluster, 4)
    cluster.crash(4)
    assert error_of(cluster, promotion) is None
    cluster.run(STEP)
    if cut:
        write_and_cut(cluster)
    cluster.sends.clear()
    cluster.restart(4)
    cluster.run(5 * SECOND)
    assert bool(offers(cluster, 4)) is cut
    assert at(cluster, 4).role is Role.FOLLOWER
    assert voters(cluster, 4) == (1, 2, 3, 4)
    equal_configurations(cluster)


def test_v12_a_removal_inside_a_snapshot() -> None:
    """Who was away during the change and restarts has the configuration of the snapshot."""
    cluster = grown(4, TIGHT)
    cluster.crash(3)
    assert error_of(cluster, RemoveMember(7, NodeId(4))) is None
    cluster.run(STEP)
    write_and_cut(cluster)
    cluster.restart(3)
    cluster.run(5 * SECOND)
    assert offers(cluster, 3)
    assert voters(cluster, 3) == (1, 2, 3)
    equal_configurations(cluster)


def test_v14_a_promoted_member_restarts_as_a_follower() -> None:
    cluster = grown(4)
    cluster.restart(4)
    assert at(cluster, 4).role is Role.FOLLOWER
    assert at(cluster, 4).configuration.voter_ids == (1, 2, 3, 4)


def test_v15_a_promotion_on_the_disk_is_in_force_after_a_restart_though_it_is_not_committed() -> None:
    rig = Rig(node_id=4, conf=configuration((1, 2, 3), (4,)), log=[config_entry(2, 1, configuration((1, 2, 3, 4)))])
    assert rig.node.role is Role.FOLLOWER
    assert rig.node.commit_index == 1


def test_v16_a_former_leaders_own_entry_behind_its_snapshot_is_replaced() -> None:
    cluster = grown(3, TIGHT)
    write_and_cut(cluster)
    old = cluster.leader
    drop(cluster, AppendEntries)
    index = propose(cluster, b"own")
    cluster.run(STEP)
    assert at(cluster, old).last_index == index
    cluster.crash(old)
    heal(cluster)
    cluster.run(5 * SECOND)
    write(cluster, b"others")
    cluster.restart(old)
    cluster.run(3 * SECOND)
    assert at(cluster, old).role is Role.FOLLOWER
    same_state(cluster)
    assert b"own" not in on_disk(cluster, old)
    assert on_disk(cluster, old)[-1] == b"others"


def test_s01_a_group_of_one_leads_itself_and_stays_so() -> None:
    cluster = group(1)
    term = at(cluster).term
    assert term >= 1
    assert at(cluster).leader_id == 1
    cluster.run(60 * SECOND)
    assert (at(cluster).role, at(cluster).term) == (Role.LEADER, term)


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("restarted", [False, True])
def test_s02_a_group_of_one_commits(count: int, restarted: bool) -> None:
    cluster = group(1)
    if restarted:
        cluster.restart(1)
        cluster.run(SECOND)
    indexes = [propose(cluster, b"%d" % number) for number in range(count)]
    cluster.run(SECOND)
    assert at(cluster).commit_index == indexes[-1]
    assert applied(cluster, 1) == [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("how", ["learner", "voter", "promoted by name"])
def test_s04_the_first_member_of_a_group_that_grew_restarts(how: str) -> None:
    cluster = grown(1, full_min=1)
    write(cluster, b"value")
    join(cluster, 2, promote=how == "voter")
    if how == "promoted by name":
        assert error_of(cluster, vote(cluster, 2)) is None
        cluster.run(SECOND)
    assert is_learner(cluster, 2) is (how == "learner")
    cluster.restart(1)
    cluster.run(6 * SECOND)
    lead = at(cluster)
    assert lead.commit_index == lead.last_index
    assert lead.last_term == lead.term
    assert followers(cluster)
    assert caught_up(cluster, 1)
    assert caught_up(cluster, 2)
    assert applied(cluster, 1) == [b"value"]  # replayed; member 2 had it in its snapshot
    write(cluster, b"after")
    cluster.run(SECOND)
    assert all(applied(cluster, n)[-1] == b"after" for n in (1, 2))
