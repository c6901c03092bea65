"""Mutants: named small patches of product source, applied to a copy, hunted by seeds or by a directed scenario.

The product has no mutant switch. A patch whose text does not occur exactly once fails loudly, so that a mutant can't
silently stop mutating. A mutant found by seeds is one that makes a rule of the simulator, or the product's own checks,
say so; a crash for another reason finds nothing. The first seed that does is recorded, for tests to replay; `mutants`
hunts anew.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Final

from lockmaster_raft.testing.bug_rows import BUGS
from lockmaster_raft.testing.swarm import without_gates

RECORDED: Final = Path(__file__).with_name("mutant_seeds.json")
PACKAGES: Final = ("lockmaster_raft", "lockmaster")
HUNT_SECONDS_MAX: Final = 3_600
"""Of one run of seeds, or of tests, on a machine that may have little time for it."""
STARTS: Final = (1, 1001, 2001)
"""Independent hunts, counted from a mutant's first seed: the median of their lengths is the table's number."""
FRESH_STARTS: Final = (3_000, 90_000)
"""Between these a hunt without a record begins, counted in the same way: where none of those has been."""
CORE: Final = "lockmaster_raft/"
MACHINE: Final = "lockmaster/statemachine/"
STORAGE: Final = "lockmaster/storage/"
"""Where patched files lie."""
PYTEST: Final = "pytest -q -x -p no:cacheprovider "
"""How `directed` begins: the rule's own tests are the search."""
FINDS: Final = ("Violation: ", "InvariantViolation: ")
"""How a failure begins that tells of a broken rule."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `find`, which occurs exactly once in `file`, by `replace`."""

    file: str
    find: str
    replace: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug, its row in raft-bugs.md or its rule in the design, and how it is hunted."""

    name: str
    source: str
    edits: tuple[Edit, ...]
    directed: str = ""
    """Arguments of a `python -m` that exits with 1 if it finds the bug; empty: seeds of the simulator."""
    first_seed: int = 1
    """Where the seeds begin that can find it: those of gates begin late (gate_churn.py)."""


def one_edit(name: str, source: str, file: str, find: str, replace: str, directed: str = "") -> Mutant:
    """A mutant of one place."""
    return Mutant(name, source, (Edit(file, find, replace),), directed)


class StaleMutant(Exception):
    """A mutant's text is not in the source any more (or more than once)."""


def package_root(package: str) -> Path | None:
    """Where an importable package lies, or None."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


@contextmanager
def mutated(mutant: Mutant) -> Iterator[dict[str, str]]:
    """An environment in which the packages are copies with the mutant in them.

    With what Python has compiled of them, which is good for a file of the same time; half-written files are left out.
    """
    with tempfile.TemporaryDirectory(prefix="lockmaster-mutant-") as folder:
        for package in PACKAGES:
            root = package_root(package)
            if root is not None:
                shutil.copytree(root, Path(folder) / package, ignore=shutil.ignore_patterns("*.pyc.*"))
        for edit in mutant.edits:
            apply_edit(Path(folder), edit, mutant.name)
        yield {**os.environ, "PYTHONPATH": folder, "LOCKMASTER_MUTANT": mutant.name}


def apply_edit(folder: Path, edit: Edit, name: str) -> None:
    """Patch one file; StaleMutant if the text is not there exactly once."""
    path = folder / edit.file
    text = path.read_text() if path.exists() else ""
    found = text.count(edit.find)
    if found != 1:
        raise StaleMutant(f"mutant {name}: its text occurs {found} times in {edit.file}")
    path.write_text(text.replace(edit.find, edit.replace))


def all_mutants() -> tuple[Mutant, ...]:
    """The whole table: each must be found."""
    from lockmaster_raft.testing.patches import MUTANTS

    return MUTANTS


def named(name: str) -> Mutant:
    """The mutant of this name."""
    for mutant in all_mutants():
        if mutant.name == name:
            return mutant
    raise LookupError(f"no mutant {name!r}")


def run_mutated(name: str, arguments: list[str]) -> int:
    """Run the simulator again with the same arguments, in a process with the mutant in it."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != "--mutant" and not argument.startswith("--mutant="):
            kept.append(argument)
        skip = argument == "--mutant"
    with mutated(named(name)) as environment:
        command = [sys.executable, "-m", "lockmaster_raft.testing", *kept]
        return subprocess.run(command, env=environment, check=False).returncode


@dataclass(slots=True)
class Found:
    """What a hunt found: the first failing seed and how many were run, or nothing."""

    seed: int = 0
    tried: int = 0
    rule: str = ""


def hunt_once(mutant: Mutant, start: int, seeds_max: int) -> Found:
    """Run seeds from `start` on until one fails that does not fail without the mutant."""
    with mutated(mutant) as environment:
        if mutant.directed:
            return _hunt_directed(mutant, environment)
        first, stop = start, start + seeds_max
        while first < stop:  # ends: `first` rises
            count = ["--start", str(first), "--seeds", str(stop - first)]
            done = _python(["lockmaster_raft.testing", "run", "--workers", "1", "--stop", *count], environment)
            if done.returncode == 0:
                break
            hit = re.search(r"FAILED (.*)\n.*--seed (\d+)", done.stdout)
            if hit is None:
                raise RuntimeError(f"mutant {mutant.name} did not run: {done.stderr[-800:]}")
            seed = int(hit[2])
            at = without_gates(seed, start)
            if hit[1].startswith(FINDS) and _holds_without_mutants(seed):
                return Found(seed, at - start + 1, hit[1][:110])
            first = at + 1
    return Found(0, seeds_max)


def replay(mutant: Mutant, seed: int) -> Found:
    """Run a recorded seed, or the mutant's directed scenario, once more; nothing is found if it passes now."""
    with mutated(mutant) as environment:
        if mutant.directed:
            return _hunt_directed(mutant, environment)
        done = _python(["lockmaster_raft.testing", "run", "--seed", str(seed)], environment)
    hit = re.search(r"^seed \d+ at [\d.]+ s: (.*)", done.stdout, re.MULTILINE)
    if done.returncode and hit is None:
        raise RuntimeError(f"mutant {mutant.name} did not run: {done.stderr[-800:]}")
    return Found(seed, 1, hit[1][:110]) if hit is not None and hit[1].startswith(FINDS) else Found(0, 1)


@cache
def _holds_without_mutants(seed: int) -> bool:
    return _python(["lockmaster_raft.testing", "run", "--seed", str(seed)], dict(os.environ)).returncode == 0


def _python(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=HUNT_SECONDS_MAX
    )


def _hunt_directed(mutant: Mutant, environment: dict[str, str]) -> Found:
    done = _python(mutant.directed.split(), environment)
    if done.returncode == 0:
        return Found(0, 1)
    if done.returncode != 1:
        raise RuntimeError(f"mutant {mutant.name} did not run: {done.stdout[-400:]} {done.stderr[-400:]}")
    failed = re.search(r"FAILED (\S+)", done.stdout)
    return Found(1, 1, failed[1].rsplit("/", 1)[-1] if failed else "directed")


@dataclass(frozen=True, slots=True)
class Record:
    """What a hunt left behind: the failing seed to replay, the lengths of all its hunts, and what failed."""

    seed: int
    tried: list[int]
    rule: str


def hunt(only: str | None, seeds_max: int, workers: int, write: bool, start: int = 0) -> int:
    """Hunt every mutant; 0 if all are found. `start` 0: drawn, where no hunt was; `write`: hunts that are recorded."""
    chosen = [named(only)] if only is not None else list(all_mutants())
    results: dict[str, Found] = {}
    start = start or random.Random().randrange(*FRESH_STARTS)
    starts = STARTS if write else (start,)
    if not write:
        print(f"seeds from {start} on, at most {seeds_max} for a mutant; again: mutants --start {start}", flush=True)

    def work(mutant: Mutant) -> list[Found]:
        if mutant.directed:
            return [hunt_once(mutant, 1, 1)]
        return [hunt_once(mutant, mutant.first_seed + first - 1, seeds_max) for first in starts]

    with ThreadPoolExecutor(workers) as pool:
        for mutant, found in zip(chosen, pool.map(work, chosen), strict=True):
            best = results[mutant.name] = next((one for one in found if one.seed), Found())
            print(f"{mutant.name:58} {_verdict(mutant, best)}", flush=True)
            if write and best.seed:
                recorded = read_records()  # another hunt may have written meanwhile
                recorded[mutant.name] = Record(best.seed, [one.tried for one in found], best.rule)
                write_records(recorded)
    missed = [name for name, best in results.items() if not best.seed]
    by_test = sum(bool(mutant.directed) for mutant in chosen)
    print(f"{len(results) - len(missed)} of {len(results)} mutants found; {by_test} are hunted by a rule's own tests")
    return 1 if missed else 0


def _verdict(mutant: Mutant, best: Found) -> str:
    if not best.seed:
        return "NOT FOUND"
    return best.rule if mutant.directed else f"after {best.tried} seeds, by {best.seed}: {best.rule}"


def read_records() -> dict[str, Record]:
    """What earlier hunts found, by mutant."""
    return {name: Record(**one) for name, one in json.loads(RECORDED.read_text()).items()}


def write_records(recorded: dict[str, Record]) -> None:
    """The records beside this module, and docs/mutants.md in the working directory."""
    table = {mutant.name: recorded[mutant.name] for mutant in all_mutants() if mutant.name in recorded}
    RECORDED.write_text(json.dumps({name: asdict(table[name]) for name in sorted(table)}, indent=1) + "\n")
    path = Path("docs/mutants.md")
    if path.parent.is_dir():
        path.write_text(page(table))


def page(table: dict[str, Record]) -> str:
    """docs/mutants.md of these records."""
    directed = sum(bool(mutant.directed) for mutant in all_mutants())
    lines = [
        "# Mutants",
        "",
        "Generated by `python -m lockmaster_raft.testing mutants --write`. Each is a patch of product source, applied",
        "to a copy at run time (`raft/src/lockmaster_raft/testing/patches*.py`). *Seeds* is the median number of seeds",
        "until a rule of the simulator was broken, and of how many hunts; *directed*: the rule's own tests find it. Of",
        f"{len(all_mutants())} mutants {len(all_mutants()) - directed} are found by seeds and {directed} by tests.",
        "`make mutants` hunts all of them anew, from a seed where no hunt was.",
        "",
        "| mutant | stands for | seeds | found as |",
        "|--|--|--|--|",
    ]
    for mutant in all_mutants():
        found = table.get(mutant.name, Record(0, [], ""))
        rule = found.rule if mutant.directed else _rule(found.rule)
        lines.append(f"| {mutant.name} | {mutant.source} | {_count(mutant, found)} | {rule or 'not found'} |")
    return "\n".join(lines + bugs()) + "\n"


def bugs() -> list[str]:
    """The second table: what stands for each bug known of other systems, or why nothing does."""
    lines = [
        "",
        "# Known bugs",
        "",
        "Bugs seen in other systems, and what stands for each here (`raft/src/lockmaster_raft/testing/bug_rows.py`).",
        "Numbers are rows of the project's list of bugs in the field, a part of a longer one (so some are missing); D",
        "numbers are defects of MicroRaft.",
        "",
        "| row | bug | mutants, or what shows it instead |",
        "|--|--|--|",
    ]
    for bug in BUGS:
        stands = "<br>".join([*bug.mutants, *([bug.instead] if bug.instead else [])])
        lines.append(f"| {bug.row} | {bug.text} | {stands} |")
    return lines


def _count(mutant: Mutant, found: Record) -> str:
    if mutant.directed:
        return "directed"
    hunts = "1 hunt" if len(found.tried) == 1 else f"{len(found.tried)} hunts"
    return f"{median(found.tried):g} ({hunts})" if found.seed else "none"


def _rule(text: str) -> str:
    hit = re.search(r"\[([^\]]+)\]", text)
    return hit[1] if hit else text.split(":")[0]
