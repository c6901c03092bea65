"""The status that a look leads to. Nothing in it changes while nothing happens: no clock, no counter, no exact lag.

Conditions are kstatus-clean: Ready is written with the very first status, each has its observedGeneration,
lastTransitionTime moves with the status alone, and Stalled is there only while the spec cannot be worked on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lockmaster_operator.desired.names import Cluster, pod_name, selector_text
from lockmaster_operator.models.conditions import Condition, Truth, condition_of
from lockmaster_operator.models.lock_cluster_status import (
    MEMBERS_MAX,
    GateStatus,
    LockClusterStatus,
    MemberRole,
    MemberStatus,
    Phase,
    RoleChange,
    Shape,
)
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.models.timestamps import seconds_at, timestamp_of
from lockmaster_operator.plan.founding import Founding, foreign_ordinals
from lockmaster_operator.plan.gate import Gate, evidence
from lockmaster_operator.plan.shape import shape_difference, shape_waits
from lockmaster_operator.plan.upgrade import Block, Roll, outdated, running_versions
from lockmaster_operator.plan.versions import release_of
from lockmaster_operator.plan.view import MemberView, View

MESSAGE_MAX: Final = 1024
_ALARMS: Final = {
    "disk_nearly_full": (
        "DiskNearlyFull",
        "its volume is nearly full; writes are refused while its member leads: raise "
        "storage.size, or make room on what the volumes share",
    ),
    "state_diverged": (
        "StateDiverged",
        "its state is not the one that others computed: see its log, and replace its volume",
    ),
    "fence_above": ("FenceAbove", "its binary is older than the standing FENCE: finish the upgrade or cancel it"),
}
"""Alarms that stand until their cause is gone: code -> reason, and what it is. Others only tell of a moment."""
REFUSED: Final = "ApiServerRefused"
_BAD_PHASES: Final = (Phase.LOST, Phase.UNREACHABLE, Phase.BEHIND, Phase.SET_ASIDE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the other modules found: each fills in one condition."""

    founding: Founding
    gate: Gate
    block: Block | None
    roll: Roll
    doing: str = ""
    """Reason of Progressing for the step of this plan; "" if there is none."""
    why: str = ""
    template_pending: bool = False
    """The StatefulSet is not as desired yet."""
    taken: tuple[str, ...] = ()
    """Objects that are in the way because they are not ours."""
    volume_size: str = ""
    """How large every volume is to be; "": not decided in this pass."""


@dataclass(frozen=True, slots=True)
class _Told:
    status: Truth
    reason: str
    message: str = ""


def status_of(view: View, verdict: Verdict) -> LockClusterStatus:
    """What is to be stored; equal to what is stored when nothing has changed."""
    before = view.status
    members = tuple(_member(view, member) for member in view.members[:MEMBERS_MAX])
    leads = view.leader
    versions = running_versions(view)
    return before.model_copy(
        update={
            "observed_generation": view.cluster.generation,
            "conditions": _conditions(view, verdict),
            "cluster_id": verdict.founding.cluster_id or before.cluster_id,
            "members": members if view.engine is not None else before.members,
            "full_copies": view.full_copies if view.engine is not None else 0,
            "quorum_margin": max(0, view.margin),
            "gate": GateStatus(level=view.level, fence=view.fence, evidence=evidence(view)),
            "last_role_change": _role_change(view),
            "shape": _shape(view),
            "leader": pod_name(view.cluster, leads.ordinal) if leads is not None else "",
            "version": min(versions, key=lambda v: (release_of(v) or (0, 0), v)) if versions else before.version,
            "witnesses": sum(m.seen.witness for m in view.voters) if view.engine is not None else before.witnesses,
            "full_replicas": _full_voters(view) if view.engine is not None else before.full_replicas,
            "selector": selector_text(view.cluster),
            "volume_size": verdict.volume_size or before.volume_size,
        }
    )


def _full_voters(view: View) -> int:
    return sum(1 for member in view.voters if not member.seen.witness)


def _shape(view: View) -> Shape | None:
    """The one in the spec, once it is reached; before that the one that was."""
    if not view.led or view.change_open or shape_difference(view.members, view):
        return view.status.shape
    members = view.cluster.spec.members
    return Shape(full=members.full, witness=members.witness)


def _member(view: View, member: MemberView) -> MemberStatus:
    report = member.pod.report if member.pod is not None else None
    before = next((row for row in view.status.members if row.member_id == member.member_id), None)
    version = report.version if report is not None else (before.version if before is not None else "")
    return MemberStatus(
        ordinal=max(-1, min(member.ordinal, 999)),
        member_id=member.member_id,
        role=member.role,
        phase=member.phase,
        version=version,
        level=member.seen.level_max or (before.level if before is not None else 0),
        durable_lag=0 if member.caught_up else 1 << max(0, member.seen.lag_entries - 1).bit_length(),
        leader=member.seen.leader,
        since=timestamp_of(member.since),
    )


def _role_change(view: View) -> RoleChange | None:
    """The last one: a member whose phase began to be one of a change, or whose role is another than remembered."""
    before = {row.member_id: row for row in view.status.members}
    for member in view.members:
        known = before.get(member.member_id)
        if known is None:
            continue
        begins = member.phase in (Phase.PROMOTING, Phase.DEMOTING) and known.phase is not member.phase
        unseen = member.role is not known.role and known.phase not in (Phase.PROMOTING, Phase.DEMOTING)
        if begins or unseen:
            becomes = member.role
            if begins:
                becomes = MemberRole.FULL if member.phase is Phase.PROMOTING else MemberRole.WITNESS
            why = next((f"member {m.member_id} is {m.phase.value}" for m in view.members if m.silent), "")
            return RoleChange(member_id=member.member_id, role=becomes, time=timestamp_of(view.now), why=why)
    return view.status.last_role_change


def _conditions(view: View, verdict: Verdict) -> tuple[Condition, ...]:
    blocked, gate = verdict.block, verdict.gate
    told = {
        "Ready": _ready(view, verdict),
        "Progressing": _progressing(view, verdict),
        "Degraded": _degraded(view, verdict),
        "QuorumAvailable": _quorum(view, verdict),
        "WitnessGate": _Told(Truth.TRUE if gate.open else Truth.FALSE, gate.reason, gate.message),
        "UpgradeBlocked": _upgrade(view, blocked, verdict.roll),
        "Paused": _Told(Truth.TRUE, "Asked", "spec.paused: nothing is changed")
        if view.cluster.spec.paused
        else _Told(Truth.FALSE, "NotAsked"),
    }
    return tuple(_condition(view.cluster, view.status, kind, item, view.now) for kind, item in told.items())


def _condition(cluster: Cluster, before: LockClusterStatus, kind: str, told: _Told, now: int) -> Condition:
    known = condition_of(before.conditions, kind)
    moved = known is None or known.status is not told.status
    return Condition(
        type=kind,
        status=told.status,
        reason=told.reason,
        message=told.message[:MESSAGE_MAX],
        last_transition_time=timestamp_of(now) if known is None or moved else known.last_transition_time,
        observed_generation=cluster.generation,
    )


def refused_status(cluster: Cluster, before: LockClusterStatus, why: str, now: int) -> LockClusterStatus:
    """For a spec that cannot be read: Ready False and Stalled True with the same words; all else stays."""
    told = _Told(Truth.FALSE, "InvalidSpec", why)
    kept = tuple(c for c in before.conditions if c.type not in ("Ready", "Stalled"))
    ready = _condition(cluster, before, "Ready", told, now)
    stalled = _condition(cluster, before, "Stalled", _Told(Truth.TRUE, "InvalidSpec", why), now)
    return before.model_copy(update={"observed_generation": cluster.generation, "conditions": (ready, *kept, stalled)})


def unseen_status(cluster: Cluster, before: LockClusterStatus, why: str, now: int) -> LockClusterStatus:
    """For a look that the API server refuses: Degraded with its words, and not Ready unless it was; all else stays."""
    kept = tuple(c for c in before.conditions if c.type != "Degraded")
    if condition_of(kept, "Ready") is None:
        kept = (_condition(cluster, before, "Ready", _Told(Truth.FALSE, REFUSED, why), now), *kept)
    degraded = _condition(cluster, before, "Degraded", _Told(Truth.TRUE, REFUSED, why), now)
    return before.model_copy(update={"conditions": (*kept, degraded)})


def _ready(view: View, verdict: Verdict) -> _Told:
    if verdict.founding.reason:
        return _Told(Truth.FALSE, verdict.founding.reason, verdict.founding.message)
    if view.cluster.spec.hibernate:
        return _Told(Truth.FALSE, "Hibernated", "spec.hibernate: no pods; volumes and identities stay")
    if not view.led or view.margin < 0:
        return _Told(Truth.FALSE, "NoQuorum", "no full member leads a majority")
    difference = shape_difference(view.members, view)
    if difference:
        return _Told(Truth.FALSE, "NotInShape", difference)
    if view.unsettled:
        return _Told(Truth.FALSE, "NotSettled", view.unsettled)
    if verdict.block is not None:
        return _Told(Truth.FALSE, "UpgradeBlocked", verdict.block.message)
    leads = view.leader.ordinal if view.leader is not None else -1
    if leads in _alarmed(view).get("disk_nearly_full", ()):
        reason, words = _ALARMS["disk_nearly_full"]
        return _Told(Truth.FALSE, reason, f"{pod_name(view.cluster, leads)}, which leads: {words}")
    if outdated(view):
        names = ", ".join(pod_name(view.cluster, n) for n in outdated(view))
        return _Told(Truth.FALSE, "Rolling", f"{names} are to be restarted")
    if verdict.template_pending:
        return _Told(Truth.FALSE, "Applying", "the StatefulSet is being brought to the spec")
    return _Told(Truth.TRUE, "AsSpecified", f"{len(view.members)} members are there, as specified")


def _progressing(view: View, verdict: Verdict) -> _Told:
    spec = view.cluster.spec
    if spec.paused:
        return _Told(Truth.FALSE, "Paused", "spec.paused: nothing is changed")
    if spec.hibernate:
        return _Told(Truth.FALSE, "Hibernated", "no pods; volumes and identities stay")
    if verdict.founding.reason:
        return _Told(Truth.TRUE, verdict.founding.reason, verdict.founding.message)
    if verdict.doing:
        return _Told(Truth.TRUE, verdict.doing, verdict.why)
    changing = [member for member in view.members if member.seen.phase != "steady" or member.phase is Phase.JOINING]
    if changing:
        words = ", ".join(f"member {member.member_id} is {member.phase.value}" for member in changing)
        return _Told(Truth.TRUE, changing[0].phase.value, words)
    if verdict.roll.waits and verdict.block is None:
        return _Told(Truth.TRUE, "RollWaits", verdict.roll.waits)
    difference = shape_difference(view.members, view) if view.led else ""
    if difference:
        waits = shape_waits(view)
        return _Told(Truth.TRUE, "ShapeWaits", f"{difference}; {waits}" if waits else difference)
    return _Told(Truth.FALSE, "Settled", "nothing is to be done")


def _degraded(view: View, verdict: Verdict) -> _Told:
    foreign = foreign_ordinals(view, verdict.founding.cluster_id)
    if foreign:
        names = ", ".join(pod_name(view.cluster, n) for n in foreign)
        words = f"the volumes of {names} belong to another cluster; they are left alone: remove them by hand"
        return _Told(Truth.TRUE, "ForeignVolumes", words)
    if view.observed.bad_secrets:
        return _Told(Truth.TRUE, "SecretUnusable", "; ".join(view.observed.bad_secrets))
    if view.observed.refused:
        return _Told(Truth.TRUE, REFUSED, view.observed.refused)
    if verdict.taken:
        words = f"{', '.join(verdict.taken)} is there and not this LockCluster's; rename or remove it"
        return _Told(Truth.TRUE, "NameTaken", words)
    bad = [member for member in view.members if member.phase in _BAD_PHASES]
    if bad:
        words = ", ".join(f"member {m.member_id} ({pod_name(view.cluster, m.ordinal)}) is {m.phase.value}" for m in bad)
        return _Told(Truth.TRUE, f"Member{bad[0].phase.value}", words)
    for code, ordinals in _alarmed(view).items():
        reason, words = _ALARMS[code]
        names = ", ".join(pod_name(view.cluster, n) for n in ordinals)
        return _Told(Truth.TRUE, reason, f"{names}: {words}")
    failing = [pod for pod in view.observed.pods if not pod.running and (pod.restarts or pod.pending_reason)]
    if failing:
        words = ", ".join(
            f"{pod_name(view.cluster, pod.ordinal)} does not run: "
            + (pod.pending_reason or f"it ended with exit code {pod.exit_code}")
            for pod in failing
        )
        return _Told(Truth.TRUE, "PodFailing", words)
    if view.observed.pods_refused:
        return _Told(Truth.TRUE, "PodsNotCreated", f"pods are missing: {view.observed.pods_refused}")
    return _Told(Truth.FALSE, "AsIntended")


def _alarmed(view: View) -> dict[str, tuple[int, ...]]:
    """Ordinals of the pods whose members raise an alarm, by its code; the worst code first."""
    told = {n: pod.report.alarms for n, pod in sorted(view.pods.items()) if pod.report is not None}
    found = {code: tuple(n for n, alarms in told.items() if code in alarms) for code in _ALARMS}
    return {code: ordinals for code, ordinals in found.items() if ordinals}


def _quorum(view: View, verdict: Verdict) -> _Told:
    if verdict.founding.reason:
        return _Told(Truth.FALSE, "NotFounded", "the cluster has not been made yet")
    if view.engine is not None and view.margin >= 0:
        return _Told(Truth.TRUE, "Quorum", f"{len(view.voters)} voters, {view.margin} of them can be missed")
    if view.cluster.spec.hibernate:
        return _Told(Truth.UNKNOWN, "Hibernated", "no pods, so nobody to ask; data and identities stay")
    if not any(pod.report is not None for pod in view.observed.pods):
        return _Told(
            Truth.UNKNOWN, "NoMemberAnswers", "no member answers the operator, which proves nothing about them"
        )
    known = condition_of(view.status.conditions, "QuorumAvailable")
    wait = seconds_of(view.cluster.spec.witness.promote_after)
    since = seconds_at(known.last_transition_time) if known is not None and known.status is Truth.FALSE else view.now
    founded = known is not None and known.reason in ("NoLeader", "QuorumLost")
    if founded and view.now - since >= wait:
        return _Told(
            Truth.FALSE,
            "QuorumLost",
            "members answer and none leads: the operator changes nothing. Bring members back; if a majority is gone "
            "for good, make a QuorumRecovery",
        )
    return _Told(Truth.FALSE, "NoLeader", "members answer and none leads")


def _upgrade(view: View, block: Block | None, roll: Roll) -> _Told:
    if block is not None:
        return _Told(Truth.TRUE, block.reason, block.message)
    current = [
        (n, pod.report.version)
        for n, pod in sorted(view.pods.items())
        if pod.report is not None and pod.template == view.template and pod.report.version != view.cluster.spec.version
    ]
    if current and view.template:
        words = ", ".join(f"{pod_name(view.cluster, n)} reports {version}" for n, version in current)
        return _Told(Truth.TRUE, "VersionMismatch", f"{words}, not {view.cluster.spec.version}: is spec.image that?")
    if roll.waits:
        return _Told(Truth.TRUE, "Waiting", roll.waits)
    return _Told(Truth.FALSE, "NothingInTheWay")
