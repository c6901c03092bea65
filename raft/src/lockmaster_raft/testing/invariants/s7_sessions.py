"""S7: no session expires while its keepalives commit within TTL, nor by the word of a leader that has not read them
yet; each expires in bounded time after the last. Cluster time, which all of this is counted in, never falls.

A renewal counts from when its leader appended it, not from when it was committed: that is what its stamp says, what
the expiry compares, and later than when its client sent it, from where the client counts. The commit may take long
while nobody's session is wronged: with every disk slow, 3 s in seed 229, whose client had fallen silent meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.application import Executed, Lifted, SessionOpened, SessionOver, SessionRenewed
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host

DRIFT: Final = 0.99
"""The leader's clock may run this much slower than true time (ρ = 1 %)."""


class SessionLife(Invariant):
    """In true (virtual) time of first apply, and in cluster time of the entries."""

    rule = "S7 session life"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._ttl: dict[int, int] = {}
        self._renewed: dict[int, tuple[int, int, int]] = {}
        """Session -> when its last renewal was first applied and when it was appended (true time), and its stamp."""
        self._appended: dict[tuple[int, int], int] = {}
        """(index, term) of an entry -> the true time at which its leader appended it."""
        self._last_stamp = 0
        self._unread: dict[tuple[int, int], frozenset[int]] = {}
        """(index, term) of an entry -> sessions whose keepalives lay unread with the leader that appended it."""

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """A leader that goes on after a pause: what it appends before it has read what came meanwhile (service.md §1).

        What came within the last two heartbeats is no matter: so short a gap holds nothing back.
        """
        if ready.persist is None:
            return
        for entry in ready.persist.entries:
            self._appended.setdefault((entry.index, entry.term), self.checker.cluster.scheduler.now)
        if not host.unread or node.role is not LEADER:
            return
        since = self.checker.cluster.scheduler.now - 2 * self.checker.cluster.mix.config.heartbeat_interval_ns
        unread = frozenset(session for session, at in host.unread.items() if at < since)
        for entry in ready.persist.entries:
            self._unread[(entry.index, entry.term)] = unread

    def first_applied(self, entry: Entry, outcome: Outcome) -> None:
        """Follow each session's life."""
        now = self.checker.cluster.scheduler.now
        if entry.leader_time < self._last_stamp:
            self.fail(f"{entry.index}: cluster time falls from {self._last_stamp} to {entry.leader_time}")
        self._last_stamp = entry.leader_time
        appended = self._appended.get((entry.index, entry.term), now)
        for seen in outcome.observed:
            if isinstance(seen, SessionOpened):
                self._ttl[seen.session] = seen.ttl_ns
                self._renewed[seen.session] = (now, appended, entry.leader_time)
            elif isinstance(seen, SessionRenewed):
                if seen.session not in self._ttl:
                    self.fail(f"{entry.index}: dead session {seen.session} is renewed")
                self._renewed[seen.session] = (now, appended, entry.leader_time)
            elif isinstance(seen, SessionOver):
                self._over(seen, appended, entry)
            elif isinstance(seen, Executed | Lifted):
                continue

    def _over(self, seen: SessionOver, appended: int, entry: Entry) -> None:
        ttl = self._ttl.pop(seen.session, None)
        if ttl is None:
            return
        _, true, cluster = self._renewed.pop(seen.session)
        if not seen.expired:
            return
        self.checker.cluster.count("sessions expired")
        if seen.session in self._unread.get((entry.index, entry.term), ()):
            self.fail(f"{entry.index}: session {seen.session} expires while its keepalive lies unread with the leader")
        if entry.leader_time - cluster < ttl:
            self.fail(f"{entry.index}: session {seen.session} expires {entry.leader_time - cluster} ns after renewal")
        # Cluster time runs no faster than true time but for the drift of its leader's clock.
        if appended - true < ttl * DRIFT:
            self.fail(f"{entry.index}: session {seen.session} expires {(appended - true) / SECOND:.2f} s after renewal")

    def content(self) -> bool:
        """After healing every silent session goes away: those left are being renewed (each TTL / 3)."""
        now = self.checker.cluster.scheduler.now
        return all(now - self._renewed[session][0] < 0.8 * ttl for session, ttl in self._ttl.items())

    def finished(self) -> None:
        """None is left over."""
        late = self._overdue()
        if late:
            self.fail(f"sessions {late[:3]} are silent and never expire")

    def _overdue(self) -> list[int]:
        now, healed = self.checker.cluster.scheduler.now, self.checker.healed_at
        slack = 2 * SECOND + 4 * self.checker.cluster.mix.config.election_timeout_ns
        late = []
        for session, ttl in self._ttl.items():
            last = max(self._renewed[session][0], healed)
            if now - last > ttl * 1.5 + slack:
                late.append(session)
        return late
