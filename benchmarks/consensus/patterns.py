"""Which failures a group outlives, and with how many copies of its state: 2 + 1 against 3 and 2 full members.

The real core in virtual time; members that fail stay away. A witness is promoted after 60 s, as in the product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from lockmaster_raft.config import MILLISECOND, SECOND
from lockmaster_raft.role_policy import RolePolicy
from lockmaster_raft.testing.host import Host

from benchmarks.consensus.part import Figure, Part, Setting
from benchmarks.consensus.simulated import Simulated, calm

LEADER, FOLLOWER, THIRD = "leader", "follower", "third"
"""The third is the witness of 2 + 1, the second follower of three full ones; two full ones have none."""
LATER_NS = 150 * SECOND
"""Until a later failure, and until copies are counted: a promotion has ended by then."""
WRITE_EVERY_NS = 100 * MILLISECOND
WAIT_NS = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Pattern:
    """Who fails at once, and who 150 s later."""

    title: str
    first: tuple[str, ...]
    later: tuple[str, ...] = ()


PATTERNS = (
    Pattern("none", ()),
    Pattern("the leader", (LEADER,)),
    Pattern("the follower", (FOLLOWER,)),
    Pattern("the third", (THIRD,)),
    Pattern("leader and follower at once", (LEADER, FOLLOWER)),
    Pattern("leader and third at once", (LEADER, THIRD)),
    Pattern("follower and third at once", (FOLLOWER, THIRD)),
    Pattern("the follower, later the leader", (FOLLOWER,), (LEADER,)),
    Pattern("the follower, later the third", (FOLLOWER,), (THIRD,)),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """After the last failure."""

    seconds: float
    """Until a write was acknowledged; infinite if none was within 60 s."""
    copies: int
    """Members that run and hold the whole state, 150 s later."""


def run(fulls: int, setting: Setting) -> list[Figure]:
    """2 full and a witness against that many full ones, pattern by pattern."""
    found = []
    for pattern in PATTERNS:
        if fulls == 2 and THIRD in (*pattern.first, *pattern.later):
            continue
        ours, peer = outcome(pattern, 2, 1), outcome(pattern, fulls, 0)
        found.append(Figure(f"{pattern.title}: until a write succeeds", "s", ours.seconds, peer.seconds))
        found.append(Figure(f"{pattern.title}: running copies of the state, 150 s later", "", ours.copies, peer.copies))
    return found


def outcome(pattern: Pattern, fulls: int, witnesses: int) -> Outcome:
    """One group, one pattern."""
    names = frozenset(f"m{number}" for number in range(fulls + 1, fulls + witnesses + 1))
    group = Simulated(calm(fulls, witnesses, policy=RolePolicy(witness_names=names)))
    leader = group.world.leader()
    others = [host for host in group.hosts if host is not leader]
    if leader is None:
        raise RuntimeError("no leader of a group without faults")
    group.write([])
    group.run(SECOND)
    parts = {LEADER: leader, FOLLOWER: others[0], THIRD: others[-1]}
    for fail in (pattern.first, pattern.later) if pattern.later else (pattern.first,):
        for part in fail:
            parts[part].crash(power=True)
        seconds = until_written(group)
        group.run(LATER_NS)
    return Outcome(seconds, sum(holds_state(host) for host in group.hosts))


def holds_state(host: Host) -> bool:
    """Whether it runs and has the whole state, as a full member or a promoted witness."""
    return (
        host.node is not None
        and host.replica is not None
        and host.node.own_member is not None
        and (host.node.own_member.is_full)
    )


def until_written(group: Simulated) -> float:
    """Seconds from now until a write succeeds; infinite if none does within WAIT_NS."""
    began, took = group.now, list[int]()
    while not took and group.now - began < WAIT_NS:
        group.write(took)
        group.run(WRITE_EVERY_NS)
    return (group.now - began) / SECOND if took else math.inf


PARTS = (
    Part("failures that members outlive, simulated, against 3 full", ("2 full + witness", "3 full"), partial(run, 3)),
    Part("failures that members outlive, simulated, against 2 full", ("2 full + witness", "2 full"), partial(run, 2)),
)
