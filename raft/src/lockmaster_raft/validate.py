"""Range checks on everything a message says, before anything is believed: a reason to refuse it, or None."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, assert_never

from lockmaster_raft.entry import CONFIG
from lockmaster_raft.errors import CorruptLog
from lockmaster_raft.gates import LEVEL_LIMIT
from lockmaster_raft.ids import INDEX_MAX
from lockmaster_raft.membership import (
    MEMBERS_MAX,
    Configuration,
    Levels,
    Member,
    MemberPhase,
    MemberRole,
    decode_configuration,
)
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
from lockmaster_raft.validate_fetch import is_sound_fetch

ENTRIES_MAX: Final = 65_536
"""Most entries of one AppendEntries that a receiver believes."""
CHUNKS_MAX: Final = 1 << 20
TIME_MAX: Final = 2**63 - 1
TERM_AHEAD_MAX: Final = 1 << 32
"""Terms that a message may be ahead of its receiver: at an election a second, 136 years of them."""
INDEX_AHEAD_MAX: Final = 1 << 48
"""Entries that whatever a leader names may be ahead of its receiver's log."""
EPOCH_AHEAD_MAX: Final = 1 << 32
"""Configuration changes that a removal may be ahead of its receiver's configuration."""
TIME_AHEAD_MAX: Final = 1 << 60
"""Nanoseconds of cluster time that a message may be ahead of what its receiver has heard of: 36 years."""
COUNT_MAX: Final = 1 << 62
"""Configuration changes and member ids: each change adds to them, so some must be left."""
STICKY_NS_MAX: Final = 3_600_000_000_000
"""Longest promise of a voter to refuse other votes: an hour."""


def why_not_append(m: AppendEntries, time_max: int = TIME_MAX) -> str | None:
    """AppendEntries: contiguous from prev + 1, terms rising, none above the sender's, no stamp above `time_max`."""
    prev: int = m.prev_index
    term: int = m.prev_term
    if not (0 <= prev <= INDEX_MAX and 0 <= term <= m.header.term and 0 <= m.commit <= INDEX_MAX):
        return "index or term out of range"
    if not (0 <= m.stream_epoch <= INDEX_MAX and 0 <= m.request_id <= INDEX_MAX):
        return "request out of range"
    if len(m.entries) > ENTRIES_MAX or prev + len(m.entries) > INDEX_MAX:
        return "too many entries"
    for entry in m.entries:
        prev += 1
        if entry.index != prev:
            return "entries not contiguous"
        if not term <= entry.term <= m.header.term:
            return "entry term out of order"
        if not 0 <= entry.leader_time <= time_max:
            return "entry time out of range"
        if entry.kind is CONFIG and why_not_payload(entry.payload):
            return "configuration entry malformed"
        term = entry.term
    return None


def _in_range(*numbers: int) -> bool:
    return min(numbers) >= 0 and max(numbers) <= INDEX_MAX


def why_not_payload(payload: bytes) -> str:
    """What is wrong with a CONFIG entry's payload, or ""."""
    try:
        return why_not_configuration(decode_configuration(payload))
    except CorruptLog as error:
        return str(error)


def why_not_configuration(c: Configuration) -> str:
    """What is wrong with a configuration that no leader could have made, or ""."""
    ids = [m.member_id for m in c.members]
    if not 0 < c.epoch <= COUNT_MAX or not 0 < c.next_member_id <= COUNT_MAX:
        return "epoch or next id out of range"
    if not ids or ids[0] < 1 or ids[-1] >= c.next_member_id or any(a >= b for a, b in pairwise(ids)):
        return "member ids not ascending below the next one"
    if not c.voter_ids:
        return "no voter"
    if any(a >= b for a, b in pairwise(c.outgoing)) or not set(c.outgoing) <= set(ids):
        return "outgoing voters not ascending members"
    if sum(m.phase in (MemberPhase.PROMOTING, MemberPhase.DEMOTING) for m in c.members) > 1:
        return "two role changes at once"
    return _why_not_members(c)


def _why_not_members(c: Configuration) -> str:
    """What is wrong with the members of a configuration, or "". No proposal of any release leads to one of these."""
    if not 1 <= c.full_min <= MEMBERS_MAX:
        return "fewest full voters out of range"
    if any(not m.name or not m.peer_address for m in c.members):
        return "member without a name or an address"
    if len({m.name for m in c.members}) < len(c.members):
        return "two members of one name"
    if len({m.incarnation for m in c.members}) < len(c.members):
        return "two members of one incarnation"
    if any(_is_odd_phase(c, m) for m in c.members):
        return "phase that its member can't be in"
    if not any(m.voter and m.is_full for m in c.members):
        return "no full voter"
    if c.reduced_commit and not all(m.is_full for m in c.members):
        return "reduced commit quorum beside a witness"
    return ""


def _is_odd_phase(c: Configuration, m: Member) -> bool:
    """PROMOTING is a witness, DEMOTING a full member; LEAVING one that voted before the joint change that runs."""
    match m.phase:
        case MemberPhase.STEADY:
            return False
        case MemberPhase.PROMOTING:
            return m.role is not MemberRole.WITNESS
        case MemberPhase.DEMOTING:
            return m.role is not MemberRole.FULL
        case MemberPhase.LEAVING:
            return m.voter or m.member_id not in c.outgoing
        case _:
            assert_never(m.phase)


def _why_not_levels(levels: Levels, index: int) -> bool:
    return not 1 <= levels.active <= levels.fence <= LEVEL_LIMIT or not 0 <= levels.index <= index


def why_not_snapshot(m: InstallSnapshot) -> str | None:
    """InstallSnapshot: a manifest of 32-byte digests at a real index."""
    if not _in_range(m.stream_epoch, m.last_index, m.last_term, m.configuration_index, m.bytes_total, *m.sources):
        return "snapshot number out of range"
    if m.last_index < 1 or not 0 < m.last_term <= m.header.term or m.configuration_index > m.last_index:
        return "snapshot position out of range"
    if _why_not_levels(m.levels, m.last_index):
        return "snapshot levels out of range"
    if why_not_configuration(m.configuration):
        return "snapshot configuration malformed"
    if not 0 < len(m.chunk_digests) <= CHUNKS_MAX or any(len(d) != 32 for d in m.chunk_digests):
        return "snapshot manifest malformed"
    return None


def why_not_near(m: Message, last_index: int, epoch: int) -> str | None:
    """Why what this message tells is too far ahead of a receiver whose log ends there, in that configuration."""
    index = told_epoch = 0
    match m:
        case Removed():
            told_epoch = m.configuration_epoch
        case InstallSnapshot():
            index, told_epoch = m.last_index, m.configuration.epoch
        case InstallAnchor():
            index, told_epoch = m.index, m.configuration.epoch
        case Coverage() | ReadIndexReply():
            index = m.index
        case Retain():
            index = max(m.floor, m.snapshot_at)
        case _:
            return None
    if told_epoch > epoch + EPOCH_AHEAD_MAX:
        return "configuration epoch from the far future"
    return "index from the far future" if index > last_index + INDEX_AHEAD_MAX else None


def why_not(m: Message, term: int, cluster_time: int) -> str | None:
    """Why this message is refused by a receiver of that term that last heard of that cluster time, or None.

    Every number in range and consistent with the others of the message; none from the far future, for whoever took
    one over would go on from there.
    """
    header = m.header
    if not (0 < header.term <= INDEX_MAX and 0 < header.sender <= INDEX_MAX):
        return "term or sender out of range"
    if not 0 < header.level_min <= header.level_max <= LEVEL_LIMIT:
        return "level out of range"
    if header.term > term + TERM_AHEAD_MAX:
        return "term from the far future"
    time_max = min(TIME_MAX, cluster_time + TIME_AHEAD_MAX)
    match m:
        case AppendEntries():
            return why_not_append(m, time_max)
        case InstallSnapshot():
            return why_not_snapshot(m)
        case AppendEntriesReply() | InstallSnapshotReply() | WitnessReport() | HeartbeatReply():
            ok = _is_sound_reply(m)
        case Heartbeat():
            ok = _in_range(m.round_id, m.sent_at, m.commit, m.cluster_time, m.configuration_epoch)
            ok = ok and m.cluster_time <= time_max
        case Retain() | SourceReport() | CatchUp() | CatchUpReply() | FetchRange() | FetchRangeReply():
            ok = is_sound_fetch(m, time_max)
        case _:
            ok = _is_sound(m)
    return None if ok else "number out of range"


_Reply = AppendEntriesReply | InstallSnapshotReply | WitnessReport | HeartbeatReply


def _is_sound_reply(m: _Reply) -> bool:
    """What a member tells its leader of itself."""
    match m:
        case AppendEntriesReply():
            ok = _in_range(m.stream_epoch, m.request_id, m.match_index, m.last_index, m.commit, m.log_first, m.applied)
            ok = ok and _in_range(m.conflict_term, m.conflict_first_index, m.free_bytes)
            ok = ok and m.applied <= m.commit <= m.last_index and m.match_index <= m.last_index
            ok = ok and m.log_first <= m.commit + 1  # a log begins after what is committed
            ok = ok and m.conflict_term <= m.header.term and m.conflict_first_index <= m.last_index
        case HeartbeatReply():
            ok = _in_range(m.round_id, m.sent_at, m.last_index, m.commit, m.applied, m.sticky_ns, m.fence_index)
            ok = ok and _in_range(m.boot_nonce)
            ok = ok and m.applied <= m.commit <= m.last_index and m.sticky_ns <= STICKY_NS_MAX
        case InstallSnapshotReply():
            ok = _in_range(m.stream_epoch, m.last_index, m.chunks_held, m.commit)
        case WitnessReport():
            ok = _in_range(m.log_first, m.log_bytes, m.log_bytes_max, m.free_bytes, m.snapshot_min)
            ok = ok and _in_range(m.ready_epoch, m.ready_index)
        case _:
            assert_never(m)
    return ok


_Other = (
    PreVote
    | PreVoteReply
    | RequestVote
    | RequestVoteReply
    | ReadIndex
    | ReadIndexReply
    | FetchPiece
    | FetchPieceReply
    | InstallAnchor
    | Coverage
    | TimeoutNow
    | Removed
)


def _is_sound(m: _Other) -> bool:
    header = m.header
    match m:
        case PreVote():
            ok = _in_range(m.next_term, m.last_index, m.last_term, m.round_id) and m.last_term <= header.term
            ok = ok and m.next_term == header.term + 1
        case PreVoteReply():
            ok = _in_range(m.next_term, m.round_id, m.last_index, m.last_term) and m.last_term <= header.term
        case RequestVote() | RequestVoteReply():
            ok = _in_range(m.last_index, m.last_term) and m.last_term <= header.term
        case ReadIndex():
            ok = _in_range(m.read_id)
        case ReadIndexReply():
            ok = _in_range(m.read_id, m.index) and (m.index > 0 or not m.ok)
        case FetchPiece():
            ok = _in_range(m.last_index, m.number) and len(m.digest) == 32
        case FetchPieceReply():
            ok = _in_range(m.last_index, m.number)
        case InstallAnchor():
            ok = _in_range(m.stream_epoch, m.configuration_index) and 0 < m.index <= INDEX_MAX
            ok = ok and 0 < m.index_term <= header.term and m.configuration_index <= m.index
            ok = ok and not _why_not_levels(m.levels, m.index) and not why_not_configuration(m.configuration)
        case Coverage():
            ok = _in_range(m.index)
        case TimeoutNow():
            ok = True
        case Removed():
            ok = _in_range(m.configuration_epoch)
        case _:
            assert_never(m)
    return ok
