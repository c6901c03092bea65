"""What a follower, learner or campaigner does with a leader's messages.

Laws: everything up to the commit index matches (what says otherwise was refused: validate_known.py); an entry is
removed only by a conflicting one (row 27: an empty append removes nothing); the reply says "durable and equal to your
log up to here" and waits for the write that makes it so.
"""

from __future__ import annotations

from typing import Final

from lockmaster_raft.commit import set_commit
from lockmaster_raft.core import Core
from lockmaster_raft.election import sticky_ns
from lockmaster_raft.entry import CONFIG, Entry
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply
from lockmaster_raft.promise import fence_report
from lockmaster_raft.ready import FOLLOWER, LEADER, LEARNER, REMOVED, WITNESS
from lockmaster_raft.roles import become_follower, configuration_changed, reset_election_deadline, resting_role

_FOLLOWING: Final = (FOLLOWER, WITNESS, LEARNER)


def follow(core: Core, leader: NodeId, term: Term) -> None:
    """A message of the leader of `term` (not below ours): follow it, and stay off its back for a while.

    Stops the node where two members that may vote lead one term: what either has committed may be lost. (A sender that
    can't lead was refused before: validate_known.py.)
    """
    if core.role is LEADER and term == core.term:
        raise InvariantViolation(f"members {core.node_id} and {leader} both lead term {term}")
    core.contact_at = core.now
    if core.leader_id == leader and core.term == term and core.role in _FOLLOWING:
        if core.patience:
            core.election_deadline = core.now + core.election_timeout()
        return
    if core.leader_id not in (0, leader) and core.term == term:
        raise InvariantViolation(f"members {core.leader_id} and {leader} both lead term {term}")
    become_follower(core, term, leader)


def on_append(core: Core, m: AppendEntries) -> None:
    """§5.3: find the joint, remove what conflicts, append what is new, answer once durable."""
    log = core.log
    prev = m.prev_index
    if core.ranges is not None and m.stream_epoch > core.ranges.stream_epoch:
        core.ranges = None  # raft.md §3: the leader has fallen back on itself; nothing is to come twice
    if prev > log.last_index:
        _mismatch(core, m, Term(0), Index(0))
        return
    if prev > core.commit_index and log.term(prev) != m.prev_term:
        _mismatch(core, m, log.term_at(prev), Index(log.first_index_of_term_at(prev)))
        return
    match = Index(prev + len(m.entries))
    if m.entries:
        merge(core, m.entries)
    commit = min(m.commit, match)
    if commit > core.commit_index:
        commit_upto(core, Index(commit))
    core.send(
        AppendEntriesReply(
            core.header(m.header.sender),
            m.stream_epoch,
            m.request_id,
            True,
            match,
            log.last_index,
            core.commit_index,
            Index(log.base.index + 1),
            core.applied,
            Term(0),
            Index(0),
            core.free_bytes,
        ),
        after=core.after(match),
    )


def merge(core: Core, entries: tuple[Entry, ...]) -> None:
    """Append what is not there yet; truncate at the first conflict only."""
    log = core.log
    last = log.last_index
    if entries[0].index == last + 1:
        fresh = list(entries)
    else:
        skip = len(entries)
        for at, entry in enumerate(entries):
            index = entry.index
            if index > last:
                skip = at
                break
            if index > core.commit_index and log.term(index) != entry.term:
                core.truncate(index)
                skip = at
                break
        fresh = list(entries[skip:])
    rolled_back = log.configuration is not core.configuration
    if fresh:
        core.append(fresh)
        rolled_back = rolled_back or any(e.kind is CONFIG for e in fresh)
    if rolled_back:
        configuration_changed(core)


def _mismatch(core: Core, m: AppendEntries, conflict_term: Term, conflict_first: Index, reason: str = "") -> None:
    log = core.log
    core.send(
        AppendEntriesReply(
            core.header(m.header.sender),
            m.stream_epoch,
            m.request_id,
            False,
            Index(0),
            log.last_index,
            core.commit_index,
            Index(log.base.index + 1),
            core.applied,
            conflict_term,
            conflict_first,
            core.free_bytes,
            reason,
        ),
        after=core.after(),
    )


def refuse_append(core: Core, m: AppendEntries, reason: str) -> None:
    """A reply that moves nothing: a stale term (the header carries ours) or a message that is out of range."""
    _mismatch(core, m, Term(0), Index(0), reason)


def commit_upto(core: Core, index: Index) -> None:
    """Everything up to `index`, which is in the log, is committed: by the leader's word."""
    set_commit(core, index)
    if core.removed and core.role is not REMOVED:
        core.alarm("removed", f"member {core.node_id} was removed: epoch {core.committed_configuration.epoch}")
        core.role = resting_role(core)
        reset_election_deadline(core)


def on_heartbeat(core: Core, m: Heartbeat) -> None:
    """The leader lives. Its commit field covers only what it knows to match here."""
    commit = min(m.commit, core.log.last_index)
    if commit > core.commit_index:
        commit_upto(core, Index(commit))
    if m.cluster_time > core.leader_time:
        core.leader_time = m.cluster_time
    reply_heartbeat(core, m)


def reply_heartbeat(core: Core, m: Heartbeat) -> None:
    """Echo the round with this node's term."""
    core.send(
        HeartbeatReply(
            core.header(m.header.sender),
            m.round_id,
            m.sent_at,
            core.log.last_index,
            core.commit_index,
            core.applied,
            sticky_ns(core),
            fence_report(core),
            core.boot_nonce,
        ),
        after=core.after(),
    )
