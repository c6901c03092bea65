"""A member one full log behind: its log from other members against all of it from the leader.

In one cluster, in turn: the member is killed, the log grows, the member comes back under a steady load. Who leads
decides where the log comes from: node-1 names sources as every member does, node-2 is set to name none
(fetch_entries_min 0).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from lockmaster.cli.local_cluster import ClusterFailed, Member

from benchmarks.consensus.measured import COUNTERS_LATE_SECONDS, Load, MeasuredCluster, cluster, fill
from benchmarks.consensus.member import GIVES_WAY
from benchmarks.consensus.part import Figure, Part, Runs, Setting, bounded, paired

LOG_MIB, LOG_MIB_QUICK = 900, 24
"""The log's budget is 1 GiB: above it a snapshot would serve."""
FILL_SECONDS = 60.0
CATCH_UP_SECONDS = 180.0
QUIET_SECONDS = 5.0
VALUE_BYTES = 128 << 10
KEYS = 200
LOAD_PAUSE_MS = 20.0
LEADER_SHARE_MAX = 0.05
TIME_RATIO_MAX = 0.7
P99_RATIO_MAX = 1.2
ATTEMPTS = 3
FALLEN_BACK = "ranges_fallen_back"


class LeadershipMoved(ClusterFailed):
    """Another member leads than the one whose bytes were to be counted."""


@dataclass(frozen=True, slots=True)
class Run:
    """One catch-up."""

    size: int
    seconds: float
    by_leader: int
    by_others: int
    fallen_back: int
    """Ranges that the leader sent itself after all, because nobody else did in time."""
    quiet_p99: float
    busy_p99: float

    @property
    def share(self) -> float:
        """Of the bytes that it was sent, the leader's."""
        return self.by_leader / max(1, self.by_leader + self.by_others)


def run(roles: tuple[str, ...], setting: Setting, *, gives_way: bool = False) -> list[Figure]:
    """Both sides in turn. `gives_way`: the member that is behind takes what processor time the others leave: as near as
    one machine comes to its having processors of its own."""
    sides: tuple[list[Run], list[Run]] = ([], [])
    with cluster(setting, roles, {"node-2": {"fetch_entries_min": 0}}) as group:
        first, second = group.full[:2]
        size = setting.mebibytes(LOG_MIB, LOG_MIB_QUICK)
        for _ in range(1 if setting.quick else max(1, setting.rounds // 2)):
            for leader, runs in ((first, sides[0]), (second, sides[1])):
                behind = group.full[2] if len(group.full) > 2 else (second if leader is first else first)
                behind.environment = {**behind.environment, GIVES_WAY: "1" if gives_way else ""}
                runs.append(undisturbed(group, setting, leader, behind, size))
                size = runs[0].size  # the other side's log is as long
                done = runs[-1]
                named = "with sources" if leader is first else "leader only"
                setting.say(f"{named}: {done.size >> 20} MiB in {done.seconds:.1f} s, {done.share:.1%} from the leader")
    return figures(sides)


def undisturbed(group: MeasuredCluster, setting: Setting, leader: Member, behind: Member, size: int) -> Run:
    """`one`, again if the leadership moved meanwhile, as on a machine that is too busy. Raises ClusterFailed."""
    for _ in range(ATTEMPTS - 1):
        try:
            return one(group, setting, leader, behind, size)
        except LeadershipMoved as why:
            setting.say(f"again: {why}")
    return one(group, setting, leader, behind, size)


def one(group: MeasuredCluster, setting: Setting, leader: Member, behind: Member, size: int) -> Run:
    """Kill, fill, measure quiet, bring back, measure until it has everything."""
    group.lead_by(leader)
    behind_id = group.id_of(behind)
    group.kill(behind)
    size = fill(group, setting, size, KEYS, VALUE_BYTES, FILL_SECONDS)
    time.sleep(COUNTERS_LATE_SECONDS)
    others = [member for member in group.members if member is not behind]
    kind = f"peer_bytes_to_{behind_id}"
    before = {member.name: group.counter(member, kind) for member in others}
    fallen_back = group.counter(leader, FALLEN_BACK)
    with Load(group, setting, pause_ms=LOAD_PAUSE_MS) as load:
        time.sleep(1 + QUIET_SECONDS)
        quiet_until = time.monotonic()
        tip = group.tip()
        group.start_member(behind)
        began = until_it_answers(group, behind)
        group.wait_until_caught_up(behind, tip, CATCH_UP_SECONDS)
        ended = time.monotonic()
        if group.leader() is not leader:
            raise LeadershipMoved(f"the leadership left {leader.name} while {behind.name} caught up")
    time.sleep(COUNTERS_LATE_SECONDS)
    sent = {member.name: group.counter(member, kind) - before[member.name] for member in others}
    by_leader = sent.pop(leader.name)
    fallen_back = group.counter(leader, FALLEN_BACK) - fallen_back
    quiet = load.latency(quiet_until - QUIET_SECONDS, quiet_until, 0.99)
    busy = load.latency(quiet_until, ended, 0.99)
    return Run(size, ended - began, by_leader, sum(sent.values()), fallen_back, quiet, busy)


def until_it_answers(group: MeasuredCluster, member: Member) -> float:
    """When the process first answers: what comes before it is the interpreter's start, on both sides the same."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while time.monotonic() < deadline:
        if group.status(member) is not None:
            return time.monotonic()
        time.sleep(0.02)
    raise ClusterFailed(f"{member.name} does not answer ({member.last_words()})")


def figures(runs: Runs[Run]) -> list[Figure]:
    """Shares, times and how much slower the group was meanwhile."""
    return [
        paired("log it lacked", "MiB", runs, lambda run: run.size / 2**20),
        bounded("leader's share of the bytes to it", "", runs, lambda run: run.share, LEADER_SHARE_MAX),
        bounded("ranges that fell back on the leader", "", runs, lambda run: run.fallen_back),
        paired("time until it has everything", "s", runs, lambda run: run.seconds, TIME_RATIO_MAX),
        paired("group's p99 before", "ms", runs, lambda run: 1e3 * run.quiet_p99),
        paired("group's p99 meanwhile", "ms", runs, lambda run: 1e3 * run.busy_p99),
        bounded("group's p99 meanwhile ÷ before", "", runs, lambda run: run.busy_p99 / run.quiet_p99, P99_RATIO_MAX),
    ]


FIVE = ("full", "full", "full", "witness", "witness")
SIDES = ("from others", "leader only")
PARTS = (
    Part(
        "catch-up of a full log, 3 full + 2 witnesses",
        SIDES,
        partial(run, FIVE),
    ),
    Part("catch-up of a full log, 2 full + witness", SIDES, partial(run, ("full", "full", "witness"))),
    Part(
        "catch-up that gives way, 3 full + 2 witnesses",
        SIDES,
        partial(run, FIVE, gives_way=True),
    ),
)
