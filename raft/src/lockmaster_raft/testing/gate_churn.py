"""Level gates in the simulator: binaries of mixed levels that are swapped, and requests for every gate operation.

It has a random stream of its own, and only seeds from GATE_SEEDS_FROM on draw it: the traces of all others, the
recorded ones among them, are what they were before there were gates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import MILLISECOND, SECOND
from lockmaster_raft.events import ProposeGate
from lockmaster_raft.gates import GateOperation
from lockmaster_raft.membership import LEVEL_MAX
from lockmaster_raft.ready import Refused
from lockmaster_raft.testing.swarm import stream

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.host import Host

GATE_SEEDS_FROM: Final = 100_000
LEVEL_TOP: Final = LEVEL_MAX + 1
"""The newest binary's level here: one above what this build offers by itself."""


class GateChurn:
    """Draws who runs which binary, swaps them, and asks leaders for gate changes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._draw = stream(cluster.seed, "gates")
        self.on = cluster.seed >= GATE_SEEDS_FROM
        self._share_new = self._draw.choice([0.5, 0.8, 1.0])
        self._interval_ns = self._draw.choice([300, 800, 2000]) * MILLISECOND
        self._active = False

    def first_level(self) -> int:
        """The level of a new host's binary."""
        if not self.on:
            return LEVEL_MAX
        return LEVEL_TOP if self._draw.random() < self._share_new else LEVEL_MAX

    def start(self) -> None:
        """Begin, in a seed that has gates."""
        self._active = self.on
        if self.on:
            self._next()

    def heal(self) -> None:
        """No more requests; every host gets the newest binary, so that none refuses to boot."""
        self._active = False
        if self.on:
            for host in self._cluster.hosts:
                host.level_max = LEVEL_TOP

    def stopped(self, host: Host) -> None:
        """A binary refused its directory or stopped at an entry above it: somebody puts the newest one in its place."""
        boots = host.boots

        def replace() -> None:
            if not host.running and host.boots == boots:
                host.level_max = LEVEL_TOP
                host.boot()

        self._cluster.scheduler.after(int(SECOND * (0.2 + 3 * self._draw.random())), replace)

    def _next(self) -> None:
        self._cluster.scheduler.after(int(self._interval_ns * (0.3 + 1.4 * self._draw.random())), self._turn)

    def _turn(self) -> None:
        if not self._active:
            return
        what = self._draw.choices(("install", *GateOperation), (2, 4, 4, 2, 2))[0]
        if isinstance(what, GateOperation):
            self._ask(what)
        else:
            self._install()
        self._next()

    def _ask(self, operation: GateOperation) -> None:
        lead = self._cluster.leader()
        if lead is None:
            return
        lead.front.admin(
            lambda number: ProposeGate(number, operation, LEVEL_TOP), lambda outcome: self._told(operation, outcome)
        )

    def _told(self, operation: GateOperation, outcome: object) -> None:
        fate = "refused" if isinstance(outcome, Refused) else type(outcome).__name__.lower()
        self._cluster.count(f"gate {operation.name.lower()} {fate}")

    def _install(self) -> None:
        """Stop a host and start it with another binary, newer or older; an older one may refuse."""
        members = [host for host in self._cluster.hosts if host.member_id and not host.removed]
        host = self._draw.choice(members)
        if not host.running or host.paused_until:
            return
        host.crash(False)
        host.level_max = LEVEL_TOP if self._draw.random() < 0.6 else LEVEL_MAX
        boots = host.boots

        def start() -> None:
            if not host.running and host.boots == boots:
                host.boot()

        self._cluster.scheduler.after(int(SECOND * self._draw.choice([0.02, 0.3])), start)
        self._cluster.count("binary installed")
