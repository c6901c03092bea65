"""What a request must look like before anything is proposed: every field of every request has a row here.

Theory of operation. `RULES` maps a request's message class to rows (field, check); a check answers None or why the
value is refused, and `admit` raises InvalidRequest with the first one. What needs more than one field is a check of
the whole message (field ""), which answers (field, why). A test walks the descriptors: a request field without a row
fails it. `admit_name` is the hot path's shortcut for lock names and gives the same verdicts.

Law: nothing that `admit` lets through is refused by the codec or makes `apply` raise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from google.protobuf.message import Message
from lockmaster_raft.gates import LEVEL_LIMIT, GateOperation
from lockmaster_raft.membership import LEVEL_MAX, LEVEL_MIN

from lockmaster.addresses import split_address
from lockmaster.api import admin_pb2, config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.errors import InvalidRequest

LOCK_NAME_BYTES_MAX: Final = 512
NAMESPACE_BYTES_MAX: Final = 253
KEY_BYTES_MAX: Final = 1024
VALUE_BYTES_MAX: Final = 1 << 20
LABEL_BYTES_MAX: Final = 256
AUTHOR_BYTES_MAX: Final = 256
COMMENT_BYTES_MAX: Final = 1024
REASON_BYTES_MAX: Final = 1024
MEMBER_NAME_BYTES_MAX: Final = 253
NONCE_BYTES: Final = 16
CLUSTER_ID_BYTES: Final = 16
TTL_MS_DEFAULT: Final = 15_000
TTL_MS_MAX: Final = 86_400_000
TIMEOUT_MS_MAX: Final = 86_400_000
LOCK_DELAY_MS_DEFAULT: Final = 1_000
LOCK_DELAY_MS_MAX: Final = 60_000
KEEP_ALIVE_SESSIONS_MAX: Final = 1_000
PAGE_LIMIT_DEFAULT: Final = 100
PAGE_LIMIT_MAX: Final = 1_000
NUMBER_MAX: Final = (1 << 63) - 1
FULL_MIN_MAX: Final = 9
AGE_MS_MAX: Final = 86_400_000
REVISION_WAIT_MS_MAX: Final = 10_000
IDEMPOTENCY_KEY_BYTES_MAX: Final = 128
POD_UID_BYTES_MAX: Final = 64

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Check = Callable[[Any], str | None]
WholeCheck = Callable[[Any], tuple[str, str] | None]


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 without control characters, of so many bytes; `lines` allows tab and newline."""

    bytes_min: int
    bytes_max: int
    lines: bool = False

    def __call__(self, value: str) -> str | None:
        """None, or why it is refused."""
        size = len(value.encode())
        if size < self.bytes_min:
            return "must not be empty"
        if size > self.bytes_max:
            return f"is {size} bytes; at most {self.bytes_max} are allowed"
        found = (_CONTROL_BUT_LINES if self.lines else _CONTROL).search(value)
        if found is not None:
            return f"has a control character (U+{ord(found.group()):04X}) at character {found.start() + 1}"
        return None


@dataclass(frozen=True, slots=True)
class Number:
    """An integer in [low, high], or 0 if `zero` (which then stands for a default)."""

    low: int
    high: int
    zero: bool = False

    def __call__(self, value: int) -> str | None:
        """None, or why it is refused."""
        if self.low <= value <= self.high or (self.zero and value == 0):
            return None
        default = " (or 0 for the default)" if self.zero and self.low > 0 else ""
        return f"is {value}; it must be between {self.low} and {self.high}{default}"


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of a size in [size_min, size_max]."""

    size_min: int
    size_max: int

    def __call__(self, value: bytes) -> str | None:
        """None, or why it is refused."""
        if self.size_min <= len(value) <= self.size_max:
            return None
        if self.size_min == self.size_max:
            return f"is {len(value)} bytes; it must be {self.size_min}"
        return f"is {len(value)} bytes; at most {self.size_max} are allowed"


def any_value(value: object) -> str | None:
    """Every value of the type is good (booleans)."""
    return None


def _address(value: str) -> str | None:
    try:
        _, port = split_address(value)
    except ValueError as error:
        return str(error)
    return "the port is 0" if port == 0 else None


def _cluster_id(value: bytes) -> str | None:
    return None if len(value) in (0, CLUSTER_ID_BYTES) else f"is {len(value)} bytes; it must be {CLUSTER_ID_BYTES} or 0"


def _session_ids(values: Any) -> str | None:
    if not 1 <= len(values) <= KEEP_ALIVE_SESSIONS_MAX:
        return f"names {len(values)} sessions; it must be 1 to {KEEP_ALIVE_SESSIONS_MAX}"
    for value in values:
        if (why := IDENTIFIER(value)) is not None:
            return why
    return None


IDENTIFIER: Final = Number(1, NUMBER_MAX)
POSITION: Final = Number(0, NUMBER_MAX)
PAGE_LIMIT: Final = Number(1, PAGE_LIMIT_MAX, zero=True)
LOCK_NAME: Final = Text(1, LOCK_NAME_BYTES_MAX)
NAMESPACE: Final = Text(1, NAMESPACE_BYTES_MAX)
KEY: Final = Text(1, KEY_BYTES_MAX)
KEY_OR_EMPTY: Final = Text(0, KEY_BYTES_MAX)
AUTHOR: Final = Text(0, AUTHOR_BYTES_MAX)
COMMENT: Final = Text(0, COMMENT_BYTES_MAX, lines=True)
INCARNATION: Final = Bytes(16, 16)


_AGE: Final = Number(1, AGE_MS_MAX)
_WAIT: Final = Number(1, REVISION_WAIT_MS_MAX, zero=True)


def _consistency(value: int) -> str | None:
    return None if value in status_pb2.Consistency.values() else f"is {value}, which this version does not know"


def _read(options: status_pb2.ReadOptions) -> str | None:
    if (why := _consistency(options.consistency)) is not None:
        return f"consistency {why}"
    if (why := POSITION(options.revision_min)) is not None:
        return f"revision_min {why}"
    if (why := _WAIT(options.wait_ms_max)) is not None:
        return f"wait_ms_max {why}"
    if options.consistency != status_pb2.CONSISTENCY_EVENTUAL and (options.revision_min or options.wait_ms_max):
        return f"{'revision_min' if options.revision_min else 'wait_ms_max'} needs consistency EVENTUAL"
    if options.consistency == status_pb2.CONSISTENCY_BOUNDED:
        return None if (why := _AGE(options.age_ms_max)) is None else f"age_ms_max {why}"
    return "age_ms_max needs consistency BOUNDED" if options.age_ms_max else None


def _guard(guard: config_pb2.Guard) -> str | None:
    if not guard.lock and not guard.token:
        return None
    if (why := LOCK_NAME(guard.lock)) is not None:
        return f"lock {why}"
    if (why := IDENTIFIER(guard.token)) is not None:
        return f"token {why}"
    return None


def _header(header: status_pb2.DedupHeader) -> str | None:
    if not (header.session_id or header.seq or header.first_incomplete):
        return None
    if (why := IDENTIFIER(header.session_id)) is not None:
        return f"session_id {why}"
    for name, value in (("seq", header.seq), ("first_incomplete", header.first_incomplete)):
        if (why := POSITION(value)) is not None:
            return f"{name} {why}"
    if header.seq and header.first_incomplete > header.seq:
        return "first_incomplete is above seq"
    return None


def _watch_range(watch: config_pb2.WatchRequest) -> tuple[str, str] | None:
    if not watch.key and not watch.prefix:
        return "key", "must not be empty unless prefix is set"
    return None


def _guard_given(request: config_pb2.PutRequest | config_pb2.DeleteRequest) -> tuple[str, str] | None:
    """A guard that is there but empty must not pass as no guard (an absent optional field must mean deny)."""
    if request.HasField("guard") and not request.guard.lock:
        return "guard.lock", "must not be empty; leave the guard out to write without one"
    return None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rows of one request: its fields, then what needs several of them."""

    fields: tuple[tuple[str, Check], ...] = ()
    whole: tuple[WholeCheck, ...] = ()


_CONDITIONS: Final = (
    ("namespace", NAMESPACE),
    ("key", KEY),
    ("if_revision", POSITION),
    ("guard", _guard),
    ("author", AUTHOR),
    ("comment", COMMENT),
    ("header", _header),
)

IDEMPOTENCY_KEY: Final = ("idempotency_key", Text(0, IDEMPOTENCY_KEY_BYTES_MAX))
MEMBER_CHANGE: Final = Rules((("member_id", IDENTIFIER), ("expected_epoch", POSITION), IDEMPOTENCY_KEY))
MEMBER_ROLE_MAX: Final = admin_pb2.MEMBER_ROLE_WITNESS
RULES: Final[dict[type[Message], Rules]] = {
    # sessions
    session_pb2.OpenSessionRequest: Rules(
        (
            ("nonce", Bytes(NONCE_BYTES, NONCE_BYTES)),
            ("ttl_ms", Number(1, TTL_MS_MAX, zero=True)),
            ("label", Text(0, LABEL_BYTES_MAX)),
            ("lock_delay_ms", Number(0, LOCK_DELAY_MS_MAX)),
        )
    ),
    session_pb2.DirectRequest: Rules(),
    session_pb2.KeepAliveRequest: Rules((("session_ids", _session_ids),)),
    session_pb2.CloseSessionRequest: Rules((("session_id", IDENTIFIER),)),
    session_pb2.ListSessionsRequest: Rules(
        (("after", POSITION), ("limit", PAGE_LIMIT), ("read", _read), ("pod_bound", any_value))
    ),
    session_pb2.AttachRequest: Rules(),
    # locks
    lock_pb2.AcquireRequest: Rules(
        (
            ("name", LOCK_NAME),
            ("wait", any_value),
            ("timeout_ms", Number(0, TIMEOUT_MS_MAX)),
            ("header", _header),
        )
    ),
    lock_pb2.ReleaseRequest: Rules((("name", LOCK_NAME), ("token", IDENTIFIER), ("header", _header))),
    lock_pb2.CancelAcquireRequest: Rules((("name", LOCK_NAME), ("acquire_seq", IDENTIFIER), ("header", _header))),
    lock_pb2.InspectLockRequest: Rules((("name", LOCK_NAME), ("read", _read))),
    lock_pb2.ListLocksRequest: Rules(
        (
            ("prefix", Text(0, LOCK_NAME_BYTES_MAX)),
            ("after", Text(0, LOCK_NAME_BYTES_MAX)),
            ("limit", PAGE_LIMIT),
            ("read", _read),
        )
    ),
    lock_pb2.ForceReleaseRequest: Rules(
        (
            ("name", LOCK_NAME),
            ("token_max", POSITION),
            ("reason", Text(1, REASON_BYTES_MAX, lines=True)),
            ("header", _header),
        )
    ),
    # config
    config_pb2.PutRequest: Rules(
        (*_CONDITIONS, ("value", Bytes(0, VALUE_BYTES_MAX)), ("ephemeral", any_value)), (_guard_given,)
    ),
    config_pb2.DeleteRequest: Rules(_CONDITIONS, (_guard_given,)),
    config_pb2.GetRequest: Rules((("namespace", NAMESPACE), ("key", KEY), ("at_revision", POSITION), ("read", _read))),
    config_pb2.RangeRequest: Rules(
        (
            ("namespace", NAMESPACE),
            ("prefix", KEY_OR_EMPTY),
            ("after", KEY_OR_EMPTY),
            ("limit", PAGE_LIMIT),
            ("keys_only", any_value),
            ("at_revision", POSITION),
            ("read", _read),
        )
    ),
    config_pb2.HistoryRequest: Rules(
        (
            ("namespace", NAMESPACE),
            ("key", KEY_OR_EMPTY),
            ("before", POSITION),
            ("limit", PAGE_LIMIT),
            ("read", _read),
        )
    ),
    config_pb2.WatchRequest: Rules(
        (
            ("namespace", NAMESPACE),
            ("key", KEY_OR_EMPTY),
            ("prefix", any_value),
            ("from_revision", POSITION),
            ("previous", any_value),
            ("watch_id", POSITION),
        ),
        (_watch_range,),
    ),
    config_pb2.CancelWatchRequest: Rules((("watch_id", POSITION),)),
    # admin
    admin_pb2.StatusRequest: Rules(),
    admin_pb2.ListMembersRequest: Rules(),
    admin_pb2.BootstrapRequest: Rules(
        (
            ("full_min", Number(1, FULL_MIN_MAX)),
            ("cluster_id", _cluster_id),
            ("level", Number(LEVEL_MIN, LEVEL_MAX, zero=True)),
        )
    ),
    admin_pb2.AddMemberRequest: Rules(
        (
            ("name", Text(1, MEMBER_NAME_BYTES_MAX)),
            ("peer_address", _address),
            ("client_address", _address),
            ("incarnation", INCARNATION),
            ("expected_epoch", POSITION),
            ("learner", any_value),
            ("member_role", Number(0, MEMBER_ROLE_MAX)),
            ("level_min", Number(0, LEVEL_LIMIT)),
            ("level_max", Number(0, LEVEL_LIMIT)),
            IDEMPOTENCY_KEY,
        )
    ),
    admin_pb2.RemoveMemberRequest: MEMBER_CHANGE,
    admin_pb2.ReplaceMemberRequest: Rules(
        (("old_id", IDENTIFIER), ("new_id", IDENTIFIER), ("expected_epoch", POSITION), IDEMPOTENCY_KEY)
    ),
    admin_pb2.PromoteMemberRequest: MEMBER_CHANGE,
    admin_pb2.DemoteMemberRequest: MEMBER_CHANGE,
    admin_pb2.AbortRoleChangeRequest: MEMBER_CHANGE,
    admin_pb2.SetReducedCommitRequest: Rules((("enabled", any_value), ("expected_epoch", POSITION), IDEMPOTENCY_KEY)),
    admin_pb2.ChangeGateRequest: Rules(
        (
            ("operation", Number(GateOperation.FENCE, GateOperation.DEACTIVATE)),
            ("level", Number(2, LEVEL_LIMIT)),
            ("expected_epoch", POSITION),
            IDEMPOTENCY_KEY,
        )
    ),
    admin_pb2.TransferLeadershipRequest: Rules((("target", POSITION), ("expected_term", POSITION), IDEMPOTENCY_KEY)),
    admin_pb2.EndSessionRequest: Rules(
        (
            ("session_id", IDENTIFIER),
            ("pod_uid", Text(0, POD_UID_BYTES_MAX)),
            ("reason", Text(1, REASON_BYTES_MAX, lines=True)),
            IDEMPOTENCY_KEY,
        )
    ),
    admin_pb2.MakeSnapshotRequest: Rules((("index_min", POSITION), IDEMPOTENCY_KEY)),
    admin_pb2.ListSnapshotsRequest: Rules(),
    admin_pb2.VerifySnapshotRequest: Rules((("index", POSITION),)),
    admin_pb2.BackupRequest: Rules(),
}


def admit(request: Message) -> None:
    """Raises InvalidRequest for the first field that is out of its range."""
    rules = RULES[type(request)]
    for field, check in rules.fields:
        if (why := check(getattr(request, field))) is not None:
            raise InvalidRequest(field, why)
    for whole in rules.whole:
        if (found := whole(request)) is not None:
            raise InvalidRequest(*found)


def admit_name(name: str) -> None:
    """The verdict of LOCK_NAME on a lock's name, fast for ordinary ones. Raises InvalidRequest."""
    # 128 characters are at most 512 bytes, and printable text has no control characters.
    if 0 < len(name) <= 128 and name.isprintable():
        return
    if (why := LOCK_NAME(name)) is not None:
        raise InvalidRequest("name", why)


def admit_ttl(ttl_ms: int, election_timeout_ns: int) -> None:
    """A session's TTL is at least 5 election timeouts, else one election could end it. Raises InvalidRequest."""
    ttl_ms_min = -(-5 * election_timeout_ns // 1_000_000)
    if ttl_ms and ttl_ms < ttl_ms_min:
        raise InvalidRequest("ttl_ms", f"is {ttl_ms}; at least 5 election timeouts, {ttl_ms_min}, are needed")


def need_session(session_id: int) -> None:
    """Raises InvalidRequest if no session is named where one is needed."""
    if not 1 <= session_id <= NUMBER_MAX:
        raise InvalidRequest("session_id", f"is {session_id}; this operation runs under a session")


def need_sequence(seq: int) -> None:
    """Raises InvalidRequest if the operation has no sequence number and needs one."""
    if not 1 <= seq <= NUMBER_MAX:
        raise InvalidRequest("seq", f"is {seq}; an acquire is keyed by its session and a seq from 1")


def refuse_unknown_operation() -> NoReturn:
    """A request without an operation, or with one that this version does not know. Raises InvalidRequest."""
    raise InvalidRequest("operation", "is missing, or unknown to this version")
