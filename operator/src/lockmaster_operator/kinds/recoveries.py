"""What to do about one QuorumRecovery: `plan_recovery(recovery, seen, now)`, pure and total.

    Checking → Founding → Rejoining → Done      pods stopped, the survivor's volume founds, the others' volumes go
           └→ Refused

Never begun but by this object, whose confirmation was typed and checked by the API server. While it is Founding, the
LockCluster has no pod (plan/shape.py). Laws: both ids, and why the majority was held to be lost, are in status before
anything is stopped; a volume is given up only after the new cluster stands on the survivor's; nothing is begun while a
majority answers or is ready by the kubelet's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lockmaster_operator.desired.jobs import Owner, job_name, recovery_job
from lockmaster_operator.desired.names import Cluster, Settings, claim_name, pod_name
from lockmaster_operator.kinds.jobs import (
    CONFLICT,
    POLL_S,
    CreateJob,
    DeleteClaim,
    DeleteJob,
    JobSeen,
    JobState,
    new_cluster_id,
    number,
)
from lockmaster_operator.kinds.planned import Plan, planned
from lockmaster_operator.kinds.telling import Told, busy, refusal
from lockmaster_operator.models.conditions import Truth, condition_of
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus, MemberRole, MemberStatus
from lockmaster_operator.models.quorum_recovery import QuorumRecoverySpec, QuorumRecoveryStatus, RecoveryPhase
from lockmaster_operator.models.timestamps import seconds_at, timestamp_of
from lockmaster_operator.observed import ClaimSeen, PodSeen
from lockmaster_operator.plan.transitions import Event

LOST_S: Final = 30
"""The quorum must have been gone for so long: an election, or a node that boots, is no loss."""
QUORUM_GONE: Final = ("NoLeader", "QuorumLost")
"""Reasons of the condition QuorumAvailable that speak of a loss: it is False of a cluster never founded, too."""
EVIDENCE_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Recovery:
    """One QuorumRecovery as stored."""

    owner: Owner
    generation: int
    spec: QuorumRecoverySpec
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """One look."""

    status: QuorumRecoveryStatus = field(default_factory=QuorumRecoveryStatus)
    cluster: Cluster | None = None
    """The LockCluster; None: there is none, or it is being deleted, or its spec can't be read."""
    cluster_status: LockClusterStatus = field(default_factory=LockClusterStatus)
    led: bool = False
    """A member says that it leads, and answered for the configuration."""
    pods: tuple[PodSeen, ...] = ()
    claims: tuple[ClaimSeen, ...] = ()
    other: str = ""
    """Another QuorumRecovery of this cluster that is under way."""
    job: JobSeen | None = None
    refused: str = ""
    """What the API server refused the last pass, in its words."""


def plan_recovery(own: Recovery, seen: Observed, now: int, settings: Settings) -> Plan[QuorumRecoveryStatus]:
    """What to do about one QuorumRecovery, now (seconds since 1970)."""
    if own.deleting:
        return Plan((), seen.status)
    match seen.status.phase:
        case RecoveryPhase.DONE | RecoveryPhase.REFUSED:
            left = (DeleteJob(seen.job.name, seen.job.uid),) if seen.job is not None else ()
            return Plan(left, seen.status)
        case RecoveryPhase.PENDING | RecoveryPhase.CHECKING:
            return _checking(own, seen, now)
        case RecoveryPhase.FOUNDING:
            return _founding(own, seen, now, settings)
        case RecoveryPhase.REJOINING:
            return _rejoining(own, seen, now)


# ---- whether it may begin --------------------------------------------------------------------------------------------


def _checking(own: Recovery, seen: Observed, now: int) -> Plan[QuorumRecoveryStatus]:
    name, survivor = own.spec.cluster_ref.name, own.spec.survivor
    if seen.cluster is None:
        return planned(own, seen, now, (), {}, busy("WaitingForCluster", f"there is no LockCluster {name} here"), 15)
    refusal = _unfit(own, seen)
    if refusal:
        return _refused(own, seen, now, *refusal)
    if seen.cluster.spec.paused:
        return planned(own, seen, now, (), {"phase": RecoveryPhase.CHECKING}, _paused(name), 15)
    available = condition_of(seen.cluster_status.conditions, "QuorumAvailable")
    lost = available is not None and available.status is Truth.FALSE and available.reason in QUORUM_GONE
    if available is None or not lost or now - seconds_at(available.last_transition_time) < LOST_S:
        why = f"the quorum must have been gone for {LOST_S} s by LockCluster {name}'s condition QuorumAvailable"
        return planned(own, seen, now, (), {"phase": RecoveryPhase.CHECKING}, busy("Checking", why), POLL_S)
    begun = {
        "phase": RecoveryPhase.FOUNDING,
        "old_cluster_id": seen.cluster_status.cluster_id,
        "new_cluster_id": new_cluster_id(own.owner.uid),
        "started": timestamp_of(now),
        "evidence": evidence(seen)[:EVIDENCE_MAX],
    }
    who = f" by {own.spec.requested_by}" if own.spec.requested_by else ""
    told = busy(
        "Founding",
        f"asked for{who}: {name} goes on from {name}-{survivor.ordinal} (member {survivor.member_id}). What others "
        "acknowledged without it is lost, every session ends, the other volumes are given up",
    )
    announced = Event(True, "QuorumRecoveryBegun", told[0].message)
    decided = planned(own, seen, now, (), begun, told, 1)
    return Plan(decided.steps, decided.status, (announced, *decided.events), 1)


def _unfit(own: Recovery, seen: Observed) -> tuple[str, str] | None:
    """Why nothing is begun: reason and words; None: it may be."""
    name, survivor, status = own.spec.cluster_ref.name, own.spec.survivor, seen.cluster_status
    if seen.cluster is not None and seen.cluster.spec.hibernate:
        return "Hibernated", f"LockCluster {name} hibernates, which loses nothing: set its spec.hibernate to false"
    if not status.cluster_id or not status.members:
        return "NothingToRecover", f"LockCluster {name} has never had members: delete it and make it anew"
    if seen.other:
        return "Conflict", f"QuorumRecovery {seen.other} of LockCluster {name} is under way"
    member = next((m for m in status.members if m.member_id == survivor.member_id), None)
    if member is None or member.ordinal != survivor.ordinal:
        rows = ", ".join(f"{pod_name_of(name, m)} is {m.member_id}" for m in status.members)
        return "NoSuchMember", f"{name}-{survivor.ordinal} is not member {survivor.member_id}: {rows}"
    if member.role is MemberRole.WITNESS:
        return (
            "WitnessHasNoState",
            f"member {survivor.member_id} is a witness, which holds no state: name a full member, or restore a backup "
            "into a new LockCluster by a LockRestore",
        )
    alive = alive_members(seen)
    needed = len(status.members) // 2 + 1
    if seen.led or len(alive) >= needed:
        rows = ", ".join(f"{pod_name_of(name, m)} (member {m.member_id})" for m in alive)
        return (
            "MajorityAlive",
            f"{len(alive)} of {len(status.members)} members are there, {needed} are the majority: {rows}; repair the "
            "others instead, nothing has to be lost",
        )
    room = _no_room(own, seen)
    return ("NoRoom", room) if room else None


def _no_room(own: Recovery, seen: Observed) -> str:
    """By the survivor's own word, while it runs; the Job asks again before it writes. "": there is, or nobody knows."""
    survivor = own.spec.survivor
    pod = next((pod for pod in seen.pods if pod.ordinal == survivor.ordinal), None)
    said = pod.report if pod is not None else None
    if said is None or said.member_id != survivor.member_id or said.free_bytes >= said.copy_bytes:
        return ""
    return (
        f"the volume of {own.spec.cluster_ref.name}-{survivor.ordinal} must hold a second copy of the data: "
        f"{said.copy_bytes >> 20} MiB must be free and {said.free_bytes >> 20} are, "
        f"{-(-(said.copy_bytes - said.free_bytes) >> 20)} MiB are missing; raise spec.storage.size, then make another "
        "QuorumRecovery"
    )


def pod_name_of(cluster: str, member: MemberStatus) -> str:
    """The pod that runs a member, as people know it."""
    return f"{cluster}-{member.ordinal}"


def alive_members(seen: Observed) -> tuple[MemberStatus, ...]:
    """Members that answer as themselves, or whose pod is ready by the kubelet's word and says nothing else."""
    pods = {pod.ordinal: pod for pod in seen.pods if not pod.deleting}
    return tuple(m for m in seen.cluster_status.members if _alive(m, pods, seen.cluster_status.cluster_id))


def _alive(member: MemberStatus, pods: Mapping[int, PodSeen], cluster_id: str) -> bool:
    pod = pods.get(member.ordinal)
    if pod is None:
        return False
    if pod.report is None:  # the operator being cut off from it proves nothing
        return pod.ready
    return pod.report.cluster_id == cluster_id and pod.report.member_id == member.member_id


def evidence(seen: Observed) -> str:
    """Each member and what was seen of it."""
    pods = {pod.ordinal: pod for pod in seen.pods}
    claims = {claim.ordinal: claim for claim in seen.claims}
    rows = []
    for member in seen.cluster_status.members:
        pod, claim = pods.get(member.ordinal), claims.get(member.ordinal)
        said = pod.report if pod is not None else None
        if pod is None:
            what = "no pod"
        elif said is not None:
            what = "blank" if said.blank else f"answers as member {said.member_id} of {said.cluster_id[:8]}"
        else:
            what = "runs without answering" if pod.running else pod.pending_reason or "does not run"
        gone = ", no volume claim" if claim is None else ", volume lost" if claim.lost or claim.node_gone else ""
        rows.append(f"member {member.member_id} at ordinal {member.ordinal}, {member.role.value}: {what}{gone}")
    return "; ".join(rows)


# ---- what is done ----------------------------------------------------------------------------------------------------


def _founding(own: Recovery, seen: Observed, now: int, settings: Settings) -> Plan[QuorumRecoveryStatus]:
    name, survivor, status = own.spec.cluster_ref.name, own.spec.survivor, seen.status
    job = seen.job if seen.job is not None and seen.job.name == job_name(own.owner, "recover") else None
    if seen.cluster is None:
        return planned(own, seen, now, (), {}, busy("WaitingForCluster", f"LockCluster {name} is gone"), 15)
    if seen.pods and seen.cluster.spec.paused:
        return planned(own, seen, now, (), {}, _paused(name), 15)
    if seen.pods:
        rows = ", ".join(f"{name}-{pod.ordinal}" for pod in seen.pods)
        return planned(own, seen, now, (), {}, busy("Founding", f"waits until {rows} have stopped"), POLL_S)
    if job is None:
        ids = (status.old_cluster_id, status.new_cluster_id)
        body = recovery_job(own.owner, seen.cluster, settings, survivor.ordinal, survivor.member_id, ids)
        what = f"{name}-{survivor.ordinal} becomes the first member of the new cluster"
        return planned(own, seen, now, (CreateJob(body),), {}, busy("Founding", what), POLL_S)
    if job.state is JobState.RUNNING:
        return planned(own, seen, now, (), {}, busy("Founding", f"the survivor is read: {job.words}"), POLL_S)
    if job.state is JobState.FAILED and job.exit_code == CONFLICT:
        return _refused(own, seen, now, "SurvivorUnfit", job.words)
    if job.state is JobState.FAILED:
        # It may have done its work by half: the volume is whole, and another run finishes it.
        told = busy("RecoveryFailing", f"tried again: {job.words}", bad=True)
        return planned(own, seen, now, (DeleteJob(job.name, job.uid),), {}, told, 30)
    others = [claim for claim in seen.claims if claim.ordinal != survivor.ordinal]
    if others:
        steps = tuple(
            DeleteClaim(claim_name(seen.cluster, claim.ordinal), claim.uid) for claim in others if not claim.deleting
        )
        rows = ", ".join(pod_name(seen.cluster, claim.ordinal) for claim in others)
        return planned(own, seen, now, steps, {}, busy("Founding", f"the volumes of {rows} are given up"), POLL_S)
    changed = {"phase": RecoveryPhase.REJOINING, "survivor_last_index": number(job.report, "last_index")}
    return planned(own, seen, now, (), changed, busy("Rejoining", f"the others join {name}-{survivor.ordinal}"), POLL_S)


def _rejoining(own: Recovery, seen: Observed, now: int) -> Plan[QuorumRecoveryStatus]:
    name, after = own.spec.cluster_ref.name, seen.cluster_status
    steps = (DeleteJob(seen.job.name, seen.job.uid),) if seen.job is not None else ()
    ready = condition_of(after.conditions, "Ready")
    if ready is not None and ready.status is Truth.TRUE and after.cluster_id == seen.status.new_cluster_id:
        what = f"LockCluster {name} goes on as {after.cluster_id}, from entry {seen.status.survivor_last_index}"
        told = (Told("Ready", True, "Recovered", what), Told("Progressing", False, "Recovered"))
        return planned(own, seen, now, steps, {"phase": RecoveryPhase.DONE, "finished": timestamp_of(now)}, told)
    why = ready.message if ready is not None and ready.message else "begins"
    return planned(own, seen, now, steps, {}, busy("Rejoining", f"{name}: {why}"), POLL_S)


def _paused(name: str) -> tuple[Told, ...]:
    return busy("Paused", f"LockCluster {name} has spec.paused, so its pods are not stopped")


# ---- what is told ----------------------------------------------------------------------------------------------------


def _refused(own: Recovery, seen: Observed, now: int, reason: str, why: str) -> Plan[QuorumRecoveryStatus]:
    ended = {"phase": RecoveryPhase.REFUSED, "finished": timestamp_of(now)}
    return planned(own, seen, now, (), ended, refusal(reason, why))
