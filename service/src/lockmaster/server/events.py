"""Who is told what an applied entry caused: attached streams, unary acquires that wait, readers of a later revision.

One listener of the engine feeds all of them, in the loop's thread, right after each applied entry.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from lockmaster.errors import LockmasterError, Overloaded, Unavailable
from lockmaster.statemachine import commands
from lockmaster.statemachine.commands import Event

REVISION_WAITERS_MAX: Final = 10_000
ACQUIRE_WAITERS_MAX: Final = 100_000


class Attached(Protocol):
    """A stream that sessions can be attached to."""

    def deliver(
        self, event: commands.LockGranted | commands.LockLost | commands.AcquireEnded | commands.SessionEnded
    ) -> None:
        """Queue the event for sending."""


AcquireEnd = commands.LockGranted | commands.AcquireEnded | commands.SessionEnded
ChangeListener = Callable[[Sequence[commands.ConfigChanged], int], None]


class EventHub:
    """Session -> attached stream, and (session, seq) -> a unary acquire that waits."""

    def __init__(self) -> None:
        self._streams: dict[int, Attached] = {}
        self._acquires: dict[int, dict[int, Callable[[AcquireEnd], None]]] = {}
        self._acquire_count = 0
        self.changes: ChangeListener | None = None
        """Gets the config changes of each entry and the revision after it."""
        self.revision_waiters: RevisionWaiters | None = None

    def attach(self, session_id: int, stream: Attached) -> None:
        """From now on the session's events go to this stream; the last one to attach has it."""
        self._streams[session_id] = stream

    def detach(self, session_id: int, stream: Attached) -> None:
        """Undo attach, unless another stream has attached since."""
        if self._streams.get(session_id) is stream:
            del self._streams[session_id]

    def wait_acquire(self, session_id: int, seq: int, told: Callable[[AcquireEnd], None]) -> None:
        """Tells how this queued acquire ends. Raises Overloaded at the stated maximum."""
        if self._acquire_count >= ACQUIRE_WAITERS_MAX:
            raise Overloaded(f"{ACQUIRE_WAITERS_MAX} unary acquires wait on this member", 1.0)
        waiting = self._acquires.setdefault(session_id, {})
        self._acquire_count += seq not in waiting
        waiting[seq] = told

    def forget_acquire(self, session_id: int, seq: int, told: Callable[[AcquireEnd], None]) -> bool:
        """Undo wait_acquire; False if it has been told, or another call waits under this seq since."""
        waiting = self._acquires.get(session_id)
        if waiting is None or waiting.get(seq) is not told:
            return False
        del waiting[seq]
        self._acquire_count -= 1
        if not waiting:
            del self._acquires[session_id]
        return True

    def listen(self, events: Sequence[Event], revision: int) -> None:
        """The engine's listener."""
        changed: list[commands.ConfigChanged] = []
        for event in events:
            if isinstance(event, commands.ConfigChanged):
                changed.append(event)
                continue
            stream = self._streams.get(event.session_id)
            if stream is not None:
                stream.deliver(event)
                if isinstance(event, commands.SessionEnded):
                    self._streams.pop(event.session_id, None)
            if self._acquires:
                self._tell_acquires(event)
        if self.changes is not None:
            self.changes(changed, revision)
        if self.revision_waiters is not None:
            self.revision_waiters.reached(revision)

    def _tell_acquires(
        self, event: commands.LockGranted | commands.LockLost | commands.AcquireEnded | commands.SessionEnded
    ) -> None:
        waiting = self._acquires.get(event.session_id)
        if waiting is None or isinstance(event, commands.LockLost):
            return
        if isinstance(event, commands.SessionEnded):
            told = list(waiting.values())
            self._acquire_count -= len(waiting)
            del self._acquires[event.session_id]
            for tell in told:
                tell(event)
            return
        tell_one = waiting.pop(event.acquire_seq, None)
        if tell_one is not None:
            self._acquire_count -= 1
            if not waiting:
                del self._acquires[event.session_id]
            tell_one(event)


class RevisionWaiters:
    """Reads that wait until this member has applied a revision; bounded in number and time."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[LockmasterError | None], None]]] = []
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._next = 0

    def wait(self, revision: int, ready: Callable[[LockmasterError | None], None], wait_s: float) -> None:
        """ready(None) once the revision is applied; ready(Unavailable) after so many seconds."""
        if len(self._heap) >= REVISION_WAITERS_MAX:
            raise Overloaded(f"{REVISION_WAITERS_MAX} reads wait for a later revision on this member")
        number = self._next
        self._next += 1
        heapq.heappush(self._heap, (revision, number, ready))
        self._timers[number] = asyncio.get_running_loop().call_later(
            wait_s, self._expire, revision, number, ready, wait_s
        )

    def reached(self, revision: int) -> None:
        """Lets those go that waited for this revision or an earlier one."""
        while self._heap and self._heap[0][0] <= revision:
            _, number, ready = heapq.heappop(self._heap)
            timer = self._timers.pop(number, None)
            if timer is not None:
                timer.cancel()
                ready(None)

    def _expire(
        self, revision: int, number: int, ready: Callable[[LockmasterError | None], None], wait_s: float
    ) -> None:
        if self._timers.pop(number, None) is None:
            return
        self._heap.remove((revision, number, ready))
        heapq.heapify(self._heap)
        ready(Unavailable(f"revision {revision} was not applied here within {wait_s:g} s; ask another member"))
