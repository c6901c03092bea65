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
    """PROBE: looking for the joint, one request at a time. REPLICATE: pipelining. CATCHUP: fetching a snapshot.

    FETCHING: getting a committed range from other members; the leader sends it heartbeats only.
    """

    PROBE = "probe"
    REPLICATE = "replicate"
    CATCHUP = "catchup"
    FETCHING = "fetching"


PROBE: Final = ProgressState.PROBE
"""Plain names, as in ready.py: Enum look-ups are slow on Python 3.11."""
REPLICATE: Final = ProgressState.REPLICATE
CATCHUP: Final = ProgressState.CATCHUP
FETCHING: Final = ProgressState.FETCHING


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
        "boost",
        "boost_until",
        "boot_nonce",
        "catch_rounds",
        "catch_started",
        "catch_target",
        "caught_up",
        "commit",
        "commit_told",
        "contact",
        "covered",
        "epoch",
        "fence_index",
        "fetch_barred",
        "fetch_deadline",
        "fetch_failed",
        "fetch_upto",
        "floor_told",
        "free_bytes",
        "heard_at",
        "inflight",
        "inflight_bytes",
        "lease_until",
        "level_max",
        "level_min",
        "log_first",
        "manifest",
        "match",
        "member_id",
        "narrowed_at",
        "next",
        "offered_at",
        "offered_index",
        "offered_max",
        "reachable",
        "ready_epoch",
        "ready_index",
        "report_round",
        "request_id",
        "rtt_min_ns",
        "rtt_ns",
        "rtt_var_ns",
        "sampled",
        "snapshot_index",
        "snapshot_min",
        "state",
        "window_bytes",
        "window_requests",
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
        self.heard_at: int = now
        """When the last answer to a heartbeat came: `contact` is by a round trip older."""
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
        self.commit: Index = Index(0)
        """Its commit index as last reported: what it can serve to others."""
        self.log_first: Index = Index(0)
        self.free_bytes = 0
        self.covered: int = 0
        """The most that this leader let a witness truncate to (coverage.py)."""
        self.ready_epoch = 0
        self.ready_index: int = 0
        """The side state that a PROMOTING witness reported in this term."""
        self.snapshot_min: int = 0
        """P2 waits for a snapshot at or above this index; 0: it does not."""
        self.level_min = self.level_max = 0
        self.fence_index: Index = NO_INDEX
        self.boot_nonce = 0
        self.report_round = 0
        """The round whose answer gave level_min, level_max, fence_index and boot_nonce (gating.note_report)."""
        self.offered_index: int = 0
        self.offered_max: int = 0
        """The highest snapshot or anchor that was named to it in this term: an answer to an earlier one may be late."""
        self.offered_at: int = 0
        self.catch_target: int = 0
        self.catch_started: int = now
        self.catch_rounds = 0
        self.caught_up = False
        self.fetch_upto: int = 0
        """FETCHING: the last anchor that it was named."""
        self.fetch_deadline: int = 0
        """FETCHING: without progress by then the leader sends the entries itself."""
        self.fetch_barred: int = 0
        """Until then the leader sends itself: the fetch before came to nothing."""
        self.fetch_failed = 0
        """For how many election timeouts that was; 0: the last fetch was done."""
        self.floor_told: int = -1
        """The floor of the last Retain; -1: none was sent."""
        self.snapshot_index: Index = Index(0)
        self.manifest = b""
        """The snapshot that it can serve (SourceReport)."""
        self.window_requests = 0
        self.window_bytes = 0
        """The adaptive window (pipeline.py); 0: not narrowed."""
        self.narrowed_at = 0
        """Last request on its way when the window was narrowed: once per window."""
        self.rtt_min_ns = 0
        self.boost = 1
        """How much wider the window may be; > 1 while it catches up."""
        self.boost_until: int = 0
        """The boost ends with this match."""

    def restart(self, next_index: int) -> None:
        """A new stream: what was in flight is void, the joint is probed again."""
        self.state = PROBE
        self.epoch += 1
        self.inflight.clear()
        self.inflight_bytes = 0
        self.next = next_index

    def is_live(self, now: int, election_timeout_ns: int) -> bool:
        """Whether it answered a heartbeat that was sent within the last election timeout."""
        return now - self.contact < election_timeout_ns

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


class CommitLatency:
    """How long entries of this leadership take from append to commit: one at a time is measured, then smoothed."""

    __slots__ = ("_at", "_index", "average_ns")

    def __init__(self) -> None:
        self.average_ns = 0
        self._index = 0
        self._at = 0

    def appended(self, index: int, now: int) -> None:
        """An own entry was appended: measure it, unless another is being measured."""
        if not self._index:
            self._index, self._at = index, now

    def committed(self, commit_index: int, now: int) -> None:
        """The commit index rose."""
        if self._index and commit_index >= self._index:
            self.average_ns += (now - self._at - self.average_ns) >> 3
            self._index = 0

    def restart(self) -> None:
        """A new leadership: what was being measured may never commit."""
        self._index = 0

    def worst_ns(self, now: int) -> int:
        """The average, or what the entry being measured has waited already if that is more."""
        return max(self.average_ns, now - self._at) if self._index else self.average_ns
