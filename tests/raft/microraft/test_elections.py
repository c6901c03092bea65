"""MicroRaft's rows E: election, leader failure, partitions."""

from __future__ import annotations

import pytest
from lockmaster_raft.config import SECOND
from lockmaster_raft.errors import NotLeader
from lockmaster_raft.events import Propose, RequestRead
from lockmaster_raft.messages import AppendEntries, AppendEntriesReply, PreVote, RequestVote
from lockmaster_raft.ready import Role

from .stage import (
    STEP,
    apart,
    applied,
    at,
    drop,
    error_of,
    followers,
    group,
    heal,
    known_leader,
    propose,
    same_state,
    write,
)


@pytest.mark.parametrize("size", [2, 3])
def test_e01_e02_one_leader_and_every_member_names_it(size: int) -> None:
    cluster = group(size)
    assert known_leader(cluster, *cluster.nodes) == {cluster.leader}


def test_e04_the_one_voter_leads_and_the_others_learn() -> None:
    cluster = group(1, 2)
    assert [cluster.nodes[n].role for n in (1, 2, 3)] == [Role.LEADER, Role.LEARNER, Role.LEARNER]
    assert known_leader(cluster, 2, 3) == {1}


@pytest.mark.parametrize("everything", [True, False])
def test_e05_an_isolated_follower_raises_no_term_and_deposes_nobody(everything: bool) -> None:
    cluster = group(3)
    leader, term, lost = cluster.leader, at(cluster).term, followers(cluster)[0]
    if everything:
        apart(cluster, lost)
    else:
        cluster.cut = lambda sender, receiver, message: sender == leader and receiver == lost
    cluster.run(30 * SECOND)
    assert at(cluster, lost).term == term
    heal(cluster)
    cluster.run(3 * SECOND)
    assert (cluster.leader, at(cluster).term) == (leader, term)


def test_e06_writes_commit_without_a_follower() -> None:
    cluster = group(3)
    cluster.down.add(followers(cluster)[0])
    write(cluster)


def test_e07_the_others_elect_a_leader_of_a_higher_term_and_commit() -> None:
    cluster = group(3)
    old, term = cluster.leader, at(cluster).term
    cluster.down.add(old)
    cluster.run(4 * SECOND)
    assert at(cluster).term > term
    assert known_leader(cluster, *followers(cluster)) == {cluster.leader}
    write(cluster)


def test_e08_a_minority_without_the_leader_forgets_it_and_finds_it_again() -> None:
    cluster = group(5)
    leader, lost = cluster.leader, followers(cluster)[:2]
    apart(cluster, *lost)
    cluster.run(5 * SECOND)
    assert known_leader(cluster, *lost) == {0}
    assert cluster.leader == leader
    heal(cluster)
    cluster.run(3 * SECOND)
    assert known_leader(cluster, *cluster.nodes) == {leader}


def test_e09_a_leader_in_the_minority_is_replaced_and_the_halves_converge() -> None:
    cluster = group(5)
    old, mate = cluster.leader, followers(cluster)[0]
    apart(cluster, old, mate)
    cluster.run(5 * SECOND)
    assert cluster.leader not in (old, mate)
    assert known_leader(cluster, old, mate) == {0}
    heal(cluster)
    cluster.run(3 * SECOND)
    assert known_leader(cluster, *cluster.nodes) == {cluster.leader}


def test_e11_an_entry_of_the_old_term_commits_before_the_new_leaders_in_order() -> None:
    cluster = group(3)
    old, (has, lacks) = cluster.leader, followers(cluster)
    cluster.cut = lambda sender, receiver, message: (
        (isinstance(message, AppendEntries) and receiver == lacks) or isinstance(message, AppendEntriesReply)
    )
    index = propose(cluster, b"old")
    cluster.run(STEP)
    assert at(cluster, has).last_index == index
    assert at(cluster, old).commit_index < index
    cluster.down.add(old)
    heal(cluster)
    cluster.run(4 * SECOND)
    assert cluster.leader == has
    write(cluster, b"new")
    assert applied(cluster, has) == applied(cluster, lacks) == [b"old", b"new"]


def test_e12_an_extra_entry_of_a_member_that_cannot_win_stays_until_it_is_overwritten() -> None:
    cluster = group(5)
    old, (extra, *others) = cluster.leader, followers(cluster)
    drop(cluster, AppendEntries, to=lambda number: number != extra)
    index = propose(cluster, b"extra")
    cluster.run(STEP)
    cluster.down.add(old)
    cluster.cut = lambda sender, receiver, message: (
        (isinstance(message, (PreVote, RequestVote)) and sender == extra)
        or (isinstance(message, AppendEntries) and receiver == extra)
    )
    cluster.run(4 * SECOND)
    assert cluster.leader in others
    assert at(cluster, extra).last_index == index
    assert at(cluster, extra).last_term < at(cluster).term
    heal(cluster)
    write(cluster, b"good")
    cluster.run(3 * SECOND)
    same_state(cluster)
    assert applied(cluster, extra) == [b"good"]


def test_e13_a_leader_cut_off_steps_down_and_only_the_majoritys_entries_stay() -> None:
    cluster = group(3)
    old = cluster.leader
    apart(cluster, old)
    propose(cluster, b"lost", old)
    cluster.run(2 * SECOND)
    assert at(cluster, old).role is not Role.LEADER
    assert isinstance(error_of(cluster, Propose(2, b"late"), old), NotLeader)
    cluster.run(3 * SECOND)
    write(cluster, b"kept")
    heal(cluster)
    cluster.run(3 * SECOND)
    same_state(cluster)
    assert applied(cluster, old) == [b"kept"]


def test_e14_a_leader_in_the_minority_keeps_nothing_of_its_leadership() -> None:
    """What became of its write is for the host to say: Indeterminate (see the table)."""
    cluster = group(5)
    old = cluster.leader
    apart(cluster, old, followers(cluster)[0])
    propose(cluster, b"pending", old)
    cluster.step(old, RequestRead(7))
    cluster.run(5 * SECOND)
    assert at(cluster, old).role is not Role.LEADER
    assert at(cluster, old).progress_view() == {}
    assert [(n, r.request_id, r.index) for n, r in cluster.reads] == [(old, 7, None)]


def test_e18_a_healed_leader_follows_and_serves_the_new_value() -> None:
    cluster = group(3)
    old = cluster.leader
    write(cluster, b"first")
    apart(cluster, old)
    cluster.run(5 * SECOND)
    write(cluster, b"second")
    heal(cluster)
    cluster.run(2 * SECOND)
    assert at(cluster, old).role is Role.FOLLOWER
    assert applied(cluster, old) == [b"first", b"second"]


def test_e20_a_restarted_follower_rejoins_and_has_the_value() -> None:
    cluster = group(3)
    lost = followers(cluster)[0]
    write(cluster, b"before")
    cluster.crash(lost)
    write(cluster, b"meanwhile")
    cluster.restart(lost)
    cluster.run(2 * SECOND)
    assert applied(cluster, lost) == [b"before", b"meanwhile"]
