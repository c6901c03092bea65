"""A large state sent to a new member as a snapshot: from several members against the leader alone.

In one cluster, in turn: a blank member joins as a learner and is removed again. With level 2 active it fetches chunks
from all that hold the same snapshot; with level 2 given back (`gate deactivate`) members don't tell a leader what they
hold, so a leader that was elected since is the only source, in the same build.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc
from lockmaster.api import admin_pb2
from lockmaster.cli.local_cluster import ClusterFailed

from benchmarks.consensus.catch_up import until_it_answers
from benchmarks.consensus.measured import (
    CALL_SECONDS,
    COUNTERS_LATE_SECONDS,
    Cost,
    Load,
    MeasuredCluster,
    cluster,
    cost,
    fill,
)
from benchmarks.consensus.part import Figure, Part, Runs, Setting, bounded, paired

STATE_MIB, STATE_MIB_QUICK = 1024, 48
FILL_SECONDS = 120.0
INSTALL_SECONDS = 300.0
VALUE_BYTES = 128 << 10
SHORT_LOG = {"retained_entries_min": 1_000_000, "retained_bytes_max": 32 << 20, "log_bytes_max": 32 << 20}
"""So that a new member needs the snapshot, and that of the first serves all others: what the load writes stays in the
log. Else a run on one side made a new snapshot and its neighbour did not."""
LOAD_PAUSE_MS = 20.0
RSS_MAX = 512.0
"""MiB: what a member may take, however large the state is, also while it is sent or installed (docs/benchmarks.md)."""
RISE_MAX = 128.0
"""MiB: what sending may add to a sender's memory."""
LEVEL = 2


@dataclass(frozen=True, slots=True)
class Run:
    """One installation."""

    seconds: float
    by_leader: int
    by_others: int
    joiner: Cost
    senders: tuple[Cost, ...]
    """The leader first."""

    @property
    def share(self) -> float:
        """Of the bytes that it was sent, the leader's."""
        return self.by_leader / max(1, self.by_leader + self.by_others)


def run(setting: Setting) -> list[Figure]:
    """Both sides in turn."""
    sides: tuple[list[Run], list[Run]] = ([], [])
    size = setting.mebibytes(STATE_MIB, STATE_MIB_QUICK)
    with cluster(setting, ("full",) * 3, {"": SHORT_LOG}) as group:
        size = fill(group, setting, size, 1_000_000, VALUE_BYTES, FILL_SECONDS)
        setting.say(f"a state of {size >> 20} MiB")
        first = one(group, setting)
        setting.say(
            f"the first, for which all make a snapshot: {first.seconds:.1f} s, {first.share:.1%} from the leader"
        )
        for _ in range(1 if setting.quick else max(1, setting.rounds // 2)):
            for several, runs in ((True, sides[0]), (False, sides[1])):
                set_level(group, LEVEL if several else LEVEL - 1)
                group.lead_by(next(member for member in group.members if member is not group.the_leader()))
                runs.append(one(group, setting))
                done = runs[-1]
                named = "several sources" if several else "one source"
                setting.say(f"{named}: {done.seconds:.1f} s, {done.share:.1%} from the leader")
    return [*about_the_first(size, first), *figures(sides)]


def one(group: MeasuredCluster, setting: Setting) -> Run:
    """A blank member joins under a steady load, has everything, and goes."""
    leader = group.the_leader()
    senders = [leader, *(member for member in group.members if member is not leader)]
    joiner = group.prepare(group.add(arguments=("--learner",)), SHORT_LOG)
    with Load(group, setting, pause_ms=LOAD_PAUSE_MS):
        time.sleep(1)
        tip, started = group.tip(), time.monotonic()
        group.start_member(joiner)
        began = until_it_answers(group, joiner)
        group.wait_until_caught_up(joiner, tip, INSTALL_SECONDS)
        ended = time.monotonic()
        time.sleep(COUNTERS_LATE_SECONDS)
    kind = f"peer_bytes_to_{group.id_of(joiner)}"
    sent = [group.counter(member, kind) for member in senders]
    costs = tuple(cost(member, started, ended) for member in senders)
    answer = Run(ended - began, sent[0], sum(sent[1:]), cost(joiner, began, ended), costs)
    group.remove(joiner)
    return answer


def set_level(group: MeasuredCluster, level: int) -> None:
    """Switches the level on or back, unless it is so. Raises ClusterFailed."""
    operations = admin_pb2.GateOperation
    steps: tuple[int, ...] = (operations.GATE_OPERATION_DEACTIVATE,)
    if level == LEVEL:
        steps = (operations.GATE_OPERATION_FENCE, operations.GATE_OPERATION_ACTIVATE)
    deadline = time.monotonic() + CALL_SECONDS
    while active(group) != level:
        if time.monotonic() > deadline:
            raise ClusterFailed(f"level {level} is not active after {CALL_SECONDS:.0f} s")
        for operation in steps:
            ask_gate(group, operation)
        time.sleep(0.5)


def active(group: MeasuredCluster) -> int:
    """The level that the leader says is active; 0 without one."""
    leader = group.leader()
    status = group.status(leader) if leader is not None else None
    return int(status.level_active) if status is not None else 0


def ask_gate(group: MeasuredCluster, operation: int) -> None:
    """One gate operation at the leader; a refusal is only a reason to ask again."""
    leader = group.leader()
    if leader is None:
        return
    request = admin_pb2.ChangeGateRequest(operation=operation, level=LEVEL)  # type: ignore[arg-type]
    with group.admin(leader) as calls:
        try:
            calls.ChangeGate(request, timeout=CALL_SECONDS)
        except grpc.RpcError:
            time.sleep(0.2)


def about_the_first(size: int, first: Run) -> list[Figure]:
    """The installation for which leader and followers had to make the snapshot."""
    child = mib(*(cost.children_rss_peak for cost in first.senders))
    stalls = [1e3 * cost.stall for cost in first.senders]
    return [
        Figure("state", "MiB", size / 2**20, size / 2**20),
        Figure("the first, while the snapshot is made: time until it has everything", "s", first.seconds),
        Figure("peak memory of a child that makes it", "MiB", child, None, RSS_MAX, absolute=True),
        Figure("longest stall of the leader's loop meanwhile", "ms", stalls[0]),
        Figure("of another sender's loop", "ms", max(stalls[1:])),
    ]


def figures(runs: Runs[Run]) -> list[Figure]:
    """Times, shares, memory and stalls once the snapshot is there."""
    return [
        paired("time from its first answer until it has everything", "s", runs, lambda run: run.seconds),
        bounded("leader's share of the bytes", "", runs, lambda run: run.share),
        bounded("peak memory of the member that installs", "MiB", runs, lambda run: mib(run.joiner.rss_peak), RSS_MAX),
        bounded(
            "of its child that makes the state", "MiB", runs, lambda run: mib(run.joiner.children_rss_peak), RSS_MAX
        ),
        bounded("peak memory of a sender", "MiB", runs, lambda run: mib(*(c.rss_peak for c in run.senders)), RSS_MAX),
        bounded("of it no pages of files", "MiB", runs, lambda run: mib(*(c.anonymous_peak for c in run.senders))),
        bounded("more than before it sent", "MiB", runs, lambda run: mib(*(c.risen for c in run.senders)), RISE_MAX),
        bounded("longest stall of the leader's loop", "ms", runs, lambda run: 1e3 * run.senders[0].stall),
        bounded("of another sender's loop", "ms", runs, lambda run: 1e3 * max(c.stall for c in run.senders[1:])),
        bounded("of the installing member's loop", "ms", runs, lambda run: 1e3 * run.joiner.stall),
    ]


def mib(*sizes: float) -> float:
    """The largest of these sizes in MiB."""
    return max(sizes) / 2**20


PARTS = (Part("snapshot of a large state to a new member, 3 full", ("from several", "leader only"), run),)
