"""Random trouble in the simulated world: no law is ever broken, and once it ends the plan converges within a bound.

The laws (never below the margin, never two disruptive steps in flight, no member's volume wiped, the leader last, …)
are checked by the world itself at every step it takes (carrying.py).
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .test_world import SHAPES, kinds, shape_of
from .world import World, world

CONVERGES_S = 4_000
"""Virtual seconds; two cool-downs of 600 s may lie in them."""
ORDINALS = st.integers(0, 4)
TROUBLE = st.one_of(
    st.tuples(st.just("stop"), ORDINALS, st.integers(1, 200)),
    st.tuples(st.just("lose"), ORDINALS, st.sampled_from(["volume", "node", "damage"])),
    st.tuples(st.just("shape"), st.sampled_from(SHAPES), st.just(0)),
    st.tuples(st.just("version"), st.sampled_from(["0.2.0", "0.3.0"]), st.just(0)),
    st.tuples(st.just("cpu"), st.integers(1, 9), st.just(0)),
    st.tuples(st.just("cut"), st.integers(2, 90), st.just(0)),
    st.tuples(st.just("recreate"), st.just(0), st.just(0)),
    st.tuples(st.just("kill"), st.integers(0, 3), st.integers(1, 20)),
)
PAUSES = st.integers(0, 120)


def may_lose(found: World, ordinal: int) -> bool:
    """The volume of one member may go while all others are there: more is for a person (QuorumRecovery)."""
    quiet = not found.change_open() and all(m.voter for m in found.members.values())
    well = quiet and len(found.voters()) >= 3 and all(found.caught_up(m) for m in found.members.values())
    return well and any(m.ordinal == ordinal for m in found.members.values())


def trouble(found: World, kind: str, first: Any, second: Any) -> None:
    if kind == "stop":
        found.stop_pod(first, second)
    elif kind == "lose" and may_lose(found, first):
        {"volume": found.lose_volume, "node": found.lose_node, "damage": found.damage}[second](first)
    elif kind == "shape":
        found.change(members={"full": first[0], "witness": first[1]})
    elif kind == "version":
        found.change(version=first)
    elif kind == "cpu":
        found.change(resources={"requests": {"cpu": f"{first}00m"}})
    elif kind == "cut":
        found.cut_off = True
        found.run(first)
        found.cut_off = False
    elif kind == "recreate":
        found.recreate()
    elif kind == "kill":  # the operator dies after some of its steps, and stays away for a while
        found.do(found.look(), steps_max=first)
        found.advance(second)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(start=st.sampled_from(SHAPES), script=st.lists(st.tuples(TROUBLE, PAUSES), max_size=7))
def test_no_law_is_broken_and_the_plan_converges(
    start: tuple[int, int], script: list[tuple[tuple[str, Any, Any], int]]
) -> None:
    found = world(*start)
    found.run(60)
    for (kind, first, second), pause in script:
        trouble(found, kind, first, second)
        found.run(pause)
    found.settle(CONVERGES_S)
    members = found.spec.members
    assert found.shape() == shape_of(members.full, members.witness)
    assert kinds(found).count("Bootstrap") == 1
