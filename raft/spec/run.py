"""`make spec`, `make spec-deep`, `make spec-mutants`: runs the models of models.py and prints one line for each.

Exit code 0: all holds that must hold, and every known bug violates its invariant. Without Java or TLC: one line that
says what to install, and exit code 0, so that a machine without them is not red.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from models import DEEP, MUTANTS, SPEC, Model
from tlc import HERE, Answer, Missing, configuration_text, run_tlc

SETS = {"spec": SPEC, "deep": DEEP, "mutants": MUTANTS}


def explain(model: Model, answer: Answer, *, bounded: bool = False) -> str:
    """What is wrong with the run, or "". A `bounded` one may end before it has seen all."""
    if answer.timed_out and bounded and not answer.violated:
        return ""
    if answer.timed_out:
        return f"not done within {model.seconds_max} s"
    if model.fails:
        return "" if answer.violated == model.fails else f"does not violate {model.fails}"
    if answer.complete:
        return ""
    return f"violates {answer.violated}" if answer.violated else "TLC stopped"


def cpu_seconds() -> float:
    """CPU time of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def verdict(model: Model, answer: Answer) -> str:
    """What a run that is not wrong has shown."""
    if answer.timed_out:
        return f"nothing violated up to depth {answer.depth}, not done"
    return f"violates {model.fails}, as it must" if model.fails else "holds"


def run(model: Model, seconds: int = 0) -> tuple[str, Answer, float, float]:
    """Runs one model, for `seconds` if given: (what is wrong or "", the answer, seconds of wall time, of CPU time)."""
    began, used = time.monotonic(), cpu_seconds()
    with tempfile.TemporaryDirectory(prefix="lockmaster-spec-") as folder:
        configuration = Path(folder) / f"{model.name}.cfg"
        text = configuration_text("Spec", model.constants, model.invariants) + "SYMMETRY Symmetry\n"
        configuration.write_text(text)
        answer = run_tlc(HERE / f"{model.module}.tla", configuration, seconds or model.seconds_max)
    return explain(model, answer, bounded=seconds > 0), answer, time.monotonic() - began, cpu_seconds() - used


def main() -> int:
    """Runs a set, or the models named by --only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", choices=sorted(SETS), help="which models")
    parser.add_argument("--only", action="append", help="the model of this name; may be repeated")
    parser.add_argument("--seconds", type=int, default=0, help="look at each model for so long at most")
    options = parser.parse_args()
    chosen = [m for name in options.sets for m in SETS[name] if not options.only or m.name in options.only]
    bad = 0
    for model in chosen:
        wrong, answer, seconds, cpu = run(model, options.seconds)
        cost = f"{answer.distinct:>10} states {seconds:>7.0f} s {cpu:>7.0f} s CPU"
        print(f"{model.name:22}{cost}  {wrong or verdict(model, answer)}: {model.shows}", flush=True)
        if wrong:
            bad += 1
            print(answer.text[-6000:])
    print(f"{len(chosen) - bad} passed, {bad} failed")
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as why:
        print(f"skipped: spec: {why}")
        sys.exit(0)
