"""The state of one node and the Ready it is filling: what every handler works on.

Laws: applied <= emitted <= commit_index <= last_index; term and commit_index never fall within one boot; whatever
leaves a step leaves through `finish`; a reply built on a write carries that write's sequence in Send.after.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lockmaster_raft.clock import ClusterClock
from lockmaster_raft.config import RaftConfig
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.errors import CorruptLog, InvariantViolation, LevelUnsupported
from lockmaster_raft.ids import INDEX_MAX, NO_NODE, NO_WRITE, Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.log import RaftLog
from lockmaster_raft.membership import (
    WITNESS_LEVEL,
    Configuration,
    Levels,
    Member,
    MemberPhase,
    MemberRole,
    change_aborted,
    role_changed,
)
from lockmaster_raft.messages import Header, Message
from lockmaster_raft.pending_reads import Reads
from lockmaster_raft.pieces import Fetch, OwnSnapshot, RangeFetch
from lockmaster_raft.progress import CommitLatency, Progress
from lockmaster_raft.quorum import commit_value, quorum_value
from lockmaster_raft.ready import (
    FOLLOWER,
    LEADER,
    Alarm,
    Appended,
    Base,
    Channel,
    HardState,
    Persist,
    Piece,
    ReadReady,
    Ready,
    Refused,
    Resolved,
    Role,
    RoleChanged,
    Send,
    StateAction,
)
from lockmaster_raft.storage import BootState

APPLY_ENTRIES_MAX: Final = 512
"""Most entries of one Ready.apply."""
APPLY_BYTES_MAX: Final = 4 << 20
APPLY_OUTSTANDING_MAX: Final = 4096
APPLY_OUTSTANDING_BYTES_MAX: Final = 64 << 20
APPLY_OUTSTANDING_MIN: Final = 16
"""Most entries handed out and not yet reported by Applied, and most bytes of them, unless they are few."""
NEVER: Final = INDEX_MAX
"""A deadline that never passes."""


@dataclass(slots=True)
class Transfer:
    """A leadership transfer in progress (§3.10). proposal_id is None when the leader began it by itself."""

    proposal_id: int | None
    target: NodeId
    deadline: int
    told_at: int = 0
    """When TimeoutNow was last sent, or 0."""


class SideStage(Enum):
    """How far a promotion is at the witness (raft.md §4, P2 and P3)."""

    FETCHING = "fetching"
    OPENING = "opening"
    REPLAYING = "replaying"
    FINISHING = "finishing"
    READY = "ready"


@dataclass(slots=True)
class Side:
    """The state that a promotion builds beside the log."""

    epoch: int
    """Configuration epoch of its P1."""
    snapshot_min: Index
    """Index of P1: an older snapshot may know nothing of the promotion."""
    stage: SideStage = SideStage.FETCHING


def _held_back(member: Member) -> bool:
    """Whether this record gives no full member's privileges."""
    return member.role is not MemberRole.FULL or member.phase is MemberPhase.DEMOTING


class Core:
    """Everything one node knows. Handlers are functions over it, one module per concern; Node is its only owner."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        cluster_id: bytes,
        config: RaftConfig,
        boot: BootState,
        now: Nanos,
        draw: int,
        level_min: int,
        level_max: int,
    ) -> None:
        self.node_id = node_id
        self.cluster_id = cluster_id
        self.config = config
        self.level_min = level_min
        self.level_max = level_max
        if boot.level > level_max:
            raise LevelUnsupported(f"this member promised level {boot.level}; this binary knows up to {level_max}")
        self.level: int = boot.level
        """What the guard file says, or will with write `level_seq` (promise.py)."""
        self.level_seq = NO_WRITE
        self.boot_nonce = boot.boot_nonce
        self.log = RaftLog(boot.store, config.cache_bytes_max, level_min, level_max)
        self.term: Term = boot.hard_state.term
        self.voted_for: NodeId = boot.hard_state.voted_for
        base = self.log.base
        if self.term < self.log.last_term:
            raise CorruptLog(f"hard state term {self.term} is below the log's last term {self.log.last_term}")
        applied = boot.side.applied if boot.side is not None else boot.applied
        if not base.index <= applied <= self.log.last_index:
            raise CorruptLog(f"applied {applied} outside the log [{base.index}, {self.log.last_index}]")
        self.machine = boot.has_state or boot.side is not None
        """Whether there is a state machine to feed: the own one, or that of a promotion under way."""
        if not self.machine and applied != base.index:
            raise CorruptLog(f"applied {applied} without a state to have applied it, base {base.index}")
        self.side = Side(boot.side.epoch, Index(0), SideStage.READY) if boot.side is not None else None
        self.commit_index: Index = applied
        self.emitted: Index = applied
        self.applied: Index = applied
        self.committed_levels: Levels = self.log.levels_at(applied)
        self.role = FOLLOWER
        self.leader_id: NodeId = NO_NODE
        self.removed = False
        self.now: Nanos = now
        self._draw = draw
        self._draw_count = 0
        self.committed_configuration: Configuration = self.log.configuration_at(self.commit_index)[1]
        self.configuration: Configuration = self.log.configuration
        self.voters: tuple[NodeId, ...] = self.configuration.voter_ids
        self.outgoing: tuple[NodeId, ...] = self.configuration.outgoing
        self.full_here = True
        self.change_runs = False
        """Whether a joint or role change waits to be completed."""
        self.guarded = False
        """Whether there is a witness, or soon will be: then nobody truncates but as the leader says (coverage.py)."""
        self.patience = 1
        self.change_aborted = False
        """Whether the last role change was the abort of one."""
        self.role_changed_at: int | None = None
        """When a role or phase last changed by an append here."""
        self.covered: Index = Index(0)
        """Beside a witness a log may start here: told by the leader of the current term, void with it (I6)."""
        self.refresh_standing()
        self.flushed_applied: Index = applied
        self._start_election_fields(boot.leader_time)
        self.next_read_id: int = self.random() >> 2
        self._start_leadership_fields()
        self._start_output_fields()

    def _start_election_fields(self, leader_time: Nanos) -> None:
        """§4.2.3 and raft.md §2: after a restart a voter stays sticky for one election timeout."""
        self.leader_time: Nanos = max(self.log.last_time, leader_time)
        """Cluster time as last heard of by heartbeat, entry or state."""
        self.emitted_time: Nanos = leader_time
        """Stamp of the entry at `emitted`."""
        self.contact_at: int = self.now if self.term > 0 else self.now - 2 * self.config.election_timeout_ns
        self.election_deadline: int = NEVER
        self.votes: dict[NodeId, bool] = {}
        self.vote_round: int = self.random() >> 2
        self.transfer_campaign = False
        self.campaign_at: int = NEVER
        """When a witness whose pre-vote has a quorum goes on, having waited for every full voter's answer (I3)."""

    def _start_leadership_fields(self) -> None:
        """What only a leader uses, and what reads and snapshots keep."""
        self.progress: dict[NodeId, Progress] = {}
        self.departing: dict[NodeId, tuple[Index, int]] = {}
        """Removed members to tell: (index of the removal, how often told)."""
        self.clock = ClusterClock(Nanos(0), self.now, self.config.heartbeat_interval_ns)
        self.round_id = 0
        self.confirmed_round = 0
        self.heartbeat_at: int = NEVER
        self.duties_at: int = NEVER
        """The next heartbeat is no later, whatever rounds are begun by reads: its duties come with no other round."""
        self.check_quorum_at: int = NEVER
        self.commit_flush_at: int = NEVER
        self.own_term_committed = False
        self.pending_sizes: deque[int] = deque()
        """Sizes of the uncommitted entries that this leadership appended, oldest first."""
        self.pending_bytes = 0
        self.transfer: Transfer | None = None
        self.leading_since: int = 0
        self.lease_bar: tuple[NodeId, int] | None = None
        """(target, when TimeoutNow was last sent to it) of a transfer that may still override stickiness."""
        self.told_max: int = 0
        """The most that this leader let anybody truncate to in its term."""
        self.term_start: Index = Index(0)
        """Index of the NOOP of the own leadership: whatever was committed before it, is below it."""
        self.caretaker_until: int = NEVER
        self.caretaker_tried: set[NodeId] = set()
        self.caretaker_best: Index = Index(0)
        self.change_since: int = 0
        """When this leader first saw the role change that runs."""
        self.healthy_since: int | None = None
        self.refused_change = ""
        """The policy's step that was refused last, told once; "": none is."""
        self.witness_pressed: tuple[NodeId, ...] = ()
        """Witnesses whose log is above its budget, as last reported."""
        # Reads, snapshots.
        self.base_proved = False
        """The log starts where it was cut beside witnesses, since this boot: see coverage.offer_anchor."""
        self.reads = Reads()
        self.snapshot: OwnSnapshot | None = None
        self.snapshot_asked_at: int = -NEVER
        self.fetch: Fetch | None = None
        self.ranges: RangeFetch | None = None
        self.cut_at: int = 0
        """Applying pauses there once, so that a snapshot can be made of the state at that very index."""
        self.floor: int = NEVER
        """Not above it: somebody lacks the log from there on, as the last leader that said so knows (sources.py)."""
        self.counts: Counter[str] = Counter()
        """What fetches have done since the start, by kind."""
        self.latency = CommitLatency()
        self.free_bytes = 0
        self.state_bytes = 0
        self.sync_average_ns = 0
        self.refusals: Counter[str] = Counter()

    def _start_output_fields(self) -> None:
        """Sequence numbers of writes, and the Ready being filled."""
        # Durability: sequence numbers count Persists of this boot.
        self.persist_seq: int = 0
        self.persisted_seq: int = 0
        self.hard_seq: int = 0
        self._headers: dict[NodeId, Header] = {}
        # The Ready being filled.
        self._hard_dirty = False
        self._truncate_from: Index | None = None
        self._entries: list[Entry] = []
        self._base: Base | None = None
        self._level: int | None = None
        self.sends: list[Send] = []
        self.read_results: list[ReadReady] = []
        self.proposals: list[Appended | Refused | Resolved] = []
        self.alarms: list[Alarm] = []
        self.pieces: list[Piece] = []
        self.state_actions: list[StateAction] = []
        self._told: tuple[Role, Term, NodeId] | None = None

    # --- randomness and time ---------------------------------------------------------------------------------------

    def begin(self, now: Nanos, draw: int) -> None:
        """A step starts: its time and its random number. Time never goes back."""
        if now > self.now:
            self.now = now
        self._draw = draw
        self._draw_count = 0

    def random(self) -> int:
        """A uniform 64-bit number: this step's draw, whitened anew at every call (splitmix64)."""
        self._draw_count += 1
        z = (self._draw + self._draw_count * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return z ^ (z >> 31)

    def election_timeout(self) -> int:
        """Drawn anew from [1, 2) × the base: fixed jitter would split votes for ever (§3.4). Twice that for I3.

        From [1, 1.25) × the base where the leader is the only rival, after 1.5 heartbeats: then every voter that heard
        its last one is no longer sticky.
        """
        base = self.config.election_timeout_ns * max(1, self.patience)
        draw = self.random() & 0xFFFFFFFF
        if self.patience == 1 and self.leader_id == self.only_rival != NO_NODE:
            return base + self.config.heartbeat_interval_ns * 3 // 2 + base * draw // 0x400000000
        return base + base * draw // 0x100000000

    # --- writes ------------------------------------------------------------------------------------------------------

    @property
    def write_seq(self) -> PersistSeq:
        """The sequence number of the Persist that this step is filling."""
        return PersistSeq(self.persist_seq + 1)

    def set_term(self, term: Term, voted_for: NodeId) -> None:
        """Move to a later term, or vote in this one. Durable before any reply: see `after`."""
        if term < self.term or (term == self.term and self.voted_for not in (NO_NODE, voted_for)):
            raise InvariantViolation(f"term {self.term} voted {self.voted_for} cannot become {term} voted {voted_for}")
        if term != self.term:
            self._headers.clear()
            # I6: what an earlier leader allowed is void; a later one may have admitted a full voter that needs it.
            self.covered = Index(0)
            self.ranges = None  # what an earlier leader named to fetch; a later one names it anew
        self.term = term
        self.voted_for = voted_for
        self._hard_dirty = True
        self.hard_seq = self.persist_seq + 1

    def promise_level(self, level: int) -> None:
        """Change what the guard file says of the level. Durable before any reply: see `after`."""
        self.level = self._level = level
        self.hard_seq = self.level_seq = self.write_seq

    def after(self, index: int = 0) -> PersistSeq:
        """What a reply must wait for: the hard state, and the log up to `index`."""
        seq: int = self.log.seq_of(index) if index else 0
        if self.hard_seq > self.persisted_seq and self.hard_seq > seq:
            seq = self.hard_seq
        return PersistSeq(seq)

    def append(self, entries: list[Entry]) -> None:
        """Append to the log and to this step's Persist."""
        self.log.append(entries, self.write_seq)
        self._entries += entries

    def append_own(self, kind: EntryKind, payload: bytes) -> Entry:
        """A leader appends one entry of its term, stamped with the cluster clock."""
        log = self.log
        entry = make_entry(Index(log.last_index + 1), self.term, kind, self.clock.value(self.now), payload)
        log.append((entry,), PersistSeq(self.persist_seq + 1))
        self._entries.append(entry)
        size = entry.size
        self.pending_sizes.append(size)
        self.pending_bytes += size
        self.latency.appended(entry.index, self.now)
        return entry

    def truncate(self, first: Index) -> None:
        """Remove `first` and what follows, at once in memory and with this step's Persist on disk."""
        if first <= self.commit_index:
            raise InvariantViolation(f"truncation from {first} would remove committed entries (≤ {self.commit_index})")
        self.log.truncate(first)
        self._drop_ranges_above(self.log.last_index)
        kept = [e for e in self._entries if e.index < first]
        if len(kept) == len(self._entries):
            self._truncate_from = first if self._truncate_from is None else min(first, self._truncate_from)
        elif self._truncate_from is None and (not kept or kept[0].index >= first):
            self._truncate_from = first
        self._entries = kept

    def write_base(self, base: Base) -> None:
        """Move the log's start with this step's Persist."""
        self._base = base
        self.base_proved = False
        self.log.move_base(base)

    def replace_log(self, base: Base) -> None:
        """A snapshot was installed whose index the log does not hold: everything before and after is gone."""
        if self.log.last_index > base.index:
            self._truncate_from = Index(base.index + 1)
        self._entries = []
        self._base = base
        self.base_proved = False
        self.log.reset(base, self.write_seq)
        self._drop_ranges_above(base.index)

    def _drop_ranges_above(self, last: int) -> None:
        """The log ends at `last` now: a range whose next piece joins above it joins to nothing any more."""
        if self.ranges is not None and self.ranges.anchors[self.ranges.done][0] > last:
            self.ranges = None

    # --- output ------------------------------------------------------------------------------------------------------

    def header(self, receiver: NodeId) -> Header:
        """This node's header for `receiver`, its term frozen now."""
        header = self._headers.get(receiver)
        if header is None:
            header = Header(self.cluster_id, self.node_id, receiver, self.term, self.level_min, self.level_max)
            self._headers[receiver] = header
        return header

    def send(self, message: Message, channel: Channel = Channel.CONTROL, after: PersistSeq = NO_WRITE) -> None:
        """Send to the member that the message's header names."""
        self.sends.append(Send(message.header.receiver, message, channel, after))

    def alarm(self, code: str, text: str) -> None:
        """Tell the operator."""
        self.alarms.append(Alarm(code, text))

    def refuse(self, reason: str) -> None:
        """Count a message that was ignored or refused, by its reason."""
        self.refusals[reason] += 1

    def cluster_time(self, now: Nanos) -> Nanos:
        """The leader's stamp at `now`, or what this node last heard."""
        if self.role is LEADER:
            return self.clock.value(now)
        return self.cluster_time_heard

    @property
    def cluster_time_heard(self) -> Nanos:
        """The latest cluster time heard of, by heartbeat, entry or state."""
        return max(self.leader_time, self.log.last_time)

    def last_stamp(self) -> Nanos:
        """Stamp of the last entry of the log, or of the state where the log holds none."""
        log = self.log
        if log.last_index == log.base.index:
            return self.emitted_time
        (last,) = log.entries(log.last_index, log.last_index + 1, 1, APPLY_BYTES_MAX)
        return max(self.emitted_time, last.leader_time)

    # --- configuration -----------------------------------------------------------------------------------------------

    def is_voter(self) -> bool:
        """Whether this node votes in its latest configuration."""
        return self.node_id in self.voters or self.node_id in self.outgoing

    def is_alone(self) -> bool:
        """Whether no other node can lead: the only voter in force, and committed as that.

        In force alone is not enough: whoever left it the only voter leads, and may hold a lease, until that entry
        commits, for which only this node's word is missing.
        """
        both = (self.configuration, self.committed_configuration)
        return all(c.voter_ids == (self.node_id,) and not c.outgoing for c in both)

    def is_full_voter(self, node_id: NodeId) -> bool:
        """Whether that member may lead and serve: a full voter in force, and committed as one (I9)."""
        member = self.configuration.member(node_id)
        if member is None or not member.voter or _held_back(member):
            return False
        committed = self.committed_configuration.member(node_id)
        return committed is None or not _held_back(committed)

    def is_witness(self, node_id: NodeId) -> bool:
        """Whether that member's role is WITNESS in force or committed: its candidacy must be strictly newer (I3)."""
        return any(
            m is not None and not m.is_full
            for m in (self.configuration.member(node_id), self.committed_configuration.member(node_id))
        )

    @property
    def own_member(self) -> Member | None:
        """The own record in force."""
        return self.configuration.member(self.node_id)

    @property
    def is_caretaker(self) -> bool:
        """A leader without a full member's privileges: it only hands over (I4)."""
        return self.role is LEADER and not self.full_here

    @property
    def holds_state(self) -> bool:
        """Whether the state here is this member's own: a DEMOTING voter's too, until D2 is appended (I9)."""
        return self.machine and self.side is None and not self.is_witness(self.node_id)

    @property
    def witness_level(self) -> bool:
        """Whether level 2 is active: the one place that I13 and all that came with it look at.

        By I9: gained when the ACTIVATE commits here, when every member has promised to run no binary below it; lost
        when a DEACTIVATE is appended.
        """
        return min(self.committed_levels.active, self.log.levels.active) >= WITNESS_LEVEL

    def quorum_value(self, values: dict[NodeId, int]) -> int:
        """What a quorum of the latest configuration reaches."""
        return quorum_value(self.voters, self.outgoing, values)

    def commit_value(self, values: dict[NodeId, int]) -> int:
        """What a commit quorum reaches: a majority, or half (raft.md §5) while no CONFIG is uncommitted."""
        if self.configuration.reduced_commit and self.log.configuration_index <= self.commit_index:
            return commit_value(self.voters, self.outgoing, values)
        return quorum_value(self.voters, self.outgoing, values)

    def refresh_standing(self) -> None:
        """What this member may do by its role, in force and committed (I9). After every change of either."""
        own = self.configuration.member(self.node_id)
        committed = self.committed_configuration.member(self.node_id)
        held_back = (own is not None and _held_back(own)) or (committed is not None and _held_back(committed))
        self.change_runs = bool(self.configuration.outgoing) or self.configuration.changing is not None
        both = (self.configuration, self.committed_configuration)
        self.guarded = any(not m.is_full or m.phase is MemberPhase.DEMOTING for c in both for m in c.members)
        self.full_here = self.machine and self.side is None and not held_back
        if own is None or not own.voter:
            self.patience = 0
        else:
            self.patience = 1 if self.full_here else 2
        rivals = {m.member_id for c in both for m in c.members if m.is_full and m.member_id in c.deciders}
        rivals.discard(self.node_id)
        self.only_rival: NodeId = rivals.pop() if len(rivals) == 1 else NO_NODE
        """The one other full voter, where there is just one: while it leads, nobody else campaigns before a witness."""

    def refresh_configuration(self) -> None:
        """Take the log's latest configuration into force (§4.1: on append, and back on truncation)."""
        if role_changed(self.configuration, self.log.configuration):
            self.role_changed_at = self.now
            self.change_aborted = change_aborted(self.configuration, self.log.configuration)
        self.configuration = self.log.configuration
        self.voters = self.configuration.voter_ids
        self.outgoing = self.configuration.outgoing
        self.refresh_standing()

    # --- the end of a step -------------------------------------------------------------------------------------------

    def _take_apply(self) -> tuple[Entry, ...]:
        """Committed entries for the state machine, in order, bounded per step and in flight."""
        if not self.machine:
            # A witness applies CONFIG, GATE and NOOP only, and those take effect by the log itself.
            self.emitted = self.applied = self.commit_index
            return ()
        count = min(self.commit_index - self.emitted, APPLY_ENTRIES_MAX, self._apply_room())
        if self.emitted < self.cut_at:
            count = min(count, self.cut_at - self.emitted)
        if count <= 0 or (self.fetch is not None and self.fetch.installing):
            return ()
        first = self.emitted + 1
        entries = self.log.entries(first, first + count, count, APPLY_BYTES_MAX)
        self.emitted = entries[-1].index
        self.emitted_time = entries[-1].leader_time
        return entries

    def _apply_room(self) -> int:
        """How many entries more may be handed out."""
        out, above = self.emitted - self.applied, self.log.bytes_above
        if out >= APPLY_OUTSTANDING_MIN and above(self.applied) - above(self.emitted) >= APPLY_OUTSTANDING_BYTES_MAX:
            return 0
        return APPLY_OUTSTANDING_MAX - out

    def _take_persist(self) -> Persist:
        self.persist_seq += 1
        persist = Persist(
            PersistSeq(self.persist_seq),
            HardState(self.term, self.voted_for) if self._hard_dirty else None,
            self._truncate_from,
            tuple(self._entries),
            self._base,
            self._level,
        )
        self._hard_dirty = False
        self._level = None
        self._truncate_from = None
        self._entries = []
        self._base = None
        return persist

    def finish(self, next_deadline: int) -> Ready:
        """The complete Ready of this step."""
        apply = self._take_apply() if self.emitted < self.commit_index else ()
        if apply and self.emitted < self.commit_index and self._apply_room() > 0:
            next_deadline = self.now
        role_changed = None
        told = self._told
        if told is None or told[0] is not self.role or told[1] != self.term or told[2] != self.leader_id:
            self._told = told = (self.role, self.term, self.leader_id)
            role_changed = RoleChanged(*told)
        persist = None
        changed = self._base is not None or self._truncate_from is not None or self._level is not None
        if changed or self._entries or self._hard_dirty:
            persist = self._take_persist()
        ready = Ready(
            Nanos(next_deadline),
            persist,
            tuple(self.sends),
            apply,
            tuple(self.read_results),
            tuple(self.proposals),
            role_changed,
            tuple(self.alarms),
            tuple(self.pieces),
            tuple(self.state_actions),
        )
        if self.sends:
            self.sends = []
        if self.read_results:
            self.read_results = []
        if self.proposals:
            self.proposals = []
        if self.alarms:
            self.alarms = []
        if self.pieces:
            self.pieces = []
        if self.state_actions:
            self.state_actions = []
        return ready
