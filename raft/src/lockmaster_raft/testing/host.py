"""A host: the process around one Node. Does what every Ready asks, in the order that ready.py states, in virtual time.

Laws: the node is stepped by nobody else; a crash forgets everything but the disks; a paused host does nothing at all
and finds everything waiting when it goes on.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING

from lockmaster_raft.entry import CONFIG, GATE, Entry
from lockmaster_raft.errors import CorruptLog, InvariantViolation, LevelUnsupported, StorageFailed
from lockmaster_raft.events import (
    Applied,
    Event,
    PeerConnected,
    PeerDisconnected,
    Persisted,
    PieceRefused,
    PiecesHeld,
    PieceStored,
    Receive,
    SnapshotCut,
    SnapshotInstalled,
    SnapshotReady,
    StorageReport,
    Wake,
)
from lockmaster_raft.gates import decode_gate, fold
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.membership import MemberRole, decode_configuration
from lockmaster_raft.messages import FetchPieceReply, Header, InstallSnapshot, Message
from lockmaster_raft.node import Node
from lockmaster_raft.ready import (
    LEADER,
    REMOVED,
    Base,
    BeginPieces,
    HardState,
    InstallPieces,
    MakeSnapshot,
    Persist,
    Piece,
    Ready,
    Send,
    ServePiece,
    StorePiece,
)
from lockmaster_raft.storage import BootState
from lockmaster_raft.testing.disk import Disk, StateDisk
from lockmaster_raft.testing.frontend import Frontend
from lockmaster_raft.testing.scheduler import DriftingClock
from lockmaster_raft.testing.snapshots import chunks_of, contents_of
from lockmaster_raft.testing.state_dirs import BLANK, StateDirs
from lockmaster_raft.testing.storage_law import StorageLaw

if TYPE_CHECKING:
    from lockmaster_raft.testing.application import Replica
    from lockmaster_raft.testing.cluster import Cluster


class Host:
    """One machine with its disks and, while it runs, its node."""

    def __init__(self, cluster: Cluster, number: int, role: MemberRole = MemberRole.FULL) -> None:
        self.cluster = cluster
        self._checker, self._scheduler = cluster.checker, cluster.scheduler
        self.number = number
        self.role = role
        """What its directory is made for: `serve --role`."""
        self.lost = False
        """Its disks are gone for good."""
        self.refused = ""
        """Why it was given up, if a boot refused its directory."""
        self.incarnation = number.to_bytes(16, "big")
        self.draw = random.Random(f"{cluster.seed}/host/{number}")
        self.member_id = NodeId(0)
        self.level_max = cluster.gates.first_level(role)
        """The level of the binary that runs here, or will at the next boot."""
        self.disk: Disk | None = None
        self.state: StateDisk | None = None
        """The open one; None on a witness."""
        self.dirs = StateDirs(self)
        self.law = StorageLaw(self)
        self.node: Node | None = None
        self.replica: Replica | None = None
        self.running = True
        self.paused_until = 0
        self.boots = 0
        self.removed = False
        self.unread: dict[int, int] = {}
        """Session -> when the oldest of its keepalives arrived that lie unread, while this host is paused."""
        self.clock = DriftingClock(cluster.scheduler, self.draw.randint(0, 10**12), self._drift())
        self.front = Frontend(self)
        self._backlog: deque[Callable[[], None]] = deque()
        self._held: list[Send] = []
        self._events: deque[Event] = deque()
        self._stepping = False
        self._wake_at = 0
        self._sealed: deque[tuple[Base, Mapping[bytes, bytes | None]]] = deque()
        self._images: dict[int, tuple[bytes, ...]] = {}
        self.pieces: dict[tuple[int, int], bytes] = {}
        """Received chunks by (index of the snapshot, number): on the disk, so there after a crash."""
        self._own_image: tuple[Base, tuple[bytes, ...]] | None = None
        """The newest snapshot of the own state, on the disk too."""
        self._cut_at = 0
        """The state is to be cut for a snapshot when it stands there."""
        self.meta = BLANK
        """Where the replica stands and the configuration applied there."""
        self.boot_index = Index(0)
        """What it had applied, and so knew to be committed, when it started last: a witness, the base of its log."""

    def _drift(self) -> int:
        ppm = self.cluster.mix.drift_ppm
        return self.draw.randint(-ppm, ppm)

    # --- life ---------------------------------------------------------------------------------------------------

    def genesis(self, base: Base, contents: dict[bytes, bytes]) -> None:
        """Make this the first member's directory."""
        self.member_id = base.configuration.members[0].member_id
        self._format(base, HardState(base.term, NodeId(0)))
        self.dirs.format(contents, base)

    def _format(self, base: Base, hard: HardState) -> None:
        draw = random.Random(f"{self.cluster.seed}/disk/{self.number}")
        self.disk = Disk(self.cluster.scheduler, draw, self.cluster.mix.sync_ns, base, hard, base.levels.active)
        self.disk.on_stage = lambda stage: self.cluster.nemesis.disk_stage(self, stage)
        self.cluster.disks.prepare(self, self.disk)

    def join(self, member_id: NodeId) -> None:
        """The leader's first message named this blank incarnation: write identity to the guard and start."""
        self.member_id = member_id
        base = BLANK
        self._format(base, HardState(Term(0), NodeId(0)))
        if self.role is MemberRole.FULL:
            self.dirs.format({}, base)
        self.boot()

    def boot(self) -> None:
        """Start the process from what the disks hold; one whose directory can't be trusted or understood refuses."""
        if not self.law.may_boot():
            return
        if self.disk is not None and self.disk.level > self.level_max:
            self.cluster.count("binary refused to boot")
            self.cluster.gates.stopped(self)
            return
        self.running = True
        self.paused_until = 0
        self.boots += 1
        if self.disk is None:
            return
        hard = self.disk.boot(self._persisted)
        self.state, side = self.dirs.at_boot(self.disk.store.base)
        self.replica, self.meta = None, BLANK
        if self.state is not None:
            self.meta = self.state.flushed_meta
            self._mend_log(self.meta)
            if self.meta.index:
                self.open_state(self.state)
        self._held, self._images, self._cut_at = [], {}, 0
        self._events.clear()
        self._sealed.clear()
        self._wake_at = 0
        self.front = Frontend(self)
        applied = self.boot_index = self.meta.index if self.state is not None else self.disk.store.base.index
        own_state = self.state is not None and side is None
        stamp = Nanos(self._cluster_time())
        boot = BootState(hard, self.disk.store, applied, self.disk.level, self.boots, own_state, side, stamp)
        self.cluster.checker.booting(self, hard)
        self.node = Node(
            node_id=self.member_id,
            cluster_id=self.cluster.cluster_id,
            config=self.cluster.mix.config,
            boot=boot,
            now=Nanos(self.clock.now()),
            draw=self.draw.getrandbits(64),
            level_max=self.level_max,
        )
        boots = self.boots
        self._background(boots, self.cluster.mix.store_interval_ns, self.store_state)
        self._background(boots, self.cluster.mix.flush_interval_ns, self._flush)
        self.step(Wake())
        self._offer_image()
        self.cluster.connected(self)

    def open_state(self, state: StateDisk) -> None:
        """A state machine on this store, from now on fed by `apply`."""
        self.state, self.meta = state, state.flushed_meta
        self._sealed.clear()
        contents = dict(state.flushed)
        self.replica = self.cluster.application.replica(contents, self.meta.index, self.meta.term)
        self.front.restored()
        self.cluster.checker.installed(self, self.meta.index)

    def _cluster_time(self) -> int:
        return self.replica.cluster_time if self.replica is not None else 0

    def close_state(self) -> None:
        """No state machine any more."""
        self.cluster.checker.dropped(self)
        self.state, self.replica, self.meta = None, None, BLANK
        self._sealed.clear()
        self._images.clear()
        self._own_image = None
        self.pieces.clear()

    def _mend_log(self, meta: Base) -> None:
        """A boot that finds state ahead of the log's base and not in the log writes the BASE again (service.md §5)."""
        if self.disk is None:
            return
        store = self.disk.store
        if store.last_index < meta.index or store.term(meta.index) not in (None, meta.term):
            self.disk.store.log.clear()
            self.disk.store.base = meta

    def crash(self, power: bool) -> None:
        """Everything in memory is gone; what was not durable is drawn. A power cut also restarts the clock."""
        self.running = False
        if self.node is not None:
            self.cluster.checker.crashing(self, self.node)
        self.node, self.replica = None, None
        self.boots += 1
        self._backlog.clear()
        self.unread.clear()
        self.front.lost()
        if self.disk is not None:
            self.disk.crash()
        if self.state is not None:
            self.state.crash(self.draw)
        if power:
            self.clock = DriftingClock(self.cluster.scheduler, self.draw.randint(0, 10**9), self._drift())
        self.cluster.disconnected(self)

    def pause(self, duration: int) -> None:
        """Stop for that long (SIGSTOP, VM pause seen by CLOCK_BOOTTIME)."""
        self.paused_until = self.cluster.scheduler.now + duration
        self.cluster.scheduler.at(self.paused_until, self._resume)

    def resume_now(self) -> None:
        """End a pause before its time."""
        if self.paused_until:
            self.paused_until = self.cluster.scheduler.now
            self._resume()

    def _resume(self) -> None:
        if not self.running or self.paused_until > self.cluster.scheduler.now:
            return
        self.paused_until = 0
        while self._backlog and self.running:
            self._backlog.popleft()()

    def when_awake(self, action: Callable[[], None]) -> None:
        """Run `action` now, or at the end of a pause, or never if this boot ends before."""
        if not self.running:
            return
        if self.paused_until:
            self._backlog.append(action)
            return
        action()

    def _background(self, boots: int, interval: int, action: Callable[[], None]) -> None:
        after, draw = self.cluster.scheduler.after, self.draw.random

        def run() -> None:
            if boots == self.boots:
                self.when_awake(action)
                after(int(interval * (0.5 + draw())), run)

        after(int(interval * (0.5 + draw())), run)

    # --- steps --------------------------------------------------------------------------------------------------

    def step(self, event: Event) -> None:
        """Step the node with this event and do what it asks; events that doing so causes follow in order."""
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events and self.node is not None:
                self._step_one(self.node, self._events.popleft())
        except LevelUnsupported as above:
            self._stop_for_level(above)
        except StorageFailed as error:
            self.law.stop("corrupt entry read" if isinstance(error, CorruptLog) else "EIO at a read")
        finally:
            self._stepping = False

    def _stop_for_level(self, error: LevelUnsupported) -> None:
        """An entry above this binary: it stops, and a newer one takes its place (a joiner rolled back too early)."""
        self.cluster.note(f"{self.number} stops: {error}")
        self.cluster.count("binary stopped at a level")
        self.node = None
        boots = self.boots

        def end() -> None:
            if boots == self.boots:
                self.crash(False)
                self.cluster.gates.stopped(self)

        self.cluster.scheduler.after(0, end)

    def _step_one(self, node: Node, event: Event) -> None:
        now = Nanos(self.clock.now())
        ready = node.step(event, now, self.draw.getrandbits(64))
        self._checker.stepped(self, node, event, ready)
        self._do(node, ready)
        deadline = self.front.turn(now)
        self._wake_by(deadline if deadline < ready.next_deadline else ready.next_deadline)

    def turn(self) -> None:
        """A turn of the loop without a step of its own: the front has something new."""
        if not self._stepping and self.node is not None:
            self.step(Wake())

    def _wake_by(self, local: int) -> None:
        now, when = self._scheduler.now, self.clock.to_global(local)
        if when <= now:
            when = now + 1
        if now < self._wake_at <= when:
            return
        self._wake_at = when
        boots = self.boots

        def wake() -> None:
            if boots == self.boots and self._wake_at == when:
                self._wake_at = 0
                self.step(Wake())

        self._scheduler.at(when, lambda: self.when_awake(wake) if boots == self.boots else None)

    def _do(self, node: Node, ready: Ready) -> None:
        if self.disk is None:
            raise InvariantViolation("a node without a disk")
        if ready.send:
            for send in ready.send:
                if send.after <= self.disk.durable_seq:
                    self._transmit(node, send)
                else:
                    self._held.append(send)
        if ready.persist is not None:
            self.disk.submit(ready.persist)
        if ready.state:
            for action in ready.state:
                self.dirs.do(action)
        if ready.apply:
            for entry in ready.apply:
                self._apply(entry)
            self._tell_applied(node, ready.apply[-1].index)
        if ready.role_changed is not None:
            self.cluster.note(f"{self.number} {ready.role_changed.role.value} term {ready.role_changed.term}")
            if ready.role_changed.role is REMOVED:
                self.removed = True
            elif ready.role_changed.role is LEADER:
                self.cluster.prober.elected(self)
        if ready.alarms:
            for alarm in ready.alarms:
                self.cluster.count(f"alarm:{alarm.code}")
        if ready.proposals or ready.reads or ready.role_changed is not None:
            self.front.done(ready)
        if ready.pieces:
            for piece in ready.pieces:
                self._piece(node, piece)

    def _tell_applied(self, node: Node, index: Index) -> None:
        promotion = node.promotion
        if promotion is not None and promotion[1] == "replaying":
            self.dirs.replayed(index)
        else:
            self._events.append(Applied(index))

    def _transmit(self, node: Node, send: Send) -> None:
        self._checker.transmitting(self, node, send)
        self.cluster.carry(self, node, send.to, send.channel, send.message)

    def _persisted(self, write: Persist) -> None:
        boots = self.boots

        def tell() -> None:
            node = self.node
            if boots != self.boots or node is None:
                return
            if self._held:
                held, self._held = self._held, []
                for send in held:
                    if send.after <= write.seq:
                        self._transmit(node, send)
                    else:
                        self._held.append(send)
            self.step(Persisted(write.seq))

        self.when_awake(tell)

    def receive(self, message: Message, boots: int) -> None:
        """A message arrived over a connection that this boot accepted."""
        if boots == self.boots and self.node is not None:
            if not self.paused_until and self.running:
                self.step(Receive(message))
                return
            self.when_awake(lambda: self.step(Receive(message)) if boots == self.boots else None)

    def peer(self, member_id: NodeId, up: bool) -> None:
        """A connection to that member came or went."""
        if self.node is not None and member_id != self.member_id and member_id:
            event = PeerConnected(member_id) if up else PeerDisconnected(member_id)
            boots = self.boots
            self.when_awake(lambda: self.step(event) if boots == self.boots else None)

    # --- state --------------------------------------------------------------------------------------------------

    def _apply(self, entry: Entry) -> None:
        if self.replica is None or entry.index != self.meta.index + 1:
            raise InvariantViolation(f"host {self.number} applies {entry.index} at {self.meta.index}")
        outcome = self.replica.apply(entry)
        configuration, at = self.meta.configuration, self.meta.configuration_index
        if entry.kind is CONFIG:
            configuration, at = decode_configuration(entry.payload), entry.index
        levels = self.meta.levels
        if entry.kind is GATE:
            levels = fold(levels, entry.index, decode_gate(entry.payload))
        self.meta = Base(entry.index, entry.term, configuration, at, levels)
        self._sealed.append((self.meta, self.replica.seal()))
        if entry.index == self._cut_at:
            self._make(self.boots, self._cut_at)
        self.cluster.checker.applied(self, entry, outcome)
        self.front.applied(entry, outcome)

    def store_state(self) -> None:
        """Give the state store what is applied and durable in the journal."""
        if self.disk is None or self.state is None or self.node is None:
            return
        durable = self.disk.durable_index
        writes: dict[bytes, bytes | None] = {}
        meta: Base | None = None
        while self._sealed and self._sealed[0][0].index <= durable:
            meta, generation = self._sealed.popleft()
            writes.update(generation)
        if meta is not None:
            self.state.write(meta, writes)

    def _flush(self) -> None:
        state, boots = self.state, self.boots
        if self.node is None:
            return
        if state is None:
            self.step(StorageReport(Index(0), self.law.free_bytes, self.cluster.mix.sync_ns))
            return
        upto = state.stored

        def done() -> None:
            if boots == self.boots and state is self.state and self.law.reads_state(whole=False):
                state.flush(upto)
                sync = self.cluster.mix.sync_ns
                self.step(StorageReport(state.flushed_meta.index, self.law.free_bytes, sync))

        self.cluster.scheduler.after(5_000_000, lambda: self.when_awake(done) if boots == self.boots else None)

    # --- snapshots ----------------------------------------------------------------------------------------------

    def _piece(self, node: Node, piece: Piece) -> None:
        match piece:
            case ServePiece():
                self._serve(node, piece)
            case StorePiece():
                if blake2b(piece.data, digest_size=32).digest() != piece.digest:
                    self._events.append(PieceRefused(piece.last_index, piece.number, "digest"))
                    return
                self.pieces[(piece.last_index, piece.number)] = self.law.stored(piece.data)
                self._events.append(PieceStored(piece.last_index, piece.number))
            case BeginPieces():
                self._begin_pieces(piece.snapshot)
            case InstallPieces():
                boots, snapshot = self.boots, piece.snapshot
                delay = int(20_000_000 * (0.5 + self.draw.random()))
                self.cluster.scheduler.after(delay, lambda: self.when_awake(lambda: self._install(boots, snapshot)))
            case MakeSnapshot() if piece.exact:
                self._cut_at = piece.index_min
                if self.meta.index == piece.index_min:
                    self._make(self.boots, piece.index_min)
            case MakeSnapshot():
                boots = self.boots
                delay = int(30_000_000 * (0.5 + self.draw.random()))
                self.cluster.scheduler.after(delay, lambda: self.when_awake(lambda: self._make(boots)))

    def _serve(self, node: Node, piece: ServePiece) -> None:
        chunks = self._images.get(piece.last_index, ())
        found = piece.number < len(chunks)
        if self.disk is None or not self.law.reads_chunk(found):
            return
        # A term that is durable: the node's own may not be yet (S2, seed 102).
        term = self.disk.surely_hard_state.term
        header = Header(self.cluster.cluster_id, self.member_id, piece.to, term, 1, 1)
        data = chunks[piece.number] if found else b""
        reply = FetchPieceReply(header, piece.last_index, piece.number, found, data)
        self.cluster.carry(self, node, piece.to, 1, reply)

    def _begin_pieces(self, snapshot: InstallSnapshot) -> None:
        """Keep what is there of this snapshot, throw the rest away, say which chunks are held."""
        at = snapshot.last_index
        for index, number in sorted(self.pieces):
            good = index == at and number < len(snapshot.chunk_digests)
            digest = blake2b(self.pieces[(index, number)], digest_size=32).digest()
            if not good or digest != snapshot.chunk_digests[number]:
                del self.pieces[(index, number)]
        self._events.append(PiecesHeld(at, tuple(number for _, number in sorted(self.pieces))))

    def _offer_image(self) -> None:
        """At boot: the snapshot on the disk, if it still joins the log."""
        image, disk = self._own_image, self.disk
        if image is None or disk is None or self.replica is None:
            return
        if image[0].index >= disk.store.base.index:
            self._ready_to_serve(*image)

    def _ready_to_serve(self, meta: Base, chunks: tuple[bytes, ...]) -> None:
        self._images = {meta.index: chunks}
        self._own_image = (meta, chunks)
        digests = tuple(blake2b(chunk, digest_size=32).digest() for chunk in chunks)
        where = (meta.configuration, meta.configuration_index, meta.levels)
        self.step(SnapshotReady(meta.index, meta.term, *where, digests, sum(map(len, chunks))))

    def _make(self, boots: int, exact: int = 0) -> None:
        if boots != self.boots or self.replica is None or not self.law.reads_state(whole=True):
            return
        chunks = chunks_of(self.replica.contents())
        meta = self.meta
        self.cluster.checker.snapshot(self, meta.index, chunks)
        self.cluster.count("snapshot made at a named index" if exact else "snapshot made")
        if not exact:
            self.step(SnapshotCut(meta.index))

        def ready() -> None:
            if boots == self.boots and self.replica is not None:
                self._ready_to_serve(meta, chunks)

        self.cluster.scheduler.after(5_000_000, lambda: self.when_awake(ready))

    def _install(self, boots: int, snapshot: InstallSnapshot) -> None:
        if boots != self.boots or self.state is None or self.node is None or self.node.fetching is not snapshot:
            return
        damaged = self.law.damaged_piece(snapshot)
        if damaged is not None:
            self.step(PieceRefused(snapshot.last_index, damaged, "damaged on this disk"))
            return
        count = len(snapshot.chunk_digests)
        chunks = [self.pieces[(snapshot.last_index, number)] for number in range(count)]
        contents = contents_of(chunks)
        place = (snapshot.configuration, snapshot.configuration_index, snapshot.levels)
        meta = Base(snapshot.last_index, snapshot.last_term, *place)
        if meta.index > self.meta.index:
            self.state = self.dirs.replaced(contents, meta)
            self.meta = meta
            self._sealed.clear()
            self.replica = self.cluster.application.replica(dict(contents), meta.index, meta.term)
            self.front.restored()
            self.cluster.checker.installed(self, meta.index)
            self.cluster.count("snapshot installed")
        self.pieces.clear()
        stamp = self._cluster_time()
        self.step(SnapshotInstalled(meta.index, meta.term, Nanos(stamp)))
