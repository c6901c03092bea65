"""Changes of role: what each one takes up and what it must let go of.

Laws: a vote is forgotten only with its term (row 3 of raft-bugs.md); a leader that stops leading answers every read
and ends its transfer; progress exists only while leading.
"""

from __future__ import annotations

from typing import Final

from lockmaster_raft import reads, side
from lockmaster_raft.clock import ClusterClock
from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.entry import NOOP
from lockmaster_raft.ids import NO_NODE, Index, NodeId, Term
from lockmaster_raft.progress import Progress
from lockmaster_raft.ready import FOLLOWER, LEADER, LEARNER, REMOVED, WITNESS, Resolved, Role
from lockmaster_raft.replication import replicate_all

DUTIES_ROUNDS: Final = 2
"""Rounds begun by reads put a heartbeat's duties off by no more than this many heartbeat intervals."""
CARETAKER_TIMEOUTS: Final = 4
"""Election timeouts that a caretaker leads without a full replica coming forward (I4)."""


def resting_role(core: Core) -> Role:
    """What this node is when it neither campaigns nor leads."""
    if core.removed:
        return REMOVED
    if not core.is_voter():
        return LEARNER
    own = core.own_member
    return WITNESS if own is not None and not own.is_full else FOLLOWER


def reset_election_deadline(core: Core) -> None:
    """Draw the next election timeout; without a full voter's privileges it is twice as long (I3)."""
    core.campaign_at = NEVER
    if core.removed or core.patience == 0:
        core.election_deadline = NEVER
    else:
        core.election_deadline = core.now + core.election_timeout()


def boot(core: Core) -> None:
    """The role after a start. The only voter need not wait for a leader that cannot exist."""
    side.settle(core, at_boot=True)
    core.role = resting_role(core)
    reset_election_deadline(core)
    if core.is_alone() and core.election_deadline != NEVER:
        core.election_deadline = core.now


def become_follower(core: Core, term: Term, leader_id: NodeId) -> None:
    """Follow `leader_id` (or nobody yet) in `term`, which is not below the current one."""
    if term > core.term:
        core.set_term(term, NO_NODE)
    if core.role is LEADER:
        _leave_leadership(core)
    elif core.leader_id not in (leader_id, NO_NODE):
        reads.fail_forwarded(core)
    core.role = resting_role(core)
    core.leader_id = leader_id
    core.votes.clear()
    core.transfer_campaign = False
    reset_election_deadline(core)


def _leave_leadership(core: Core) -> None:
    core.leader_time = core.cluster_time(core.now)
    reads.fail_all(core)
    core.progress.clear()
    core.departing.clear()
    core.own_term_committed = False
    core.pending_sizes.clear()
    core.pending_bytes = 0
    core.heartbeat_at = core.duties_at = core.check_quorum_at = NEVER
    core.commit_flush_at = core.caretaker_until = NEVER
    core.healthy_since = None
    core.witness_pressed = ()
    core.refused_change = ""
    transfer, core.transfer = core.transfer, None
    if transfer is not None and transfer.proposal_id is not None:
        core.proposals.append(Resolved(transfer.proposal_id, transfer.target))


def become_leader(core: Core) -> None:
    """Take up the leadership of the current term: its first entry is a NOOP (§6.4, §8)."""
    now, config = core.now, core.config
    # service.md §1: on from the last stamp of the own log. What heartbeats told beyond it may be later than a stamp
    # that another leader, who had not heard them, gave since: a session that it renewed would lose that time.
    core.clock = ClusterClock(core.last_stamp(), now, config.heartbeat_interval_ns)
    core.role = LEADER
    core.leader_id = core.node_id
    core.votes.clear()
    core.transfer_campaign = False
    core.election_deadline = core.campaign_at = NEVER
    reads.fail_forwarded(core)
    core.own_term_committed = False
    core.pending_sizes.clear()
    core.pending_bytes = 0
    core.latency.restart()
    core.round_id = core.confirmed_round = 0
    core.check_quorum_at = now + config.election_timeout_ns
    core.duties_at = now + DUTIES_ROUNDS * config.heartbeat_interval_ns
    core.progress.clear()
    sync_progress(core)
    core.leading_since = core.change_since = now
    core.told_max = 0
    core.lease_bar = None
    core.term_start = core.append_own(NOOP, b"").index
    core.caretaker_until = NEVER
    if core.is_caretaker:
        core.caretaker_until = now + CARETAKER_TIMEOUTS * config.election_timeout_ns
        core.caretaker_tried.clear()
        core.caretaker_best = Index(0)
        core.alarm("caretaker", f"member {core.node_id} leads term {core.term} only to hand its log to a full replica")
    reads.begin_round(core)
    replicate_all(core)


def sync_progress(core: Core) -> None:
    """One Progress per other member of the latest configuration; a member that left is told once that commits.

    A learner whose addition is not committed gets nothing yet: were it rolled back, the next leader would mint the
    same id for another directory, and two would live under one id (I12).
    """
    known = core.committed_configuration
    ids = {m.member_id for m in core.configuration.members if m.voter or known.member(m.member_id) is not None}
    ids.update(core.outgoing)
    ids.discard(core.node_id)
    for gone in sorted(set(core.progress) - ids):
        del core.progress[gone]
        core.departing[gone] = (core.log.configuration_index, 0)
    for member_id in sorted(ids - set(core.progress)):
        p = Progress(member_id, core.log.last_index + 1, core.now, core.config.heartbeat_interval_ns)
        p.catch_target = core.log.last_index
        core.progress[member_id] = p


def configuration_changed(core: Core) -> None:
    """The log's latest configuration is another one: by append, truncation or snapshot (§4.1)."""
    core.refresh_configuration()
    if core.role is LEADER:
        sync_progress(core)
        return
    if core.configuration.member(core.node_id) is not None and core.removed:
        core.removed = False  # the removal that we were told of was not ours: our record says we belong
    role = resting_role(core)
    if core.role in (FOLLOWER, WITNESS, LEARNER, REMOVED):
        if role is not core.role or core.election_deadline == NEVER:
            core.role = role
            reset_election_deadline(core)
    elif core.patience == 0:
        become_follower(core, core.term, NO_NODE)
