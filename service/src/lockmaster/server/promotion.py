"""What the core asks of a state in a role change, done: a side state built, finished, adopted; a state dropped.

Source: raft.md §4, docs/consensus.md. Everything slow is in threads while the node goes on voting and acking. The
actions are done one after the other, in the order that the core gave them; what a drop has overtaken is not begun, and
what was under way is not answered. Crash-safe at every arrow by what storage/side.py states.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from lockmaster_raft import events, ready
from lockmaster_raft.errors import InvariantViolation

from lockmaster.server.snapshots import opened
from lockmaster.storage.snapshot import ChunkRefused

if TYPE_CHECKING:
    from lockmaster.server.runtime import Engine
    from lockmaster.server.snapshots import SnapshotHost

LOG: Final = logging.getLogger("lockmaster.server")
ACTIONS_WAITING_MAX: Final = 64
"""A promotion has four actions at most, and the core begins no other before its end."""


class PromotionHost:
    """One per node; on the loop's thread."""

    def __init__(self, engine: Engine, snapshots: SnapshotHost) -> None:
        self.promoted = 0
        self.dropped = 0
        self._engine = engine
        self._snapshots = snapshots
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, ready.StateAction]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._generation = 0
        """Rises with every drop: what was asked for before one is void."""

    def perform(self, action: ready.StateAction) -> None:
        """Begin what the core asks. From a drop on nothing is applied or served, before anything is removed."""
        if len(self._waiting) >= ACTIONS_WAITING_MAX:
            raise InvariantViolation(f"{ACTIONS_WAITING_MAX} changes of the state wait to be done")
        if isinstance(action, ready.DropState):
            self._generation += 1
            self._engine.applier.dropped()
            self._snapshots.dropped()
        self._waiting.append((self._generation, action))
        if self._worker is None:
            self._worker = self._loop.create_task(self._work(), name="promotion")

    async def _work(self) -> None:
        try:
            while self._waiting:
                generation, action = self._waiting.popleft()
                match action:
                    case ready.OpenSide():
                        await self._open(generation, action)
                    case ready.FinishSide():
                        await self._finish(generation, action.epoch)
                    case ready.AdoptSide():
                        await self._adopt(action.epoch)
                    case ready.DropState():
                        await self._drop()
        except Exception as error:
            self._engine.fail(error)
        finally:
            self._worker = None

    async def _open(self, generation: int, action: ready.OpenSide) -> None:
        """P3: the state from its chunks, verified, flushed, synced, open at the snapshot's index."""
        engine, index, term = self._engine, action.snapshot.last_index, action.snapshot.last_term
        directory = engine.directory
        async with engine.keeper.exclusive:
            if generation != self._generation:
                return
            writer = self._snapshots.writer_for(index)
            if writer is None:
                raise InvariantViolation(f"a side state is to be built of snapshot {index}, which is not being fetched")
            if directory.store is not None:  # an earlier one of this promotion, that an anchor has overtaken
                engine.applier.dropped()
                earlier = directory.detach_state()
                await self._snapshots.in_thread(directory.erase_states, earlier)
            try:
                await self._snapshots.in_thread(writer.build_side, action.epoch)
            except ChunkRefused as error:
                engine.step(events.PieceRefused(index, writer.damaged, str(error)))
                return
            if generation != self._generation:
                return  # the drop that follows removes it
            store, machine = await self._snapshots.in_thread(opened, directory.open_side, action.epoch, index, term)
            if generation != self._generation:
                await self._snapshots.in_thread(store.close)
                return
            directory.attach_state(store, side_epoch=action.epoch)
            self._snapshots.fetched(writer)
        engine.applier.installed(machine)
        LOG.info("promotion %d: the side state is open at index %d", action.epoch, index)
        engine.step(events.SideOpened(action.epoch, index))
        engine.state_moved()

    async def _finish(self, generation: int, epoch: int) -> None:
        """P3's end: flushed, and `sm_ready` says so."""
        engine = self._engine
        async with engine.keeper.exclusive:
            if generation != self._generation or engine.directory.side_epoch != epoch:
                return
            index = await self._snapshots.in_thread(engine.directory.finish_side, epoch)
            if generation != self._generation:
                return
        LOG.info("promotion %d: the side state is ready at index %d", epoch, index)
        engine.step(events.SideReady(epoch, index))

    async def _adopt(self, epoch: int) -> None:
        """P4: the side state is the own one."""
        engine = self._engine
        async with engine.keeper.exclusive:
            adopted = await self._snapshots.in_thread(engine.directory.adopt_side, epoch)
        if adopted:
            self.promoted += 1
            LOG.info("promotion %d is done: this member is full", epoch)

    async def _drop(self) -> None:
        """D2 or an abort: no state, no side directory, no chunk."""
        engine = self._engine
        async with engine.keeper.exclusive:
            detached = engine.directory.detach_state()
            await self._snapshots.in_thread(engine.directory.erase_states, detached)
        self.dropped += 1
        LOG.info("the state is removed: this member is a witness")

    async def close(self) -> None:
        """Wait for what runs; begin nothing more."""
        self._waiting.clear()
        if self._worker is not None:
            await asyncio.wait({self._worker})
