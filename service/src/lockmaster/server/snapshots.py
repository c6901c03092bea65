"""Snapshots as the host sees them: made, served chunk by chunk, fetched, switched in. All slow work is in threads.

One snapshot is made, and one fetched, at a time. The state store is held (keeper.exclusive) from the cut to the
checkpoint and during the switch; heartbeats, commits and applying go on while one is made, and stop being applied
while one is switched in. A snapshot of the state at an index that the leader has named (so that its chunks can be had
here, too) makes applying wait at that index until the store can be held, HOLD_TIMEOUT at most.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lockmaster_raft import events, ready
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.membership import LEVEL_MIN
from lockmaster_raft.messages import FetchPieceReply, Header, InstallSnapshot

from lockmaster.statemachine.apply import StateMachine
from lockmaster.storage.errors import ChildNotStarted, StorageFailed
from lockmaster.storage.snapshot import (
    ChunkRefused,
    Snapshot,
    SnapshotWriter,
    fetched_paths,
    latest_snapshot,
    let_all_go,
    make_snapshot,
)
from lockmaster.storage.state import StateStore

if TYPE_CHECKING:
    from lockmaster.server.runtime import Engine

LOG: Final = logging.getLogger("lockmaster.server")
CUT_TIMEOUT: Final = 30.0
"""Seconds that a cut waits for the own log to be durable up to it; then the attempt is given up."""
HOLD_TIMEOUT: Final = 2.0
"""Seconds that applying waits for the cut at a named index; then there is no snapshot of it here."""
PIECES_WAITING_MAX: Final = 64
"""Most chunk reads and writes that wait; more are not begun (the asker asks again at its deadline)."""

T = TypeVar("T")


def opened(open_state: Callable[..., StateStore], *arguments: Any) -> tuple[StateStore, StateMachine]:
    """A state with its machine, to be attached. Opening syncs, and the machine reads: blocks, call it in a thread."""
    store = open_state(*arguments)
    return store, StateMachine(store)


class SnapshotHost:
    """One per node."""

    def __init__(self, engine: Engine) -> None:
        self.made = 0
        self.installed = 0
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._own: Snapshot | None = None
        self._writer: SnapshotWriter | None = None
        self._writer_index = 0
        self._making: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pieces = ThreadPoolExecutor(1, "lockmaster-pieces")

    @property
    def own(self) -> Snapshot | None:
        """The snapshot that is served; None: there is none."""
        return self._own

    def forget(self, own: Snapshot) -> None:
        """It is damaged: serve it no more, so that the next one is made anew."""
        if self._own is own:
            self._own = None

    def offer_existing(self) -> None:
        """At boot: tell the node of the newest snapshot on disk, if it still joins the log."""
        let_all_go(self._engine.directory)
        if self._engine.directory.side_epoch is not None:  # whole: what it was built of may be left from before
            self._remove(fetched_paths(self._engine.directory))
        if self._engine.directory.store is None:
            return
        own = latest_snapshot(self._engine.directory)
        if own is not None and own.base.index >= self._engine.directory.journal.base.index:
            self._offer(own)

    def _offer(self, own: Snapshot) -> None:
        self._own = own
        base = own.base
        self._engine.step(
            events.SnapshotReady(
                base.index,
                base.term,
                base.configuration,
                base.configuration_index,
                base.levels,
                own.digests,
                own.bytes_total,
            )
        )

    def perform(self, piece: ready.Piece) -> None:
        """Do what the core asks, off the loop's thread where it takes long."""
        if isinstance(piece, ready.MakeSnapshot):
            if piece.exact:
                self._make_at(piece.index_min)
            else:
                self.make(piece.index_min)
        elif isinstance(piece, ready.BeginPieces):
            self._writer = None
            self._start(self._begin(piece.snapshot))
        elif isinstance(piece, ready.InstallPieces):
            self._start(self._install(piece))
        elif len(self._tasks) >= PIECES_WAITING_MAX:
            if isinstance(piece, ready.StorePiece):
                self._loop.call_soon(
                    self._engine.step, events.PieceRefused(piece.last_index, piece.number, "too many pieces wait")
                )
        elif isinstance(piece, ready.ServePiece):
            self._start(self._serve(piece))
        else:
            self._start(self._store(piece))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._engine.fail(error)

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run it in the one thread that reads, stores and removes chunks: these never overtake each other."""
        return await self._loop.run_in_executor(self._pieces, call, *arguments)

    # -- making and serving

    def make(self, index_min: int = 0) -> asyncio.Task[None]:
        """Make one now, at or above this index, unless one is being made."""
        if self._making is None or self._making.done():
            self._making = self._start(self._make(index_min))
        return self._making

    def _make_at(self, index: int) -> None:
        """Make one of the state at this very index, unless it has passed it, or another one is being made."""
        applier = self._engine.applier
        if applier.applied <= index and (self._making is None or self._making.done()):
            applier.hold_at = index
            self._loop.call_later(HOLD_TIMEOUT, self._let_apply, index)
            self._making = self._start(self._make(index, exact=True))

    def _let_apply(self, index: int) -> None:
        """Applying waits at this index no longer."""
        applier = self._engine.applier
        if applier.hold_at == index:
            applier.hold_at = 0
            self._engine.state_moved()

    async def _make(self, index_min: int, *, exact: bool = False) -> None:
        engine = self._engine
        directory, keeper, applier = engine.directory, engine.keeper, engine.applier
        patience = self._loop.time() + (HOLD_TIMEOUT if exact else CUT_TIMEOUT)
        while applier.applied < index_min and self._loop.time() < patience and not engine.stopping:
            await asyncio.sleep(0.01)  # a promotion's must know of it: P1 is committed, but not applied here yet
        async with keeper.exclusive:
            state = directory.store
            missed = engine.stopping or (exact and applier.applied != index_min)
            if missed or state is None or applier.machine is None:
                self._let_apply(index_min)
                return
            cut = state.cut()
            if exact:
                self._let_apply(index_min)
            else:
                engine.step(events.SnapshotCut(cut))
            stop = self._loop.time() + CUT_TIMEOUT
            while state.applied_stored < cut:  # ends: CUT_TIMEOUT
                if not state.store(directory.journal.durable_index) and state.applied_stored < cut:
                    await asyncio.sleep(0.01)
                else:
                    await asyncio.sleep(0)
                if self._loop.time() > stop or engine.stopping or applier.installing or applier.machine is None:
                    state.release()
                    return
            at, configuration = engine.node.configuration_at(cut)
            base = ready.Base(cut, state.applied_term, configuration, at, engine.node.levels_at(cut))
            try:
                own = await self._loop.run_in_executor(None, make_snapshot, directory, base)
            except ChildNotStarted as error:  # who needs a snapshot asks again
                engine.raise_alarm(ready.Alarm("child_not_started", str(error)))
                return
            engine.alarms.pop("child_not_started", None)
        self.made += 1
        LOG.info("snapshot at index %d: %d bytes in %d chunks", base.index, own.bytes_total, len(own.digests))
        keeper.report()
        self._offer(own)

    async def _serve(self, piece: ready.ServePiece) -> None:
        own, data = self._own, None
        if own is not None and own.base.index == piece.last_index:
            try:
                data = await self.in_thread(own.read_chunk, piece.number)
            except StorageFailed:
                if os.path.exists(own.path):
                    raise
                data = None  # replaced by a newer snapshot meanwhile, or dropped
        engine = self._engine
        if engine.is_blank:
            return
        levels = (LEVEL_MIN, engine.settings.level_max)
        header = Header(engine.cluster_id, NodeId(engine.member_id), piece.to, Term(engine.term), *levels)
        reply = FetchPieceReply(header, piece.last_index, piece.number, data is not None, data or b"")
        engine.send(piece.to, reply, ready.Channel.BULK)

    # -- fetching and installing

    @property
    def progress(self) -> float:
        """Share of the snapshot being fetched that is stored, 0.0 to 1.0; 1.0 when none is."""
        offer = self._engine.node.fetching
        if offer is None:
            return 1.0
        held = len(self._writer.held) if self._writer is not None and self._writer_index == offer.last_index else 0
        return held / max(1, len(offer.chunk_digests))

    def writer_for(self, last_index: Index) -> SnapshotWriter | None:
        """What holds the chunks of the snapshot being fetched; None if that is another one."""
        return self._writer if self._writer is not None and self._writer_index == last_index else None

    def _wants(self, offer: InstallSnapshot) -> bool:
        now = None if self._engine.is_blank else self._engine.node.fetching
        return now is not None and (now.last_index, now.chunk_digests) == (offer.last_index, offer.chunk_digests)

    async def _begin(self, offer: InstallSnapshot) -> None:
        """Say which chunks of this snapshot are here; those of any other one go."""
        if not self._wants(offer):
            return
        base = ready.Base(
            offer.last_index, offer.last_term, offer.configuration, offer.configuration_index, offer.levels
        )
        writer = SnapshotWriter(self._engine.directory, base, offer.chunk_digests, offer.bytes_total)
        held = await self.in_thread(writer.resume)
        if not self._wants(offer):
            await self.in_thread(writer.discard)
            return
        self._writer, self._writer_index = writer, offer.last_index
        if held:
            LOG.info(
                "snapshot at index %d: %d of %d chunks are here", offer.last_index, len(held), len(offer.chunk_digests)
            )
        self._engine.step(events.PiecesHeld(offer.last_index, tuple(sorted(held))))

    async def _store(self, piece: ready.StorePiece) -> None:
        writer = self.writer_for(piece.last_index)
        if writer is None:
            self._engine.step(events.PieceRefused(piece.last_index, piece.number, "its snapshot is not being fetched"))
            return
        try:
            await self.in_thread(writer.store_chunk, piece.number, piece.data)
        except ChunkRefused as error:
            self._engine.step(events.PieceRefused(piece.last_index, piece.number, str(error)))
            return
        self._engine.step(events.PieceStored(piece.last_index, piece.number))

    async def _install(self, piece: ready.InstallPieces) -> None:
        engine, offer = self._engine, piece.snapshot
        writer = self.writer_for(offer.last_index)
        if writer is None:
            raise RuntimeError(f"snapshot {offer.last_index} is to be installed without its chunks")
        applier = engine.applier
        applier.installing = True
        async with engine.keeper.exclusive:
            await self.in_thread(writer.build)
            store, machine = await self.in_thread(opened, writer.switch)
            before = engine.directory.attach_state(store)
            if self._writer is writer:
                self._writer = None
            applier.installed(machine)
            self.installed += 1
            LOG.info("snapshot at index %d installed: %d bytes", offer.last_index, offer.bytes_total)
            engine.step(events.SnapshotInstalled(offer.last_index, offer.last_term, Nanos(machine.cluster_time)))
            engine.state_moved()
            await self.in_thread(engine.directory.remove_replaced, before)

    def fetched(self, writer: SnapshotWriter) -> None:
        """A side state was built of this one's chunks."""
        if self._writer is writer:
            self._writer = None
        self._start(self.in_thread(writer.discard))
        self.installed += 1

    def dropped(self) -> None:
        """The state is gone: its snapshots and the chunks on their way are, too."""
        own, self._own, self._writer = self._own, None, None
        # Those of now: a promotion that begins before they are gone fetches another snapshot, at another address.
        self._remove([*fetched_paths(self._engine.directory), *([own.path] if own is not None else [])])

    def _remove(self, paths: list[str]) -> None:
        for path in paths:
            self._start(self.in_thread(self._engine.directory.files.remove_tree, path))

    async def close(self) -> None:
        """Wait for what runs; begin nothing more."""
        while self._tasks:  # ends: the engine steps no more, so nothing new is begun
            await asyncio.gather(*self._tasks)
        await self._loop.run_in_executor(None, self._pieces.shutdown)
