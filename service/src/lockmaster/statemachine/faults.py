"""What stops a node that applies: an entry whose bytes are not what some encoder made."""

from __future__ import annotations

from lockmaster_raft.errors import CorruptLog, InvariantViolation

__all__ = ["InvalidEntry", "InvariantViolation"]


class InvalidEntry(CorruptLog):
    """The bytes of a command, batch or record are not in the format. A node that meets one in its log stops."""
