"""MicroRaft's rows P: snapshots and catching up. What is asked of whom is in ../test_snapshot_sources.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND
from lockmaster_raft.events import Receive, RemoveMember
from lockmaster_raft.ids import NodeId
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    FetchPiece,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
)
from lockmaster_raft.progress import ProgressState
from lockmaster_raft.ready import Role

from ..rig import Cluster, Rig, append, base, configuration, entries
from ..shapes import CALM, add, join, report, until
from .stage import (
    STEP,
    apart,
    applied,
    at,
    drop,
    error_of,
    followers,
    grown,
    heal,
    is_learner,
    propose,
    same_state,
    voters,
    write,
)
from .test_membership import equal_configurations, vote

TIGHT = replace(CALM, log_bytes_max=2_000)
"""The log is cut whoever lacks what is in it: who was away for twenty writes needs a snapshot."""


def write_and_cut(cluster: Cluster, count: int = 20) -> None:
    """Writes that are committed, applied, flushed and cut off the logs of whoever has them."""
    for number in range(count):
        write(cluster, b"%d" % number + b"x" * 300)
    report(cluster)


def behind(number: int = 3) -> Cluster:
    """Three voters; that one was away, and the logs of the others begin after what it lacks."""
    cluster = grown(3, TIGHT)
    apart(cluster, number)
    write_and_cut(cluster)
    assert at(cluster).log_first > at(cluster, number).last_index + 1
    return cluster


def offers(cluster: Cluster, to: int) -> list[InstallSnapshot]:
    return [s.message for s in cluster.sends if isinstance(s.message, InstallSnapshot) and s.to == to]


def caught_up(cluster: Cluster, number: int) -> bool:
    return at(cluster, number).commit_index == at(cluster).commit_index


def test_p02_writes_go_on_after_the_logs_were_cut() -> None:
    cluster = grown(3, TIGHT)
    write_and_cut(cluster)
    firsts = [node.log_first for node in cluster.nodes.values()]
    assert min(firsts) > 10
    index = write(cluster, b"after")
    cluster.run(SECOND)
    assert {node.commit_index for node in cluster.nodes.values()} == {index}
    assert all(applied(cluster, n)[-1] == b"after" for n in cluster.nodes)


@pytest.mark.parametrize("times", [1, 3])
def test_p06_the_last_answer_of_an_install_is_lost(times: int) -> None:
    cluster = behind()
    lost: list[Message] = []

    def cut(sender: int, receiver: int, message: Message) -> bool:
        final = isinstance(message, InstallSnapshotReply) and message.installed
        if final and len(lost) < times:
            lost.append(message)
            return True
        return False

    cluster.cut = cut
    cluster.run(5 * SECOND)
    assert len(lost) >= 1
    assert caught_up(cluster, 3)
    assert at(cluster).progress_view()[NodeId(3)].match_index == at(cluster).last_index
    write(cluster, b"after")
    cluster.run(SECOND)
    assert applied(cluster, 3) == [b"after"]  # once: the rest of its state came with the snapshot


def test_p09_who_lacks_only_what_the_leaders_log_still_holds_gets_no_snapshot() -> None:
    cluster = grown(3, CALM)
    for number in range(20):
        write(cluster, b"%d" % number + b"x" * 300)
    cluster.run(SECOND)
    apart(cluster, 3)
    write(cluster, b"last")
    report(cluster)
    assert at(cluster).log_first > 10
    cluster.sends.clear()
    heal(cluster)
    cluster.run(2 * SECOND)
    assert caught_up(cluster, 3)
    assert offers(cluster, 3) == []


def test_p11_a_deposed_leader_with_entries_of_its_own_installs_the_others_snapshot() -> None:
    """What became of its writes is for the host to say: Indeterminate (see the table)."""
    cluster = grown(3, TIGHT)
    apart(cluster, 1)
    propose(cluster, b"own")
    cluster.run(5 * SECOND)
    write_and_cut(cluster)
    heal(cluster)
    cluster.run(5 * SECOND)
    assert offers(cluster, 1)
    same_state(cluster)
    assert b"own" not in applied(cluster, 1)
    assert at(cluster, 1).role is Role.FOLLOWER


def test_p12_an_uncommitted_change_at_the_end_of_a_log_goes_with_the_install() -> None:
    cluster = grown(3, TIGHT)
    apart(cluster, 1)
    assert error_of(cluster, add(4)) is None
    cluster.run(5 * SECOND)
    assert at(cluster, 1).configuration.member(NodeId(4)) is not None
    write_and_cut(cluster)
    heal(cluster)
    cluster.run(5 * SECOND)
    assert offers(cluster, 1)
    equal_configurations(cluster)
    assert at(cluster, 1).configuration.member(NodeId(4)) is None


def test_p15_the_leader_dies_while_a_member_fetches() -> None:
    cluster = behind()
    drop(cluster, FetchPiece)
    until(cluster, lambda: at(cluster, 3).fetching is not None)
    cluster.down.add(1)
    heal(cluster)
    cluster.run(8 * SECOND)
    assert cluster.leader == 2
    assert caught_up(cluster, 3)


def test_p16_a_crashed_member_is_not_named_as_a_source() -> None:
    cluster = grown(4, TIGHT)
    apart(cluster, 4)
    write_and_cut(cluster)
    dead = followers(cluster)[0]
    cluster.down.add(dead)
    cluster.run(2 * SECOND)
    cluster.sends.clear()
    heal(cluster)
    cluster.run(5 * SECOND)
    assert offers(cluster, 4)
    assert all(dead not in offer.sources for offer in offers(cluster, 4))
    assert caught_up(cluster, 4)


def test_p18_a_learner_becomes_a_voter_by_a_snapshot_that_holds_its_promotion() -> None:
    cluster = grown(3, TIGHT)
    join(cluster, 4, promote=False)
    drop(cluster, AppendEntries, to=lambda number: number == 4)
    assert error_of(cluster, vote(cluster, 4)) is None
    for number in range(20):
        write(cluster, b"%d" % number + b"x" * 300)
    assert is_learner(cluster, 4)
    report(cluster)
    heal(cluster)
    cluster.run(5 * SECOND)
    assert offers(cluster, 4)
    assert at(cluster, 4).role is Role.FOLLOWER
    assert voters(cluster, 4) == (1, 2, 3, 4)


def test_x14_an_install_below_the_receivers_commit_is_answered() -> None:
    """D13. The leader learns by it that the member needs none."""
    cluster = behind()
    heal(cluster)
    cluster.run(5 * SECOND)
    assert caught_up(cluster, 3)
    late = offers(cluster, 3)[-1]
    cluster.run(SECOND)
    cluster.sends.clear()
    commit = at(cluster, 3).commit_index
    assert commit >= late.last_index
    cluster.step(3, Receive(late))
    cluster.run(STEP)
    assert [s.to for s in cluster.sends if isinstance(s.message, InstallSnapshotReply)] == [cluster.leader]
    assert at(cluster, 3).commit_index == commit
    assert at(cluster).progress_view()[NodeId(3)].state is ProgressState.REPLICATE


def test_x27_a_removed_member_that_still_runs_disturbs_nobody() -> None:
    cluster = grown(4)
    term = at(cluster).term
    apart(cluster, 4)
    assert error_of(cluster, RemoveMember(7, NodeId(4))) is None
    cluster.run(10 * SECOND)
    assert at(cluster, 4).role is not Role.REMOVED
    heal(cluster)
    cluster.run(10 * SECOND)
    assert at(cluster, 4).role is Role.REMOVED
    assert (cluster.leader, at(cluster).term) == (1, term)


@pytest.mark.parametrize("term", [1, 2])
def test_x11_x13_an_append_below_the_receivers_log_is_answered_and_matches_whatever_its_term(term: int) -> None:
    """D10, D12. What is committed is equal everywhere, so nothing below the log's start is compared."""
    rig = Rig(start=base(configuration(), index=50, term=3), log=entries(51, 3), term=3)
    rig.receive(append(2, 3, (51, 3), commit=51))
    rig.receive(append(2, 3, (9, term), entries(10, term, 3), commit=51))
    answer = rig.only(AppendEntriesReply)
    assert answer.success
    assert (rig.node.commit_index, rig.node.last_index) == (51, 51)
