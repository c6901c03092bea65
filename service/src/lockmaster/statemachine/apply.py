"""StateMachine: applies committed entries, one after the other, and answers questions about the state.

Laws.
1. Entries are applied in order, each once: entry.index == applied + 1, or InvariantViolation.
2. The result is a function of the state and the entry alone; replicas that applied the same entries have the same
   bytes in every replicated table (the state hash compares them).
3. A command that decodes never raises: what breaks a limit is answered INVALID.
4. The revision never falls; cluster time = max(cluster time, entry stamp).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockmaster_raft.entry import DATA, NOOP, Entry, EntryKind

from lockmaster.statemachine.command_table import BY_TYPE
from lockmaster.statemachine.commands import Command, Event, Result
from lockmaster.statemachine.dedup import execute_once
from lockmaster.statemachine.expiry import ExpiryIndex
from lockmaster.statemachine.faults import InvariantViolation
from lockmaster.statemachine.limits import LIMITS, Limits
from lockmaster.statemachine.queries import Queries
from lockmaster.statemachine.records import META, META_KEY, Meta
from lockmaster.statemachine.table import Context
from lockmaster.statemachine.view import StateView

__all__ = ["Applied", "EntryHeader", "StateMachine"]


@dataclass(slots=True)
class EntryHeader:
    """What `apply` needs of an entry besides its commands; a whole Entry will do too."""

    index: int
    term: int
    kind: EntryKind
    leader_time: int


@dataclass(slots=True)
class Applied:
    """What came of an entry: one result per command, and the events in the order in which they happened."""

    results: list[Result]
    events: list[Event]


class StateMachine(Queries):
    """The replicated state machine over a StateView. Single-threaded."""

    def __init__(self, view: StateView, limits: Limits = LIMITS) -> None:
        """Go on from the view's meta record; the expiry index is rebuilt by scans. `limits`: for tests alone."""
        meta = view.get(META, META_KEY)
        if meta is None:
            raise InvariantViolation("the state has no meta record: it was not initialised")
        self.view = view
        self.expiry = ExpiryIndex(view)
        self._meta = meta
        self._context = Context(
            view, self.expiry, limits, meta.revision, meta.cluster_time, meta.lift_stamp, meta.sessions_count
        )
        self.expiry.rebuild(meta.lift_stamp)

    @staticmethod
    def initialise(view: StateView, *, index: int, term: int, revision: int, cluster_time: int = 0) -> None:
        """Write the meta record of an empty state that stands at (index, term)."""
        if view.get(META, META_KEY) is not None:
            raise InvariantViolation("the state is initialised already")
        view.put(META, META_KEY, Meta(index, term, revision, cluster_time, 0, 0))

    @property
    def applied(self) -> int:
        """Index of the last applied entry."""
        return self._meta.applied_index

    @property
    def applied_term(self) -> int:
        """Term of the last applied entry."""
        return self._meta.applied_term

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._context.revision

    @property
    def cluster_time(self) -> int:
        """Cluster time in nanoseconds, as of the last applied entry."""
        return self._context.cluster_time

    @property
    def lift_stamp(self) -> int:
        """Cluster time of the last leader's NOOP: no session's deadline is before it + TTL / 2."""
        return self._context.lift_stamp

    @property
    def sessions_count(self) -> int:
        """How many sessions live."""
        return self._context.sessions_count

    @property
    def pods_mark(self) -> int:
        """Another one whenever a pod's token has opened a session since, on this member or another; it may be another
        without that. Never above the revision, and never below a live session of a pod."""
        return self._context.pods_mark

    def apply(self, entry: EntryHeader | Entry, commands: Sequence[Command] = ()) -> Applied:
        """Apply the next entry. Raises InvariantViolation if it is not the next."""
        context, meta = self._context, self._meta
        if entry.index != meta.applied_index + 1:
            raise InvariantViolation(f"entry {entry.index} to apply after {meta.applied_index}")
        if entry.leader_time > context.cluster_time:
            context.cluster_time = entry.leader_time
        results: list[Result] = []
        if entry.kind is DATA:
            self._execute(commands, results)
        elif entry.kind is NOOP:
            # service.md §1: thousands of clients can't all reconnect at once to a new leader.
            context.lift_stamp = self.expiry.lift_stamp = context.cluster_time
        events = context.events
        context.events = []
        meta = self._meta = Meta(
            entry.index,
            entry.term,
            context.revision,
            context.cluster_time,
            context.lift_stamp,
            context.sessions_count,
        )
        self.view.put(META, META_KEY, meta)
        return Applied(results, events)

    def _execute(self, commands: Sequence[Command], results: list[Result]) -> None:
        context = self._context
        append = results.append
        for command in commands:
            operation, dedup = command.operation, command.dedup
            kind = BY_TYPE[type(operation)]
            if dedup is None:
                append(kind.execute(context, operation, None))
            else:
                append(execute_once(context, kind, operation, dedup))
