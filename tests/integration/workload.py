"""A load on a real cluster that records every operation, and what must be true of the record afterwards.

Each worker is a task of its own client session: it takes and releases locks, writes keys with values never written
twice, and reads them. A call that ended without an answer is recorded as unknown, never as failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from lockmaster import AsyncClient, Indeterminate, LockmasterError, LockTimeout, SessionExpired
from lockmaster.client.watching import Change
from lockmaster.testing import linearizability
from lockmaster.testing.history import Operation

NAMESPACE = "load"


@dataclass(slots=True)
class Write:
    """A put of a value written once. `revision` 0: the outcome is unknown."""

    key: str
    value: bytes
    called: int
    returned: int = 0
    revision: int = 0


@dataclass(slots=True)
class Read:
    """A linearizable get that was answered: the mod revision it saw, 0 for no key."""

    key: str
    called: int
    returned: int
    revision: int
    value: bytes


@dataclass(slots=True)
class Hold:
    """A lock that was granted; `released` 0: the release's outcome is unknown or it never came."""

    name: str
    token: int
    called: int
    granted: int
    release_called: int = 0
    released: int = 0


@dataclass(slots=True)
class Record:
    """All that happened."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    sessions_lost: int = 0

    @property
    def acknowledged(self) -> list[Write]:
        """The writes that were answered with a revision."""
        return [write for write in self.writes if write.revision]


def now() -> int:
    """The one clock of a record."""
    return time.monotonic_ns()


class Load:
    """Workers on a cluster, from `start` to `stop`."""

    def __init__(
        self,
        endpoints: str,
        *,
        workers: int = 6,
        keys: int = 3,
        ttl: float = 15.0,
        tag: str = "",
        put_seconds: float = 60.0,
        lock_seconds: float = 30.0,
    ) -> None:
        """`tag` begins the names of keys and locks: one for each load where several come upon one cluster.

        A call that is not answered within its seconds is an error of the record: let them be longer than a test blocks.
        """
        self.record = Record()
        self._tag = tag
        self._endpoints, self._workers, self._keys, self._ttl = endpoints, workers, keys, ttl
        self._put_seconds, self._lock_seconds = put_seconds, lock_seconds
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts the workers and waits until each has done something."""
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(self._workers)]
        await self.progress(self._workers, 30.0)

    async def progress(self, writes: int, seconds: float) -> None:
        """Waits until that many more writes are acknowledged. TimeoutError after `seconds`."""
        target = len(self.record.acknowledged) + writes
        async with asyncio.timeout(seconds):
            while len(self.record.acknowledged) < target:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    async def stop(self) -> Record:
        """Lets every worker end its round; raises what a worker raised."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        return self.record

    async def _work(self, worker: int) -> None:
        count = 0
        while not self._stopping:
            try:
                async with AsyncClient(
                    self._endpoints,
                    insecure=True,
                    ttl=self._ttl,
                    operation_timeout=self._put_seconds,
                    label=f"worker-{worker}",
                ) as client:
                    while not self._stopping:
                        count += 1
                        await self._round(client, worker, count)
            except SessionExpired:
                self.record.sessions_lost += 1
            except LockmasterError as error:
                self.record.errors.append(f"{type(error).__name__}: {error}")

    async def _round(self, client: AsyncClient, worker: int, count: int) -> None:
        key = f"{self._tag}key-{(worker + count) % self._keys}"
        await self._write(client, key, f"{worker}/{count}".encode())
        called = now()
        item = await client.config(NAMESPACE).get(key)
        revision, value = (item.revision, item.value) if item is not None else (0, b"")
        self.record.reads.append(Read(key, called, now(), revision, value))
        await self._hold(client, f"{self._tag}lock-{(worker + count) % self._keys}")

    async def _write(self, client: AsyncClient, key: str, value: bytes) -> None:
        write = Write(key, value, now())
        self.record.writes.append(write)
        try:
            write.revision = await client.config(NAMESPACE).put(key, value)
            write.returned = now()
        except Indeterminate:
            self.record.errors.append("Indeterminate put")

    async def _hold(self, client: AsyncClient, name: str) -> None:
        called = now()
        try:
            held = await client.lock(name, timeout=self._lock_seconds).acquire()
        except LockTimeout:
            return
        hold = Hold(name, held.fencing_token, called, now())
        self.record.holds.append(hold)
        hold.release_called = now()
        await held.release()
        hold.released = now()


async def whole_history(client: AsyncClient, key: str) -> list[Change]:
    """Every change of a key, oldest first."""
    changes: list[Change] = []
    before = 0
    for _ in range(1000):
        page = await client.config(NAMESPACE).history(key, limit=1000, before=before)
        changes += page
        if not page:
            break
        before = page[-1].revision
    return changes[::-1]


async def check(client: AsyncClient, record: Record) -> None:
    """Everything that must hold of a record, against the cluster's own history. AssertionError names the culprit."""
    for key in sorted({write.key for write in record.writes}):
        stored = {change.revision: change.item.value for change in await whole_history(client, key)}
        writes = [write for write in record.writes if write.key == key]
        values = list(stored.values())
        assert len(values) == len(set(values)), f"{key}: a write was executed twice"
        for write in writes:
            if write.revision:
                assert stored.get(write.revision) == write.value, f"acknowledged write lost: {write}"
        known = {write.value for write in writes}
        assert set(values) <= known, f"{key}: values nobody wrote: {set(values) - known}"
    report = linearizability.check(list(operations(record)))
    assert report.ok, "\n".join(report.lines())


async def ended_well(load: Load, endpoints: str) -> Record:
    """Ends the load and checks all of it against the cluster; nothing that its workers met may be an error."""
    record = await load.stop()
    async with AsyncClient(endpoints, insecure=True) as client:
        await check(client, record)
    assert record.errors == []
    return record


def operations(record: Record) -> Iterator[Operation]:
    """The record as the checkers want it (lockmaster.testing.history)."""
    for number, write in enumerate(record.writes):
        revision = write.revision or None
        returned = write.returned if revision else None
        value = write.value.decode()
        yield Operation(f"w{number}", "put", write.key, write.called, returned, value=value, revision=revision)
    for number, read in enumerate(record.reads):
        value_seen = read.value.decode() if read.revision else None
        yield Operation(
            f"r{number}", "get", read.key, read.called, read.returned, value=value_seen, revision=read.revision
        )
    for number, hold in enumerate(record.holds):
        process = f"h{number}"
        yield Operation(process, "acquire", hold.name, hold.called, hold.granted, token=hold.token)
        if hold.release_called:
            returned = hold.released or None
            yield Operation(process, "release", hold.name, hold.release_called, returned, token=hold.token)
