"""What the plans of backups, restores and recoveries see of a Job, and the steps they share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

WORDS_MAX: Final = 512
"""Characters of a pod's last words that are shown."""
CONFLICT: Final = 4
"""Exit code of a job that refuses: what it found is not what was asked for, and nothing was changed."""
POLL_S: Final = 5
"""Pause between two looks at a Job that runs."""


class JobState(StrEnum):
    """How far a Job is."""

    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class JobSeen:
    """One Job and its latest pod."""

    name: str
    uid: str
    state: JobState
    report: Mapping[str, Any] = field(default_factory=dict)
    """What it reported; {} if it did not, or nothing that can be read."""
    words: str = ""
    """Its pod's last words, or why it does not run."""
    exit_code: int | None = None
    """Of its latest pod that ended."""


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Make a Job; one of that name is left as it is."""

    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreateClaim:
    """Make a volume claim; one of that name is left as it is."""

    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Remove a Job and its pods, only while it is this very one."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeleteClaim:
    """Give up the volume of a member, only while it is this very claim."""

    name: str
    uid: str


Step = CreateJob | CreateClaim | DeleteJob | DeleteClaim


def report_of(text: str) -> Mapping[str, Any]:
    """A job's report; {} for anything else than one JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def number(report: Mapping[str, Any], name: str) -> int:
    """A whole number ≥ 0 of a report; 0 if it is none."""
    found = report.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else 0


def text(report: Mapping[str, Any], name: str, length_max: int) -> str:
    """A text of a report, at most so long; "" if it is none."""
    found = report.get(name)
    return found[:length_max] if isinstance(found, str) else ""


def new_cluster_id(uid: str) -> str:
    """The id of the cluster that a LockRestore or QuorumRecovery makes: drawn from its uid, so it is the same twice."""
    return hashlib.sha256(f"lockmaster cluster founded by {uid}".encode()).hexdigest()[:32]
