"""Runs every check and test in named parts and prints what each took; exit code 1 if any failed.

`--only PART` (may be repeated) runs a choice, `--list` names them; one run shows all that is broken.

Theory of operation. Lanes. Parts whose verdict depends on no clock (`patient`) run beside the others, two at a time, by
the scheduler's idle class, so they take what the others leave of the processors and nothing else; their output is
printed when they end. The rest, real processes with real timeouts, run one after the other as if they were alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
COMMAND_SECONDS_MAX = 1500
"""A command that hangs is ended and counts as failed: the longest (integration) has taken 842 s."""
STOP_SECONDS = 5
"""For what was told to end, and then until it is killed."""
PATIENT_SECONDS_MAX = 3600
"""The same for one that runs on what the others leave."""
PATIENT_LANES = 2


@dataclass(frozen=True, slots=True)
class Part:
    """One named part: commands run in order; `needs` is a path without which it has nothing to do."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    needs: str = ""
    patient: bool = False
    """No clock decides how it ends."""


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
    patient=True,
)
SEEDS = "tests/sim/test_seeds.py"
"""A command of its own: on the compiled packages, where there is a compiler, 2.4 times as fast with the same traces."""
ON_COMPILED = python("tools/compile.py", "--run", "-m", "pytest")
PARTS = (
    CHECK,
    Part("seeds", ((*ON_COMPILED, SEEDS),), "tests/sim", patient=True),
    Part("simulator", (tests("tests/sim", f"--ignore={SEEDS}"),), "tests/sim", patient=True),
    Part("raft", (tests("tests/raft"),), "tests/raft", patient=True),
    Part("packaging", (tests("tests/packaging"),), "tests/packaging"),
    Part("service", (tests("tests/service"),), "tests/service"),
    Part("operator", (tests("tests/operator"),), "tests/operator"),
    Part("chart", (tests("tests/chart"),), "tests/chart"),
    Part("compat", (tests("tests/compat"),), "tests/compat"),
    Part("bed", (tests("tests/e2e"),), "tests/e2e"),
    Part("integration", (tests("tests/integration"),), "tests/integration"),
    Part("compiled", (tests("tests/compiled"),), "tests/compiled"),  # last: the seeds' part has built it by now
)


class Lane:
    """Parts one after the other, from a queue that lanes may share; `patient`: on idle processors, and quiet until a
    part has ended."""

    def __init__(self, waiting: deque[Part], patient: bool = False) -> None:
        self.waiting = waiting
        self.patient = patient
        self.results: dict[Part, tuple[bool, float]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self) -> None:
        """All of them, even if one fails."""
        while not self._stopped:
            try:
                part = self.waiting.popleft()
            except IndexError:
                return
            self.results[part] = self._run(part)

    def stop(self) -> None:
        """Begins nothing more, and ends what runs; a terminal's Ctrl-C has reached that already."""
        self._stopped = True
        process = self._process
        if process is None:
            return
        for number in (None, signal.SIGINT, signal.SIGKILL):  # pytest ends its own children, if it is let
            if number is not None:
                process.send_signal(number)
            try:
                process.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue

    def _run(self, part: Part) -> tuple[bool, float]:
        """Runs one part's commands, all of them even if one fails. Returns whether all passed, and the seconds."""
        started = time.monotonic()
        with tempfile.TemporaryFile() as said:
            say(f"\n== {part.name}" + (" (beside the others, shown when it has ended)" if self.patient else ""))
            codes = []
            for command in part.commands:
                if not self._stopped:
                    codes.append((command, self._run_bounded(command, said.fileno())))
            if self.patient:
                said.seek(0)
                say(f"\n== {part.name} has ended\n{said.read().decode(errors='replace')}")
        for command, code in codes:
            if code:
                shown = " ".join(Path(word).name if word.startswith("/") else word for word in command)
                say(f"   failed with exit code {code}: {shown}")
        return not any(code for _, code in codes), time.monotonic() - started

    def _run_bounded(self, command: tuple[str, ...], said: int) -> int:
        """The command's exit code; 124 and a line where it had to be ended."""
        seconds = PATIENT_SECONDS_MAX if self.patient else COMMAND_SECONDS_MAX
        output = said if self.patient else None
        environment = {**os.environ, "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}
        # Tests start a thousand interpreters, each of which would compile everything anew: 2 s instead of 0.7.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        words = (*beside(), *command) if self.patient else command
        self._process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            say(f"   ended: it ran for more than {seconds} s")
            return 124


def beside() -> tuple[str, ...]:
    """What runs a command on what others leave: the scheduler's idle class, where it may be chosen."""
    idle = ("chrt", "--idle", "0")
    allowed = (
        shutil.which(idle[0]) and subprocess.run((*idle, "true"), capture_output=True, check=False).returncode == 0
    )
    return idle if allowed else ("nice", "-n", "19")


def say(text: str) -> None:
    """At once: two lanes talk."""
    print(text, flush=True)


def run(parts: Iterable[Part]) -> list[tuple[Part, bool, float]]:
    """Runs all lanes. Returns each part with whether it passed and the seconds it took, in the order of `parts`."""
    chosen = tuple(parts)
    alone = len(chosen) == 1
    lane = Lane(deque(part for part in chosen if alone or not part.patient))
    beside_it = deque(part for part in chosen if part.patient and not alone)
    patient = [Lane(beside_it, patient=True) for _ in range(PATIENT_LANES)]
    threads = [threading.Thread(target=each.run, name="patient", daemon=True) for each in patient]
    for thread in threads:
        thread.start()
    try:
        lane.run()
        for thread in threads:
            thread.join()
    except BaseException:
        for each in (lane, *patient):
            each.stop()
        raise
    results = {part: result for each in (lane, *patient) for part, result in each.results.items()}
    return [(part, *results.get(part, (False, 0.0))) for part in chosen]  # one without a result has not passed


def report(results: list[tuple[Part, bool, float]], wall_seconds: float) -> None:
    """Prints one line a part: verdict, seconds; and the whole, which took less: `+` ran beside the others."""
    say(f"\n{'part':<14}{'verdict':<10}{'seconds':>8}")
    for part, passed, seconds in results:
        beside = "  +" if part.patient and len(results) > 1 else ""
        say(f"{part.name:<14}{'ok' if passed else 'FAILED':<10}{seconds:>8.1f}{beside}")
    failed = sum(1 for _, passed, _ in results if not passed)
    say(f"{'all':<14}{f'{failed} failed' if failed else 'ok':<10}{wall_seconds:>8.1f}")
    say(f"{len(results) - failed} passed, {failed} failed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS], help="run this part only")
    parser.add_argument("--list", action="store_true", help="name the parts and stop")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(part.name for part in PARTS))
        return 0
    chosen = [p for p in PARTS if not arguments.only or p.name in arguments.only]
    started = time.monotonic()
    results = run(part for part in chosen if not part.needs or any((ROOT / part.needs).rglob("test_*.py")))
    report(results, time.monotonic() - started)
    return 0 if all(passed for _, passed, _ in results) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
