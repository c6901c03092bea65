"""Faults: drawn by the seed's mix at drawn times, never so many that the run can't heal."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.events import RemoveMember, TransferLeadership
from lockmaster_raft.ids import NodeId

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.host import Host

MEMBERS_MAX: Final = 7


class Nemesis:
    """Makes things fail, then heals."""

    def __init__(self, cluster: Cluster, draw: random.Random) -> None:
        self._cluster = cluster
        self._draw = draw
        self._active = False
        self.total = 0
        self._crash_at: tuple[int, str] | None = None
        self._pause_at = 0
        """Number of the host that is paused when its next frame is durable, or 0."""
        self._kinds: dict[str, Callable[[], bool]] = {
            "crash": lambda: self._crash(self._any()),
            "crash_at_sync": self._crash_at_sync,
            "crash_many": self._crash_many,
            "crash_leader": lambda: self._crash(self._cluster.leader()),
            "pause": lambda: self._pause(self._any()),
            "pause_leader": self._pause_leader,
            "partition_minority": lambda: self._partition(self._draw.sample(self._numbers(), 1), True, True),
            "partition_leader": self._partition_leader,
            "partition_one_way": self._partition_one_way,
            "partition_partial": self._partition_partial,
            "slow_sync": self._slow_sync,
            "clog": self._clog,
            "transfer": self._transfer,
            "add_member": self._add,
            "remove_member": self._remove,
            "burst": self._burst,
            "reconnect": self._reconnect,
        }

    def _time(self, choices: list[float]) -> int:
        """A drawn duration; shorter where faults come faster, so that they don't pile up without end."""
        scale = min(1.0, self._cluster.mix.fault_interval_ns / (4 * SECOND))
        return int(self._draw.choice(choices) * SECOND * (0.5 + self._draw.random()) * scale)

    def start(self) -> None:
        """Begin with faults."""
        self._active = True
        self._next()

    def _next(self) -> None:
        interval = self._cluster.mix.fault_interval_ns
        self._cluster.scheduler.after(int(interval * (0.3 + 1.4 * self._draw.random())), self._strike)

    def _strike(self) -> None:
        if not self._active:
            return
        names = [name for name, _ in self._cluster.mix.faults]
        weights = [weight for _, weight in self._cluster.mix.faults]
        kind = self._draw.choices(names, weights)[0]
        if self._kinds[kind]():
            self.total += 1
            self._cluster.count(f"fault:{kind}")
            self._cluster.note(f"fault {kind}")
        self._next()

    def stop(self) -> None:
        """No more faults; those that are there stay."""
        self._active = False
        self._crash_at, self._pause_at = None, 0

    def heal(self, but: Sequence[Host] = ()) -> None:
        """No more faults; the network works; every crashed host boots, save those; pauses end."""
        self.stop()
        self._cluster.network.heal()
        self._cluster.gates.heal()
        for host in self._cluster.hosts:
            if host.disk is not None:
                host.disk.slow_until = 0
            if not host.running and not host.lost and host not in but:
                host.boot()
            host.resume_now()
        self._cluster.note("healed")

    # --- who ----------------------------------------------------------------------------------------------------

    def _members(self) -> list[Host]:
        return [host for host in self._cluster.hosts if host.member_id and not host.removed and not host.lost]

    def _numbers(self) -> list[int]:
        return [host.number for host in self._cluster.hosts]

    def _any(self) -> Host:
        return self._draw.choice(self._members())

    # --- crashes and pauses -------------------------------------------------------------------------------------

    def _crash(self, host: Host | None, down: int | None = None) -> bool:
        if host is None or not host.running:
            return False
        host.crash(self._draw.random() < 0.6)
        if down is None:
            down = self._time([0.05, 0.5, 3, 10])

        def back() -> None:
            if not host.running and not host.lost:
                host.boot()

        self._cluster.scheduler.after(down, back)
        return True

    def _crash_many(self) -> bool:
        hosts = [host for host in self._members() if host.running]
        count = self._draw.randint(2, max(2, len(hosts)))
        for host in hosts[:count]:
            self._crash(host, int(self._draw.random() * 2 * SECOND))
        return len(hosts) >= 2

    def _crash_at_sync(self) -> bool:
        host = self._any()
        self._crash_at = (host.number, self._draw.choice(["guard", "guard", "frame"]))
        return True

    def disk_stage(self, host: Host, stage: str) -> None:
        """A stage of a write is durable: the moment at which a crash tells most."""
        if self._active and self._crash_at == (host.number, stage):
            self._crash_at = None
            self._cluster.count("crashed at a sync")
            down = int(self._draw.choice([0.01, 1.0]) * SECOND)
            # After the current action: a process can't die in the middle of the simulator's own call.
            self._cluster.scheduler.after(0, lambda: self._crash_now(host, down))
        if self._active and self._pause_at == host.number and stage == "frame":
            self._pause_at = 0
            self._cluster.count("paused at a sync")
            self._cluster.scheduler.after(0, lambda: self._pause_now(host))

    def _crash_now(self, host: Host, down: int) -> None:
        if self._active:
            self._crash(host, down)

    def _pause(self, host: Host | None) -> bool:
        if host is None or not host.running or host.paused_until:
            return False
        host.pause(self._time([0.2, 1.2, 4, 12]))
        return True

    def _pause_now(self, host: Host) -> None:
        if self._active:
            self._pause(host)

    def _pause_leader(self) -> bool:
        """Anywhere, or between its own sync and the answers that commit the entry: they find it when it goes on."""
        host = self._cluster.leader()
        if host is None or self._draw.random() < 0.5:
            return self._pause(host)
        self._pause_at = host.number
        return True

    # --- the network --------------------------------------------------------------------------------------------

    def _cut(self, pairs: set[tuple[int, int]]) -> bool:
        self._cluster.network.cut |= pairs
        duration = self._time([0.3, 2, 6, 12])

        def mend() -> None:
            self._cluster.network.cut -= pairs
            self._reconnect()

        self._cluster.scheduler.after(duration, mend)
        return True

    def _partition(self, side: list[int], out: bool, into: bool) -> bool:
        pairs: set[tuple[int, int]] = set()
        for one in side:
            for other in self._numbers():
                if other not in side:
                    pairs |= ({(one, other)} if out else set()) | ({(other, one)} if into else set())
        return self._cut(pairs)

    def _partition_leader(self) -> bool:
        host = self._cluster.leader()
        return host is not None and self._partition([host.number], True, True)

    def _partition_one_way(self) -> bool:
        out = self._draw.random() < 0.5
        return self._partition([self._any().number], out, not out)

    def _partition_partial(self) -> bool:
        numbers = self._numbers()
        one, other = self._draw.sample(numbers, 2)
        return self._cut({(one, other), (other, one)})

    def _clog(self) -> bool:
        one, other = self._draw.sample(self._numbers(), 2)
        self._cluster.network.clogged[(one, other)] = self._cluster.scheduler.now + int(
            self._draw.random() * 3 * SECOND
        )
        return True

    def _burst(self) -> bool:
        self._cluster.network.burst_until = self._cluster.scheduler.now + int(self._draw.random() * 3 * SECOND)
        return True

    def _reconnect(self) -> bool:
        members = [host for host in self._members() if host.running]
        for host in members:
            for other in members:
                if host is not other:
                    host.peer(other.member_id, True)
        return True

    def _slow_sync(self) -> bool:
        disk = self._any().disk
        if disk is None:
            return False
        disk.slow_until = self._cluster.scheduler.now + int(self._draw.random() * 6 * SECOND)
        disk.slow_ns = self._draw.choice([50, 400, 2000]) * 1_000_000
        return True

    # --- membership ---------------------------------------------------------------------------------------------

    def _transfer(self) -> bool:
        host = self._cluster.leader()
        if host is None:
            return False
        target = NodeId(self._draw.choice([0, self._any().member_id]))
        host.front.admin(lambda number: TransferLeadership(number, target), lambda outcome: None)
        return True

    def _add(self) -> bool:
        from lockmaster_raft.testing.host import Host

        hosts = self._cluster.hosts
        if len(self._members()) >= MEMBERS_MAX or len(hosts) >= 9 or any(not host.member_id for host in hosts):
            return False
        host = Host(self._cluster, len(hosts) + 1)
        hosts.append(host)
        self._cluster.ask_to_join(host)
        return True

    def _remove(self) -> bool:
        lead = self._cluster.leader()
        if lead is None or lead.node is None or len(lead.node.configuration.voter_ids) <= 3:
            return False
        target = self._draw.choice(lead.node.configuration.members).member_id
        lead.front.admin(lambda number: RemoveMember(number, target), lambda outcome: None)
        return True
