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

    def send(self, source: int, target: int, lane: int, deliver: Callable[[], None]) -> None:
        """Deliver some time later: once, never or twice."""
        if not self.calm:
            mix = self._mix
            loss = mix.client_loss if source >= CLIENT_FIRST or target >= CLIENT_FIRST else mix.loss
            if self._scheduler.now < self.burst_until:
                loss = max(loss, 0.3)
            if loss and self._draw.random() < loss:
                return
            if mix.duplication and self._draw.random() < mix.duplication:
                self._carry(source, target, lane, deliver, True)
        self._carry(source, target, lane, deliver, False)

    def _carry(self, source: int, target: int, lane: int, deliver: Callable[[], None], copy: bool) -> None:
        mix, draw, link = self._mix, self._draw.random, (source, target)
        when = self._scheduler.now + mix.delay_ns + int(draw() ** 3 * mix.jitter_ns)
        reorder = not self.calm and mix.reorder and draw() < mix.reorder
        if copy or reorder:
            when += int(draw() ** 4 * 2_000_000_000)
        else:
            key = (source, target, lane)
            last = self._last.get(key, 0)
            if when <= last:
                when = last + 1
            if self.clogged:
                when = max(when, self.clogged.get(link, 0))
            self._last[key] = when
        if link in self.cut:
            return

        def arrive() -> None:
            if link not in self.cut:
                deliver()

        self._scheduler.at(when, arrive)

    def heal(self) -> None:
        """All links work, nothing is lost from now on."""
        self.cut.clear()
        self.clogged.clear()
        self.burst_until = 0
        self.calm = True
