"""What a witness costs beside a full replica of the same cluster, under the same load: 2 full and a witness."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from lockmaster.cli.local_cluster import ClusterFailed, Member

from benchmarks.consensus.measured import Cost, MeasuredCluster, cluster, cost, disk_bytes
from benchmarks.consensus.part import Figure, Part, Setting

PUT_CLIENTS, LOCK_CLIENTS = 640, 256
"""640 clients of `lockmaster bench put` write 16 keys each: 10,240 keys."""
OPERATIONS = 1_000_000
LOCK_SECONDS, PUT_SLICE_SECONDS, PUT_SECONDS_MAX, QUICK_SECONDS = 20.0, 30.0, 170.0, 3.0
CPU_RATIO_MAX = 0.4
DISK_RATIO_MAX = 0.3
SETTLE_SECONDS = 12.0
"""Until what was written last has been flushed and logs were cut."""


@dataclass(slots=True)
class Loaded:
    """A load that has been: its operations, the warm-ups' left out, and when it was."""

    start: float
    until: float
    operations: int = 0


def run(setting: Setting) -> list[Figure]:
    """Lock operations, then puts until there were a million operations or the time is over."""
    with cluster(setting, ("full", "full", "witness"), {}) as group:
        leader = group.the_leader()
        follower = next(member for member in group.full if member is not leader)
        witness = group.witnesses[0]
        seconds = QUICK_SECONDS if setting.quick else LOCK_SECONDS
        locks = loaded(group, setting, ["locks", "--clients", str(LOCK_CLIENTS)], seconds, seconds)
        setting.say(f"{locks.operations:,} lock operations")
        found = compared("locks, 256 clients", witness, follower, locks)
        seconds = QUICK_SECONDS if setting.quick else PUT_SLICE_SECONDS
        most = QUICK_SECONDS if setting.quick else PUT_SECONDS_MAX
        puts = loaded(group, setting, ["put", "--clients", str(PUT_CLIENTS)], seconds, most)
        setting.say(f"{puts.operations:,} puts")
        found += compared("puts of 256 B, 10,240 keys", witness, follower, puts)
        if group.leader() is not leader:
            raise ClusterFailed("the leadership moved while it was measured")
        time.sleep(SETTLE_SECONDS)
        sizes = [disk_bytes(member) / 2**20 for member in (witness, follower)]
        title = f"bytes on the disk after {locks.operations + puts.operations:,} operations"
        return [*found, Figure(title, "MiB", sizes[0], sizes[1], DISK_RATIO_MAX)]


def loaded(group: MeasuredCluster, setting: Setting, words: list[str], seconds: float, seconds_max: float) -> Loaded:
    """`lockmaster bench` again and again until OPERATIONS or `seconds_max`."""
    command = [sys.executable, "-m", "lockmaster.cli.main", "bench", *words, "-o", "json", "-e", group.endpoints]
    command += ["--connections", "4", "--seconds", str(seconds)]
    if setting.tls is not None:
        command += ["--ca", str(setting.tls.ca)]
    answer = Loaded(time.monotonic(), 0.0)
    while answer.operations < OPERATIONS and time.monotonic() - answer.start < seconds_max:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
        if done.returncode:
            raise ClusterFailed(f"the load ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        answer.operations += int(json.loads(done.stdout)["operations"])
    answer.until = time.monotonic()
    return answer


def compared(what: str, witness: Member, full: Member, load: Loaded) -> list[Figure]:
    """The witness beside the full member that follows."""
    ours, peer = (cost(member, load.start, load.until) for member in (witness, full))
    count = max(1, load.operations)

    def beside(of: str, unit: str, measure: Callable[[Cost], float], bound: float | None = None) -> Figure:
        return Figure(f"{what}: {of}", unit, measure(ours), measure(peer), bound)

    return [
        beside("processor time", "us/operation", lambda cost: 1e6 * cost.cpu_seconds / count, CPU_RATIO_MAX),
        beside("peak memory", "MiB", lambda cost: cost.rss_peak / 2**20),
        beside("written to the disk", "B/operation", lambda cost: cost.written / count),
        beside("network", "B/operation", lambda cost: cost.traffic / count),
    ]


PARTS = (Part("witness against a full replica, 2 full + witness", ("witness", "full follower"), run),)
