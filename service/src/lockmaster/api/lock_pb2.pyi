from lockmaster.api import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AcquireState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACQUIRE_STATE_UNSPECIFIED: _ClassVar[AcquireState]
    ACQUIRE_STATE_GRANTED: _ClassVar[AcquireState]
    ACQUIRE_STATE_QUEUED: _ClassVar[AcquireState]
    ACQUIRE_STATE_BUSY: _ClassVar[AcquireState]
    ACQUIRE_STATE_TIMED_OUT: _ClassVar[AcquireState]
    ACQUIRE_STATE_CANCELLED: _ClassVar[AcquireState]
    ACQUIRE_STATE_ENDED: _ClassVar[AcquireState]
ACQUIRE_STATE_UNSPECIFIED: AcquireState
ACQUIRE_STATE_GRANTED: AcquireState
ACQUIRE_STATE_QUEUED: AcquireState
ACQUIRE_STATE_BUSY: AcquireState
ACQUIRE_STATE_TIMED_OUT: AcquireState
ACQUIRE_STATE_CANCELLED: AcquireState
ACQUIRE_STATE_ENDED: AcquireState

class AcquireRequest(_message.Message):
    __slots__ = ("name", "wait", "timeout_ms", "header")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    name: str
    wait: bool
    timeout_ms: int
    header: _status_pb2.DedupHeader
    def __init__(self, name: _Optional[str] = ..., wait: _Optional[bool] = ..., timeout_ms: _Optional[int] = ..., header: _Optional[_Union[_status_pb2.DedupHeader, _Mapping]] = ...) -> None: ...

class AcquireResponse(_message.Message):
    __slots__ = ("state", "token", "position")
    STATE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    state: AcquireState
    token: int
    position: int
    def __init__(self, state: _Optional[_Union[AcquireState, str]] = ..., token: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("name", "token", "header")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    header: _status_pb2.DedupHeader
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ..., header: _Optional[_Union[_status_pb2.DedupHeader, _Mapping]] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelAcquireRequest(_message.Message):
    __slots__ = ("name", "acquire_seq", "header")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_SEQ_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    name: str
    acquire_seq: int
    header: _status_pb2.DedupHeader
    def __init__(self, name: _Optional[str] = ..., acquire_seq: _Optional[int] = ..., header: _Optional[_Union[_status_pb2.DedupHeader, _Mapping]] = ...) -> None: ...

class CancelAcquireResponse(_message.Message):
    __slots__ = ("state", "token")
    STATE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    state: AcquireState
    token: int
    def __init__(self, state: _Optional[_Union[AcquireState, str]] = ..., token: _Optional[int] = ...) -> None: ...

class InspectLockRequest(_message.Message):
    __slots__ = ("name", "read")
    NAME_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    name: str
    read: _status_pb2.ReadOptions
    def __init__(self, name: _Optional[str] = ..., read: _Optional[_Union[_status_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class LockHolder(_message.Message):
    __slots__ = ("session_id", "label", "token", "held_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HELD_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    label: str
    token: int
    held_ms: int
    def __init__(self, session_id: _Optional[int] = ..., label: _Optional[str] = ..., token: _Optional[int] = ..., held_ms: _Optional[int] = ...) -> None: ...

class LockWaiter(_message.Message):
    __slots__ = ("session_id", "label", "position", "waited_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    WAITED_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    label: str
    position: int
    waited_ms: int
    def __init__(self, session_id: _Optional[int] = ..., label: _Optional[str] = ..., position: _Optional[int] = ..., waited_ms: _Optional[int] = ...) -> None: ...

class LockInfo(_message.Message):
    __slots__ = ("name", "holder", "queue", "queue_length", "delay_remaining_ms", "last_token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    DELAY_REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    holder: LockHolder
    queue: _containers.RepeatedCompositeFieldContainer[LockWaiter]
    queue_length: int
    delay_remaining_ms: int
    last_token: int
    def __init__(self, name: _Optional[str] = ..., holder: _Optional[_Union[LockHolder, _Mapping]] = ..., queue: _Optional[_Iterable[_Union[LockWaiter, _Mapping]]] = ..., queue_length: _Optional[int] = ..., delay_remaining_ms: _Optional[int] = ..., last_token: _Optional[int] = ...) -> None: ...

class InspectLockResponse(_message.Message):
    __slots__ = ("lock", "revision")
    LOCK_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    lock: LockInfo
    revision: int
    def __init__(self, lock: _Optional[_Union[LockInfo, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ListLocksRequest(_message.Message):
    __slots__ = ("prefix", "after", "limit", "read")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    after: str
    limit: int
    read: _status_pb2.ReadOptions
    def __init__(self, prefix: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ..., read: _Optional[_Union[_status_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class ListLocksResponse(_message.Message):
    __slots__ = ("locks", "more", "revision")
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    locks: _containers.RepeatedCompositeFieldContainer[LockInfo]
    more: bool
    revision: int
    def __init__(self, locks: _Optional[_Iterable[_Union[LockInfo, _Mapping]]] = ..., more: _Optional[bool] = ..., revision: _Optional[int] = ...) -> None: ...

class ForceReleaseRequest(_message.Message):
    __slots__ = ("name", "token_max", "reason", "header")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_MAX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    name: str
    token_max: int
    reason: str
    header: _status_pb2.DedupHeader
    def __init__(self, name: _Optional[str] = ..., token_max: _Optional[int] = ..., reason: _Optional[str] = ..., header: _Optional[_Union[_status_pb2.DedupHeader, _Mapping]] = ...) -> None: ...

class ForceReleaseResponse(_message.Message):
    __slots__ = ("released", "token")
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    released: bool
    token: int
    def __init__(self, released: _Optional[bool] = ..., token: _Optional[int] = ...) -> None: ...

class LockGranted(_message.Message):
    __slots__ = ("name", "token", "acquire_seq")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_SEQ_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    acquire_seq: int
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ..., acquire_seq: _Optional[int] = ...) -> None: ...

class LockLost(_message.Message):
    __slots__ = ("name", "token", "acquire_seq", "cause", "reason")
    class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CAUSE_UNSPECIFIED: _ClassVar[LockLost.Cause]
        CAUSE_SESSION_EXPIRED: _ClassVar[LockLost.Cause]
        CAUSE_FORCED: _ClassVar[LockLost.Cause]
    CAUSE_UNSPECIFIED: LockLost.Cause
    CAUSE_SESSION_EXPIRED: LockLost.Cause
    CAUSE_FORCED: LockLost.Cause
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_SEQ_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    acquire_seq: int
    cause: LockLost.Cause
    reason: str
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ..., acquire_seq: _Optional[int] = ..., cause: _Optional[_Union[LockLost.Cause, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class AcquireEnded(_message.Message):
    __slots__ = ("name", "acquire_seq", "state")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_SEQ_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    acquire_seq: int
    state: AcquireState
    def __init__(self, name: _Optional[str] = ..., acquire_seq: _Optional[int] = ..., state: _Optional[_Union[AcquireState, str]] = ...) -> None: ...
