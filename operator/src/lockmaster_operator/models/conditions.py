"""Conditions as kstatus reads them: Ready is there from the first write, observedGeneration stands in each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lockmaster_operator.models.part import LongText, Part, Timestamp


class Truth(StrEnum):
    """The status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Part):
    """One condition. `last_transition_time` moves only with `status`."""

    type: Annotated[str, Field(max_length=64)]
    """Its name in CamelCase."""
    status: Truth
    """True, False or Unknown."""
    reason: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z]([A-Za-z0-9]*)$")]
    """Why, in one CamelCase word; it has a row in docs/operations."""
    message: LongText = ""
    """Why, for people: names the members and numbers, and what to do."""
    last_transition_time: Timestamp
    """When `status` changed last."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this was decided from."""


def condition_of(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    """The condition of this type, or None."""
    for condition in conditions:
        if condition.type == kind:
            return condition
    return None
