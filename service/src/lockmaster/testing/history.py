"""Histories: what clients did and saw, one operation per JSON line, for the checkers in linearizability.py.

How to record: one monotonic clock for all stamps; `call` before the request is sent, `returned` after the answer is
there; every attempt whose outcome is not known has returned None, and its process does nothing more under that name;
what certainly was not done (NotLeader, Overloaded) is left out; so are reads without an answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

KINDS: Final = {
    "read": "register",
    "write": "register",
    "cas": "register",
    "get": "config",
    "put": "config",
    "delete": "config",
    "acquire": "lock",
    "release": "lock",
    "lost": "lock",
}
"""Kind of operation -> what its key is: keys of different sorts are different objects."""


class BadHistory(ValueError):
    """A line is not an operation; says which and why."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. Which fields mean something depends on the kind:

    read value · write value · cas expected -> value (ok) · get value (None = absent), revision · put value, revision,
    if_revision (ok False: compare failed, `revision` is the current one, 0 = absent) · delete revision (ok False with a
    revision: compare failed; without: nothing was there) · acquire token (ok False: busy) · release token (ok False:
    not held) · lost token: the hold may have ended by itself at any time after `call`.
    """

    process: str
    kind: str
    key: str
    call: int
    returned: int | None
    ok: bool = True
    value: str | None = None
    revision: int | None = None
    if_revision: int | None = None
    token: int | None = None
    expected: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadHistory(f"unknown kind {self.kind!r}")
        if self.returned is not None and self.returned < self.call:
            raise BadHistory(f"{self.kind} of {self.key!r} returned at {self.returned}, before its call {self.call}")


_FIELDS: Final = frozenset(field.name for field in fields(Operation))


def dump(operations: Iterable[Operation]) -> Iterator[str]:
    """JSON lines, without the fields that say nothing."""
    for operation in operations:
        row = asdict(operation)
        returned = row.pop("returned")
        kept = {name: value for name, value in row.items() if value is not None and (name != "ok" or not value)}
        yield json.dumps({**kept, "returned": returned})


def load(lines: Iterable[str]) -> list[Operation]:
    """The operations of JSON lines; empty lines are skipped. Raises BadHistory with the line's number."""
    operations = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            unknown = sorted(row.keys() - _FIELDS)
            if unknown:
                raise BadHistory(f"unknown field {unknown[0]!r}")
            operations.append(Operation(**row))
        except (ValueError, TypeError, AttributeError) as error:
            raise BadHistory(f"line {number}: {error}") from error
    return operations
