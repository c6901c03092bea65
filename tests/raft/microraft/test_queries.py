"""MicroRaft's rows Q: reads. Waiting for an index (minCommitIndex, waitFor) is the host's: see the table."""

from __future__ import annotations

from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.events import RemoveMember, RequestRead
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.messages import Heartbeat, HeartbeatReply, ReadIndex
from lockmaster_raft.progress import ProgressState
from lockmaster_raft.ready import ReadReady, Role

from ..rig import Cluster, Rig
from ..shapes import CALM, add, report
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
    propose,
    same_state,
    write,
)


def ask(cluster: Cluster, number: int, request_id: int = 7, *, by_lease: bool = False) -> None:
    cluster.step(number, RequestRead(request_id, by_lease))


def answers(cluster: Cluster) -> dict[int, int | None]:
    """{request: index or None} of all that were answered."""
    return {r.request_id: r.index for _, r in cluster.reads}


def test_q01_no_lease_before_an_own_term_commit() -> None:
    """Ours is stricter (D3): a lease read waits for a round then, and for the commit that lets one begin."""
    rig = Rig()
    elect(rig)
    assert rig.node.role is Role.LEADER
    assert rig.step(RequestRead(7, by_lease=True)).reads == ()


def test_q05_a_lease_read_is_at_the_commit_index_at_once() -> None:
    cluster = group()
    index = write(cluster)
    cluster.run(SECOND)
    ask(cluster, cluster.leader, by_lease=True)
    assert answers(cluster) == {7: index}


def test_q07_a_follower_serves_no_lease_read_of_its_own() -> None:
    """Ours asks the leader instead of refusing."""
    cluster = group()
    index, follower = write(cluster), followers(cluster)[0]
    drop(cluster, ReadIndex)
    ask(cluster, follower, by_lease=True)
    cluster.run(SECOND // 2)
    assert answers(cluster) == {}
    heal(cluster)
    cluster.run(SECOND // 2)
    assert answers(cluster) == {7: index}


def test_q08_a_follower_has_the_latest_value_once_it_caught_up() -> None:
    cluster = group()
    write(cluster, b"first")
    write(cluster, b"second")
    cluster.run(SECOND)
    assert all(applied(cluster, n)[-1] == b"second" for n in followers(cluster))


def test_q09_a_follower_cut_off_has_the_old_value_and_its_own_index() -> None:
    cluster = group()
    lost = followers(cluster)[0]
    index = write(cluster, b"first")
    cluster.run(SECOND)
    apart(cluster, lost)
    write(cluster, b"second")
    assert applied(cluster, lost) == [b"first"]
    assert at(cluster, lost).applied == index


def split() -> tuple[Cluster, int]:
    """The old leader is alone with the old value, the others have written a new one."""
    cluster = group()
    old = cluster.leader
    write(cluster, b"old")
    cluster.run(SECOND)
    apart(cluster, old)
    cluster.run(5 * SECOND)
    write(cluster, b"new")
    return cluster, old


def test_q11_the_new_leader_has_the_new_value_and_the_old_one_the_old() -> None:
    cluster, old = split()
    assert applied(cluster, cluster.leader)[-1] == b"new"
    assert applied(cluster, old)[-1] == b"old"


def test_q12_a_leader_split_away_answers_by_lease_no_longer_than_it_lasts() -> None:
    cluster = group()
    old = cluster.leader
    write(cluster)
    cluster.run(SECOND)
    apart(cluster, old)
    ask(cluster, old, 1, by_lease=True)
    assert answers(cluster)[1] is not None
    cluster.run(SECOND)
    ask(cluster, old, 2, by_lease=True)
    cluster.run(SECOND)
    assert answers(cluster)[2] is None
    assert at(cluster, old).role is not Role.LEADER


def test_q13_a_healed_leader_gets_the_latest_value() -> None:
    cluster, old = split()
    heal(cluster)
    cluster.run(2 * SECOND)
    assert applied(cluster, old) == [b"old", b"new"]
    same_state(cluster)


def test_q14_a_learner_that_caught_up_has_the_latest_value() -> None:
    cluster = group(3, 1)
    write(cluster, b"value")
    cluster.run(SECOND)
    assert at(cluster, 4).role is Role.LEARNER
    assert applied(cluster, 4) == [b"value"]
    assert at(cluster, 4).serves_state


def test_q15_a_learner_cut_off_serves_what_it_has() -> None:
    cluster = group(3, 1)
    index = write(cluster, b"old")
    cluster.run(SECOND)
    apart(cluster, 4)
    write(cluster, b"new")
    assert applied(cluster, 4) == [b"old"]
    assert at(cluster, 4).applied == index
    assert at(cluster, 4).serves_state


def test_q19_q21_reads_beside_writes_are_released_by_a_quorum_and_miss_nothing_acknowledged() -> None:
    """MicroRaft runs them at the commit index of their release, ours at that of their round's start or later."""
    cluster = group(5)
    known = write(cluster)
    apart(cluster, *followers(cluster)[:3])
    for number in (1, 2):
        propose(cluster, b"pending")
        ask(cluster, cluster.leader, number)
    cluster.run(SECOND // 2)
    assert answers(cluster) == {}
    heal(cluster)
    cluster.run(SECOND)
    assert all(index is not None and index >= known for index in answers(cluster).values())
    ask(cluster, cluster.leader, 3)
    cluster.run(SECOND // 2)
    assert answers(cluster)[3] == known + 2


def test_q23_the_limit_of_waiting_reads_refuses_the_next_and_keeps_the_first() -> None:
    cluster = group(3, config=RaftConfig(pending_reads_max=1))
    drop(cluster, HeartbeatReply)
    ask(cluster, cluster.leader, 1)
    ask(cluster, cluster.leader, 2)
    assert answers(cluster) == {2: None}
    heal(cluster)
    cluster.run(SECOND // 2)
    assert answers(cluster)[1] == at(cluster).commit_index


def test_q25_q26_members_that_need_a_snapshot_or_another_log_confirm_reads_all_the_same() -> None:
    """By heartbeats: ours need no answer about entries or snapshots for it."""
    cluster = grown(3, CALM)
    apart(cluster, 2)
    for _ in range(3):
        write(cluster, b"x" * 100)
    report(cluster)
    heal(cluster)
    cluster.cut = lambda sender, receiver, message: (
        receiver == 3 or (receiver == 2 and not isinstance(message, Heartbeat))
    )
    ask(cluster, 1)
    cluster.run(SECOND // 2)
    assert at(cluster).progress_view()[NodeId(2)].state is not ProgressState.REPLICATE
    assert answers(cluster) == {7: at(cluster).commit_index}


def test_q27_a_read_pending_at_a_leader_that_leaves_is_answered_ask_again() -> None:
    cluster = grown(3)
    drop(cluster, HeartbeatReply)
    assert error_of(cluster, RemoveMember(1, NodeId(1))) is None
    ask(cluster, 1)
    cluster.run(SECOND // 2)
    assert at(cluster, 1).role is Role.REMOVED
    assert answers(cluster) == {7: None}


def test_q28_reads_and_writes_beside_a_member_being_added() -> None:
    cluster = grown(3)
    assert error_of(cluster, add(4)) is None
    for number in (1, 2):
        index = propose(cluster)
        ask(cluster, 1, number)
    cluster.run(SECOND // 2)
    assert set(answers(cluster)) == {1, 2}
    assert None not in answers(cluster).values()
    ask(cluster, 1, 3)
    cluster.run(SECOND // 2)
    assert answers(cluster)[3] == index


def test_q29_a_learner_confirms_no_read() -> None:
    cluster = group(3, 1)
    lead = cluster.leader
    apart(cluster, lead, 4)
    ask(cluster, lead)
    cluster.run(SECOND // 2)
    assert answers(cluster) == {}
    cluster.run(2 * SECOND)
    assert answers(cluster) == {7: None}


def test_q30_a_group_of_one_reads_at_its_writes_index() -> None:
    cluster = group(1)
    index = write(cluster, b"value")
    ask(cluster, 1, 1)
    ask(cluster, 1, 2, by_lease=True)
    cluster.run(STEP)
    assert cluster.reads == [(1, ReadReady(number, Index(index))) for number in (1, 2)]
    assert applied(cluster, 1) == [b"value"]
