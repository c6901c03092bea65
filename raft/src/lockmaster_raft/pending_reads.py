"""Linearizable reads on their way: the state that reads.py works on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from lockmaster_raft.ids import INDEX_MAX, NO_NODE, Index, NodeId


@dataclass(slots=True)
class Reads:
    """What a leader answers and what a follower asks. Their number is bounded by pending_reads_max."""

    waiting: list[tuple[NodeId, int]] = field(default_factory=list)
    """Leader: (origin or NO_NODE for own, id), not yet attached to a round."""
    rounds: deque[tuple[int, Index, list[tuple[NodeId, int]]]] = field(default_factory=deque)
    """Leader: (round_id, read index, readers), in order of rounds."""
    pending_count: int = 0
    queued: list[tuple[int, int]] = field(default_factory=list)
    """Follower: (request_id, deadline) waiting for the next attempt."""
    attempt: list[tuple[int, int]] = field(default_factory=list)
    attempt_id: int = 0
    attempt_of: NodeId = NO_NODE
    """The leader that was asked: nobody else's answer releases the attempt."""
    attempt_term: int = 0
    """The term in which it was asked: it leads in this one, or a later one, when it answers."""
    attempt_retry_at: int = INDEX_MAX
    attempt_at: int = 0
    """When the attempt on its way was sent."""
    fresh: tuple[int, Index] | None = None
    """(started, index) of the newest confirmed read whose index is applied: the state is at least of that moment."""
    coming: tuple[int, Index] | None = None
    """The newest confirmed read whose index is not applied yet."""
