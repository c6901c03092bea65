"""Sending entries: one pipelined stream per member (§3.5, §10.2.1), heartbeats in rounds beside it.

A stream starts in PROBE: one request, with the first batch on board, at the guessed joint. A success opens the
pipeline (REPLICATE): batches leave as long as the window of requests and bytes (pipeline.py) has room, without waiting.
A mismatch names the conflicting term and its first index, so the leader skips a term per probe, and an empty member is
found in two probes whatever the log's length. What is below the log's base becomes a snapshot (CATCHUP). Of a member
that lacks much (FETCHING) the other members are asked (ranges.py).
"""

from __future__ import annotations

from lockmaster_raft import pipeline
from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.ids import Index
from lockmaster_raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from lockmaster_raft.progress import CATCHUP, FETCHING, PROBE, REPLICATE, Inflight, Progress
from lockmaster_raft.ready import Channel
from lockmaster_raft.snapshot import offer

PROBE_BYTES_MAX = 64 << 10
"""Bytes a probe carries: a wrong guess costs no more than this."""


def replicate(core: Core, p: Progress) -> None:
    """Send what this member's window has room for."""
    if p.state is REPLICATE:
        last = core.log.last_index
        if p.next > last:
            return
        requests_max, bytes_max, entries_max = pipeline.limits(core, p)
        while p.next <= last and len(p.inflight) < requests_max and p.inflight_bytes < bytes_max:
            if not send_append(core, p, entries_max, core.config.batch_bytes_max):
                return
    elif p.state is PROBE:
        if not p.inflight:
            send_append(core, p, core.config.batch_entries_max, PROBE_BYTES_MAX)
    elif p.state is CATCHUP:
        offer(core, p)


def replicate_all(core: Core) -> None:
    """Send to every member what its window has room for."""
    for p in core.progress.values():
        replicate(core, p)


def send_append(core: Core, p: Progress, entries_max: int, bytes_max: int) -> bool:
    """Send one AppendEntries from p.next on; False when the log no longer reaches back that far."""
    log = core.log
    prev_index = p.next - 1
    prev_term = log.term(prev_index)
    if prev_term is None:
        p.restart(p.next)
        p.state = CATCHUP
        p.offered_index = 0
        offer(core, p)
        return False
    entries = log.entries(p.next, log.last_index + 1, entries_max, bytes_max)
    p.request_id += 1
    message = AppendEntries(
        core.header(p.member_id),
        p.epoch,
        p.request_id,
        Index(prev_index),
        prev_term,
        entries,
        core.commit_index,
    )
    core.send(message, Channel.BULK)
    size = 0
    for entry in entries:
        size += len(entry.payload) + 48
    last = prev_index + len(entries)
    p.inflight.append(Inflight(p.request_id, prev_index, last, size, core.now, p.match))
    p.inflight_bytes += size
    p.commit_told = max(p.commit_told, min(core.commit_index, last))
    if p.state is REPLICATE:
        p.next = last + 1
    return True


def match_bound(p: Progress, request_id: int) -> int:
    """The most that an answer to this request proves: what it had on board, or what is proved already if it is over.

    Exact, for a member answers prev + n of the request (messages.py), whatever more it holds: ranges, a snapshot, a
    tail from before a restart. What it got from others it proves by CatchUpReply and InstallSnapshotReply. A request
    that is not on its way any more was answered, by itself or by a later one: so a duplicate proves nothing new.
    """
    return next((sent.last_index for sent in p.inflight if sent.request_id == request_id), p.match)


def on_success(core: Core, p: Progress, m: AppendEntriesReply) -> bool:
    """Move the window by a cumulative ack; True if match rose."""
    now = core.now
    while p.inflight and p.inflight[0].request_id <= m.request_id:
        done = p.inflight.popleft()
        p.inflight_bytes -= done.size
        if done.request_id == m.request_id:
            p.sample_rtt(now - done.sent_at)
            pipeline.answered(core, p, m.request_id, now - done.sent_at)
    p.backoff = 1
    p.applied = max(p.applied, m.applied)
    p.commit = max(p.commit, m.commit)
    p.log_first = max(p.log_first, m.log_first)
    p.free_bytes = m.free_bytes
    if p.state is PROBE:
        p.state = REPLICATE
        p.inflight.clear()
        p.inflight_bytes = 0
        p.next = m.match_index + 1
    rose = m.match_index > p.match
    if rose:
        p.match = m.match_index
        if p.boost_until:
            pipeline.end_boost(core, p)
    if p.next <= p.match:
        p.next = p.match + 1
    return rose


def on_mismatch(core: Core, p: Progress, m: AppendEntriesReply) -> None:
    """Restart the stream at a better guess of the joint (§5.3's fast back-up)."""
    asked = next((i for i in p.inflight if i.request_id == m.request_id), None)
    if asked is None:
        core.refuse("mismatch of an unknown request")
        return
    log = core.log
    guess = min(m.last_index + 1, log.last_index + 1)
    if m.conflict_term:
        ours = log.last_index_at_most_term(m.conflict_term, asked.prev_index - 1)
        if log.term(ours) == m.conflict_term:
            guess = min(guess, ours + 1)
        else:
            guess = min(guess, max(m.conflict_first_index, 1))
    # Everything up to the member's commit index matches without comparing terms.
    guess = max(1, min(max(guess, m.commit + 1), asked.prev_index, log.last_index + 1))
    if m.last_index < asked.match:
        core.alarm(
            "match_moved_back",
            f"member {p.member_id} had proved its log up to {p.match} and now has it up to {m.last_index}: "
            "its disk lost data",
        )
        p.match = Index(0)
    p.restart(max(guess, p.match + 1))
    replicate(core, p)


def start_round(core: Core) -> None:
    """Begin a heartbeat round: it proves leadership to reads, check-quorum and the cluster clock (§6.4)."""
    core.round_id += 1
    now = core.now
    core.heartbeat_at = min(now + core.config.heartbeat_interval_ns, core.duties_at)
    core.commit_flush_at = NEVER
    stamp = core.cluster_time(now)
    epoch = core.configuration.epoch
    for p in core.progress.values():
        commit = min(core.commit_index, p.match)
        p.commit_told = max(p.commit_told, commit)
        header = core.header(p.member_id)
        core.send(Heartbeat(header, core.round_id, now, Index(commit), stamp, epoch))


def retransmit_deadline(core: Core, p: Progress) -> int:
    """When this member's stream restarts for want of a reply; NEVER with nothing on the way."""
    config = core.config
    if p.state is CATCHUP:
        return p.offered_at + config.election_timeout_ns
    if p.state is FETCHING:
        return p.fetch_deadline
    if not p.inflight:
        return NEVER
    return p.inflight[0].sent_at + p.retry_after_ns(config.heartbeat_interval_ns, 4 * config.election_timeout_ns)


def retransmit(core: Core, p: Progress) -> None:
    """No reply in time: offer the snapshot again, or restart the stream behind what is proved."""
    if p.state is not CATCHUP:
        p.backoff = min(2 * p.backoff, 16)
        pipeline.lost(core, p)
        p.restart(p.match + 1 if p.match else p.next if not p.inflight else p.inflight[0].prev_index + 1)
    replicate(core, p)
