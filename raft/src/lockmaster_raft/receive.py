"""Incoming messages: range checks, terms, then one arm per message.

Laws: the term never falls; who may raise it is decided here (a sticky voter's term is not raised by a candidate, a
peer's piece traffic never moves a term or refreshes leader contact); a request gets a reply, a stale reply does not.
"""

from __future__ import annotations

from typing import assert_never

from lockmaster_raft import election, follower, leader, ranges, reads, snapshot, sources, witness
from lockmaster_raft.core import Core
from lockmaster_raft.ids import INDEX_MAX, NO_NODE
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CatchUp,
    CatchUpReply,
    Coverage,
    FetchPiece,
    FetchPieceReply,
    FetchRange,
    FetchRangeReply,
    Heartbeat,
    HeartbeatReply,
    InstallAnchor,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    Removed,
    RequestVote,
    RequestVoteReply,
    Retain,
    SourceReport,
    TimeoutNow,
    WitnessReport,
)
from lockmaster_raft.ready import LEADER
from lockmaster_raft.roles import become_follower
from lockmaster_raft.validate import why_not, why_not_near
from lockmaster_raft.validate_known import FromLeader, why_not_from_leader


def receive(core: Core, m: Message) -> None:
    """Believe nothing that is out of range, then hand the message to its handler."""
    header = m.header
    if header.cluster_id != core.cluster_id or header.receiver != core.node_id or header.sender == core.node_id:
        core.refuse("not for this member")
        return
    if header.level_min > core.level_max or header.level_max < core.level_min:
        core.refuse("no common level")
        return
    reason = why_not(m, core.term, core.cluster_time_heard)
    if reason is None:
        reason = why_not_near(m, core.log.last_index, core.committed_configuration.epoch)
    if reason is not None:
        core.refuse(reason)
        if isinstance(m, AppendEntries) and 0 <= m.stream_epoch <= INDEX_MAX and 0 <= m.request_id <= INDEX_MAX:
            follower.refuse_append(core, m, reason)
        return
    match m:
        case AppendEntries() | Heartbeat() | InstallSnapshot() | InstallAnchor() | Coverage() | TimeoutNow():
            _from_leader(core, m)
        case AppendEntriesReply() | HeartbeatReply() | InstallSnapshotReply() | WitnessReport():
            _to_leader(core, m)
        case CatchUp() | Retain():
            _from_leader(core, m)
        case CatchUpReply() | SourceReport():
            _to_leader(core, m)
        case PreVote():
            election.on_pre_vote(core, m)
        case RequestVote():
            election.on_request_vote(core, m)
        case PreVoteReply() | RequestVoteReply():
            _vote_reply(core, m)
        case ReadIndex():
            reads.on_read_index(core, m)
        case ReadIndexReply():
            reads.on_read_index_reply(core, m)
        case FetchPiece():
            snapshot.on_fetch_piece(core, m)
        case FetchPieceReply():
            snapshot.on_fetch_piece_reply(core, m)
        case FetchRange():
            ranges.on_fetch_range(core, m)
        case FetchRangeReply():
            ranges.on_range_reply(core, m)
        case Removed():
            election.on_removed(core, m)
        case _:
            assert_never(m)


_ToLeader = AppendEntriesReply | HeartbeatReply | InstallSnapshotReply | WitnessReport | CatchUpReply | SourceReport


def _from_leader(core: Core, m: FromLeader) -> None:
    header = m.header
    if header.term < core.term:
        core.refuse("stale term")
        _answer_stale(core, m)
        return
    reason = why_not_from_leader(core, m)
    if reason is not None:
        core.refuse(reason)
        if isinstance(m, AppendEntries):
            follower.refuse_append(core, m, reason)
        return
    follower.follow(core, header.sender, header.term)
    match m:
        case AppendEntries():
            follower.on_append(core, m)
        case Heartbeat():
            follower.on_heartbeat(core, m)
        case InstallSnapshot():
            snapshot.on_install_snapshot(core, m)
        case InstallAnchor():
            witness.on_anchor(core, m)
        case Coverage():
            witness.on_coverage(core, m)
        case CatchUp():
            ranges.on_catch_up(core, m)
        case Retain():
            sources.on_retain(core, m)
        case TimeoutNow():
            election.on_timeout_now(core, m)
        case _:
            assert_never(m)


def _answer_stale(core: Core, m: FromLeader) -> None:
    """The reply's header carries our term: a deposed leader learns of it."""
    match m:
        case AppendEntries():
            follower.refuse_append(core, m, "stale term")
        case Heartbeat():
            follower.reply_heartbeat(core, m)
        case InstallSnapshot():
            snapshot.refuse_stale(core, m)
        case InstallAnchor():
            witness.refuse_stale_anchor(core, m)
        case TimeoutNow() | Coverage() | CatchUp() | Retain():
            pass
        case _:
            assert_never(m)


def _to_leader(core: Core, m: _ToLeader) -> None:
    header = m.header
    if header.term > core.term:
        become_follower(core, header.term, NO_NODE)
        return
    if core.role is not LEADER or header.term < core.term:
        core.refuse("reply to another term's leader")
        return
    match m:
        case AppendEntriesReply():
            leader.on_append_reply(core, m)
        case HeartbeatReply():
            leader.on_heartbeat_reply(core, m)
        case InstallSnapshotReply():
            leader.on_install_reply(core, m)
        case WitnessReport():
            witness.on_report(core, m)
        case CatchUpReply():
            leader.on_catch_up_reply(core, m)
        case SourceReport():
            snapshot.on_source_report(core, m)
        case _:
            assert_never(m)


def _vote_reply(core: Core, m: PreVoteReply | RequestVoteReply) -> None:
    if m.header.term > core.term:
        # Row 14: also a pre-vote's answer brings the term up, or a short term would ask in vain for ever.
        become_follower(core, m.header.term, NO_NODE)
        return
    match m:
        case PreVoteReply():
            election.on_pre_vote_reply(core, m)
        case RequestVoteReply():
            election.on_request_vote_reply(core, m)
        case _:
            assert_never(m)
