from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_OK: _ClassVar[Status]
    STATUS_NOT_LEADER: _ClassVar[Status]
    STATUS_OVERLOADED: _ClassVar[Status]
    STATUS_UNAVAILABLE: _ClassVar[Status]
    STATUS_INDETERMINATE: _ClassVar[Status]
    STATUS_INVALID_REQUEST: _ClassVar[Status]
    STATUS_SESSION_EXPIRED: _ClassVar[Status]
    STATUS_STALE: _ClassVar[Status]
    STATUS_SEQ_REUSED: _ClassVar[Status]
    STATUS_WINDOW_FULL: _ClassVar[Status]
    STATUS_COMPARE_FAILED: _ClassVar[Status]
    STATUS_NOT_FOUND: _ClassVar[Status]
    STATUS_NOT_HELD: _ClassVar[Status]
    STATUS_PERMISSION_DENIED: _ClassVar[Status]
    STATUS_QUOTA_EXCEEDED: _ClassVar[Status]
    STATUS_COMPACTED: _ClassVar[Status]
    STATUS_PRECONDITION_FAILED: _ClassVar[Status]

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSISTENCY_LINEARIZABLE: _ClassVar[Consistency]
    CONSISTENCY_EVENTUAL: _ClassVar[Consistency]
    CONSISTENCY_LEADER_LEASE: _ClassVar[Consistency]
    CONSISTENCY_BOUNDED: _ClassVar[Consistency]
STATUS_OK: Status
STATUS_NOT_LEADER: Status
STATUS_OVERLOADED: Status
STATUS_UNAVAILABLE: Status
STATUS_INDETERMINATE: Status
STATUS_INVALID_REQUEST: Status
STATUS_SESSION_EXPIRED: Status
STATUS_STALE: Status
STATUS_SEQ_REUSED: Status
STATUS_WINDOW_FULL: Status
STATUS_COMPARE_FAILED: Status
STATUS_NOT_FOUND: Status
STATUS_NOT_HELD: Status
STATUS_PERMISSION_DENIED: Status
STATUS_QUOTA_EXCEEDED: Status
STATUS_COMPACTED: Status
STATUS_PRECONDITION_FAILED: Status
CONSISTENCY_LINEARIZABLE: Consistency
CONSISTENCY_EVENTUAL: Consistency
CONSISTENCY_LEADER_LEASE: Consistency
CONSISTENCY_BOUNDED: Consistency

class Failure(_message.Message):
    __slots__ = ("status", "message", "field", "leader", "retry_after_ms", "current_revision")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_REVISION_FIELD_NUMBER: _ClassVar[int]
    status: Status
    message: str
    field: str
    leader: LeaderHint
    retry_after_ms: int
    current_revision: int
    def __init__(self, status: _Optional[_Union[Status, str]] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., leader: _Optional[_Union[LeaderHint, _Mapping]] = ..., retry_after_ms: _Optional[int] = ..., current_revision: _Optional[int] = ...) -> None: ...

class LeaderHint(_message.Message):
    __slots__ = ("member_id", "address")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    member_id: int
    address: str
    def __init__(self, member_id: _Optional[int] = ..., address: _Optional[str] = ...) -> None: ...

class ReadOptions(_message.Message):
    __slots__ = ("consistency", "revision_min", "age_ms_max", "wait_ms_max")
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    REVISION_MIN_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_MAX_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_MAX_FIELD_NUMBER: _ClassVar[int]
    consistency: Consistency
    revision_min: int
    age_ms_max: int
    wait_ms_max: int
    def __init__(self, consistency: _Optional[_Union[Consistency, str]] = ..., revision_min: _Optional[int] = ..., age_ms_max: _Optional[int] = ..., wait_ms_max: _Optional[int] = ...) -> None: ...

class DedupHeader(_message.Message):
    __slots__ = ("session_id", "seq", "first_incomplete")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    FIRST_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    seq: int
    first_incomplete: int
    def __init__(self, session_id: _Optional[int] = ..., seq: _Optional[int] = ..., first_incomplete: _Optional[int] = ...) -> None: ...
