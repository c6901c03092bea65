"""Fetching a snapshot (§5): which offer is followed, and what an installed one leaves behind."""

from __future__ import annotations

import pytest
from lockmaster_raft.config import SECOND
from lockmaster_raft.events import PieceRefused, PiecesHeld, PieceStored, SnapshotInstalled
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Levels
from lockmaster_raft.messages import FetchPiece, FetchPieceReply, InstallSnapshot, InstallSnapshotReply
from lockmaster_raft.ready import InstallPieces, Role

from .rig import Rig, append, configuration, entries, header
from .test_elections import elect
from .test_log_replication import ack, to

DIGEST = b"d" * 32


def offer(sender: int, term: int, index: int, offered_term: int = 1) -> InstallSnapshot:
    place = (Index(index), Term(offered_term), configuration(), Index(1), Levels())
    return InstallSnapshot(header(sender, term), 1, *place, (DIGEST,), 9, (NodeId(sender),))


def gone(rig: Rig, sender: int, term: int, index: int) -> None:
    rig.receive(FetchPieceReply(header(sender, term), Index(index), 0, False, b""))


def fetching() -> Rig:
    """A follower of term 2 that fetches member 2's snapshot at 20."""
    rig = Rig(term=2)
    rig.receive(offer(2, 2, 20))
    rig.step(PiecesHeld(Index(20), ()))
    assert rig.only(FetchPiece).last_index == 20
    return rig


def test_an_older_snapshot_of_the_next_leader_is_fetched_once_nobody_has_the_newer_one() -> None:
    """Seed 5071 of the registers: refused for good, so the member never caught up."""
    rig = fetching()
    gone(rig, 2, 2, 20)
    rig.receive(offer(3, 3, 15))
    rig.synced()
    assert rig.node.fetching is not None
    assert rig.node.fetching.last_index == 15


def test_an_older_snapshot_waits_while_the_newer_one_may_still_be_had() -> None:
    rig = fetching()
    rig.receive(offer(3, 3, 15))
    assert rig.only(InstallSnapshotReply).reason
    assert rig.node.fetching is not None
    assert rig.node.fetching.last_index == 20


def test_an_older_offer_of_the_same_term_is_a_late_message() -> None:
    rig = fetching()
    gone(rig, 2, 2, 20)
    rig.receive(offer(2, 2, 15))
    assert rig.node.fetching is not None
    assert rig.node.fetching.last_index == 20


def test_a_source_that_answers_no_more_is_one_that_has_it_no_more() -> None:
    rig = fetching()
    rig.tick(SECOND)  # asked once more
    rig.tick(3 * SECOND)
    rig.receive(offer(3, rig.node.term + 1, 15))
    assert rig.node.fetching is not None
    assert rig.node.fetching.last_index == 15


def test_a_leader_that_commits_as_far_by_itself_fetches_nothing_any_more() -> None:
    """It led while a snapshot was on its way, and its state went back to that when the last chunk came (seed 384)."""
    rig = Rig(log=entries(2, *[1] * 18), term=2)
    rig.receive(offer(2, 2, 20))
    rig.step(PiecesHeld(Index(20), ()))
    elect(rig)
    assert rig.node.role is Role.LEADER
    assert rig.node.fetching is not None
    probe = to(rig, 2)[0]
    rig.synced()
    rig.receive(ack(2, rig.node.term, probe))
    for request in to(rig, 2):
        rig.receive(ack(2, rig.node.term, request))
    assert rig.node.commit_index == 20
    assert rig.node.fetching is None
    rig.receive(FetchPieceReply(header(2, rig.node.term), Index(20), 0, True, b"data"))
    assert rig.ready.pieces == ()


def test_a_leader_goes_on_from_the_cluster_time_of_the_snapshot_that_it_installed() -> None:
    """service.md §1, with no entry and no heartbeat since that would tell it."""
    rig = fetching()
    rig.receive(FetchPieceReply(header(2, 2), Index(20), 0, True, b"data"))
    assert isinstance(rig.step(PieceStored(Index(20), 0)).pieces[0], InstallPieces)
    rig.step(SnapshotInstalled(Index(20), Term(1), Nanos(50 * SECOND)))
    rig.synced()
    elect(rig)
    (noop,) = rig.store.log
    assert noop.index == 21
    assert noop.leader_time >= 50 * SECOND


def test_a_snapshot_that_the_log_overtook_while_its_last_piece_turned_out_damaged_is_not_installed() -> None:
    """Seed 5021 of the registers: the piece was fetched again and the snapshot installed over a newer state."""
    rig = fetching()
    rig.receive(FetchPieceReply(header(2, 2), Index(20), 0, True, b"data"))
    rig.step(PieceStored(Index(20), 0))
    rig.receive(append(2, 2, (1, 1), entries(2, *[1] * 21), commit=22))
    assert not rig.ready.apply  # the state is being switched
    rig.step(PieceRefused(Index(20), 0, "damaged"))
    assert [e.index for e in rig.ready.apply] == list(range(2, 23))
    assert rig.node.fetching is None
    assert not rig.sent(FetchPiece)


@pytest.mark.parametrize(("term", "last"), [(1, (25, 1)), (2, (20, 2))])
def test_a_log_goes_on_after_an_installed_snapshot_only_if_it_joins(term: int, last: tuple[int, int]) -> None:
    """Row 43: of another term at that index, what follows, configurations included, is not the group's."""
    rig = Rig(log=entries(2, *[1] * 24), term=2)
    rig.receive(offer(2, 2, 20, offered_term=term))
    rig.step(PiecesHeld(Index(20), ()))
    rig.receive(FetchPieceReply(header(2, 2), Index(20), 0, True, b"data"))
    assert isinstance(rig.step(PieceStored(Index(20), 0)).pieces[0], InstallPieces)
    rig.step(SnapshotInstalled(Index(20), Term(term), Nanos(0)))
    assert (rig.node.last_index, rig.node.last_term) == last
    assert rig.node.log_first == 21
