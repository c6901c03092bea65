"""Runs seeds in worker processes and adds up what they did."""

from __future__ import annotations

import functools
import gc
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lockmaster_raft.testing.application import load_application
from lockmaster_raft.testing.cluster import Cluster, RunResult
from lockmaster_raft.testing.swarm import draw_mix, steady


@dataclass(slots=True)
class Totals:
    """The sum over seeds."""

    seeds: int = 0
    simulated_ns: int = 0
    operations: int = 0
    faults: int = 0
    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[RunResult] = field(default_factory=list)

    def add(self, result: RunResult) -> None:
        """One more seed."""
        self.seeds += 1
        self.simulated_ns += result.simulated_ns
        self.operations += result.operations
        self.faults += result.faults
        self.steps += result.steps
        self.counts.update(result.counts)
        if result.failure:
            self.failures.append(result)

    def lines(self, wall_seconds: float) -> list[str]:
        """What was done in that time, and how often each rare event was met."""
        hours, seconds = self.simulated_ns / 3.6e12, max(self.simulated_ns / 1e9, 1e-3)
        done = (
            f"{self.seeds} seeds, {len(self.failures)} failed: {hours:.2f} simulated cluster-hours, "
            f"{self.operations} operations, {self.faults} faults, {self.steps} steps in {wall_seconds:.0f} s "
            f"({hours / max(wall_seconds, 0.001) * 3600:.0f} cluster-hours per hour, "
            f"{self.operations / seconds:.1f} operations a second, {10 * self.faults / seconds:.1f} faults in 10 s)"
        )
        return [done, "coverage:", *(f"  {name:32} {number}" for name, number in sorted(self.counts.items()))]


def run_seed(job: tuple[int, str | None], *, calm: bool = False) -> RunResult:
    """One seed in this process; `calm`: with the mix that `swarm.steady` makes of its own."""
    seed, application = job
    gc.collect()
    gc.disable()
    try:
        return Cluster(seed, load_application(application), steady(draw_mix(seed)) if calm else None).run()
    finally:
        gc.enable()


def run_seeds(
    seeds: Sequence[int], application: str | None, workers: int, *, calm: bool = False
) -> Iterator[RunResult]:
    """Results in the order of seeds."""
    return run_jobs([(seed, application) for seed in seeds], workers, calm=calm)


def run_jobs(jobs: Sequence[tuple[int, str | None]], workers: int, *, calm: bool = False) -> Iterator[RunResult]:
    """Results in the order of jobs, (seed, application) each, from that many processes."""
    run = functools.partial(run_seed, calm=calm)
    if workers <= 1:
        yield from map(run, jobs)
        return
    context = multiprocessing.get_context("fork")
    # What was there before the first seed is never garbage: the collection before each seed need not look at it.
    with context.Pool(workers, initializer=gc.freeze) as pool:
        yield from pool.imap(run, jobs, chunksize=1)
