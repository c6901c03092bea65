"""Snapshots from several members (raft.md §2, §3): who is named, what is fetched of whom, what a crash leaves."""

from __future__ import annotations

from dataclasses import replace

from lockmaster_raft.config import SECOND
from lockmaster_raft.events import PieceRefused, PiecesHeld, PieceStored, Receive, SnapshotCut, SnapshotReady
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.membership import Levels
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    FetchPiece,
    FetchPieceReply,
    Header,
    InstallSnapshot,
    InstallSnapshotReply,
    Retain,
    SourceReport,
)
from lockmaster_raft.ready import BeginPieces, InstallPieces, MakeSnapshot, StorePiece
from lockmaster_raft.sources import NO_MANIFEST, manifest_of, sources_of

from .rig import CLUSTER, Cluster, Rig, append, base, configuration, entries, header
from .shapes import CALM, asked_for_nothing, join, report, shaped, until, write
from .test_elections import elect
from .test_log_replication import ack

DIGESTS = tuple(bytes([n]) * 32 for n in range(12))
SIX = configuration((1, 2, 3, 4, 5, 6))


def offer(*sources: int, sender: int = 2, term: int = 2, index: int = 20) -> InstallSnapshot:
    place = (Index(index), Term(1), SIX, Index(1), Levels(2, 2))
    return InstallSnapshot(header(sender, term), 1, *place, DIGESTS, 99, tuple(NodeId(s) for s in sources))


def fetching(*sources: int, held: tuple[int, ...] = ()) -> Rig:
    rig = Rig(start=base(SIX, level=2), term=2)
    rig.receive(offer(*sources))
    assert isinstance(rig.ready.pieces[0], BeginPieces)
    assert rig.sent(FetchPiece) == []  # first the own disk is asked
    rig.step(PiecesHeld(Index(20), held))
    return rig


def asked(rig: Rig) -> list[tuple[int, int]]:
    return [(s.to, s.message.number) for s in rig.ready.send if isinstance(s.message, FetchPiece)]


def comes(rig: Rig, number: int, source: int, *, found: bool = True) -> None:
    rig.receive(FetchPieceReply(header(source, 2), Index(20), number, found, b"data"))


def stored(rig: Rig, number: int, source: int) -> None:
    comes(rig, number, source)
    assert isinstance(rig.ready.pieces[0], StorePiece)
    rig.step(PieceStored(Index(20), number))


def test_chunks_are_asked_of_all_sources_alike() -> None:
    rig = fetching(3, 4)
    assert asked(rig) == [(3 + n % 2, n) for n in range(8)]
    stored(rig, 3, 4)
    assert asked(rig) == [(4, 8)]  # the one with less to do


def test_what_is_on_the_disk_from_before_is_not_fetched_again() -> None:
    rig = fetching(3, held=(0, 1, 2, 5, 99))
    assert [n for _, n in asked(rig)] == [3, 4, 6, 7, 8, 9, 10, 11]
    assert rig.node.fetch_counts["fetches_resumed"] == 1


def test_a_whole_snapshot_on_the_disk_is_installed_without_a_message() -> None:
    rig = fetching(3, held=tuple(range(12)))
    assert asked(rig) == []
    assert isinstance(rig.ready.pieces[0], InstallPieces)


def test_a_chunk_that_does_not_come_is_asked_for_elsewhere() -> None:
    rig = fetching(3, 4)
    for number in (1, 3, 5, 7):
        comes(rig, number, 4)
    rig.tick(2 * SECOND)
    assert {(4, n) for n in (0, 2, 4, 6)} == set(asked(rig))


def test_a_silent_source_is_asked_once_more_and_then_the_leader() -> None:
    rig = fetching(3)
    rig.tick(SECOND)
    assert {to for to, _ in asked(rig)} == {3}
    rig.tick(SECOND)
    assert {to for to, _ in asked(rig)} == {2}


def test_a_source_that_speaks_again_is_not_silent_any_more() -> None:
    rig = fetching(3)
    rig.tick(SECOND)
    stored(rig, 0, 3)
    rig.tick(2 * SECOND)
    assert {to for to, _ in asked(rig)} == {3}


def test_a_source_without_the_chunk_is_left_at_once_and_the_leader_serves_in_the_end() -> None:
    rig = fetching(3, 4)
    comes(rig, 0, 3, found=False)
    assert asked(rig) == [(4, 0)]
    comes(rig, 0, 4, found=False)
    assert asked(rig) == [(2, 0)]
    comes(rig, 0, 2, found=False)
    assert asked(rig) == []  # nobody else: again at its deadline
    rig.tick(2 * SECOND)
    assert (2, 0) in asked(rig)


def test_x25_a_damaged_chunk_is_fetched_of_another_source() -> None:
    rig = fetching(3, 4)
    comes(rig, 0, 3)
    rig.step(PieceRefused(Index(20), 0, "digest"))
    assert (4, 0) in asked(rig)


def test_another_leader_with_the_same_snapshot_goes_on_with_what_is_held() -> None:
    rig = fetching(2)
    stored(rig, 0, 2)
    rig.receive(offer(3, 4, sender=3, term=3))
    rig.synced()
    assert rig.ready.pieces == ()
    rig.tick(2 * SECOND)
    assert {to for to, _ in asked(rig)} <= {3, 4}
    assert 0 not in {n for _, n in asked(rig)}
    assert rig.node.fetch_counts["fetches_taken_over"] == 1


def test_pieces_of_another_snapshot_are_not_taken() -> None:
    rig = fetching(3)
    rig.receive(FetchPieceReply(header(3, 2), Index(21), 0, True, b"data"))
    assert rig.ready.pieces == ()
    rig.step(PieceStored(Index(21), 1))
    rig.step(PiecesHeld(Index(21), (2,)))
    assert rig.node.refusals["piece of no snapshot being fetched"] == 1


# --- the members that serve -----------------------------------------------------------------------------------------


def full() -> Rig:
    """Member 1 with a state at index 4, of 9 committed entries, following 2."""
    rig = Rig(start=base(configuration(), level=2), log=entries(2, *[1] * 8), term=2)
    rig.receive(append(2, 2, (9, 1), commit=4))
    return rig


def test_a_member_makes_its_snapshot_at_the_very_index_and_applies_no_further_before() -> None:
    rig = full()
    rig.receive(Retain(header(2, 2), Index(1), Index(6)))
    assert rig.ready.pieces == (MakeSnapshot(Index(6), exact=True),)
    ready = rig.receive(append(2, 2, (9, 1), commit=9, request_id=2))
    assert [e.index for e in ready.apply] == [5, 6]
    assert [e.index for e in rig.tick(0).apply] == [7, 8, 9]


def test_a_member_whose_state_has_passed_the_index_makes_none() -> None:
    rig = full()
    rig.receive(Retain(header(2, 2), Index(1), Index(3)))
    assert rig.ready.pieces == ()


def test_a_snapshot_is_reported_by_its_manifest() -> None:
    rig = full()
    place = (Index(4), Term(1), configuration(), Index(1), Levels(2, 2))
    rig.step(SnapshotReady(*place, DIGESTS, 99))
    said = rig.only(SourceReport)
    assert (said.snapshot_index, said.manifest) == (4, manifest_of(DIGESTS))


def test_the_floor_holds_back_the_log_of_a_follower() -> None:
    cluster = shaped(3, 0, CALM)
    cluster.down.add(2)
    index = write(cluster, 40)
    report(cluster)
    assert cluster.nodes[3].log_first < index - 30
    cluster.down.clear()
    cluster.step(2, asked_for_nothing())
    cluster.run(3 * SECOND)
    report(cluster)
    cluster.run(SECOND)
    report(cluster)
    assert cluster.nodes[3].log_first > index - 30


# --- the leader -----------------------------------------------------------------------------------------------------


def joining(fulls: int) -> Cluster:
    """A group whose log is cut, and a new member that needs a snapshot."""
    cluster = shaped(fulls, 0, CALM)
    write(cluster, 20)
    report(cluster)
    join(cluster, fulls + 1, promote=False)
    return cluster


def test_the_leader_names_the_members_that_have_its_own_snapshot() -> None:
    cluster = joining(3)
    until(cluster, lambda: cluster.nodes[4].last_index == cluster.nodes[cluster.leader].last_index)
    offers = [s.message for s in cluster.sends if isinstance(s.message, InstallSnapshot) and s.to == 4]
    assert offers[0].sources == (1,)  # at once
    assert offers[-1].sources == (2, 3)  # with two others the leader is none


def test_a_member_with_another_snapshot_is_no_source() -> None:
    cluster = joining(2)
    lead = cluster.nodes[1]
    said = [s.message for s in cluster.sends if isinstance(s.message, SourceReport) and s.message.snapshot_index]
    assert said
    assert all(m.manifest != NO_MANIFEST for m in said)
    offers = [s.message for s in cluster.sends if isinstance(s.message, InstallSnapshot)]
    assert set(offers[-1].sources) <= {1, 2}
    assert lead.refusals.get("source report beyond the leader's log", 0) == 0


def test_x25_a_member_whose_snapshot_is_not_the_leaders_is_not_named() -> None:
    """The same index, other chunks: a state that has diverged."""
    cluster = joining(3)
    lead = cluster.nodes[1]
    offers = [s.message for s in cluster.sends if isinstance(s.message, InstallSnapshot)]
    head = Header(CLUSTER, NodeId(3), NodeId(1), lead.term, 2, 2)
    other = SourceReport(head, Index(1), offers[-1].last_index, offers[-1].last_term, b"x" * 32)
    cluster.step(1, Receive(other))
    core = lead._core
    assert core.snapshot is not None
    assert sources_of(core, core.progress[NodeId(4)], core.snapshot) == (1, 2)


def test_a_cut_that_nobody_waits_for_is_told_to_nobody() -> None:
    cluster = shaped(3, 0, CALM)
    write(cluster, 5)
    cluster.run(SECOND)
    cluster.sends.clear()
    cluster.step(1, SnapshotCut(cluster.nodes[1].applied))
    assert [s for s in cluster.sends if isinstance(s.message, Retain) and s.message.snapshot_at] == []


def test_below_level_2_the_leader_alone_is_a_source_whatever_was_reported() -> None:
    """raft.md §6: a report from before the level was given back says nothing of the binary that runs there now."""
    cluster = joining(3)
    until(cluster, lambda: cluster.nodes[4].last_index == cluster.nodes[cluster.leader].last_index)
    core = cluster.nodes[1]._core
    p, snapshot = core.progress[NodeId(4)], core.snapshot
    assert snapshot is not None
    assert sources_of(core, p, snapshot) == (2, 3)
    core.committed_levels = replace(core.committed_levels, active=1)
    assert sources_of(core, p, snapshot) == (1,)


def test_a_learner_that_may_have_been_rolled_back_is_no_source() -> None:
    cluster = joining(3)
    until(cluster, lambda: cluster.nodes[4].last_index == cluster.nodes[cluster.leader].last_index)
    core = cluster.nodes[1]._core
    snapshot, learner = core.snapshot, core.progress[NodeId(4)]
    assert snapshot is not None
    learner.snapshot_index, learner.manifest = snapshot.last_index, snapshot.manifest
    assert sources_of(core, core.progress[NodeId(2)], snapshot) == (3, 4)
    learner.match = Index(0)
    assert sources_of(core, core.progress[NodeId(2)], snapshot) == (1, 3)


def starved(snapshot_bytes: int) -> tuple[set[int], bool]:
    """A fetch outlasts the log budget's worth of writes: which snapshots were named, and whether it got one."""
    config = replace(CALM, log_bytes_max=8_000)
    cluster = shaped(3, 0, config)
    cluster.snapshot_bytes = snapshot_bytes
    write(cluster, 400)
    report(cluster)
    cluster.cut = lambda sender, receiver, message: isinstance(message, FetchPieceReply) and message.number == 1
    join(cluster, 4, promote=False)
    for _ in range(5):
        write(cluster, 200)
        report(cluster)
    cluster.cut = lambda sender, receiver, message: False
    cluster.run(3 * SECOND)
    offers = [s.message for s in cluster.sends if isinstance(s.message, InstallSnapshot) and s.to == 4]
    return {m.last_index for m in offers}, cluster.nodes[4].last_index == cluster.nodes[1].last_index


def test_the_log_is_kept_for_a_fetch_as_far_as_that_is_cheaper_than_another_snapshot() -> None:
    """Steady writes, and a fetch that outlasts the log budget: without the pin it is thrown away each time."""
    named, done = starved(1 << 20)
    assert len(named) == 1
    assert done


def test_a_fetch_that_outlasts_that_too_falls_to_a_newer_snapshot() -> None:
    named, done = starved(10)
    assert len(named) > 1
    assert done


def leading_with_nobody_caught_up(snapshot: int) -> tuple[Rig, InstallSnapshot]:
    """A leader after a restart of all: 4 committed entries that it knows of, a snapshot of its own, and what it offers.

    The one other voter that is there is blank.
    """
    rig = Rig(start=base(configuration(), index=4), log=entries(5, *[1] * 5))
    rig.step(SnapshotReady(Index(snapshot), Term(1), configuration(), Index(1), Levels(1, 1), DIGESTS, 99))
    elect(rig)
    ask = next(m for m in rig.sent(AppendEntries) if m.header.receiver == 2)
    rig.synced()
    empty = (Index(0), Index(1), Index(1), Index(2), Index(1), Term(0), Index(0), 0)
    rig.receive(AppendEntriesReply(header(2, 2), ask.stream_epoch, ask.request_id, False, *empty))
    assert rig.node.commit_index == 4
    return rig, rig.only(InstallSnapshot)


def test_a_snapshot_beyond_the_new_leader_s_commit_index_joins_the_log() -> None:
    """Seed 347: while the word of who had installed it was refused, nothing committed."""
    rig, offered = leading_with_nobody_caught_up(6)
    rig.receive(InstallSnapshotReply(header(2, 2), offered.stream_epoch, Index(6), True, 12, Index(6)))
    assert rig.only(AppendEntries).prev_index == 6
    for _ in range(2):  # the old entries, the new leader's own
        rig.receive(ack(2, 2, rig.only(AppendEntries)))
    assert rig.node.commit_index == rig.node.last_index


def test_an_installed_snapshot_that_the_leader_has_not_is_not_believed() -> None:
    rig, offered = leading_with_nobody_caught_up(6)
    rig.receive(InstallSnapshotReply(header(2, 2), offered.stream_epoch, Index(7), True, 12, Index(7)))
    assert rig.node.refusals["snapshot reply beyond what was offered"] == 1
    assert rig.sent(AppendEntries) == []
