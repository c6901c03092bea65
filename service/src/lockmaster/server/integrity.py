"""Does what lies on this member's disk still say what it said, and do all full replicas say the same?

Two watches. The scrub (storage/scrub.py) re-reads journal and state at rest, in a child process, every
`scrub_interval_s`. And members tell each other the state hash at every index of the hash grid (I14: equal applied
index, equal hash); whoever applied the same index compares.

What follows. Damage found by the scrub ends the process with the exit code of damaged data (service.md §5: a member
that cannot trust its disk stops and says so). Hashes that differ are an alarm on every member that sees it; a member
against which more than half of the full members agree with each other is the wrong one, and ends in the same way.
Where no such majority is, nobody can tell who is wrong: the alarm stays, and all go on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from lockmaster_raft.ids import NodeId, Term
from lockmaster_raft.membership import LEVEL_MAX, LEVEL_MIN, MemberRole
from lockmaster_raft.messages import Header
from lockmaster_raft.ready import Alarm, Channel

from lockmaster.server.peers.codec import HASHES_MAX, StateHashes
from lockmaster.server.tasks import end_task
from lockmaster.storage.child import last_line, start_child
from lockmaster.storage.errors import EXIT_CORRUPT, ChildNotStarted, CorruptLog, StorageFailed
from lockmaster.storage.snapshot import SNAPSHOTS_NAME

if TYPE_CHECKING:
    from lockmaster.server.runtime import Engine

LOG: Final = logging.getLogger("lockmaster.server")
EXCHANGE_INTERVAL: Final = 1.0
"""Seconds between two looks at the own hashes."""
KEPT_PER_MEMBER: Final = 256
"""Most hashes kept of each member: what a member that lags by more has missed is not compared."""
PUT_OFF_S: Final = 60.0
"""Seconds until a scrub for which no process could be started is tried again."""
FIRST_SCRUB_SHARE: Final = (0.05, 0.5)
"""The first scrub comes after a drawn share of the interval, so that members don't scrub at once."""


def in_the_minority(mine: int, theirs: Collection[int], full_count: int) -> bool:
    """Do more than half of `full_count` members agree on a hash that is not mine? Pure."""
    counts = Counter(theirs)
    return any(count * 2 > full_count for found, count in counts.items() if found != mine)


class Integrity:
    """One per node; on the loop's thread."""

    def __init__(self, engine: Engine) -> None:
        self.compared = 0
        """(member, index) pairs whose hashes were equal."""
        self.scrubs = 0
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._own: dict[int, int] = {}
        self._theirs: dict[int, dict[int, int]] = {}
        self._told = 0
        self._in_thread: asyncio.Future[None] | None = None
        self._checkpoint = f"{engine.directory.path}/{SNAPSHOTS_NAME}/scrub"
        engine.directory.files.remove_tree(self._checkpoint)  # what a scrub left that was killed with its member
        self._timer = self._loop.call_later(EXCHANGE_INTERVAL, self._exchange)
        self._task: asyncio.Task[None] | None = None
        if engine.settings.scrub_interval_s:
            self._task = self._loop.create_task(self._scrub_for_ever(), name="scrub")

    # -- hashes

    def _exchange(self) -> None:
        self._timer = self._loop.call_later(EXCHANGE_INTERVAL, self._exchange)
        store = self._engine.directory.store
        fresh = [pair for pair in store.grid_hashes if pair[0] > self._told][-HASHES_MAX:] if store is not None else []
        if not fresh or not self._engine.serves_state:
            return
        self._told = fresh[-1][0]
        self._own.update(fresh)
        _keep_newest(self._own)
        engine = self._engine
        for member_id in self._others():
            header = Header(engine.cluster_id, NodeId(engine.member_id), member_id, Term(engine.term), *_LEVELS)
            engine.send(member_id, StateHashes(header, tuple(fresh)), Channel.BULK)
        for index, _ in fresh:
            self._compare(index)

    def _others(self) -> list[NodeId]:
        members = self._engine.node.configuration.members
        mine = self._engine.member_id
        return [m.member_id for m in members if m.role is MemberRole.FULL and m.member_id != mine]

    def told(self, message: StateHashes) -> None:
        """Another member's hashes."""
        sender = message.header.sender
        if sender not in self._others():
            return
        known = self._theirs.setdefault(sender, {})
        known.update(message.hashes)
        _keep_newest(known)
        for index, _ in message.hashes:
            self._compare(index)

    def _compare(self, index: int) -> None:
        mine = self._own.get(index)
        if mine is None:
            return
        others = self._others()
        theirs = {i: self._theirs[i][index] for i in others if index in self._theirs.get(i, {})}
        different = sorted(i for i, found in theirs.items() if found != mine)
        self.compared += len(theirs) - len(different)
        if not different:
            return
        text = f"at entry {index} this member's state hash is {mine:016x}, unlike that of {different}"
        if "state_diverged" not in self._engine.alarms:  # one line, not one per index from here on
            self._engine.raise_alarm(Alarm("state_diverged", text))
        if in_the_minority(mine, theirs.values(), len(others) + 1):
            path = self._engine.directory.state.path
            self._engine.fail(CorruptLog(f"{path}: {text}, which agree; wipe this member and let it join anew"))

    # -- the scrub

    async def _scrub_for_ever(self) -> None:
        interval = self._engine.settings.scrub_interval_s
        await asyncio.sleep(interval * random.uniform(*FIRST_SCRUB_SHARE))
        while True:
            wait = interval
            try:
                await self.scrub()
            except ChildNotStarted as error:
                self._engine.raise_alarm(Alarm("child_not_started", str(error)))
                wait = min(interval, PUT_OFF_S)
            except Exception as error:
                self._engine.fail(error)
                return
            await asyncio.sleep(wait)

    async def scrub(self) -> None:
        """One pass over journal and state. Raises StorageFailed or CorruptLog for what it finds, ChildNotStarted."""
        engine = self._engine
        directory, checkpoint = engine.directory, self._checkpoint
        async with engine.keeper.exclusive:
            state = directory.store
            if engine.applier.installing or (state is not None and not state.applied_stored):
                return
            # A witness's journal is all that there is to read: its checkpoint is an empty directory.
            copy = directory.checkpoint if state is not None else directory.files.make_dir
            self._in_thread = self._loop.run_in_executor(None, copy, checkpoint)
            await asyncio.shield(self._in_thread)
        started = self._loop.time()
        try:
            found = await self._run_child(checkpoint, json.dumps(directory.journal.closed_segments()))
        finally:
            directory.files.remove_tree(checkpoint)  # some dozens of hard links
        self.scrubs += 1
        self._engine.alarms.pop("child_not_started", None)
        LOG.info("scrub: %s in %.1f s, all of it as it was written", found, self._loop.time() - started)

    async def _run_child(self, checkpoint: str, segments: str) -> str:
        child = start_child("lockmaster.storage.scrub", checkpoint, str(self._engine.settings.scrub_bytes_per_s))
        try:
            out, errors = await self._loop.run_in_executor(None, child.communicate, segments.encode())
        finally:
            child.kill()  # nothing to one that has ended; the thread that waits for it ends with it
        if child.returncode:
            said = errors.decode(errors="replace").strip()
            line = f"scrub: its process ended with {child.returncode}: {last_line(said)}"
            raise CorruptLog(line) if child.returncode == EXIT_CORRUPT else StorageFailed(line)
        return out.decode().strip()

    async def close(self) -> None:
        """Stop both; waits for a checkpoint that is being made, which no cancellation reaches."""
        self._timer.cancel()
        if self._task is not None:
            await end_task(self._task)
        if self._in_thread is not None:
            await asyncio.wait({self._in_thread})
            self._engine.directory.files.remove_tree(self._checkpoint)


_LEVELS: Final = (LEVEL_MIN, LEVEL_MAX)


def _keep_newest(hashes: dict[int, int]) -> None:
    for index in sorted(hashes)[:-KEPT_PER_MEMBER]:
        del hashes[index]
