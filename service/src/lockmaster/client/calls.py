"""One object per operation in flight: how it is written into a Request and what its answer means.

Each call settles its `waiter` (an asyncio.Future in the real client, anything of that shape in tests) exactly once;
protobuf messages of the hot operations are built by the writer, in the frame itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lockmaster.api import lock_pb2, session_pb2
from lockmaster.errors import Indeterminate, LockBusy, LockLost, LockmasterError, LockTimeout, NotHeld, Unavailable

if TYPE_CHECKING:
    from lockmaster.client.holds import Hold, Session
    from lockmaster.client.session_core import SessionCore

GRANTED = lock_pb2.ACQUIRE_STATE_GRANTED
QUEUED = lock_pb2.ACQUIRE_STATE_QUEUED
BUSY = lock_pb2.ACQUIRE_STATE_BUSY
TIMED_OUT = lock_pb2.ACQUIRE_STATE_TIMED_OUT
CANCELLED = lock_pb2.ACQUIRE_STATE_CANCELLED

INFINITE = float("inf")
OVERHEAD_BYTES = 64


class Waiter(Protocol):
    """Who waits for an answer; asyncio.Future is one."""

    def done(self) -> bool:
        """True once settled or given up."""

    def set_result(self, result: Any, /) -> None:
        """Settles with a value."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Settles with an error."""


class Call:
    """One operation. `seq` 0: not deduplicated or not yet numbered; `session` None: not bound to one yet."""

    __slots__ = ("attempt", "deadline", "id", "in_flight", "seq", "session", "traceparent", "unsure", "waiter")

    mutation = True
    """Numbered, sent under a session, resent under the same number."""
    persistent = False
    """Goes on being resent after its waiter was told that the time ran out, for as long as the session lives."""
    rebindable = True
    """May be sent under a new session if the old one certainly refused it."""

    def __init__(self, waiter: Waiter | None) -> None:
        self.waiter = waiter
        # W3C Trace Context of the operation's span, where that is sampled.
        self.traceparent: str | None = None
        self.id = 0
        self.seq = 0
        self.session: Session | None = None
        self.deadline = INFINITE
        self.attempt = 0
        self.in_flight = False
        # True: an earlier attempt's answer was lost, so it may have been done.
        self.unsure = False

    def fill(self, request: session_pb2.Request) -> None:
        """Writes the operation into `request`."""
        raise NotImplementedError

    def size(self) -> int:
        """About how many bytes it takes in a frame."""
        return OVERHEAD_BYTES

    def answered(self, core: SessionCore, response: session_pb2.Response) -> None:
        """Takes an answer with status OK."""
        raise NotImplementedError

    def refused(self, core: SessionCore, error: LockmasterError) -> None:
        """Takes an error that is final."""
        self.fail(error)

    def settle(self, value: Any) -> None:
        """Gives the waiter its value, unless it has given up."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(value)

    def fail(self, error: Exception) -> None:
        """Gives the waiter its error, unless it has given up."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    @property
    def given_up(self) -> bool:
        """Nobody waits for it any more."""
        return self.waiter is not None and self.waiter.done()


class AcquireCall(Call):
    """Take a lock or queue for it. Settles with a Hold."""

    __slots__ = ("enqueued", "hold", "name", "timeout_ms", "token", "wait")

    def __init__(self, waiter: Waiter, name: str, wait: bool, timeout_ms: int) -> None:
        super().__init__(waiter)
        self.name = name
        self.wait = wait
        self.timeout_ms = timeout_ms
        self.enqueued = False
        self.hold: Hold | None = None
        # What it was granted, once it was: with a hold, or while that is not proved yet.
        self.token = 0

    def fill(self, request: session_pb2.Request) -> None:
        """See Call."""
        acquire = request.acquire
        acquire.name = self.name
        if self.wait:
            acquire.wait = True
            if self.timeout_ms:
                acquire.timeout_ms = self.timeout_ms

    def answered(self, core: SessionCore, response: session_pb2.Response) -> None:
        """See Call."""
        acquire = response.acquire
        state = acquire.state
        if state == GRANTED:
            core.granted(self, acquire.token)
        elif state == QUEUED:
            core.enqueued(self)
        else:
            self.ended(core, state)

    def ended(self, core: SessionCore, state: int) -> None:
        """It left the queue, or never got in, without the lock."""
        if self.seq and self.session is not None:
            self.session.waiting.pop(self.seq, None)
        if state == BUSY:
            self.fail(LockBusy(f"lock {self.name!r} is held by somebody else"))
        elif state == TIMED_OUT:
            self.fail(LockTimeout(f"lock {self.name!r} was not granted within {self.timeout_ms / 1000:g} s"))
        elif state == CANCELLED:
            self.fail(LockTimeout(f"the wait for lock {self.name!r} was withdrawn"))
        else:
            self.fail(LockLost(self.name, 0, "it was granted and ended before this client was told"))


class ReleaseCall(Call):
    """Give a lock back. Settles with None."""

    __slots__ = ("hold", "name", "token")
    persistent = True
    rebindable = False

    def __init__(self, waiter: Waiter | None, session: Session, name: str, token: int, hold: Hold | None) -> None:
        super().__init__(waiter)
        self.session = session
        self.name = name
        self.token = token
        self.hold = hold

    def fill(self, request: session_pb2.Request) -> None:
        """See Call."""
        release = request.release
        release.name = self.name
        release.token = self.token

    def answered(self, core: SessionCore, response: session_pb2.Response) -> None:
        """See Call."""
        self.session.holds.pop(self.token, None)  # type: ignore[union-attr]
        self.settle(None)

    def refused(self, core: SessionCore, error: LockmasterError) -> None:
        """NOT_HELD at a release means that the lock was lost before."""
        hold = self.hold
        if self.session is not None:
            self.session.holds.pop(self.token, None)
        if isinstance(error, NotHeld):
            lost = LockLost(self.name, self.token, "it was no longer held when it was released")
            if hold is not None and hold.lost is None:
                hold.lose(lost)
            error = lost
        self.fail(error)


class CancelCall(Call):
    """Withdraw an acquire; a lock that was granted first is given back. Nobody waits for it."""

    __slots__ = ("acquire_seq", "name")
    persistent = True
    rebindable = False

    def __init__(self, session: Session, name: str, acquire_seq: int) -> None:
        super().__init__(None)
        self.session = session
        self.name = name
        self.acquire_seq = acquire_seq

    def fill(self, request: session_pb2.Request) -> None:
        """See Call."""
        request.cancel_acquire.name = self.name
        request.cancel_acquire.acquire_seq = self.acquire_seq

    def answered(self, core: SessionCore, response: session_pb2.Response) -> None:
        """See Call."""
        answer = response.cancel_acquire
        if answer.state == GRANTED and self.session is not None:
            core.give_back(self.session, self.name, answer.token)


class MessageCall(Call):
    """Any other mutation: a ready message under its field of Request. Settles with the answer's message."""

    __slots__ = ("bytes_extra", "field", "message")

    def __init__(self, waiter: Waiter | None, field: str, message: Any, bytes_extra: int = 0) -> None:
        super().__init__(waiter)
        self.field = field
        self.message = message
        self.bytes_extra = bytes_extra

    def fill(self, request: session_pb2.Request) -> None:
        """See Call."""
        getattr(request, self.field).CopyFrom(self.message)

    def size(self) -> int:
        """See Call."""
        return OVERHEAD_BYTES + self.bytes_extra

    def answered(self, core: SessionCore, response: session_pb2.Response) -> None:
        """See Call."""
        self.settle(getattr(response, self.field))


class ReadCall(MessageCall):
    """A read: needs no session, is not numbered, may be repeated at will."""

    __slots__ = ()
    mutation = False


class ControlCall(ReadCall):
    """A step of the session or of a watch: goes before everything else; `then` takes its answer or error."""

    __slots__ = ("then",)

    def __init__(self, field: str, message: Any, then: Any) -> None:
        super().__init__(None, field, message)
        self.then = then

    def answered(self, core: SessionCore, response: session_pb2.Response) -> None:
        """See Call."""
        self.then(getattr(response, self.field), None)

    def refused(self, core: SessionCore, error: LockmasterError) -> None:
        """See Call."""
        self.then(None, error)


def error_of_unanswered(call: Call, why: str) -> LockmasterError:
    """What a caller is told whose call got no answer: Indeterminate if it may have been done."""
    if call.mutation and (call.unsure or call.in_flight):
        return Indeterminate(f"it may have been done, but there was no answer: {why}")
    return Unavailable(f"nothing was done: {why}")
