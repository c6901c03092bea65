"""Role changes at the leader: P1 … P4, D1 … D2, joint swaps, their aborts, and what it decides by itself (raft.md §4).

Each step is one CONFIG under the rules of members.py. A new leader finds P1, D1 or a joint configuration in its log and
completes or aborts it; it believes no `sm_ready` but the one reported to it in its own term. While a change runs no
other CONFIG is appended, so the epoch in force is the epoch of P1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lockmaster_raft import transfer
from lockmaster_raft.config import MILLISECOND
from lockmaster_raft.core import Core
from lockmaster_raft.coverage import why_not_covered
from lockmaster_raft.errors import ChangeRefused, NotReady, ProposalRefused
from lockmaster_raft.events import AbortRoleChange, DemoteMember, PromoteMember, SetReducedCommit, SwapMember
from lockmaster_raft.ids import NO_NODE, NodeId
from lockmaster_raft.members import (
    append_configuration,
    change_voters,
    fit_to_vote,
    is_live,
    joint,
    live_members,
    too_few_full,
    why_not_level,
    why_not_now,
    why_not_voters,
)
from lockmaster_raft.membership import Configuration, Member, MemberPhase, MemberRole
from lockmaster_raft.progress import Progress
from lockmaster_raft.quorum import majority
from lockmaster_raft.ready import Refused
from lockmaster_raft.role_policy import Demote, HandOver, Observed, Promote, Seen, Swap, decide
from lockmaster_raft.shaping import VOTERS_FLOOR, Silence, shape

ROOM_FACTOR: Final = 2
"""A promotion needs this many times the state's size free at the witness."""

_Answer = Configuration | ProposalRefused


def _settle(core: Core, proposal_id: int | None, answer: _Answer, member_id: NodeId) -> bool:
    """Append what was asked for, or say why not; True if appended."""
    if isinstance(answer, Configuration):
        append_configuration(core, proposal_id, answer, member_id)
        return True
    if proposal_id is not None:
        core.proposals.append(Refused(proposal_id, answer))
    return False


def _renewed(core: Core, member: Member, role: MemberRole, phase: MemberPhase) -> Configuration:
    return core.configuration.with_member(replace(member, role=role, phase=phase))


def _behind(core: Core, p: Progress) -> NotReady | None:
    """A member that a role change relies on must be there and hold the log but for a few entries."""
    if not is_live(core, p):
        silent_ms = (core.now - p.contact) // MILLISECOND
        return NotReady(f"member {p.member_id} did not answer for {silent_ms} ms")
    gap, most = core.commit_index - p.match, core.config.role_gap_entries_max
    if gap > most:
        return NotReady(f"member {p.member_id} is {gap} entries behind the commit index, more than {most}")
    return None


# --- proposals ------------------------------------------------------------------------------------------------------


def on_promote(core: Core, e: PromoteMember) -> None:
    """P1."""
    _settle(core, e.proposal_id, _promoting(core, e.member_id, e.expected_epoch), e.member_id)


def _promoting(core: Core, member_id: NodeId, expected_epoch: int | None) -> _Answer:
    error = why_not_now(core, expected_epoch) or why_not_level(core)
    if error is not None:
        return error
    member, p = core.configuration.member(member_id), core.progress.get(member_id)
    if member is None or member.is_full or not member.voter:
        return ChangeRefused(f"member {member_id} is not a witness that votes")
    if p is None:
        return ChangeRefused(f"member {member_id} leads: a witness that leads proposes nothing")
    need = ROOM_FACTOR * core.state_bytes
    if p.free_bytes < need:
        return NotReady(f"member {member_id} has {p.free_bytes} bytes free, a promotion needs {need}")
    return _behind(core, p) or _renewed(core, member, MemberRole.WITNESS, MemberPhase.PROMOTING)


def on_demote(core: Core, e: DemoteMember) -> None:
    """D1."""
    _settle(core, e.proposal_id, _demoting(core, e.member_id, e.expected_epoch), e.member_id)


def _demoting(core: Core, member_id: NodeId, expected_epoch: int | None) -> _Answer:
    error = why_not_now(core, expected_epoch) or why_not_level(core)
    if error is not None:
        return error
    member, configuration = core.configuration.member(member_id), core.configuration
    if member is None or not member.is_full or not member.voter:
        return ChangeRefused(f"member {member_id} is not a full voter")
    if member_id == core.node_id:
        return ChangeRefused(f"member {member_id} leads: transfer leadership first")
    if configuration.reduced_commit:
        voters = list(configuration.voter_ids)
        return ChangeRefused(
            f"member {member_id} would be a witness: the reduced commit quorum of {voters} allows none"
        )
    after = _renewed(core, member, MemberRole.FULL, MemberPhase.DEMOTING)
    least = max(2, configuration.full_min, majority(len(configuration.voter_ids)))
    if after.full_voter_count < least:
        return ChangeRefused(too_few_full(after, least))
    for other in configuration.members:
        p = core.progress.get(other.member_id)
        if other.voter and other.is_full and p is not None:
            behind = _behind(core, p)
            if behind is not None:
                return behind
            if core.commit_index - p.applied > core.config.role_gap_entries_max:
                return NotReady(f"member {p.member_id} has applied up to {p.applied} of {core.commit_index}")
    return after


def on_abort(core: Core, e: AbortRoleChange) -> None:
    """Back to what it was before P1 or D1: always safe, for it keeps its log and, when full, its state."""
    error = why_not_now(core, e.expected_epoch, completing=True)
    answer = error if error is not None else _aborted(core, e.member_id)
    _settle(core, e.proposal_id, answer, e.member_id)


def _aborted(core: Core, member_id: NodeId) -> _Answer:
    member = core.configuration.member(member_id)
    if member is None or member is not core.configuration.changing:
        return ChangeRefused(f"member {member_id} is in no role change")
    # I6 for the abort of a demotion: a DEMOTING voter never ceased to count in `coverage`, so the witnesses hold on.
    return _renewed(core, member, member.role, MemberPhase.STEADY)


def on_swap(core: Core, e: SwapMember) -> None:
    """The joint step of a swap; `drive` leaves it."""
    _settle(core, e.proposal_id, _swapped(core, e.old_id, e.new_id, e.expected_epoch), e.new_id)


def _swapped(core: Core, old_id: NodeId, new_id: NodeId, expected_epoch: int | None) -> _Answer:
    error = why_not_now(core, expected_epoch) or why_not_level(core)
    if error is not None:
        return error
    before = core.configuration
    old, new, p = before.member(old_id), before.member(new_id), core.progress.get(new_id)
    if old is None or not old.voter:
        return ChangeRefused(f"member {old_id} is not a voter")
    if old_id == core.node_id:
        return ChangeRefused(f"member {old_id} leads: transfer leadership first")
    if new is None or new.voter or new.role is not old.role:
        return ChangeRefused(f"member {new_id} is not a learner of the role {old.role.name}")
    if p is None or not fit_to_vote(core, p):
        match = p.match if p is not None else 0
        return NotReady(f"member {new_id} is not caught up: {match} of {core.log.last_index}")
    simple = before.with_member(replace(new, voter=True)).without_member(old_id)
    after = joint(before, simple)
    return why_not_voters(core, after) or why_not_covered(core, after) or after


def on_reduced(core: Core, e: SetReducedCommit) -> None:
    """The even-size commit quorum, on or off."""
    answer: _Answer
    error = why_not_now(core, e.expected_epoch) or why_not_level(core)
    if error is not None:
        answer = error
    elif e.enabled and (witnesses := [m.member_id for m in core.configuration.members if not m.is_full]):
        answer = ChangeRefused(f"the reduced commit quorum is refused beside a witness: {witnesses}")
    else:
        answer = replace(core.configuration, epoch=core.configuration.epoch + 1, reduced_commit=e.enabled)
    _settle(core, e.proposal_id, answer, NO_NODE)


# --- what the leader does by itself ---------------------------------------------------------------------------------


def drive(core: Core) -> None:
    """In every heartbeat, and after a commit: complete or abort what runs, else see what the policy asks for."""
    core.witness_pressed = tuple(w for w in core.witness_pressed if core.is_witness(w) and w in live_members(core))
    if not core.witness_level or why_not_now(core, None, completing=True) is not None:
        return
    configuration = core.configuration
    if configuration.outgoing:
        append_configuration(core, None, left(configuration), NO_NODE)
        return
    member = configuration.changing
    if member is None:
        core.change_since = core.now
        if core.full_here and not _follow_policy(core):
            _shape(core)
    elif member.phase is MemberPhase.PROMOTING:
        if core.full_here:
            _complete_promotion(core, member)
    else:
        _complete_demotion(core, member)


def left(configuration: Configuration) -> Configuration:
    """The step out of a joint configuration: who is LEAVING goes."""
    members = tuple(m for m in configuration.members if m.phase is not MemberPhase.LEAVING)
    return replace(configuration, epoch=configuration.epoch + 1, members=members, outgoing=())


def _complete_promotion(core: Core, member: Member) -> None:
    p = core.progress.get(member.member_id)
    if p is None:
        return
    after = _renewed(core, member, MemberRole.FULL, MemberPhase.STEADY)
    ready = (
        p.ready_epoch == core.configuration.epoch
        and core.commit_index - p.ready_index <= core.config.role_gap_entries_max
    )
    if ready and _behind(core, p) is None and why_not_covered(core, after) is None:
        append_configuration(core, None, after, member.member_id)
        return
    policy = core.config.role_policy
    if core.now - core.change_since >= policy.change_timeout_ns:
        why = f"it was not ready after {policy.change_timeout_ns} ns"
    elif core.now - p.contact >= policy.promote_after_ns:
        why = f"it is silent for {core.now - p.contact} ns"
    else:
        return
    core.alarm("promotion_aborted", f"promotion of member {member.member_id}: {why}")
    _settle(core, None, _aborted(core, member.member_id), member.member_id)


def _complete_demotion(core: Core, member: Member) -> None:
    if member.member_id == core.node_id:
        # I9: a DEMOTING voter that was elected hands over (caretaker.py), or stays full if nobody takes over.
        if core.now - core.leading_since >= core.config.election_timeout_ns and core.transfer is None:
            _settle(core, None, _aborted(core, member.member_id), member.member_id)
        return
    if not core.full_here:
        return
    p = core.progress.get(member.member_id)
    after = _renewed(core, member, MemberRole.WITNESS, MemberPhase.STEADY)
    if p is not None and _may_be_witness(core, p, after):
        append_configuration(core, None, after, member.member_id)
    elif core.now - core.change_since >= core.config.role_policy.change_timeout_ns:
        core.alarm("demotion_aborted", f"demotion of member {member.member_id} was not complete in time")
        _settle(core, None, _aborted(core, member.member_id), member.member_id)


def _may_be_witness(core: Core, p: Progress, after: Configuration) -> bool:
    """D2: it has appended D1, so it truncates no more, and every other full voter is past D1 and its log's start."""
    demoted = core.log.configuration_index
    if p.match < demoted or not p.log_first or why_not_covered(core, after) is not None:
        return False
    others = [m for m in after.members if m.voter and m.is_full and m.member_id != core.node_id]
    known = [core.progress.get(m.member_id) for m in others]
    return all(o is not None and o.match >= demoted and is_live(core, o) for o in known)


def observe(core: Core) -> Observed:
    """What this leader sees, for `decide`."""
    configuration = core.configuration
    seen = [Seen(core.node_id, 0, True)]
    for p in core.progress.values():
        live = is_live(core, p)
        near = core.commit_index - p.match <= core.config.role_gap_entries_max
        applied = core.is_witness(p.member_id) or core.commit_index - p.applied <= core.config.role_gap_entries_max
        pressed = p.member_id in core.witness_pressed
        silent = 0 if live else core.now - p.contact
        seen.append(Seen(p.member_id, silent, near and applied, pressed))
    known = {s.member_id: s for s in seen}
    full = [known.get(m.member_id) for m in configuration.members if m.voter and m.is_full]
    if all(s is not None and not s.silent_ns and s.caught_up for s in full):
        core.healthy_since = core.now if core.healthy_since is None else core.healthy_since
    else:
        core.healthy_since = None
    busy = core.transfer is not None or why_not_now(core, None) is not None
    return Observed(
        configuration,
        core.node_id,
        core.committed_levels.active,
        busy,
        core.role_changed_at,
        core.healthy_since,
        True,
        tuple(sorted(seen, key=lambda s: s.member_id)),
        core.change_aborted,
    )


def _shape(core: Core) -> None:
    """Quorum shaping, when nothing else is to be done."""
    after_ns = core.config.role_policy.shape_after_ns
    if not after_ns or len(core.voters) <= VOTERS_FLOOR or why_not_now(core, None) is not None:
        return
    silences = {
        p.member_id: Silence(
            0 if is_live(core, p) else core.now - p.contact, max(0, core.confirmed_round - p.acked_round)
        )
        for p in core.progress.values()
    }
    if all(s.silent_ns < after_ns for s in silences.values()):
        return  # in nearly every heartbeat: whether a promotion could be made need not be known
    witnesses = [m.member_id for m in core.configuration.members if m.voter and not m.is_full]
    promotable = any(isinstance(_promoting(core, w, None), Configuration) for w in witnesses)
    after = shape(core.configuration, core.node_id, silences, after_ns, promotable=promotable)
    if after is None or why_not_voters(core, after) is not None:
        return
    (gone,) = set(core.configuration.voter_ids) - set(after.voter_ids)
    p = core.progress[gone]
    p.caught_up, p.catch_target, p.catch_started = False, core.log.last_index, core.now
    core.alarm("voter_set_aside", f"member {gone} is silent for {core.now - p.contact} ns: a learner until caught up")
    change_voters(core, None, after, gone)


def _follow_policy(core: Core) -> bool:
    """Ask for what `decide` says; what is refused is decided anew with the next heartbeat. True if asked."""
    if all(m.is_full for m in core.configuration.members) and not core.config.role_policy.witness_names:
        return False
    observed = observe(core)
    steps = decide(observed, core.config.role_policy, core.now)
    if not steps:
        if not observed.change_open:
            core.refused_change = ""
        return False
    (step,) = steps
    match step:
        case Promote():
            answer = _promoting(core, step.member_id, None)
            member_id = step.member_id
        case Demote():
            answer = _demoting(core, step.member_id, None)
            member_id = step.member_id
        case Swap():
            answer = _swapped(core, step.old_id, step.new_id, None)
            member_id = step.new_id
        case HandOver():
            transfer.begin(core, None, step.target)
            return True
    if isinstance(answer, ProposalRefused):
        _tell_refused(core, step, member_id, answer)
        return False
    core.refused_change = ""
    append_configuration(core, None, answer, member_id)
    core.alarm("role_change", f"member {member_id}: {step.why}")
    return True


def _tell_refused(core: Core, step: Promote | Demote | Swap, member_id: NodeId, answer: ProposalRefused) -> None:
    """Once for each step that the policy asks for and the rules refuse, however long it goes on."""
    refused = f"{type(step).__name__.lower()} {member_id}"
    if core.refused_change != refused:
        core.refused_change = refused
        core.alarm("role_change_refused", f"{refused}: {step.why}, but {answer}")
