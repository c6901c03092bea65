"""One Raft node as a pure state machine: `Node.step(event, now, draw) -> Ready`.

Theory of operation. One task owns the node and feeds it events: messages, proposals, completed writes, time. Each
step first evaluates every deadline that `now` has passed, check-quorum first, so a leader that was stopped for 20 s
loses its leadership before it does anything else; then the event. Nothing leaves but through the Ready (see ready.py
for the host's duties). The node reads no clock and draws no number: a run is a function of its events.

Where to start reading: core.py (the state), follower.py and leader.py (the handlers), log.py (durability by write).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from lockmaster_raft import (
    gating,
    leader,
    lease,
    members,
    ranges,
    reads,
    role_changes,
    side,
    snapshot,
    sources,
    transfer,
)
from lockmaster_raft.config import RaftConfig
from lockmaster_raft.core import Core
from lockmaster_raft.election import campaign, own_vote_durable, start_pre_vote
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.events import (
    AbortRoleChange,
    AddMember,
    Applied,
    ChangeMember,
    DemoteMember,
    Event,
    PeerConnected,
    PeerDisconnected,
    Persisted,
    PieceRefused,
    PiecesHeld,
    PieceStored,
    PromoteMember,
    Propose,
    ProposeGate,
    Receive,
    RemoveMember,
    RequestRead,
    SetReducedCommit,
    SideOpened,
    SideReady,
    SnapshotCut,
    SnapshotInstalled,
    SnapshotReady,
    StorageReport,
    SwapMember,
    TransferLeadership,
    Wake,
)
from lockmaster_raft.gates import MemberLevels
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.loads import Load, loads
from lockmaster_raft.membership import LEVEL_MAX, LEVEL_MIN, Configuration, Levels, Member
from lockmaster_raft.messages import InstallSnapshot
from lockmaster_raft.progress import CATCHUP, ProgressState
from lockmaster_raft.promise import settle
from lockmaster_raft.ready import CANDIDATE, LEADER, Ready, Role
from lockmaster_raft.receive import receive
from lockmaster_raft.replication import replicate
from lockmaster_raft.roles import boot as boot_role
from lockmaster_raft.roles import configuration_changed
from lockmaster_raft.storage import BootState


@dataclass(frozen=True, slots=True)
class MemberView:
    """What a leader knows of a member, for status."""

    member_id: NodeId
    state: ProgressState
    match_index: Index
    applied: Index
    reachable: bool
    """Answered a heartbeat sent within the last election timeout."""
    silent_ns: int
    """Since when it has not answered; 0 while reachable."""
    log_first: Index
    """Where its log starts, as last reported in this term; 0: not reported."""
    free_bytes: int
    level_min: int
    level_max: int
    rtt_ns: int
    fence_index: Index
    """Of the standing FENCE that it reports as durable in its guard file, or 0."""


class Node:
    """One member's consensus. Not thread-safe: exactly one owner steps it."""

    __slots__ = ("_core", "_next_deadline")

    def __init__(
        self,
        *,
        node_id: NodeId,
        cluster_id: bytes,
        config: RaftConfig,
        boot: BootState,
        now: Nanos,
        draw: int,
        level_min: int = LEVEL_MIN,
        level_max: int = LEVEL_MAX,
    ) -> None:
        """A node from what its disk holds; step Wake once to get its first Ready.

        Raises CorruptLog when the boot state contradicts itself (a term below the log's, applied outside the log),
        LevelUnsupported when this binary's levels do not fit what the guard file or the log says (raft.md §6).
        """
        self._core = Core(
            node_id=node_id,
            cluster_id=cluster_id,
            config=config,
            boot=boot,
            now=now,
            draw=draw,
            level_min=level_min,
            level_max=level_max,
        )
        boot_role(self._core)
        settle(self._core)
        self._next_deadline: int = self._core.now

    def step(self, event: Event, now: Nanos, draw: int) -> Ready:
        """Everything that `event` at `now` wants done. `draw` is a fresh uniform 64-bit number.

        Raises InvariantViolation (a bug), StorageFailed or CorruptLog: the process must stop then.
        """
        core = self._core
        core.begin(now, draw)
        if core.now >= self._next_deadline:
            _deadlines(core)
        _dispatch(core, event)
        deadline = _next_deadline(core)
        if deadline <= core.now:
            # A handler may set a deadline that is due at once (a commit to tell, a lone voter's campaign).
            _deadlines(core)
            deadline = _next_deadline(core)
        self._next_deadline = deadline
        return core.finish(deadline)

    # --- what the host may read ------------------------------------------------------------------------------------

    @property
    def node_id(self) -> NodeId:
        """This member's id."""
        return self._core.node_id

    @property
    def role(self) -> Role:
        """The current role."""
        return self._core.role

    @property
    def term(self) -> Term:
        """The current term."""
        return self._core.term

    @property
    def voted_for(self) -> NodeId:
        """Whom this node voted for in the current term, or 0."""
        return self._core.voted_for

    @property
    def leader_id(self) -> NodeId:
        """The leader of the current term as far as known, or 0."""
        return self._core.leader_id

    @property
    def commit_index(self) -> Index:
        """Everything up to here is committed."""
        return self._core.commit_index

    @property
    def last_index(self) -> Index:
        """Index of the last entry of the log, durable or not."""
        return self._core.log.last_index

    @property
    def last_term(self) -> Term:
        """Term of the last entry."""
        return self._core.log.last_term

    @property
    def durable_index(self) -> Index:
        """Everything up to here survives a crash: the state store may hold no more than this."""
        return self._core.log.durable_index

    @property
    def log_first(self) -> Index:
        """The first index that the log still holds: base.index + 1."""
        return Index(self._core.log.base.index + 1)

    @property
    def applied(self) -> Index:
        """What the host reported as applied."""
        return self._core.applied

    @property
    def configuration(self) -> Configuration:
        """The latest configuration, committed or not: the one in force."""
        return self._core.configuration

    @property
    def committed_configuration(self) -> Configuration:
        """The latest committed configuration."""
        return self._core.committed_configuration

    @property
    def contacts(self) -> tuple[Member, ...]:
        """The other members to keep connections with: all but learners whose addition is not committed (I12)."""
        core = self._core
        known = core.committed_configuration
        members = core.configuration.members
        mine = core.node_id
        return tuple(m for m in members if m.member_id != mine and (m.voter or known.member(m.member_id) is not None))

    @property
    def configuration_index(self) -> Index:
        """Index of the configuration in force."""
        return self._core.log.configuration_index

    @property
    def levels(self) -> Levels:
        """The gate state at the commit index."""
        return self._core.committed_levels

    def levels_at(self, index: Index) -> Levels:
        """The gate state at `index` (≥ the base): what a snapshot there carries and behaviour there is keyed by."""
        return self._core.log.levels_at(index)

    @property
    def promised_level(self) -> int:
        """The level that the guard file says, or will once what is being written is durable."""
        return self._core.level

    def member_levels(self) -> tuple[MemberLevels, ...]:
        """What a leader knows of every member's levels, itself included, by id; only itself elsewhere."""
        return gating.member_levels(self._core)

    @property
    def own_term_committed(self) -> bool:
        """Whether this leader has committed an entry of its term."""
        return self._core.role is LEADER and self._core.own_term_committed

    @property
    def admits_writes(self) -> bool:
        """Whether a proposal would be taken now, load aside."""
        core = self._core
        served = self.own_term_committed and core.full_here and core.transfer is None
        return served and not leader.full_voters_missing(core)

    @property
    def own_member(self) -> Member | None:
        """The own record in the configuration in force: role and phase."""
        return self._core.own_member

    @property
    def serves_state(self) -> bool:
        """Whether reads may be served here: a state that is this member's own, and a full member's privileges (I9)."""
        return self._core.full_here

    @property
    def is_caretaker(self) -> bool:
        """Whether this leader only hands over (I4)."""
        return self._core.is_caretaker

    @property
    def covered(self) -> Index:
        """Up to where the current term's leader lets this witness truncate (I6)."""
        return self._core.covered

    @property
    def promotion(self) -> tuple[int, str] | None:
        """(epoch of P1, stage) of the promotion that runs here, or None."""
        side = self._core.side
        return (side.epoch, side.stage.value) if side is not None else None

    @property
    def is_removed(self) -> bool:
        """Whether this member was told that it belongs to the cluster no more."""
        return self._core.removed

    @property
    def refusals(self) -> dict[str, int]:
        """How many messages were refused or ignored, by reason."""
        return dict(self._core.refusals)

    def loads(self) -> tuple[Load, ...]:
        """What is held in memory that could grow, each with its stated maximum (S11)."""
        return loads(self._core)

    @property
    def next_deadline(self) -> Nanos:
        """The deadline of the last Ready."""
        return Nanos(self._next_deadline)

    def cluster_time(self, now: Nanos) -> Nanos:
        """Cluster time at `now` on a leader; what was last heard of elsewhere."""
        return self._core.cluster_time(now)

    def state_age_ns(self, now: Nanos) -> int | None:
        """At most how old this node's state is at `now` (BOUNDED reads); None: not known, or not to be served.

        In the slowest clock's nanoseconds: by the drift bound more than this node's own clock has counted.
        """
        core = self._core
        age = reads.age_ns(core)
        if age is None:
            return None
        counted = age + max(0, now - core.now)
        return -(-counted * 1_000_000 // (1_000_000 - core.config.drift_ppm_max))

    def holds_lease(self, now: Nanos) -> bool:
        """Whether a read that asks for a lease would be answered at `now` without a round (lease.py)."""
        return lease.holds(self._core, now)

    def term_at(self, index: Index) -> Term | None:
        """Term of the entry at `index`, or None outside of the log."""
        return self._core.log.term(index)

    def configuration_at(self, index: Index) -> tuple[Index, Configuration]:
        """The configuration in force at `index` (≥ the base), and its own index: what a snapshot there carries."""
        return self._core.log.configuration_at(index)

    @property
    def fetching(self) -> InstallSnapshot | None:
        """The snapshot being fetched, with its manifest, or None."""
        fetch = self._core.fetch
        return fetch.snapshot if fetch is not None else None

    @property
    def fetching_range(self) -> tuple[Index, Index] | None:
        """(last index here, last index named) of the committed range being fetched from other members, or None."""
        fetch = self._core.ranges
        return (fetch.anchors[fetch.done][0], fetch.anchors[-1][0]) if fetch is not None else None

    @property
    def fetch_counts(self) -> dict[str, int]:
        """What fetches from other members have done since the start, by kind."""
        return dict(self._core.counts)

    def progress_view(self) -> dict[NodeId, MemberView]:
        """A leader's view of the other members, ascending by id; empty elsewhere."""
        core = self._core
        found = [core.progress[m] for m in sorted(core.progress)]
        return {
            p.member_id: MemberView(
                p.member_id,
                p.state,
                p.match,
                p.applied,
                p.reachable and members.is_live(core, p),
                0 if members.is_live(core, p) else core.now - p.contact,
                p.log_first,
                p.free_bytes,
                p.level_min,
                p.level_max,
                p.rtt_ns,
                p.fence_index,
            )
            for p in found
        }


def _deadlines(core: Core) -> None:
    """Every deadline that has passed, check-quorum (in leader.tick) first."""
    if core.role is LEADER:
        leader.tick(core)
    elif core.now >= core.election_deadline:
        start_pre_vote(core)
    elif core.now >= core.campaign_at:
        campaign(core)
    if core.now >= core.reads.attempt_retry_at:
        reads.retry(core)
    if core.fetch is not None and core.now >= snapshot.fetch_deadline(core):
        snapshot.expire_pieces(core)
    if core.ranges is not None and core.now >= core.ranges.pieces.deadline():
        ranges.expire(core)


def _next_deadline(core: Core) -> int:
    if core.role is LEADER:
        at = leader.deadline(core)
    else:
        at = core.election_deadline if core.election_deadline < core.campaign_at else core.campaign_at
    if core.reads.attempt_retry_at < at:
        at = core.reads.attempt_retry_at
    if core.fetch is not None:
        at = min(at, snapshot.fetch_deadline(core))
    if core.ranges is not None:
        at = min(at, core.ranges.pieces.deadline())
    return at


def _dispatch(core: Core, event: Event) -> None:
    """One arm per event, the frequent ones first."""
    match event:
        case Receive():
            receive(core, event.message)
        case Persisted():
            _on_persisted(core, event)
        case Applied():
            _on_applied(core, event.index)
        case Propose():
            leader.on_propose(core, event)
        case RequestRead():
            reads.request(core, event.request_id, by_lease=event.by_lease)
        case Wake():
            pass
        case StorageReport():
            _on_storage_report(core, event)
        case AddMember():
            members.on_add_member(core, event)
        case ChangeMember():
            members.on_change_member(core, event)
        case RemoveMember():
            members.on_remove_member(core, event)
        case TransferLeadership():
            transfer.on_transfer(core, event)
        case ProposeGate():
            gating.on_propose_gate(core, event)
        case _:
            _dispatch_rare(core, event)


def _dispatch_rare(
    core: Core,
    event: (
        SwapMember
        | PromoteMember
        | DemoteMember
        | AbortRoleChange
        | SetReducedCommit
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
    ),
) -> None:
    match event:
        case SwapMember():
            role_changes.on_swap(core, event)
        case PromoteMember():
            role_changes.on_promote(core, event)
        case DemoteMember():
            role_changes.on_demote(core, event)
        case AbortRoleChange():
            role_changes.on_abort(core, event)
        case SetReducedCommit():
            role_changes.on_reduced(core, event)
        case SideOpened():
            side.on_opened(core, event)
        case SideReady():
            side.on_ready(core, event)
        case SnapshotReady():
            snapshot.on_snapshot_ready(core, event)
            for p in core.progress.values():
                if p.state is CATCHUP:
                    snapshot.offer(core, p)
        case SnapshotCut():
            sources.on_cut(core, event.index)
        case PiecesHeld():
            snapshot.on_pieces_held(core, event)
        case PieceStored():
            snapshot.on_piece_stored(core, event)
        case PieceRefused():
            snapshot.on_piece_refused(core, event)
        case SnapshotInstalled():
            if snapshot.on_snapshot_installed(core, event) is not None:
                configuration_changed(core)
        case PeerConnected():
            _restart_stream(core, event.member_id, reachable=True)
        case PeerDisconnected():
            _restart_stream(core, event.member_id, reachable=False)
        case _:
            assert_never(event)


def _on_applied(core: Core, index: Index) -> None:
    if not core.machine:
        core.refuse("applied by a state that was dropped")
        return
    if index > core.emitted:
        raise InvariantViolation(f"applied {index} reported, given only {core.emitted}")
    core.applied = max(core.applied, index)
    if core.side is not None:
        side.after_applied(core)


def _on_storage_report(core: Core, event: StorageReport) -> None:
    core.free_bytes = max(0, event.free_bytes)
    core.sync_average_ns = event.sync_average_ns
    core.state_bytes = max(0, event.state_bytes)
    if core.machine and event.flushed_applied > core.flushed_applied:
        core.flushed_applied = event.flushed_applied
    snapshot.retain(core)


def _on_persisted(core: Core, event: Persisted) -> None:
    if not core.persisted_seq < event.seq <= core.persist_seq:
        raise InvariantViolation(f"persist {event.seq} reported after {core.persisted_seq} of {core.persist_seq}")
    core.persisted_seq = event.seq
    core.log.persisted(event.seq)
    if core.role is LEADER:
        leader.after_progress(core)
    elif core.role is CANDIDATE:
        own_vote_durable(core)


def _restart_stream(core: Core, member_id: NodeId, *, reachable: bool) -> None:
    """A connection came or went: what was in flight on it is void."""
    p = core.progress.get(member_id)
    if p is None:
        return
    p.reachable = reachable
    p.backoff = 1
    if p.state is CATCHUP:
        p.offered_index = 0
    else:
        p.restart(p.match + 1 if p.match else p.next if not p.inflight else p.inflight[0].prev_index + 1)
    if reachable:
        replicate(core, p)
