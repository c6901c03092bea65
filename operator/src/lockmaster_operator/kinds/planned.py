"""What a plan of a LockBackup, a LockRestore or a QuorumRecovery is, and how a status is told anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from lockmaster_operator.kinds.jobs import Step
from lockmaster_operator.kinds.telling import Told, conditions, events
from lockmaster_operator.models.backups import LockBackupStatus, LockRestoreStatus
from lockmaster_operator.models.quorum_recovery import QuorumRecoveryStatus
from lockmaster_operator.plan.transitions import Event

RESYNC_S: Final = 300
"""Pause until the next pass while nothing happens."""
S = TypeVar("S", LockBackupStatus, LockRestoreStatus, QuorumRecoveryStatus)
S_co = TypeVar("S_co", LockBackupStatus, LockRestoreStatus, QuorumRecoveryStatus, covariant=True)


@dataclass(frozen=True, slots=True)
class Plan(Generic[S]):
    """What to do. The host writes `status`, if it differs, and then takes the steps in order."""

    steps: tuple[Step, ...]
    status: S
    events: tuple[Event, ...] = ()
    requeue_after_s: int = RESYNC_S


class Stored(Protocol):
    """An object as stored."""

    @property
    def generation(self) -> int:
        """Of its spec."""


class Looked(Protocol[S_co]):
    """One look at it."""

    @property
    def status(self) -> S_co:
        """As it is stored."""

    @property
    def refused(self) -> str:
        """What the API server refused the last pass, in its words."""


def planned(
    own: Stored,
    seen: Looked[S],
    now: int,
    steps: tuple[Step, ...],
    changed: Mapping[str, object],
    told: tuple[Told, ...],
    requeue: int = RESYNC_S,
) -> Plan[S]:
    """These steps, after the status with what has changed in it, its conditions, and an event for each transition.

    While there are steps, what the API server refused of the last ones stands in Progressing, and in Ready while it is
    False.
    """
    before = seen.status
    if seen.refused and steps:
        told = tuple(_with_refusal(one, seen.refused) for one in told)
    update = {
        **changed,
        "observed_generation": own.generation,
        "conditions": conditions(before.conditions, told, own.generation, now),
    }
    return Plan(steps, before.model_copy(update=update), events(before.conditions, told), requeue)


def _with_refusal(told: Told, refused: str) -> Told:
    if told.type != "Progressing" and (told.type, told.truth) != ("Ready", False):
        return told
    return replace(told, message=f"{told.message}; refused: {refused}".removeprefix("; "))
