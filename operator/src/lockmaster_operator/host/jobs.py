"""Jobs of a LockBackup, LockRestore or QuorumRecovery: how far each is, and the steps of their plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lockmaster_operator.desired.jobs import OWNER_LABEL, Owner
from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.kinds.jobs import (
    WORDS_MAX,
    CreateClaim,
    CreateJob,
    DeleteClaim,
    DeleteJob,
    JobSeen,
    JobState,
    Step,
    report_of,
)

JOBS_MAX: Final = 16
"""Most Jobs of one object that are looked at."""
_JOB_LABEL: Final = "batch.kubernetes.io/job-name"


async def jobs_of(kube: Kube, owner: Owner) -> tuple[JobSeen, ...]:
    """Its Jobs, each with what its latest pod says. Raises KubeError."""
    mine = f"{OWNER_LABEL}={owner.uid}"
    jobs = await kube.list("Job", owner.namespace, mine)
    if not jobs:
        return ()
    pods = await kube.list("Pod", owner.namespace, mine)
    return tuple(seen(job, pods) for job in jobs[:JOBS_MAX] if "deletionTimestamp" not in job["metadata"])


def seen(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> JobSeen:
    """One Job with the pods of all."""
    name, status = str(job["metadata"]["name"]), job.get("status", {})
    truths = {row.get("type"): row for row in status.get("conditions") or () if row.get("status") == "True"}
    own = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(_JOB_LABEL) == name]
    own.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    state = JobState.DONE if "Complete" in truths else JobState.FAILED if "Failed" in truths else JobState.RUNNING
    words, code = _words(own, state)
    if state is JobState.FAILED and not words:
        words = str(truths["Failed"].get("message", ""))
    elif state is JobState.FAILED and truths["Failed"].get("reason") == "DeadlineExceeded":
        words = f"it took longer than its deadline; {words}"
    report = report_of(words) if state is JobState.DONE else {}
    return JobSeen(name, str(job["metadata"]["uid"]), state, report, words if not report else "", code)


def _words(pods: Sequence[Mapping[str, Any]], state: JobState) -> tuple[str, int | None]:
    """Of the latest pod that ended as the Job did; why the latest one does not run, while the Job does."""
    for pod in reversed(pods):
        statuses: Sequence[Mapping[str, Any]] = pod.get("status", {}).get("containerStatuses") or ({},)
        container = statuses[0].get("state") or {}
        ended = container.get("terminated")
        if ended is not None and (state is not JobState.DONE or ended.get("exitCode") == 0):
            text = str(ended.get("message") or ended.get("reason") or "").strip()
            return (text if state is JobState.DONE else text[-WORDS_MAX:]), ended.get("exitCode")
        if ended is None and state is JobState.RUNNING:
            return _waiting(pod, container)[:WORDS_MAX], None
    return "", None


def _waiting(pod: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    waiting = container.get("waiting") or {}
    if waiting.get("reason") not in (None, "", "ContainerCreating"):
        return f"its pod waits: {waiting['reason']} {waiting.get('message', '')}".strip()
    for row in pod.get("status", {}).get("conditions") or ():
        if row.get("type") == "PodScheduled" and row.get("status") == "False":
            return f"its pod can't be placed: {row.get('message', row.get('reason', ''))}"
    return ""


async def carry_out(kube: Kube, namespace: str, step: Step) -> None:
    """One step. Raises KubeError; what is there or gone already is no error."""
    try:
        match step:
            case CreateJob() | CreateClaim():
                await kube.create(step.body)
            case DeleteJob():
                await _delete(kube, "Job", namespace, step.name, step.uid)
            case DeleteClaim():
                await _delete(kube, "PersistentVolumeClaim", namespace, step.name, step.uid)
    except KubeError as error:
        there = isinstance(step, CreateJob | CreateClaim)
        if error.status != (409 if there else 404):
            raise


async def _delete(kube: Kube, kind: str, namespace: str, name: str, uid: str) -> None:
    await kube.delete(kind, namespace, name, uid, background=True)


def owner_of(stored: Json) -> Owner:
    """Of whom the Jobs of a stored object are."""
    metadata = stored["metadata"]
    return Owner(stored["kind"], metadata["namespace"], metadata["name"], metadata["uid"])
