"""Gates at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

import pytest
from lockmaster_raft.errors import CorruptLog
from lockmaster_raft.gates import Gate, GateOperation, already, deactivated_at, fold, why_not
from lockmaster_raft.ids import Index
from lockmaster_raft.membership import Levels

from .rig import configuration

ACTIVATE, CANCEL = GateOperation.ACTIVATE, GateOperation.CANCEL
DEACTIVATE, FENCE = GateOperation.DEACTIVATE, GateOperation.FENCE
STANDING = Levels(1, 2, Index(5))


@pytest.mark.parametrize("operation", [ACTIVATE, CANCEL])
@pytest.mark.parametrize(("level", "fence_index"), [(2, 6), (2, 4), (3, 5), (1, 5)])
def test_activate_and_cancel_name_the_standing_fence_and_no_other(
    operation: GateOperation, level: int, fence_index: int
) -> None:
    with pytest.raises(CorruptLog, match="does not follow"):
        fold(STANDING, Index(9), Gate(operation, level, Index(fence_index)))


@pytest.mark.parametrize("level", [2, 4])
def test_deactivate_names_the_active_level_and_no_other(level: int) -> None:
    with pytest.raises(CorruptLog, match="does not follow"):
        fold(Levels(3, 3, Index(5)), Index(9), Gate(DEACTIVATE, level))


def test_deactivate_leads_to_the_level_below() -> None:
    assert fold(Levels(4, 4, Index(5)), Index(9), Gate(DEACTIVATE, 4)) == Levels(3, 3, Index(9))


@pytest.mark.parametrize("index", [4, 5])
def test_gates_stand_at_rising_indexes(index: int) -> None:
    with pytest.raises(CorruptLog, match="does not follow"):
        fold(Levels(1, 1, Index(5)), Index(index), Gate(FENCE, 2))


def test_the_last_committed_deactivate_is_found_at_any_index_and_0_means_none() -> None:
    history = [(Index(0), Levels(2, 2)), (Index(300), Levels(1, 1, Index(300)))]
    assert [deactivated_at(history, commit) for commit in (299, 300, 1000)] == [0, 300, 300]
    assert deactivated_at(history[:1], 1000) == 0


@pytest.mark.parametrize("level", [1, 2])
def test_a_level_below_the_active_one_is_not_the_active_one(level: int) -> None:
    assert not already(ACTIVATE, level, Levels(3, 3, Index(5)))


@pytest.mark.parametrize(("operation", "why"), [(FENCE, "is active already"), (CANCEL, "comes too late")])
@pytest.mark.parametrize("level", [2, 3])
def test_a_level_that_is_passed_is_refused_by_name(operation: GateOperation, why: str, level: int) -> None:
    said = why_not(operation, level, Levels(3, 3, Index(5)), (), configuration())
    assert "level 3 is active" in said
    assert why in said
