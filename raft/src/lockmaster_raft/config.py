"""Settings of the consensus core: durations in nanoseconds, sizes in bytes, every bound stated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lockmaster_raft.role_policy import RolePolicy

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Timing and limits of one node; equal on all members of a cluster except where a field says otherwise."""

    heartbeat_interval_ns: int = 100 * MILLISECOND
    election_timeout_ns: int = 1 * SECOND
    """Base of the randomised timeout, drawn anew each time from [1, 2) × this."""
    drift_ppm_max: int = 10_000
    """Clock drift bound ρ = 1 %, the one constant used wherever two clocks are compared."""
    entry_bytes_max: int = 4 * MIB
    """Largest entry payload; checked at admission."""
    batch_entries_max: int = 256
    batch_bytes_max: int = 1 * MIB
    """Most entries and bytes of one AppendEntries; one larger entry travels alone."""
    inflight_requests_max: int = 64
    inflight_bytes_max: int = 16 * MIB
    """Pipeline window per member."""
    pending_entries_max: int = 4096
    pending_bytes_max: int = 64 * MIB
    """Most uncommitted entries and bytes on a leader before Overloaded."""
    reserved_entries: int = 64
    """Slots above pending_entries_max that only reserved proposals, CONFIG and GATE may use."""
    pending_reads_max: int = 4096
    cache_bytes_max: int = 64 * MIB
    """Most bytes of durable entries kept in memory for sending; unpersisted ones are always kept."""
    log_bytes_max: int = 1024 * MIB
    """Log retention budget of a full member: kept for slow members up to here, then a snapshot serves them."""
    retained_entries_min: int = 10_000
    """Entries kept below the flushed applied index even when every member has them, as far as these bytes go."""
    retained_bytes_max: int = 64 * MIB
    witness_retained_bytes_max: int = 16 * MIB
    """A witness is there to be cheap."""
    unsynced_bytes_max: int = 16 * MIB
    """A leader whose own disk trails the commit index by more than this stops admitting and hands over."""
    caught_up_rounds_max: int = 10
    """Caught-up test of a learner (§4.2.1): the last of at most this many rounds took < one election timeout."""
    fetch_entries_min: int = 4096
    """A member that lacks this many committed entries, or fetch_bytes_min of them, gets them from others."""
    fetch_bytes_min: int = 8 * MIB
    fetch_piece_entries_max: int = 2048
    """Most entries of one piece of a range, 4096 at most; of its bytes it has about batch_bytes_max."""
    boost_factor: int = 4
    """How much wider the window of a member is that catches up (pipeline.py); 1: no wider."""
    boosted_members_max: int = 1

    role_gap_entries_max: int = 256
    """δ of raft.md §4: entries that members of a role change may be behind the commit index at P1, P4 and D1."""
    witness_log_bytes_max: int = 4096 * MIB
    """Log budget of a witness; what happens above it: role_policy.log_policy."""
    role_policy: RolePolicy = field(default_factory=RolePolicy)
    """Who changes roles by themselves, and when."""

    @classmethod
    def fast(cls) -> RaftConfig:
        """The fast profile: heartbeat 50 ms, election timeout 300 ms."""
        return cls(heartbeat_interval_ns=50 * MILLISECOND, election_timeout_ns=300 * MILLISECOND)
