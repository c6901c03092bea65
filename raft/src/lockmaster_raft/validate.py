"""Range checks on everything a message says, before anything is believed: a reason to refuse it, or None."""

from __future__ import annotations

from typing import Final, assert_never

from lockmaster_raft.gates import LEVEL_LIMIT
from lockmaster_raft.ids import INDEX_MAX
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Coverage,
    FetchPiece,
    FetchPieceReply,
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
    TimeoutNow,
    WitnessReport,
)

ENTRIES_MAX: Final = 65_536
"""Most entries of one AppendEntries that a receiver believes."""
CHUNKS_MAX: Final = 1 << 20
TIME_MAX: Final = 2**63 - 1


def why_not_append(m: AppendEntries) -> str | None:
    """AppendEntries: contiguous from prev + 1, terms rising, none above the sender's."""
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
        if not 0 <= entry.leader_time <= TIME_MAX:
            return "entry time out of range"
        term = entry.term
    return None


def _in_range(*numbers: int) -> bool:
    return min(numbers) >= 0 and max(numbers) <= INDEX_MAX


def why_not_snapshot(m: InstallSnapshot) -> str | None:
    """InstallSnapshot: a manifest of 32-byte digests at a real index."""
    if not _in_range(m.stream_epoch, m.last_index, m.last_term, m.configuration_index, m.bytes_total, *m.sources):
        return "snapshot number out of range"
    if m.last_index < 1 or m.last_term > m.header.term or m.configuration_index > m.last_index:
        return "snapshot position out of range"
    if not 1 <= m.levels.active <= m.levels.fence <= LEVEL_LIMIT or not 0 <= m.levels.index <= m.last_index:
        return "snapshot levels out of range"
    if not 0 < len(m.chunk_digests) <= CHUNKS_MAX or any(len(d) != 32 for d in m.chunk_digests):
        return "snapshot manifest malformed"
    return None


def why_not(m: Message) -> str | None:
    """Why this message is refused, or None when every number is in range."""
    header = m.header
    if not (0 < header.term <= INDEX_MAX and 0 < header.sender <= INDEX_MAX):
        return "term or sender out of range"
    match m:
        case AppendEntries():
            return why_not_append(m)
        case AppendEntriesReply():
            numbers = (m.stream_epoch, m.request_id, m.match_index, m.last_index, m.commit, m.log_first, m.applied)
            ok = _in_range(*numbers, m.conflict_term, m.conflict_first_index, m.free_bytes)
        case Heartbeat():
            ok = _in_range(m.round_id, m.sent_at, m.commit, m.cluster_time, m.configuration_epoch)
        case HeartbeatReply():
            ok = _in_range(
                m.round_id, m.sent_at, m.last_index, m.commit, m.applied, m.sticky_ns, m.fence_index, m.boot_nonce
            )
        case PreVote():
            ok = _in_range(m.next_term, m.last_index, m.last_term, m.round_id) and m.last_term <= header.term
        case PreVoteReply():
            ok = _in_range(m.next_term, m.round_id, m.last_index, m.last_term)
        case RequestVote() | RequestVoteReply():
            ok = _in_range(m.last_index, m.last_term) and m.last_term <= header.term
        case ReadIndex():
            ok = _in_range(m.read_id)
        case ReadIndexReply():
            ok = _in_range(m.read_id, m.index)
        case InstallSnapshot():
            return why_not_snapshot(m)
        case InstallSnapshotReply():
            ok = _in_range(m.stream_epoch, m.last_index, m.chunks_held, m.commit)
        case FetchPiece():
            ok = _in_range(m.last_index, m.number) and len(m.digest) == 32
        case FetchPieceReply():
            ok = _in_range(m.last_index, m.number)
        case InstallAnchor():
            ok = _in_range(m.stream_epoch, m.configuration_index) and 0 < m.index <= INDEX_MAX
            ok = ok and 0 < m.index_term <= header.term and m.configuration_index <= m.index
        case Coverage():
            ok = _in_range(m.index)
        case WitnessReport():
            ok = _in_range(m.log_first, m.log_bytes, m.log_bytes_max, m.free_bytes, m.snapshot_min)
            ok = ok and _in_range(m.ready_epoch, m.ready_index)
        case TimeoutNow():
            ok = True
        case Removed():
            ok = _in_range(m.configuration_epoch)
        case _:
            assert_never(m)
    return None if ok else "number out of range"
