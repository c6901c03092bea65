from lockmaster.api import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KeyValue(_message.Message):
    __slots__ = ("namespace", "key", "value", "create_revision", "mod_revision", "version", "author", "comment", "session_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    author: str
    comment: str
    session_id: int
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[bytes] = ..., create_revision: _Optional[int] = ..., mod_revision: _Optional[int] = ..., version: _Optional[int] = ..., author: _Optional[str] = ..., comment: _Optional[str] = ..., session_id: _Optional[int] = ...) -> None: ...

class Guard(_message.Message):
    __slots__ = ("lock", "token")
    LOCK_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    lock: str
    token: int
    def __init__(self, lock: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("namespace", "key", "value", "if_revision", "guard", "author", "comment", "ephemeral", "header")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    IF_REVISION_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    EPHEMERAL_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    value: bytes
    if_revision: int
    guard: Guard
    author: str
    comment: str
    ephemeral: bool
    header: _status_pb2.DedupHeader
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[bytes] = ..., if_revision: _Optional[int] = ..., guard: _Optional[_Union[Guard, _Mapping]] = ..., author: _Optional[str] = ..., comment: _Optional[str] = ..., ephemeral: _Optional[bool] = ..., header: _Optional[_Union[_status_pb2.DedupHeader, _Mapping]] = ...) -> None: ...

class PutResponse(_message.Message):
    __slots__ = ("revision", "version")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    version: int
    def __init__(self, revision: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("namespace", "key", "if_revision", "guard", "author", "comment", "header")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IF_REVISION_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    if_revision: int
    guard: Guard
    author: str
    comment: str
    header: _status_pb2.DedupHeader
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., if_revision: _Optional[int] = ..., guard: _Optional[_Union[Guard, _Mapping]] = ..., author: _Optional[str] = ..., comment: _Optional[str] = ..., header: _Optional[_Union[_status_pb2.DedupHeader, _Mapping]] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("deleted", "revision")
    DELETED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    revision: int
    def __init__(self, deleted: _Optional[bool] = ..., revision: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("namespace", "key", "at_revision", "read")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    AT_REVISION_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    at_revision: int
    read: _status_pb2.ReadOptions
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., at_revision: _Optional[int] = ..., read: _Optional[_Union[_status_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("item", "revision")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    item: KeyValue
    revision: int
    def __init__(self, item: _Optional[_Union[KeyValue, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class RangeRequest(_message.Message):
    __slots__ = ("namespace", "prefix", "after", "limit", "keys_only", "at_revision", "read")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    AT_REVISION_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    prefix: str
    after: str
    limit: int
    keys_only: bool
    at_revision: int
    read: _status_pb2.ReadOptions
    def __init__(self, namespace: _Optional[str] = ..., prefix: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ..., keys_only: _Optional[bool] = ..., at_revision: _Optional[int] = ..., read: _Optional[_Union[_status_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class RangeResponse(_message.Message):
    __slots__ = ("items", "more", "revision")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[KeyValue]
    more: bool
    revision: int
    def __init__(self, items: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., more: _Optional[bool] = ..., revision: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("kind", "item", "previous", "coalesced")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Change.Kind]
        KIND_PUT: _ClassVar[Change.Kind]
        KIND_DELETE: _ClassVar[Change.Kind]
    KIND_UNSPECIFIED: Change.Kind
    KIND_PUT: Change.Kind
    KIND_DELETE: Change.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    COALESCED_FIELD_NUMBER: _ClassVar[int]
    kind: Change.Kind
    item: KeyValue
    previous: KeyValue
    coalesced: bool
    def __init__(self, kind: _Optional[_Union[Change.Kind, str]] = ..., item: _Optional[_Union[KeyValue, _Mapping]] = ..., previous: _Optional[_Union[KeyValue, _Mapping]] = ..., coalesced: _Optional[bool] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("namespace", "key", "before", "limit", "read")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    before: int
    limit: int
    read: _status_pb2.ReadOptions
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., before: _Optional[int] = ..., limit: _Optional[int] = ..., read: _Optional[_Union[_status_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("changes", "more", "revision", "compacted_revision")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    more: bool
    revision: int
    compacted_revision: int
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., more: _Optional[bool] = ..., revision: _Optional[int] = ..., compacted_revision: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("namespace", "key", "prefix", "from_revision", "previous", "watch_id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    FROM_REVISION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    WATCH_ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: str
    prefix: bool
    from_revision: int
    previous: bool
    watch_id: int
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[str] = ..., prefix: _Optional[bool] = ..., from_revision: _Optional[int] = ..., previous: _Optional[bool] = ..., watch_id: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class CancelWatchRequest(_message.Message):
    __slots__ = ("watch_id",)
    WATCH_ID_FIELD_NUMBER: _ClassVar[int]
    watch_id: int
    def __init__(self, watch_id: _Optional[int] = ...) -> None: ...

class CancelWatchResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchEvents(_message.Message):
    __slots__ = ("watch_id", "changes", "revision", "reset_revision", "reset_last")
    WATCH_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RESET_REVISION_FIELD_NUMBER: _ClassVar[int]
    RESET_LAST_FIELD_NUMBER: _ClassVar[int]
    watch_id: int
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    revision: int
    reset_revision: int
    reset_last: bool
    def __init__(self, watch_id: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., revision: _Optional[int] = ..., reset_revision: _Optional[int] = ..., reset_last: _Optional[bool] = ...) -> None: ...
