"""RFC 3339 timestamps of status, to and from whole seconds since 1970. Pure: nobody asks for the time here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

SECONDS_MAX: Final = 253_402_300_799
"""The last second of the year 9999."""


def timestamp_of(seconds: int) -> str:
    """Such as 2026-11-26T04:00:00Z; clamped to the years 1970 to 9999."""
    moment = datetime.fromtimestamp(min(max(seconds, 0), SECONDS_MAX), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_at(text: str) -> int:
    """Whole seconds since 1970; 0 for a text that is no timestamp (somebody else wrote it)."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return max(0, int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()))


def minute_of_week(seconds: int) -> int:
    """Minutes since Monday 00:00 UTC, 0 … 10079."""
    return (seconds // 60 + 3 * 1440) % (7 * 1440)  # 1 January 1970 was a Thursday
