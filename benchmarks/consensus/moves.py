"""Planned moves of the leadership under load: how long no write succeeds, and whether any fails. 3 full members.

Each move is followed by as long a time without one, so that the table has what the machine does by itself beside it.
"""

from __future__ import annotations

import time

from lockmaster.cli.bench.samples import quantile

from benchmarks.consensus.measured import Load, cluster
from benchmarks.consensus.part import Figure, Part, Setting

MOVES, MOVES_QUICK = 60, 4
WINDOW_SECONDS = 1.0
WRITERS = 16
P99_MS_MAX = 200.0


def run(setting: Setting) -> list[Figure]:
    """One move after the other, round the members."""
    moves: list[float] = []
    with cluster(setting, ("full",) * 3, {}) as group, Load(group, setting, clients=WRITERS) as load:
        time.sleep(2)
        for number in range(MOVES_QUICK if setting.quick else MOVES):
            leader = group.the_leader()
            target = group.members[(group.members.index(leader) + 1) % len(group.members)]
            moves.append(time.monotonic())
            group.lead_by(target)
            time.sleep(max(0.0, moves[-1] + 2 * WINDOW_SECONDS - time.monotonic()))
            if number % 10 == 9:
                setting.say(f"{number + 1} moves")
    during = sorted(1e3 * load.gap(at, at + WINDOW_SECONDS) for at in moves)
    after = sorted(1e3 * load.gap(at + WINDOW_SECONDS, at + 2 * WINDOW_SECONDS) for at in moves)
    for error in sorted(set(load.errors))[:3]:
        setting.say(f"failed: {error}")
    bounds = {0.5: None, 0.99: P99_MS_MAX, 1.0: None}
    return [
        *(
            Figure(f"write gap, {name}", "ms", quantile(during, q), quantile(after, q), bounds[q], absolute=True)
            for name, q in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
        ),
        Figure(f"failed operations of {len(load.done):,}", "", len(load.errors), None, 0.0, absolute=True),
        Figure("moves", "", len(moves)),
    ]


PARTS = (Part("planned move of the leadership under 16 writers, 3 full", ("move", "no move"), run),)
