"""The exit codes of every command, and the one mapping from errors to them. docs/exit-codes.md says the same."""

from __future__ import annotations

from typing import Final

from lockmaster import errors

OK: Final = 0
FAILED: Final = 1
"""Asked and answered, but not done; in demo and bench: a claim did not hold."""
USAGE: Final = 2
"""A mistake in the command or a field out of its range; nothing was done."""
NOT_FOUND: Final = 3
CONFLICT: Final = 4
"""The key's revision, or the cluster's state, is not the one the command asked for."""
WRONG_DIRECTORY: Final = 66
"""serve, init, restore, recover: the directory or archive is of another kind or format, or needs a newer binary."""
BUSY: Final = 67
"""serve, init, restore, recover: another process has the data directory open."""
UNAVAILABLE: Final = 69
"""No member could be reached, or none leads, within the time allowed; nothing was done."""
INVARIANT: Final = 70
"""serve: a law of the protocol did not hold; the process stopped. A bug: please report it."""
CORRUPT: Final = 71
"""serve, restore, recover, backup: what was read is damaged; the part is named."""
STORAGE_FAILED: Final = 74
"""serve, init, backup, restore, recover: a write, read or sync failed, or the disk is too full."""
UNKNOWN_OUTCOME: Final = 75
"""It may have happened: look before you repeat it."""
AMNESIA: Final = 76
"""serve: the data directory has lost what it once promised: wipe it and join as a new member."""
DENIED: Final = 77
LOCK_TIMEOUT: Final = 124
"""The lock was not granted in time; the command of `run` was not started."""
LOCK_LOST: Final = 125
"""run: the lock was lost while the command ran; the command was stopped."""
NOT_EXECUTABLE: Final = 126
COMMAND_NOT_FOUND: Final = 127
INTERRUPTED: Final = 130
"""Ctrl-C. More generally 128 + n: `run`'s command ended by signal n."""

_BY_ERROR: Final[tuple[tuple[type[Exception], int], ...]] = (
    (errors.InvalidRequest, USAGE),
    (errors.LockTimeout, LOCK_TIMEOUT),
    (errors.LockLost, LOCK_LOST),
    (errors.LockJeopardy, LOCK_LOST),
    (errors.SessionExpired, LOCK_LOST),
    (errors.NotFound, NOT_FOUND),
    (errors.CompareFailed, CONFLICT),
    (errors.PreconditionFailed, CONFLICT),
    (errors.Compacted, NOT_FOUND),
    (errors.PermissionDenied, DENIED),
    (errors.Indeterminate, UNKNOWN_OUTCOME),
    (errors.Unavailable, UNAVAILABLE),
    (errors.Overloaded, UNAVAILABLE),
    (errors.NotLeader, UNAVAILABLE),
)


def exit_code_of(error: errors.LockmasterError) -> int:
    """The exit code for an error that ended a command."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), FAILED)
