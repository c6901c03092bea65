"""The distinct kinds of number of the consensus core, each its own type."""

from __future__ import annotations

from typing import Final, NewType

NodeId = NewType("NodeId", int)
"""A member id: one incarnation of one data directory, minted by the leader, never reused. 1 … 2**63 - 1."""

Term = NewType("Term", int)
"""A Raft term. 0 before the first election, then 1 … 2**63 - 1; never falls (§5.1)."""

Index = NewType("Index", int)
"""A log position, from 1. 0 is "before the log"."""

Nanos = NewType("Nanos", int)
"""Nanoseconds: of a boot-time monotonic clock (deadlines) or of cluster time (entry stamps)."""

PersistSeq = NewType("PersistSeq", int)
"""The number of one Persist of one boot, from 1. 0 means "depends on no write"."""

NO_NODE: Final = NodeId(0)
NO_WRITE: Final = PersistSeq(0)
NO_INDEX: Final = Index(0)
NO_TIME: Final = Nanos(0)
INDEX_MAX: Final = 2**63 - 1
"""Largest legal index, term and id; anything above it in a message is refused as out of range."""
