"""operator.md §5: hysteresis and cool-down are for failures; a person that asks by spec.members waits for neither."""

from __future__ import annotations

import pytest
from lockmaster_operator.models.timestamps import seconds_at, timestamp_of

from .test_world import kinds, shape_of
from .world import World, settled

SLOW = {"promoteAfter": "1h", "coolDown": "24h"}
"""A person that asks for another shape waits for neither."""


def slow(full: int, witness: int) -> World:
    found = settled(full, witness)
    found.change(witness=SLOW)
    found.settle()
    return found


@pytest.mark.parametrize(
    ("there", "wanted", "demoted"), [((3, 2), (2, 1), 1), ((3, 0), (2, 1), 1), ((5, 0), (3, 2), 2)]
)
def test_full_members_that_a_person_makes_witnesses_do_not_wait(
    there: tuple[int, int], wanted: tuple[int, int], demoted: int
) -> None:
    found = slow(*there)
    before = len(found.log)
    found.change(members={"full": wanted[0], "witness": wanted[1]})
    found.run(240)
    assert found.shape() == shape_of(*wanted)
    assert kinds(found, before).count("DemoteMember") == demoted
    assert found.reason("Ready") == "AsSpecified"


def test_the_way_back_after_a_person_has_asked_does_not_wait_either() -> None:
    found = slow(2, 1)
    found.change(members={"full": 3, "witness": 0})
    found.run(120)
    assert found.shape() == shape_of(3, 0)
    found.change(members={"full": 2, "witness": 1})
    found.run(120)
    assert found.shape() == shape_of(2, 1)


def test_a_shape_that_a_person_asks_for_waits_for_a_margin_and_says_so() -> None:
    found = slow(3, 0)
    before = len(found.log)
    found.stop_pod(1, 300)
    found.run(5)
    found.change(members={"full": 2, "witness": 1})
    found.run(200)
    assert kinds(found, before) == []
    assert found.reason("Progressing") == "ShapeWaits"
    assert found.message("Progressing") == "member 3 is to become a witness; no voter can be missed now"
    found.run(300)
    assert found.shape() == shape_of(2, 1)


def test_a_shape_that_a_failure_broke_waits_and_says_until_when() -> None:
    found = settled(2, 1)
    found.stop_pod(1, 200)
    found.run(300)
    changed = found.status.last_role_change
    assert changed is not None
    until = timestamp_of(seconds_at(changed.time) + 600)
    assert found.shape() == {0: "F", 1: "F", 2: "F"}
    assert f"member 3 is to become a witness; the shape is restored from {until} on" in found.message("Progressing")
    writes = found.writes
    found.run(120)
    assert found.writes == writes  # a time, and no countdown
    found.run(600)
    assert found.shape() == shape_of(2, 1)
