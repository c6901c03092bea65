"""Sessions: opening, renewing, closing, expiry.

Expiry is a command like any other (service.md §2): the leader proposes what it believes is due, apply checks each
session against cluster time. All expiring sessions are removed first, with everything they own; then what became
free is granted, so that no lock passes to a session that dies in the same entry.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from lockmaster.statemachine.commands import (
    CloseSession,
    CommandKind,
    Dedup,
    EndCause,
    EndSession,
    Expire,
    KeepAlive,
    OpenSession,
    Result,
    ResultStatus,
    SessionEnded,
)
from lockmaster.statemachine.config import delete_owned
from lockmaster.statemachine.identity import identity_of
from lockmaster.statemachine.limits import NONCE_BYTES, fits
from lockmaster.statemachine.locks import end_wait, lose, set_free, settle, unlink
from lockmaster.statemachine.records import (
    CLAIMS,
    COMPLETIONS,
    LOCKS,
    NONCES,
    RENEWALS,
    SESSIONS,
    WAITERS,
    WINDOWS,
    Renewal,
    Session,
    Window,
)
from lockmaster.statemachine.table import Context, Kind
from lockmaster.statemachine.wire import U32, U64, Reader, pack_ids, pack_text


def execute_open(context: Context, operation: OpenSession, dedup: Dedup | None) -> Result:
    """A new session, whose id is this revision; or the live one that this nonce opened before."""
    limits = context.limits
    if (
        len(operation.nonce) != NONCE_BYTES
        or not 0 < operation.ttl_ns <= limits.ttl_ns_max
        or operation.lock_delay_ns > limits.lock_delay_ns_max
        or not fits(operation.principal, limits.principal_bytes_max)
        or not fits(operation.label, limits.label_bytes_max)
    ):
        return Result(ResultStatus.INVALID)
    view = context.view
    opened = view.get(NONCES, operation.nonce)
    if opened is not None:
        session = view.get(SESSIONS, opened)
        if session is None or session.principal != operation.principal:
            return Result(ResultStatus.PERMISSION_DENIED)
        return Result(ResultStatus.OK, opened)
    if context.sessions_count >= limits.sessions_count_max:
        return Result(ResultStatus.QUOTA_EXCEEDED)
    now, session_id = context.cluster_time, context.next_revision()
    session = Session(operation.nonce, now, operation.lock_delay_ns, operation.principal, operation.label)
    renewal = Renewal(now, operation.ttl_ns)
    view.put(SESSIONS, session_id, session)
    view.put(RENEWALS, session_id, renewal)
    view.put(WINDOWS, session_id, Window(1, 0, 0, 0, 0))
    view.put(NONCES, operation.nonce, session_id)
    context.sessions_count += 1
    if identity_of(operation.principal).pod_uid:
        context.pods_mark = session_id
    context.expiry.add_session(renewal.deadline(context.lift_stamp), session_id)
    return Result(ResultStatus.OK, session_id)


def execute_keep_alive(context: Context, operation: KeepAlive, dedup: Dedup | None) -> Result:
    """Renew those that live; name those that don't."""
    ids = operation.session_ids
    if len(ids) > context.limits.keep_alive_count_max or any(a >= b for a, b in pairwise(ids)):
        return Result(ResultStatus.INVALID)
    view, now = context.view, context.cluster_time
    expired: list[int] = []
    for session_id in ids:
        renewal = view.get(RENEWALS, session_id)
        if renewal is None:
            expired.append(session_id)
        else:
            renewal.at = now
            view.put(RENEWALS, session_id, renewal)
    return Result(ResultStatus.OK, expired=tuple(expired))


def execute_close(context: Context, operation: CloseSession, dedup: Dedup | None) -> Result:
    """End a session; what it held passes on at once."""
    session_id = operation.session_id
    if dedup is not None and dedup.session_id != session_id:
        return Result(ResultStatus.INVALID)
    if context.view.get(WINDOWS, session_id) is None:
        return Result(ResultStatus.SESSION_EXPIRED)
    context.revision += 1
    freed: dict[str, None] = {}
    end_session(context, session_id, EndCause.CLOSED, freed)
    settle_all(context, freed)
    return Result(ResultStatus.OK)


def execute_expire(context: Context, operation: Expire, dedup: Dedup | None) -> Result:
    """Remove every session that is over, then end overdue waits, then grant. `extra`: how many sessions ended."""
    counts = len(operation.session_ids) + len(operation.waiters) + len(operation.lock_names)
    context.expiry.expires_applied += 1
    context.expiry.last_expire = operation
    if counts > 3 * context.limits.expire_count_max:
        return Result(ResultStatus.INVALID)
    view, now = context.view, context.cluster_time
    touched: dict[str, None] = {}
    ended = 0
    context.revision += 1
    for session_id in operation.session_ids:
        renewal = view.get(RENEWALS, session_id)
        if renewal is not None and renewal.deadline(context.lift_stamp) <= now:
            end_session(context, session_id, EndCause.EXPIRED, touched)
            ended += 1
    for name, ticket in operation.waiters:
        lock, waiter = view.get(LOCKS, name), view.get(WAITERS, (name, ticket))
        if lock is not None and waiter is not None and 0 < waiter.deadline <= now:
            end_wait(context, name, lock, ticket, waiter, EndCause.TIMED_OUT)
            view.put(LOCKS, name, lock)
            touched[name] = None
    for name in operation.lock_names:
        touched[name] = None
    settle_all(context, touched)
    return Result(ResultStatus.OK, extra=ended)


def execute_end(context: Context, operation: EndSession, dedup: Dedup | None) -> Result:
    """End a session whose pod is no more; the lock-delay applies. COMPARE_FAILED where it is another pod's.

    `extra` 1 if it ended now, 0 if it was over already.
    """
    limits = context.limits
    if (
        not operation.reason
        or not fits(operation.reason, limits.reason_bytes_max)
        or not fits(operation.principal, limits.principal_bytes_max)
    ):
        return Result(ResultStatus.INVALID)
    session = context.view.get(SESSIONS, operation.session_id)
    if session is None:
        return Result(ResultStatus.OK)
    if identity_of(session.principal).pod_uid != operation.pod_uid:
        return Result(ResultStatus.COMPARE_FAILED)
    context.revision += 1
    touched: dict[str, None] = {}
    end_session(context, operation.session_id, EndCause.EXPIRED, touched, operation.reason)
    settle_all(context, touched)
    return Result(ResultStatus.OK, extra=1)


def settle_all(context: Context, names: dict[str, None]) -> None:
    """Grant or clear each lock, in name order."""
    for name in sorted(names):
        lock = context.view.get(LOCKS, name)
        if lock is not None:
            settle(context, name, lock)


def end_session(context: Context, session_id: int, cause: EndCause, touched: dict[str, None], reason: str = "") -> None:
    """Remove a session and all it owns; `touched` gets the locks that the caller must settle afterwards."""
    view = context.view
    session = view.get(SESSIONS, session_id)
    first, stop = U64.pack(session_id), U64.pack(session_id + 1)
    delay = session.lock_delay_ns if session is not None and cause is EndCause.EXPIRED else 0
    for key, claim in list(view.scan(CLAIMS, first, stop)):
        view.delete(CLAIMS, key)
        lock = view.get(LOCKS, claim.name)
        if lock is None:
            continue
        if claim.ticket:
            waiter = view.get(WAITERS, (claim.name, claim.ticket))
            if waiter is not None:
                unlink(context, claim.name, lock, claim.ticket, waiter)
        elif cause is EndCause.EXPIRED:
            lose(context, claim.name, lock, cause, reason, delay)
        else:
            set_free(lock)
        view.put(LOCKS, claim.name, lock)
        touched[claim.name] = None
    for record_key, _ in list(view.scan(COMPLETIONS, first, stop)):
        view.delete(COMPLETIONS, record_key)
    delete_owned(context, session_id)
    view.delete(WINDOWS, session_id)
    view.delete(RENEWALS, session_id)
    if session is not None:
        view.delete(SESSIONS, session_id)
        view.delete(NONCES, session.nonce)
    context.sessions_count -= 1
    if context.window_id == session_id:
        context.window, context.window_id = None, 0
    context.events.append(SessionEnded(session_id, cause))


# -- format


def _encode_open(operation: OpenSession) -> bytes:
    numbers = U64.pack(operation.ttl_ns) + U64.pack(operation.lock_delay_ns)
    nonce = U32.pack(len(operation.nonce)) + operation.nonce
    return numbers + nonce + pack_text(operation.principal) + pack_text(operation.label)


def _decode_open(reader: Reader) -> OpenSession:
    ttl_ns, lock_delay_ns = reader.u64(), reader.u64()
    nonce, principal = reader.sized(), reader.text()
    return OpenSession(nonce, ttl_ns, principal, reader.text(), lock_delay_ns)


def _encode_close(operation: CloseSession) -> bytes:
    return U64.pack(operation.session_id)


def _decode_close(reader: Reader) -> CloseSession:
    return CloseSession(reader.u64())


def _encode_keep_alive(operation: KeepAlive) -> bytes:
    return pack_ids(operation.session_ids)


def _decode_keep_alive(reader: Reader) -> KeepAlive:
    return KeepAlive(reader.ids())


def _encode_expire(operation: Expire) -> bytes:
    parts = [pack_ids(operation.session_ids), U32.pack(len(operation.waiters))]
    parts += [pack_text(name) + U64.pack(ticket) for name, ticket in operation.waiters]
    parts.append(U32.pack(len(operation.lock_names)))
    parts += [pack_text(name) for name in operation.lock_names]
    return b"".join(parts)


def _decode_expire(reader: Reader) -> Expire:
    ids = reader.ids()
    waiters = tuple((reader.text(), reader.u64()) for _ in range(reader.u32()))
    names = tuple(reader.text() for _ in range(reader.u32()))
    return Expire(ids, waiters, names)


def _encode_end(operation: EndSession) -> bytes:
    texts = pack_text(operation.pod_uid) + pack_text(operation.reason) + pack_text(operation.principal)
    return U64.pack(operation.session_id) + texts


def _decode_end(reader: Reader) -> EndSession:
    session_id = reader.u64()
    pod_uid, reason = reader.text(), reader.text()
    return EndSession(session_id, pod_uid, reason, reader.text())


COMMANDS: Final = (
    Kind(CommandKind.OPEN_SESSION, OpenSession, _encode_open, _decode_open, execute_open, deduplicated=False),
    Kind(CommandKind.CLOSE_SESSION, CloseSession, _encode_close, _decode_close, execute_close),
    Kind(CommandKind.KEEP_ALIVE, KeepAlive, _encode_keep_alive, _decode_keep_alive, execute_keep_alive, False),
    Kind(CommandKind.EXPIRE, Expire, _encode_expire, _decode_expire, execute_expire, deduplicated=False),
    Kind(CommandKind.END_SESSION, EndSession, _encode_end, _decode_end, execute_end, deduplicated=False),
)
