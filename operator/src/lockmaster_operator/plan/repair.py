"""Mending: members whose volume is lost or damaged, pods that can only be helped by a restart, learners that got stuck.

Laws: nothing here takes a vote away that is given: a pod is restarted, a volume replaced, a member removed only if the
leader has not heard of that member (or, before there is a leader, if the kubelet says that nothing runs). A lost member
is replaced in place: same ordinal, blank volume, new id, one joint change. Not add-then-remove (raft.md §4).
"""

from __future__ import annotations

from typing import Final

from lockmaster_operator.desired.names import pod_name
from lockmaster_operator.models.lock_cluster_status import Phase
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.observed import MemberReport, PodSeen
from lockmaster_operator.plan.steps import AddMember, DeletePod, RemoveMember, ReplaceVolume, Step, WipeMember
from lockmaster_operator.plan.view import MemberView, View, majority

DAMAGED_EXITS: Final = frozenset({71, 76})
"""Exit codes of a member whose data is damaged or has lost what it promised (docs/exit-codes.md)."""
DAMAGED_RESTARTS_MIN: Final = 3
"""So often it must have ended that way before its volume is given up."""
LEARNER_S_MAX: Final = 600
"""A learner that has not been heard of for so long since it joined is taken out again."""
JOINT_LEVEL: Final = 2
"""Level of joint changes; below it a lost member is removed first."""


def restart_step(view: View) -> DeletePod | None:
    """A pod of an old template that does not run: a bad image is healed by the next template, quorum or not."""
    for ordinal, pod in sorted(view.pods.items()):
        if not view.template or pod.template == view.template or pod.running or pod.deleting:
            continue
        if any(not member.silent for member in view.at(ordinal)):
            continue
        name = pod_name(view.cluster, ordinal)
        return DeletePod(ordinal, pod.uid, f"{name} does not run ({pod.pending_reason or 'ended'}) and is outdated")
    return None


def repair_step(view: View) -> Step | None:
    """The next step towards members that are there and well, if any is needed and safe."""
    if not view.led:
        return None
    return _drop_learner(view) or _begin_blank(view) or _add_replacement(view) or _replace_volume(view)


def _drop_learner(view: View) -> RemoveMember | None:
    """A learner that never voted and is lost, or was never heard of."""
    for member in view.members:
        if member.seen.voter or member.seen.phase != "steady" or member.phase is Phase.SET_ASIDE:
            continue
        stuck = member.phase is Phase.JOINING and not member.seen.reachable
        if member.lost or (stuck and view.now - member.since >= LEARNER_S_MAX):
            why = "is lost" if member.lost else f"has not been heard of for {LEARNER_S_MAX} s"
            return RemoveMember(member.member_id, view.epoch, f"learner {member.member_id} {why}")
    return None


def _begin_blank(view: View) -> WipeMember | None:
    """A volume of a removed identity of this cluster, or a blank one that was made for the other role."""
    ids = {member.member_id for member in view.members}
    for ordinal, pod in sorted(view.pods.items()):
        report = pod.report
        if report is None or pod.deleting or ordinal > max(view.highest, view.cluster.spec.members.total - 1):
            continue
        if report.blank:
            if report.witness is not wanted_witness(view, ordinal):
                role = "a full member" if report.witness else "a witness"
                return WipeMember(ordinal, pod.uid, report.incarnation, f"this blank volume is to be {role}'s")
        elif report.cluster_id == view.cluster_id and report.member_id not in ids:
            why = f"member {report.member_id} was removed; its id never comes back"
            return WipeMember(ordinal, pod.uid, report.incarnation, why)
    return None


def wanted_witness(view: View, ordinal: int) -> bool:
    """What a blank volume at this ordinal is for: what it replaces, else the spec's place."""
    for member in view.at(ordinal):
        return member.seen.witness
    return view.wants_witness(ordinal)


def _add_replacement(view: View) -> Step | None:
    """A blank volume where a voter is lost: a learner beside it, to be swapped in (roles.py) once caught up."""
    if view.change_open:
        return None
    for member in view.voters:
        pod = view.pods.get(member.ordinal)
        report = pod.report if pod is not None else None
        if not member.lost or report is None or not report.blank or member.seen.leader:
            continue
        if view.level < JOINT_LEVEL:
            return _remove_first(view, member)
        return add_member(view, member.ordinal, report, learner=True)
    return None


def _remove_first(view: View, member: MemberView) -> RemoveMember | None:
    """Below the level of joint changes: out with the old one, if those left have a quorum; the blank one then joins."""
    left = [other for other in view.voters if other.member_id != member.member_id]
    if sum(not other.silent for other in left) < majority(len(left)):
        return None
    return RemoveMember(member.member_id, view.epoch, f"member {member.member_id} is lost for good")


def add_member(view: View, ordinal: int, report: MemberReport, *, learner: bool) -> AddMember:
    """Adds the blank member of a pod. Names are unique in a configuration: a second one of a pod gets a suffix."""
    name = pod_name(view.cluster, ordinal)
    if any(member.seen.name == name for member in view.members):
        name = f"{name}~{report.incarnation[:8]}"
    return AddMember(ordinal, name, report.incarnation, report.witness, learner, report.level_max, view.epoch)


def _replace_volume(view: View) -> ReplaceVolume | None:
    """A volume that no node can use any more, or whose data is damaged: given up once the quorum has long gone on
    without its member. Its data is on the others; the member comes back blank and is replaced."""
    wait = seconds_of(view.cluster.spec.witness.promote_after)
    if view.margin < 0 or view.full_copies < 1:
        return None
    for member in view.voters:
        claim, pod = view.claims.get(member.ordinal), view.pods.get(member.ordinal)
        if claim is None or claim.deleting or member.seen.reachable or member.lost:
            continue
        if view.now - member.since < wait or (pod is not None and pod.running):
            continue
        if claim.node_gone:
            why = "its node is gone and no other can use its volume"
        elif pod is not None and _damaged(pod):
            why = f"it ended {pod.restarts} times with exit code {pod.exit_code}: its data is damaged"
        else:
            continue
        uid = pod.uid if pod is not None else ""
        return ReplaceVolume(member.ordinal, claim.uid, uid, f"member {member.member_id}: {why}")
    return None


def _damaged(pod: PodSeen) -> bool:
    return pod.exit_code in DAMAGED_EXITS and pod.restarts >= DAMAGED_RESTARTS_MIN
