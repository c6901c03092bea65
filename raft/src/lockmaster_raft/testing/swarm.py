"""Swarm testing: every seed draws its own mix of sizes, speeds and faults, so that rare pairs of features meet."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from lockmaster_raft.config import MILLISECOND, SECOND, RaftConfig
from lockmaster_raft.role_policy import LogPolicy, RoleMode, RolePolicy

SIMULATED_SECONDS_MIN: Final = 60
OPERATIONS_MIN: Final = 300
FAULTS_MIN: Final = 5
GATE_SEEDS_FROM: Final = 100_000
"""Seeds from here on have level gates (gate_churn.py), half of them nothing of roles."""
GATES_EVERY: Final = 10
"""A run of many seeds takes one in so many from those with gates."""


def with_gates(seeds: Sequence[int]) -> list[int]:
    """What a run of these seeds runs: in place of 9, 19, 29 and so on the seed with gates so far above GATE_SEEDS_FROM.

    By the number, not by the place in the run, so that runs that overlap run the same seeds there.
    """
    return [seed + GATE_SEEDS_FROM if _is_gates_turn(seed) else seed for seed in seeds]


def without_gates(seed: int, first: int) -> int:
    """The number whose turn `seed` was in a run that began at `first`."""
    return seed - GATE_SEEDS_FROM if first < GATE_SEEDS_FROM <= seed else seed


def _is_gates_turn(seed: int) -> bool:
    return seed < GATE_SEEDS_FROM and seed % GATES_EVERY == GATES_EVERY - 1


def stream(seed: int, purpose: str) -> random.Random:
    """One generator per purpose, so that a new draw in one place moves nothing in another."""
    return random.Random(f"{seed}/{purpose}")


@dataclass(frozen=True, slots=True)
class Mix:
    """What one seed runs with. Times in nanoseconds, chances from 0 to 1 per message."""

    fulls: int
    clients: int
    config: RaftConfig
    chaos_seconds: int
    fault_interval_ns: int
    delay_ns: int
    jitter_ns: int
    loss: float
    duplication: float
    reorder: float
    client_loss: float
    sync_ns: int
    drift_ppm: int
    faults: tuple[tuple[str, int], ...]
    """(fault kind, weight); a kind with weight 0 never happens in this seed."""
    session_ttl_ns: int
    operation_interval_ns: int
    store_interval_ns: int
    flush_interval_ns: int
    witnesses: int
    role_faults: tuple[tuple[str, int], ...]
    """(kind of role churn, weight); see role_churn.py. Empty without witnesses and swaps."""
    role_interval_ns: int
    side_ns: int
    """About how long opening, replaying and finishing a side state take, each."""
    rough_start_ns: int
    """The network loses much for so long while the cluster forms, when nothing but membership moves the log."""
    probes: int
    """Linearizable reads asked at a new leader, and at the others, just after each election."""
    locks: int
    """Lock names that the clients contend for."""
    disk_faults: tuple[tuple[str, int], ...]
    """(kind of disk fault, weight); see disk_faults.py. Empty where disks only lose what was not synced."""
    disk_interval_ns: int

    def calm_interval_ns(self, loops: int) -> int:
        """The pause between two operations of one of `loops`, so that all of them fill half of a member's stream.

        S12 demands of the healing phase that whoever is behind catches up: nobody can under more load than a stream
        carries (seed 329: one entry on its way at a time, 49 ms there and back, 24 loops that want more than 20
        entries a second: the faster follower commits, the slower one falls behind for ever).
        """
        round_trip = 2 * self.delay_ns + self.jitter_ns // 2 + self.sync_ns
        entries = self.config.batch_entries_max * self.config.inflight_requests_max
        return max(self.operation_interval_ns, 2 * loops * round_trip // entries)


STEADY_FAULT_INTERVAL_NS: Final = 10 * SECOND


def steady(mix: Mix) -> Mix:
    """The same mix with a fault every 10 s.

    Drawn mixes have one every 2 s, under which clients mostly wait: more trouble in the time, fewer operations.
    """
    return replace(
        mix,
        fault_interval_ns=STEADY_FAULT_INTERVAL_NS,
        role_interval_ns=STEADY_FAULT_INTERVAL_NS,
        disk_interval_ns=STEADY_FAULT_INTERVAL_NS,
    )


FAULT_KINDS: Final = (
    "crash",
    "crash_at_sync",
    "crash_many",
    "crash_leader",
    "pause",
    "pause_leader",
    "partition_minority",
    "partition_leader",
    "partition_one_way",
    "partition_partial",
    "slow_sync",
    "clog",
    "transfer",
    "add_member",
    "remove_member",
    "burst",
    "reconnect",
)


ROLE_FAULTS: Final = (
    "promote",
    "demote",
    "abort",
    "swap",
    "lose",
    "silence",
    "leader_is_witness_only",
    "reduced",
    "crash_promoting",
    "abort_promoting",
    "leave_a_demoting_voter",
    "leave_a_promoted_witness",
)


DISK_FAULTS: Final = (
    "torn_frame",
    "torn_guard",
    "eio_frame",
    "eio_guard",
    "eio_read",
    "eio_state",
    "amnesia",
    "flip_log",
    "flip_guard",
    "flip_state",
    "flip_chunk",
    "flip_served_chunk",
    "hang",
    "full",
)


def draw_disks(seed: int, config: RaftConfig) -> tuple[tuple[tuple[str, int], ...], int, RaftConfig]:
    """What the disks of this seed do, how often, and the config with a cache so small that the log is read back."""
    draw = stream(seed, "disks")
    faults = tuple((kind, draw.choice([0, 1, 1, 3])) for kind in DISK_FAULTS)
    interval = draw.choice([3, 6, 12]) * SECOND
    cache = draw.choice([500, 2_000, config.cache_bytes_max])
    if draw.random() < 0.4 or not any(weight for _, weight in faults):
        return (), interval, config
    return faults, interval, replace(config, cache_bytes_max=cache)


def draw_fetches(seed: int, config: RaftConfig) -> RaftConfig:
    """From how many entries on a member fetches a range from others: small, so that it happens within a minute."""
    draw = stream(seed, "fetches")
    entries, piece = draw.choice([0, 4, 20, 80, 4096]), draw.choice([2, 8, 2048])
    return replace(config, fetch_entries_min=entries, fetch_piece_entries_max=piece)


@dataclass(frozen=True, slots=True)
class RoleMix:
    """What a seed does with roles; `fulls` 0: as many as the plain mix says."""

    fulls: int
    witnesses: int
    config: RaftConfig
    faults: tuple[tuple[str, int], ...]
    interval_ns: int
    side_ns: int


def draw_roles(seed: int, config: RaftConfig) -> RoleMix:
    """The shape and the role churn of this seed, from a stream of its own."""
    draw = stream(seed, "roles")
    fulls, witnesses = draw.choice([(2, 1), (2, 1), (2, 1), (3, 2), (3, 1), (4, 0), (0, 0)])
    faults = tuple((kind, draw.choice([0, 1, 1, 3])) for kind in ROLE_FAULTS)
    if seed >= GATE_SEEDS_FROM and draw.random() < 0.5:
        fulls = witnesses = 0
    if (fulls, witnesses) == (0, 0):
        faults = ()
    policy = RolePolicy(
        mode=draw.choice([RoleMode.AUTOMATIC, RoleMode.AUTOMATIC, RoleMode.OPERATED]),
        log_policy=draw.choice([LogPolicy.PROMOTE, LogPolicy.BLOCK, LogPolicy.ALARM]),
        promote_after_ns=draw.choice([2, 5]) * SECOND,
        restore_after_ns=draw.choice([1, 3]) * SECOND,
        cool_down_ns=draw.choice([1, 5, 20]) * SECOND,
        change_timeout_ns=draw.choice([3, 10]) * SECOND,
        witness_names=frozenset(f"m{n}" for n in range(fulls + 1, fulls + witnesses + 1)),
    )
    budget = draw.choice([20_000, 100_000, 1 << 30])
    return RoleMix(
        fulls,
        witnesses,
        replace(config, role_policy=policy, witness_log_bytes_max=budget, role_gap_entries_max=draw.choice([4, 256])),
        faults,
        draw.choice([1, 2, 4]) * SECOND,
        draw.choice([20, 20, 800]) * MILLISECOND,
    )


def draw_mix(seed: int) -> Mix:
    """The mix of this seed; a function of the seed alone."""
    draw = stream(seed, "mix")
    fast = draw.random() < 0.3
    base = RaftConfig.fast() if fast else RaftConfig()
    config = RaftConfig(
        heartbeat_interval_ns=base.heartbeat_interval_ns,
        election_timeout_ns=base.election_timeout_ns,
        batch_entries_max=draw.choice([1, 4, 256]),
        inflight_requests_max=draw.choice([1, 4, 64]),
        retained_entries_min=draw.choice([4, 30, 30, 10_000]),
        log_bytes_max=draw.choice([2_000, 20_000, 1 << 30]),
        pending_entries_max=draw.choice([16, 4096]),
    )
    roles = draw_roles(seed, config)
    disk_faults, disk_interval_ns, config_used = draw_disks(seed, draw_fetches(seed, roles.config))
    weights = tuple((kind, draw.choice([0, 1, 1, 3])) for kind in FAULT_KINDS)
    if sum(weight for _, weight in weights) == 0:
        weights = tuple((kind, 1) for kind, _ in weights)
    sync_ns = draw.choice([200_000, 1 * MILLISECOND, 8 * MILLISECOND])
    delay_ns = draw.choice([100_000, 1 * MILLISECOND, 10 * MILLISECOND])
    fulls = draw.choice([3, 3, 3, 5])
    mix = Mix(
        fulls=fulls if roles.fulls == 0 else roles.fulls,
        clients=draw.choice([3, 4, 6]),
        config=config_used,
        chaos_seconds=draw.choice([60, 60, 70]),
        fault_interval_ns=draw.choice([1500, 3000, 6000]) * MILLISECOND,
        delay_ns=delay_ns,
        jitter_ns=draw.choice([delay_ns, 4 * delay_ns]),
        loss=draw.choice([0.0, 0.0, 0.01, 0.08]),
        duplication=draw.choice([0.0, 0.0, 0.02, 0.1]),
        reorder=draw.choice([0.0, 0.0, 0.05, 0.3]),
        client_loss=draw.choice([0.0, 0.01, 0.05]),
        sync_ns=sync_ns,
        drift_ppm=draw.choice([0, 200, 4_000]),
        faults=weights,
        session_ttl_ns=5 * config.election_timeout_ns + draw.choice([0, 2, 5]) * SECOND,
        operation_interval_ns=draw.choice([100, 200, 300]) * MILLISECOND,
        store_interval_ns=draw.choice([20, 100, 400]) * MILLISECOND,
        flush_interval_ns=draw.choice([300, 2_000, 10_000]) * MILLISECOND,
        witnesses=roles.witnesses,
        role_faults=roles.faults,
        role_interval_ns=roles.interval_ns,
        side_ns=roles.side_ns,
        rough_start_ns=draw.choice([0, 0, 2, 5]) * SECOND,
        probes=draw.choice([0, 6, 12]),
        locks=draw.choice([1, 3, 3]),
        disk_faults=disk_faults,
        disk_interval_ns=disk_interval_ns,
    )
    return _snapshots_everywhere(mix) if draw.random() < 0.15 else mix


def _snapshots_everywhere(mix: Mix) -> Mix:
    """The log is cut at once, so that whoever was away needs a snapshot, and messages come twice and late."""
    config = replace(mix.config, retained_entries_min=4, log_bytes_max=2_000)
    return replace(
        mix,
        config=config,
        delay_ns=100_000,
        jitter_ns=100_000,
        duplication=0.3,
        store_interval_ns=20 * MILLISECOND,
        flush_interval_ns=100 * MILLISECOND,
        operation_interval_ns=300 * MILLISECOND,
    )
