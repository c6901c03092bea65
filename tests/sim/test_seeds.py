"""The seeded simulator at the size that a change must pass: 500 seeds, one in ten run twice.

`LOCKMASTER_SIM_SEEDS=30` runs fewer; `make sim SEEDS=5000` runs more of the service's. A failure prints the one command
that replays it.
"""

import os
import resource
import time
from dataclasses import dataclass, field

import pytest
from lockmaster_raft.testing.__main__ import replay_command
from lockmaster_raft.testing.runner import Totals, run_jobs
from lockmaster_raft.testing.swarm import FAULTS_MIN, OPERATIONS_MIN, SIMULATED_SECONDS_MIN, with_gates

SEEDS = int(os.environ.get("LOCKMASTER_SIM_SEEDS", "500"))
REGISTERS_EVERY = 5
"""One seed in so many runs the registers, which know nothing of sessions and locks: the core alone."""
TWICE_EVERY = 10
"""One seed in so many runs a second time and must leave the same trace."""
WORKERS = 2
REGRESSIONS = (4, 9, 17, 26, 171, 282)
"""Seeds that found bugs of the product: an idle cluster that never formed, a joiner that took an old configuration
for its removal, a request that told a term before it was durable, a cluster clock that began at 0 again with a leader
whose log held no entry (no session expired any more), one that went on from a heartbeat's time that the leader before
had not heard (a session that this one renewed expired too early)."""
REGISTER_REGRESSIONS = (5071,)
"""A member that waited for good for a snapshot which nobody had any more."""
MET = (
    "crashed at a sync",
    "snapshot installed",
    "elections won",
    "sessions expired",
    "waits",
    "joined",
    "gate fence refused",
)
"""Rare events that the seeds must meet."""


@dataclass
class Run:
    """What all seeds did."""

    totals: Totals = field(default_factory=Totals)
    failures: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    twice_count: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


def _jobs() -> list[tuple[int, str | None]]:
    registers = SEEDS // REGISTERS_EVERY
    service = sorted({*with_gates(range(1, SEEDS - registers + 1)), *REGRESSIONS})
    register = sorted({*with_gates(range(5001, 5001 + registers)), *REGISTER_REGRESSIONS})
    return [*((seed, "service") for seed in service), *((seed, "register") for seed in register)]


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def ran() -> Run:
    jobs = _jobs()
    again = jobs[::TWICE_EVERY]
    run, began, cpu = Run(), time.monotonic(), _cpu_seconds()
    first: dict[tuple[int, str | None], str] = {}
    for job, result in zip(jobs + again, run_jobs(jobs + again, WORKERS), strict=True):
        if job in first:
            run.twice_count += 1
            if result.trace != first[job]:
                run.differing.append(f"another trace the second time:\n  {replay_command(*job)}")
            continue
        first[job] = result.trace
        run.totals.add(result)
        if result.failure:
            run.failures.append(f"{result.failure}\n  {replay_command(*job)}")
    run.wall_seconds, run.cpu_seconds = time.monotonic() - began, _cpu_seconds() - cpu
    return run


def test_every_seed_holds_every_invariant(ran: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        print("\n".join(ran.totals.lines(ran.wall_seconds)))
        print(f"{ran.twice_count} seeds ran twice; {ran.cpu_seconds:.0f} s of CPU in {WORKERS} processes")
    assert not ran.failures, "\n".join(ran.failures)


def test_the_seeds_do_as_much_as_they_must(ran: Run) -> None:
    totals = ran.totals
    assert totals.seeds >= SEEDS
    assert totals.simulated_ns >= totals.seeds * SIMULATED_SECONDS_MIN * 10**9
    assert totals.operations >= totals.seeds * OPERATIONS_MIN
    assert totals.faults >= totals.seeds * FAULTS_MIN
    for event in MET:
        assert totals.counts[event] > 0, f"the seeds never meet: {event}"


def test_same_seed_twice_gives_the_same_trace(ran: Run) -> None:
    assert ran.twice_count >= ran.totals.seeds // TWICE_EVERY
    assert not ran.differing, "\n".join(ran.differing)
