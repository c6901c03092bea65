"""Elections: pre-vote before every round (§9.6), stickiness (§4.2.3), votes durable before they are told (§3.8).

Laws: at most one vote per term; a node that heard from a leader within an election timeout, or restarted within one,
grants nothing unless the leader itself asked for the campaign; votes are a mapping by voter, so duplicates count once;
the own vote counts only when durable.
"""

from __future__ import annotations

from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.ids import NO_NODE, NodeId, Term
from lockmaster_raft.messages import PreVote, PreVoteReply, Removed, RequestVote, RequestVoteReply, TimeoutNow
from lockmaster_raft.quorum import has_quorum, is_lost
from lockmaster_raft.ready import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE
from lockmaster_raft.roles import become_follower, become_leader, reset_election_deadline


def is_sticky(core: Core) -> bool:
    """Whether this node refuses to help depose a leader now (§4.2.3)."""
    if core.role is LEADER:
        return True
    if core.is_alone():
        return False
    return core.now - core.contact_at < core.config.election_timeout_ns


def sticky_ns(core: Core) -> int:
    """How much longer this voter refuses others' votes."""
    return max(0, core.contact_at + core.config.election_timeout_ns - core.now)


def _peers(core: Core) -> list[NodeId]:
    return [v for v in sorted({*core.voters, *core.outgoing}) if v != core.node_id]


def start_pre_vote(core: Core) -> None:
    """The leader is silent: ask whether a campaign could win, without touching any term."""
    reset_election_deadline(core)
    if core.patience == 0 or core.removed:
        return
    if not core.machine and core.log.last_index == core.log.base.index:
        # Neither an entry nor a state tells it the cluster's time: as a leader it would begin at 0 (service.md §1).
        become_follower(core, core.term, NO_NODE)
        return
    core.role = PRE_CANDIDATE
    core.leader_id = NO_NODE
    core.transfer_campaign = False
    core.vote_round += 1
    core.votes = {core.node_id: True}
    if _is_last_resort(core):
        core.campaign_at = core.now + core.config.election_timeout_ns // 2
    next_term = Term(core.term + 1)
    for peer in _peers(core):
        core.send(
            PreVote(core.header(peer), next_term, core.log.last_index, core.log.last_term, core.vote_round),
            after=core.after(),
        )
    _tally(core)


def start_election(core: Core, *, transfer: bool) -> None:
    """Campaign in the next term. The own vote is one write with the term; the requests wait for it."""
    core.set_term(Term(core.term + 1), core.node_id)
    core.role = CANDIDATE
    core.leader_id = NO_NODE
    core.transfer_campaign = transfer
    core.votes = {core.node_id: True}
    reset_election_deadline(core)
    for peer in _peers(core):
        core.send(RequestVote(core.header(peer), core.log.last_index, core.log.last_term, transfer), after=core.after())


def _tally(core: Core) -> None:
    """Count by voter; a pre-candidate campaigns, a candidate leads, and either gives up when it cannot win."""
    granted = [v for v, yes in core.votes.items() if yes]
    if has_quorum(core.voters, core.outgoing, granted):
        if core.role is PRE_CANDIDATE:
            if core.campaign_at <= core.now or _every_full_voter_answered(core):
                start_election(core, transfer=False)
        elif core.hard_seq <= core.persisted_seq:
            become_leader(core)
        return
    refused = [v for v, yes in core.votes.items() if not yes]
    if refused and is_lost(core.voters, core.outgoing, refused):
        become_follower(core, core.term, NO_NODE)


def _is_last_resort(core: Core) -> bool:
    """Whether this node campaigns only if no reachable full replica could win (I3)."""
    return core.is_witness(core.node_id)


def _every_full_voter_answered(core: Core) -> bool:
    """A witness waits, for half an election timeout at most, to hear every full voter say that it is behind (I3)."""
    if not _is_last_resort(core):
        return True
    members = [core.configuration.member(v) for v in _peers(core)]
    return all(m.member_id in core.votes for m in members if m is not None and m.is_full)


def campaign(core: Core) -> None:
    """The wait for silent full voters is over: those that answered are all behind this witness."""
    core.campaign_at = NEVER if core.role is not PRE_CANDIDATE else core.now
    if core.role is PRE_CANDIDATE:
        _tally(core)
        core.campaign_at = NEVER


def own_vote_durable(core: Core) -> None:
    """A write completed: the candidate's own vote may count now."""
    if core.role is CANDIDATE:
        _tally(core)


def _log_is_current(core: Core, m: PreVote | RequestVote) -> bool:
    """§3.6.1: the candidate's log is at least as up to date as ours; a full replica wants a witness's newer (I3)."""
    theirs, ours = (m.last_term, m.last_index), (core.log.last_term, core.log.last_index)
    own = core.own_member
    if own is not None and own.is_full and core.is_witness(m.header.sender):
        return theirs > ours
    return theirs >= ours


def _tell_if_removed(core: Core, sender: NodeId) -> bool:
    """An id once minted and absent from a committed configuration was removed, for good (I12)."""
    configuration = core.committed_configuration
    if configuration.member(sender) is None and sender < configuration.next_member_id:
        if core.configuration.member(sender) is not None:
            return False
        core.send(Removed(core.header(sender), configuration.epoch), after=core.after())
        return True
    return False


def on_pre_vote(core: Core, m: PreVote) -> None:
    """Would we vote? Changes nothing here; a lower term is answered too, so that a short term never sticks (row 14)."""
    sender = m.header.sender
    if _tell_if_removed(core, sender):
        return
    reason = ""
    if m.next_term <= core.term:
        reason = "term"
    elif not m.transfer and is_sticky(core):
        reason = "sticky"
    elif not _log_is_current(core, m):
        reason = "log"
    header = core.header(sender)
    log = core.log
    reply = PreVoteReply(header, m.next_term, m.round_id, not reason, reason, log.last_index, log.last_term)
    core.send(reply, after=core.after())


def on_pre_vote_reply(core: Core, m: PreVoteReply) -> None:
    """Counts only for the round on its way."""
    if core.role is not PRE_CANDIDATE or m.round_id != core.vote_round or m.next_term != core.term + 1:
        core.refuse("pre-vote reply of another round")
        return
    core.votes[m.header.sender] = m.granted
    if not m.granted and _is_last_resort(core) and _could_lead(core, m):
        become_follower(core, core.term, NO_NODE)
        return
    _tally(core)


def _could_lead(core: Core, m: PreVoteReply) -> bool:
    """A reachable full replica that is not behind this witness: it is for that one to campaign (I3)."""
    member = core.configuration.member(m.header.sender)
    theirs, ours = (m.last_term, m.last_index), (core.log.last_term, core.log.last_index)
    return member is not None and member.is_full and theirs >= ours


def on_request_vote(core: Core, m: RequestVote) -> None:
    """§3.4, §3.6.1. Sticky: refused without touching the term, else a rejoining member would depose a good leader."""
    sender, term = m.header.sender, m.header.term
    if _tell_if_removed(core, sender):
        return
    reason = ""
    if term < core.term:
        reason = "term"
    elif not m.transfer and is_sticky(core):
        reason = "sticky"
    else:
        if term > core.term:
            become_follower(core, term, NO_NODE)
        if core.role is LEADER or core.voted_for not in (NO_NODE, sender):
            reason = "voted"
        elif not _log_is_current(core, m):
            reason = "log"
        elif core.voted_for == NO_NODE:
            core.set_term(term, sender)
            reset_election_deadline(core)
    reply = RequestVoteReply(core.header(sender), not reason, reason, core.log.last_index, core.log.last_term)
    core.send(reply, after=core.after())


def on_request_vote_reply(core: Core, m: RequestVoteReply) -> None:
    """One answer per voter of this term's campaign."""
    if core.role is not CANDIDATE or m.header.term != core.term:
        # A refusal at a lower term (the voter was sticky and kept its own) counts as "no" of this campaign.
        if core.role is CANDIDATE and m.header.term < core.term and not m.granted and m.reason == "sticky":
            core.votes.setdefault(m.header.sender, False)
            _tally(core)
        else:
            core.refuse("vote reply of another campaign")
        return
    core.votes[m.header.sender] = m.granted or core.votes.get(m.header.sender, False)
    _tally(core)


def on_timeout_now(core: Core, m: TimeoutNow) -> None:
    """§3.10: our leader hands over; campaign at once, over everyone's stickiness."""
    own = core.own_member
    may_lead = own is not None and own.voter and not core.is_witness(core.node_id)
    if core.leader_id != m.header.sender or core.role is not FOLLOWER or not may_lead:
        core.refuse("timeout now not from our leader")
        return
    start_election(core, transfer=True)


def on_removed(core: Core, m: Removed) -> None:
    """We are out: no campaigns any more; a later configuration that names us would undo it."""
    known = core.committed_configuration
    if core.removed or (m.configuration_epoch <= known.epoch and known.member(core.node_id) is not None):
        core.refuse("removal of an epoch that we are past")
        return
    core.removed = True
    core.alarm("removed", f"member {core.node_id} was removed by configuration epoch {m.configuration_epoch}")
    become_follower(core, core.term, NO_NODE)
