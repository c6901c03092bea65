"""`python -m lockmaster_raft.testing.cover`: a short list of seeds that together meet every rare event.

For tests/sim: when a change of the core or the simulator moves the runs, the list is made anew with this.
"""

from __future__ import annotations

import argparse
import sys

from lockmaster_raft.testing.invariants.rare_events import RARE
from lockmaster_raft.testing.runner import run_seed
from lockmaster_raft.testing.swarm import with_gates


def shortest(met: dict[int, frozenset[str]]) -> list[int]:
    """Seeds that meet all that any of them meets, chosen greedily: the one with the most new events first."""
    chosen: list[int] = []
    missing = frozenset[str]().union(*met.values())
    while missing:
        best = min(met, key=lambda seed: (-len(met[seed] & missing), seed))
        chosen.append(best)
        missing -= met[best]
    return sorted(chosen)


def main() -> int:
    """0 if the seeds meet every rare event and none fails."""
    parser = argparse.ArgumentParser(prog="python -m lockmaster_raft.testing.cover", description=__doc__)
    parser.add_argument("--start", type=int, default=7000)
    parser.add_argument("--seeds", type=int, default=200, help="most seeds tried")
    parser.add_argument("--application", default="register")
    options = parser.parse_args()
    met: dict[int, frozenset[str]] = {}
    for seed in with_gates(range(options.start, options.start + options.seeds)):
        result = run_seed((seed, options.application))
        if result.failure:
            print(f"seed {seed}: {result.failure}")
            return 1
        met[seed] = frozenset(event for event in RARE if result.counts[event])
        missing = sorted(set(RARE) - frozenset[str]().union(*met.values()))
        print(f"seed {seed}: {len(met[seed])} events, {len(missing)} not met yet: {', '.join(missing)}", flush=True)
        if not missing:
            break
    print(f"seeds: {shortest(met)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
