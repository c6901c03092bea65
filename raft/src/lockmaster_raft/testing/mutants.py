"""Mutants: named small patches of product source, applied to a copy, hunted by seeds or by a directed scenario.

The product has no mutant switch. A patch whose text does not occur exactly once fails loudly, so that a mutant can't
silently stop mutating. A mutant found by seeds is one that makes `run` fail; the seed is recorded and replayed.
"""

from __future__ import annotations

import json
import os
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

RECORDED: Final = Path(__file__).with_name("mutant_seeds.json")
PACKAGES: Final = ("lockmaster_raft", "lockmaster")
HUNT_SECONDS_MAX: Final = 900
STARTS: Final = (1, 1001, 2001)
"""Independent hunts, counted from a mutant's first seed: the median of their lengths is the table's number."""


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
    """An environment in which the packages are copies with the mutant in them."""
    with tempfile.TemporaryDirectory(prefix="lockmaster-mutant-") as folder:
        for package in PACKAGES:
            root = package_root(package)
            if root is not None:
                shutil.copytree(root, Path(folder) / package)
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
            if _holds_without_mutants(seed):
                return Found(seed, seed - start + 1, hit[1][:110])
            first = seed + 1
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
    return Found(seed, 1, hit[1][:110]) if hit is not None else Found(0, 1)


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


def hunt(only: str | None, seeds_max: int, workers: int, write: bool) -> int:
    """Hunt every mutant; 0 if all are found. By default one recorded seed each; with `write`, fresh hunts."""
    chosen = [named(only)] if only is not None else list(all_mutants())
    recorded = read_records()
    results: dict[str, Found] = {}

    def work(mutant: Mutant) -> list[Found]:
        if mutant.directed:
            return [hunt_once(mutant, 1, 1)]
        if write:
            return [hunt_once(mutant, mutant.first_seed + start - 1, seeds_max) for start in STARTS]
        if mutant.name in recorded:
            again = replay(mutant, recorded[mutant.name].seed)
            if again.seed:
                return [again]
        return [hunt_once(mutant, mutant.first_seed, seeds_max)]

    with ThreadPoolExecutor(workers) as pool:
        for mutant, found in zip(chosen, pool.map(work, chosen), strict=True):
            best = results[mutant.name] = next((one for one in found if one.seed), Found())
            verdict = f"found by seed {best.seed}: {best.rule}" if best.seed else "NOT FOUND"
            print(f"{mutant.name:44} {verdict}", flush=True)
            if write and best.seed:
                recorded = read_records()  # another hunt may have written meanwhile
                recorded[mutant.name] = Record(best.seed, [one.tried for one in found], best.rule)
                write_records(recorded)
    missed = [name for name, best in results.items() if not best.seed]
    print(f"{len(results) - len(missed)} of {len(results)} mutants found")
    return 1 if missed else 0


def read_records() -> dict[str, Record]:
    """What earlier hunts found, by mutant."""
    return {name: Record(**one) for name, one in json.loads(RECORDED.read_text()).items()}


def write_records(recorded: dict[str, Record]) -> None:
    """The records beside this module, and docs/mutants.md in the working directory."""
    table = {mutant.name: recorded[mutant.name] for mutant in all_mutants() if mutant.name in recorded}
    RECORDED.write_text(json.dumps({name: asdict(table[name]) for name in sorted(table)}, indent=1) + "\n")
    lines = [
        "# Mutants",
        "",
        "Generated by `python -m lockmaster_raft.testing mutants --write`. Each is a patch of product source, applied",
        "to a copy at run time (`raft/src/lockmaster_raft/testing/patches*.py`). *Seeds* is the median number of seeds",
        f"until the first failure over its recorded hunts (1 to {len(STARTS)} starts); *directed*: by a scenario.",
        "",
        "| mutant | stands for | seeds | found as |",
        "|--|--|--|--|",
    ]
    for mutant in all_mutants():
        found = table.get(mutant.name, Record(0, [], ""))
        count = "directed" if mutant.directed else str(median(found.tried)) if found.seed else "none"
        rule = found.rule if mutant.directed else _rule(found.rule)
        lines.append(f"| {mutant.name} | {mutant.source} | {count} | {rule or 'not found'} |")
    path = Path("docs/mutants.md")
    if path.parent.is_dir():
        path.write_text("\n".join(lines) + "\n")


def _rule(text: str) -> str:
    hit = re.search(r"\[([^\]]+)\]", text)
    return hit[1] if hit else text.split(":")[0]
