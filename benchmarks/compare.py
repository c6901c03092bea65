"""`make bench`: a three-member Lockmaster and a three-member etcd on this machine, workload by workload in turn.

    python -m benchmarks.compare --rounds 3 --seconds 5 --only locks

Then the parts of benchmarks/consensus, which compare the consensus core with itself.

Each round runs every case on one and then on the other (A B A B …), so that a machine that gets slower or faster
meets both; the table shows the medians, and the ratios of neighbouring runs. Both have the same TLS, heartbeat and
election times, number of workers, connections and sessions; etcd's driver is its own Go client.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lockmaster.cli.local_cluster import ClusterFailed, LocalCluster, TlsFiles

from benchmarks import certificates, report, telemetry
from benchmarks.cases import CASES, Case, Row
from benchmarks.consensus import every
from benchmarks.consensus.part import Part, Setting
from benchmarks.etcd_cluster import EtcdCluster, NoEtcd, Programs, build, parse

ROOT = Path(__file__).resolve().parent.parent
HEARTBEAT_MS, ELECTION_MS = 100, 1000
KILL_AFTER_SECONDS = 3.0
FAILOVER_SECONDS = 8.0
RUN_SECONDS_EXTRA = 120.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What both sides are started with; no programs where nothing is compared with etcd."""

    programs: Programs | None
    tls: TlsFiles | None
    scratch: Path
    seconds: float


def lockmaster_command(cluster: LocalCluster, tls: TlsFiles | None, case: Case, seconds: float) -> list[str]:
    """`lockmaster bench` for a case."""
    workload = "locks" if case.compares_telemetry else case.workload
    command = [sys.executable, "-m", "lockmaster.cli.main", "bench", workload, "-o", "json"]
    command += ["-e", cluster.endpoints, "--clients", str(case.clients), "--connections", str(case.connections)]
    command += ["--seconds", str(seconds)]
    return [*command, "--ca", str(tls.ca)] if tls else command


@contextlib.contextmanager
def fresh_lockmaster(bench: Bench) -> Iterator[LocalCluster]:
    """A new cluster with data on the same disk as etcd's."""
    with scratch_directory(bench) as directory, LocalCluster(directory, tls=bench.tls) as cluster:
        cluster.start()
        yield cluster


@contextlib.contextmanager
def fresh_etcd(bench: Bench) -> Iterator[EtcdCluster]:
    """A new etcd cluster. Raises NoEtcd where none was built."""
    if bench.programs is None:
        raise NoEtcd("no etcd was built")
    with scratch_directory(bench) as directory:
        cluster = EtcdCluster(bench.programs, directory, bench.tls, HEARTBEAT_MS, ELECTION_MS)
        with cluster:
            yield cluster


@contextlib.contextmanager
def scratch_directory(bench: Bench) -> Iterator[Path]:
    """A directory that is removed at the end, on the project's own disk."""
    with tempfile.TemporaryDirectory(dir=bench.scratch) as directory:
        yield Path(directory)


def execute(command: Sequence[str]) -> dict[str, Any]:
    """Runs a driver to its end. Raises ClusterFailed with its last line."""
    process = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_EXTRA * 2, check=False)
    return answer_of(process.returncode, process.stdout, process.stderr)


def answer_of(code: int, output: str, errors: str) -> dict[str, Any]:
    if code or not output.strip():
        words = errors.strip().splitlines() or ["it said nothing"]
        raise ClusterFailed(f"a driver ended with {code}: {words[-1]}")
    return parse(output)


def with_kill(command: Sequence[str], kill_leader: Any) -> dict[str, Any]:
    """Runs a driver and kills the leader in the middle of it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(KILL_AFTER_SECONDS)
        kill_leader()
        output, errors = process.communicate(timeout=RUN_SECONDS_EXTRA)
    finally:
        process.kill()
        process.wait()
    return answer_of(process.returncode, output, errors)


def failover(bench: Bench, row: Row) -> None:
    """One leader kill on each side, in fresh clusters: a killed member would tilt what comes next."""
    with fresh_lockmaster(bench) as ours:

        def kill() -> None:
            leader = ours.leader()
            if leader is not None:
                ours.kill(leader)

        row.lockmaster.append(with_kill(lockmaster_command(ours, bench.tls, row.case, FAILOVER_SECONDS), kill))
    with fresh_etcd(bench) as theirs:
        command = theirs.command("failover", row.case.clients, row.case.connections, FAILOVER_SECONDS)
        row.etcd.append(with_kill(command, theirs.kill_leader))


def steady(bench: Bench, rows: Sequence[Row], say: Any) -> None:
    """One round of every case but the leader kill. Both clusters are up; only one is asked at a time."""
    with fresh_lockmaster(bench) as ours, fresh_etcd(bench) as theirs:
        for row in rows:
            case = row.case
            row.lockmaster.append(execute(lockmaster_command(ours, bench.tls, case, bench.seconds)))
            row.etcd.append(execute(theirs.command(case.workload, case.clients, case.connections, bench.seconds)))
            say(f"{case.title}: {report.shown(row.ratio('rate'), 'p50')} × the rate so far")


def report_progress(started: float, text: str) -> None:
    """A line with the seconds since then."""
    print(f"{time.monotonic() - started:6.0f}s  {text}", file=sys.stderr, flush=True)


def run(bench: Bench, rows: Sequence[Row], rounds: int) -> None:
    """Every case, `rounds` times, interleaved."""
    say = functools.partial(report_progress, time.monotonic())
    kills = [row for row in rows if row.case.workload == "failover"]
    overheads = [row for row in rows if row.case.compares_telemetry]
    others = [row for row in rows if row not in kills and row not in overheads]
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        if others:
            steady(bench, others, say)
        for row in kills:
            failover(bench, row)
            say(f"{row.case.title}: {row.ratio('gap'):.2f} × the pause so far")

    if overheads:
        say("telemetry on and off")
        with scratch_directory(bench) as directory:
            telemetry.compare(
                directory,
                bench.tls,
                overheads,
                rounds,
                lambda cluster, row: lockmaster_command(cluster, bench.tls, row.case, bench.seconds),
                execute,
                say,
            )


def etcd_version(programs: Programs) -> str:
    answer = subprocess.run([str(programs.server), "--version"], capture_output=True, text=True, check=True)
    return f"{answer.stdout.splitlines()[0].removeprefix('etcd Version: ')} ({programs.source})"


def choose_core(pure: bool) -> str:
    """Puts the compiled core before the sources for every process started from here. Says which one runs."""
    if pure:
        return "uncompiled"
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "compile.py")], stdout=sys.stderr, check=False)
    if done.returncode:
        return "uncompiled (could not be compiled here)"
    os.environ["PYTHONPATH"] = str(ROOT / ".build" / "compiled")
    return "compiled with mypyc"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Lockmaster and etcd side by side.")
    parser.add_argument("--rounds", type=int, default=3, help="times every case runs on each side")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of a run, after a second of warm-up")
    parser.add_argument("--only", action="append", help="cases and parts whose title has this in it; may be repeated")
    parser.add_argument("--quick", action="store_true", help="consensus parts in seconds: that they work, not how fast")
    parser.add_argument("--no-tls", action="store_true", help="plaintext on both sides")
    parser.add_argument("--pure", action="store_true", help="Lockmaster's core uncompiled, as pip installs it")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="where JSON and plot go")
    return parser.parse_args()


def chosen(title: str, only: Sequence[str] | None) -> bool:
    """Whether --only wants it."""
    return not only or any(part in title for part in only)


def compare_with_etcd(
    rows: Sequence[Row], scratch: Path, tls: TlsFiles | None, arguments: argparse.Namespace
) -> Programs | None:
    """Every case on both sides; what etcd was, where one was needed."""
    programs = None
    if not all(row.case.compares_telemetry for row in rows):
        print("bench: building etcd and its driver (a minute the first time)", file=sys.stderr, flush=True)
        programs = build(scratch / "bin")
    run(Bench(programs, tls, scratch, arguments.seconds), rows, arguments.rounds)
    return programs


def main() -> int:
    arguments = parse_arguments()
    rows = [Row(case) for case in CASES if chosen(case.title, arguments.only)]
    parts: list[Part] = [part for part in every.PARTS if chosen(part.title, arguments.only)]
    if not (rows or parts) or arguments.rounds < 1 or arguments.seconds <= 0:
        titles = ", ".join([case.title for case in CASES] + [part.title for part in every.PARTS])
        print(f"bench: nothing to run; cases and parts: {titles}", file=sys.stderr)
        return 2
    scratch = ROOT / ".build" / "bench"
    out: Path = arguments.out
    facts = {
        **report.machine(),
        "core": choose_core(arguments.pure),
        "TLS": not arguments.no_tls,
        "rounds": arguments.rounds,
    }
    try:
        for place in (scratch, out):
            place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            tls = None if arguments.no_tls else certificates.make(Path(directory))
            if rows:
                programs = compare_with_etcd(rows, scratch, tls, arguments)
                about = {"etcd": etcd_version(programs)} if programs else {}
                write_comparison(rows, {**facts, **about}, out)
            if parts:
                say = functools.partial(report_progress, time.monotonic())
                setting = Setting(tls, scratch, arguments.quick, arguments.rounds, say)
                every.run(parts, setting, {**facts, "quick": arguments.quick}, out / "consensus.json")
                print(f"{out / 'consensus.json'} written", file=sys.stderr)
    except (NoEtcd, ClusterFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def write_comparison(rows: Sequence[Row], facts: dict[str, Any], out: Path) -> None:
    """The table on standard output, JSON and plot to `out`."""
    report.print_table(rows, facts)
    report.write_json(rows, facts, out / "etcd.json")
    report.plot(rows, out / "etcd.png")
    print(f"{out / 'etcd.json'} and etcd.png written", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
