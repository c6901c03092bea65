"""What the core reads of the durable log, as a protocol, and its in-memory twin.

The core only ever reads through this; all writing leaves as Ready.persist. Entries that are not yet durable are
the core's own (log.py), so a LogStore need only answer for what its host has been told to persist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lockmaster_raft.entry import Entry
from lockmaster_raft.ids import NO_TIME, Index, Nanos, Term
from lockmaster_raft.ready import Base, HardState


class LogStore(Protocol):
    """Read access to the log as persisted. Law: base.index <= last_index; entries are contiguous above base.index."""

    @property
    def base(self) -> Base:
        """The latest durable base."""

    @property
    def last_index(self) -> Index:
        """Index of the last entry handed to the store, or base.index."""

    def term(self, index: Index) -> Term | None:
        """Term of the entry at `index` (base.index included), or None if it is not in the store."""

    def entries(self, first: Index, stop: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Entries first … stop - 1, cut after the one that reaches `bytes_max` (at least one). Raises StorageFailed."""


@dataclass(frozen=True, slots=True)
class SideState:
    """The state that a promotion built beside a witness's log: of which promotion, and where it stands."""

    epoch: int
    """The configuration epoch of its P1."""
    applied: Index


@dataclass(frozen=True, slots=True)
class BootState:
    """What a node starts from: read from the guard file and the journal by the host."""

    hard_state: HardState
    store: LogStore
    applied: Index
    """Durably applied index of the state machine; base.index <= applied <= last_index. Without one: base.index."""
    level: int = 1
    """The level that the guard file says this member has promised."""
    boot_nonce: int = 0
    """A number of this boot alone, 0 … 2**63 - 1; reports carry it."""
    has_state: bool = True
    """Whether the directory holds a state machine of its own; a witness has none."""
    side: SideState | None = None
    """A side state whose `sm_ready` is there (raft.md §4, P3): opened by the host, `applied` <= its durable index."""
    leader_time: Nanos = NO_TIME
    """Cluster time of the state at `applied`: the log may hold no entry that tells it (service.md §1)."""
