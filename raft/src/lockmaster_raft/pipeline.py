"""The adaptive pipeline: how much may be on its way to a member at once (raft.md §3).

Theory of operation. The window of requests and bytes starts as wide as the configuration allows. The shortest request
time seen is what network and sync take with nothing before them; when requests take twice that, they wait in a queue at
the other end, and more of them would only wait longer: the window is narrowed by a quarter, at most once per window.
What then waits here is joined into fewer and larger requests, each of which costs the member one sync: so batches grow
with the sync time and the load, and without any linger: a lone write finds nothing on its way and leaves at once. A
request that is lost halves the window; each answer in good time widens it by one request, so it doubles per round trip.

Boost. A member that catches up (after a snapshot, or from far behind) gets a window `boost_factor` times as wide, up to
a quarter of what it says is free on its disk, until it has what the leader's log held then. At most
`boosted_members_max` at once, of those that answered within an election timeout, voters first; none while commits take
longer than a heartbeat interval, for it is the others' bandwidth that a boost takes. While a member that has installed
a snapshot is boosted, the log is kept for it beyond the budget (snapshot.retain), so that it needs no other one.

Laws: REQUESTS_MIN <= requests, whatever happens; nothing here delays a request when none is on its way; a request's own
size is bounded by the configuration alone (the transport's limit).
"""

from __future__ import annotations

from typing import Final

from lockmaster_raft.core import Core
from lockmaster_raft.ids import NodeId
from lockmaster_raft.progress import Progress

REQUESTS_MIN: Final = 4
"""The window is never narrower, or than the configuration's where that is less."""
BATCH_ENTRIES_LIMIT: Final = 4096
"""Most entries of one request, boosted or not: what every release believes."""
BOOST_LAG_BATCHES: Final = 8
"""A member this many whole batches behind is boosted."""


def limits(core: Core, p: Progress) -> tuple[int, int, int]:
    """(requests, bytes) that may be on their way to this member at once, and the entries of one request."""
    config = core.config
    requests, size, entries = config.inflight_requests_max, config.inflight_bytes_max, config.batch_entries_max
    if p.boost_until and p.boost > 1 and is_boosted(core, p):
        requests *= p.boost
        room = size * p.boost
        if p.free_bytes:
            room = min(room, p.free_bytes // 4)
        size = max(size, room)
        entries = max(entries, min(entries * p.boost, BATCH_ENTRIES_LIMIT))
    if p.window_requests and p.window_requests < requests:
        requests = p.window_requests
    if p.window_bytes and p.window_bytes < size:
        size = p.window_bytes
    return requests, size, entries


def answered(core: Core, p: Progress, request_id: int, took_ns: int) -> None:
    """A request was answered in that time."""
    least = p.rtt_min_ns
    p.rtt_min_ns = least = took_ns if not least or took_ns < least else least + ((took_ns - least) >> 10)
    if not p.window_requests and not _is_queueing(core, least, took_ns):
        return
    config = core.config
    if _is_queueing(core, least, took_ns):
        if request_id > p.narrowed_at:
            _narrow(core, p, 3, 4)
        return
    p.window_requests += 1
    p.window_bytes += config.batch_bytes_max
    if p.window_requests >= config.inflight_requests_max * config.boost_factor:
        p.window_requests = p.window_bytes = 0  # as wide as it ever gets


def _is_queueing(core: Core, least: int, took_ns: int) -> bool:
    return took_ns > least + max(least, core.config.heartbeat_interval_ns // 20)


def _narrow(core: Core, p: Progress, numerator: int, denominator: int) -> None:
    requests, size, _ = limits(core, p)
    config = core.config
    least = min(REQUESTS_MIN, config.inflight_requests_max)
    p.window_requests = max(least, requests * numerator // denominator)
    p.window_bytes = max(2 * config.batch_bytes_max, size * numerator // denominator)
    p.narrowed_at = p.request_id


def lost(core: Core, p: Progress) -> None:
    """No answer in time: half the window, half the boost."""
    _narrow(core, p, 1, 2)
    p.boost = max(1, p.boost // 2)


def begin_boost(core: Core, p: Progress) -> None:
    """This member catches up from here on, to what the log holds now."""
    p.boost = core.config.boost_factor
    p.boost_until = core.log.last_index


def look_for_lag(core: Core, p: Progress) -> None:
    """The joint with this member's log was found: boost it if it is far behind."""
    lag = core.log.last_index - p.match
    if not p.boost_until and lag >= BOOST_LAG_BATCHES * core.config.batch_entries_max:
        begin_boost(core, p)


def end_boost(core: Core, p: Progress) -> None:
    """Its match rose: the boost may be over."""
    if p.match >= p.boost_until or core.log.last_index - p.match < core.config.batch_entries_max:
        p.boost, p.boost_until = 1, 0
        core.counts["boosts_ended"] += 1


def is_boosted(core: Core, p: Progress) -> bool:
    """Whether this is one of the members that are boosted now, and commits are quick enough for that."""
    if core.latency.worst_ns(core.now) > core.config.heartbeat_interval_ns:
        return False
    wait = core.config.election_timeout_ns  # a silent member keeps nobody from catching up in its stead
    wanting = [q for q in core.progress.values() if q.boost_until and q.is_live(core.now, wait)]
    if len(wanting) > core.config.boosted_members_max:
        wanting.sort(key=lambda q: (not _votes(core, q.member_id), q.member_id))
        wanting = wanting[: core.config.boosted_members_max]
    return p in wanting


def _votes(core: Core, member_id: NodeId) -> bool:
    return member_id in core.voters or member_id in core.outgoing
