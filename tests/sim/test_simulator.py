"""The mutants: every one matches the source and is found again. The seeds have a file of their own, test_seeds.py."""

import re
import subprocess
from pathlib import Path

import pytest
from lockmaster_raft.testing import mutants
from lockmaster_raft.testing.bug_rows import BUGS
from lockmaster_raft.testing.mutants import (
    Mutant,
    StaleMutant,
    all_mutants,
    apply_edit,
    hunt_once,
    named,
    package_root,
    page,
    read_records,
    replay,
)
from lockmaster_raft.testing.swarm import GATE_SEEDS_FROM, with_gates, without_gates

MUTANTS_MIN = 60
"""reliability.md."""
ROOT = Path(__file__).resolve().parents[2]


def test_every_mutant_still_matches_the_source() -> None:
    assert len(all_mutants()) >= MUTANTS_MIN
    for mutant in all_mutants():
        for edit in mutant.edits:
            package, rest = edit.file.split("/", 1)
            root = package_root(package)
            assert root is not None
            assert (root / rest).read_text().count(edit.find) == 1, f"{mutant.name}: stale text in {edit.file}"


def test_a_stale_mutant_fails_loudly(tmp_path: Path) -> None:
    with pytest.raises(StaleMutant, match="occurs 0 times"):
        apply_edit(tmp_path, all_mutants()[0].edits[0], "stale")


def test_every_known_bug_has_mutants_or_says_what_shows_it_instead() -> None:
    names = {mutant.name for mutant in all_mutants()}
    assert [bug.row for bug in BUGS if not (bug.mutants or bug.instead)] == []
    assert [(bug.row, name) for bug in BUGS for name in bug.mutants if name not in names] == []
    paths = [path for bug in BUGS for path in re.findall(r"tests/[\w/]+\.py", bug.instead)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_a_mutant_that_stands_for_a_row_is_in_it() -> None:
    rows = {bug.row: bug.mutants for bug in BUGS}
    said = [("".join(row), m.name) for m in all_mutants() for row in re.findall(r"\brow (\d+)|\b(D\d+)\b", m.source)]
    assert [(row, name) for row, name in said if name not in rows[row]] == []


def test_the_page_of_mutants_is_that_of_the_records() -> None:
    assert (ROOT / "docs" / "mutants.md").read_text() == page(read_records())


def test_a_run_of_many_seeds_takes_one_in_ten_from_those_with_gates() -> None:
    assert with_gates(range(8, 21)) == [8, 100_009, *range(10, 19), 100_019, 20]
    assert with_gates(range(GATE_SEEDS_FROM, GATE_SEEDS_FROM + 20)) == [*range(GATE_SEEDS_FROM, GATE_SEEDS_FROM + 20)]
    assert [without_gates(seed, 8) for seed in with_gates(range(8, 21))] == [*range(8, 21)]
    assert without_gates(GATE_SEEDS_FROM + 3, GATE_SEEDS_FROM) == GATE_SEEDS_FROM + 3


def test_a_crash_finds_no_mutant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hunt goes on after it, to the next seed that breaks a rule and holds without the mutant."""

    def python(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        first = int(arguments[arguments.index("--start") + 1]) if "--start" in arguments else 0
        failures = {1: "crash of the product: error at x:1", 4: "Violation: [S6 tokens] two hold it"}
        text = f"FAILED {failures[first]}\n  replay: --seed {first + 2}" if first else ""
        return subprocess.CompletedProcess([], 1 if first else 0, text, "")

    monkeypatch.setattr(mutants, "_python", python)
    found = hunt_once(Mutant("none", "none", ()), 1, 20)
    assert (found.seed, found.tried, found.rule) == (6, 6, "Violation: [S6 tokens] two hold it")


@pytest.mark.parametrize("name", [mutant.name for mutant in all_mutants()])
def test_each_mutant_is_found_again(name: str) -> None:
    """The recorded seed, else one of the next few: a change that moves the draws need not record all seeds anew."""
    mutant, seed = named(name), read_records()[name].seed
    assert replay(mutant, seed).seed or hunt_once(mutant, seed + 1, 4).seed
