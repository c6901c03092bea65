"""Versions and the way between them: N to N+1 without a skip, and which level each one knows (operator.md §4)."""

from __future__ import annotations

import re
from typing import Final

LEVELS: Final = (((0, 1), 1), ((0, 2), 2))
"""(major, minor) from which on a binary knows this level, ascending: one pair per level."""
_HEAD: Final = re.compile(r"^(\d{1,5})\.(\d{1,5})\.")


def release_of(version: str) -> tuple[int, int] | None:
    """(major, minor), or None for a text that is no version."""
    found = _HEAD.match(version)
    return (int(found[1]), int(found[2])) if found else None


def level_of(version: str) -> int:
    """The highest level that a version knows, as far as this operator does; 1 for one it cannot place."""
    release = release_of(version) or (0, 0)
    return max((level for since, level in LEVELS if since <= release), default=1)


def why_not_path(running: str, target: str) -> str:
    """Why members at `running` cannot go to `target` in one step; "" if they can, up or down."""
    here, there = release_of(running), release_of(target)
    if here is None or there is None:
        return f"{running or 'an unknown version'} to {target} is no path between releases"
    if abs(here[0] - there[0]) > 1:
        return f"version must not skip a major version: {running} runs, {target} is asked for"
    if here[0] == there[0] and abs(here[1] - there[1]) > 1:
        between = f"{here[0]}.{here[1] + (1 if there[1] > here[1] else -1)}"
        return (
            f"version must not skip a minor version: {running} runs, {target} is asked for; go to {between} first, "
            "through every minor version in between, one at a time"
        )
    return ""
