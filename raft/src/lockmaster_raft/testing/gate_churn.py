"""Level gates in the simulator: binaries of mixed levels that are swapped, and requests for every gate operation.

It has a random stream of its own, and only seeds from GATE_SEEDS_FROM on draw it. Some of them begin as a cluster of
0.1.0 at level 1, whose witnesses wait for level 2; some at level 2, with witnesses from the start and a level above it
to come. All other seeds begin as this build's clusters do: with the witness level active.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.config import MILLISECOND, SECOND
from lockmaster_raft.events import ProposeGate
from lockmaster_raft.gates import GateOperation
from lockmaster_raft.membership import LEVEL_MAX, LEVEL_MIN, MemberRole
from lockmaster_raft.ready import Refused
from lockmaster_raft.testing.swarm import GATE_SEEDS_FROM, stream

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.host import Host

__all__ = ["GATE_SEEDS_FROM", "GateChurn"]


class GateChurn:
    """Draws who runs which binary, swaps them, and asks leaders for gate changes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._draw = stream(cluster.seed, "gates")
        self.on = cluster.seed >= GATE_SEEDS_FROM
        self._share_new = self._draw.choice([0.5, 0.8, 1.0])
        self._interval_ns = self._draw.choice([300, 800, 2000]) * MILLISECOND
        self._active = False
        self.level_genesis = self._draw.choice([LEVEL_MIN, LEVEL_MIN, LEVEL_MAX]) if self.on else LEVEL_MAX
        """Active from the first entry on, and the level of the older binary."""
        self._level_top = self.level_genesis + 1

    def first_level(self, role: MemberRole) -> int:
        """The level of a new host's binary; a directory is made for a witness by one that knows witnesses."""
        if not self.on:
            return LEVEL_MAX
        new = self._draw.random() < self._share_new
        return self._level_top if new or role is MemberRole.WITNESS else self.level_genesis

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
                host.level_max = self._level_top

    def stopped(self, host: Host) -> None:
        """A binary refused its directory or stopped at an entry above it: somebody puts the newest one in its place."""
        boots = host.boots

        def replace() -> None:
            if not host.running and host.boots == boots:
                host.level_max = self._level_top
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
            lambda number: ProposeGate(number, operation, self._level_top),
            lambda outcome: self._told(operation, outcome),
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
        newer = self._draw.random() < 0.6 or host.role is MemberRole.WITNESS
        host.level_max = self._level_top if newer else self.level_genesis
        boots = host.boots

        def start() -> None:
            if not host.running and host.boots == boots:
                host.boot()

        self._cluster.scheduler.after(int(SECOND * self._draw.choice([0.02, 0.3])), start)
        self._cluster.count("binary installed")
