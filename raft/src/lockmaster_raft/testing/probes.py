"""Reads asked around each election: where a leader that answers too early is caught."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import MILLISECOND
from lockmaster_raft.testing.clients import ATTEMPT_NS, Client
from lockmaster_raft.testing.network import CLIENT_FIRST

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.host import Host

PROBER: Final = CLIENT_FIRST + 900
"""A client number that no application gives away."""


def once(
    error: str, attempt: int, hint: int, left: float, draw: float, repeatable: bool
) -> tuple[float, int | None] | None:
    """A probe's policy: one attempt tells enough."""
    return None


class Prober:
    """A reader without a session; its answers are judged by S4 only."""

    def __init__(self, cluster: Cluster, draw: random.Random) -> None:
        self._cluster = cluster
        self._draw = draw

    def elected(self, host: Host) -> None:
        """`mix.probes` reads within the time that the new leader's first entry needs to commit, most of them at it."""
        mix = self._cluster.mix
        window = 4 * mix.delay_ns + 2 * mix.sync_ns + 5 * MILLISECOND
        for _ in range(mix.probes):
            self._cluster.scheduler.after(int(self._draw.random() ** 2 * window), lambda: self._ask(host.number))

    def _ask(self, number: int) -> None:
        client = Client(self._cluster, PROBER, self._draw, once)
        client.target = number
        client.read(self._cluster.application.probe, lambda answer: None, ATTEMPT_NS)
