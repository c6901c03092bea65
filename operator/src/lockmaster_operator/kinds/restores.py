"""What to do about one LockRestore: `plan_restore(restore, seen, now)`, pure and total.

    Pending → Restoring → Joining → Done        a Job looks at each volume that is there already, then one founds the
          └→ Refused                            cluster on that of ordinal 0, before any pod

While a LockRestore is neither Joining, Done nor deleted, the LockCluster that it names has no pod and is not founded
(plan/founding.py, plan/shape.py). Laws: the new cluster's id is in status before the Job is made; the Job is made only
after the LockCluster's own status says that it waits for the restore and none of its pods is there; a cluster that has
an id is never touched; it is founded only after every volume that its members would take over was found blank; after a
Job that failed the LockCluster stays held, so that nobody gets an empty one instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lockmaster_operator.desired.jobs import Owner, data_claim, job_name, look_job, look_of, restore_job
from lockmaster_operator.desired.names import Cluster, Settings, claim_name
from lockmaster_operator.kinds.jobs import (
    CONFLICT,
    POLL_S,
    CreateClaim,
    CreateJob,
    DeleteJob,
    JobSeen,
    JobState,
    Step,
    new_cluster_id,
    number,
)
from lockmaster_operator.kinds.planned import Plan, planned
from lockmaster_operator.kinds.telling import Told, busy, refusal
from lockmaster_operator.models.backups import ClaimStore, LockRestoreSpec, LockRestoreStatus, RestorePhase
from lockmaster_operator.models.conditions import condition_of
from lockmaster_operator.models.timestamps import timestamp_of
from lockmaster_operator.observed import ClaimSeen

WORDS_EACH_MAX: Final = 120
"""Characters of each volume's own words in a refusal, so that several are named."""
NOT_BLANK_ADVICE: Final = "remove these claims if nothing on them is needed, and this LockRestore; or use another name"
UNSEEN: Final = "VolumesUnseen"
LOOK_AGAIN_S: Final = 30
"""Pause until a volume that could not be looked at is looked at again."""
WAITING: Final = "WaitingForRestore"
"""Reason of the LockCluster's condition Ready while it is held for a restore."""


@dataclass(frozen=True, slots=True)
class Restore:
    """One LockRestore as stored."""

    owner: Owner
    generation: int
    spec: LockRestoreSpec
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class SourceSeen:
    """The archive that the spec names, looked up. `problem`: why it can't be."""

    store: ClaimStore | None = None
    archive: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """One look."""

    status: LockRestoreStatus = field(default_factory=LockRestoreStatus)
    cluster: Cluster | None = None
    """The LockCluster; None: there is none, or it is being deleted, or its spec can't be read."""
    cluster_id: str = ""
    """In its status."""
    cluster_reason: str = ""
    """Reason of its condition Ready."""
    cluster_message: str = ""
    cluster_ready: bool = False
    pods: int = 0
    """Of its members."""
    claims: tuple[ClaimSeen, ...] = ()
    """Volume claims of its members' names that are there already."""
    other: str = ""
    """An older LockRestore that names the same LockCluster and is not refused."""
    source: SourceSeen = SourceSeen()
    jobs: tuple[JobSeen, ...] = ()
    """All Jobs of this LockRestore."""
    refused: str = ""
    """What the API server refused the last pass, in its words."""


def plan_restore(own: Restore, seen: Observed, now: int, settings: Settings) -> Plan[LockRestoreStatus]:
    """What to do about one LockRestore, now (seconds since 1970)."""
    if own.deleting:
        return Plan((), seen.status)
    match seen.status.phase:
        case RestorePhase.DONE | RestorePhase.REFUSED:
            return Plan(_done_with(seen), seen.status)
        case RestorePhase.PENDING:
            return _pending(own, seen, now)
        case RestorePhase.RESTORING:
            return _restoring(own, seen, now, settings)
        case RestorePhase.JOINING:
            return _joining(own, seen, now)


def _pending(own: Restore, seen: Observed, now: int) -> Plan[LockRestoreStatus]:
    name = own.spec.cluster_ref.name
    if seen.cluster_id:
        why = (
            f"LockCluster {name} has been founded (cluster {seen.cluster_id}), and a cluster with data is never "
            "overwritten: name a LockCluster that does not exist yet, and move the clients to it"
        )
        return _refused(own, seen, now, "AlreadyFounded", why)
    if seen.other:
        why = f"LockRestore {seen.other} is older and makes LockCluster {name}: delete one of the two"
        return _refused(own, seen, now, "Conflict", why)
    if seen.source.problem:
        return _wait(own, seen, now, "SourceNotFound", seen.source.problem)
    if seen.cluster is None:
        return _wait(own, seen, now, "WaitingForCluster", f"apply LockCluster {name}: it is made from the archive")
    if seen.cluster_reason != WAITING or seen.pods:
        return _wait(own, seen, now, "WaitingForCluster", f"LockCluster {name} stops what it has begun", POLL_S)
    begun = {
        "phase": RestorePhase.RESTORING,
        "archive": seen.source.archive,
        "cluster_id": new_cluster_id(own.owner.uid),
        "started": timestamp_of(now),
    }
    return planned(own, seen, now, (), begun, busy("Restoring", f"{seen.source.archive} becomes {name}"), 1)


def _restoring(own: Restore, seen: Observed, now: int, settings: Settings) -> Plan[LockRestoreStatus]:
    name, archive = own.spec.cluster_ref.name, seen.status.archive
    job = next((one for one in seen.jobs if one.name == job_name(own.owner, "restore")), None)
    if job is not None and job.state is JobState.DONE:
        told = busy("Joining", f"the first member of {name} stands; its pods begin")
        first = {"phase": RestorePhase.JOINING, "revision": number(job.report, "first_revision")}
        return planned(own, seen, now, (), first, told, POLL_S)
    if job is not None and job.state is JobState.FAILED:
        hold = f"LockCluster {name} stays empty and waits until this LockRestore is deleted"
        return _refused(own, seen, now, "RestoreFailed", f"{archive}: {job.words or 'no word'}; {hold}")
    if job is not None:
        words = f": {job.words}" if job.words else ""
        return planned(own, seen, now, (), {}, busy("Restoring", f"{archive} becomes {name}{words}"), POLL_S)
    if seen.cluster is None or seen.source.store is None or seen.pods:
        why = seen.source.problem or f"LockCluster {name} is gone, or has pods"
        return planned(own, seen, now, (), {}, busy("Restoring", f"waits: {why}"), POLL_S)
    looked = _look(own, seen, seen.cluster, now, settings)
    if looked is not None:
        return looked
    there = any(claim.ordinal == 0 for claim in seen.claims)
    steps: list[Step] = [] if there else [CreateClaim(data_claim(seen.cluster, 0))]
    jump, chosen = own.spec.revision_jump, seen.status.cluster_id
    steps.append(CreateJob(restore_job(own.owner, seen.cluster, settings, seen.source.store, archive, chosen, jump)))
    return planned(own, seen, now, tuple(steps), {}, busy("Restoring", f"{archive} becomes {name}"), POLL_S)


def _look(
    own: Restore, seen: Observed, cluster: Cluster, now: int, settings: Settings
) -> Plan[LockRestoreStatus] | None:
    """Whether every volume that its members would take over is blank: one Job each, on the node that has it.

    None: they all are. Without this the new cluster would stand with one member, and the others' pods with the data of
    a cluster of the same name that was deleted.
    """
    jobs = {job.name: job for job in seen.jobs}
    own_claims = [claim for claim in seen.claims if claim.ordinal < cluster.spec.members.total]
    going = ", ".join(claim_name(cluster, claim.ordinal) for claim in own_claims if claim.deleting)
    if going:
        return planned(own, seen, now, (), {}, busy("Restoring", f"waits until {going} is removed"), POLL_S)
    places = [claim for claim in own_claims if claim.bound]
    looks = [(place, jobs.get(job_name(own.owner, look_of(place.ordinal)))) for place in places]
    missing = [place for place, job in looks if job is None]
    if missing:
        names = ", ".join(claim_name(cluster, place.ordinal) for place in missing)
        chosen = seen.status.cluster_id
        bodies = [look_job(own.owner, cluster, settings, place.ordinal, chosen) for place in missing]
        told = _looking(seen, f"{names}: is there already, and is looked at")
        return planned(own, seen, now, tuple(CreateJob(body) for body in bodies), {}, told, POLL_S)
    running = [(place, job) for place, job in looks if job is not None and job.state is JobState.RUNNING]
    if running:
        words = "; ".join(f"{claim_name(cluster, place.ordinal)} is looked at {job.words}" for place, job in running)
        return planned(own, seen, now, (), {}, _looking(seen, words.strip()), POLL_S)
    failed = [(place, job) for place, job in looks if job is not None and job.state is JobState.FAILED]
    rows = "; ".join(
        f"{claim_name(cluster, place.ordinal)}: {job.words[:WORDS_EACH_MAX] or 'no word'}" for place, job in failed
    )
    unseen = [job for _, job in failed if job.exit_code != CONFLICT]
    if unseen:  # a node that is away, a disk that gives an error: nobody knows what is on it
        steps = tuple(DeleteJob(job.name, job.uid) for job in unseen)
        told = busy(UNSEEN, f"can't be looked at, tried again: {rows}", bad=True)
        return planned(own, seen, now, steps, {}, told, LOOK_AGAIN_S)
    if failed:
        names = ", ".join(claim_name(cluster, place.ordinal) for place, _ in failed)
        return _refused(own, seen, now, "VolumesNotBlank", f"{names}: {NOT_BLANK_ADVICE}: {rows}")
    return None


def _looking(seen: Observed, words: str) -> tuple[Told, ...]:
    """While volumes are looked at; after a look that could not be, it stays what it was until one could."""
    before = condition_of(seen.status.conditions, "Ready")
    if before is not None and before.reason == UNSEEN:
        return busy(UNSEEN, before.message, bad=True)
    return busy("Restoring", words)


def _done_with(seen: Observed) -> tuple[Step, ...]:
    return tuple(DeleteJob(job.name, job.uid) for job in seen.jobs)


def _joining(own: Restore, seen: Observed, now: int) -> Plan[LockRestoreStatus]:
    name = own.spec.cluster_ref.name
    steps = _done_with(seen)
    if seen.cluster_ready and seen.cluster_id == seen.status.cluster_id:
        told = (
            Told("Ready", True, "Restored", f"LockCluster {name} is {seen.cluster_id}, from {seen.status.archive}"),
            Told("Progressing", False, "Restored"),
        )
        return planned(own, seen, now, steps, {"phase": RestorePhase.DONE, "finished": timestamp_of(now)}, told)
    return planned(own, seen, now, steps, {}, busy("Joining", f"{name}: {seen.cluster_message or 'begins'}"), POLL_S)


def _wait(own: Restore, seen: Observed, now: int, reason: str, why: str, requeue: int = 15) -> Plan[LockRestoreStatus]:
    return planned(own, seen, now, (), {}, busy(reason, why), requeue)


def _refused(own: Restore, seen: Observed, now: int, reason: str, why: str) -> Plan[LockRestoreStatus]:
    ended = {"phase": RestorePhase.REFUSED, "finished": timestamp_of(now)}
    return planned(own, seen, now, (), ended, refusal(reason, why))
