"""Cron schedules in UTC, by cronsim: when something was due last, and when it is due next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

_NAMED: Final = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


def problem_of(schedule: str) -> str:
    """Why it is no schedule; "" if it is one."""
    try:
        next(CronSim(_NAMED.get(schedule, schedule), datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        return f"schedule: {schedule!r} is never due: {error or 'no day is like that'}"
    return ""


def next_after(schedule: str, at: int) -> int | None:
    """The first time after `at` (both seconds since 1970); None if it is never due."""
    return _step(schedule, at, reverse=False)


def last_before(schedule: str, at: int) -> int | None:
    """The latest time that is not after `at`; None if there was none."""
    return _step(schedule, at + 1, reverse=True)


def _step(schedule: str, at: int, *, reverse: bool) -> int | None:
    try:
        found = next(CronSim(_NAMED.get(schedule, schedule), datetime.fromtimestamp(at, UTC), reverse=reverse))
    except (CronSimError, StopIteration):
        return None
    return int(found.timestamp())
