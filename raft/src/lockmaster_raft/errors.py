"""Errors of the consensus core, named for what the caller may do."""

from __future__ import annotations

from lockmaster_raft.ids import NodeId


class RaftError(Exception):
    """Base of every error of this package."""


class InvariantViolation(RaftError):
    """A bug: a law of the protocol does not hold. The process stops with a dump; nothing is repaired."""


class StorageFailed(RaftError):
    """A read, write or sync failed. This node stops; it never retries and never guesses."""


class CorruptLog(StorageFailed):
    """Bytes on disk or in an entry are not what was written. Names the file and offset where known."""


class LevelUnsupported(StorageFailed):
    """The log or the data directory needs a binary of other levels (raft.md §6); this one stops, nothing is changed."""


class ProposalRefused(RaftError):
    """A proposal was not appended: it certainly did not happen and may be sent again elsewhere or later."""


class NotLeader(ProposalRefused):
    """This node does not lead; `leader_hint` is who it believes does, or 0."""

    def __init__(self, leader_hint: NodeId) -> None:
        super().__init__(f"not the leader; leader hint: {leader_hint or 'unknown'}")
        self.leader_hint = leader_hint


class Overloaded(ProposalRefused):
    """A stated maximum of pending entries or bytes is reached; try again after `retry_after_ns`."""

    def __init__(self, what: str, retry_after_ns: int) -> None:
        super().__init__(f"overloaded: {what}")
        self.retry_after_ns = retry_after_ns


class NotReady(ProposalRefused):
    """The leader cannot take this yet: no own-term commit, fewer than two full voters, or a transfer runs."""


class NotYet(NotReady):
    """Not ready for a moment only, whatever is asked for: a change or the term's first entry is about to commit."""


class ChangeRefused(ProposalRefused):
    """A configuration change breaks a precondition; the text names the member and the number in the way."""


class EntryTooLarge(ProposalRefused):
    """The payload is larger than entry_bytes_max: the caller must split it."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"an entry of {size} bytes is larger than {limit}")
        self.size = size
        self.limit = limit
