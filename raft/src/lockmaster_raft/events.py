"""What can happen to a node. `Node.step(event, now, draw)` is total over these."""

from __future__ import annotations

from lockmaster_raft.gates import GateOperation
from lockmaster_raft.ids import NO_NODE, NO_TIME, Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import Configuration, Levels, Member, MemberRole
from lockmaster_raft.messages import Message
from lockmaster_raft.record import record


@record
class Receive:
    """A message arrived from a peer (already authenticated by the transport as header.sender)."""

    message: Message


@record
class Propose:
    """Append this payload as one DATA entry. `reserved` payloads (keepalive, release, expiry) are never Overloaded."""

    proposal_id: int
    payload: bytes
    reserved: bool = False


@record
class AddMember:
    """Add a blank incarnation as a learner; idempotent by `incarnation`. The leader mints the id (see Appended)."""

    proposal_id: int
    name: str
    peer_address: str
    client_address: str
    incarnation: bytes
    promote_when_caught_up: bool = True
    expected_epoch: int | None = None
    level_min: int = 1
    level_max: int = 1
    """The levels of the joiner's binary: below a standing FENCE or the active level it is refused (raft.md §6)."""
    role: MemberRole = MemberRole.FULL
    """A WITNESS learner gets an anchor and the log, never a snapshot (I7)."""


@record
class ChangeMember:
    """Replace a member's record (voter flag, addresses, name): one single-step change, compare-and-set on the epoch."""

    proposal_id: int
    member: Member
    expected_epoch: int | None = None


@record
class RemoveMember:
    """Remove a member by one single-step change."""

    proposal_id: int
    member_id: NodeId
    expected_epoch: int | None = None


@record
class SwapMember:
    """Replace voter `old_id` by the caught-up learner `new_id` of the same role in one joint change (§4.3).

    Appended tells of the joint step; the leader leaves it by itself once that is committed, and `old_id` is removed.
    """

    proposal_id: int
    old_id: NodeId
    new_id: NodeId
    expected_epoch: int | None = None


@record
class PromoteMember:
    """P1: begin to make the witness `member_id` a full voter in place. P4 or the abort follows by the leader."""

    proposal_id: int
    member_id: NodeId
    expected_epoch: int | None = None


@record
class DemoteMember:
    """D1: begin to make full voter `member_id` (not the leader) a witness. D2 or the abort follows by the leader."""

    proposal_id: int
    member_id: NodeId
    expected_epoch: int | None = None


@record
class AbortRoleChange:
    """End the role change that `member_id` is in: it is again what it was before P1 or D1."""

    proposal_id: int
    member_id: NodeId
    expected_epoch: int | None = None


@record
class SetReducedCommit:
    """Turn the reduced commit quorum of even groups on or off (raft.md §5); refused beside a witness."""

    proposal_id: int
    enabled: bool
    expected_epoch: int | None = None


@record
class ProposeGate:
    """Append a GATE entry if its preconditions hold (gates.why_not). `expected_epoch` is compared with Levels.index.

    Asking again for what is so already is Resolved; for what is appended and not committed, Appended with its index.
    """

    proposal_id: int
    operation: GateOperation
    level: int
    expected_epoch: int | None = None


@record
class TransferLeadership:
    """Hand over to `target` (a caught-up full voter; 0 picks the best one), bounded by one election timeout."""

    proposal_id: int
    target: NodeId = NO_NODE
    expected_term: int | None = None
    """The leadership that is to end. A later one is not touched: a repeat must not hand back."""


@record
class RequestRead:
    """A linearizable read wants an index (§6.4). Answered in Ready.reads with the same request_id."""

    request_id: int
    by_lease: bool = False
    """LEADER_LEASE: a leader whose lease holds answers without a round; any other node as for every read."""


@record
class Persisted:
    """The Persist numbered `seq`, and all before it, are durable."""

    seq: PersistSeq


@record
class Applied:
    """The state machine has applied everything up to `index` (in memory)."""

    index: Index


@record
class StorageReport:
    """What the host knows of its disk: `flushed_applied` survives a power cut; free space; sync time average."""

    flushed_applied: Index
    free_bytes: int
    sync_average_ns: int
    state_bytes: int = 0
    """Size of the own state, 0 if unknown: a promotion needs twice that free (raft.md §4)."""


@record
class SnapshotCut:
    """A snapshot of this member's state will stand at `index`: the state was cut there just now."""

    index: Index


@record
class PiecesHeld:
    """Answer to BeginPieces: these chunks of that snapshot are verified and here, from a fetch that was cut short."""

    last_index: Index
    numbers: tuple[int, ...]


@record
class SnapshotReady:
    """A snapshot of this member's own state exists and can be served. Replaces the one before."""

    last_index: Index
    last_term: Term
    configuration: Configuration
    configuration_index: Index
    levels: Levels
    chunk_digests: tuple[bytes, ...]
    bytes_total: int


@record
class PieceStored:
    """Chunk `number` of the snapshot being fetched is verified and in the side directory."""

    last_index: Index
    number: int


@record
class PieceRefused:
    """A received chunk failed its digest or could not be used; ask again, elsewhere if possible."""

    last_index: Index
    number: int
    why: str


@record
class SnapshotInstalled:
    """The fetched snapshot was verified, switched in and synced: the state stands at last_index. BASE follows."""

    last_index: Index
    last_term: Term
    leader_time: Nanos = NO_TIME
    """Cluster time of that state, in nanoseconds: if this member leads next, its clock goes on from there."""


@record
class SideOpened:
    """Answer to OpenSide: the side state of this promotion is verified, open and stands at `index` (P3)."""

    epoch: int
    index: Index


@record
class SideReady:
    """Answer to FinishSide: `sm_ready{epoch, index}` lies in the side directory, flushed and synced up to `index`."""

    epoch: int
    index: Index


@record
class PeerConnected:
    """A new connection to this member: its old pipeline is void."""

    member_id: NodeId


@record
class PeerDisconnected:
    """The connection to this member is gone."""

    member_id: NodeId


@record
class Wake:
    """Nothing but time: a deadline of the last Ready has passed, or the host wants deadlines looked at."""


Event = (
    Receive
    | Propose
    | AddMember
    | ChangeMember
    | RemoveMember
    | SwapMember
    | PromoteMember
    | DemoteMember
    | AbortRoleChange
    | SetReducedCommit
    | ProposeGate
    | TransferLeadership
    | RequestRead
    | Persisted
    | Applied
    | StorageReport
    | SnapshotCut
    | SnapshotReady
    | PiecesHeld
    | PieceStored
    | PieceRefused
    | SnapshotInstalled
    | SideOpened
    | SideReady
    | PeerConnected
    | PeerDisconnected
    | Wake
)

__all__ = [
    "AbortRoleChange",
    "AddMember",
    "Applied",
    "ChangeMember",
    "DemoteMember",
    "Event",
    "Nanos",
    "PeerConnected",
    "PeerDisconnected",
    "Persisted",
    "PieceRefused",
    "PieceStored",
    "PiecesHeld",
    "PromoteMember",
    "Propose",
    "ProposeGate",
    "Receive",
    "RemoveMember",
    "RequestRead",
    "SetReducedCommit",
    "SideOpened",
    "SideReady",
    "SnapshotCut",
    "SnapshotInstalled",
    "SnapshotReady",
    "StorageReport",
    "SwapMember",
    "TransferLeadership",
    "Wake",
]
