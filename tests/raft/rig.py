"""One node under test, with a memory store and hand-made messages; and a small cluster of such nodes."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from lockmaster_raft.config import MILLISECOND, RaftConfig
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.events import (
    Applied,
    Event,
    Persisted,
    PiecesHeld,
    PieceStored,
    Receive,
    SideOpened,
    SideReady,
    SnapshotCut,
    SnapshotInstalled,
    SnapshotReady,
    Wake,
)
from lockmaster_raft.ids import Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import (
    LEVEL_MAX,
    Configuration,
    Levels,
    Member,
    MemberPhase,
    MemberRole,
    encode_configuration,
)
from lockmaster_raft.messages import AppendEntries, FetchPieceReply, Header, Message
from lockmaster_raft.node import Node
from lockmaster_raft.ready import (
    AdoptSide,
    Alarm,
    Appended,
    Base,
    BeginPieces,
    Channel,
    DropState,
    FinishSide,
    HardState,
    InstallPieces,
    MakeSnapshot,
    OpenSide,
    Persist,
    Piece,
    ReadReady,
    Ready,
    Refused,
    Resolved,
    Role,
    Send,
    ServePiece,
    StateAction,
    StorePiece,
)
from lockmaster_raft.storage import BootState, SideState
from lockmaster_raft.testing.memory_store import MemoryStore

CLUSTER = b"test-cluster-id!"
START = 1_000_000_000
BOOT_NONCE = 77
M = TypeVar("M")


def member(
    number: int,
    *,
    voter: bool = True,
    name: str = "",
    role: MemberRole = MemberRole.FULL,
    phase: MemberPhase = MemberPhase.STEADY,
) -> Member:
    who = name or f"m{number}"
    return Member(NodeId(number), who, f"{who}:1", f"{who}:2", bytes([number]) * 16, voter, role, phase)


def configuration(
    voters: Sequence[int] = (1, 2, 3),
    learners: Sequence[int] = (),
    *,
    witnesses: Sequence[int] = (),
    epoch: int = 1,
    full_min: int = 2,
) -> Configuration:
    """`witnesses` name the voters and learners whose role is WITNESS."""
    roles = {n: MemberRole.WITNESS if n in witnesses else MemberRole.FULL for n in (*voters, *learners)}
    members = sorted(
        [member(v, role=roles[v]) for v in voters] + [member(n, voter=False, role=roles[n]) for n in learners],
        key=lambda m: m.member_id,
    )
    return Configuration(epoch, tuple(members), NodeId(max([*voters, *learners]) + 1), full_min)


def base(conf: Configuration, index: int = 1, term: int = 1, level: int = 1) -> Base:
    return Base(Index(index), Term(term), conf, Index(index), Levels(level, level))


BLANK = Base(Index(0), Term(0), Configuration(0, (), NodeId(1)), Index(0), Levels())


def entries(first: int, *terms: int, payload: bytes = b"x") -> tuple[Entry, ...]:
    """DATA entries from index `first` on, one per term."""
    return tuple(
        make_entry(Index(i), Term(t), EntryKind.DATA, Nanos(0), payload) for i, t in enumerate(terms, start=first)
    )


def config_entry(index: int, term: int, conf: Configuration) -> Entry:
    return make_entry(Index(index), Term(term), EntryKind.CONFIG, Nanos(0), encode_configuration(conf))


def header(sender: int, term: int, receiver: int = 1) -> Header:
    return Header(CLUSTER, NodeId(sender), NodeId(receiver), Term(term), 1, 1)


def append(
    sender: int,
    term: int,
    prev: tuple[int, int],
    new: Sequence[Entry] = (),
    commit: int = 0,
    request_id: int = 1,
) -> AppendEntries:
    where = (Index(prev[0]), Term(prev[1]))
    return AppendEntries(header(sender, term), 1, request_id, *where, tuple(new), Index(commit))


class Rig:
    """Node 1 (by default) of a configuration, its disk in the test's hands: writes are durable when told so."""

    def __init__(
        self,
        *,
        conf: Configuration | None = None,
        log: Sequence[Entry] = (),
        term: int = 1,
        voted_for: int = 0,
        node_id: int = 1,
        config: RaftConfig | None = None,
        applied: int | None = None,
        start: Base | None = None,
        level_max: int = LEVEL_MAX,
        level: int = 1,
        has_state: bool = True,
        side: SideState | None = None,
        leader_time: int = 0,
    ) -> None:
        self.config = config or RaftConfig()
        self.store = MemoryStore(start or base(conf or configuration()), list(log))
        self.now = START
        self.random = random.Random(7)
        self.seq = 0
        boot = BootState(
            HardState(Term(term), NodeId(voted_for)),
            self.store,
            Index(self.store.base.index if applied is None else applied),
            level,
            BOOT_NONCE,
            has_state,
            side,
            Nanos(leader_time),
        )
        draw = self.random.getrandbits(64)
        self.node = Node(
            node_id=NodeId(node_id),
            cluster_id=CLUSTER,
            config=self.config,
            boot=boot,
            now=Nanos(self.now),
            draw=draw,
            level_max=level_max,
        )
        self.ready = self.step(Wake())

    def step(self, event: Event, after_ns: int = 0) -> Ready:
        """Step at `after_ns` later; writes reach the store but count as durable only by `synced`."""
        self.now += after_ns
        ready = self.node.step(event, Nanos(self.now), self.random.getrandbits(64))
        if ready.persist is not None:
            self.store.persist(ready.persist)
            self.seq = ready.persist.seq
        self.ready = ready
        return ready

    def receive(self, message: Message, after_ns: int = 0) -> Ready:
        return self.step(Receive(message), after_ns)

    def synced(self, seq: int | None = None) -> Ready:
        """Everything written so far (or up to `seq`) is durable."""
        return self.step(Persisted(PersistSeq(seq if seq is not None else self.seq)))

    def settle(self) -> Ready:
        """Sync if something is unsynced, then give the Ready of that."""
        return self.synced()

    def tick(self, after_ns: int) -> Ready:
        return self.step(Wake(), after_ns)

    def sent(self, kind: type[M]) -> list[M]:
        """The messages of this kind in the last Ready."""
        return [s.message for s in self.ready.send if isinstance(s.message, kind)]

    def only(self, kind: type[M]) -> M:
        found = self.sent(kind)
        assert len(found) == 1, found
        return found[0]

    def send_of(self, kind: type) -> Send:
        return next(s for s in self.ready.send if isinstance(s.message, kind))


class Cluster:
    """A few nodes in virtual time: 0.3 ms per message, 0.1 ms per sync, snapshots of two chunks."""

    def __init__(
        self, config: RaftConfig | None = None, *, full_min: int = 2, blank: bool = False, level: int = 1
    ) -> None:
        self.config = config or RaftConfig()
        self.now = START
        self.random = random.Random(11)
        self.delay_ns = 300_000
        self.queue: list[tuple[int, int, int, Event]] = []
        self.count = 0
        self.nodes: dict[int, Node] = {}
        self.stores: dict[int, MemoryStore] = {}
        self.persisted: dict[int, int] = {}
        self.held: dict[int, list[Send]] = {}
        self.applied: dict[int, list[Entry]] = {}
        self.proposals: list[Appended | Refused | Resolved] = []
        self.reads: list[tuple[int, ReadReady]] = []
        self.alarms: list[tuple[int, Alarm]] = []
        self.state_actions: list[tuple[int, StateAction]] = []
        self.down: set[int] = set()
        self.cut: Callable[[int, int, Message], bool] = lambda sender, receiver, message: False
        self.sends: list[Send] = []
        self.snapshot_bytes = 10
        """Of each snapshot that is made."""
        self.level_max: dict[int, int] = {}
        self.level: dict[int, int] = {}
        """What each member's guard file says; a boot with a binary below it is refused."""
        self.hard: dict[int, HardState] = {}
        if not blank:
            self.boot(1, base(configuration((1,), full_min=full_min), level=level))

    def boot(
        self,
        number: int,
        start: Base = BLANK,
        log: Sequence[Entry] = (),
        term: int | None = None,
        *,
        has_state: bool = True,
    ) -> None:
        self.stores[number] = MemoryStore(start, list(log))
        self.persisted[number] = 0
        self.held[number] = []
        self.applied.setdefault(number, [])
        hard = HardState(Term(self.stores[number].log[-1].term if log else start.term), NodeId(0))
        if term is not None:
            hard = HardState(Term(term), NodeId(0))
        self._start(number, hard, has_state=has_state)

    def crash(self, number: int) -> None:
        """Nothing is left of it but its disk; what others have sent to it still arrives somewhere."""
        self.down.add(number)
        self.queue = [q for q in self.queue if q[2] != number or isinstance(q[3], Receive)]
        heapq.heapify(self.queue)

    def restart(self, number: int) -> None:
        """From its disk: every write of it is there, its state is flushed as far as the log's start."""
        self.crash(number)
        self.down.discard(number)
        self.persisted[number] = 0
        self.held[number] = []
        self.applied[number] = [e for e in self.applied[number] if e.index <= self.stores[number].base.index]
        own = self.nodes[number].own_member
        self._start(number, self.hard[number], has_state=own is None or own.is_full)

    def _start(self, number: int, hard: HardState, *, has_state: bool) -> None:
        start, self.hard[number] = self.stores[number].base, hard
        self.nodes[number] = Node(
            node_id=NodeId(number),
            cluster_id=CLUSTER,
            config=self.config,
            boot=BootState(hard, self.stores[number], start.index, self.level.get(number, 1), self.count, has_state),
            now=Nanos(self.now),
            draw=self.random.getrandbits(64),
            level_max=self.level_max.get(number, LEVEL_MAX),
        )
        self.step(number, Wake())

    def step(self, number: int, event: Event) -> Ready | None:
        if number in self.down:
            return None
        ready = self.nodes[number].step(event, Nanos(self.now), self.random.getrandbits(64))
        if ready.persist is not None:
            self._write(number, ready.persist)
        for send in ready.send:
            self._send(number, send)
        self.proposals += ready.proposals
        self.reads += [(number, r) for r in ready.reads]
        self.alarms += [(number, a) for a in ready.alarms]
        for piece in ready.pieces:
            self._piece(number, piece)
        for action in ready.state:
            self._state(number, action)
        if ready.apply:
            self.applied[number] += ready.apply
            self._at(0, number, Applied(ready.apply[-1].index))
        self._at(ready.next_deadline - self.now, number, Wake())
        return ready

    def _write(self, number: int, persist: Persist) -> None:
        self.stores[number].persist(persist)
        self.hard[number] = persist.hard_state or self.hard[number]
        if persist.level is not None:
            self.level[number] = persist.level
        self._at(100_000, number, Persisted(persist.seq))

    def _send(self, number: int, send: Send) -> None:
        if send.after > self.persisted[number]:
            self.held[number].append(send)
            return
        self.sends.append(send)
        if send.to in self.nodes and not self.cut(number, send.to, send.message):
            self._at(self.delay_ns, send.to, Receive(send.message))

    def _at(self, after_ns: int, number: int, event: Event) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + after_ns, self.count, number, event))

    def _piece(self, number: int, piece: Piece) -> None:
        node = self.nodes[number]
        match piece:
            case MakeSnapshot():
                index = node.applied
                if piece.exact and index != piece.index_min:
                    return
                if not piece.exact:
                    self._at(0, number, SnapshotCut(index))
                at, conf = node.configuration_at(index)
                term = node.term_at(index)
                assert term is not None
                digests, size = (b"d" * 32, b"e" * 32), self.snapshot_bytes
                self._at(MILLISECOND, number, SnapshotReady(index, term, conf, at, node.levels, digests, size))
            case ServePiece():
                head = Header(CLUSTER, NodeId(number), piece.to, node.term, 1, 1)
                reply = FetchPieceReply(head, piece.last_index, piece.number, True, b"data")
                self._send(number, Send(piece.to, reply, Channel.BULK))
            case BeginPieces():
                self._at(1000, number, PiecesHeld(piece.snapshot.last_index, ()))
            case StorePiece():
                self._at(1000, number, PieceStored(piece.last_index, piece.number))
            case InstallPieces():
                self._at(1000, number, SnapshotInstalled(piece.snapshot.last_index, piece.snapshot.last_term))

    def _state(self, number: int, action: StateAction) -> None:
        self.state_actions.append((number, action))
        match action:
            case OpenSide():
                self._at(1000, number, SideOpened(action.epoch, action.snapshot.last_index))
            case FinishSide():
                self._at(1000, number, SideReady(action.epoch, self.nodes[number].applied))
            case AdoptSide() | DropState():
                pass

    def run(self, duration_ns: int) -> None:
        end = self.now + duration_ns
        while self.queue and self.queue[0][0] <= end:
            at, _, number, event = heapq.heappop(self.queue)
            self.now = max(self.now, at)
            if number in self.down or (isinstance(event, Wake) and self.nodes[number].next_deadline > self.now):
                continue
            if isinstance(event, Persisted):
                self.persisted[number] = event.seq
            self.step(number, event)
            if isinstance(event, Persisted):
                held, self.held[number] = self.held[number], []
                for send in held:
                    self._send(number, send)
        self.now = end

    def leaders(self) -> list[int]:
        return [n for n, node in self.nodes.items() if node.role is Role.LEADER and n not in self.down]

    @property
    def leader(self) -> int:
        (found,) = self.leaders()
        return found
