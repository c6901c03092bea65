"""What a step asks its host to do: complete, ordered, and the only way out of the core.

The host's duties, in this order, for every Ready:
1. `send` with `after == 0`: hand to the transport at once (the leader's AppendEntries go out before its own sync).
2. `persist`: hard state and level to the guard file first, then one journal frame (truncation, entries, base); when
   all of it is durable, step Persisted(seq). Persists complete in order. Nothing may be skipped.
3. `send` with `after == n`: only once Persist n (and all before it) is durable.
4. `state` (role changes, docs/consensus.md), then `apply`: feed to the state machine in order, then step Applied.
5. the rest: answer reads, resolve proposals, tell alarms, serve and store snapshot pieces.
6. wake the node no later than `next_deadline`.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

from lockmaster_raft.entry import Entry
from lockmaster_raft.errors import ProposalRefused
from lockmaster_raft.ids import NO_NODE, NO_WRITE, Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import Configuration, Levels
from lockmaster_raft.messages import InstallSnapshot, Message
from lockmaster_raft.record import record


class Channel(IntEnum):
    """Two ordered connections per pair, so that a 4 MiB batch never delays a heartbeat or a vote."""

    CONTROL = 0
    BULK = 1


class Role(Enum):
    """A node's role. WITNESS is a voter at rest that holds no state; one that leads is LEADER and a caretaker (I4)."""

    LEARNER = "learner"
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
    WITNESS = "witness"
    REMOVED = "removed"


LEADER: Final = Role.LEADER
"""Plain names for what every step asks: on Python 3.11 a look-up in an Enum costs ten times as much as a name."""
FOLLOWER: Final = Role.FOLLOWER
LEARNER: Final = Role.LEARNER
PRE_CANDIDATE: Final = Role.PRE_CANDIDATE
CANDIDATE: Final = Role.CANDIDATE
WITNESS: Final = Role.WITNESS
REMOVED: Final = Role.REMOVED


@record
class HardState:
    """What must survive every crash besides the log: both slots of the guard file, before any reply built on it."""

    term: Term
    voted_for: NodeId


@record
class Base:
    """Where the log starts: everything up to `index` lives in the state. Only ever at a committed index."""

    index: Index
    term: Term
    configuration: Configuration
    configuration_index: Index
    levels: Levels


@record
class Persist:
    """One durable write. `truncate_from` (if any) removes that index and all after it before `entries` are appended.

    `level` (if any) is what the guard file and FORMAT must say from now on, written with the hard state, before the
    frame: no binary that knows less may open the directory then.
    """

    seq: PersistSeq
    hard_state: HardState | None = None
    truncate_from: Index | None = None
    entries: tuple[Entry, ...] = ()
    base: Base | None = None
    level: int | None = None


@record
class Send:
    """A message for a member, not before Persist `after` is durable (0: at once)."""

    to: NodeId
    message: Message
    channel: Channel
    after: PersistSeq = NO_WRITE


@record
class ReadReady:
    """Serve this read once applied >= index; or `index` None: the read failed (no leader, stepped down), ask again."""

    request_id: int
    index: Index | None


@record
class Appended:
    """The proposal is in the leader's log at (index, term). `member_id` is the minted or changed member's, if any."""

    proposal_id: int
    index: Index
    term: Term
    member_id: NodeId = NO_NODE


@record
class Refused:
    """The proposal was not appended and never will be."""

    proposal_id: int
    error: ProposalRefused


@record
class Resolved:
    """A proposal without an entry of its own ended well: a transfer done, or AddMember found its member there."""

    proposal_id: int
    member_id: NodeId = NO_NODE


@record
class RoleChanged:
    """The node's role, term or known leader is now this."""

    role: Role
    term: Term
    leader_id: NodeId


@record
class Alarm:
    """Something an operator must hear of; `code` is stable, `text` names members and numbers."""

    code: str
    text: str


@record
class ServePiece:
    """Read chunk `number` of the own snapshot at `last_index` and send it as FetchPieceReply on the bulk channel."""

    to: NodeId
    last_index: Index
    number: int


@record
class StorePiece:
    """Verify this chunk and store it in the side directory; then step PieceStored or PieceRefused."""

    last_index: Index
    number: int
    digest: bytes
    data: bytes


@record
class BeginPieces:
    """A fetch of this snapshot begins or goes on after a restart: step PiecesHeld with the chunks that are here."""

    snapshot: InstallSnapshot


@record
class InstallPieces:
    """All chunks are stored: verify, switch in, sync, then step SnapshotInstalled."""

    snapshot: InstallSnapshot


@record
class MakeSnapshot:
    """A member needs a snapshot: make one, step SnapshotCut at the moment of the cut and SnapshotReady with it done.

    `exact`: of the state at `index_min` itself, or none at all if that can't be had; `apply` of the Readies before and
    of this one goes no further. Else at or above `index_min`, as soon as it can be had.
    """

    index_min: Index
    exact: bool = False


Piece = ServePiece | StorePiece | BeginPieces | InstallPieces | MakeSnapshot


@record
class OpenSide:
    """P3: all chunks are stored. Delete any other side directory, build this one from them, verify, open it.

    Then step SideOpened, or PieceRefused for a chunk that is no good. From then on `apply` feeds the side state.
    """

    epoch: int
    snapshot: InstallSnapshot


@record
class FinishSide:
    """P3's end: flush the side state, write `sm_ready{epoch, index}` in it, sync file and directory; then SideReady."""

    epoch: int


@record
class AdoptSide:
    """P4 is applied: the side state is this member's state from now on. Idempotent; told again after a restart."""

    epoch: int


@record
class DropState:
    """Close and delete every state there is, side directories and received chunks included (D2 or an abort applied)."""


StateAction = OpenSide | FinishSide | AdoptSide | DropState


@record
class Ready:
    """Everything one step wants done. An empty Ready still carries `next_deadline`."""

    next_deadline: Nanos
    persist: Persist | None = None
    send: tuple[Send, ...] = ()
    apply: tuple[Entry, ...] = ()
    reads: tuple[ReadReady, ...] = ()
    proposals: tuple[Appended | Refused | Resolved, ...] = ()
    role_changed: RoleChanged | None = None
    alarms: tuple[Alarm, ...] = ()
    pieces: tuple[Piece, ...] = ()
    state: tuple[StateAction, ...] = ()
    """What becomes of the state machine in a role change; to be done in order, before `apply` of the same Ready."""
