"""The messages between members: one record per RPC and its reply.

Every message starts with the same five fields, `Header`'s law:
`cluster_id` and `receiver` must be the receiver's own, `sender` a member id, `term` the sender's term when it made
the message (frozen then, never re-read at send time), `levels` the sender's (min, max) feature level.
All numbers are range-checked by the receiver (`0 <= n <= INDEX_MAX`) before anything is believed.
"""

from __future__ import annotations

from lockmaster_raft.entry import Entry
from lockmaster_raft.ids import NO_INDEX, Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels
from lockmaster_raft.record import record


@record
class Header:
    """Who says it to whom, and when in protocol time."""

    cluster_id: bytes
    """16 bytes."""
    sender: NodeId
    receiver: NodeId
    term: Term
    level_min: int
    level_max: int


@record
class PreVote:
    """Would you vote for me in `next_term`? Changes nothing at either end (§9.6). header.term is the current term."""

    header: Header
    next_term: Term
    last_index: Index
    last_term: Term
    round_id: int
    transfer: bool = False


@record
class PreVoteReply:
    """`granted` for `next_term` of round `round_id`; `reason` says why not. (last_index, last_term) are the voter's."""

    header: Header
    next_term: Term
    round_id: int
    granted: bool
    reason: str
    last_index: Index
    last_term: Term


@record
class RequestVote:
    """Vote for me in header.term (§3.4). `transfer`: sent by a TimeoutNow target, overrides stickiness (§4.2.3)."""

    header: Header
    last_index: Index
    last_term: Term
    transfer: bool = False


@record
class RequestVoteReply:
    """`granted` only after the vote is durable."""

    header: Header
    granted: bool
    reason: str
    last_index: Index
    last_term: Term


@record
class AppendEntries:
    """Entries after (prev_index, prev_term), in order and without gaps; may be empty (a probe).

    `commit` is the leader's commit index when made. `stream_epoch` counts restarts of the pipeline to this member:
    replies to an older epoch move no window. `request_id` is echoed, for RTT and window accounting.
    """

    header: Header
    stream_epoch: int
    request_id: int
    prev_index: Index
    prev_term: Term
    entries: tuple[Entry, ...]
    commit: Index


@record
class AppendEntriesReply:
    """On success: this member's log is durable and equal to the leader's up to `match_index` (= prev + n).

    On mismatch: `conflict_term` and `conflict_first_index` (0 when the log is merely short) let the leader skip a
    whole term per probe; `commit` and `last_index` bound the search. `reason` names a refusal.
    """

    header: Header
    stream_epoch: int
    request_id: int
    success: bool
    match_index: Index
    last_index: Index
    commit: Index
    log_first: Index
    applied: Index
    conflict_term: Term
    conflict_first_index: Index
    free_bytes: int
    reason: str = ""


@record
class Heartbeat:
    """The leader is alive; on the control channel, never behind a batch.

    `commit` is min(leader's commit, what the leader knows to match at this member). `round_id` numbers the leader's
    rounds: check-quorum, cluster time and reads count only replies to a round started after the thing they prove.
    `sent_at` is the leader's own clock, echoed back. `cluster_time` is the leader's stamp (BOUNDED reads, standing
    expiry). `configuration_epoch` is that of the leader's configuration in force: told, and used by no receiver.
    """

    header: Header
    round_id: int
    sent_at: Nanos
    commit: Index
    cluster_time: Nanos
    configuration_epoch: int


@record
class HeartbeatReply:
    """Answer to one Heartbeat: same round_id and sent_at; `sticky_ns` is how long this voter refuses others' votes.

    `fence_index` is that of the standing FENCE whose level is durable in this member's guard file, or 0; `boot_nonce`
    names the boot that says so (raft.md §6).
    """

    header: Header
    round_id: int
    sent_at: Nanos
    last_index: Index
    commit: Index
    applied: Index
    sticky_ns: int
    fence_index: Index = NO_INDEX
    boot_nonce: int = 0


@record
class ReadIndex:
    """A follower asks the leader for a read index (§6.4); `read_id` is unique per attempt and echoed."""

    header: Header
    read_id: int


@record
class ReadIndexReply:
    """The read may be served once applied >= index. `ok` False: ask again elsewhere (not leader, overloaded)."""

    header: Header
    read_id: int
    ok: bool
    index: Index


@record
class InstallSnapshot:
    """The leader names a snapshot to fetch: the receiver is too far behind its log (§5).

    `chunk_digests` is the manifest: 32-byte BLAKE2b of every chunk, in order. `sources` are members that have it.
    `bytes_total` is the sum of chunk sizes, for progress.
    """

    header: Header
    stream_epoch: int
    last_index: Index
    last_term: Term
    configuration: Configuration
    configuration_index: Index
    levels: Levels
    chunk_digests: tuple[bytes, ...]
    bytes_total: int
    sources: tuple[NodeId, ...]


@record
class InstallSnapshotReply:
    """`installed` once the snapshot is switched in and BASE is durable; else progress or a refusal's `reason`.

    `chunks_held` is that progress: no receiver goes by it. An anchor's answer has 0.
    """

    header: Header
    stream_epoch: int
    last_index: Index
    installed: bool
    chunks_held: int
    commit: Index
    reason: str = ""


@record
class FetchPiece:
    """Asks a source for one immutable piece by content address: chunk `number` of the snapshot at `last_index`."""

    header: Header
    last_index: Index
    number: int
    digest: bytes


@record
class FetchPieceReply:
    """The piece (bulk channel), or `found` False: gone or never had it."""

    header: Header
    last_index: Index
    number: int
    found: bool
    data: bytes


@record
class InstallAnchor:
    """The leader gives a witness the place where its log starts: a BASE without a state (I7).

    Every full voter is proved to hold the log up to `index`. Answered by InstallSnapshotReply.
    """

    header: Header
    stream_epoch: int
    index: Index
    index_term: Term
    configuration: Configuration
    configuration_index: Index
    levels: Levels


@record
class Coverage:
    """With each heartbeat, beside witnesses: how far the receiver may truncate, for as long as header.term lasts (I6).

    To a witness: every full voter, of the configuration in force and of the committed one, the down ones too, is proved
    in header.term to hold the log up to `index`. To a full member: that, or every witness has come so far.
    """

    header: Header
    index: Index


@record
class WitnessReport:
    """Answer to Coverage: what this member's log holds, and how far its promotion is.

    `snapshot_min` > 0: P2 wants a snapshot at or above that index (its P1's). `ready_epoch` > 0: `sm_ready` of that
    promotion is durable and the side state has applied `ready_index`. `log_bytes` is 0 until D2 is committed here.
    """

    header: Header
    log_first: Index
    log_bytes: int
    log_bytes_max: int
    free_bytes: int
    snapshot_min: Index
    ready_epoch: int
    ready_index: Index


@record
class Retain:
    """With a leader's heartbeat duties: keep your log above `floor`, within your own budget, for somebody needs it.

    `snapshot_at` > 0: the leader has just cut its state there for a snapshot: make one at exactly that index, if your
    state has not passed it, so that its chunks can be had from several members. Answered by SourceReport.
    """

    header: Header
    floor: Index
    snapshot_at: Index


@record
class SourceReport:
    """What a member can serve: its snapshot (0, 0 and zeros without one), by the digest of its manifest.

    The leader goes by index and manifest, which name the state; `snapshot_term` is told, and used by no receiver.
    """

    header: Header
    log_first: Index
    snapshot_index: Index
    snapshot_term: Term
    manifest: bytes
    """32 bytes: BLAKE2b of all chunk digests in order."""


@record
class CatchUp:
    """The leader names a committed range to fetch from `sources`, instead of sending it (raft.md §3).

    `anchors` are (index, term) in order: the first is the joint, proved in this term; each two are a piece, the entries
    after the one up to the other. By the Log Matching Property an anchor names everything up to it: it is the piece's
    content address. All of it is committed. Answered by CatchUpReply.
    """

    header: Header
    stream_epoch: int
    anchors: tuple[tuple[Index, Term], ...]
    sources: tuple[NodeId, ...]


@record
class CatchUpReply:
    """Durable and equal to the leader's log up to `match_index`. `reason`: the fetch is over, for want of this."""

    header: Header
    stream_epoch: int
    match_index: Index
    applied: Index
    log_first: Index
    free_bytes: int
    reason: str = ""


@record
class FetchRange:
    """Asks a source for the entries after (prev_index, prev_term) up to (last_index, last_term)."""

    header: Header
    prev_index: Index
    prev_term: Term
    last_index: Index
    last_term: Term


@record
class FetchRangeReply:
    """Entries after prev_index, no further than last_index or the source's commit index; none: it has none (bulk)."""

    header: Header
    prev_index: Index
    last_index: Index
    entries: tuple[Entry, ...]


@record
class TimeoutNow:
    """Leadership transfer (§3.10): the target campaigns at once, with `transfer` set in its votes."""

    header: Header


@record
class Removed:
    """You are not a member of the configuration with this epoch any more: stop campaigning, tell your operator."""

    header: Header
    configuration_epoch: int


Message = (
    PreVote
    | PreVoteReply
    | RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | Heartbeat
    | HeartbeatReply
    | ReadIndex
    | ReadIndexReply
    | InstallSnapshot
    | InstallSnapshotReply
    | FetchPiece
    | FetchPieceReply
    | InstallAnchor
    | Coverage
    | WitnessReport
    | Retain
    | SourceReport
    | CatchUp
    | CatchUpReply
    | FetchRange
    | FetchRangeReply
    | TimeoutNow
    | Removed
)
