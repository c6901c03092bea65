"""Commit latency in round trips: the real core in virtual time, three members, a steady load at the leader.

From the moment a write reaches the leader until it is committed and applied there. Processors take no time in the
simulator, so what is left is the protocol: one round trip and one sync of a follower, and what batching adds.
"""

from __future__ import annotations

from lockmaster.cli.bench.samples import quantile
from lockmaster_raft.config import MILLISECOND, SECOND

from benchmarks.consensus.part import Figure, Part, Setting
from benchmarks.consensus.simulated import Simulated, calm

ROUND_TRIPS_MS = (2, 10, 50, 100)
SYNC_NS = MILLISECOND
SYNC_LONGEST = 1.5
"""The simulated disk draws each sync from 0.5 to 1.5 times its mean."""
WRITES_PER_SECOND = (20, 200, 500)
"""Up to half of what a disk syncs there: the simulator never joins two writes into one sync, as the product does."""
SECONDS, SECONDS_QUICK = 20, 2
OURS, MICRORAFT = 1.15, 1.5
"""Round trips: the target, and MicroRaft's figure."""


def run(setting: Setting) -> list[Figure]:
    """For each round trip and rate the p50, and the p99, in round trips after the sync's mean is taken off."""
    found = []
    for milliseconds in ROUND_TRIPS_MS:
        for rate in WRITES_PER_SECOND:
            trip = milliseconds * MILLISECOND
            took = latencies(trip, rate, SECONDS_QUICK if setting.quick else SECONDS)
            p50, p99 = (quantile(took, q) for q in (0.5, 0.99))
            what = f"{milliseconds} ms round trip, sync 1 ms, {rate} writes/s"
            found.append(
                Figure(
                    f"{what}: p50 less a sync", "round trips", (p50 - SYNC_NS) / trip, MICRORAFT, OURS, absolute=True
                )
            )
            longest = (p99 - SYNC_LONGEST * SYNC_NS) / trip
            found.append(Figure(f"{what}: p99 less the longest sync", "round trips", longest, MICRORAFT))
    return found


def latencies(round_trip_ns: int, rate: int, seconds: int) -> list[int]:
    """Nanoseconds that writes took, ascending."""
    group = Simulated(calm(3, delay_ns=round_trip_ns // 2, sync_ns=SYNC_NS))
    took: list[int] = []
    for _ in range(rate * seconds):
        group.write(took)
        group.run(SECOND // rate)
    group.run(2 * SECOND + 4 * round_trip_ns)
    if len(took) != rate * seconds:
        raise RuntimeError(f"{len(took)} of {rate * seconds} writes were answered")
    return sorted(took)


PARTS = (Part("commit latency in round trips, simulated", ("Lockmaster", "MicroRaft, as stated"), run),)
