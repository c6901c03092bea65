"""Checks that sampled traces of the simulator are behaviours of Raft.tla.

`validate.py --seeds 50` samples and checks; `--trace FILE` checks one trace of JSON lines; `--write DIRECTORY` keeps
the traces. Exit code 0: all are; 1: one is not, and the first line that no step explains is shown.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tlc import HERE, Missing, configuration_text, run_tlc
from traces import dump, sample

LINES_MAX = 150
SECONDS_MAX = 3600
"""Fifty traces take a minute or two of one core; the machine may be shared."""
NOBODY = 0

Lines = list[dict[str, Any]]


def word(entry: list[Any], members: int) -> str:
    """One log entry as TLA+."""
    if len(entry) == 2:
        return f'<<{entry[0]},"{entry[1]}">>'
    kinds = ",".join(f'"{entry[2]["m"].get(str(x), "none")}"' for x in range(1, members + 1))
    outgoing = ",".join(str(x) for x in entry[2]["o"])
    return f'<<{entry[0]},"C",[m|-><<{kinds}>>,o|->{{{outgoing}}},d|->{{}}]>>'


def row(line: dict[str, Any], members: int) -> str:
    """One line as a TLA+ record."""
    log = ",".join(word(entry, members) for entry in line["add"])
    return (
        f'[n|->{line["node"]},e|->"{line["event"]}",t|->{line["term"]},v|->{line["voted"]},role|->"{line["role"]}",'
        f"commit|->{line['commit']},synced|->{str(line['synced']).upper()},keep|->{line['keep']},add|-><<{log}>>]"
    )


def trace_module(traces: Sequence[Lines]) -> str:
    """TraceData.tla: the lines of several traces, and the bounds that they need."""
    lines = [line for trace in traces for line in trace]
    named = [int(x) for line in lines for entry in line["add"] if len(entry) == 3 for x in entry[2]["m"]]
    members = max([*named, *(line["node"] for line in lines)])
    terms = max(line["term"] for line in lines) + 1
    none = ",".join('"none"' for _ in range(members))
    bodies = ["<<\n" + ",\n".join(row(line, members) for line in trace) + "\n>>" for trace in traces]
    return (
        "---- MODULE TraceData ----\nEXTENDS Integers, Sequences\n"
        f"Members == 1..{members}\nHighestTerm == {terms}\n"
        f"NoMembers == [m |-> <<{none}>>, o |-> {{}}, d |-> {{}}]\n"
        "Traces == <<\n" + ",\n".join(bodies) + "\n>>\n====\n"
    )


# The core sends uncommitted entries to learners, which the specification names as a bug (README.md, what it found).
CONSTANTS = {
    "Fulls": "{}",
    "Witnesses": "{}",
    "Joiners": "<- Members",
    "Nobody": str(NOBODY),
    "Genesis": "<- NoMembers",
    "FirstTerm": "1",
    "JoinAs": '"learner"',
    "MaxTerm": "<- HighestTerm",
    "MaxLog": "1000000",
    "MaxData": "1000000",
    "MaxConfig": "1000000",
    "MaxLost": "0",
    "FullMin": "1",
    "VotersMin": "1",
    "Gap": "1000000",
    "Fine": "TRUE",
    "InFlight": "TRUE",
    "Features": "{}",
    "Mutant": '"eager_learners"',
}


def check(traces: Sequence[Lines]) -> list[int]:
    """For each trace, how many of its lines the specification explains: all of them for a behaviour of it."""
    work = Path(tempfile.mkdtemp(prefix="lockmaster-trace-"))
    try:
        for name in ("Raft.tla", "TraceRaft.tla"):
            shutil.copy(HERE / name, work)
        (work / "TraceData.tla").write_text(trace_module(traces))
        (work / "TraceRaft.cfg").write_text(configuration_text("TraceSpec", CONSTANTS, ()))
        answer = run_tlc(work / "TraceRaft.tla", work / "TraceRaft.cfg", SECONDS_MAX)
        if not answer.complete:
            raise RuntimeError(f"TLC did not end well within {SECONDS_MAX} s:\n{answer.text[-3000:]}")
        best = [0] * len(traces)
        for run, line in re.findall(r'<<"line", (\d+), (\d+)>>', answer.text):
            best[int(run) - 1] = max(best[int(run) - 1], int(line))
        return best
    finally:
        shutil.rmtree(work, ignore_errors=True)


def uses_reduced_commit(lines: Lines) -> bool:
    """Whether a configuration of the trace commits with fewer than a majority (raft.md §5)."""
    return any(len(entry) == 3 and entry[2]["reduced"] for line in lines for entry in line["add"])


def verdict(name: str, lines: Lines, explained: int) -> bool:
    """Prints a line about a trace, and the first lines that no step explains."""
    leaders = sum(line["role"] == "L" for line in lines)
    print(f"{name}: {explained} of {len(lines)} lines explained, {leaders} by leaders, term {lines[-1]['term']}")
    if explained == len(lines):
        return True
    for line in lines[max(0, explained - 3) : explained + 1]:
        print(f"    {json.dumps(line)}")
    print("    no step of the specification explains the last of these")
    return False


def coverage(traces: Iterable[Lines]) -> Counter[str]:
    """How often the traces hold what is rare: leaders' CONFIG entries by what they begin, crashes, elections."""
    counts: Counter[str] = Counter()
    for lines in traces:
        for line in lines:
            counts["boots"] += line["event"] == "Boot"
            counts["elections won"] += line["role"] == "L" and [line["term"], "N"] in line["add"]
            for entry in line["add"]:
                if line["role"] != "L" or len(entry) == 2:
                    continue
                kinds = set(entry[2]["m"].values())
                counts["configurations"] += 1
                counts["joint"] += bool(entry[2]["o"])
                counts["P1"] += "promoting" in kinds
                counts["D1"] += "demoting" in kinds
    return counts


def gather(options: argparse.Namespace) -> dict[str, Lines]:
    """The traces to check, by name."""
    if options.trace is not None:
        return {options.trace.name: [json.loads(row) for row in options.trace.read_text().splitlines()]}
    found = {}
    for seed in range(options.start, options.start + options.seeds):
        lines = sample(seed, options.lines)
        if uses_reduced_commit(lines):
            print(f"seed {seed}: skipped, the reduced commit quorum is not in the specification")
            continue
        found[f"seed {seed}"] = lines
        if options.write is not None:
            options.write.mkdir(parents=True, exist_ok=True)
            (options.write / f"{seed}.jsonl").write_text(dump(lines))
    return found


def main() -> int:
    """0 if every trace is a behaviour of the specification."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--lines", type=int, default=LINES_MAX, help="lines a trace")
    parser.add_argument("--trace", type=Path, help="check this trace of JSON lines")
    parser.add_argument("--write", type=Path, help="keep the sampled traces in this directory")
    options = parser.parse_args()
    traces = gather(options)
    best = check(list(traces.values()))
    bad = sum(not verdict(name, lines, best[at]) for at, (name, lines) in enumerate(traces.items()))
    print("in these traces: " + ", ".join(f"{name} {count}" for name, count in coverage(traces.values()).items()))
    print(f"{len(traces) - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as why:
        print(f"skipped: validate: {why}")
        sys.exit(0)
