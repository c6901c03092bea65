"""The client's half of a session, without I/O: what to send next, and what an answer means.

Theory of operation. The connection asks `next_frame()` whenever it can write and hands every message it reads to
`receive()`; nothing here sleeps, reads a clock or knows a socket. Calls wait in one of three queues: control (open,
attach, watches), mutations, reads. A mutation gets its sequence number when it is first written into a frame, and
keeps (session, seq) through every resend: after a lost connection, NotLeader or Indeterminate the same numbers go
out again and the server's completion records make that harmless (RIFL).

Laws:
- seq < lowest pending + WINDOW_MAX: the server keeps at most that many completion records.
- a call is in exactly one of: a queue, `_delayed`, `_in_flight`, settled.
- a call that was sent under a session that has ended is never sent under another one, unless the server answered
  SESSION_EXPIRED to its only attempt: then it was certainly not done.
- a deadline that passes removes the call's number from the window, so `first_incomplete` moves on and a late copy of
  it is refused as STALE; releases and withdrawals are kept instead, until they are answered or the session ends.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockmaster.api import config_pb2, session_pb2, status_pb2
from lockmaster.client.calls import (
    AcquireCall,
    Call,
    CancelCall,
    ControlCall,
    ReadCall,
    ReleaseCall,
    error_of_unanswered,
)
from lockmaster.client.failures import error_of_response
from lockmaster.client.holds import Hold, Session
from lockmaster.client.ownership import NOT_RENEWED, attach, check_validity, take_event
from lockmaster.client.policy import Retry, policy
from lockmaster.errors import (
    Indeterminate,
    LockLost,
    LockmasterError,
    LockTimeout,
    NotLeader,
    Overloaded,
    SessionExpired,
    Unavailable,
)

if TYPE_CHECKING:
    from lockmaster.client.watching import Watching

WINDOW_MAX = 512
BACKLOG_MAX = 65_536
FRAME_REQUESTS_MAX = 1_024
FRAME_BYTES_MAX = 1 << 20
SILENCE_SECONDS_MAX = 3.0
PROBE_SECONDS = 5.0
TICK_SECONDS = 0.25
MEMBERS_MAX = 32


@dataclass(frozen=True, slots=True)
class Redirect:
    """Leave this member after `delay` seconds: for `address`, or for any other one if it is empty."""

    address: str
    delay: float


class SessionCore:
    """All calls of one client. One thread only; every method returns at once."""

    def __init__(
        self,
        *,
        ttl: float,
        label: str,
        lock_delay: float,
        wake: Callable[[], None],
        nonce: Callable[[], bytes],
        draw: Callable[[], float],
        session_changed: Callable[[Session | None], None],
        now: float,
    ) -> None:
        self.ttl = ttl
        self.label = label
        self.lock_delay = lock_delay
        self.now = now
        self.session: Session | None = None
        self.redirect: Redirect | None = None
        self.watches: dict[int, Watching] = {}
        # The last reason why a call had to be tried again: for the texts of errors only.
        self.trouble = ""
        # Client addresses of members, as last told; and that of the one at the other end, if it has told it.
        self.members: tuple[str, ...] = ()
        self.member = ""
        # True: this client's application says what is traced.
        self.traced = False
        self._wake = wake
        self._woken = False
        self._make_nonce = nonce
        self._draw = draw
        self._session_changed = session_changed
        # True: what is taken away from the session is heard of by this stream, and was until now.
        self.attached = False
        self._connected = False
        self._control: deque[Call] = deque()
        self._mutations: deque[Call] = deque()
        self._reads: deque[Call] = deque()
        self._delayed: list[tuple[float, int, Call]] = []
        self._in_flight: dict[int, Call] = {}
        self._next_id = 1
        self._nonce = b""
        self._open_sent = 0.0
        self._opening = False
        self._unheard_since: float | None = None
        self._probed = now

    # ---- calls -----------------------------------------------------------------------------------------------------

    def submit(self, call: Call, timeout: float | None = None) -> None:
        """Queues a call; `timeout` seconds from now its waiter is told that no answer came.

        Raises Overloaded when BACKLOG_MAX calls are waiting; nothing is queued then.
        """
        queue = self._mutations if call.mutation else self._reads
        if len(queue) >= BACKLOG_MAX and not call.persistent:
            raise Overloaded(f"{BACKLOG_MAX} calls of this client are waiting to be sent")
        if timeout is not None:
            call.deadline = self.now + timeout
        queue.append(call)
        if not self._woken:
            self._woken = True
            self._wake()

    def withdraw(self, call: AcquireCall) -> None:
        """The caller of an acquire has gone: its place, or its lock, is given back, whatever was answered."""
        session = call.session
        if session is None or session.ended or call.seq == 0:
            return
        if call.token:
            self.give_back(session, call.name, call.token)
            return
        session.waiting.pop(call.seq, None)
        self.submit(CancelCall(session, call.name, call.seq))

    def time_out(self, call: AcquireCall, seconds: float) -> None:
        """The caller of an acquire will wait no longer."""
        if call.given_up:
            return
        if call.token:
            call.fail(LockLost(call.name, call.token, NOT_RENEWED))
        elif call.enqueued:
            call.fail(LockTimeout(f"lock {call.name!r} was not granted within {seconds:g} s"))
        else:
            wait = f"the wait for lock {call.name!r} is withdrawn"
            call.fail(Unavailable(f"no answer within {seconds:g} s; {wait}{self._because()}"))
        self.withdraw(call)

    def give_back(self, session: Session, name: str, token: int) -> None:
        """Releases a lock that nobody uses."""
        session.holds.pop(token, None)
        session.unproved.pop(token, None)
        if not session.ended:
            self.submit(ReleaseCall(None, session, name, token, None))

    def control(self, field: str, message: object, then: Callable[..., None]) -> None:
        """Queues a step that goes before everything else; forgotten when the connection is lost."""
        self._control.append(ControlCall(field, message, then))
        self._stir()

    @property
    def idle(self) -> bool:
        """Nothing is waiting, in flight, held or watched."""
        session = self.session
        owned = session is not None and (session.holds or session.waiting or session.unproved)
        return not (
            self._control or self._mutations or self._reads or self._delayed or self._in_flight or owned or self.watches
        )

    @property
    def has_retries(self) -> bool:
        """A call waits for its time to be sent again."""
        return bool(self._delayed)

    def next_tick(self, now: float) -> float:
        """Seconds until tick() should be called next."""
        due = self._delayed[0][0] - now if self._delayed else TICK_SECONDS
        return min(TICK_SECONDS, max(0.0, due))

    # ---- the connection's side -------------------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """A new stream is open: attach the session, resume watches, then everything unanswered goes out again."""
        self.now = self._probed = now
        self._connected = True
        self.member = ""
        self._unheard_since = None
        if self.session is not None:
            attach(self, self.session)
        for watching in self.watches.values():
            watching.start(self)

    def disconnected(self, now: float) -> None:
        """The stream is gone. Unanswered calls will be resent under the same numbers."""
        self.now = now
        self._connected = self.attached = False
        self.redirect = None
        self._opening = False
        self._control.clear()
        resend: list[Call] = []
        for call in self._in_flight.values():
            call.in_flight = False
            if isinstance(call, ControlCall):
                continue
            call.unsure = True
            if call.session is not None and call.session.ended:
                self._finish(call, Indeterminate("no answer before the session ended; it may have been done"))
            else:
                resend.append(call)
        self._in_flight.clear()
        for call in sorted(resend, key=lambda each: each.id, reverse=True):
            (self._mutations if call.mutation else self._reads).appendleft(call)

    def next_frame(self, now: float) -> bytes | None:
        """The next message to write, or None if there is nothing that may be sent now."""
        self.now = now
        self._woken = False
        if not self._connected or self.redirect is not None:
            return None
        session = self.session
        if session is None and self._mutations:
            self._open()
        frame = session_pb2.ClientFrame()
        room = FRAME_BYTES_MAX
        room = self._fill(frame, self._control, room)
        if session is not None:
            frame.session_id = session.id
            room = self._fill_mutations(frame, session, room)
        self._fill(frame, self._reads, room)
        if not frame.requests:
            return None
        if session is not None:
            frame.first_incomplete = session.lowest_pending()
        if self.traced:
            frame.traced = True
        if self._unheard_since is None:
            self._unheard_since = now
        return frame.SerializeToString()

    def _fill(self, frame: session_pb2.ClientFrame, queue: deque[Call], room: int) -> int:
        requests = frame.requests
        while queue and room > 0 and len(requests) < FRAME_REQUESTS_MAX:
            call = queue.popleft()
            if call.given_up:
                continue
            request = _filled(call, requests)
            if request is not None:
                room -= call.size()
                self._write(call, request)
        return room

    def _fill_mutations(self, frame: session_pb2.ClientFrame, session: Session, room: int) -> int:
        requests = frame.requests
        queue = self._mutations
        pending = session.pending
        seq_end = session.lowest_pending() + WINDOW_MAX
        in_flight = self._in_flight
        while queue and room > 0 and len(requests) < FRAME_REQUESTS_MAX:
            call = queue.popleft()
            waiter = call.waiter
            if waiter is not None and not call.persistent and waiter.done():
                pending.pop(call.seq, None)
                continue
            if call.session is not session and call.session is not None:
                self._orphan(call)
                continue
            if call.seq == 0:
                if session.next_seq >= seq_end:
                    queue.appendleft(call)
                    break
                call.session = session
                call.seq = session.next_seq
                session.next_seq += 1
                pending[call.seq] = call
            # Inlined _write: this is the hot path.
            request = _filled(call, requests)
            if request is None:
                pending.pop(call.seq)
                continue
            room -= call.size()
            if call.id == 0:
                call.id = self._next_id
                self._next_id += 1
            call.attempt += 1
            call.in_flight = True
            in_flight[call.id] = call
            request.id = call.id
            request.seq = call.seq
            if call.traceparent is not None:
                request.traceparent = call.traceparent
        return room

    def _write(self, call: Call, request: session_pb2.Request) -> None:
        if call.id == 0:
            call.id = self._next_id
            self._next_id += 1
        call.attempt += 1
        call.in_flight = True
        self._in_flight[call.id] = call
        request.id = call.id
        if call.traceparent is not None:
            request.traceparent = call.traceparent

    def receive(self, data: bytes, now: float) -> None:
        """Takes one message of the server. Afterwards look at `redirect`."""
        self.now = now
        frame = session_pb2.ServerFrame.FromString(data)
        in_flight = self._in_flight
        for response in frame.responses:
            call = in_flight.pop(response.id, None)
            if call is None:
                continue
            call.in_flight = False
            if response.status == 0:
                if call.seq:
                    call.session.pending.pop(call.seq, None)  # type: ignore[union-attr]
                call.answered(self, response)
            else:
                self._refused(call, response)
        for event in frame.events:
            take_event(self, event)
        self._unheard_since = now if in_flight else None
        if frame.HasField("moved"):
            if frame.moved.address:
                self.redirect = Redirect(frame.moved.address, 0.0)  # newer than what answers have said
            else:
                self._leave("", 0.02)
        if frame.HasField("members"):
            self.members = tuple(frame.members.addresses[:MEMBERS_MAX])
            self.member = frame.members.own
        if self._mutations or self._reads or self._control:
            self._stir()

    def tick(self, now: float) -> None:
        """To be called every <= 0.25 s while not idle: deadlines, retries, validity, silence."""
        self.now = now
        while self._delayed and self._delayed[0][0] <= now:
            call = heapq.heappop(self._delayed)[2]
            (self._mutations if call.mutation else self._reads).appendleft(call)
            self._stir()
        for calls in (self._in_flight.values(), self._mutations, self._reads, [each[2] for each in self._delayed]):
            self._check_deadlines(calls)
        check_validity(self, now)
        if self._connected and self._unheard_since is not None and now - self._unheard_since > SILENCE_SECONDS_MAX:
            self._leave("", 0.0)
        if self._connected and now - self._probed > PROBE_SECONDS and not self._in_flight:
            self._probe(now)

    # ---- answers ---------------------------------------------------------------------------------------------------

    def granted(self, call: AcquireCall, token: int) -> None:
        """An acquire holds its lock, by an answer, an event or an attach: whichever comes first counts."""
        session = call.session
        if session is None or call.hold is not None:
            return
        session.waiting.pop(call.seq, None)
        hold = Hold(session, call.name, token, call.seq)
        if session.ended:
            call.fail(LockLost(call.name, token, "the session ended"))
        elif call.given_up:
            self.give_back(session, call.name, token)
        elif session.valid_until <= self.now:
            # This process stood still, or the group did: the session may be over by now, so nobody may begin to rely on
            # the lock before a renewal has said that it was not (check_validity); nor keep it from others for good.
            call.token = token
            call.deadline = min(call.deadline, self.now + session.ttl)
            session.unproved[token] = call
        else:
            call.token = token
            call.hold = hold
            session.holds[token] = hold
            call.settle(hold)

    def enqueued(self, call: AcquireCall) -> None:
        """An acquire stands in the queue: a grant or an end will come as an event."""
        session = call.session
        call.enqueued = True
        if session is None or call.token or call.given_up:
            return
        if session.ended:
            call.fail(SessionExpired(f"the session ended while waiting for lock {call.name!r}"))
        else:
            session.waiting[call.seq] = call

    def _refused(self, call: Call, response: session_pb2.Response) -> None:
        error = error_of_response(response)
        if isinstance(error, Indeterminate):
            call.unsure = True
        if isinstance(error, SessionExpired) and call.session is not None:
            self.session_ended(call.session, "the session expired")
            self._orphan(call)
            return
        if isinstance(error, SessionExpired) and self.session is not None and isinstance(call, ControlCall):
            self.session_ended(self.session, "the session expired")
        retryable: LockmasterError = error
        if response.status == status_pb2.STATUS_WINDOW_FULL:
            retryable = Overloaded(str(error))
        decision = policy(retryable, call.attempt, call.deadline - self.now, draw=self._draw())
        if isinstance(decision, Retry):
            self._retry(call, retryable, decision)
        elif isinstance(error, (NotLeader, Overloaded, Unavailable, Indeterminate)) and call.unsure:
            self._finish(call, error_of_unanswered(call, str(error)))
        else:
            self._finish(call, error)

    def _because(self) -> str:
        return f"; last trouble: {self.trouble}" if self.trouble else ""

    def _retry(self, call: Call, error: LockmasterError, decision: Retry) -> None:
        self.trouble = str(error)
        queue = self._control if isinstance(call, ControlCall) else self._mutations if call.mutation else self._reads
        if isinstance(error, (NotLeader, Unavailable)):
            # Everything unanswered moves with it; the stream is left once this message is through.
            queue.appendleft(call)
            self._leave(decision.to if isinstance(decision.to, str) else "", decision.delay)
        elif queue is self._control:
            self._leave("", decision.delay)
        else:
            heapq.heappush(self._delayed, (self.now + decision.delay, call.id, call))

    def _leave(self, address: str, delay: float) -> None:
        if self.redirect is None or (address and not self.redirect.address):
            self.redirect = Redirect(address, delay)

    def _finish(self, call: Call, error: LockmasterError) -> None:
        if call.seq and call.session is not None:
            call.session.pending.pop(call.seq, None)
        call.refused(self, error)

    def _orphan(self, call: Call) -> None:
        """The session of a call has ended before the call was answered."""
        if call.session is not None:
            call.session.pending.pop(call.seq, None)
        if isinstance(call, ReleaseCall):
            lost = call.hold.lost if call.hold is not None else None
            call.fail(lost or LockLost(call.name, call.token, "the session expired before it was released"))
        elif call.unsure:
            call.refused(self, Indeterminate("the session ended before an answer came; it may have been done"))
        elif call.rebindable and not call.given_up:
            # Certainly not done: it has never been sent, or its only attempt was refused.
            call.session = None
            call.seq = call.id = call.attempt = 0
            self._mutations.append(call)
            self._stir()

    # ---- the session -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._opening:
            return
        self._opening = True
        if not self._nonce:
            self._nonce = self._make_nonce()
            # A repeated open answers with the session of the first one: validity counts from that.
            self._open_sent = self.now
        request = session_pb2.OpenSessionRequest(
            nonce=self._nonce,
            ttl_ms=round(self.ttl * 1000),
            label=self.label,
            lock_delay_ms=round(self.lock_delay * 1000),
        )
        self._control.append(ControlCall("open_session", request, self._opened))

    def _opened(self, answer: session_pb2.OpenSessionResponse | None, error: LockmasterError | None) -> None:
        self._opening = False
        if answer is None:
            for call in list(self._mutations):
                call.fail(error or Unavailable("no session could be opened"))
            self._mutations.clear()
            return
        self._nonce = b""
        self.session = Session(answer.session_id, answer.ttl_ms / 1000, self._open_sent)
        attach(self, self.session)
        self._session_changed(self.session)

    def session_ended(self, session: Session, cause: str) -> None:
        """Its locks are lost and its waits are over; calls in flight are told when their answers come, or don't."""
        if session.ended:
            return
        session.ended = True
        if self.session is session:
            self.session = None
            self._session_changed(None)
        holds, waiting = list(session.holds.values()), list(session.waiting.values())
        unproved = list(session.unproved.values())
        for owned in (session.holds, session.waiting, session.unproved):
            owned.clear()
        for hold in holds:
            hold.lose(LockLost(hold.name, hold.token, cause))
        for granted in unproved:
            granted.fail(LockLost(granted.name, granted.token, cause))
        for waiter in waiting:
            waiter.fail(SessionExpired(f"{cause} while waiting for lock {waiter.name!r}"))
        delayed, self._delayed = self._delayed, []
        for _, _, call in delayed:
            (self._mutations if call.mutation else self._reads).append(call)
        bound = [call for call in self._mutations if call.session is session]
        if bound:
            self._mutations = deque(call for call in self._mutations if call.session is not session)
            for call in bound:
                self._orphan(call)

    def locked_out(self, error: LockmasterError) -> None:
        """A member lets nobody in with what this client shows: calls that were never sent fail with that, at once.

        Those that may have been done, and what is held or watched, go on trying: another token may be there by then.
        """
        for queue in (self._mutations, self._reads):
            for call in [each for each in queue if each.attempt == 0]:
                queue.remove(call)
                self._finish(call, error)

    def abandon(self) -> None:
        """The client is being closed: whoever still waits is told."""
        calls = [*self._in_flight.values(), *self._mutations, *self._reads, *(each[2] for each in self._delayed)]
        for call in calls:
            call.fail(error_of_unanswered(call, "the client was closed"))
        for watching in list(self.watches.values()):
            watching.stop(Unavailable("the client was closed"))

    # ---- small parts -----------------------------------------------------------------------------------------------

    def _stir(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake()

    def _probe(self, now: float) -> None:
        """Makes a dead stream show itself to a client that only waits, and catches up on what it missed."""
        self._probed = now
        session = self.session
        if session is not None and (session.holds or session.waiting or session.unproved):
            attach(self, session)
            self._stir()
        elif self.watches:
            read = status_pb2.ReadOptions(consistency=status_pb2.CONSISTENCY_EVENTUAL)
            watching = next(iter(self.watches.values()))
            request = config_pb2.GetRequest(namespace=watching.namespace, key=watching.key or "-", read=read)
            self._reads.append(ReadCall(None, "get", request))
            self._stir()

    def _check_deadlines(self, calls: Iterable[Call]) -> None:
        for call in [each for each in calls if each.deadline <= self.now]:
            error = error_of_unanswered(call, "the time ran out" + self._because())
            if call.persistent:
                call.deadline = float("inf")
                call.fail(error)
                continue
            self._in_flight.pop(call.id, None)
            call.in_flight = False
            self._finish(call, error)
            if isinstance(call, AcquireCall) and call.seq and call.hold is None:
                self.withdraw(call)


def _filled(call: Call, requests: Any) -> session_pb2.Request | None:
    """One more of the requests; None if it can't be encoded: its caller's mistake, which must hold up nobody else."""
    request: session_pb2.Request = requests.add()
    try:
        call.fill(request)
    except (TypeError, ValueError) as error:
        del requests[-1]
        call.fail(error)
        return None
    return request
