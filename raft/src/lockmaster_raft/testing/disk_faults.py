"""Faults of the disks, beside those of nemesis.py: torn writes, errors, lost frames, flipped bits, hangs, no room.

They have a random stream and an interval of their own, and each seed draws which kinds it has. What is promised is
that a majority's disks survive, so a fault that may cost a disk strikes only where `may_lose` allows it: at most one
member of the configuration at a time is lost or damaged, whether that has been noticed yet or not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.membership import WITNESS_LEVEL

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.disk import Disk
    from lockmaster_raft.testing.host import Host

HANG_NS_MIN: Final = 2 * SECOND
SCRUB_SECONDS_MAX: Final = 10
STRIKE_TRIES_MAX: Final = 20
STRIKE_AGAIN_NS: Final = SECOND // 2


def may_lose(cluster: Cluster, node: Node) -> bool:
    """Whether one disk of this leader's configuration may go for good: settled, three voters, nobody else damaged."""
    configuration = node.configuration
    if node.levels.active < WITNESS_LEVEL or configuration.outgoing or configuration.reduced_commit:
        return False  # without the witness level there is no swap
    if len(configuration.voter_ids) < 3 or configuration.changing is not None:
        return False
    ids = {m.member_id for c in (configuration, node.committed_configuration) for m in c.members}
    return not any(host.member_id in ids and (host.lost or host.law.damaged) for host in cluster.hosts)


class DiskFaults:
    """Strikes at disks at drawn times."""

    def __init__(self, cluster: Cluster, draw: random.Random) -> None:
        self._cluster = cluster
        self._draw = draw
        self._active = False
        self._kinds: dict[str, Callable[[Host, Disk], bool]] = {
            "torn_frame": lambda host, disk: self._tear(disk, "frame"),
            "torn_guard": lambda host, disk: self._tear(disk, "guard"),
            "eio_frame": lambda host, disk: self._fail(disk, "frame"),
            "eio_guard": lambda host, disk: self._fail(disk, "guard"),
            "eio_read": self._fail_a_read,
            "eio_state": self._fail_the_state,
            "amnesia": self._forget,
            "flip_log": self._flip_log,
            "flip_guard": self._flip_guard,
            "flip_state": self._flip_state,
            "flip_chunk": self._flip_chunk,
            "flip_served_chunk": self._flip_served_chunk,
            "hang": self._hang,
            "full": self._fill,
        }

    @property
    def on(self) -> bool:
        """Whether this seed has faults of disks."""
        return bool(self._cluster.mix.disk_faults)

    def start(self) -> None:
        """Begin, if this seed has any."""
        if self.on:
            self._active = True
            self._next()

    def prepare(self, host: Host, disk: Disk) -> None:
        """A directory was made: what its disk reports goes to its host."""
        disk.marks_tear = any(weight and kind.startswith("torn") for kind, weight in self._cluster.mix.disk_faults)
        disk.on_fail = lambda why: host.law.stop(f"{why} at a write")
        disk.on_tear = lambda: self._cut_power(host)

    def heal(self) -> None:
        """Disks work and have room; what is damaged stays damaged."""
        self._active = False
        for host in self._cluster.hosts:
            host.law.full_until = 0
            host.law.flip_chunk = host.law.flip_served_chunk = host.law.unreadable_state = False
            if host.disk is not None:
                host.disk.heal()

    def _next(self) -> None:
        interval = self._cluster.mix.disk_interval_ns
        self._cluster.scheduler.after(int(interval * (0.3 + 1.4 * self._draw.random())), self._strike)

    def _strike(self) -> None:
        if not self._active:
            return
        faults = self._cluster.mix.disk_faults
        kind = self._draw.choices([name for name, _ in faults], [weight for _, weight in faults])[0]
        self._strike_with(kind, STRIKE_TRIES_MAX)
        self._next()

    def _strike_with(self, kind: str, tries: int) -> None:
        """Strike; where nothing fits, as between two leaders or while a member is replaced, again a little later."""
        if not self._active:
            return
        hosts = [h for h in self._cluster.hosts if h.running and h.node is not None and not h.removed]
        lead = self._cluster.leader()
        if hosts:
            # The leader's disk matters most: it is struck as often as all others together.
            host = lead if lead is not None and self._draw.random() < 0.5 else self._draw.choice(hosts)
            if host.disk is not None and self._kinds[kind](host, host.disk):
                self._cluster.count(f"disk:{kind}")
                self._cluster.note(f"disk fault {kind} at {host.number}")
                self._cluster.nemesis.total += 1
                return
        if tries > 1:
            self._cluster.scheduler.after(STRIKE_AGAIN_NS, lambda: self._strike_with(kind, tries - 1))

    def _may_lose(self, host: Host) -> bool:
        lead = self._cluster.leader()
        return lead is not None and lead.node is not None and may_lose(self._cluster, lead.node)

    # --- power and errors -----------------------------------------------------------------------------------------

    def _tear(self, disk: Disk, what: str) -> bool:
        disk.tear = what
        return True

    def _cut_power(self, host: Host) -> None:
        """In the middle of a write."""
        if self._active and host.running:
            host.crash(True)
            host.law.start_later(0.05, 2)

    def _fail(self, disk: Disk, what: str) -> bool:
        disk.fail = what
        return True

    def _fail_a_read(self, host: Host, disk: Disk) -> bool:
        disk.store.unreadable = True
        return True

    def _fail_the_state(self, host: Host, disk: Disk) -> bool:
        host.law.unreadable_state = host.state is not None
        return host.state is not None

    def _forget(self, host: Host, disk: Disk) -> bool:
        """Power goes, and with it the frames that the drive had called durable."""
        if not self._may_lose(host) or disk.frames < 4:
            return False
        host.crash(True)
        disk.forget(self._draw.randint(1, 2) if self._draw.random() < 0.5 else self._draw.randint(1, 200))
        host.law.start_later(0.05, 3)
        return True

    # --- flipped bits -----------------------------------------------------------------------------------------------

    def _flip_log(self, host: Host, disk: Disk) -> bool:
        """In a frame that the mark covers; read again soon, late or at the next boot."""
        first, last = disk.store.base.index + 1, disk.marked_last
        if last < first or not self._may_lose(host):
            return False
        behind = [view.match_index + 1 for view in host.node.progress_view().values()] if host.node is not None else []
        next_read = min((index for index in behind if first <= index <= last), default=0)
        if next_read and self._draw.random() < 0.7:
            disk.store.flipped.add(next_read)  # a leader reads it for whoever lags
        else:
            disk.store.flipped.add(self._draw.randint(first, last))
        self._scrub_later(host)
        return True

    def _flip_guard(self, host: Host, disk: Disk) -> bool:
        if disk.waiting or not self._may_lose(host):
            return False
        disk.slots[self._draw.randrange(2)] = None
        return True

    def _flip_state(self, host: Host, disk: Disk) -> bool:
        own = host.dirs.own
        if own is None or own is not host.state or not self._may_lose(host):
            return False
        own.flipped = True
        self._scrub_later(host)
        return True

    def _scrub_later(self, host: Host) -> None:
        """A scrub that reads everything comes by, often after something else has found the damage.

        Always: as long as nobody knows of the damage no other disk may be struck.
        """

        def scrub() -> None:
            if host.law.damaged and host.running and not host.lost:
                host.law.stop("scrub found damage")

        self._cluster.scheduler.after(int(SECOND * SCRUB_SECONDS_MAX * self._draw.random()), scrub)

    def _flip_chunk(self, host: Host, disk: Disk) -> bool:
        host.law.flip_chunk = True
        return True

    def _flip_served_chunk(self, host: Host, disk: Disk) -> bool:
        host.law.flip_served_chunk = True
        return True

    # --- slow and full ----------------------------------------------------------------------------------------------

    def _hang(self, host: Host, disk: Disk) -> bool:
        """Every sync takes seconds, for some seconds: a member that can't write and answers all the same."""
        disk.slow_until = self._cluster.scheduler.now + int(self._draw.choice([1, 5]) * SECOND)
        disk.slow_ns = self._draw.choice([1, 3]) * HANG_NS_MIN
        return True

    def _fill(self, host: Host, disk: Disk) -> bool:
        """Nearly full, or soon without any room: then a frame fails, and no process starts until there is some."""
        host.law.full_until = self._cluster.scheduler.now + int(self._draw.choice([1, 4, 10]) * SECOND)
        disk.room = self._draw.choice([None, 0, 3, 30])
        return True
