"""Writes that flow during the demo: every acknowledged one is remembered, so that each can be checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lockmaster import AsyncClient
from lockmaster.errors import LockmasterError

NAMESPACE = "demo"
WRITERS = 8
PAUSE_SECONDS = 0.005
ACKNOWLEDGED_MAX = 100_000


@dataclass(slots=True)
class Traffic:
    """Writers of one client. `acknowledged` is {key: (value, revision)}; gaps are between successes of any writer."""

    client: AsyncClient
    acknowledged: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    unknown: int = 0
    refused: int = 0
    last_success: float = field(default_factory=time.monotonic)
    longest_gap: float = 0.0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stopping: bool = False

    def start(self) -> None:
        """Begins writing."""
        self._tasks = [asyncio.create_task(self._write(writer)) for writer in range(WRITERS)]

    async def stop(self) -> None:
        """Lets each writer finish what it has begun."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _write(self, writer: int) -> None:
        config = self.client.config(NAMESPACE)
        number = 0
        while not self._stopping and len(self.acknowledged) < ACKNOWLEDGED_MAX:
            key, value = f"writer-{writer}/{number:06d}", f"value {number} of writer {writer}".encode()
            try:
                revision = await config.put(key, value)
            except LockmasterError:
                self.unknown += 1
            else:
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - self.last_success)
                self.last_success = now
                self.acknowledged[key] = (value, revision)
            number += 1
            await asyncio.sleep(PAUSE_SECONDS)

    @staticmethod
    async def missing(reader: AsyncClient, acknowledged: Mapping[str, tuple[bytes, int]]) -> list[str]:
        """Of these writes, acknowledged before the call, those that a linearizable read does not find as they were."""
        stored = {item.key: (item.value, item.revision) for item in await reader.config(NAMESPACE).range("writer-")}
        return [key for key, wanted in acknowledged.items() if stored.get(key) != wanted]
