"""What all kinds' plans have in common: conditions, and events on their transitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lockmaster_operator.models.conditions import Condition, Truth, condition_of
from lockmaster_operator.models.timestamps import timestamp_of
from lockmaster_operator.plan.transitions import Event

MESSAGE_MAX: Final = 1024
"""Characters of a condition's message."""


@dataclass(frozen=True, slots=True)
class Told:
    """A condition before it has its times."""

    type: str
    truth: bool | None
    """None: it cannot be known now."""
    reason: str
    message: str = ""
    bad_when: bool | None = None
    """The truth that is bad news; None: it never is."""


def busy(reason: str, message: str, *, bad: bool = False) -> tuple[Told, ...]:
    """Of what is under way; `bad`: and does not go well."""
    return (
        Told("Ready", False, reason, message, bad_when=False if bad else None),
        Told("Progressing", True, reason, message),
    )


def refusal(reason: str, why: str) -> tuple[Told, ...]:
    """Of what is not done, and will not be."""
    return (
        Told("Ready", False, reason, why, bad_when=False),
        Told("Progressing", False, reason),
        Told("Stalled", True, reason, why),
    )


def conditions(
    before: tuple[Condition, ...], told: tuple[Told, ...], generation: int, now: int
) -> tuple[Condition, ...]:
    """The conditions to be stored; `lastTransitionTime` moves only where the status does."""
    found = []
    for one in told:
        truth = Truth.UNKNOWN if one.truth is None else Truth.TRUE if one.truth else Truth.FALSE
        old = condition_of(before, one.type)
        same = old is not None and old.status is truth
        found.append(
            Condition(
                type=one.type,
                status=truth,
                reason=one.reason,
                message=one.message[:MESSAGE_MAX],
                last_transition_time=old.last_transition_time if old is not None and same else timestamp_of(now),
                observed_generation=generation,
            )
        )
    return tuple(found)


def events(before: tuple[Condition, ...], told: tuple[Told, ...]) -> tuple[Event, ...]:
    """One for each condition whose truth has changed, or that was not there and is bad."""
    found = []
    for one in told:
        truth = Truth.UNKNOWN if one.truth is None else Truth.TRUE if one.truth else Truth.FALSE
        bad = one.bad_when is not None and one.truth is one.bad_when
        old = condition_of(before, one.type)
        changed = bad if old is None else old.status is not truth or (bad and old.reason != one.reason)
        if changed and one.type != "Progressing":
            found.append(Event(bad, f"{one.type}{one.reason}", one.message or f"{one.type} is {truth.value}"))
    return tuple(found)
