"""`python -m lockmaster_raft.testing run | mutants`: the simulator as a program."""

from __future__ import annotations

import argparse
import sys
import time

from lockmaster_raft.testing.application import load_application
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.invariants.rare_events import too_rare
from lockmaster_raft.testing.runner import Totals, run_seeds
from lockmaster_raft.testing.swarm import draw_mix, steady, with_gates


def main(arguments: list[str] | None = None) -> int:
    """0 if all is well, 1 for a violation or a mutant not found."""
    parser = argparse.ArgumentParser(prog="python -m lockmaster_raft.testing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run seeds")
    run.add_argument("--seeds", type=int, default=100, help="how many; one in ten from those with level gates")
    run.add_argument("--start", type=int, default=1, help="the first seed")
    run.add_argument("--seed", type=int, help="run exactly this seed and tell its last events")
    run.add_argument("--application", help='"service", "register"; default: the installed one')
    run.add_argument("--workers", type=int, default=2)
    run.add_argument("--steady", action="store_true", help="a fault every 10 s instead of every 2 s: more operations")
    run.add_argument("--stop", action="store_true", help="stop at the first failure")
    run.add_argument("--mutant", help="apply this mutant to a copy of the sources first")
    mutants = commands.add_parser("mutants", help="hunt every mutant anew: each must be found")
    mutants.add_argument("--only", help="this one")
    mutants.add_argument("--seeds-max", type=int, default=120, help="most seeds tried for one mutant")
    mutants.add_argument("--start", type=int, default=0, help="the first seed; default: drawn anew")
    mutants.add_argument("--workers", type=int, default=2)
    mutants.add_argument("--write", action="store_true", help="write docs/mutants.md and the recorded seeds")
    options = parser.parse_args(arguments)
    if options.command == "mutants":
        from lockmaster_raft.testing.mutants import hunt

        return hunt(options.only, options.seeds_max, options.workers, options.write, options.start)
    if options.mutant:
        from lockmaster_raft.testing.mutants import run_mutated

        return run_mutated(options.mutant, arguments if arguments is not None else sys.argv[1:])
    if options.seed is not None:
        return _replay(options.seed, options.application, options.steady)
    return _run(with_gates(range(options.start, options.start + options.seeds)), options)


def _replay(seed: int, application: str | None, calm: bool) -> int:
    cluster = Cluster(seed, load_application(application), steady(draw_mix(seed)) if calm else None)
    result = cluster.run()
    if result.failure:
        print("\n".join(cluster.log[-60:]))
        print(f"seed {seed} at {result.simulated_ns / 1e9:.4f} s: {result.failure}")
    print(
        f"seed {seed}: {result.simulated_ns / 1e9:.1f} simulated s, {result.operations} operations, "
        f"{result.faults} faults, {result.steps} steps, trace {result.trace}"
    )
    return 1 if result.failure else 0


def _run(seeds: list[int], options: argparse.Namespace) -> int:
    totals, began, application = Totals(), time.monotonic(), options.application
    for result in run_seeds(seeds, application, options.workers, calm=options.steady):
        totals.add(result)
        if result.failure:
            print(
                f"FAILED {result.failure}\n  replay: {replay_command(result.seed, application, options.steady)}",
                flush=True,
            )
            if options.stop:
                return 1
    print("\n".join(totals.lines(time.monotonic() - began)))
    seldom = too_rare(totals.seeds, totals.counts)
    for event in seldom:
        print(f"FAILED: too rare: {event}, {totals.counts[event]} times in {totals.seeds} seeds")
    return 1 if totals.failures or seldom else 0


def replay_command(seed: int, application: str | None, calm: bool = False) -> str:
    """The one command that replays a seed."""
    named = (f" --application {application}" if application else "") + (" --steady" if calm else "")
    return f"python -m lockmaster_raft.testing run --seed {seed}{named}"


if __name__ == "__main__":
    sys.exit(main())
