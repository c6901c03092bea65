"""What a member says about itself: settings in, snapshots of its state out. Plain data."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lockmaster_raft.config import RaftConfig
from lockmaster_raft.membership import LEVEL_MAX

EXIT_STORAGE_FAILED: Final = 74
"""A write, read or sync of the data directory failed: the process stopped at once (sysexits EX_IOERR)."""
EXIT_INVARIANT: Final = 70
"""A law of the protocol did not hold, or the loop met an error nobody foresaw (EX_SOFTWARE)."""
EXIT_AMNESIA: Final = 76
"""The data directory has lost what it once promised: wipe it and join as a new member."""


@dataclass(frozen=True, slots=True)
class PeerTls:
    """The two ssl contexts of the peer port; rotated certificates count from the next connection on."""

    server_context: Callable[[], ssl.SSLContext]
    client_context: Callable[[], ssl.SSLContext]
    check_peer: Callable[[int, dict[str, object]], bool] = lambda member_id, certificate: True
    """(member id it claims, its certificate as `getpeercert` tells it) -> may it be that member."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What one engine needs to know before it starts."""

    data_dir: Path
    name: str
    listen_peer: str
    """host:port; port 0 picks a free one (then `Engine.peer_address` tells)."""
    advertise_peer: str
    """host:port that other members dial; "" means what was bound."""
    advertise_client: str
    raft: RaftConfig = field(default_factory=RaftConfig)
    peer_tls: PeerTls | None = None
    scrub_interval_s: float = 86_400.0
    """Seconds between two scrubs of journal and state at rest; 0: none."""
    scrub_bytes_per_s: int = 16 << 20
    """How fast one reads, at most."""
    level_max: int = LEVEL_MAX
    """Highest level that this binary offers (raft.md §6); only tests set another than the build's."""
    witness: bool = False
    """What a blank data directory is made for: a member without a state, that joins as a witness."""


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One row of the member list; progress as the leader knows it, zero elsewhere."""

    member_id: int
    name: str
    peer_address: str
    client_address: str
    voter: bool
    role: str
    phase: str
    leader: bool
    incarnation: bytes
    match_index: int = 0
    lag_entries: int = 0
    reachable: bool = False
    level_min: int = 0
    level_max: int = 0
    fence_index: int = 0
    """Index of the standing FENCE that it reports as durable in its guard file, or 0."""
    rtt_ns: int = 0


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """One member at one moment."""

    cluster_id: bytes
    member_id: int
    name: str
    incarnation: bytes
    role: str
    """blank, learner, follower, witness, pre-candidate, candidate, leader, removed."""
    member_role: str
    """full or witness, as the configuration in force says; of a blank member: what it is made for."""
    phase: str
    """steady, promoting, demoting, leaving; "" on a blank member."""
    serves_state: bool
    """Reads may be served here: it has a state and a full member's privileges."""
    caretaker: bool
    """It leads only to hand over (raft.md §4, I4)."""
    promotion: str
    """How far a promotion is that runs here: fetching, opening, replaying, finishing, ready; else ""."""
    term: int
    leader_id: int
    leader_address: str
    commit_index: int
    applied_index: int
    last_index: int
    log_first_index: int
    durable_index: int
    flushed_index: int
    revision: int
    state_hash: int
    free_bytes: int
    log_bytes: int
    copy_bytes: int
    """Free bytes that a new cluster founded beside this state asks for; 0: not known, or no state."""
    log_bytes_max: int
    """What the log may take: a witness's budget, a full member's retention."""
    level_active: int
    level_fence: int
    """Above level_active while a FENCE stands, else equal to it."""
    gate_epoch: int
    """Index of the latest committed GATE entry, 0 for none."""
    level_max: int
    level_floor: int
    """Lowest level of a binary that can open its data directory."""
    pods_mark: int | None
    """As StateMachine's; None without state."""
    uptime_ms: int
    peer_address: str
    client_address: str
    configuration_epoch: int
    reduced_commit: bool
    members: tuple[MemberStatus, ...]
    alarms: tuple[str, ...]
    snapshot_progress: float
    counters: dict[str, int]
    """Monotonic counts for telemetry: entries, operations, syncs, frames refused, messages dropped, …"""
    refusals: dict[str, int]
    """Messages that the core refused or ignored since the start, by reason (a fixed set of texts)."""
