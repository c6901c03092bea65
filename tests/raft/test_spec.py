"""The TLA+ specification (raft/spec), bounded: a small model, bugs that it must find, a few traces of the simulator."""

import subprocess
import sys
from pathlib import Path

import pytest

SPEC = Path(__file__).resolve().parents[2] / "raft" / "spec"
SECONDS_MAX = 1800


def run_tool(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SPEC / arguments[0]), *arguments[1:]],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    if done.stdout.startswith("skipped:"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_small_bounds_hold_and_a_known_bug_is_found() -> None:
    said = run_tool("run.py", "spec", "mutants", "--only", "smoke", "--only", "learner_first")
    assert "2 passed, 0 failed" in said


def test_traces_of_the_simulator_are_behaviours_of_the_specification(tmp_path: Path) -> None:
    said = run_tool("validate.py", "--seeds", "2", "--lines", "60", "--write", str(tmp_path))
    assert "2 passed, 0 failed" in said


def test_a_trace_that_breaks_a_rule_is_no_behaviour(tmp_path: Path) -> None:
    rows = (
        '{"node":1,"event":"Boot","term":1,"voted":0,"role":"F","commit":1,"synced":true,"keep":0,'
        '"add":[[1,"C",{"m":{"1":"full","2":"full","3":"full"},"o":[],"reduced":false}]]}\n'
        '{"node":1,"event":"Wake","term":2,"voted":1,"role":"C","commit":1,"synced":true,"keep":1,"add":[]}\n'
        '{"node":1,"event":"Persisted","term":2,"voted":1,"role":"L","commit":1,"synced":true,"keep":1,'
        '"add":[[2,"N"]]}\n'
    )
    trace = tmp_path / "one_vote_of_three.jsonl"
    trace.write_text(rows)
    with pytest.raises(AssertionError, match="2 of 3 lines explained"):
        run_tool("validate.py", "--trace", str(trace))
