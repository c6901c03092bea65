"""LeaderDuties: what a leader's host proposes by itself. Pure: time comes in as numbers.

Keepalives are coalesced into one entry per tick. Expiry is proposed only while this leader can trust that it has
heard the keepalives that were sent: not for one election timeout after its first own-term commit, nor after a gap of
more than two heartbeats in its own loop (service.md §1), and one Expire at a time. One that may be lost is made again,
at growing intervals, so that a log in which entries take long to commit doesn't fill with them.
"""

from __future__ import annotations

from typing import Final

from lockmaster.errors import Overloaded
from lockmaster.statemachine.commands import Command, Expire, KeepAlive
from lockmaster.statemachine.expiry import ExpiryIndex
from lockmaster.statemachine.limits import LIMITS

EXPIRE_BATCH_MAX: Final = 256
"""Sessions, waiters and delays (each) of one Expire."""
EXPIRE_WAIT_FACTOR_MAX: Final = 8
"""Election timeouts for which an Expire may at most be on its way before it counts as lost."""
NEVER: Final = 2**63 - 1


class LeaderDuties:
    """One per member; idle unless leading. All times are boot-clock nanoseconds, deadlines in `due` cluster time."""

    def __init__(
        self, election_timeout_ns: int, heartbeat_interval_ns: int, keepalive_tick_ns: int = 250_000_000
    ) -> None:
        self._election_timeout = election_timeout_ns
        self._gap_max = 2 * heartbeat_interval_ns
        self._tick = keepalive_tick_ns
        self._leading = False
        self._pending: dict[int, None] = {}
        self._last_turn = 0
        self._keepalive_at = 0
        self._expiry_from = NEVER
        """No Expire before this; NEVER until the first own-term commit."""
        self._expiry_wake = NEVER
        self._proposed: Expire | None = None
        """The latest Expire proposed and not seen applied since."""
        self._expires_seen = 0
        """How many Expires had been applied when this was looked at last."""
        self._expire_wait = election_timeout_ns
        self._expire_pending_until = 0

    def leading(self, term: int, now: int) -> None:
        """This member has become leader of `term`."""
        self._leading = True
        self._pending = {}
        self._last_turn = self._keepalive_at = now
        self._expiry_from = self._expiry_wake = NEVER
        self._settled()

    def stopped(self) -> None:
        """This member leads no more: pending keepalives are dropped, their clients ask the next leader."""
        self._leading = False
        self._pending = {}

    def turn(self, now: int) -> None:
        """A turn of the host's loop; a long time since the last one holds expiry back."""
        if now - self._last_turn > self._gap_max and self._expiry_from != NEVER:
            self._expiry_from = max(self._expiry_from, now + self._election_timeout)
        self._last_turn = now

    def own_term_committed(self, now: int) -> None:
        """The first entry of this leader's own term has been committed."""
        if self._leading and self._expiry_from == NEVER:
            self._expiry_from = self._expiry_wake = now + self._election_timeout

    def keep_alive(self, session_id: int) -> None:
        """Join the next batch. Raises Overloaded when more sessions are pending than may exist."""
        if len(self._pending) >= LIMITS.sessions_count_max and session_id not in self._pending:
            raise Overloaded("keepalives pending")
        self._pending[session_id] = None

    def due(self, now: int, cluster_time: int, expiry: ExpiryIndex) -> list[Command]:
        """What to propose now, as one reserved entry; [] most of the time and then cheap."""
        if not self._leading:
            return []
        self.turn(now)
        commands: list[Command] = []
        if self._pending and now >= self._keepalive_at:
            ids = sorted(self._pending)
            self._pending = {}
            self._keepalive_at = now + self._tick
            size = LIMITS.keep_alive_count_max
            commands += [Command(KeepAlive(tuple(ids[i : i + size]))) for i in range(0, len(ids), size)]
        self._expire(now, cluster_time, expiry, commands)
        return commands

    def _expire(self, now: int, cluster_time: int, expiry: ExpiryIndex, commands: list[Command]) -> None:
        if self._expiry_from == NEVER:
            return
        if expiry.expires_applied != self._expires_seen:
            self._expires_seen = expiry.expires_applied
            if expiry.last_expire == self._proposed:
                self._settled()
        allowed_from = max(self._expiry_from, self._expire_pending_until)
        if now < allowed_from:
            self._expiry_wake = allowed_from
            return
        deadline = expiry.next_deadline()
        if deadline is not None and deadline <= cluster_time:
            # An Expire behind renewals of the same entry finds those sessions renewed and leaves them.
            expire = expiry.due(cluster_time, EXPIRE_BATCH_MAX)
            if expire is not None:
                commands.append(Command(expire))
                # Lost proposals are made again; one that is on its way is not made twice, if it can be helped.
                self._proposed, self._expires_seen = expire, expiry.expires_applied
                self._expire_pending_until = self._expiry_wake = now + self._expire_wait
                self._expire_wait = min(2 * self._expire_wait, EXPIRE_WAIT_FACTOR_MAX * self._election_timeout)
                return
            deadline = expiry.next_deadline()
        self._expiry_wake = now + self._tick if deadline is None else now + min(self._tick, deadline - cluster_time)

    def _settled(self) -> None:
        """No Expire is on its way: the latest was applied, so those before it were, or are lost."""
        self._proposed = None
        self._expire_pending_until = 0
        self._expire_wait = self._election_timeout

    def next_deadline(self, now: int) -> int:
        """When to call `due` again at the latest."""
        if not self._leading:
            return NEVER
        keepalive = self._keepalive_at if self._pending else NEVER
        return min(keepalive, self._expiry_wake)
