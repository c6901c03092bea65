"""What the server process tells its parent when it ends; documented in docs, never renumbered."""

from __future__ import annotations

from enum import IntEnum

from lockmaster.server.status import EXIT_AMNESIA, EXIT_INVARIANT, EXIT_STORAGE_FAILED


class ExitCode(IntEnum):
    """Exit codes of `lockmaster serve` and `lockmaster dev`. Restarting helps only where it says so.

    A setting that is missing, unknown or out of range ends them before: exit code 2, as any mistake in a command.
    """

    OK = 0
    """Asked to stop (SIGTERM, SIGINT): leadership handed over, streams drained, state flushed."""
    WRONG_DIRECTORY = 66
    """The data directory was written by another format, or belongs to another cluster. Nothing was changed."""
    BUSY = 67
    """Another process has the data directory open."""
    JOIN_REFUSED = 69
    """The cluster definitely refused this member (another cluster's id, a removed incarnation, a bad address)."""
    INVARIANT = EXIT_INVARIANT
    """A law of the protocol did not hold, or an error nobody foresaw: a bug, please report it."""
    CORRUPT = 71
    """The data on disk is damaged: file and offset are named; the member stopped and guesses nothing."""
    ADDRESS_IN_USE = 72
    """A listen address could not be bound. Restarting helps once the other process is gone."""
    CERTIFICATE = 73
    """A certificate or key is missing, unreadable or does not match. Restarting helps once it is there."""
    STORAGE_FAILED = EXIT_STORAGE_FAILED
    """A write, read or sync of the data directory failed: the member stopped at once."""
    AMNESIA = EXIT_AMNESIA
    """The data directory has lost what it once promised: wipe it and join as a new member."""
