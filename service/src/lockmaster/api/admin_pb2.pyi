from lockmaster.api import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MemberRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_ROLE_UNSPECIFIED: _ClassVar[MemberRole]
    MEMBER_ROLE_FULL: _ClassVar[MemberRole]
    MEMBER_ROLE_WITNESS: _ClassVar[MemberRole]

class GateOperation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GATE_OPERATION_UNSPECIFIED: _ClassVar[GateOperation]
    GATE_OPERATION_FENCE: _ClassVar[GateOperation]
    GATE_OPERATION_ACTIVATE: _ClassVar[GateOperation]
    GATE_OPERATION_CANCEL: _ClassVar[GateOperation]
    GATE_OPERATION_DEACTIVATE: _ClassVar[GateOperation]
MEMBER_ROLE_UNSPECIFIED: MemberRole
MEMBER_ROLE_FULL: MemberRole
MEMBER_ROLE_WITNESS: MemberRole
GATE_OPERATION_UNSPECIFIED: GateOperation
GATE_OPERATION_FENCE: GateOperation
GATE_OPERATION_ACTIVATE: GateOperation
GATE_OPERATION_CANCEL: GateOperation
GATE_OPERATION_DEACTIVATE: GateOperation

class EndSessionRequest(_message.Message):
    __slots__ = ("session_id", "pod_uid", "reason", "idempotency_key")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    POD_UID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    pod_uid: str
    reason: str
    idempotency_key: str
    def __init__(self, session_id: _Optional[int] = ..., pod_uid: _Optional[str] = ..., reason: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class EndSessionResponse(_message.Message):
    __slots__ = ("ended",)
    ENDED_FIELD_NUMBER: _ClassVar[int]
    ended: bool
    def __init__(self, ended: _Optional[bool] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("cluster_id", "member_id", "name", "role", "term", "leader", "commit_index", "applied_index", "last_index", "log_first_index", "revision", "state_hash", "durable_index", "flushed_index", "free_bytes", "log_bytes", "version", "level_active", "level_max", "incarnation", "alarms", "sessions", "watches", "streams", "uptime_ms", "peer_address", "client_address", "level_fence", "gate_epoch", "member_role", "phase", "serves_state", "caretaker", "promotion", "log_bytes_max", "copy_bytes", "level_floor", "pods_mark")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LOG_FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    DURABLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    FLUSHED_INDEX_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_MAX_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    WATCHES_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FENCE_FIELD_NUMBER: _ClassVar[int]
    GATE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ROLE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    SERVES_STATE_FIELD_NUMBER: _ClassVar[int]
    CARETAKER_FIELD_NUMBER: _ClassVar[int]
    PROMOTION_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    COPY_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FLOOR_FIELD_NUMBER: _ClassVar[int]
    PODS_MARK_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    member_id: int
    name: str
    role: str
    term: int
    leader: _status_pb2.LeaderHint
    commit_index: int
    applied_index: int
    last_index: int
    log_first_index: int
    revision: int
    state_hash: int
    durable_index: int
    flushed_index: int
    free_bytes: int
    log_bytes: int
    version: str
    level_active: int
    level_max: int
    incarnation: bytes
    alarms: _containers.RepeatedScalarFieldContainer[str]
    sessions: int
    watches: int
    streams: int
    uptime_ms: int
    peer_address: str
    client_address: str
    level_fence: int
    gate_epoch: int
    member_role: str
    phase: str
    serves_state: bool
    caretaker: bool
    promotion: str
    log_bytes_max: int
    copy_bytes: int
    level_floor: int
    pods_mark: int
    def __init__(self, cluster_id: _Optional[bytes] = ..., member_id: _Optional[int] = ..., name: _Optional[str] = ..., role: _Optional[str] = ..., term: _Optional[int] = ..., leader: _Optional[_Union[_status_pb2.LeaderHint, _Mapping]] = ..., commit_index: _Optional[int] = ..., applied_index: _Optional[int] = ..., last_index: _Optional[int] = ..., log_first_index: _Optional[int] = ..., revision: _Optional[int] = ..., state_hash: _Optional[int] = ..., durable_index: _Optional[int] = ..., flushed_index: _Optional[int] = ..., free_bytes: _Optional[int] = ..., log_bytes: _Optional[int] = ..., version: _Optional[str] = ..., level_active: _Optional[int] = ..., level_max: _Optional[int] = ..., incarnation: _Optional[bytes] = ..., alarms: _Optional[_Iterable[str]] = ..., sessions: _Optional[int] = ..., watches: _Optional[int] = ..., streams: _Optional[int] = ..., uptime_ms: _Optional[int] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., level_fence: _Optional[int] = ..., gate_epoch: _Optional[int] = ..., member_role: _Optional[str] = ..., phase: _Optional[str] = ..., serves_state: _Optional[bool] = ..., caretaker: _Optional[bool] = ..., promotion: _Optional[str] = ..., log_bytes_max: _Optional[int] = ..., copy_bytes: _Optional[int] = ..., level_floor: _Optional[int] = ..., pods_mark: _Optional[int] = ...) -> None: ...

class BootstrapRequest(_message.Message):
    __slots__ = ("full_min", "cluster_id", "level")
    FULL_MIN_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    full_min: int
    cluster_id: bytes
    level: int
    def __init__(self, full_min: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., level: _Optional[int] = ...) -> None: ...

class BootstrapResponse(_message.Message):
    __slots__ = ("cluster_id", "member_id")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    member_id: int
    def __init__(self, cluster_id: _Optional[bytes] = ..., member_id: _Optional[int] = ...) -> None: ...

class ListMembersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MemberInfo(_message.Message):
    __slots__ = ("member_id", "name", "peer_address", "client_address", "voter", "member_role", "phase", "leader", "match_index", "lag_entries", "reachable", "level_max", "incarnation", "level_min", "fence_index")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ROLE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAG_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_MAX_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_MIN_FIELD_NUMBER: _ClassVar[int]
    FENCE_INDEX_FIELD_NUMBER: _ClassVar[int]
    member_id: int
    name: str
    peer_address: str
    client_address: str
    voter: bool
    member_role: str
    phase: str
    leader: bool
    match_index: int
    lag_entries: int
    reachable: bool
    level_max: int
    incarnation: bytes
    level_min: int
    fence_index: int
    def __init__(self, member_id: _Optional[int] = ..., name: _Optional[str] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., voter: _Optional[bool] = ..., member_role: _Optional[str] = ..., phase: _Optional[str] = ..., leader: _Optional[bool] = ..., match_index: _Optional[int] = ..., lag_entries: _Optional[int] = ..., reachable: _Optional[bool] = ..., level_max: _Optional[int] = ..., incarnation: _Optional[bytes] = ..., level_min: _Optional[int] = ..., fence_index: _Optional[int] = ...) -> None: ...

class ListMembersResponse(_message.Message):
    __slots__ = ("members", "configuration_epoch", "commit_index", "cluster_id", "level_active", "level_fence", "gate_epoch", "reduced_commit", "term")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LEVEL_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FENCE_FIELD_NUMBER: _ClassVar[int]
    GATE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    REDUCED_COMMIT_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[MemberInfo]
    configuration_epoch: int
    commit_index: int
    cluster_id: bytes
    level_active: int
    level_fence: int
    gate_epoch: int
    reduced_commit: bool
    term: int
    def __init__(self, members: _Optional[_Iterable[_Union[MemberInfo, _Mapping]]] = ..., configuration_epoch: _Optional[int] = ..., commit_index: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., level_active: _Optional[int] = ..., level_fence: _Optional[int] = ..., gate_epoch: _Optional[int] = ..., reduced_commit: _Optional[bool] = ..., term: _Optional[int] = ...) -> None: ...

class AddMemberRequest(_message.Message):
    __slots__ = ("name", "peer_address", "client_address", "incarnation", "expected_epoch", "learner", "level_min", "level_max", "member_role", "idempotency_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    LEVEL_MIN_FIELD_NUMBER: _ClassVar[int]
    LEVEL_MAX_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ROLE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    peer_address: str
    client_address: str
    incarnation: bytes
    expected_epoch: int
    learner: bool
    level_min: int
    level_max: int
    member_role: MemberRole
    idempotency_key: str
    def __init__(self, name: _Optional[str] = ..., peer_address: _Optional[str] = ..., client_address: _Optional[str] = ..., incarnation: _Optional[bytes] = ..., expected_epoch: _Optional[int] = ..., learner: _Optional[bool] = ..., level_min: _Optional[int] = ..., level_max: _Optional[int] = ..., member_role: _Optional[_Union[MemberRole, str]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class AddMemberResponse(_message.Message):
    __slots__ = ("member_id", "cluster_id")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    member_id: int
    cluster_id: bytes
    def __init__(self, member_id: _Optional[int] = ..., cluster_id: _Optional[bytes] = ...) -> None: ...

class RemoveMemberRequest(_message.Message):
    __slots__ = ("member_id", "expected_epoch", "idempotency_key")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    member_id: int
    expected_epoch: int
    idempotency_key: str
    def __init__(self, member_id: _Optional[int] = ..., expected_epoch: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class RemoveMemberResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReplaceMemberRequest(_message.Message):
    __slots__ = ("old_id", "new_id", "expected_epoch", "idempotency_key")
    OLD_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    old_id: int
    new_id: int
    expected_epoch: int
    idempotency_key: str
    def __init__(self, old_id: _Optional[int] = ..., new_id: _Optional[int] = ..., expected_epoch: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class ReplaceMemberResponse(_message.Message):
    __slots__ = ("configuration_epoch",)
    CONFIGURATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    configuration_epoch: int
    def __init__(self, configuration_epoch: _Optional[int] = ...) -> None: ...

class PromoteMemberRequest(_message.Message):
    __slots__ = ("member_id", "expected_epoch", "idempotency_key")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    member_id: int
    expected_epoch: int
    idempotency_key: str
    def __init__(self, member_id: _Optional[int] = ..., expected_epoch: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class PromoteMemberResponse(_message.Message):
    __slots__ = ("configuration_epoch",)
    CONFIGURATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    configuration_epoch: int
    def __init__(self, configuration_epoch: _Optional[int] = ...) -> None: ...

class DemoteMemberRequest(_message.Message):
    __slots__ = ("member_id", "expected_epoch", "idempotency_key")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    member_id: int
    expected_epoch: int
    idempotency_key: str
    def __init__(self, member_id: _Optional[int] = ..., expected_epoch: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class DemoteMemberResponse(_message.Message):
    __slots__ = ("configuration_epoch",)
    CONFIGURATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    configuration_epoch: int
    def __init__(self, configuration_epoch: _Optional[int] = ...) -> None: ...

class AbortRoleChangeRequest(_message.Message):
    __slots__ = ("member_id", "expected_epoch", "idempotency_key")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    member_id: int
    expected_epoch: int
    idempotency_key: str
    def __init__(self, member_id: _Optional[int] = ..., expected_epoch: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class AbortRoleChangeResponse(_message.Message):
    __slots__ = ("configuration_epoch", "member_role")
    CONFIGURATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ROLE_FIELD_NUMBER: _ClassVar[int]
    configuration_epoch: int
    member_role: str
    def __init__(self, configuration_epoch: _Optional[int] = ..., member_role: _Optional[str] = ...) -> None: ...

class SetReducedCommitRequest(_message.Message):
    __slots__ = ("enabled", "expected_epoch", "idempotency_key")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    expected_epoch: int
    idempotency_key: str
    def __init__(self, enabled: _Optional[bool] = ..., expected_epoch: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class SetReducedCommitResponse(_message.Message):
    __slots__ = ("configuration_epoch",)
    CONFIGURATION_EPOCH_FIELD_NUMBER: _ClassVar[int]
    configuration_epoch: int
    def __init__(self, configuration_epoch: _Optional[int] = ...) -> None: ...

class ChangeGateRequest(_message.Message):
    __slots__ = ("operation", "level", "expected_epoch", "idempotency_key")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    operation: GateOperation
    level: int
    expected_epoch: int
    idempotency_key: str
    def __init__(self, operation: _Optional[_Union[GateOperation, str]] = ..., level: _Optional[int] = ..., expected_epoch: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class ChangeGateResponse(_message.Message):
    __slots__ = ("level_active", "level_fence", "gate_epoch")
    LEVEL_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FENCE_FIELD_NUMBER: _ClassVar[int]
    GATE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    level_active: int
    level_fence: int
    gate_epoch: int
    def __init__(self, level_active: _Optional[int] = ..., level_fence: _Optional[int] = ..., gate_epoch: _Optional[int] = ...) -> None: ...

class TransferLeadershipRequest(_message.Message):
    __slots__ = ("target", "idempotency_key", "expected_term")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_TERM_FIELD_NUMBER: _ClassVar[int]
    target: int
    idempotency_key: str
    expected_term: int
    def __init__(self, target: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., expected_term: _Optional[int] = ...) -> None: ...

class TransferLeadershipResponse(_message.Message):
    __slots__ = ("leader_id",)
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    leader_id: int
    def __init__(self, leader_id: _Optional[int] = ...) -> None: ...

class SnapshotInfo(_message.Message):
    __slots__ = ("index", "term", "chunks", "bytes_total")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    chunks: int
    bytes_total: int
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., chunks: _Optional[int] = ..., bytes_total: _Optional[int] = ...) -> None: ...

class MakeSnapshotRequest(_message.Message):
    __slots__ = ("index_min", "idempotency_key")
    INDEX_MIN_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    index_min: int
    idempotency_key: str
    def __init__(self, index_min: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class MakeSnapshotResponse(_message.Message):
    __slots__ = ("snapshot", "made")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    snapshot: SnapshotInfo
    made: bool
    def __init__(self, snapshot: _Optional[_Union[SnapshotInfo, _Mapping]] = ..., made: _Optional[bool] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots",)
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[SnapshotInfo]
    def __init__(self, snapshots: _Optional[_Iterable[_Union[SnapshotInfo, _Mapping]]] = ...) -> None: ...

class VerifySnapshotRequest(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class VerifySnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: SnapshotInfo
    def __init__(self, snapshot: _Optional[_Union[SnapshotInfo, _Mapping]] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BackupPiece(_message.Message):
    __slots__ = ("data", "bytes_total")
    DATA_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    bytes_total: int
    def __init__(self, data: _Optional[bytes] = ..., bytes_total: _Optional[int] = ...) -> None: ...
