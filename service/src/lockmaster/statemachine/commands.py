"""The commands that entries carry, their results and the events that applying them causes.

A command is what `apply` executes and what codec.py turns into bytes; each kind has its row in the command table of
the module that owns it (sessions.py, locks.py, config.py), so that a new kind is one new file. Durations and times
are nanoseconds of cluster time. Limits are checked at admission and again by `apply`, which refuses, never raises,
on what a command can contain.

The classes are slotted but not frozen: constructing a frozen dataclass costs three times as much, and these are made
once per operation on the hot path. Nobody changes one after it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class CommandKind(IntEnum):
    """The byte that says which command follows. Values are format (FORMAT.md): never reused."""

    OPEN_SESSION = 1
    CLOSE_SESSION = 2
    KEEP_ALIVE = 3
    EXPIRE = 4
    END_SESSION = 5
    ACQUIRE = 16
    RELEASE = 17
    CANCEL_ACQUIRE = 18
    FORCE_RELEASE = 19
    PUT = 32
    DELETE = 33
    COMPACT = 34


@dataclass(slots=True)
class Dedup:
    """Exactly-once header (RIFL). `digest` is 8 bytes of BLAKE2b over the command's encoded body, made at admission."""

    session_id: int
    seq: int
    first_incomplete: int
    digest: bytes


@dataclass(slots=True)
class OpenSession:
    """Open a session; its id is the revision of the opening. The same nonce answers with the same live session."""

    nonce: bytes
    ttl_ns: int
    principal: str
    label: str
    lock_delay_ns: int


@dataclass(slots=True)
class CloseSession:
    """End a session gracefully: its locks are released without lock-delay."""

    session_id: int


@dataclass(slots=True)
class KeepAlive:
    """Renew sessions (ascending ids): the leader's coalesced keepalives of one tick. Reserved."""

    session_ids: tuple[int, ...]


@dataclass(slots=True)
class Expire:
    """End what the leader believes is due; apply checks each against cluster time. Reserved.

    All expiring sessions are removed first, then overdue waiters, then what became free (or whose lock-delay ended)
    is granted.
    """

    session_ids: tuple[int, ...]
    waiters: tuple[tuple[str, int], ...]
    """(lock name, ticket) of waiters whose timeout may have passed."""
    lock_names: tuple[str, ...]
    """Locks whose lock-delay may have ended."""


@dataclass(slots=True)
class EndSession:
    """End another's session as if it had expired, if it was opened by that pod. Level 2 (raft.md §6). Reserved."""

    session_id: int
    pod_uid: str
    """The session's pod; "" = one without a pod."""
    reason: str
    principal: str
    """Who asked."""


@dataclass(slots=True)
class Acquire:
    """Take or queue for an exclusive lock, keyed by (session_id, seq) of the Dedup header, which it needs."""

    name: str
    wait: bool
    timeout_ns: int
    """Longest time in the queue; 0 = none."""


@dataclass(slots=True)
class Release:
    """Give a lock back. Reserved. NOT_HELD unless (session, token) holds it."""

    session_id: int
    name: str
    token: int


@dataclass(slots=True)
class CancelAcquire:
    """Withdraw the acquire with that seq, also if it has not arrived yet. Reserved."""

    session_id: int
    name: str
    acquire_seq: int


@dataclass(slots=True)
class ForceRelease:
    """Take a lock from its holder, if its token is <= token_max (0 = any)."""

    name: str
    token_max: int
    reason: str
    principal: str


@dataclass(slots=True)
class Put:
    """Write a config key. `if_revision` None = always, 0 = only if absent. Guard lock "" = none."""

    namespace: str
    key: str
    value: bytes
    if_revision: int | None
    guard_lock: str
    guard_token: int
    author: str
    comment: str
    session_id: int
    """Ephemeral: deleted when this session ends; 0 = not."""


@dataclass(slots=True)
class Delete:
    """Delete a config key; conditions as in Put."""

    namespace: str
    key: str
    if_revision: int | None
    guard_lock: str
    guard_token: int
    author: str
    comment: str


@dataclass(slots=True)
class Compact:
    """Forget config history below `revision` in a namespace ("" = all)."""

    namespace: str
    revision: int


Operation = (
    OpenSession
    | CloseSession
    | KeepAlive
    | Expire
    | EndSession
    | Acquire
    | Release
    | CancelAcquire
    | ForceRelease
    | Put
    | Delete
    | Compact
)


@dataclass(slots=True)
class Command:
    """One operation, with its exactly-once header or None."""

    operation: Operation
    dedup: Dedup | None = None


class ResultStatus(IntEnum):
    """How an operation ended. Stored in completion records: values are format, never reused."""

    OK = 0
    QUEUED = 1
    """Acquire: in the queue; a grant or end comes as an event."""
    BUSY = 2
    """Acquire without wait: somebody holds it."""
    TIMED_OUT = 3
    CANCELLED = 4
    ENDED = 5
    """Retry of an acquire that was granted and is no longer held."""
    NOT_HELD = 6
    NOT_FOUND = 7
    COMPARE_FAILED = 8
    GUARD_FAILED = 9
    """The guard's lock is not held with that token."""
    SESSION_EXPIRED = 10
    STALE = 11
    SEQ_REUSED = 12
    WINDOW_FULL = 13
    QUOTA_EXCEEDED = 14
    INVALID = 15
    PERMISSION_DENIED = 16


@dataclass(slots=True)
class Result:
    """The answer to one command.

    `revision`: token of a grant, session id of an open, mod revision of a write, current mod revision of
    COMPARE_FAILED. `extra`: queue position (from 1) of QUEUED, version of a Put, 1 if Delete deleted, ForceRelease
    released or EndSession ended. `expired`: KeepAlive's dead sessions.
    """

    status: ResultStatus
    revision: int = 0
    extra: int = 0
    expired: tuple[int, ...] = ()


class EndCause(IntEnum):
    """Why a hold, a wait or a session ended without its owner's release."""

    EXPIRED = 1
    CLOSED = 2
    FORCED = 3
    TIMED_OUT = 4
    CANCELLED = 5


@dataclass(slots=True)
class LockGranted:
    """A waiter became the holder."""

    session_id: int
    acquire_seq: int
    name: str
    token: int


@dataclass(slots=True)
class LockLost:
    """A holder lost its lock: its session ended or it was forced."""

    session_id: int
    acquire_seq: int
    name: str
    token: int
    cause: EndCause
    reason: str


@dataclass(slots=True)
class AcquireEnded:
    """A waiter left the queue without the lock."""

    session_id: int
    acquire_seq: int
    name: str
    cause: EndCause


@dataclass(slots=True)
class SessionEnded:
    """A session is gone; its locks, waits and ephemeral keys went with it."""

    session_id: int
    cause: EndCause


@dataclass(slots=True)
class KeyValue:
    """One version of a config key. A deletion has `deleted` True and an empty value."""

    namespace: str
    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    author: str
    comment: str
    session_id: int
    deleted: bool = False


@dataclass(slots=True)
class ConfigChanged:
    """A key was written or deleted at `item.mod_revision`; `previous` is what it was, or None."""

    item: KeyValue
    previous: KeyValue | None


Event = LockGranted | LockLost | AcquireEnded | SessionEnded | ConfigChanged
