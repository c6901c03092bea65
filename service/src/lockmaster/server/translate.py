"""Between the wire and the state machine: requests to commands, results and events to answers.

The hot operations (acquire, release, put) touch each message attribute once and fill the answer in place: building a
message and copying it into its parent costs twice as much as setting attributes (0.92 against 0.42 us).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lockmaster import errors
from lockmaster.api import config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.server.admission import LOCK_DELAY_MS_DEFAULT, TTL_MS_DEFAULT
from lockmaster.statemachine import commands
from lockmaster.statemachine.commands import EndCause, Result, ResultStatus

MILLISECOND: Final = 1_000_000
SESSION_OVER: Final = "the session is over; open a new one. Calls that were not answered are unknown"
Response = session_pb2.Response


# -- requests -> operations


def open_session(request: session_pb2.OpenSessionRequest, principal: str) -> commands.OpenSession:
    """The command that opens this session for this principal."""
    delay_ms = request.lock_delay_ms if request.HasField("lock_delay_ms") else LOCK_DELAY_MS_DEFAULT
    ttl_ms = request.ttl_ms or TTL_MS_DEFAULT
    return commands.OpenSession(request.nonce, ttl_ms * MILLISECOND, principal, request.label, delay_ms * MILLISECOND)


def put(request: config_pb2.PutRequest, session_id: int) -> commands.Put:
    """The command that writes this key; `session_id` is the caller's, used if the key is ephemeral."""
    guard_lock, guard_token = _guard(request)
    return commands.Put(
        request.namespace,
        request.key,
        request.value,
        request.if_revision if request.HasField("if_revision") else None,
        guard_lock,
        guard_token,
        request.author,
        request.comment,
        session_id if request.ephemeral else 0,
    )


def delete(request: config_pb2.DeleteRequest) -> commands.Delete:
    """The command that deletes this key."""
    guard_lock, guard_token = _guard(request)
    return commands.Delete(
        request.namespace,
        request.key,
        request.if_revision if request.HasField("if_revision") else None,
        guard_lock,
        guard_token,
        request.author,
        request.comment,
    )


def _guard(request: config_pb2.PutRequest | config_pb2.DeleteRequest) -> tuple[str, int]:
    if not request.HasField("guard"):
        return "", 0
    return request.guard.lock, request.guard.token


# -- results -> answers

_ACQUIRE_STATES: Final = {
    ResultStatus.OK: lock_pb2.ACQUIRE_STATE_GRANTED,
    ResultStatus.QUEUED: lock_pb2.ACQUIRE_STATE_QUEUED,
    ResultStatus.BUSY: lock_pb2.ACQUIRE_STATE_BUSY,
    ResultStatus.TIMED_OUT: lock_pb2.ACQUIRE_STATE_TIMED_OUT,
    ResultStatus.CANCELLED: lock_pb2.ACQUIRE_STATE_CANCELLED,
    ResultStatus.ENDED: lock_pb2.ACQUIRE_STATE_ENDED,
}

_FAILURES: Final[dict[ResultStatus, tuple[status_pb2.Status, str]]] = {
    ResultStatus.NOT_HELD: (status_pb2.STATUS_NOT_HELD, "the lock is not held by this session with this token"),
    ResultStatus.NOT_FOUND: (status_pb2.STATUS_NOT_FOUND, "it does not exist"),
    ResultStatus.COMPARE_FAILED: (status_pb2.STATUS_COMPARE_FAILED, "the key's revision is not the one given"),
    ResultStatus.GUARD_FAILED: (status_pb2.STATUS_NOT_HELD, "the guard's lock is not held with this token"),
    ResultStatus.SESSION_EXPIRED: (status_pb2.STATUS_SESSION_EXPIRED, SESSION_OVER),
    ResultStatus.STALE: (status_pb2.STATUS_STALE, "seq is below first_incomplete: its answer was received"),
    ResultStatus.SEQ_REUSED: (status_pb2.STATUS_SEQ_REUSED, "this seq was used for another operation"),
    ResultStatus.WINDOW_FULL: (
        status_pb2.STATUS_WINDOW_FULL,
        "too many operations of this session are unacknowledged; raise first_incomplete",
    ),
    ResultStatus.QUOTA_EXCEEDED: (status_pb2.STATUS_QUOTA_EXCEEDED, "a stated maximum is reached"),
    ResultStatus.INVALID: (status_pb2.STATUS_INVALID_REQUEST, "refused when applied"),
    ResultStatus.PERMISSION_DENIED: (status_pb2.STATUS_PERMISSION_DENIED, "not allowed"),
}


def write_result_failure(answer: Response, result: Result) -> None:
    """Fill in a result that is not OK."""
    status, message = _FAILURES.get(result.status, (status_pb2.STATUS_INVALID_REQUEST, result.status.name))
    answer.status = status
    failure = answer.failure
    failure.status = status
    failure.message = message
    if result.status is ResultStatus.COMPARE_FAILED:
        failure.current_revision = result.revision


def write_acquire(answer: Response, result: Result) -> None:
    """How an acquire stands."""
    status = result.status
    if status is ResultStatus.OK:
        acquire = answer.acquire
        acquire.state = lock_pb2.ACQUIRE_STATE_GRANTED
        acquire.token = result.revision
        return
    state = _ACQUIRE_STATES.get(status)
    if state is None:
        write_result_failure(answer, result)
        return
    answer.acquire.state = state
    if status is ResultStatus.QUEUED:
        answer.acquire.position = result.extra


def write_release(answer: Response, result: Result) -> None:
    """Released, or why not."""
    if result.status is ResultStatus.OK:
        answer.release.SetInParent()
    else:
        write_result_failure(answer, result)


def write_cancel_acquire(answer: Response, result: Result) -> None:
    """Withdrawn, or how the acquire ended first."""
    state = _ACQUIRE_STATES.get(result.status)
    if state is None:
        write_result_failure(answer, result)
        return
    answer.cancel_acquire.state = state
    if result.status is ResultStatus.OK:
        answer.cancel_acquire.token = result.revision


def write_force_release(answer: Response, result: Result) -> None:
    """Whether somebody held it, and with which token."""
    if result.status is not ResultStatus.OK:
        write_result_failure(answer, result)
        return
    answer.force_release.released = bool(result.extra)
    answer.force_release.token = result.revision


def write_put(answer: Response, result: Result) -> None:
    """The write's revision and version."""
    if result.status is ResultStatus.OK:
        written = answer.put
        written.revision = result.revision
        written.version = result.extra
    else:
        write_result_failure(answer, result)


def write_delete(answer: Response, result: Result) -> None:
    """Whether it existed, and the deletion's revision."""
    if result.status is not ResultStatus.OK:
        write_result_failure(answer, result)
        return
    answer.delete.deleted = bool(result.extra)
    answer.delete.revision = result.revision


def write_close_session(answer: Response, result: Result) -> None:
    """Closed; a session that is already over counts as closed."""
    if result.status in (ResultStatus.OK, ResultStatus.SESSION_EXPIRED, ResultStatus.NOT_FOUND):
        answer.close_session.SetInParent()
    else:
        write_result_failure(answer, result)


# -- errors -> answers, and back


def write_error(answer: Response, error: errors.LockmasterError) -> None:
    """Fill in an error; anything that is not known to be harmless becomes UNAVAILABLE or INDETERMINATE by its class."""
    write_failure(answer.failure, error)
    answer.status = answer.failure.status


def write_failure(failure: status_pb2.Failure, error: errors.LockmasterError) -> None:
    """The wire's form of an error."""
    failure.message = str(error)
    for kind, status, fill in _ERRORS:
        if isinstance(error, kind):
            failure.status = status
            if fill is not None:
                fill(failure, error)
            return
    failure.status = status_pb2.STATUS_UNAVAILABLE


def _fill_leader(failure: status_pb2.Failure, error: errors.LockmasterError) -> None:
    failure.leader.address = error.leader_hint if isinstance(error, errors.NotLeader) else ""


def _fill_retry(failure: status_pb2.Failure, error: errors.LockmasterError) -> None:
    if isinstance(error, errors.Overloaded):
        failure.retry_after_ms = max(1, min(60_000, round(error.retry_after * 1000)))


def _fill_field(failure: status_pb2.Failure, error: errors.LockmasterError) -> None:
    if isinstance(error, errors.InvalidRequest):
        failure.field = error.field


def _fill_revision(failure: status_pb2.Failure, error: errors.LockmasterError) -> None:
    if isinstance(error, errors.Compacted):
        failure.current_revision = error.first
    elif isinstance(error, errors.CompareFailed):
        failure.current_revision = error.current


_Fill = Callable[[status_pb2.Failure, errors.LockmasterError], None] | None
_ERRORS: Final[tuple[tuple[type[errors.LockmasterError], status_pb2.Status, _Fill], ...]] = (
    (errors.NotLeader, status_pb2.STATUS_NOT_LEADER, _fill_leader),
    (errors.Overloaded, status_pb2.STATUS_OVERLOADED, _fill_retry),
    (errors.Unavailable, status_pb2.STATUS_UNAVAILABLE, None),
    (errors.Indeterminate, status_pb2.STATUS_INDETERMINATE, None),
    (errors.InvalidRequest, status_pb2.STATUS_INVALID_REQUEST, _fill_field),
    (errors.SessionExpired, status_pb2.STATUS_SESSION_EXPIRED, None),
    (errors.SequenceRefused, status_pb2.STATUS_STALE, None),
    (errors.CompareFailed, status_pb2.STATUS_COMPARE_FAILED, _fill_revision),
    (errors.NotFound, status_pb2.STATUS_NOT_FOUND, None),
    (errors.NotHeld, status_pb2.STATUS_NOT_HELD, None),
    (errors.PermissionDenied, status_pb2.STATUS_PERMISSION_DENIED, None),
    (errors.QuotaExceeded, status_pb2.STATUS_QUOTA_EXCEEDED, None),
    (errors.Compacted, status_pb2.STATUS_COMPACTED, _fill_revision),
    (errors.PreconditionFailed, status_pb2.STATUS_PRECONDITION_FAILED, None),
)


# -- events -> the stream

_LOST_CAUSES: Final = {
    EndCause.EXPIRED: lock_pb2.LockLost.CAUSE_SESSION_EXPIRED,
    EndCause.CLOSED: lock_pb2.LockLost.CAUSE_SESSION_EXPIRED,
    EndCause.FORCED: lock_pb2.LockLost.CAUSE_FORCED,
}
_SESSION_CAUSES: Final = {
    EndCause.EXPIRED: session_pb2.SessionEnded.CAUSE_EXPIRED,
    EndCause.CLOSED: session_pb2.SessionEnded.CAUSE_CLOSED,
}

SessionBound = commands.LockGranted | commands.LockLost | commands.AcquireEnded | commands.SessionEnded


def write_event(target: session_pb2.SessionEvent, event: SessionBound) -> None:
    """Fill in what happened to a session."""
    target.session_id = event.session_id
    if isinstance(event, commands.LockGranted):
        granted = target.lock_granted
        granted.name = event.name
        granted.token = event.token
        granted.acquire_seq = event.acquire_seq
    elif isinstance(event, commands.LockLost):
        lost = target.lock_lost
        lost.name = event.name
        lost.token = event.token
        lost.acquire_seq = event.acquire_seq
        lost.cause = _LOST_CAUSES.get(event.cause, lock_pb2.LockLost.CAUSE_UNSPECIFIED)
        lost.reason = event.reason
    elif isinstance(event, commands.AcquireEnded):
        ended = target.acquire_ended
        ended.name = event.name
        ended.acquire_seq = event.acquire_seq
        ended.state = ended_state(event.cause)
    else:
        target.session_ended.cause = _SESSION_CAUSES.get(event.cause, session_pb2.SessionEnded.CAUSE_UNSPECIFIED)


def ended_state(cause: EndCause) -> lock_pb2.AcquireState:
    """How a waiter left the queue."""
    if cause is EndCause.TIMED_OUT:
        return lock_pb2.ACQUIRE_STATE_TIMED_OUT
    return lock_pb2.ACQUIRE_STATE_CANCELLED


# -- config values


def write_item(target: config_pb2.KeyValue, item: commands.KeyValue, *, value: bool = True) -> None:
    """Fill in one version of a key; without its value if not wanted."""
    target.namespace = item.namespace
    target.key = item.key
    if value:
        target.value = item.value
    target.create_revision = item.create_revision
    target.mod_revision = item.mod_revision
    target.version = item.version
    target.author = item.author
    target.comment = item.comment
    target.session_id = item.session_id


def write_change(target: config_pb2.Change, item: commands.KeyValue, previous: commands.KeyValue | None) -> None:
    """Fill in one change; `previous` only where it was asked for."""
    target.kind = config_pb2.Change.KIND_DELETE if item.deleted else config_pb2.Change.KIND_PUT
    write_item(target.item, item)
    if previous is not None and not previous.deleted:
        write_item(target.previous, previous)
