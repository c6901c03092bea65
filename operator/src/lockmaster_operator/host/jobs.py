"""Jobs of a LockBackup, LockRestore or QuorumRecovery: how far each is, and the steps of their plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from lockmaster_operator.desired.jobs import OWNER_LABEL, Owner
from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.host.refusals import refused
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
_ENDED: Final = ("Succeeded", "Failed")
"""Phases of a pod that runs no more."""


async def jobs_of(kube: Kube, owner: Owner) -> tuple[JobSeen, ...]:
    """Its Jobs, each with what its latest pod says, or why it has none. Raises KubeError."""
    mine = f"{OWNER_LABEL}={owner.uid}"
    jobs = await kube.list("Job", owner.namespace, mine)
    if not jobs:
        return ()
    pods = await kube.list("Pod", owner.namespace, mine)
    there = [job for job in jobs[:JOBS_MAX] if "deletionTimestamp" not in job["metadata"]]
    return tuple([await _with_refusal(kube, job, pods) for job in there])


async def _with_refusal(kube: Kube, job: Json, pods: Sequence[Json]) -> JobSeen:
    """A Job that is not done and has no pod that could do it is asked about: the API server may refuse that one.

    If that lasts until its deadline, this is why it failed.
    """
    found, own = seen(job, pods), _own(job, pods)
    if found.state is JobState.DONE or any(pod.get("status", {}).get("phase") not in _ENDED for pod in own):
        return found
    why = await refused(kube, "Job", job["metadata"], own)
    if not why:
        return found
    ended = f"; {found.words}" if found.state is JobState.FAILED else ""
    return replace(found, words=f"its pod is not made: {why}{ended}"[:WORDS_MAX])


def _own(job: Mapping[str, Any], pods: Sequence[Json]) -> list[Json]:
    """The pods of one Job, the oldest first."""
    name = job["metadata"]["name"]
    own = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(_JOB_LABEL) == name]
    return sorted(own, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))


def seen(job: Mapping[str, Any], pods: Sequence[Json]) -> JobSeen:
    """One Job with the pods of all."""
    name, status = str(job["metadata"]["name"]), job.get("status", {})
    truths = {row.get("type"): row for row in status.get("conditions") or () if row.get("status") == "True"}
    state = JobState.DONE if "Complete" in truths else JobState.FAILED if "Failed" in truths else JobState.RUNNING
    words, code = _words(_own(job, pods), state)
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
