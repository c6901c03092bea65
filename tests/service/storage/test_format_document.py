"""FORMAT.md and the code say the same about the record tables: prefixes, names, fields, sizes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import lockmaster.storage
import pytest
from lockmaster.statemachine import records
from lockmaster.statemachine.commands import KeyValue, ResultStatus
from lockmaster.statemachine.records import ALL_TABLES
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration, Member, encode_configuration

TEXT = (Path(next(iter(lockmaster.storage.__path__))) / "FORMAT.md").read_text()
ROW = re.compile(r"^\| `([0-9a-f]{2})` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
ROWS = {name: (prefix, key, value) for prefix, name, key, value in ROW.findall(TEXT)}
INTEGER_RECORDS = {
    "meta": records.Meta,
    "renewals": records.Renewal,
    "windows": records.Window,
    "locks": records.Lock,
    "waiters": records.Waiter,
    "heads": records.Head,
    "namespaces": records.Namespace,
}


def test_every_table_has_its_row() -> None:
    assert {name: row[0] for name, row in ROWS.items()} == {t.name: t.prefix.hex() for t in ALL_TABLES}


@pytest.mark.parametrize("name", sorted(INTEGER_RECORDS))
def test_records_of_numbers_have_the_fields_and_bytes_of_their_rows(name: str) -> None:
    stated = [re.sub(r" \(.*\)", "", field) for field in re.split(r", (?![^(]*\))", ROWS[name][2])]
    record = INTEGER_RECORDS[name]
    assert stated == [field.name for field in fields(record)]
    table = next(table for table in ALL_TABLES if table.name == name)
    numbers = range(1, len(stated) + 1)
    assert table.encode_value(record(*numbers)) == b"".join(n.to_bytes(8, "big") for n in numbers)


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def test_the_other_records_lie_as_their_rows_say() -> None:
    session = records.Session(b"n" * 16, 1, 2, "principal", "label")
    assert records.SESSIONS.encode_value(session) == (
        b"n" * 16 + _number(1) + _number(2) + _text(b"principal") + _text(b"label")
    )
    completion = records.Completion(b"digest", ResultStatus.BUSY, 3, 4)
    assert records.COMPLETIONS.encode_value(completion) == b"\x02" + _number(3) + _number(4) + b"digest"
    assert records.NONCES.encode_value(9) == _number(9)
    assert records.CLAIMS.encode_value(records.Claim("name", 5, 6)) == _number(5) + _number(6) + b"name"
    version = KeyValue("ns", "key", b"value", 1, 2, 3, "author", "comment", 4, True)
    assert records.VERSIONS.encode_value(version) == (
        _number(1) + _number(3) + _number(4) + b"\x01" + _text(b"author") + _text(b"comment") + _text(b"value")
    )
    assert records.CHANGES.encode_value(records.Change("key", 7)) == _number(7) + b"key"
    assert records.EPHEMERAL.encode_value(8) == _number(8)


def test_keys_lie_as_their_rows_say() -> None:
    assert records.META.encode_key(0) == _number(0)
    assert records.SESSIONS.encode_key(1) == _number(1)
    assert records.COMPLETIONS.encode_key((1, 2)) == _number(1) + _number(2)
    assert records.NONCES.encode_key(b"n" * 16) == b"n" * 16
    assert records.LOCKS.encode_key("lock") == b"lock"
    assert records.WAITERS.encode_key(("lock", 3)) == b"lock\0" + _number(3)
    assert records.HEADS.encode_key(("ns", "key")) == b"ns\0key"
    assert records.VERSIONS.encode_key(("ns", "key", 4)) == b"ns\0key\0" + _number(4)
    assert records.CHANGES.encode_key(("ns", 5)) == b"ns\0" + _number(5)
    assert records.EPHEMERAL.encode_key((6, "ns", "key")) == _number(6) + b"ns\0key"


def test_a_configuration_lies_as_its_paragraph_says() -> None:
    member = Member(NodeId(3), "n", "peer:1", "client:2", b"i" * 16, True)
    assert encode_configuration(Configuration(1, (member,), NodeId(4), 2, (NodeId(9),))) == (
        _number(1)
        + _number(4)
        + b"\0\2\0\1\0\1"
        + _number(3)
        + b"i" * 16
        + bytes([1, member.role, member.phase, member.promote_when_caught_up])
        + b"\0\1\0\6\0\x08npeer:1client:2"
        + _number(9)
    )


def test_every_stored_status_is_listed() -> None:
    assert ", ".join(f"{status.value} {status.name}" for status in ResultStatus) in TEXT
