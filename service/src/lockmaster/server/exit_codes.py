"""What the server process tells its parent when it ends; documented in docs, never renumbered."""

from __future__ import annotations

from enum import IntEnum

from lockmaster.server.status import EXIT_AMNESIA, EXIT_INVARIANT, EXIT_STORAGE_FAILED


class ExitCode(IntEnum):
    """Exit codes of `lockmaster serve` and `lockmaster dev`. Restarting helps only where it says so."""

    OK = 0
    """Asked to stop (SIGTERM, SIGINT): leadership handed over, streams drained, state flushed."""
    SETTINGS = 64
    """A setting is missing, unknown or out of range. Restarting does not help."""
    WRONG_DIRECTORY = 66
    """The data directory belongs to something else: another format, another cluster, or another process has it open."""
    JOIN_REFUSED = 69
    """The cluster definitely refused this member (another cluster's id, a removed incarnation, a bad address)."""
    INVARIANT = EXIT_INVARIANT
    """A law of the protocol did not hold, or an error nobody foresaw: a bug, please report it."""
    ADDRESS_IN_USE = 72
    """A listen address could not be bound. Restarting helps once the other process is gone."""
    CERTIFICATE = 73
    """A certificate or key is missing, unreadable or does not match. Restarting helps once it is there."""
    STORAGE_FAILED = EXIT_STORAGE_FAILED
    """A write, read or sync failed, or the data on disk is damaged: the member stopped and guesses nothing."""
    AMNESIA = EXIT_AMNESIA
    """The data directory has lost what it once promised: wipe it and join as a new member."""
