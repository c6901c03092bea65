"""MicroRaft's rows U: the log and what a member knows of itself. The log's every step: ../test_log_twin.py."""

from __future__ import annotations

import pytest
from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import Entry
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index, NodeId, PersistSeq
from lockmaster_raft.log import RaftLog
from lockmaster_raft.progress import ProgressState
from lockmaster_raft.quorum import majority
from lockmaster_raft.ready import Base, Persist, Role
from lockmaster_raft.testing.memory_store import MemoryStore

from ..rig import BLANK, Rig, append, base, config_entry, configuration, entries
from ..test_elections import elect
from .stage import group

ALL = 1 << 20


def log_of(*terms: int, start: Base | None = None) -> RaftLog:
    """A log that holds entries of these terms, from the one after its base on."""
    where = start or base(configuration())
    return RaftLog(MemoryStore(where, list(entries(where.index + 1, *terms))), cache_bytes_max=ALL)


def put(log: RaftLog, store: MemoryStore, *new: Entry, seq: int = 1) -> None:
    log.append(new, PersistSeq(seq))
    store.persist(Persist(PersistSeq(seq), entries=new))


def indexes(log: RaftLog, first: int, stop: int) -> list[int]:
    return [e.index for e in log.entries(first, stop, 100, ALL)]


def test_u01_a_new_log_is_empty() -> None:
    log = RaftLog(MemoryStore(BLANK), cache_bytes_max=ALL)
    assert (log.last_index, log.last_term) == (0, 0)


@pytest.mark.parametrize("term", [2, 3])
def test_u02_the_same_or_a_higher_term_is_appended(term: int) -> None:
    store = MemoryStore(base(configuration()), list(entries(2, 2)))
    log = RaftLog(store, cache_bytes_max=ALL)
    put(log, store, *entries(3, term))
    assert (log.last_index, log.last_term) == (3, term)


@pytest.mark.parametrize(("index", "term"), [(4, 1), (2, 2), (3, 2), (5, 2)])
def test_u02_a_lower_term_and_a_lower_equal_or_gapped_index_are_refused(index: int, term: int) -> None:
    log = log_of(2, 2)
    with pytest.raises(InvariantViolation):
        log.append(entries(index, term), PersistSeq(1))
    assert (log.last_index, log.last_term) == (3, 2)


def test_u04_terms_are_known_from_the_base_on_and_nowhere_else() -> None:
    log = log_of(3, 4, start=base(configuration(), index=10, term=2))
    assert [log.term(index) for index in (0, 9, 10, 11, 12, 13)] == [None, None, 2, 3, 4, None]


def test_u05_ranges_are_half_open_and_begin_after_the_base() -> None:
    log = log_of(1, 1, 1, start=base(configuration(), index=10))
    assert indexes(log, 11, 13) == [11, 12]
    assert indexes(log, 12, 14) == [12, 13]
    with pytest.raises(InvariantViolation):
        log.entries(10, 12, 100, ALL)


def test_u06_truncation_keeps_what_is_before_and_never_reaches_the_base() -> None:
    log = log_of(1, 1, 1, start=base(configuration(), index=10))
    log.truncate(Index(12))
    assert (log.last_index, indexes(log, 11, 12)) == (11, [11])
    with pytest.raises(InvariantViolation):
        log.truncate(Index(10))


@pytest.mark.parametrize("upto", [[13], [12], [11, 12, 13]])
def test_u07_the_base_moves_to_the_end_to_the_middle_and_again(upto: list[int]) -> None:
    log = log_of(1, 1, 2, start=base(configuration(), index=10))
    for index in upto:
        at, conf = log.configuration_at(index)
        log.move_base(Base(Index(index), log.term_at(index), conf, at, log.levels_at(index)))
        assert log.term(index - 1) is None
    assert (log.last_index, log.last_term) == (13, 2)
    assert log.term(upto[-1]) == (2 if upto[-1] == 13 else 1)


def test_u09_a_new_leader_knows_of_no_match_and_goes_on_behind_its_log() -> None:
    rig = Rig(log=entries(2, 1, 1), conf=configuration((1, 2, 3), (4,)))
    elect(rig)
    last = rig.node.last_index
    view = rig.node.progress_view()
    assert {view[NodeId(n)].match_index for n in (2, 3, 4)} == {0}
    assert {view[NodeId(n)].state for n in (2, 3, 4)} == {ProgressState.PROBE}
    assert last == 4


def test_u11_commit_and_applied_only_grow() -> None:
    rig = Rig(log=entries(2, 1, 1, 1))
    seen = []
    for commit in (3, 2, 4, 1):
        rig.receive(append(2, 1, (4, 1), commit=commit))
        seen.append((rig.node.commit_index, rig.node.applied))
    assert [commit for commit, _ in seen] == [3, 3, 4, 4]
    assert all(applied <= commit for commit, applied in seen)


def test_u11_roles_follow_each_other() -> None:
    rig = Rig()
    roles = [rig.node.role]
    elect(rig)
    roles.append(rig.node.role)
    rig.receive(append(3, rig.node.term + 1, (1, 1)))
    roles.append(rig.node.role)
    assert roles == [Role.FOLLOWER, Role.LEADER, Role.FOLLOWER]
    assert rig.node.leader_id == 3


def test_u12_the_plain_quorum_of_seven_and_eight() -> None:
    """The reduced commit quorum of even sizes is an option here: see the table."""
    assert (majority(7), majority(8)) == (4, 5)


def test_u13_a_joined_member_learns_until_its_promotion_and_again_when_that_is_reverted() -> None:
    learns, votes = configuration((2, 3, 4), (1,)), configuration((1, 2, 3, 4), epoch=2)
    rig, roles = Rig(conf=learns, term=2), []
    for step in (
        lambda: None,
        lambda: rig.receive(append(2, 2, (1, 1), [config_entry(2, 2, votes)])),
        lambda: rig.tick(5 * SECOND),
        lambda: rig.receive(append(3, 3, (1, 1), entries(2, 3))),
    ):
        step()
        roles.append(rig.node.role)
    assert roles == [Role.LEARNER, Role.FOLLOWER, Role.PRE_CANDIDATE, Role.LEARNER]
    assert rig.node.configuration == learns


def test_u13_counts_of_voters_leave_learners_out() -> None:
    cluster = group(3, 2)
    assert cluster.nodes[1].configuration.voter_ids == (1, 2, 3)
