"""Refounding: what becomes of a state that starts a new cluster (restore of a backup, recovery from a survivor).

service.md §1 and raft.md §2: a new genesis. Every session of the old cluster ends as if it had expired, so its locks
begin their lock-delay and its ephemeral keys are deleted; the revision starts at max(stored + 1, unix_seconds << 20),
so that no fencing token, session id or revision of the old cluster ever comes again, whatever it did after the state
was taken; history below that is marked compacted, so that a watch from before gets a RESET and no gap.

Laws.
1. After the last step: no session, window, completion, nonce, claim, waiter or ephemeral key; no lock is held.
2. Every revision handed out by the steps is >= `first_revision`, and the new revision is not below any of them.
3. No lock is granted on the way: all sessions end before the first lock is settled.
4. Each step changes what belongs to one session or a page of locks: what it takes in memory is bounded by the limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from lockmaster.statemachine.commands import EndCause, LockLost, SessionEnded
from lockmaster.statemachine.expiry import ExpiryIndex
from lockmaster.statemachine.faults import InvariantViolation
from lockmaster.statemachine.limits import LIMITS
from lockmaster.statemachine.locks import settle
from lockmaster.statemachine.records import (
    LOCKS,
    META,
    META_KEY,
    NAMESPACES,
    SESSIONS,
    WHOLE_HISTORY,
    Meta,
    Namespace,
)
from lockmaster.statemachine.sessions import end_session
from lockmaster.statemachine.table import Context
from lockmaster.statemachine.view import StateView
from lockmaster.statemachine.wire import U64

PAGE: Final = 256
"""Most sessions or locks looked at by one step."""
REVISION_SHIFT: Final = 20
"""Revisions per second that a cluster may use up without a later genesis repeating one: 2**20."""


def revision_floor(unix_seconds: int) -> int:
    """The revision at which a cluster founded now starts (service.md §1): below 2**53 until the year 2242."""
    return unix_seconds << REVISION_SHIFT


class Refounding:
    """One refounding of one state. Pure: the host stores between the steps, or not."""

    def __init__(self, view: StateView, *, unix_seconds: int) -> None:
        """`view` holds a state that stands at some entry. Raises InvariantViolation if it was never initialised."""
        meta = view.get(META, META_KEY)
        if meta is None:
            raise InvariantViolation("the state has no meta record: there is nothing to found a cluster on")
        self.first_revision = max(meta.revision + 1, revision_floor(unix_seconds))
        """Every token, session id and revision of the new cluster is above it; all of the old one's are below."""
        self.stored_revision = meta.revision
        self.sessions_ended = 0
        self.locks_released = 0
        """Locks that were held and are in their lock-delay now, or free if their session had none."""
        self._view = view
        self._meta = meta
        self._context = self._fresh(self.first_revision, meta.sessions_count)

    def steps(self, *, index: int, term: int) -> Iterator[None]:
        """Do it; after each step the host may store what was written. The state stands at (index, term) at the end."""
        yield from self._end_sessions()
        yield from self._settle_locks()
        context, meta = self._context, self._meta
        first = self.first_revision
        self._view.put(NAMESPACES, WHOLE_HISTORY, Namespace(first, first, first, 0))
        # No live session is left to lift: the first leader's NOOP sets the stamp anew.
        self._view.put(META, META_KEY, Meta(index, term, context.revision, meta.cluster_time, meta.lift_stamp, 0))
        yield

    def _end_sessions(self) -> Iterator[None]:
        touched: dict[str, None] = {}
        after = 0
        while page := [i for i, _ in islice(self._view.scan(SESSIONS, U64.pack(after), None), PAGE)]:
            for session_id in page:  # ends: ids rise
                end_session(self._context, session_id, EndCause.EXPIRED, touched)
                touched.clear()  # _settle_locks looks at every lock there is
                self._count()
                yield
            after = page[-1] + 1
        if self._context.sessions_count:
            raise InvariantViolation(f"{self._context.sessions_count} sessions are counted that have no record")

    def _settle_locks(self) -> Iterator[None]:
        """Clear what is neither held nor in its delay. Nobody waits any more, so nothing is granted."""
        after = b""
        while page := list(islice(self._view.scan(LOCKS, after, None), PAGE)):  # ends: names rise
            for name, lock in page:
                if lock.token or lock.waiting:
                    raise InvariantViolation(f"lock {name!r} outlived every session")
                settle(self._context, name, lock)
            after = LOCKS.encode_key(page[-1][0]) + b"\0"
            self._count()
            yield

    def _count(self) -> None:
        """Count and drop what happened; nobody watches, and the deadlines are rebuilt at the first boot."""
        context = self._context
        self.sessions_ended += sum(1 for event in context.events if isinstance(event, SessionEnded))
        self.locks_released += sum(1 for event in context.events if isinstance(event, LockLost))
        self._context = self._fresh(context.revision, context.sessions_count)

    def _fresh(self, revision: int, sessions_count: int) -> Context:
        view, meta = self._view, self._meta
        return Context(view, ExpiryIndex(view), LIMITS, revision, meta.cluster_time, meta.lift_stamp, sessions_count)
