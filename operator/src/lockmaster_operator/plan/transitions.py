"""Events: one for each transition between two statuses, none for anything that lasts (operator.md §2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lockmaster_operator.models.conditions import Condition, Truth, condition_of
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus, MemberStatus, Phase

EVENTS_MAX: Final = 16
"""Of one pass; more are dropped: their conditions stand in status."""
_BAD_WHEN: Final = {
    "Ready": Truth.FALSE,
    "QuorumAvailable": Truth.FALSE,
    "Degraded": Truth.TRUE,
    "UpgradeBlocked": Truth.TRUE,
    "Stalled": Truth.TRUE,
}
_QUIET: Final = ("Progressing", "WitnessGate", "Paused", "Ready")
"""Conditions whose change of reason alone is no news."""
_NEWS: Final = (Phase.PROMOTING, Phase.DEMOTING, Phase.LOST, Phase.UNREACHABLE, Phase.SET_ASIDE)


@dataclass(frozen=True, slots=True)
class Event:
    """One Kubernetes Event about the LockCluster."""

    warning: bool
    reason: str
    message: str


def transitions(before: LockClusterStatus, after: LockClusterStatus) -> tuple[Event, ...]:
    """What is worth telling about the way from one status to the next."""
    found = [event for c in after.conditions if (event := _of_condition(condition_of(before.conditions, c.type), c))]
    rows = {row.member_id: row for row in before.members}
    found += [event for row in after.members if (event := _of_member(rows.get(row.member_id), row))]
    gone = sorted(set(rows) - {row.member_id for row in after.members})
    found += [Event(False, "MemberRemoved", f"member {member_id} is no member any more") for member_id in gone]
    if before.gate.level and before.gate.level != after.gate.level:
        found.append(Event(False, "LevelChanged", f"level {after.gate.level} is active, {before.gate.level} was"))
    if before.volume_size and before.volume_size != after.volume_size:
        found.append(Event(False, "VolumesGrow", f"volumes are to have {after.volume_size}, not {before.volume_size}"))
    return tuple(found[:EVENTS_MAX])


def _of_condition(before: Condition | None, after: Condition) -> Event | None:
    bad = _BAD_WHEN.get(after.type) is after.status
    if before is None:
        return Event(True, f"{after.type}{after.reason}", after.message) if bad and after.type != "Ready" else None
    if before.status is after.status and (before.reason == after.reason or after.type in _QUIET):
        return None
    if after.type == "Progressing":
        return None
    if after.reason == "ApiServerRefused":
        return None  # told when it happened
    return Event(bad, f"{after.type}{after.reason}", after.message or f"{after.type} is {after.status.value}")


def _of_member(before: MemberStatus | None, after: MemberStatus) -> Event | None:
    where = f"member {after.member_id} at ordinal {after.ordinal}"
    if before is None:
        return Event(False, "MemberAdded", f"{where} joins as {after.role.value}")
    if before.role is not after.role:
        return Event(False, "RoleChanged", f"{where} is {after.role.value} now")
    if before.phase is after.phase:
        return None
    if after.phase in _NEWS:
        bad = after.phase not in (Phase.PROMOTING, Phase.DEMOTING)
        return Event(bad, f"Member{after.phase.value}", f"{where} is {after.phase.value}")
    if before.phase in _NEWS and after.phase is Phase.STEADY:
        return Event(False, "MemberSteady", f"{where} is back and caught up")
    return None
