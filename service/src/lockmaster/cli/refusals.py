"""What the user is told to do next, by kind of error; and a refusal with its own exit code."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lockmaster import errors


class Refused(click.ClickException):
    """One line and an exit code, for a command that can't go on."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def refuse_a_file(data_dir: Path, code: int, more: str = "") -> None:
    """Raises Refused, with `more` at its line's end, where a data directory is something else."""
    if os.path.lexists(data_dir) and not data_dir.is_dir():
        raise Refused(f"--data-dir: {data_dir} is a file, not a directory{more}", code)


_NEXT_STEPS: tuple[tuple[type[Exception], str], ...] = (
    (errors.Unavailable, "are the servers up, and --endpoints (LOCKMASTER_ENDPOINTS) theirs? try `lockmaster status`"),
    (errors.NotLeader, "no leader answered; try `lockmaster status`"),
    (errors.Overloaded, "the cluster is at a limit; try again shortly"),
    (errors.Indeterminate, "look at the lock or key before repeating it"),
    (errors.LockTimeout, "`lockmaster lock inspect NAME` shows who holds it"),
    (errors.SessionExpired, "what was held is lost; run the command again for a new session"),
    (errors.CompareFailed, "read the key again, then repeat with its revision"),
    (errors.PermissionDenied, "ask for a role that allows it, or give --cert and --key"),
    (errors.Compacted, "ask from that revision on"),
)


def next_step(error: errors.LockmasterError) -> str:
    """ "; do this" for the error, or ""."""
    return next((f"; {text}" for kind, text in _NEXT_STEPS if isinstance(error, kind)), "")
