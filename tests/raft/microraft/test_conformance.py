"""The table of MicroRaft's rows (CONFORMANCE.md): no row is missing, and every test it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
ROWS = {
    "A": "01 02 04 05 06 07 08 09 11",
    "E": "01 02 04 05 06 07 08 09 11 12 13 14 15 16 18 19 20 21",
    "L": "01 02 04 05 06 07 08",
    "M": "01 02 04 05 06 07 08 09 11 12 13 14 15 16 18 19 20 21 22 23 25 26 27 28 29 30 32 33 34 35 36 37 39 40",
    "P": "01 02 04 05 06 07 08 09 11 12 13 14 15 16 18 19 20 21 22 23",
    "Q": "01 02 04 05 06 07 08 09 11 12 13 14 15 16 18 19 20 21 22 23 25 26 27 28 29 30 32 33 34 35 36 37 39 40 "
    "41 42 43 44 46",
    "R": "01 02 04 05 06 07 08 09 11 12 13 14",
    "S": "01 02 04",
    "T": "01 02 04 05 06 07 08 09 11 12 13 14 15",
    "U": "01 02 04 05 06 07 08 09 11 12 13",
    "V": "01 02 04 05 06 07 08 09 11 12 13 14 15 16 18 19 20 21 22",
    "X": "01 02 04 05 06 07 08 09 11 12 13 14 15 16 18 19 20 21 22 23 25 26 27 28",
}
"""The rows that there are; their numbers have gaps."""
IDS = [letter + number for letter, numbers in ROWS.items() for number in numbers.split()]
EDGES = {"a": 17, "b": 8, "c": 16, "d": 18, "e": 18, "g": 10}
"""X28: how many edge cases each chapter of the roadmap lists; each has a line of its own."""
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def table(letters: str = "A-Z") -> list[tuple[str, str, str, str]]:
    """(row, behaviour, tests, note) of every line; "a-z": of every edge case."""
    lines = (HERE / "CONFORMANCE.md").read_text().splitlines()
    row_of = re.compile(rf"\| [{letters}]\d\d ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if row_of.match(line)]
    return [(row, behaviour, tests, note) for row, behaviour, tests, note in cells]


@cache
def names_in(path: str) -> frozenset[str]:
    """What this file of tests/ defines."""
    names = set[str]()
    for node in ast.parse((TESTS / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(names)


def test_every_row_is_there_once() -> None:
    assert sorted(row for row, *_ in table()) == sorted(IDS)


def test_every_edge_case_of_the_roadmap_has_its_line() -> None:
    assert [row for row, *_ in table("a-z")] == [f"{c}{n:02}" for c, last in EDGES.items() for n in range(1, last + 1)]


ROWS_AND_EDGES = table() + table("a-z")


@pytest.mark.parametrize(("row", "behaviour", "tests", "note"), ROWS_AND_EDGES, ids=[row for row, *_ in ROWS_AND_EDGES])
def test_a_row_names_tests_that_exist_or_says_why_not(row: str, behaviour: str, tests: str, note: str) -> None:
    assert behaviour
    found = TEST.findall(tests)
    assert len(found) == len(tests.split()), f"{row}: {tests}"
    assert found or note.startswith("not applicable: "), row
    for path, name in found:
        assert name in names_in(path), f"{row}: {path} has no {name}"


def test_every_test_of_this_folder_is_named_in_the_rows_of_its_name() -> None:
    named = {row: {name for _, name in TEST.findall(tests)} for row, _, tests, _ in table()}
    for path in sorted(HERE.glob("test_*.py")):
        for test in names_in(f"raft/microraft/{path.name}"):
            match = re.match(r"test_((?:[a-z]\d\d_)+)", test)
            rows = match.group(1).upper().strip("_").split("_") if match else []
            assert all(test in named[row] for row in rows), test
