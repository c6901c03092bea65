"""Exclusive locks: FIFO queues, fencing tokens, lock-delay.

Theory of operation. A lock has a record only while it is held, waited for or in its lock-delay. Waiters are records
of their own, linked by tickets, so a queue of any length costs the same per operation. Each acquire that holds or
waits has a Claim under (session, seq): what a session owns is one scan of its claims.

Laws.
1. token > 0 (held) <=> exactly one Claim of that name has that token.
2. A lock that is free, out of its delay and waited for exists only within an apply, except that the end of a delay
   is noticed by the next operation on the lock or by Expire.
3. The fencing token is the revision that the grant took: no two grants share one (service.md §3).
4. A waiter whose deadline has passed is never granted.
"""

from __future__ import annotations

from typing import Final

from lockmaster.statemachine.commands import (
    Acquire,
    AcquireEnded,
    CancelAcquire,
    CommandKind,
    Dedup,
    EndCause,
    ForceRelease,
    LockGranted,
    LockLost,
    Release,
    Result,
    ResultStatus,
)
from lockmaster.statemachine.limits import INT_MAX, fits, is_text
from lockmaster.statemachine.records import (
    CLAIMS,
    COMPLETIONS,
    LOCKS,
    SESSIONS,
    WAITERS,
    WINDOWS,
    Claim,
    Completion,
    Lock,
    Waiter,
    Window,
)
from lockmaster.statemachine.table import Context, Kind
from lockmaster.statemachine.view import StateView
from lockmaster.statemachine.wire import U64, Reader, pack_text

POSITION_STEPS_MAX: Final = 64
"""How many places are counted exactly; behind that the position is an upper bound made of tickets."""

RECORD_BYTES: Final = 64


def window_of(context: Context, session_id: int) -> Window | None:
    """The session's window: the running command's own object where it is the same session."""
    if session_id == context.window_id:
        return context.window
    return context.view.get(WINDOWS, session_id)


def drop_claim(context: Context, session_id: int, acquire_seq: int) -> None:
    """The acquire neither holds nor waits any more."""
    context.view.delete(CLAIMS, (session_id, acquire_seq))
    if session_id == context.window_id and context.window is not None:
        context.window.claims_count -= 1  # execute_once stores it
        return
    window = context.view.get(WINDOWS, session_id)
    if window is not None:
        window.claims_count -= 1
        context.view.put(WINDOWS, session_id, window)


def amend_completion(context: Context, session_id: int, acquire_seq: int, status: ResultStatus, revision: int) -> None:
    """Bring a stored QUEUED answer up to date, if the client has not acknowledged it yet."""
    record = context.view.get(COMPLETIONS, (session_id, acquire_seq))
    if record is not None:
        record.status, record.revision, record.extra = status, revision, 0
        context.view.put(COMPLETIONS, (session_id, acquire_seq), record)


def current_answer(context: Context, record: Completion, session_id: int, seq: int) -> Result:
    """The answer to the retry of an acquire: granted with its token, queued where it now stands, or how it ended."""
    if record.status is ResultStatus.QUEUED:
        claim = context.view.get(CLAIMS, (session_id, seq))
        if claim is not None and claim.ticket:
            return Result(ResultStatus.QUEUED, 0, queue_position(context.view, claim.name, claim.ticket))
    if record.status is ResultStatus.OK and context.view.get(CLAIMS, (session_id, seq)) is None:
        return Result(ResultStatus.ENDED, record.revision)
    return Result(record.status, record.revision, record.extra)


def queue_position(view: StateView, name: str, ticket: int) -> int:
    """Place in the queue from 1: exact among the first POSITION_STEPS_MAX, else at most this."""
    lock = view.get(LOCKS, name)
    if lock is None:
        return 0
    step, count = lock.head, 1
    while step != ticket and step and count <= POSITION_STEPS_MAX:
        waiter = view.get(WAITERS, (name, step))
        step = waiter.following if waiter is not None else 0
        count += 1
    if step == ticket:
        return count
    return min(ticket - lock.head + 1, lock.waiting)


# -- acquire


def execute_acquire(context: Context, operation: Acquire, dedup: Dedup | None) -> Result:
    """Grant, queue or refuse."""
    name = operation.name
    limits = context.limits
    if dedup is None or operation.timeout_ns > limits.wait_ns_max or not is_text(name, limits.name_bytes_max):
        return Result(ResultStatus.INVALID)
    view, window = context.view, context.window
    lock = view.get(LOCKS, name)
    if lock is None:
        lock = Lock(0, 0, 0, 0, 0, 0, 0, 0, 0)
    elif not lock.token and context.cluster_time >= lock.delay_until and lock.waiting:
        settle(context, name, lock)
        lock = view.get(LOCKS, name) or Lock(0, 0, 0, 0, 0, 0, 0, 0, 0)
    free = not lock.token and not lock.waiting and context.cluster_time >= lock.delay_until
    if not free and not operation.wait:
        return Result(ResultStatus.BUSY)
    if window is None or window.claims_count >= limits.session_claims_count_max:
        return Result(ResultStatus.QUOTA_EXCEEDED)
    if not free:
        return enqueue(context, operation, dedup, lock, window)
    window.claims_count += 1
    context.revision = token = context.revision + 1
    lock.session_id = dedup.session_id
    lock.acquire_seq = dedup.seq
    lock.token = token
    lock.granted_at = context.cluster_time
    lock.delay_until = 0
    view.put(LOCKS, name, lock)
    view.insert(CLAIMS, (dedup.session_id, dedup.seq), Claim(name, token, 0))
    return Result(ResultStatus.OK, token)


def enqueue(context: Context, operation: Acquire, dedup: Dedup, lock: Lock, window: Window) -> Result:
    """Put the acquire at the end of the queue."""
    view, name = context.view, operation.name
    if lock.waiting >= context.limits.lock_waiters_count_max:
        return Result(ResultStatus.QUOTA_EXCEEDED)
    window.claims_count += 1
    context.revision += 1
    ticket = lock.ticket_last = lock.ticket_last + 1
    now = context.cluster_time
    deadline = now + operation.timeout_ns if operation.timeout_ns else 0
    view.put(WAITERS, (name, ticket), Waiter(dedup.session_id, dedup.seq, now, deadline, lock.tail, 0))
    if lock.tail:
        last = view.get(WAITERS, (name, lock.tail))
        if last is not None:
            last.following = ticket
            view.put(WAITERS, (name, lock.tail), last)
    else:
        lock.head = ticket
    lock.tail = ticket
    lock.waiting += 1
    view.put(LOCKS, name, lock)
    view.insert(CLAIMS, (dedup.session_id, dedup.seq), Claim(name, 0, ticket))
    if deadline:
        context.expiry.add_waiter(deadline, name, ticket)
    return Result(ResultStatus.QUEUED, 0, lock.waiting)


# -- the queue


def unlink(context: Context, name: str, lock: Lock, ticket: int, waiter: Waiter) -> None:
    """Take a waiter out of the queue; the caller puts or deletes the lock."""
    view = context.view
    view.delete(WAITERS, (name, ticket))
    if waiter.previous:
        before = view.get(WAITERS, (name, waiter.previous))
        if before is not None:
            before.following = waiter.following
            view.put(WAITERS, (name, waiter.previous), before)
    else:
        lock.head = waiter.following
    if waiter.following:
        behind = view.get(WAITERS, (name, waiter.following))
        if behind is not None:
            behind.previous = waiter.previous
            view.put(WAITERS, (name, waiter.following), behind)
    else:
        lock.tail = waiter.previous
    lock.waiting -= 1


def end_wait(context: Context, name: str, lock: Lock, ticket: int, waiter: Waiter, cause: EndCause) -> None:
    """A live session's waiter leaves without the lock; the caller stores the lock."""
    unlink(context, name, lock, ticket, waiter)
    drop_claim(context, waiter.session_id, waiter.acquire_seq)
    status = ResultStatus.TIMED_OUT if cause is EndCause.TIMED_OUT else ResultStatus.CANCELLED
    amend_completion(context, waiter.session_id, waiter.acquire_seq, status, 0)
    context.events.append(AcquireEnded(waiter.session_id, waiter.acquire_seq, name, cause))


def grant_next(context: Context, name: str, lock: Lock) -> None:
    """Give a free lock to the first waiter whose session lives and whose time is not over; the caller stores it."""
    view, now = context.view, context.cluster_time
    while lock.waiting:
        ticket = lock.head
        waiter = view.get(WAITERS, (name, ticket))
        if waiter is None:
            return
        if waiter.deadline and waiter.deadline <= now:
            end_wait(context, name, lock, ticket, waiter, EndCause.TIMED_OUT)
            continue
        unlink(context, name, lock, ticket, waiter)
        session_id, seq = waiter.session_id, waiter.acquire_seq
        if view.get(WINDOWS, session_id) is None:  # etcd #11456: never grant to the dead
            view.delete(CLAIMS, (session_id, seq))
            continue
        token = context.next_revision()
        lock.session_id, lock.acquire_seq = session_id, seq
        lock.token, lock.granted_at, lock.delay_until = token, now, 0
        view.put(CLAIMS, (session_id, seq), Claim(name, token, 0))
        amend_completion(context, session_id, seq, ResultStatus.OK, token)
        context.events.append(LockGranted(session_id, seq, name, token))
        return


def settle(context: Context, name: str, lock: Lock) -> None:
    """Grant a free lock if its delay is over, then store it, or remove its record if nothing is left to know."""
    if not lock.token and context.cluster_time >= lock.delay_until:
        lock.delay_until = 0
        grant_next(context, name, lock)
        if not lock.token and not lock.waiting:
            context.view.delete(LOCKS, name)
            return
    context.view.put(LOCKS, name, lock)


def set_free(lock: Lock) -> None:
    """Nobody holds it; the caller settles it."""
    lock.session_id = lock.acquire_seq = lock.token = lock.granted_at = 0


def lose(context: Context, name: str, lock: Lock, cause: EndCause, reason: str, lock_delay_ns: int) -> None:
    """The holder loses the lock; its claim is dropped and the delay begins. The caller settles the lock."""
    context.events.append(LockLost(lock.session_id, lock.acquire_seq, name, lock.token, cause, reason))
    set_free(lock)
    if lock_delay_ns:
        lock.delay_until = context.cluster_time + lock_delay_ns
        context.expiry.add_delay(lock.delay_until, name)


# -- release, cancel, force


def execute_release(context: Context, operation: Release, dedup: Dedup | None) -> Result:
    """Give back and hand over."""
    session_id, name = operation.session_id, operation.name
    if dedup is not None and dedup.session_id != session_id:
        return Result(ResultStatus.INVALID)
    view = context.view
    if dedup is None and view.get(WINDOWS, session_id) is None:
        return Result(ResultStatus.SESSION_EXPIRED)
    lock = view.get(LOCKS, name)
    if lock is None or not lock.token or lock.token != operation.token or lock.session_id != session_id:
        return Result(ResultStatus.NOT_HELD)
    context.revision += 1
    drop_claim(context, session_id, lock.acquire_seq)
    if lock.waiting:
        set_free(lock)
        settle(context, name, lock)
    else:
        view.delete(LOCKS, name)
    return Result(ResultStatus.OK)


def execute_cancel(context: Context, operation: CancelAcquire, dedup: Dedup | None) -> Result:
    """Withdraw a waiting acquire, or one that has not arrived: CANCELLED is stored for its seq."""
    session_id, seq, name = operation.session_id, operation.acquire_seq, operation.name
    if (
        (dedup is not None and (dedup.session_id != session_id or dedup.seq == seq))
        or not 0 < seq <= INT_MAX
        or not is_text(name, context.limits.name_bytes_max)
    ):
        return Result(ResultStatus.INVALID)
    window = window_of(context, session_id)
    if window is None:
        return Result(ResultStatus.SESSION_EXPIRED)
    claim = context.view.get(CLAIMS, (session_id, seq))
    if claim is not None:
        return _cancel_claim(context, operation, claim)
    record = context.view.get(COMPLETIONS, (session_id, seq))
    if record is not None:
        if record.status is ResultStatus.OK:
            return Result(ResultStatus.ENDED, record.revision)
        return Result(record.status, record.revision, record.extra)
    if seq < window.first_incomplete:
        return Result(ResultStatus.CANCELLED)  # over and acknowledged: it can't take effect any more
    limits = context.limits
    if (
        seq >= window.first_incomplete + limits.window_count_max
        or window.record_bytes + RECORD_BYTES > limits.window_bytes_max
    ):
        return Result(ResultStatus.WINDOW_FULL)
    context.revision += 1
    window.seq_max = max(window.seq_max, seq)
    window.record_bytes += RECORD_BYTES
    context.view.put(WINDOWS, session_id, window)
    context.view.put(COMPLETIONS, (session_id, seq), Completion(b"", ResultStatus.CANCELLED, 0, 0))
    return Result(ResultStatus.CANCELLED)


def _cancel_claim(context: Context, operation: CancelAcquire, claim: Claim) -> Result:
    if claim.name != operation.name:
        return Result(ResultStatus.INVALID)
    if claim.token:
        return Result(ResultStatus.OK, claim.token)
    lock = context.view.get(LOCKS, claim.name)
    waiter = context.view.get(WAITERS, (claim.name, claim.ticket))
    if lock is None or waiter is None:
        return Result(ResultStatus.NOT_FOUND)
    context.revision += 1
    end_wait(context, claim.name, lock, claim.ticket, waiter, EndCause.CANCELLED)
    settle(context, claim.name, lock)
    return Result(ResultStatus.CANCELLED)


def execute_force_release(context: Context, operation: ForceRelease, dedup: Dedup | None) -> Result:
    """Take the lock from its holder; the lock-delay of the holder's session applies."""
    limits = context.limits
    if (
        not is_text(operation.name, limits.name_bytes_max)
        or not operation.reason
        or not fits(operation.reason, limits.reason_bytes_max)
        or not fits(operation.principal, limits.principal_bytes_max)
    ):
        return Result(ResultStatus.INVALID)
    lock = context.view.get(LOCKS, operation.name)
    if lock is None or not lock.token or (operation.token_max and lock.token > operation.token_max):
        return Result(ResultStatus.OK)
    context.revision += 1
    token = lock.token
    session = context.view.get(SESSIONS, lock.session_id)
    drop_claim(context, lock.session_id, lock.acquire_seq)
    delay = session.lock_delay_ns if session is not None else 0
    lose(context, operation.name, lock, EndCause.FORCED, operation.reason, delay)
    settle(context, operation.name, lock)
    return Result(ResultStatus.OK, token, 1)


# -- format


def _encode_acquire(operation: Acquire) -> bytes:
    return (b"\x01" if operation.wait else b"\x00") + U64.pack(operation.timeout_ns) + pack_text(operation.name)


def _decode_acquire(reader: Reader) -> Acquire:
    wait, timeout_ns = reader.flag(), reader.u64()
    return Acquire(reader.text(), wait, timeout_ns)


def _encode_release(operation: Release) -> bytes:
    return U64.pack(operation.session_id) + U64.pack(operation.token) + pack_text(operation.name)


def _decode_release(reader: Reader) -> Release:
    session_id, token = reader.u64(), reader.u64()
    return Release(session_id, reader.text(), token)


def _encode_cancel(operation: CancelAcquire) -> bytes:
    return U64.pack(operation.session_id) + U64.pack(operation.acquire_seq) + pack_text(operation.name)


def _decode_cancel(reader: Reader) -> CancelAcquire:
    session_id, seq = reader.u64(), reader.u64()
    return CancelAcquire(session_id, reader.text(), seq)


def _encode_force(operation: ForceRelease) -> bytes:
    texts = pack_text(operation.name) + pack_text(operation.reason) + pack_text(operation.principal)
    return U64.pack(operation.token_max) + texts


def _decode_force(reader: Reader) -> ForceRelease:
    token_max = reader.u64()
    name, reason = reader.text(), reader.text()
    return ForceRelease(name, token_max, reason, reader.text())


COMMANDS: Final = (
    Kind(CommandKind.ACQUIRE, Acquire, _encode_acquire, _decode_acquire, execute_acquire),
    Kind(CommandKind.RELEASE, Release, _encode_release, _decode_release, execute_release),
    Kind(CommandKind.CANCEL_ACQUIRE, CancelAcquire, _encode_cancel, _decode_cancel, execute_cancel),
    Kind(CommandKind.FORCE_RELEASE, ForceRelease, _encode_force, _decode_force, execute_force_release),
)
