"""The table of docs/commands.md that says what guards each Admin call against being done twice."""

from __future__ import annotations

import re
from pathlib import Path

from lockmaster.api import admin_pb2

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "commands.md"
HEAD = "| call | key | expects | a repeat that finds it done |"
KEY = "idempotency_key"
NO_CHANGE = {"Status", "ListMembers", "ListSnapshots", "VerifySnapshot", "Backup"}


def rows() -> dict[str, tuple[str, set[str], str]]:
    """{call: (key, names of fields, what a repeat gives)}."""
    lines = DOCUMENT.read_text().split(HEAD)[1].strip().splitlines()[1:]
    found = {}
    for line in lines:
        if not line.startswith("|"):
            break
        call, key, expects, repeat = (cell.strip() for cell in line.strip("|").split("|"))
        found[call] = (key, set(re.findall(r"`(\w+)`", expects)), repeat)
    return found


def test_every_change_has_its_row_and_every_row_its_fields() -> None:
    methods = admin_pb2.DESCRIPTOR.services_by_name["Admin"].methods
    table = rows()
    assert set(table) == {method.name for method in methods} - NO_CHANGE
    for method in methods:
        fields = {field.name for field in method.input_type.fields}
        expected = {name for name in fields if name.startswith("expected_")}
        if method.name in NO_CHANGE:
            assert not expected | (fields & {KEY}), method.name
            continue
        key, expects, repeat = table[method.name]
        assert (key == "yes") == (KEY in fields), method.name
        assert expected <= expects <= fields, method.name
        assert repeat, method.name
