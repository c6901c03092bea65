"""Clusters of the real core in virtual time, without faults but those asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from lockmaster_raft.config import MILLISECOND, SECOND, RaftConfig
from lockmaster_raft.role_policy import RolePolicy
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.frontend import Answer
from lockmaster_raft.testing.host import Host
from lockmaster_raft.testing.register import RegisterApplication
from lockmaster_raft.testing.swarm import Mix, draw_mix

SEED = 1


def calm(
    fulls: int,
    witnesses: int = 0,
    *,
    delay_ns: int = MILLISECOND,
    sync_ns: int = MILLISECOND,
    policy: RolePolicy | None = None,
    seed: int = SEED,
) -> Mix:
    """Nothing is lost, late or broken; one way over the network takes `delay_ns`, a sync about `sync_ns`."""
    config = replace(RaftConfig(), role_policy=policy or RolePolicy())
    return replace(
        draw_mix(seed),
        fulls=fulls,
        witnesses=witnesses,
        config=config,
        delay_ns=delay_ns,
        jitter_ns=0,
        loss=0.0,
        duplication=0.0,
        reorder=0.0,
        client_loss=0.0,
        sync_ns=sync_ns,
        drift_ppm=0,
        faults=(),
        role_faults=(),
        disk_faults=(),
        rough_start_ns=0,
        probes=0,
        store_interval_ns=100 * MILLISECOND,
        flush_interval_ns=500 * MILLISECOND,
        side_ns=20 * MILLISECOND,
    )


class Simulated:
    """A formed cluster, and writes given to its leader directly: without a client's way to it."""

    def __init__(self, mix: Mix, seed: int = SEED) -> None:
        self.world = Cluster(seed, RegisterApplication(), mix)
        self._numbers = count(1)
        self.world.form()
        self.run(2 * SECOND)

    @property
    def now(self) -> int:
        """Virtual nanoseconds."""
        return self.world.scheduler.now

    @property
    def hosts(self) -> list[Host]:
        """In the order in which they were founded: full ones, then witnesses."""
        return self.world.hosts

    def run(self, nanoseconds: int) -> None:
        """Let time pass."""
        self.world.scheduler.run_until(self.now + nanoseconds, lambda: False)

    def write(self, took: list[int]) -> bool:
        """Gives the leader a write; nanoseconds go to `took` once it answers. False without a leader."""
        leader = self.world.leader()
        if leader is None:
            return False
        began, number = self.now, next(self._numbers)

        def answered(answer: Answer) -> None:
            if not answer.error:
                self.world.checker.acknowledged(1, number, answer)
                took.append(self.now - began)

        leader.front.write((1, number, "x", str(number)), False, answered)
        return True
