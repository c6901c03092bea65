"""What a leader does: proposals with back pressure, replies, rounds, check-quorum.

Laws: pending entries and bytes are bounded, reserved proposals by slots of their own above that bound; a leader whose
voters were silent for an election timeout stops leading before it looks at anything else (§6.2).
"""

from __future__ import annotations

from lockmaster_raft import (
    caretaker,
    gating,
    lease,
    members,
    pipeline,
    ranges,
    reads,
    role_changes,
    sources,
    transfer,
    witness,
)
from lockmaster_raft.commit import advance, tell_departed
from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.coverage import tell_coverage
from lockmaster_raft.entry import DATA
from lockmaster_raft.errors import EntryTooLarge, NotLeader, NotReady, Overloaded, ProposalRefused
from lockmaster_raft.events import Propose
from lockmaster_raft.ids import NO_NODE, NodeId
from lockmaster_raft.messages import AppendEntriesReply, CatchUpReply, HeartbeatReply, InstallSnapshotReply
from lockmaster_raft.progress import CATCHUP, FETCHING, PROBE, Progress
from lockmaster_raft.ready import LEADER, Appended, Refused
from lockmaster_raft.replication import (
    match_bound,
    on_mismatch,
    on_success,
    replicate,
    replicate_all,
    retransmit,
    retransmit_deadline,
)
from lockmaster_raft.roles import DUTIES_ROUNDS, become_follower


def on_propose(core: Core, e: Propose) -> None:
    """Append one DATA entry and send it at once, or refuse it for good."""
    error = _why_not(core, e)
    if error is not None:
        core.proposals.append(Refused(e.proposal_id, error))
        return
    entry = core.append_own(DATA, e.payload)
    core.proposals.append(Appended(e.proposal_id, entry.index, entry.term))
    replicate_all(core)


def _why_not(core: Core, e: Propose) -> ProposalRefused | None:
    if core.role is not LEADER:
        return NotLeader(core.leader_id)
    config = core.config
    size = len(e.payload)
    if size > config.entry_bytes_max:
        return EntryTooLarge(size, config.entry_bytes_max)
    if not core.own_term_committed:
        return NotReady("no entry of this leader's term is committed yet")
    if core.is_caretaker:
        return NotReady(f"member {core.node_id} leads only to hand over")
    if core.transfer is not None:
        return NotReady(f"a transfer to member {core.transfer.target} is running")
    missing = full_voters_missing(core)
    if missing:
        return NotReady(f"{missing} more full voters are needed before writes are admitted")
    pending = core.log.last_index - core.commit_index
    if e.reserved:
        if pending >= config.pending_entries_max + config.reserved_entries:
            return Overloaded("reserved slots", config.heartbeat_interval_ns)
        return None
    if witness.is_blocked(core):
        return Overloaded(f"the log of witness {core.witness_pressed[0]}", config.heartbeat_interval_ns)
    if pending >= config.pending_entries_max:
        return Overloaded("pending entries", config.heartbeat_interval_ns)
    if core.pending_bytes + size > config.pending_bytes_max:
        return Overloaded("pending bytes", config.heartbeat_interval_ns)
    if is_disk_behind(core):
        return Overloaded("the leader's own disk is behind", config.heartbeat_interval_ns)
    return None


def full_voters_missing(core: Core) -> int:
    """How many full voters the committed configuration lacks before client writes are admitted (I8)."""
    configuration = core.committed_configuration
    return max(0, configuration.full_min - configuration.full_voter_count)


def is_disk_behind(core: Core) -> bool:
    """Commits run ahead of this leader's own durable log by more than unsynced_bytes_max."""
    return core.log.durable_index < core.commit_index and core.log.unsynced_bytes > core.config.unsynced_bytes_max


def after_progress(core: Core) -> None:
    """A match rose or the own log became durable: commit, and what a commit sets free."""
    if not advance(core):
        return
    if not core.is_voter() and core.log.configuration_index <= core.commit_index:
        _leave(core)
        return
    if not core.own_term_committed:
        core.own_term_committed = True
        reads.kick(core)
    if core.is_caretaker:
        caretaker.hand_over(core)
    elif core.transfer is not None:
        transfer.pursue(core)
    if core.change_runs:
        role_changes.drive(core)


def _leave(core: Core) -> None:
    """The own removal or demotion is committed (§4.2.2): tell of the commit, ask the best one to take over, stop."""
    reads.begin_round(core)
    target = transfer.best_target(core)
    if target != NO_NODE:
        transfer.begin(core, None, target)
    if core.removed:
        core.alarm("removed", f"member {core.node_id} was removed by its own configuration change")
    become_follower(core, core.term, NO_NODE)


def on_append_reply(core: Core, m: AppendEntriesReply) -> None:
    """A stream's answer: moves its window, maybe the commit index."""
    p = core.progress.get(m.header.sender)
    if p is None or m.stream_epoch != p.epoch or p.state is CATCHUP or p.state is FETCHING:
        core.refuse("append reply of another stream")
        return
    if m.reason:
        core.refuse("append refused by a member")
        return
    beyond = m.commit > core.log.last_index or m.request_id > p.request_id
    if beyond or (m.success and m.match_index > match_bound(p, m.request_id)):
        core.refuse("append reply beyond what was sent")
        return
    if not m.success:
        on_mismatch(core, p, m)
        return
    probed = p.state is PROBE
    rose = on_success(core, p, m)
    if rose and not _match_rose(core, p):
        return
    if probed:
        if ranges.begin(core, p):
            return
        pipeline.look_for_lag(core, p)
    replicate(core, p)


def _match_rose(core: Core, p: Progress) -> bool:
    """What a member's new match sets free; False when this leadership ended with it."""
    if p.member_id in core.voters or p.member_id in core.outgoing:
        after_progress(core)
    else:
        members.note_learner_match(core, p)
    if core.role is not LEADER:
        return False
    if core.is_caretaker:
        caretaker.hand_over(core)
    elif core.transfer is not None and core.transfer.target == p.member_id:
        transfer.pursue(core)
    return True


def on_catch_up_reply(core: Core, m: CatchUpReply) -> None:
    """How far a member has come with a range that it fetches from others."""
    p = core.progress.get(m.header.sender)
    if p is None:
        core.refuse("range reply of no member")
        return
    if ranges.on_reply(core, p, m) and not _match_rose(core, p):
        return
    replicate(core, p)


def on_heartbeat_reply(core: Core, m: HeartbeatReply) -> None:
    """An acknowledged round: contact, reads, the clock."""
    p = core.progress.get(m.header.sender)
    if p is None or m.round_id > core.round_id or m.sent_at > core.now:
        core.refuse("heartbeat reply of no round of ours")
        return
    if m.commit > core.log.last_index:
        core.refuse("heartbeat reply beyond the leader's log")
        return
    p.reachable = True
    gating.note_report(p, m)
    p.applied = max(p.applied, m.applied)
    p.commit = max(p.commit, m.commit)
    silent_ns, p.heard_at = core.now - p.heard_at, core.now
    if silent_ns >= 3 * core.config.heartbeat_interval_ns and p.state is not CATCHUP:
        # It is back after a silence: what was sent into it is lost, and the wait for its answer grew with every loss.
        p.backoff = 1
        if p.inflight:
            p.restart(p.match + 1 if p.match else p.inflight[0].prev_index + 1)
    p.contact = max(p.contact, m.sent_at)
    lease.note_ack(core, p, m)
    if m.round_id > p.acked_round:
        p.acked_round = m.round_id
        reads.confirm(core)
    if not p.caught_up and p.member_id not in core.voters:
        members.note_learner_match(core, p)
    replicate(core, p)


def on_install_reply(core: Core, m: InstallSnapshotReply) -> None:
    """A member fetches a snapshot, or has it: then the log joins at its index.

    It answers no more than what was named to it in this term. That may lie beyond the commit index that this leader has
    come to: its own snapshot may have been made by an earlier run of this process.
    """
    p = core.progress.get(m.header.sender)
    if p is None or m.stream_epoch != p.epoch or p.state is not CATCHUP:
        core.refuse("snapshot reply of another stream")
        return
    if m.last_index > p.offered_max:
        core.refuse("snapshot reply beyond what was offered")
        return
    if not m.installed:
        return
    p.match = max(p.match, m.last_index)
    p.restart(p.match + 1)
    p.offered_index = 0
    pipeline.begin_boost(core, p)
    replicate(core, p)


def tick(core: Core) -> None:
    """Deadlines of a leader, check-quorum first."""
    now = core.now
    if now >= core.check_quorum_at and not _has_quorum_contact(core):
        core.alarm("quorum_lost", f"no quorum of voters answered for an election timeout in term {core.term}")
        become_follower(core, core.term, NO_NODE)
        return
    if caretaker.expire(core):
        return
    if core.transfer is not None:
        transfer.expire(core)
    for p in list(core.progress.values()):
        if now >= retransmit_deadline(core, p):
            if p.state is FETCHING:
                ranges.fall_back(core, p)
                replicate(core, p)
            else:
                retransmit(core, p)
    if now >= core.heartbeat_at:
        _heartbeat(core)
    elif now >= core.commit_flush_at:
        core.commit_flush_at = NEVER
        if any(p.commit_told < min(core.commit_index, p.match) for p in core.progress.values()):
            reads.begin_round(core)


def _heartbeat(core: Core) -> None:
    # Rounds that reads begin put the heartbeat off, but no further than this: else nobody is promoted under load.
    core.duties_at = core.now + DUTIES_ROUNDS * core.config.heartbeat_interval_ns
    reads.begin_round(core)
    if core.departing:
        tell_departed(core)
    tell_coverage(core)
    sources.tell_floor(core)
    ranges.look(core)
    members.promote_learners(core)
    caretaker.hand_over(core)
    role_changes.drive(core)
    transfer.pursue(core)
    if core.transfer is None and core.own_term_committed and is_disk_behind(core):
        target = transfer.best_target(core)
        core.alarm("disk_behind", f"{core.log.unsynced_bytes} bytes not synced here while the others commit")
        if target != NO_NODE:
            transfer.begin(core, None, target)


def _has_quorum_contact(core: Core) -> bool:
    """§6.2 over voters only (a learner's answer is no vote). Sets the next time to look."""
    contacts: dict[NodeId, int] = {p.member_id: p.contact for p in core.progress.values()}
    contacts[core.node_id] = core.now
    oldest = core.commit_value(contacts)
    if not core.voters:
        return False
    core.check_quorum_at = oldest + core.config.election_timeout_ns
    return core.check_quorum_at > core.now


def deadline(core: Core) -> int:
    """The earliest of a leader's deadlines."""
    first = core.heartbeat_at
    if core.check_quorum_at < first:
        first = core.check_quorum_at
    if core.commit_flush_at < first:
        first = core.commit_flush_at
    if core.caretaker_until < first:
        first = core.caretaker_until
    if core.transfer is not None and core.transfer.deadline < first:
        first = core.transfer.deadline
    for p in core.progress.values():
        if p.inflight or p.state is CATCHUP or p.state is FETCHING:
            at = retransmit_deadline(core, p)
            if at < first:
                first = at
    return first
