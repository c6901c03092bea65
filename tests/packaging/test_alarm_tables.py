"""Every alarm that the code raises stands in the two tables that explain it, and nothing else does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .tree import ROOT, name_of, python_files

SOURCES = ("raft/src/", "service/src/")
HANDED_ON = "code"
"""The argument of `Core.alarm`, which makes the Alarm of what it is given."""
TABLES = ("docs/consensus.md", "docs/operations.md")
CODE = re.compile(r"`([a-z_]+)`")


def raised() -> dict[str, str]:
    """{code: a file that raises it}. Every code is a literal, so that it can be found here."""
    found = {}
    for path in python_files():
        if not name_of(path).startswith(SOURCES) or "/testing/" in name_of(path):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _raises(node.func) and node.args:
                code = ast.unparse(node.args[0])
                if code != HANDED_ON:
                    found[ast.literal_eval(code)] = name_of(path)
    return found


def _raises(function: ast.expr) -> bool:
    return (isinstance(function, ast.Attribute) and function.attr in ("alarm", "Alarm")) or (
        isinstance(function, ast.Name) and function.id == "Alarm"
    )


def told(path: Path) -> set[str]:
    """The codes in the first column of the table of alarms."""
    lines = iter(path.read_text().splitlines())
    heads = ("| code | meaning |", "| alarm or line | what it means |")
    next(line for line in lines if line in heads)
    codes = set[str]()
    for line in lines:
        if not line.startswith("|"):
            break
        codes |= set(CODE.findall(line.split("|")[1]))
    return codes


@pytest.mark.parametrize("table", TABLES)
def test_every_alarm_is_explained_and_every_explained_one_is_raised(table: str) -> None:
    assert told(ROOT / table) == set(raised())


def test_the_alarms_are_found_in_core_and_service() -> None:
    files = set(raised().values())
    assert {name.split("/")[0] for name in files} == {"raft", "service"}
