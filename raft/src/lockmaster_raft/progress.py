"""What a leader knows of one member: Progress, its states and its pipeline window.

Laws: match < next; match never falls within a term except by a reported loss of data (an alarm);
len(inflight) <= inflight_requests_max; a reply of another stream epoch moves nothing.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, NamedTuple

from lockmaster_raft.ids import NO_INDEX, Index, Nanos, NodeId


class ProgressState(Enum):
    """PROBE: looking for the joint, one request at a time. REPLICATE: pipelining. CATCHUP: fetching a snapshot."""

    PROBE = "probe"
    REPLICATE = "replicate"
    CATCHUP = "catchup"


PROBE: Final = ProgressState.PROBE
"""Plain names, as in ready.py: Enum look-ups are slow on Python 3.11."""
REPLICATE: Final = ProgressState.REPLICATE
CATCHUP: Final = ProgressState.CATCHUP


class Inflight(NamedTuple):
    """One AppendEntries on the way."""

    request_id: int
    prev_index: int
    last_index: int
    size: int
    sent_at: int
    match: int
    """What the member had proved when this was sent: an answer that shows less means lost data."""


class Progress:
    """One member as its leader sees it; made anew with every leadership."""

    __slots__ = (
        "acked_round",
        "applied",
        "backoff",
        "boot_nonce",
        "catch_rounds",
        "catch_started",
        "catch_target",
        "caught_up",
        "commit_told",
        "contact",
        "covered",
        "epoch",
        "fence_index",
        "free_bytes",
        "inflight",
        "inflight_bytes",
        "lease_until",
        "level_max",
        "level_min",
        "log_first",
        "match",
        "member_id",
        "next",
        "offered_at",
        "offered_index",
        "reachable",
        "ready_epoch",
        "ready_index",
        "report_round",
        "request_id",
        "rtt_ns",
        "rtt_var_ns",
        "sampled",
        "snapshot_min",
        "state",
    )

    def __init__(self, member_id: NodeId, next_index: int, now: Nanos, rtt_ns: int) -> None:
        self.member_id = member_id
        self.state = PROBE
        self.match: Index = Index(0)
        self.next: int = next_index
        self.epoch = 1
        self.request_id = 0
        self.inflight: deque[Inflight] = deque()
        self.inflight_bytes = 0
        self.contact: int = now
        """The leader's clock when it sent the latest heartbeat that this member answered."""
        self.acked_round = 0
        self.lease_until: int = 0
        """By the leader's clock: until then this member refuses all votes (lease.py)."""
        self.reachable = True
        self.rtt_ns = rtt_ns
        self.rtt_var_ns = rtt_ns // 2
        self.sampled = False
        self.backoff = 1
        self.commit_told: int = 0
        self.applied: Index = Index(0)
        self.log_first: Index = Index(0)
        self.free_bytes = 0
        self.covered: int = 0
        """The most that this leader let a witness truncate to (coverage.py)."""
        self.ready_epoch = 0
        self.ready_index: int = 0
        """The side state that a PROMOTING witness reported in this term."""
        self.snapshot_min: int = 0
        """P2 waits for a snapshot at or above this index; 0: it does not."""
        self.level_min = 0
        self.level_max = 0
        self.fence_index: Index = NO_INDEX
        self.boot_nonce = 0
        self.report_round = 0
        """The round whose answer gave level_min, level_max, fence_index and boot_nonce (gating.note_report)."""
        self.offered_index: int = 0
        self.offered_at: int = 0
        self.catch_target: int = 0
        self.catch_started: int = now
        self.catch_rounds = 0
        self.caught_up = False

    def restart(self, next_index: int) -> None:
        """A new stream: what was in flight is void, the joint is probed again."""
        self.state = PROBE
        self.epoch += 1
        self.inflight.clear()
        self.inflight_bytes = 0
        self.next = next_index

    def sample_rtt(self, rtt_ns: int) -> None:
        """RFC 6298 smoothing of the measured request time, the member's sync included."""
        if not self.sampled:
            self.sampled = True
            self.rtt_ns, self.rtt_var_ns = rtt_ns, rtt_ns // 2
            return
        delta = rtt_ns - self.rtt_ns
        self.rtt_ns += delta >> 3
        self.rtt_var_ns += (abs(delta) - self.rtt_var_ns) >> 2

    def retry_after_ns(self, floor_ns: int, ceiling_ns: int) -> int:
        """How long to wait for a reply before the stream restarts."""
        timeout = (self.rtt_ns + 4 * self.rtt_var_ns) * self.backoff
        if timeout > ceiling_ns:
            timeout = ceiling_ns
        return timeout if timeout > floor_ns else floor_ns
