from lockmaster.api import config_pb2 as _config_pb2
from lockmaster.api import lock_pb2 as _lock_pb2
from lockmaster.api import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DirectRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DirectResponse(_message.Message):
    __slots__ = ("port", "key")
    PORT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    port: int
    key: bytes
    def __init__(self, port: _Optional[int] = ..., key: _Optional[bytes] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("nonce", "ttl_ms", "label", "lock_delay_ms")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    LOCK_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    ttl_ms: int
    label: str
    lock_delay_ms: int
    def __init__(self, nonce: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ..., label: _Optional[str] = ..., lock_delay_ms: _Optional[int] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session_id", "ttl_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    ttl_ms: int
    def __init__(self, session_id: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class KeepAliveRequest(_message.Message):
    __slots__ = ("session_ids",)
    SESSION_IDS_FIELD_NUMBER: _ClassVar[int]
    session_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class KeepAliveResponse(_message.Message):
    __slots__ = ("expired",)
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    expired: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, expired: _Optional[_Iterable[int]] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    def __init__(self, session_id: _Optional[int] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("after", "limit", "read", "pod_bound")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    POD_BOUND_FIELD_NUMBER: _ClassVar[int]
    after: int
    limit: int
    read: _status_pb2.ReadOptions
    pod_bound: bool
    def __init__(self, after: _Optional[int] = ..., limit: _Optional[int] = ..., read: _Optional[_Union[_status_pb2.ReadOptions, _Mapping]] = ..., pod_bound: _Optional[bool] = ...) -> None: ...

class SessionInfo(_message.Message):
    __slots__ = ("session_id", "label", "principal", "ttl_ms", "remaining_ms", "locks_held", "pod", "pod_uid", "pod_namespace")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    LOCKS_HELD_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    POD_UID_FIELD_NUMBER: _ClassVar[int]
    POD_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    label: str
    principal: str
    ttl_ms: int
    remaining_ms: int
    locks_held: int
    pod: str
    pod_uid: str
    pod_namespace: str
    def __init__(self, session_id: _Optional[int] = ..., label: _Optional[str] = ..., principal: _Optional[str] = ..., ttl_ms: _Optional[int] = ..., remaining_ms: _Optional[int] = ..., locks_held: _Optional[int] = ..., pod: _Optional[str] = ..., pod_uid: _Optional[str] = ..., pod_namespace: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "more", "after")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionInfo]
    more: bool
    after: int
    def __init__(self, sessions: _Optional[_Iterable[_Union[SessionInfo, _Mapping]]] = ..., more: _Optional[bool] = ..., after: _Optional[int] = ...) -> None: ...

class ClientFrame(_message.Message):
    __slots__ = ("session_id", "first_incomplete", "requests", "traced")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TRACED_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    first_incomplete: int
    requests: _containers.RepeatedCompositeFieldContainer[Request]
    traced: bool
    def __init__(self, session_id: _Optional[int] = ..., first_incomplete: _Optional[int] = ..., requests: _Optional[_Iterable[_Union[Request, _Mapping]]] = ..., traced: _Optional[bool] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "seq", "acquire", "release", "cancel_acquire", "put", "delete", "get", "range", "history", "inspect_lock", "open_session", "keep_alive", "close_session", "watch", "cancel_watch", "force_release", "attach", "traceparent")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    INSPECT_LOCK_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSION_FIELD_NUMBER: _ClassVar[int]
    KEEP_ALIVE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SESSION_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    CANCEL_WATCH_FIELD_NUMBER: _ClassVar[int]
    FORCE_RELEASE_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    id: int
    seq: int
    acquire: _lock_pb2.AcquireRequest
    release: _lock_pb2.ReleaseRequest
    cancel_acquire: _lock_pb2.CancelAcquireRequest
    put: _config_pb2.PutRequest
    delete: _config_pb2.DeleteRequest
    get: _config_pb2.GetRequest
    range: _config_pb2.RangeRequest
    history: _config_pb2.HistoryRequest
    inspect_lock: _lock_pb2.InspectLockRequest
    open_session: OpenSessionRequest
    keep_alive: KeepAliveRequest
    close_session: CloseSessionRequest
    watch: _config_pb2.WatchRequest
    cancel_watch: _config_pb2.CancelWatchRequest
    force_release: _lock_pb2.ForceReleaseRequest
    attach: AttachRequest
    traceparent: str
    def __init__(self, id: _Optional[int] = ..., seq: _Optional[int] = ..., acquire: _Optional[_Union[_lock_pb2.AcquireRequest, _Mapping]] = ..., release: _Optional[_Union[_lock_pb2.ReleaseRequest, _Mapping]] = ..., cancel_acquire: _Optional[_Union[_lock_pb2.CancelAcquireRequest, _Mapping]] = ..., put: _Optional[_Union[_config_pb2.PutRequest, _Mapping]] = ..., delete: _Optional[_Union[_config_pb2.DeleteRequest, _Mapping]] = ..., get: _Optional[_Union[_config_pb2.GetRequest, _Mapping]] = ..., range: _Optional[_Union[_config_pb2.RangeRequest, _Mapping]] = ..., history: _Optional[_Union[_config_pb2.HistoryRequest, _Mapping]] = ..., inspect_lock: _Optional[_Union[_lock_pb2.InspectLockRequest, _Mapping]] = ..., open_session: _Optional[_Union[OpenSessionRequest, _Mapping]] = ..., keep_alive: _Optional[_Union[KeepAliveRequest, _Mapping]] = ..., close_session: _Optional[_Union[CloseSessionRequest, _Mapping]] = ..., watch: _Optional[_Union[_config_pb2.WatchRequest, _Mapping]] = ..., cancel_watch: _Optional[_Union[_config_pb2.CancelWatchRequest, _Mapping]] = ..., force_release: _Optional[_Union[_lock_pb2.ForceReleaseRequest, _Mapping]] = ..., attach: _Optional[_Union[AttachRequest, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("held", "waiting")
    HELD_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[HeldLock]
    waiting: _containers.RepeatedCompositeFieldContainer[WaitingLock]
    def __init__(self, held: _Optional[_Iterable[_Union[HeldLock, _Mapping]]] = ..., waiting: _Optional[_Iterable[_Union[WaitingLock, _Mapping]]] = ...) -> None: ...

class HeldLock(_message.Message):
    __slots__ = ("name", "token", "acquire_seq")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_SEQ_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    acquire_seq: int
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ..., acquire_seq: _Optional[int] = ...) -> None: ...

class WaitingLock(_message.Message):
    __slots__ = ("name", "acquire_seq", "position")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_SEQ_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    name: str
    acquire_seq: int
    position: int
    def __init__(self, name: _Optional[str] = ..., acquire_seq: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class ServerFrame(_message.Message):
    __slots__ = ("responses", "events", "moved", "members")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[Response]
    events: _containers.RepeatedCompositeFieldContainer[SessionEvent]
    moved: _status_pb2.LeaderHint
    members: ClusterMembers
    def __init__(self, responses: _Optional[_Iterable[_Union[Response, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[SessionEvent, _Mapping]]] = ..., moved: _Optional[_Union[_status_pb2.LeaderHint, _Mapping]] = ..., members: _Optional[_Union[ClusterMembers, _Mapping]] = ...) -> None: ...

class ClusterMembers(_message.Message):
    __slots__ = ("addresses", "own")
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    OWN_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    own: str
    def __init__(self, addresses: _Optional[_Iterable[str]] = ..., own: _Optional[str] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("id", "status", "failure", "acquire", "release", "cancel_acquire", "put", "delete", "get", "range", "history", "inspect_lock", "open_session", "keep_alive", "close_session", "watch", "cancel_watch", "force_release", "attach")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    INSPECT_LOCK_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSION_FIELD_NUMBER: _ClassVar[int]
    KEEP_ALIVE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SESSION_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    CANCEL_WATCH_FIELD_NUMBER: _ClassVar[int]
    FORCE_RELEASE_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    id: int
    status: _status_pb2.Status
    failure: _status_pb2.Failure
    acquire: _lock_pb2.AcquireResponse
    release: _lock_pb2.ReleaseResponse
    cancel_acquire: _lock_pb2.CancelAcquireResponse
    put: _config_pb2.PutResponse
    delete: _config_pb2.DeleteResponse
    get: _config_pb2.GetResponse
    range: _config_pb2.RangeResponse
    history: _config_pb2.HistoryResponse
    inspect_lock: _lock_pb2.InspectLockResponse
    open_session: OpenSessionResponse
    keep_alive: KeepAliveResponse
    close_session: CloseSessionResponse
    watch: _config_pb2.WatchResponse
    cancel_watch: _config_pb2.CancelWatchResponse
    force_release: _lock_pb2.ForceReleaseResponse
    attach: AttachResponse
    def __init__(self, id: _Optional[int] = ..., status: _Optional[_Union[_status_pb2.Status, str]] = ..., failure: _Optional[_Union[_status_pb2.Failure, _Mapping]] = ..., acquire: _Optional[_Union[_lock_pb2.AcquireResponse, _Mapping]] = ..., release: _Optional[_Union[_lock_pb2.ReleaseResponse, _Mapping]] = ..., cancel_acquire: _Optional[_Union[_lock_pb2.CancelAcquireResponse, _Mapping]] = ..., put: _Optional[_Union[_config_pb2.PutResponse, _Mapping]] = ..., delete: _Optional[_Union[_config_pb2.DeleteResponse, _Mapping]] = ..., get: _Optional[_Union[_config_pb2.GetResponse, _Mapping]] = ..., range: _Optional[_Union[_config_pb2.RangeResponse, _Mapping]] = ..., history: _Optional[_Union[_config_pb2.HistoryResponse, _Mapping]] = ..., inspect_lock: _Optional[_Union[_lock_pb2.InspectLockResponse, _Mapping]] = ..., open_session: _Optional[_Union[OpenSessionResponse, _Mapping]] = ..., keep_alive: _Optional[_Union[KeepAliveResponse, _Mapping]] = ..., close_session: _Optional[_Union[CloseSessionResponse, _Mapping]] = ..., watch: _Optional[_Union[_config_pb2.WatchResponse, _Mapping]] = ..., cancel_watch: _Optional[_Union[_config_pb2.CancelWatchResponse, _Mapping]] = ..., force_release: _Optional[_Union[_lock_pb2.ForceReleaseResponse, _Mapping]] = ..., attach: _Optional[_Union[AttachResponse, _Mapping]] = ...) -> None: ...

class SessionEvent(_message.Message):
    __slots__ = ("session_id", "lock_granted", "lock_lost", "acquire_ended", "session_ended", "watch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LOCK_GRANTED_FIELD_NUMBER: _ClassVar[int]
    LOCK_LOST_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_ENDED_FIELD_NUMBER: _ClassVar[int]
    SESSION_ENDED_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    lock_granted: _lock_pb2.LockGranted
    lock_lost: _lock_pb2.LockLost
    acquire_ended: _lock_pb2.AcquireEnded
    session_ended: SessionEnded
    watch: _config_pb2.WatchEvents
    def __init__(self, session_id: _Optional[int] = ..., lock_granted: _Optional[_Union[_lock_pb2.LockGranted, _Mapping]] = ..., lock_lost: _Optional[_Union[_lock_pb2.LockLost, _Mapping]] = ..., acquire_ended: _Optional[_Union[_lock_pb2.AcquireEnded, _Mapping]] = ..., session_ended: _Optional[_Union[SessionEnded, _Mapping]] = ..., watch: _Optional[_Union[_config_pb2.WatchEvents, _Mapping]] = ...) -> None: ...

class SessionEnded(_message.Message):
    __slots__ = ("cause",)
    class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CAUSE_UNSPECIFIED: _ClassVar[SessionEnded.Cause]
        CAUSE_EXPIRED: _ClassVar[SessionEnded.Cause]
        CAUSE_CLOSED: _ClassVar[SessionEnded.Cause]
    CAUSE_UNSPECIFIED: SessionEnded.Cause
    CAUSE_EXPIRED: SessionEnded.Cause
    CAUSE_CLOSED: SessionEnded.Cause
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    cause: SessionEnded.Cause
    def __init__(self, cause: _Optional[_Union[SessionEnded.Cause, str]] = ...) -> None: ...
