"""From the members there are to those that spec.members asks for: one at a time, each legal by itself.

Ordinals 0 … full - 1 are full, the ones after them witnesses. Of the steps that lead there the first legal one is
taken: add a member (full ones first), promote a witness that is to be full, remove the highest ordinal, demote
(roles.py: at once where a person asked; after a failure with its hysteresis). The engine checks each again where its
entry is appended.
"""

from __future__ import annotations

from typing import Final

from lockmaster_operator.models.lock_cluster import WitnessMode
from lockmaster_operator.models.timestamps import timestamp_of
from lockmaster_operator.plan.gate import WITNESS_LEVEL
from lockmaster_operator.plan.repair import add_member
from lockmaster_operator.plan.roles import asked_step, restored_from
from lockmaster_operator.plan.steps import PromoteMember, RemoveMember, Step, TransferLeadership
from lockmaster_operator.plan.upgrade import outdated, window_open
from lockmaster_operator.plan.view import STABLE_S, MemberView, View, majority

FULL_MIN: Final = 2
"""I8: fewest full voters, but while a cluster is being formed."""


def join_step(view: View) -> Step | None:
    """A blank pod that has a place becomes a member; the lowest ordinal, a full place before a witness's."""
    if not view.led or view.change_open:
        return None
    total = view.cluster.spec.members.total
    for ordinal in range(total):
        pod = view.pods.get(ordinal)
        report = pod.report if pod is not None else None
        if view.at(ordinal) or report is None or not report.blank or pod is None or pod.deleting:
            continue
        if view.wants_witness(ordinal) is report.witness and _may_join(view, witness=report.witness):
            return add_member(view, ordinal, report, learner=False)
    return None


def _may_join(view: View, *, witness: bool) -> bool:
    if not witness:
        return True
    full = sum(1 for member in view.voters if not member.seen.witness)
    enough = full >= max(FULL_MIN, majority(len(view.voters) + 1))
    return view.level >= WITNESS_LEVEL and enough


def resize_step(view: View) -> Step | None:
    """What spec.members asks for, in a settled cluster with a margin to spare."""
    if view.settled_for < STABLE_S or view.margin < 1:
        return None
    if not window_open(view.cluster.spec.maintenance_window, view.now):
        return None
    return _promote(view) or _remove(view) or asked_step(view)


def shape_waits(view: View) -> str:
    """Why what is not as spec.members says is left so for now, in words that stay the same while nothing happens."""
    spec = view.cluster.spec
    if view.margin < 1 and len(view.voters) > 2:
        return "no voter can be missed now"
    if view.unsettled:
        return view.unsettled
    if not window_open(spec.maintenance_window, view.now) and view.asked:
        return "spec.maintenanceWindow is closed"
    if view.asked and spec.witness.mode is WitnessMode.DISABLED:
        return "spec.witness.mode is Disabled, so no role is changed: Auto makes the change"
    able = spec.witness.mode is WitnessMode.AUTO and view.level >= WITNESS_LEVEL and not view.asked
    restores = able and any(not m.seen.witness and view.wants_witness(m.ordinal) for m in view.members)
    at = restored_from(view) if restores else None
    if at is None:
        return ""
    return (
        f"the shape is restored from {timestamp_of(at)} on, promoteAfter ({spec.witness.promote_after}) after all "
        f"members were back and coolDown ({spec.witness.cool_down}) after the last change of a role"
    )


def _promote(view: View) -> Step | None:
    for member in view.members:
        if member.seen.witness and 0 <= member.ordinal < view.cluster.spec.members.full:
            return PromoteMember(member.member_id, view.epoch, "spec.members asks for a full member here")
    return None


def _remove(view: View) -> Step | None:
    """The highest ordinal leaves first: no other pod can (operators.md §4). If it leads, it hands over before."""
    last = max(view.members, key=lambda member: (member.ordinal, member.member_id))
    if last.ordinal < view.cluster.spec.members.total:
        return None
    left = [member for member in view.voters if member.member_id != last.member_id]
    full = [member for member in left if not member.seen.witness]
    witnesses = len(full) < len(left)
    if len(full) < FULL_MIN or (witnesses and len(full) < majority(len(left))):
        return None
    if last.seen.leader:
        return TransferLeadership(full[0].member_id, view.term, f"member {last.member_id} leads and is to be removed")
    return RemoveMember(last.member_id, view.epoch, "spec.members asks for fewer members")


def replicas(view: View) -> int:
    """Of the StatefulSet: what the members need; one more when one is to join, one less when the last is nobody's."""
    spec, live = view.cluster.spec, view.replicas
    if spec.hibernate or view.held:
        return 0
    needed, total = view.highest + 1, spec.members.total
    if needed == 0:
        return max(total, live or 0) if view.status.cluster_id else total
    if live is None or live < needed:
        return needed
    if view.engine is None:
        return live
    if live > max(needed, total):
        return live - 1
    grows = live == needed < total and not view.unsettled and not outdated(view)
    return live + 1 if grows and window_open(spec.maintenance_window, view.now) else live


def shape_difference(members: tuple[MemberView, ...], view: View) -> str:
    """What is not as spec.members says, in a few stable words; "" when it is."""
    spec = view.cluster.spec.members
    by_ordinal = {member.ordinal: member for member in members if member.seen.voter}
    missing = [n for n in range(spec.total) if n not in by_ordinal]
    if missing:
        return f"members at ordinals {missing} are still to join"
    extra = sorted(n for n in by_ordinal if not 0 <= n < spec.total)
    if extra:
        return f"members at ordinals {extra} are still to leave"
    for ordinal, member in sorted(by_ordinal.items()):
        if member.seen.witness != view.wants_witness(ordinal):
            role = "a witness" if view.wants_witness(ordinal) else "full"
            return f"member {member.member_id} is to become {role}"
    return ""
