"""Committed ranges from other members than the leader (raft.md §3).

Theory of operation. A member that lacks much of the log does not get it from the leader. The leader names the range by
anchors, (index, term) pairs about a batch apart, the first of which is the joint that it has proved, and the members
that hold it (CatchUp). The member asks several of them at once for the pieces between two anchors (FetchRange), takes a
piece when its end is the anchor that the leader named, appends them in order, and tells the leader what is durable
(CatchUpReply). By the Log Matching Property (index, term) names everything before it, so an anchor is the content
address of all up to it, and a piece that is in the own log already is found by it: that is how a fetch goes on after a
crash of any of the three. All that is named is committed when it is named, so it is committed here once it is here.

When no source is left the member says so, and when it makes no progress in time the leader stops waiting: in either
case the leader sends the entries itself, and names what is still missing then to the sources again after a while.

Laws: a source serves nothing above its own commit index; what a source says moves neither term nor leader contact, and
no commit index but through an anchor of the current term's leader; nothing is reported before it is durable.
"""

from __future__ import annotations

from typing import Final

from lockmaster_raft import follower, pipeline
from lockmaster_raft.core import Core
from lockmaster_raft.coverage import promised
from lockmaster_raft.entry import CONFIG, Entry
from lockmaster_raft.errors import LevelUnsupported
from lockmaster_raft.ids import NO_NODE, Index, NodeId, Term
from lockmaster_raft.messages import CatchUp, CatchUpReply, FetchRange, FetchRangeReply
from lockmaster_raft.pieces import Pieces, RangeFetch, timeout_ns
from lockmaster_raft.progress import FETCHING, REPLICATE, Progress
from lockmaster_raft.ready import Channel
from lockmaster_raft.validate import why_not_payload
from lockmaster_raft.validate_fetch import ANCHORS_MAX, RANGE_ENTRIES_MAX
from lockmaster_raft.validate_known import is_other, why_not_entries

SOURCES_MAX: Final = 8
"""Most sources that a leader names."""
PIECE_BYTES_MAX: Final = 16 << 20
"""Most bytes of one piece, which its receiver keeps until all of it is there: PIECES_OUTSTANDING_MAX times as much of
a fetch. It has about batch_bytes_max as a rule; one that has more than this comes from the leader."""
BARRED_TIMEOUTS_MIN: Final = 1
BARRED_TIMEOUTS_MAX: Final = 16
"""Election timeouts for which a leader sends itself after a fetch that came to nothing: twice as long each time, until
one is done."""


# --- the leader's side ----------------------------------------------------------------------------------------------


def begin(core: Core, p: Progress) -> bool:
    """Have this member, whose joint is proved, fetch what it lacks; False: it lacks little, or nobody can serve it."""
    config = core.config
    if not config.fetch_entries_min or core.now < p.fetch_barred or not core.witness_level or core.is_caretaker:
        return False
    lag = core.commit_index - p.match
    if lag < config.fetch_entries_min:
        if lag <= 0 or _bytes_lacked(core, p) < config.fetch_bytes_min:
            return False
    joint = core.log.term(p.match)
    if joint is None or not promised(core, p):
        return False
    upto, sources = _sources(core, p, lag)
    if not sources:
        return False
    entries_max = min(config.fetch_piece_entries_max, RANGE_ENTRIES_MAX)
    bounds = core.log.boundaries(p.match, upto, config.batch_bytes_max, entries_max, ANCHORS_MAX - 1)
    anchors = ((p.match, joint), *((Index(at), core.log.term_at(at)) for at in bounds))
    p.restart(p.match + 1)
    p.state = FETCHING
    p.fetch_upto = bounds[-1]
    p.fetch_deadline = core.now + fetch_timeout(core)
    core.counts["ranges_named"] += 1
    core.send(CatchUp(core.header(p.member_id), p.epoch, anchors, sources))
    return True


def fetch_timeout(core: Core) -> int:
    """How long a leader waits for progress of a fetch."""
    return 2 * timeout_ns(core.config.election_timeout_ns)


def _sources(core: Core, p: Progress, lag: int) -> tuple[int, tuple[NodeId, ...]]:
    """(the last index, the members that hold all up to there and know it to be committed), the most advanced ones."""
    able = [
        q
        for q in core.progress.values()
        if q is not p
        and q.state is REPLICATE
        and q.reachable
        and q.is_live(core.now, core.config.election_timeout_ns)
        and 0 < q.log_first <= p.match + 1
        and q.commit > p.match
        and promised(core, q)
    ]
    if not able:
        return 0, ()
    best = max(q.commit for q in able)
    chosen = sorted((q for q in able if q.commit - p.match >= (best - p.match) // 2), key=lambda q: -q.commit)
    chosen = chosen[:SOURCES_MAX]
    upto = min(core.commit_index, *(q.commit for q in chosen))
    if 2 * (upto - p.match) < lag:
        return 0, ()
    return upto, tuple(sorted(q.member_id for q in chosen))


def look(core: Core) -> None:
    """With the heartbeat duties: a member may have fallen far behind on a stream that works."""
    config = core.config
    if not config.fetch_entries_min:
        return
    for p in core.progress.values():
        if p.state is REPLICATE and p.match and p.match < core.commit_index and core.now >= p.fetch_barred:
            many = core.commit_index - p.match >= 2 * config.fetch_entries_min
            if many or _bytes_lacked(core, p) - p.inflight_bytes >= 2 * config.fetch_bytes_min:
                begin(core, p)


def _bytes_lacked(core: Core, p: Progress) -> int:
    """About how many committed bytes are above what this member has proved."""
    return core.log.bytes_above(p.match) - core.log.bytes_above(core.commit_index)


def on_reply(core: Core, p: Progress, m: CatchUpReply) -> bool:
    """The member's word on its fetch; True if its match rose. At its end the stream starts again."""
    if m.stream_epoch != p.epoch or p.state is not FETCHING:
        core.refuse("range reply of another stream")
        return False
    if m.match_index > p.fetch_upto:
        core.refuse("range reply beyond what was named")
        return False
    if max(m.applied, m.log_first - 1) > core.log.last_index:
        core.refuse("range reply beyond the leader's log")
        return False
    p.applied = max(p.applied, m.applied)
    p.log_first = max(p.log_first, m.log_first)
    p.free_bytes = m.free_bytes
    rose = m.match_index > p.match
    if rose:
        p.match = m.match_index
        p.fetch_deadline = core.now + fetch_timeout(core)
    if m.reason:
        core.refuse("range not fetched by a member")
        fall_back(core, p)
    elif p.match >= p.fetch_upto:
        p.fetch_failed = 0
        p.restart(p.match + 1)
    return rose


def fall_back(core: Core, p: Progress) -> None:
    """The fetch came to nothing: the leader sends the entries itself."""
    core.counts["ranges_fallen_back"] += 1
    p.fetch_failed = min(2 * p.fetch_failed or BARRED_TIMEOUTS_MIN, BARRED_TIMEOUTS_MAX)
    p.fetch_barred = core.now + p.fetch_failed * core.config.election_timeout_ns
    p.restart(p.match + 1)
    pipeline.begin_boost(core, p)


# --- the receiver's side --------------------------------------------------------------------------------------------


def on_catch_up(core: Core, m: CatchUp) -> None:
    """The leader (already followed) names a range: fetch what of it is not here."""
    log = core.log
    joint_index, joint_term = m.anchors[0]
    if joint_index > log.last_index or (joint_index > core.commit_index and log.term(joint_index) != joint_term):
        core.ranges = None
        _reply(core, m.header.sender, m.stream_epoch, Index(0), "the log does not join")
        return
    sources = [s for s in m.sources if s not in (core.node_id, m.header.sender)]
    pieces = Pieces(len(m.anchors) - 1, sources, NO_NODE)
    core.ranges = fetch = RangeFetch(m.header.sender, m.stream_epoch, m.anchors, pieces)
    for number, (index, term) in enumerate(m.anchors[1:]):
        if index <= core.commit_index or log.term(index) == term:
            fetch.done = number + 1
    for number in range(fetch.done):
        pieces.hold(number)
    if fetch.done:
        core.counts["ranges_resumed"] += 1
        follower.commit_upto(core, fetch.anchors[fetch.done][0])
    _report(core, fetch)
    pump(core)


def pump(core: Core) -> None:
    """Ask for as many missing pieces as the window allows; without anybody to ask, say so and end it."""
    fetch = core.ranges
    if fetch is None:
        return
    while (asked := fetch.pieces.ask(core.now, timeout_ns(core.config.election_timeout_ns))) is not None:
        fetch.parts[asked[0]] = []
        _ask(core, fetch, *asked)
    if fetch.pieces.is_exhausted:
        core.ranges = None
        match = fetch.anchors[fetch.done][0]
        _reply(core, fetch.leader, fetch.stream_epoch, match, "no source is left")


def _ask(core: Core, fetch: RangeFetch, number: int, source: NodeId) -> None:
    part = fetch.parts[number]
    prev = (part[-1].index, part[-1].term) if part else fetch.anchors[number]
    core.send(FetchRange(core.header(source), *prev, *fetch.anchors[number + 1]), after=core.after())


def on_range_reply(core: Core, m: FetchRangeReply) -> None:
    """A piece, a part of one, or the news that this source has none of it."""
    fetch, sender = core.ranges, m.header.sender
    if fetch is None:
        core.refuse("range piece that is not being fetched")
        return
    asked = [n for n, a in fetch.pieces.outstanding.items() if fetch.anchors[n + 1][0] == m.last_index]
    number = asked[0] if asked else -1
    if not asked or fetch.pieces.outstanding[number].source != sender:
        core.refuse("range piece not asked for")
        return
    part = fetch.parts[number]
    prev = (part[-1].index, part[-1].term) if part else fetch.anchors[number]
    if m.prev_index != prev[0]:
        core.refuse("range piece not asked for")
        return
    why = _why_not(m, prev[1], fetch.anchors[number + 1])
    if not why and sum(e.size for e in part) + sum(e.size for e in m.entries) > PIECE_BYTES_MAX:
        why = "range piece too large"
    if why:
        core.refuse(why)
        if m.entries:
            core.alarm("bad_source", f"member {sender} served entries after {m.prev_index}: {why}")
        fetch.parts[number] = []
        fetch.pieces.not_there(number, sender)
    else:
        _take(core, fetch, number, m)
    pump(core)


def _why_not(m: FetchRangeReply, prev_term: Term, anchor: tuple[Index, Term]) -> str:
    """Why these entries are not the piece, or the next part of the piece, that ends with this anchor."""
    if not m.entries:
        return "range piece not there"
    last = m.entries[-1]
    if m.entries[0].term < prev_term or last.term > anchor[1]:
        return "range piece of another log"
    if last.index == anchor[0] and last.term != anchor[1]:
        return "range piece of another log"
    if any(e.kind is CONFIG and why_not_payload(e.payload) for e in m.entries):
        return "configuration entry malformed"
    return ""


def _take(core: Core, fetch: RangeFetch, number: int, m: FetchRangeReply) -> None:
    fetch.parts[number] += m.entries
    deadline = core.now + timeout_ns(core.config.election_timeout_ns)
    core.counts["range_entries_fetched"] += len(m.entries)
    if m.entries[-1].index < fetch.anchors[number + 1][0]:
        fetch.pieces.goes_on(m.header.sender, deadline)
        _ask(core, fetch, number, m.header.sender)
        return
    fetch.pieces.came(number, m.header.sender, deadline)
    before = fetch.done
    while fetch.done in fetch.pieces.used:
        if not _append(core, fetch):
            return
    if fetch.done > before:
        _report(core, fetch)


def _append(core: Core, fetch: RangeFetch) -> bool:
    """Append the next piece, which is whole; False if it contradicts itself, and is to be had elsewhere."""
    number = fetch.done
    entries = tuple(fetch.parts.pop(number))
    index, term = fetch.anchors[number + 1]
    if is_other(core, index, term):
        # Committed since the range was named, by the word of who named it: what follows joins to nothing.
        core.refuse("range of another log")
        core.ranges = None
        _reply(core, fetch.leader, fetch.stream_epoch, Index(0), "the log does not join")
        return False
    if index > core.commit_index:
        why = _why_not_here(core, entries)
        if why:
            core.refuse(why)
            core.alarm("bad_source", f"member {fetch.pieces.used[number]} served entries up to {index}: {why}")
            fetch.pieces.refused(number)
            return False
        follower.merge(core, entries)
        follower.commit_upto(core, index)
    fetch.pieces.hold(number)
    fetch.done += 1
    return core.ranges is fetch


def _why_not_here(core: Core, entries: tuple[Entry, ...]) -> str:
    """Why a whole piece can't follow the own log, or "".

    What would stop this binary does not: a source proves nothing. If it is in the log, the leader itself sends it.
    """
    try:
        return why_not_entries(core, entries) or ""
    except LevelUnsupported:
        return "range piece of another log"


def _report(core: Core, fetch: RangeFetch) -> None:
    """What is appended, once it is durable; with the last piece the fetch is over."""
    if fetch.done == fetch.pieces.total:
        core.ranges = None
    _reply(core, fetch.leader, fetch.stream_epoch, fetch.anchors[fetch.done][0])


def _reply(core: Core, leader: NodeId, epoch: int, match: Index, reason: str = "") -> None:
    reply = CatchUpReply(
        core.header(leader), epoch, match, core.applied, Index(core.log.base.index + 1), core.free_bytes, reason
    )
    core.send(reply, after=core.after(max(match, core.log.base.index)))


def expire(core: Core) -> None:
    """Pieces that did not come in time are asked for of another source."""
    fetch = core.ranges
    if fetch is not None:
        fetch.pieces.expire(core.now)
        pump(core)


# --- the source's side ----------------------------------------------------------------------------------------------


def on_fetch_range(core: Core, m: FetchRange) -> None:
    """Serve committed entries of the own log, whatever the role."""
    log = core.log
    stop = min(m.last_index, core.commit_index) + 1
    joins = m.prev_index >= log.base.index and log.term(m.prev_index) == m.prev_term
    if joins and m.last_index < stop:
        joins = log.term(m.last_index) == m.last_term
    entries: tuple[Entry, ...] = ()
    if joins and m.prev_index + 1 < stop and not core.removed:
        entries = log.entries(m.prev_index + 1, stop, RANGE_ENTRIES_MAX, core.config.batch_bytes_max)
        core.counts["range_entries_served"] += len(entries)
    reply = FetchRangeReply(core.header(m.header.sender), m.prev_index, m.last_index, entries)
    core.send(reply, Channel.BULK, core.after())
