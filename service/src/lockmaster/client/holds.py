"""What a session owns at this client: its holds, its places in queues, and how long they are certainly valid.

Validity law: a renewal that was confirmed counts from the moment it was *sent*, so
`valid_until = sent + ttl - margin`, and the server can't expire the session before `sent + ttl`. The margin covers
the difference of the clocks' rates and the time from a check to the act it allows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from lockmaster.errors import LockLost

if TYPE_CHECKING:
    from lockmaster.client.calls import AcquireCall, Call

MARGIN_SHARE = 0.1
MARGIN_SECONDS_MAX = 1.0

logger = logging.getLogger(__name__)

LossCallback = Callable[[LockLost], object]


class Session:
    """One server-issued session. `valid_until` is written by the keepalive thread and read everywhere."""

    __slots__ = ("ended", "holds", "id", "next_seq", "pending", "ttl", "unproved", "valid_until", "waiting")

    def __init__(self, session_id: int, ttl: float, sent: float) -> None:
        self.id = session_id
        self.ttl = ttl
        self.valid_until = 0.0
        self.renewed(sent)
        self.next_seq = 1
        # Numbered and unanswered, by seq, ascending. len(pending) <= window_max.
        self.pending: dict[int, Call] = {}
        self.waiting: dict[int, AcquireCall] = {}
        self.holds: dict[int, Hold] = {}
        # Granted while no renewal was confirmed in time, by token: nobody's, until one says that the session lived on.
        self.unproved: dict[int, AcquireCall] = {}
        self.ended = False

    def renewed(self, sent: float) -> None:
        """A renewal that was sent at `sent` is confirmed. Any thread; never goes back."""
        until = sent + self.ttl - min(MARGIN_SECONDS_MAX, self.ttl * MARGIN_SHARE)
        if until > self.valid_until:
            self.valid_until = until

    def lowest_pending(self) -> int:
        """The lowest seq without an answer; next_seq if there is none."""
        return next(iter(self.pending), self.next_seq)


class Hold:
    """One grant. Ends by release or by loss, once."""

    __slots__ = (
        "acquire_seq",
        "callbacks",
        "in_jeopardy",
        "jeopardy_callbacks",
        "lost",
        "name",
        "released",
        "session",
        "token",
    )

    def __init__(self, session: Session, name: str, token: int, acquire_seq: int) -> None:
        self.session = session
        self.name = name
        self.token = token
        self.acquire_seq = acquire_seq
        self.lost: LockLost | None = None
        self.released = False
        self.in_jeopardy = False
        self.callbacks: list[LossCallback] | None = None
        self.jeopardy_callbacks: list[Callable[[], object]] | None = None

    def lose(self, lost: LockLost) -> None:
        """Marks it lost and tells everyone who asked; the second time does nothing."""
        if self.lost is not None or self.released:
            return
        self.lost = lost
        for callback in self.callbacks or ():
            _guarded(callback, lost)

    def jeopardise(self) -> None:
        """Tells once that renewals are not being confirmed; a confirmed renewal arms it again."""
        if self.in_jeopardy or self.lost is not None or self.released:
            return
        self.in_jeopardy = True
        for callback in self.jeopardy_callbacks or ():
            _guarded(callback)


def _guarded(callback: Callable[..., object], *args: object) -> None:
    """A user's callback that fails is logged: it must not keep the others, or the session, from being served."""
    try:
        callback(*args)
    except Exception:
        logger.exception("a callback of a lock failed")
