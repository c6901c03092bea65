"""From an answer's status to the error a user meets."""

from __future__ import annotations

import grpc

from lockmaster.api import session_pb2, status_pb2
from lockmaster.errors import (
    Compacted,
    CompareFailed,
    Indeterminate,
    InvalidRequest,
    LockmasterError,
    NotFound,
    NotHeld,
    NotLeader,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    SequenceRefused,
    SessionExpired,
    Unavailable,
)

FAILURE_TRAILER = "lockmaster-failure-bin"
"""Trailing metadata of a unary call that failed: a serialized Failure."""

_PLAIN: dict[int, type[LockmasterError]] = {
    status_pb2.STATUS_UNAVAILABLE: Unavailable,
    status_pb2.STATUS_INDETERMINATE: Indeterminate,
    status_pb2.STATUS_SESSION_EXPIRED: SessionExpired,
    status_pb2.STATUS_STALE: SequenceRefused,
    status_pb2.STATUS_SEQ_REUSED: SequenceRefused,
    status_pb2.STATUS_WINDOW_FULL: SequenceRefused,
    status_pb2.STATUS_NOT_FOUND: NotFound,
    status_pb2.STATUS_NOT_HELD: NotHeld,
    status_pb2.STATUS_PERMISSION_DENIED: PermissionDenied,
    status_pb2.STATUS_QUOTA_EXCEEDED: QuotaExceeded,
    status_pb2.STATUS_PRECONDITION_FAILED: PreconditionFailed,
}

_BY_CODE: dict[grpc.StatusCode, type[LockmasterError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionFailed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
}


def error_of(status: int, failure: status_pb2.Failure) -> LockmasterError:
    """The error that a status other than OK stands for."""
    if status == status_pb2.STATUS_NOT_LEADER:
        why = failure.message.partition("; leader: ")[0]
        return NotLeader(failure.leader.address, why) if why else NotLeader(failure.leader.address)
    if status == status_pb2.STATUS_OVERLOADED:
        return Overloaded(failure.message or "overloaded", failure.retry_after_ms / 1000 or 0.05)
    if status == status_pb2.STATUS_COMPARE_FAILED:
        return CompareFailed(failure.current_revision)
    if status == status_pb2.STATUS_COMPACTED:
        return Compacted(failure.current_revision)
    if status == status_pb2.STATUS_INVALID_REQUEST:
        field = failure.field or "request"
        return InvalidRequest(field, failure.message.removeprefix(f"{field}: ") or "invalid")
    kind = _PLAIN.get(status)
    if kind is None:
        return Indeterminate(f"the server answered with status {status}, which this client does not know: upgrade it")
    name: str = status_pb2.Status.Name(status)
    return kind(failure.message or name.removeprefix("STATUS_").replace("_", " ").lower())


def error_of_response(response: session_pb2.Response) -> LockmasterError:
    """The error of an answer on the session stream."""
    return error_of(response.status, response.failure)


def error_of_rpc(error: grpc.RpcError) -> LockmasterError:
    """The error of a unary call that failed: from its Failure, else from the gRPC status code."""
    trailing = getattr(error, "trailing_metadata", lambda: None)()
    for key, value in trailing or ():
        if key == FAILURE_TRAILER and isinstance(value, bytes):
            failure = status_pb2.Failure.FromString(value)
            return error_of(failure.status, failure)
    code = getattr(error, "code", lambda: None)()
    text = getattr(error, "details", lambda: None)() or str(code)
    text = text.rpartition("last error: ")[2].removeprefix("UNKNOWN: ")  # of gRPC's account, what went wrong
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest("request", text)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded(text)
    return _BY_CODE.get(code, Indeterminate)(text) if code is not None else Unavailable(text)
