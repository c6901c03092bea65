"""Snapshots for people, and backups: a consistent archive of this member's state, streamed chunk by chunk.

A backup is a snapshot made after the call came, held under a name of its own while it is sent, behind the archive's
head (archive.py). The caller's barrier comes first, so everything acknowledged before the call is in it. Every chunk
is compared with its hash when it is read here, and again by whoever receives it. Memory: one chunk per backup.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from lockmaster.archive import Head, Manifest
from lockmaster.errors import NotFound, Overloaded, PreconditionFailed, Unavailable
from lockmaster.statemachine.records import META
from lockmaster.storage.errors import CorruptLog
from lockmaster.storage.frame import encode_base_body
from lockmaster.storage.snapshot import CHUNK_BYTES, Snapshot, hold, let_go, read_stream

if TYPE_CHECKING:
    from lockmaster.server.runtime import Engine

LOG: Final = logging.getLogger("lockmaster.server")
BACKUPS_MAX: Final = 2
"""Backups sent at the same time by one member; each holds a snapshot's room on the disk."""
ATTEMPTS_MAX: Final = 3
"""The first may end one that had begun before the call; one more may find its snapshot replaced."""
RETRY_AFTER_S: Final = 5.0


class Backups:
    """One per member; for the loop's thread. Errors are those a caller meets."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running = 0
        self._number = 0

    @property
    def own(self) -> Snapshot | None:
        """The snapshot that is there, if any."""
        snapshots = self._engine.snapshots
        return None if snapshots is None else snapshots.own

    async def make(self, index_min: int = 0) -> tuple[Snapshot, bool]:
        """(a snapshot at or above `index_min`, whether it had to be made); 0: what is applied now.

        PreconditionFailed if this member has not applied that much, Unavailable if it could not be made.
        """
        if self._engine.is_blank or not self._engine.applied_index:
            raise PreconditionFailed(f"this member has no state to make a snapshot of (it is {self._engine.role})")
        applied = self._engine.applied_index
        if index_min > applied:
            raise PreconditionFailed(f"index_min is {index_min}, but this member has applied {applied}")
        index_min = index_min or applied
        own, made = self.own, False
        for _ in range(ATTEMPTS_MAX):
            if own is not None and own.base.index >= index_min:
                return own, made
            await self._engine.make_snapshot()
            own, made = self.own, True
        raise Unavailable("no snapshot could be made: the log is not on this member's disk yet, or one is installed")

    async def verify(self, index: int = 0) -> Snapshot:
        """Read every chunk of the snapshot (0: of the one there is). NotFound; PreconditionFailed names the damage."""
        own = self.own
        if own is None or (index and own.base.index != index):
            raise NotFound(f"this member has no snapshot at {index}" if index else "this member has no snapshot")
        held = await self._hold(own)
        try:
            for number in range(len(held.digests)):
                await self._chunk(own, held, number)
        finally:
            await asyncio.shield(asyncio.to_thread(let_go, held))
        return own

    async def stream(self) -> AsyncGenerator[tuple[bytes, int]]:
        """(the archive's next bytes, its bytes in all) of everything applied here now. Overloaded above BACKUPS_MAX."""
        if self._running >= BACKUPS_MAX:
            raise Overloaded(f"{BACKUPS_MAX} backups are being sent by this member", RETRY_AFTER_S)
        self._running += 1
        try:
            own, held = await self._fresh()
            try:
                head = self._head(held, await self._chunk(own, held, 0)).encode()
                total = len(head) + held.bytes_total
                for at in range(0, len(head), CHUNK_BYTES):
                    yield head[at : at + CHUNK_BYTES], total
                for number in range(len(held.digests)):
                    yield await self._chunk(own, held, number), total
                LOG.info("backup at index %d sent: %d bytes", held.base.index, total)
            finally:
                await asyncio.shield(asyncio.to_thread(let_go, held))
        finally:
            self._running -= 1

    async def _fresh(self) -> tuple[Snapshot, Snapshot]:
        index = self._engine.applied_index
        for _ in range(ATTEMPTS_MAX):
            own, _ = await self.make(index)
            try:
                return own, await self._hold(own)
            except Unavailable:
                continue
        raise Unavailable("this member's snapshots were replaced faster than one could be held: try again")

    async def _hold(self, own: Snapshot) -> Snapshot:
        self._number += 1
        try:
            return await asyncio.to_thread(hold, own, self._number)
        except FileNotFoundError:
            raise Unavailable("the snapshot was just replaced by a newer one: try again") from None

    async def _chunk(self, own: Snapshot, held: Snapshot, number: int) -> bytes:
        """A chunk that is what its hash says. A damaged snapshot is forgotten, so the next one is made anew."""
        try:
            data = await asyncio.to_thread(held.read_chunk, number)
        except CorruptLog as error:
            LOG.error("snapshot at index %d: %s", own.base.index, error)
            if self._engine.snapshots is not None:
                self._engine.snapshots.forget(own)
            raise PreconditionFailed(
                f"chunk {number + 1} of {len(own.digests)} of this member's snapshot at {own.base.index} is damaged on "
                "its disk; run it again for a new one"
            ) from None
        if data is None:
            raise NotFound(f"the snapshot at {own.base.index} has no chunk {number}")
        return data

    def _head(self, held: Snapshot, first: bytes) -> Head:
        engine, base = self._engine, held.base
        _, records = read_stream(iter((first,)), held.bytes_total, base)
        _, meta = next(records)  # the meta record's prefix is the lowest there is
        manifest = Manifest(
            engine.cluster_id.hex(),
            int(time.time()),
            base.index,
            base.term,
            META.decode_value(meta).revision,
            base.levels.active,
            engine.settings.name,
            version("lockmaster"),
        )
        return Head(manifest, encode_base_body(base), held.digests, CHUNK_BYTES, held.bytes_total)
