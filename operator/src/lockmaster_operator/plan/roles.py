"""Promotion, restoring the shape, replacing a lost member: the core's own policy with the operator's evidence.

`role_policy.decide` is the function that leaders run by themselves (raft.md §4, "Who decides"); here it is run with
what only the operator knows: which volume is lost. This is the one module of the operator that imports the core
(docs/decisions/0006-operator-core.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration, Member, MemberPhase, MemberRole
from lockmaster_raft.role_policy import (
    Demote,
    HandOver,
    Observed,
    Promote,
    RoleMode,
    RolePolicy,
    Seen,
    Swap,
    decide,
)

from lockmaster_operator.models.lock_cluster import WitnessMode
from lockmaster_operator.models.lock_cluster_status import Phase
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.models.timestamps import seconds_at
from lockmaster_operator.plan.gate import WITNESS_LEVEL
from lockmaster_operator.plan.steps import DemoteMember, PromoteMember, ReplaceMember, Step, TransferLeadership
from lockmaster_operator.plan.view import MemberView, View

NS: Final = 1_000_000_000
_PHASES: Final = {phase.name.lower(): phase for phase in MemberPhase}


def role_step(view: View) -> Step | None:
    """The role change or replacement to ask for now, if any."""
    if not view.led:
        return None
    epoch = view.epoch
    automatic = view.cluster.spec.witness.mode is WitnessMode.AUTO
    for step in decide(_observed(view), _policy(view), view.now * NS):
        if isinstance(step, Swap):
            return ReplaceMember(step.old_id, step.new_id, epoch, step.why)
        if not automatic:
            return None
        if isinstance(step, Promote):
            return PromoteMember(step.member_id, epoch, step.why)
        if isinstance(step, Demote):
            return DemoteMember(step.member_id, epoch, step.why)
        return TransferLeadership(step.target, view.term, step.why) if isinstance(step, HandOver) else None
    return None


def asked_step(view: View) -> Step | None:
    """The demotion, or the hand-over before it, that a person has asked for by spec.members: without promoteAfter and
    coolDown, which keep failures from making roles flap. For a settled cluster with a margin (shape.py)."""
    if not view.led or not view.asked or view.cluster.spec.witness.mode is not WitnessMode.AUTO:
        return None
    policy = replace(_policy(view), restore_after_ns=0, cool_down_ns=0)
    for step in decide(_observed(view), policy, view.now * NS):
        if isinstance(step, Demote):
            return DemoteMember(step.member_id, view.epoch, "spec.members asks for a witness here")
        if isinstance(step, HandOver):
            why = "the member that leads is to become a witness by spec.members"
            return TransferLeadership(step.target, view.term, why)
    return None


def restored_from(view: View) -> int | None:
    """When the shape may be restored after a failure, in seconds since 1970; None: nothing settled to count from."""
    if view.settled_for < 0:
        return None
    witness, changed = view.cluster.spec.witness, view.status.last_role_change
    since = view.now - view.settled_for + int(seconds_of(witness.promote_after))
    return since if changed is None else max(since, seconds_at(changed.time) + int(seconds_of(witness.cool_down)))


def _policy(view: View) -> RolePolicy:
    witness = view.cluster.spec.witness
    wait = int(seconds_of(witness.promote_after) * NS)
    names = (member.seen.name for member in view.members if view.wants_witness(member.ordinal))
    places = frozenset(names if view.level >= WITNESS_LEVEL else ())  # (4) of gate.py: nobody becomes one before
    return RolePolicy(
        mode=RoleMode.OPERATED,
        promote_after_ns=wait,
        restore_after_ns=wait,
        cool_down_ns=int(seconds_of(witness.cool_down) * NS),
        witness_names=places,
    )


def _observed(view: View) -> Observed:
    leader = view.leader
    joining = any(m.phase is Phase.JOINING and m.seen.reachable and not m.caught_up for m in view.members)
    changed = view.status.last_role_change
    healthy = view.now - view.settled_for if view.settled_for >= 0 else None
    return Observed(
        configuration=_configuration(view),
        leader_id=NodeId(leader.member_id if leader is not None else 0),
        level_active=view.level,
        change_open=joining,
        role_changed_at=None if changed is None else seconds_at(changed.time) * NS,
        healthy_since=None if healthy is None else healthy * NS,
        by_leader=False,
        members=tuple(_seen(view, member) for member in view.members),
    )


def _seen(view: View, member: MemberView) -> Seen:
    """A lost member counts as lost at once where nothing can take its place, else when its replacement is ready."""
    silent = max(1, view.now - member.since) * NS if member.silent else 0
    beside = [other for other in view.at(member.ordinal) if other.member_id != member.member_id]
    pod = view.pods.get(member.ordinal)
    rebuilt = any(not other.silent for other in beside) or (pod is not None and pod.report is not None)
    ready = any(other.caught_up for other in beside)
    return Seen(NodeId(member.member_id), silent, member.caught_up, lost=member.lost and (ready or not rebuilt))


def _configuration(view: View) -> Configuration:
    members = tuple(
        Member(
            member_id=NodeId(m.member_id),
            name=m.seen.name,
            peer_address=m.seen.peer_address,
            client_address="",
            incarnation=b"",
            voter=m.seen.voter,
            role=MemberRole.WITNESS if m.seen.witness else MemberRole.FULL,
            phase=_PHASES.get(m.seen.phase, MemberPhase.STEADY),
            promote_when_caught_up=not any(other.lost for other in view.at(m.ordinal)),
        )
        for m in view.members
    )
    joint = any(member.phase is MemberPhase.LEAVING for member in members)
    outgoing = tuple(member.member_id for member in members) if joint else ()
    highest = max((member.member_id for member in members), default=0)
    return Configuration(view.epoch, members, NodeId(highest + 1), outgoing=outgoing)
