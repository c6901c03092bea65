"""Callers that wait for something of the engine's: reads, keepalives and administration. Bounded, answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from lockmaster.errors import LockmasterError, Overloaded

ReadDone = Callable[[LockmasterError | None], None]
KeepAliveDone = Callable[[tuple[int, ...] | LockmasterError], None]

READS_MAX: Final = 65_536
"""Most reads that wait, in all stages."""
READ_ROUNDS_MAX: Final = 4
"""Most read indexes of each kind asked for and not yet told; reads that arrive meanwhile share the next one."""
KEEP_ALIVES_MAX: Final = 200_000
"""Most sessions whose keepalive waits for the next coalesced entry."""
ADMIN_CALLS_MAX: Final = 64


class ReadBarrier:
    """Reads through their three stages: waiting to ask, waiting for the index, waiting for apply to reach it."""

    def __init__(self) -> None:
        self._fresh: dict[bool, list[ReadDone]] = {False: [], True: []}
        """By whether a lease will do."""
        self._asked: dict[int, list[ReadDone]] = {}
        self._by_lease: set[int] = set()
        """Those of `_asked` that would do with a lease: it did not hold, so they wait for a round of their own."""
        self._known: list[tuple[int, list[ReadDone]]] = []
        self._next_id = 0
        self._count = 0

    def add(self, done: ReadDone, *, by_lease: bool = False) -> bool:
        """Wait; False when the maximum is reached."""
        if self._count >= READS_MAX:
            return False
        self._count += 1
        self._fresh[by_lease].append(done)
        return True

    def ask(self, *, by_lease: bool = False) -> int | None:
        """The id of a read index to request now for all fresh reads of this kind, or None."""
        on_their_way = len(self._by_lease) if by_lease else len(self._asked) - len(self._by_lease)
        if not self._fresh[by_lease] or on_their_way >= READ_ROUNDS_MAX:
            return None
        self._next_id += 1
        self._asked[self._next_id], self._fresh[by_lease] = self._fresh[by_lease], []
        if by_lease:
            self._by_lease.add(self._next_id)
        return self._next_id

    def told(self, request_id: int, index: int | None, applied: int) -> tuple[list[ReadDone], bool]:
        """(the reads to answer now, whether they failed)."""
        dones = self._asked.pop(request_id, [])
        self._by_lease.discard(request_id)
        if index is None or index <= applied:
            self._count -= len(dones)
            return dones, index is None
        self._known.append((index, dones))
        return [], False

    def applied(self, index: int) -> list[ReadDone]:
        """Reads whose index is now applied."""
        if not self._known:
            return []
        ready = [done for at, dones in self._known if at <= index for done in dones]
        if ready:
            self._known = [(at, dones) for at, dones in self._known if at > index]
            self._count -= len(ready)
        return ready

    def drain(self) -> list[ReadDone]:
        """Every waiting read, to be failed."""
        dones = [
            *self._fresh[False],
            *self._fresh[True],
            *(d for ds in self._asked.values() for d in ds),
            *(d for _, ds in self._known for d in ds),
        ]
        self._fresh, self._asked, self._known, self._count = {False: [], True: []}, {}, [], 0
        self._by_lease.clear()
        return dones


@dataclass(slots=True, eq=False)
class _KeepAliveCall:
    done: KeepAliveDone
    left: int
    expired: list[int] = field(default_factory=list)


class KeepAliveCalls:
    """Who waits for which session's keepalive; one call may name many sessions.

    Law: a call is answered only by an entry that was proposed after it came. Its client counts validity from the
    moment it sent the call, so an earlier entry's stamp would make the client's deadline later than the cluster's.
    """

    def __init__(self) -> None:
        self._by_session: dict[int, list[_KeepAliveCall]] = {}
        self._count = 0
        """(call, session) pairs that wait, those in an entry included."""

    def add(self, session_ids: Sequence[int], done: KeepAliveDone) -> LockmasterError | None:
        """Wait for all of them; an error when the maximum is reached."""
        wanted = set(session_ids)
        if self._count + len(wanted) > KEEP_ALIVES_MAX:
            return Overloaded("too many keepalives wait")
        self._count += len(wanted)
        call = _KeepAliveCall(done, len(wanted))
        for session_id in wanted:
            self._by_session.setdefault(session_id, []).append(call)
        return None

    def take(self, session_ids: Sequence[int]) -> KeepAliveBatch:
        """The calls that an entry proposed now answers; whoever comes later waits for the next one."""
        taken = {session_id: self._by_session.pop(session_id, []) for session_id in session_ids}
        return KeepAliveBatch(self, taken)

    def fail(self, session_ids: Sequence[int] | None, error: LockmasterError) -> None:
        """Fail the calls that name any of these (None: all of them) and are in no entry yet."""
        chosen = list(self._by_session) if session_ids is None else list(session_ids)
        self.take(chosen).fail(error)

    def left(self, count: int) -> None:
        """So many pairs wait no more."""
        self._count -= count


class KeepAliveBatch:
    """The calls that one entry answers."""

    __slots__ = ("_by_session", "_calls")

    def __init__(self, calls: KeepAliveCalls, by_session: dict[int, list[_KeepAliveCall]]) -> None:
        self._calls = calls
        self._by_session = by_session

    def renewed(self, expired: Sequence[int]) -> None:
        """The entry was applied: answer the calls of which it was the last."""
        dead = set(expired)
        for session_id, calls in self._by_session.items():
            self._calls.left(len(calls))
            for call in calls:
                if session_id in dead:
                    call.expired.append(session_id)
                call.left -= 1
                if call.left == 0:
                    call.done(tuple(sorted(call.expired)))

    def fail(self, error: LockmasterError) -> None:
        """The entry was refused, or is unknown: all its calls fail, once each."""
        for calls in self._by_session.values():
            self._calls.left(len(calls))
            for call in calls:
                if call.left > 0:
                    call.left = 0
                    call.done(error)


@dataclass(slots=True, eq=False)
class AdminCall:
    """One administrative proposal; `index` and `term` once it is appended."""

    future: asyncio.Future[int]
    index: int = 0
    term: int = 0
    member_id: int = 0


class AdminCalls:
    """Administrative proposals: by proposal id until appended, by index until applied."""

    def __init__(self) -> None:
        self._by_proposal: dict[int, AdminCall] = {}
        self._by_index: dict[int, AdminCall] = {}

    def add(self, proposal_id: int) -> AdminCall:
        """A call to wait for. Overloaded when too many wait."""
        if len(self._by_proposal) + len(self._by_index) >= ADMIN_CALLS_MAX:
            raise Overloaded("too many administrative calls wait")
        call = AdminCall(asyncio.get_running_loop().create_future())
        self._by_proposal[proposal_id] = call
        return call

    def appended(self, proposal_id: int, index: int, term: int, member_id: int) -> None:
        """It is in the log; a second call that found the same entry waits with it."""
        call = self._by_proposal.pop(proposal_id, None)
        if call is None:
            return
        call.index, call.term, call.member_id = index, term, member_id
        before = self._by_index.get(index)
        if before is not None:
            call.future.add_done_callback(lambda _: None)
            before.future.add_done_callback(lambda f: _copy(f, call.future))
            return
        self._by_index[index] = call

    def resolved(self, proposal_id: int, member_id: int) -> None:
        """It ended well without an entry of its own."""
        call = self._by_proposal.pop(proposal_id, None)
        if call is not None and not call.future.done():
            call.future.set_result(member_id)

    def refused(self, proposal_id: int, error: LockmasterError) -> bool:
        """It was refused; False if it is not an administrative proposal."""
        call = self._by_proposal.pop(proposal_id, None)
        if call is not None and not call.future.done():
            call.future.set_exception(error)
        return call is not None

    def applied(self, index: int, term: int, lost: LockmasterError) -> None:
        """The entry at this index is applied: was it the caller's?"""
        if not self._by_index:
            return
        call = self._by_index.pop(index, None)
        if call is not None and not call.future.done():
            if call.term == term:
                call.future.set_result(call.member_id)
            else:
                call.future.set_exception(lost)

    def fail(self, error: LockmasterError) -> None:
        """Fail everything that waits."""
        calls = [*self._by_proposal.values(), *self._by_index.values()]
        self._by_proposal, self._by_index = {}, {}
        for call in calls:
            if not call.future.done():
                call.future.set_exception(error)


def _copy(source: asyncio.Future[int], target: asyncio.Future[int]) -> None:
    if target.done() or source.cancelled():
        target.cancel()
        return
    error = source.exception()
    if error is not None:
        target.set_exception(error)
    else:
        target.set_result(source.result())
