"""The availability table of WR 1.3, computed anew: how much of the time no write can be committed.

Members fail and are repaired independently, in exponential times; `ratio` is the mean time to repair ÷ the mean time
between failures. Failures are noticed and configurations changed at once, as WR 1.3 assumes, so these are the best
figures that a shape can have. Who is made a learner is asked of the product's own rule (shaping.shape), and quorums are
the product's; promoting a witness and restoring the shape are one step here. The stationary probabilities of all states
are exact (Grassmann, Taksar and Heyman: elimination without a subtraction, so small ones keep their digits).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration, Member, MemberRole
from lockmaster_raft.quorum import has_quorum
from lockmaster_raft.shaping import ROUNDS_MISSED_MIN, Silence, shape

from benchmarks.consensus.part import Figure, Part, Setting

RATIOS = (0.05, 0.01, 0.005)
SECOND = 1_000_000_000
ROUNDING = 1.02


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One member: `witness` says what it was founded as."""

    witness: bool
    up: bool
    voter: bool = True
    full: bool = True


State = tuple[Place, ...]
"""Sorted: members of one kind in one condition are as good as each other."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A group of so many members."""

    title: str
    fulls: int
    witnesses: int = 0
    shaped: bool = False
    known: tuple[float, ...] = ()
    """WR 1.3's own figures at RATIOS, where it has them; NaN where not."""

    @property
    def whole(self) -> State:
        """With nobody down."""
        fulls = (Place(False, True),) * self.fulls
        return tuple(sorted((*fulls, *(Place(True, True, full=False),) * self.witnesses)))


NAN = math.nan
SHAPES = (
    Shape("2 full", 2),
    Shape("3 full", 3, known=(6.6e-3, 2.92e-4, 7.4e-5)),
    Shape("2 full + witness, promoted", 2, 1, known=(NAN, 2.9e-4, NAN)),
    Shape("5 full", 5, known=(1.0e-3, 9.6e-6, 1.22e-6)),
    Shape("4 full", 4, known=(1.3e-2, 5.8e-4, 1.5e-4)),
    Shape("4 full, shaped", 4, shaped=True, known=(NAN, 5.8e-6, NAN)),
    Shape("3 full + witness, shaped", 3, 1, shaped=True),
    Shape("5 full, shaped", 5, shaped=True, known=(NAN, 9.5e-8, NAN)),
)


def run(setting: Setting) -> list[Figure]:
    """Unavailability of every shape at every ratio beside WR 1.3, which has two or three digits."""
    found: list[Figure] = []
    for one in SHAPES:
        known = one.known or (NAN,) * len(RATIOS)
        for ratio, peer in zip(RATIOS, known, strict=True):
            ours = unavailability(one, ratio)
            bound = None if math.isnan(peer) else ROUNDING
            found.append(Figure(f"{one.title}, {ratio:g}", "", ours, None if math.isnan(peer) else peer, bound))
    return found


def unavailability(one: Shape, ratio: float) -> float:
    """The share of time without a quorum that can commit and lead."""
    index = {one.whole: 0}
    rates: list[dict[int, float]] = []
    todo = [one.whole]
    for state in todo:  # grows while it is walked through
        out: dict[int, float] = {}
        for after, rate in neighbours(state, ratio, one.shaped):
            if after not in index:
                index[after] = len(todo)
                todo.append(after)
            out[index[after]] = out.get(index[after], 0.0) + rate
        rates.append(out)
    share = stationary(rates)
    return sum(share[at] for state, at in index.items() if not available(state))


def neighbours(state: State, ratio: float, shaped: bool) -> Iterator[tuple[State, float]]:
    """Where one failure or one repair leads, once the group has changed itself, and how often it happens."""
    for at, place in enumerate(state):
        changed = replace(place, up=not place.up)
        after = (*state[:at], changed, *state[at + 1 :])
        yield settled(tuple(sorted(after)), shaped), ratio if place.up else 1.0


def configuration_of(state: State) -> Configuration:
    """As the core has it: ids are positions from 1."""
    members = [
        Member(
            NodeId(at),
            f"m{at}",
            f"p:{at}",
            f"c:{at}",
            at.to_bytes(16, "big"),
            place.voter,
            MemberRole.FULL if place.full else MemberRole.WITNESS,
        )
        for at, place in enumerate(state, 1)
    ]
    return Configuration(1, tuple(members), NodeId(len(state) + 1))


def available(state: State) -> bool:
    """A quorum of the voters is up, a full one among them."""
    voters = tuple(NodeId(at) for at, place in enumerate(state, 1) if place.voter)
    up = [NodeId(at) for at, place in enumerate(state, 1) if place.up]
    return has_quorum(voters, (), up) and any(place.up and place.voter and place.full for place in state)


@cache
def settled(state: State, shaped: bool) -> State:
    """What the group makes of itself while it has a quorum: one change after the other, until none is left."""
    while available(state):
        after = one_change(state, shaped)
        if after is None:
            break
        state = tuple(sorted(after))
    return state


def one_change(state: State, shaped: bool) -> State | None:
    """A learner that is back votes again; a witness is promoted, or demoted again; a silent voter is shaped away."""
    for at, place in enumerate(state):
        if place.up and not place.voter:
            return (*state[:at], replace(place, voter=True), *state[at + 1 :])
    full_down = sum(not place.up and not place.witness for place in state)
    promoted = [at for at, place in enumerate(state) if place.witness and place.full]
    fit = [at for at, place in enumerate(state) if place.witness and not place.full and place.up]
    if full_down and fit:
        return (*state[: fit[0]], replace(state[fit[0]], full=True), *state[fit[0] + 1 :])
    if not full_down and promoted:
        return (*state[: promoted[0]], replace(state[promoted[0]], full=False), *state[promoted[0] + 1 :])
    if not shaped:
        return None
    configuration = configuration_of(state)
    leader = next(NodeId(at) for at, place in enumerate(state, 1) if place.up and place.voter and place.full)
    silences = {
        NodeId(at): Silence(0 if place.up else SECOND, 0 if place.up else ROUNDS_MISSED_MIN)
        for at, place in enumerate(state, 1)
    }
    after = shape(configuration, leader, silences, SECOND, promotable=bool(fit))
    if after is None:
        return None
    return tuple(replace(place, voter=member.voter) for place, member in zip(state, after.members, strict=True))


def stationary(rates: list[dict[int, float]]) -> list[float]:
    """Stationary probabilities of a chain given by its rates between states (GTH)."""
    size = len(rates)
    dense = [[row.get(to, 0.0) if to != at else 0.0 for to in range(size)] for at, row in enumerate(rates)]
    for last in range(size - 1, 0, -1):
        out = sum(dense[last][:last])
        for at in range(last):
            dense[at][last] /= out
            share = dense[at][last]
            if share:
                for to in range(last):
                    dense[at][to] += share * dense[last][to]
    weights = [1.0]
    for at in range(1, size):
        weights.append(sum(weights[before] * dense[before][at] for before in range(at)))
    total = sum(weights)
    return [weight / total for weight in weights]


PARTS = (Part("share of time without writes, by repair ÷ failure time", ("computed", "WR 1.3"), run),)
