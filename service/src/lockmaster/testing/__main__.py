"""`python -m lockmaster.testing check FILE.jsonl …`: check recorded histories again. Exit code 0 only if all are ok."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lockmaster.testing.history import BadHistory, load
from lockmaster.testing.linearizability import STEPS_MAX, check


def _check(paths: list[Path], operations_min: int, concurrency_min: int, steps_max: int) -> int:
    failed = False
    for path in paths:
        try:
            report = check(load(path.read_text().splitlines()), steps_max)
        except (OSError, BadHistory) as error:
            print(f"{path}: {error}")
            failed = True
            continue
        for line in report.lines():
            print(f"{path}: {line}")
        if report.operations_count < operations_min or report.concurrency_peak < concurrency_min:
            print(f"{path}: too little happened: {operations_min} operations, {concurrency_min} at once are wanted")
            failed = True
        failed = failed or not report.ok
    return 1 if failed else 0


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lockmaster.testing", description="Tools for histories.")
    commands = parser.add_subparsers(dest="command", required=True)
    check_parser = commands.add_parser("check", help="is each history linearizable?")
    check_parser.add_argument("files", nargs="+", type=Path, help="JSON lines (lockmaster.testing.history)")
    check_parser.add_argument("--operations-min", type=int, default=1, help="fewer are red (default 1)")
    check_parser.add_argument("--concurrency-min", type=int, default=1, help="less overlap is red (default 1)")
    check_parser.add_argument("--steps-max", type=int, default=STEPS_MAX, help="per object; more is red")
    options = parser.parse_args(arguments)
    return _check(options.files, options.operations_min, options.concurrency_min, options.steps_max)


if __name__ == "__main__":
    sys.exit(main())
