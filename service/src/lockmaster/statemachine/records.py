"""The records of the replicated state and their tables: what FORMAT.md calls the state's keys and values.

Keys. Integers are 8 bytes big-endian. A name, namespace or config key contains no control character, so the byte 0
after it ends it and keeps prefix order. Prefix bytes of tables are format: never reused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final, TypeVar

from lockmaster.statemachine.commands import KeyValue, ResultStatus
from lockmaster.statemachine.faults import InvalidEntry
from lockmaster.statemachine.view import Table
from lockmaster.statemachine.wire import U64, Reader, pack_bytes, pack_text

R = TypeVar("R")


@dataclass(slots=True)
class Meta:
    """One per state. `lift_stamp` is the cluster time of the last new leader's NOOP (service.md §1)."""

    applied_index: int
    applied_term: int
    revision: int
    cluster_time: int
    lift_stamp: int
    sessions_count: int


@dataclass(slots=True)
class Session:
    """What never changes about a session."""

    nonce: bytes
    opened_at: int
    lock_delay_ns: int
    principal: str
    label: str


@dataclass(slots=True)
class Renewal:
    """When a session was last renewed. Its deadline is max(at + ttl_ns, lift_stamp + ttl_ns // 2)."""

    at: int
    ttl_ns: int

    def deadline(self, lift_stamp: int) -> int:
        """Cluster time from which the session may be expired."""
        return max(self.at + self.ttl_ns, lift_stamp + self.ttl_ns // 2)


@dataclass(slots=True)
class Window:
    """A session's exactly-once window and counts.

    Completion records exist only for first_incomplete <= seq <= seq_max < first_incomplete + window_count_max.
    """

    first_incomplete: int
    seq_max: int
    record_bytes: int
    claims_count: int
    ephemeral_count: int


@dataclass(slots=True)
class Completion:
    """The stored answer of (session, seq). Digest b"" = an acquire cancelled before it came: fits any acquire."""

    digest: bytes
    status: ResultStatus
    revision: int
    extra: int


@dataclass(slots=True)
class Claim:
    """One acquire of a session that holds (token > 0) or waits (ticket > 0): exactly one of the two."""

    name: str
    token: int
    ticket: int


@dataclass(slots=True)
class Lock:
    """A lock that is held, waited for or in its lock-delay; any other lock has no record.

    token > 0 <=> held. head and tail are the first and last waiter's tickets, 0 <=> waiting == 0.
    """

    session_id: int
    acquire_seq: int
    token: int
    granted_at: int
    delay_until: int
    waiting: int
    head: int
    tail: int
    ticket_last: int


@dataclass(slots=True)
class Waiter:
    """A place in a queue, linked both ways by tickets so that no operation walks the queue. deadline 0 = none."""

    session_id: int
    acquire_seq: int
    since: int
    deadline: int
    previous: int
    following: int


@dataclass(slots=True)
class Head:
    """A live config key: where its newest version is."""

    mod_revision: int
    create_revision: int
    version: int
    session_id: int


@dataclass(slots=True)
class Change:
    """A namespace's change at a revision: which key, and the version that it superseded (0 = none)."""

    key: str
    previous_revision: int


@dataclass(slots=True)
class Namespace:
    """`compacted` is the first revision still held in full; `swept` <= compacted: changes below it are removed."""

    compacted: int
    swept: int
    last_revision: int
    keys_count: int


def _id_key(key: int) -> bytes:
    return U64.pack(key)


def _id_of(data: bytes) -> int:
    return int.from_bytes(data, "big")


_PAIR: Final = struct.Struct(">QQ")


def _pair_key(key: tuple[int, int]) -> bytes:
    return _PAIR.pack(*key)


def _pair_of(data: bytes) -> tuple[int, int]:
    first, second = _PAIR.unpack(data)
    return first, second


def text_stem(*texts: str) -> bytes:
    """The key bytes of texts, each ended by a zero byte."""
    return b"".join([text.encode() + b"\0" for text in texts])


def _name_ticket_key(key: tuple[str, int]) -> bytes:
    return key[0].encode() + b"\0" + U64.pack(key[1])


def _name_ticket_of(data: bytes) -> tuple[str, int]:
    return data[:-9].decode(), _id_of(data[-8:])


def _path_key(key: tuple[str, str]) -> bytes:
    return key[0].encode() + b"\0" + key[1].encode()


def _path_of(data: bytes) -> tuple[str, str]:
    namespace, _, key = data.partition(b"\0")
    return namespace.decode(), key.decode()


def _version_key(key: tuple[str, str, int]) -> bytes:
    return text_stem(key[0], key[1]) + U64.pack(key[2])


def _version_of(data: bytes) -> tuple[str, str, int]:
    namespace, _, key = data[:-9].partition(b"\0")
    return namespace.decode(), key.decode(), _id_of(data[-8:])


def _owned_key(key: tuple[int, str, str]) -> bytes:
    return U64.pack(key[0]) + _path_key((key[1], key[2]))


def _owned_of(data: bytes) -> tuple[int, str, str]:
    namespace, key = _path_of(data[8:])
    return _id_of(data[:8]), namespace, key


def _integers(record: type[R]) -> tuple[Callable[[R], bytes], Callable[[bytes], R]]:
    """Encoder and decoder of a record of two or more unsigned 64-bit integers."""
    names = [field.name for field in fields(record)]  # type: ignore[arg-type]
    layout = struct.Struct(f">{len(names)}Q")
    numbers = attrgetter(*names)

    def encode(value: R) -> bytes:
        return layout.pack(*numbers(value))

    def decode(data: bytes) -> R:
        try:
            return record(*layout.unpack(data))
        except struct.error as error:
            raise InvalidEntry(f"{record.__name__} record of {len(data)} bytes") from error

    return encode, decode


def _encode_session(value: Session) -> bytes:
    numbers = _PAIR.pack(value.opened_at, value.lock_delay_ns)
    return value.nonce + numbers + pack_text(value.principal) + pack_text(value.label)


def _decode_session(data: bytes) -> Session:
    reader = Reader(data)
    value = Session(reader.raw(16), reader.u64(), reader.u64(), reader.text(), reader.text())
    reader.finish()
    return value


_COMPLETION: Final = struct.Struct(">BQQ")


def _encode_completion(value: Completion) -> bytes:
    return _COMPLETION.pack(value.status, value.revision, value.extra) + value.digest


def _decode_completion(data: bytes) -> Completion:
    try:
        status, revision, extra = _COMPLETION.unpack_from(data)
        return Completion(data[17:], ResultStatus(status), revision, extra)
    except (struct.error, ValueError) as error:
        raise InvalidEntry("completion record") from error


def _encode_claim(value: Claim) -> bytes:
    return _PAIR.pack(value.token, value.ticket) + value.name.encode()


def _decode_claim(data: bytes) -> Claim:
    token, ticket = _pair_of(data[:16])
    return Claim(data[16:].decode(), token, ticket)


def _encode_change(value: Change) -> bytes:
    return U64.pack(value.previous_revision) + value.key.encode()


def _decode_change(data: bytes) -> Change:
    return Change(data[8:].decode(), _id_of(data[:8]))


_VERSION: Final = struct.Struct(">QQQB")


def _encode_version(value: KeyValue) -> bytes:
    numbers = _VERSION.pack(value.create_revision, value.version, value.session_id, value.deleted)
    return numbers + pack_text(value.author) + pack_text(value.comment) + pack_bytes(value.value)


def _decode_version_record(data: bytes) -> KeyValue:
    """Namespace, key and mod revision are in the table key; `version_at` fills them in."""
    reader = Reader(data, _VERSION.size)
    create, version, session_id, deleted = _VERSION.unpack_from(data)
    author, comment, value = reader.text(), reader.text(), reader.sized()
    reader.finish()
    return KeyValue("", "", value, create, 0, version, author, comment, session_id, deleted == 1)


META: Final[Table[int, Meta]] = Table("meta", b"\x01", _id_key, _id_of, *_integers(Meta))
SESSIONS: Final[Table[int, Session]] = Table("sessions", b"\x02", _id_key, _id_of, _encode_session, _decode_session)
RENEWALS: Final[Table[int, Renewal]] = Table("renewals", b"\x03", _id_key, _id_of, *_integers(Renewal))
WINDOWS: Final[Table[int, Window]] = Table("windows", b"\x04", _id_key, _id_of, *_integers(Window))
COMPLETIONS: Final[Table[tuple[int, int], Completion]] = Table(
    "completions", b"\x05", _pair_key, _pair_of, _encode_completion, _decode_completion
)
NONCES: Final[Table[bytes, int]] = Table("nonces", b"\x06", bytes, bytes, _id_key, _id_of)
CLAIMS: Final[Table[tuple[int, int], Claim]] = Table(
    "claims", b"\x07", _pair_key, _pair_of, _encode_claim, _decode_claim
)
LOCKS: Final[Table[str, Lock]] = Table("locks", b"\x10", str.encode, bytes.decode, *_integers(Lock))
WAITERS: Final[Table[tuple[str, int], Waiter]] = Table(
    "waiters", b"\x11", _name_ticket_key, _name_ticket_of, *_integers(Waiter)
)
HEADS: Final[Table[tuple[str, str], Head]] = Table("heads", b"\x20", _path_key, _path_of, *_integers(Head))
VERSIONS: Final[Table[tuple[str, str, int], KeyValue]] = Table(
    "versions", b"\x21", _version_key, _version_of, _encode_version, _decode_version_record, large_values=True
)
CHANGES: Final[Table[tuple[str, int], Change]] = Table(
    "changes", b"\x22", _name_ticket_key, _name_ticket_of, _encode_change, _decode_change
)
NAMESPACES: Final[Table[str, Namespace]] = Table("namespaces", b"\x23", str.encode, bytes.decode, *_integers(Namespace))
EPHEMERAL: Final[Table[tuple[int, str, str], int]] = Table("ephemeral", b"\x24", _owned_key, _owned_of, _id_key, _id_of)

ALL_TABLES: Final[tuple[Table[Any, Any], ...]] = (
    META,
    SESSIONS,
    RENEWALS,
    WINDOWS,
    COMPLETIONS,
    NONCES,
    CLAIMS,
    LOCKS,
    WAITERS,
    HEADS,
    VERSIONS,
    CHANGES,
    NAMESPACES,
    EPHEMERAL,
)
"""Every replicated table, by prefix."""

META_KEY: Final = 0
WHOLE_HISTORY: Final = ""
"""Key of NAMESPACES that no namespace can have: its `compacted` counts for all, also for those not made yet."""


def after_stem(stem: bytes) -> bytes | None:
    """The first key above every key that starts with `stem`; None if there is none."""
    cut = stem.rstrip(b"\xff")
    return cut[:-1] + bytes((cut[-1] + 1,)) if cut else None
