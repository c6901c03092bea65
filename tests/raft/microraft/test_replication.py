"""MicroRaft's rows R: replication, commit, back pressure."""

from __future__ import annotations

import pytest
from lockmaster_raft.config import SECOND
from lockmaster_raft.errors import NotLeader
from lockmaster_raft.events import Propose, SetReducedCommit
from lockmaster_raft.messages import AppendEntries
from lockmaster_raft.ready import Appended

from ..shapes import add, join, shaped
from .stage import (
    apart,
    applied,
    at,
    drop,
    error_of,
    followers,
    group,
    grown,
    heal,
    propose,
    voters,
    write,
)


@pytest.mark.parametrize("size", [2, 3])
def test_r01_one_write_is_committed_and_applied_everywhere(size: int) -> None:
    cluster = group(size)
    assert write(cluster, b"one") == 3  # after the genesis and the leader's NOOP
    cluster.run(SECOND)
    assert all(applied(cluster, n) == [b"one"] for n in cluster.nodes)


def test_r02_a_follower_takes_nothing() -> None:
    cluster = group(3)
    assert isinstance(error_of(cluster, Propose(1, b"x"), followers(cluster)[0]), NotLeader)
    cluster.run(SECOND)
    assert all(applied(cluster, n) == [] for n in cluster.nodes)


def test_r04_two_of_five_logs_commit_nothing() -> None:
    cluster = group(5)
    reached = followers(cluster)[0]
    drop(cluster, AppendEntries, to=lambda number: number != reached)
    index = propose(cluster)
    cluster.run(SECOND)
    assert [n for n in sorted(cluster.nodes) if at(cluster, n).last_index == index] == sorted((cluster.leader, reached))
    assert at(cluster).commit_index < index


@pytest.mark.parametrize("size", [4, 5])
def test_r05_a_hundred_writes_one_by_one_have_contiguous_indexes_and_equal_states(size: int) -> None:
    cluster = group(size)
    before = {p.member_id: p.contact for p in at(cluster)._core.progress.values()}
    indexes = [write(cluster, b"%d" % n) for n in range(100)]
    assert indexes == list(range(indexes[0], indexes[0] + 100))
    cluster.run(SECOND)
    assert all(applied(cluster, n) == [b"%d" % i for i in range(100)] for n in cluster.nodes)
    assert all(p.contact > before[p.member_id] for p in at(cluster)._core.progress.values())


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("callers", [1, 10])
def test_r06_r07_a_hundred_writes_at_once_have_distinct_indexes_and_are_applied_everywhere(
    size: int, callers: int
) -> None:
    cluster = group(size)
    for number in range(100):
        cluster.step(cluster.leader, Propose(number, b"%d of %d" % (number, number % callers)))
    indexes = [p.index for p in cluster.proposals if isinstance(p, Appended)]
    assert len(set(indexes)) == 100
    cluster.run(SECOND)
    expected = [b"%d of %d" % (n, n % callers) for n in range(100)]
    assert all(applied(cluster, n) == expected for n in cluster.nodes)


def test_r08_a_follower_that_missed_a_hundred_appends_catches_up() -> None:
    cluster = group(3)
    lost = followers(cluster)[0]
    drop(cluster, AppendEntries, to=lambda number: number == lost)
    for number in range(100):
        write(cluster, b"%d" % number)
    assert applied(cluster, lost) == []
    heal(cluster)
    cluster.run(3 * SECOND)
    assert applied(cluster, lost) == [b"%d" % n for n in range(100)]


def test_r12_with_the_old_followers_gone_the_leader_and_a_new_voter_commit() -> None:
    """By the reduced commit quorum, which has to be turned on here."""
    cluster = shaped(3, 0)
    join(cluster, 4)
    cluster.step(1, SetReducedCommit(1, enabled=True))
    cluster.run(SECOND)
    assert voters(cluster) == (1, 2, 3, 4)
    apart(cluster, 2, 3)
    write(cluster)


def test_r13_a_change_that_nobody_got_cannot_commit() -> None:
    cluster = grown(3)
    apart(cluster, 1)
    index = propose(cluster)
    assert error_of(cluster, add(4)) is None
    cluster.run(5 * SECOND)
    assert at(cluster, 1).commit_index < index
    assert cluster.leader != 1
    heal(cluster)
    cluster.run(2 * SECOND)
    assert voters(cluster) == voters(cluster, 1) == (1, 2, 3)
