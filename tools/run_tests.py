"""Runs every check and test in named parts and prints each part's share of the time; exit code 1 if any failed.

`--only PART` (may be repeated) runs a choice, `--list` names them, `--keep-going` is the default: one run shows all
that is broken.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
COMMAND_SECONDS_MAX = 1500
"""A command that hangs is ended and counts as failed: the longest (500 seeds) has taken half of this at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """One named part: commands run in order; `needs` is a path without which it has nothing to do."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    needs: str = ""


def python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def tests(*folders: str) -> tuple[str, ...]:
    return python("-m", "pytest", *folders)


SYNC_CLIENT = "service/generate_sync.py"
CRDS = "operator/generate_crds.py"
CHECK = Part(
    "check",
    (
        python("-m", "ruff", "check", "--quiet", "."),
        python("-m", "ruff", "format", "--check", "--quiet", "."),
        python("service/proto/generate.py", "--check"),
        *((python(SYNC_CLIENT, "--check"),) if (ROOT / SYNC_CLIENT).exists() else ()),
        python(CRDS, "--check"),
        (str(BIN / "lint-imports"), "--no-logo"),
        python("-m", "mypy"),
    ),
)
SEEDS = "tests/sim/test_seeds.py"
"""A command of its own, so that COMMAND_SECONDS_MAX bounds it by itself."""
PARTS = (
    CHECK,
    Part("packaging", (tests("tests/packaging"),), "tests/packaging"),
    Part("raft", (tests("tests/raft"),), "tests/raft"),
    Part("simulator", (tests(SEEDS), tests("tests/sim", f"--ignore={SEEDS}")), "tests/sim"),
    Part("service", (tests("tests/service"),), "tests/service"),
    Part("operator", (tests("tests/operator"),), "tests/operator"),
    Part("chart", (tests("tests/chart"),), "tests/chart"),
    Part("compat", (tests("tests/compat"),), "tests/compat"),
    Part("compiled", (tests("tests/compiled"),), "tests/compiled"),
    Part("bed", (tests("tests/e2e"),), "tests/e2e"),
    Part("integration", (tests("tests/integration"),), "tests/integration"),
)


def run_bounded(command: tuple[str, ...], environment: dict[str, str]) -> int:
    """The command's exit code; 124 and a line where it had to be ended after COMMAND_SECONDS_MAX."""
    try:
        return subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=COMMAND_SECONDS_MAX).returncode
    except subprocess.TimeoutExpired:
        print(f"   ended: it ran for more than {COMMAND_SECONDS_MAX} s", flush=True)
        return 124


def run(part: Part) -> tuple[bool, float]:
    """Runs one part's commands, all of them even if one fails. Returns whether all passed, and the seconds it took."""
    started = time.monotonic()
    passed = True
    print(f"\n== {part.name}", flush=True)
    environment = {**os.environ, "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
    for command in part.commands:
        code = run_bounded(command, environment)
        if code:
            shown = " ".join(Path(word).name if word.startswith("/") else word for word in command)
            print(f"   failed with exit code {code}: {shown}", flush=True)
            passed = False
    return passed, time.monotonic() - started


def report(results: list[tuple[Part, bool, float]]) -> None:
    """Prints one line a part: verdict, seconds, share of the whole."""
    total = sum(seconds for _, _, seconds in results) or 1.0
    print(f"\n{'part':<14}{'verdict':<10}{'seconds':>8}{'share':>8}")
    for part, passed, seconds in results:
        print(f"{part.name:<14}{'ok' if passed else 'FAILED':<10}{seconds:>8.1f}{seconds / total:>8.0%}")
    failed = sum(1 for _, passed, _ in results if not passed)
    print(f"{'all':<14}{f'{failed} failed' if failed else 'ok':<10}{total:>8.1f}")
    print(f"{len(results) - failed} passed, {failed} failed", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS], help="run this part only")
    parser.add_argument("--list", action="store_true", help="name the parts and stop")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(part.name for part in PARTS))
        return 0
    chosen = [p for p in PARTS if not arguments.only or p.name in arguments.only]
    results = [(part, *run(part)) for part in chosen if not part.needs or any((ROOT / part.needs).rglob("test_*.py"))]
    report(results)
    return 0 if all(passed for _, passed, _ in results) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
