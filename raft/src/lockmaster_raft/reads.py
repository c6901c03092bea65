"""Linearizable reads by read index (§6.4), on the leader and forwarded from any other member.

Laws: a read is released only by a round started after it arrived; its index is the commit index when that round
started, and only once an entry of the leader's own term is committed; every forwarded attempt has an id of its own,
so a delayed answer to an earlier attempt releases nothing, and only the leader that was asked answers it;
pending_count <= pending_reads_max.
"""

from __future__ import annotations

from lockmaster_raft import lease
from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.ids import NO_NODE, Index, NodeId
from lockmaster_raft.messages import ReadIndex, ReadIndexReply

# --- leader ---------------------------------------------------------------------------------------------------------
from lockmaster_raft.ready import LEADER, ReadReady
from lockmaster_raft.replication import start_round


def request(core: Core, request_id: int, *, by_lease: bool = False) -> None:
    """A local read wants an index: answered by ReadReady, at the latest after one election timeout.

    `by_lease`: a leader that holds its lease answers at once (lease.py), any other node as for every read.
    """
    if not core.full_here:
        core.read_results.append(ReadReady(request_id, None))  # no state, or no right to serve it (I4, I9)
        return
    if by_lease and lease.holds(core, core.now):
        core.read_results.append(ReadReady(request_id, core.commit_index))
        return
    if core.role is LEADER:
        _add(core, NO_NODE, request_id)
        return
    reads = core.reads
    full = len(reads.queued) + len(reads.attempt) >= core.config.pending_reads_max
    if full or core.leader_id == NO_NODE:
        core.read_results.append(ReadReady(request_id, None))
        return
    reads.queued.append((request_id, core.now + core.config.election_timeout_ns))
    if not reads.attempt:
        _attempt(core)


def on_read_index(core: Core, m: ReadIndex) -> None:
    """A follower asks; a node that does not lead says so at once."""
    if core.role is LEADER and core.full_here:
        _add(core, m.header.sender, m.read_id)
    else:
        core.send(ReadIndexReply(core.header(m.header.sender), m.read_id, False, Index(0)), after=core.after())


def _add(core: Core, origin: NodeId, read_id: int) -> None:
    reads = core.reads
    if reads.pending_count >= core.config.pending_reads_max:
        _answer(core, origin, read_id, None)
        return
    reads.pending_count += 1
    reads.waiting.append((origin, read_id))
    kick(core)


def kick(core: Core) -> None:
    """Begin a round for the waiting reads, unless one for reads is already on its way (they share the next)."""
    reads = core.reads
    if reads.waiting and core.own_term_committed and not reads.rounds:
        begin_round(core)


def begin_round(core: Core) -> None:
    """Start a heartbeat round, with every waiting read on board."""
    reads = core.reads
    start_round(core)
    if reads.waiting and core.own_term_committed:
        reads.rounds.append((core.round_id, core.commit_index, reads.waiting))
        reads.waiting = []
    confirm(core)


def confirm(core: Core) -> None:
    """Count the acknowledged rounds; a newly confirmed one moves the clock and releases its reads."""
    acked = {p.member_id: p.acked_round for p in core.progress.values()}
    acked[core.node_id] = core.round_id
    confirmed = core.commit_value(acked)
    if confirmed <= core.confirmed_round:
        return
    core.confirmed_round = confirmed
    core.clock.confirm(core.now)
    rounds = core.reads.rounds
    while rounds and rounds[0][0] <= confirmed:
        _, index, readers = rounds.popleft()
        core.reads.pending_count -= len(readers)
        for origin, read_id in readers:
            _answer(core, origin, read_id, index)
    if not rounds:
        kick(core)


def _answer(core: Core, origin: NodeId, read_id: int, index: Index | None) -> None:
    if origin == NO_NODE:
        core.read_results.append(ReadReady(read_id, index))
        return
    core.send(ReadIndexReply(core.header(origin), read_id, index is not None, index or Index(0)), after=core.after())
    p = core.progress.get(origin)
    if index is not None and p is not None and p.commit_told < index:
        # The asker waits to apply this index: tell it of the commit now, not at the next heartbeat.
        core.commit_flush_at = core.now


def fail_all(core: Core) -> None:
    """Leadership is lost: every read on its way is answered "ask again"."""
    reads = core.reads
    readers = [r for _, _, group in reads.rounds for r in group] + reads.waiting
    reads.rounds.clear()
    reads.waiting = []
    reads.pending_count = 0
    for origin, read_id in readers:
        _answer(core, origin, read_id, None)


# --- follower -------------------------------------------------------------------------------------------------------


def _attempt(core: Core) -> None:
    """Ask the leader for everything queued, under a fresh id."""
    reads = core.reads
    expired = [r for r in reads.queued if r[1] <= core.now]
    for request_id, _ in expired:
        core.read_results.append(ReadReady(request_id, None))
    reads.attempt = [r for r in reads.queued if r[1] > core.now]
    reads.queued = []
    if not reads.attempt or core.leader_id == NO_NODE:
        fail_forwarded(core)
        return
    core.next_read_id += 1
    reads.attempt_id = core.next_read_id
    reads.attempt_of, reads.attempt_term = core.leader_id, core.term
    reads.attempt_at = core.now
    reads.attempt_retry_at = core.now + 2 * core.config.heartbeat_interval_ns
    core.send(ReadIndex(core.header(core.leader_id), reads.attempt_id), after=core.after())


def on_read_index_reply(core: Core, m: ReadIndexReply) -> None:
    """The index of the attempt on its way, or a refusal; anything else is too late and releases nothing.

    The leader that was asked may have been elected again before the question came: its later term is as good.
    """
    reads = core.reads
    if not reads.attempt or m.read_id != reads.attempt_id:
        core.refuse("read index of another attempt")
        return
    if m.header.sender != reads.attempt_of or m.header.term < reads.attempt_term:
        core.refuse("read index of a member that was not asked")
        return
    for request_id, _ in reads.attempt:
        core.read_results.append(ReadReady(request_id, m.index if m.ok else None))
    if m.ok:
        reads.coming = (reads.attempt_at, m.index)
    reads.attempt = []
    reads.attempt_retry_at = NEVER
    if reads.queued:
        _attempt(core)


def retry(core: Core) -> None:
    """No answer in time: ask again, under a new id, with what came meanwhile."""
    reads = core.reads
    if not reads.attempt:
        reads.attempt_retry_at = NEVER
        return
    reads.queued = reads.attempt + reads.queued
    reads.attempt = []
    _attempt(core)


def age_ns(core: Core) -> int | None:
    """How old the state is at most, by this node's own clock alone; None: not known.

    A leader's state is as of the last heartbeat that a quorum acked, another's as of the start of its last confirmed
    read: no other node's clock is believed, and a delayed message makes it older, never younger.
    """
    if not core.full_here:
        return None
    if core.role is LEADER:
        if not core.own_term_committed or core.applied < core.commit_index:
            return None
        contacts = {p.member_id: p.contact if p.acked_round else 0 for p in core.progress.values()}
        contacts[core.node_id] = core.now
        since = core.commit_value(contacts)
        return core.now - since if since else None
    reads = core.reads
    if reads.coming is not None and reads.coming[1] <= core.applied:
        reads.fresh, reads.coming = reads.coming, None
    return core.now - reads.fresh[0] if reads.fresh is not None else None


def fail_forwarded(core: Core) -> None:
    """The leader is gone: forwarded reads are answered "ask again"."""
    reads = core.reads
    for request_id, _ in reads.attempt + reads.queued:
        core.read_results.append(ReadReady(request_id, None))
    reads.attempt, reads.queued = [], []
    reads.attempt_retry_at = NEVER
