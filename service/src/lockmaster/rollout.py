"""The record of a rollout: how a set of configuration keys reaches its clients, by whom it is read, and who gets what.

Theory of operation. A ConfigSet of the operator (operator.md §1) writes its values as ordinary keys. Beside them it
keeps one record in the namespace `lockmaster.rollouts`: what is stable, and, while a canary runs, what is tried and on
how many per cent of the clients. The tried values are in `lockmaster.canary`. A client that follows the set (the SDK's
`follow`) reads the record, draws by `in_canary` which values are its own, and says in an ephemeral key in
`lockmaster.running` which revision it holds: the key goes with its session, so the counts are of those that live.

Laws. The draw depends on the set, the content that is tried and the client's identity alone: a client that is in at 5 %
is in at 50 %. A record is written after the values that it speaks of, and values are removed after the record that no
longer speaks of them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

RECORDS: Final = "lockmaster.rollouts"
CANARY: Final = "lockmaster.canary"
RUNNING: Final = "lockmaster.running"
RECORDS_MAX: Final = 64
"""Most sets whose records a client looks at in one namespace."""


@dataclass(frozen=True, slots=True)
class Stable:
    """What every client has that is not in the canary."""

    hash: str = ""
    """Of keys and values (`hash_of`); "" before they were written for the first time."""
    revision: int = 0
    """Of the last write of one of them."""


@dataclass(frozen=True, slots=True)
class Canary:
    """What is being tried."""

    hash: str
    revision: int
    """Of the last write of its values."""
    step: int
    """Steps done before this one."""
    percent: int
    """Share of the clients that have it; 0: it was taken back."""
    since: int
    """When this step began, in seconds since 1970, by the operator's clock."""
    failed_gate: str = ""
    """Why it was taken back."""


@dataclass(frozen=True, slots=True)
class Record:
    """One set of keys."""

    uid: str
    """Of the set: its keys carry `author_of(uid)`."""
    namespace: str
    prefix: str = ""
    """All its keys begin with this."""
    stable: Stable = Stable()
    canary: Canary | None = None

    def encode(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def decode(value: bytes) -> Record | None:
    """The record in a stored value; None for anything else (a newer one's added fields are ignored)."""
    try:
        found: dict[str, Any] = json.loads(value)
        canary = found.get("canary")
        stable = found.get("stable") or {}
        return Record(
            uid=str(found["uid"]),
            namespace=str(found["namespace"]),
            prefix=str(found.get("prefix", "")),
            stable=Stable(str(stable.get("hash", "")), int(stable.get("revision", 0))),
            canary=None if canary is None else _canary(canary),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _canary(found: dict[str, Any]) -> Canary:
    revision, step, percent, since = (int(found[name]) for name in ("revision", "step", "percent", "since"))
    return Canary(str(found["hash"]), revision, step, percent, since, str(found.get("failed_gate", "")))


def author_of(uid: str) -> str:
    """The author of every key of a set: how it is known whose a key is."""
    return f"configset/{uid}"


def record_key(namespace: str, uid: str) -> str:
    """Key of a set's record in RECORDS; those of a namespace begin with `namespace/` (and so may those of another)."""
    return f"{namespace}/{uid}"


def hash_of(values: dict[str, bytes]) -> str:
    """SHA-256 of keys and values, in 64 hex digits."""
    digest = hashlib.sha256()
    for key in sorted(values):
        for part in (key.encode(), values[key]):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def in_canary(record: Record, identity: str) -> bool:
    """Whether the client of this identity has what is being tried."""
    canary = record.canary
    if canary is None or canary.percent <= 0:
        return False
    drawn = hashlib.sha256(f"{record.uid}/{canary.hash}/{identity}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") % 100 < canary.percent
