"""Scheduled archives that never began: which they are, and how that is told. Pure, and bounded by RUNS_MAX.

`status.following` is since when, and by which schedule, due times count: what went by before, under another schedule or
while it was suspended was not missed. Laws: each missed time is told in one event; `status.missed` never moves back; an
archive that begins ends the condition, and `status.missed` stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lockmaster_operator.kinds.schedules import last_before
from lockmaster_operator.kinds.telling import Told
from lockmaster_operator.models.backups import ArchivePhase, Following, LockBackupSpec, LockBackupStatus
from lockmaster_operator.models.conditions import condition_of
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.models.timestamps import seconds_at, timestamp_of
from lockmaster_operator.plan.transitions import Event

FIRST_LOOK_S: Final = 172_800
"""Since its making so much may go by until the first look at a LockBackup."""
RUNS_MAX: Final = 100
"""Due times that are looked at in one pass; of more the latest are."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What was missed since it was told last."""

    last: int
    """When the latest of them was due, in seconds since 1970."""
    count: int
    """RUNS_MAX: so many or more."""


def missed(schedule: str, after: int, now: int, deadline_s: float) -> Missed | None:
    """Due times later than `after` that can't begin any more: the deadline has passed, or a later one is due."""
    at = last_before(schedule, now)
    if at is not None and now - at <= deadline_s:
        at = last_before(schedule, at - 1)
    last, count = at, 0
    while at is not None and at > after and count < RUNS_MAX:
        count += 1
        at = last_before(schedule, at - 1)
    return Missed(last, count) if last is not None and count else None


def begun_at(status: LockBackupStatus, created: int) -> int:
    """When the latest archive began; without one, when the LockBackup was made."""
    return max((seconds_at(one.started) for one in status.archives), default=created)


def following(spec: LockBackupSpec, before: LockBackupStatus, created: int, now: int) -> Following | None:
    """Since when due times count; None: they don't. From its making on, or from the look that sees it change.

    One without a status that is older than FIRST_LOOK_S may have lost it, and its archives' times with it: what it
    missed until now nobody can tell.
    """
    if spec.schedule is None or spec.suspend:
        return None
    known = before.following
    if known is not None and known.schedule == spec.schedule:
        return known
    unseen = not before.observed_generation and now - created <= FIRST_LOOK_S
    return Following(schedule=spec.schedule, since=timestamp_of(created if unseen else now))


def missed_now(
    spec: LockBackupSpec, follows: Following | None, before: LockBackupStatus, created: int, now: int
) -> Missed | None:
    """What was missed and has not been told yet, by the status as it is stored."""
    if follows is None:
        return None
    told = seconds_at(before.missed) if before.missed is not None else 0
    after = max(begun_at(before, created), seconds_at(follows.since), told)
    return missed(follows.schedule, after, now, seconds_of(spec.starting_deadline))


def condition(spec: LockBackupSpec, missed_at: int, begun: int, upcoming: int | None) -> Told:
    """Missed: True from a missed time until an archive begins."""
    if missed_at <= begun:
        last = f"the last one that was missed was due at {timestamp_of(missed_at)}" if missed_at else ""
        return Told("Missed", False, "OnSchedule", last)
    why = f"the archive due at {timestamp_of(missed_at)} was not begun within startingDeadline"
    or_before = "or before the next one was due"
    return Told("Missed", True, "NotBegun", f"{why} ({spec.starting_deadline}) {or_before}; {_next(spec, upcoming)}")


def event(spec: LockBackupSpec, found: Missed, before: LockBackupStatus, upcoming: int | None) -> Event:
    """For all that was missed since the last one."""
    many = f"{'at least ' if found.count == RUNS_MAX else ''}{found.count} archives were missed, the last one"
    what = many if found.count > 1 else "an archive was missed,"
    until = f"within startingDeadline ({spec.starting_deadline}) or before the next one was due"
    words = f"{what} due at {timestamp_of(found.last)}: not begun {until}"
    return Event(True, "BackupMissed", f"{words}{_cause(before)}; {_next(spec, upcoming)}")


def _cause(before: LockBackupStatus) -> str:
    """What stood in the way at the last look; "" where nothing did: nobody looked."""
    ready = condition_of(before.conditions, "Ready")
    if ready is not None and ready.reason == "ClusterNotFound":
        return f", {ready.message[:256]}"
    running = next((one for one in before.archives if one.phase is ArchivePhase.RUNNING), None)
    return f", {running.name} was still being made" if running is not None else ""


def _next(spec: LockBackupSpec, upcoming: int | None) -> str:
    if spec.suspend:
        return "spec.suspend is true"
    return f"the next one is due at {timestamp_of(upcoming)}" if upcoming is not None else "no other one is due"
