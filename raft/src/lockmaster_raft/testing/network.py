"""The network between hosts and clients: delay, loss, duplication, reorder, one-way and partial partitions, clogs.

Endpoints are small integers (hosts by number, clients above CLIENT_FIRST). Each (source, target, lane) is one ordered
connection; a message drawn for reorder leaves the order. Messages in flight over a link are lost when it is cut.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from lockmaster_raft.testing.scheduler import Scheduler
from lockmaster_raft.testing.swarm import Mix

CLIENT_FIRST: Final = 1000


class Network:
    """Carries actions: what travels is the closure that delivers it."""

    def __init__(self, scheduler: Scheduler, mix: Mix, draw: random.Random) -> None:
        self._scheduler = scheduler
        self._mix = mix
        self._draw = draw
        self._last: dict[tuple[int, int, int], int] = {}
        self.cut: set[tuple[int, int]] = set()
        self.clogged: dict[tuple[int, int], int] = {}
        """Directed links that deliver nothing before that time (and then everything)."""
        self.burst_until = 0
        self.calm = False
        """True in the healing phase: no loss, duplication or reorder."""
        self.counts = {"sent": 0, "lost": 0, "duplicated": 0, "reordered": 0}

    def send(self, source: int, target: int, lane: int, deliver: Callable[[], None]) -> None:
        """Deliver some time later: once, never or twice."""
        self.counts["sent"] += 1
        draw = self._draw.random
        mix = self._mix
        client = source >= CLIENT_FIRST or target >= CLIENT_FIRST
        if not self.calm:
            loss = mix.client_loss if client else mix.loss
            if self._scheduler.now < self.burst_until:
                loss = max(loss, 0.3)
            if loss and draw() < loss:
                self.counts["lost"] += 1
                return
            if mix.duplication and draw() < mix.duplication:
                self.counts["duplicated"] += 1
                self._carry(source, target, lane, deliver, True)
        self._carry(source, target, lane, deliver, False)

    def _carry(self, source: int, target: int, lane: int, deliver: Callable[[], None], copy: bool) -> None:
        mix, now = self._mix, self._scheduler.now
        when = now + mix.delay_ns + int(self._draw.random() ** 3 * mix.jitter_ns)
        reorder = not self.calm and mix.reorder and self._draw.random() < mix.reorder
        if copy or reorder:
            self.counts["reordered"] += 1
            when += int(self._draw.random() ** 4 * 2_000_000_000)
        else:
            key = (source, target, lane)
            when = max(when, self._last.get(key, 0) + 1, self.clogged.get((source, target), 0))
            self._last[key] = when

        def arrive() -> None:
            if (source, target) in self.cut:
                self.counts["lost"] += 1
                return
            deliver()

        if (source, target) in self.cut:
            self.counts["lost"] += 1
            return
        self._scheduler.at(when, arrive)

    def heal(self) -> None:
        """All links work, nothing is lost from now on."""
        self.cut.clear()
        self.clogged.clear()
        self.burst_until = 0
        self.calm = True
