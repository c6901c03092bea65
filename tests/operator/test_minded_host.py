"""LockBackup, LockRestore and QuorumRecovery by their host, against an API server over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from lockmaster_operator.desired.names import Settings
from lockmaster_operator.host.engine import MembersEngine
from lockmaster_operator.host.jobs import seen
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.minded import Minded
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.kinds.jobs import JobState

from .fake_api import FakeApi, Fault

NOW = 1_800_057_660
Json = dict[str, Any]
CLUSTER: Json = {"kind": "LockCluster", "metadata": {"name": "locks", "namespace": "ns"}, "spec": {"version": "0.2.0"}}
REPORT = '{"cluster_id":"ab","revision":7,"level":2,"size":99,"sha256":"cd","kept":["20270116T000100Z"]}'


class World:
    def __init__(self, api: FakeApi, kube: Kube) -> None:
        self.api = api
        self.minded = Minded(kube, MembersEngine(), Settings(), Teller(kube, "operator-1"), False, lambda: NOW)

    def put(self, kind: str, name: str, spec: Json, status: Json | None = None) -> Json:
        metadata = {"name": name, "namespace": "ns", "creationTimestamp": "2027-01-16T00:01:00Z"}
        return self.api.put({"kind": kind, "metadata": metadata, "spec": spec, "status": status or {}})

    async def make(self, kind: str, name: str) -> Json:
        assert await self.minded.maker(kind)(("ns", name)) is not None
        status: Json = self.api.objects[kind, "ns", name]["status"]
        return status

    def all(self, kind: str) -> list[Json]:
        return [stored for (found, _, _), stored in self.api.objects.items() if found == kind]

    def refuse(self, job: Json, words: str, at: str, uid: str = "") -> None:
        """As the Job's controller tells it."""
        metadata = job["metadata"]
        about = {"kind": "Job", "name": metadata["name"], "namespace": "ns", "uid": uid or metadata["uid"]}
        told = {"reason": "FailedCreate", "note": words, "deprecatedLastTimestamp": at, "eventTime": None}
        self.api.put({"kind": "Event", "metadata": {"name": words, "namespace": "ns"}, "regarding": about, **told})

    def pod(self, job: Json, made: str, status: Json) -> None:
        """The one pod that there is, from now on."""
        labels = {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        metadata = {"name": "p", "namespace": "ns", "labels": labels, "creationTimestamp": made}
        self.api.put({"kind": "Pod", "metadata": metadata, "status": status})

    def end(self, job: Json, message: str, code: int) -> None:
        """As the Job's controller and the kubelet do."""
        kind = "Complete" if code == 0 else "Failed"
        job["status"] = {"conditions": [{"type": kind, "status": "True", "message": "BackoffLimitExceeded"}]}
        ended = {"state": {"terminated": {"exitCode": code, "message": message}}}
        self.pod(job, "2027-01-16T00:01:00Z", {"containerStatuses": [ended]})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    api = FakeApi()
    await api.start()
    configuration = Configuration()
    configuration.host = api.url
    configuration.retries = None
    client = ApiClient(configuration)
    yield World(api, Kube(client))
    await client.close()
    await api.stop()


ONCE = ("LockBackup", "once")
BACKUP = {"clusterRef": {"name": "locks"}, "store": {"pvc": {"claimName": "backups"}}}


def progress(status: Json) -> str:
    found: str = next(one["message"] for one in status["conditions"] if one["type"] == "Progressing")
    return found


async def test_a_backup_from_its_job_to_its_archive(world: World) -> None:
    world.api.put({**CLUSTER, "status": {"clusterId": "ab" * 16}})
    world.put("LockBackup", "once", BACKUP)
    assert (await world.make("LockBackup", "once"))["archives"][0]["phase"] == "Running"
    (job,) = world.all("Job")
    before = len(world.api.writes())
    await world.make("LockBackup", "once")
    assert len(world.api.writes()) == before  # level-triggered: nothing new, nothing written
    world.end(job, REPORT, 0)
    status = await world.make("LockBackup", "once")
    assert status["archives"][0]["phase"] == "Verified"
    assert status["archives"][0]["revision"] == 7
    assert world.all("Job") == []
    assert [row["status"] for row in status["conditions"]] == ["True", "False"]


async def test_a_failed_backup_says_the_pods_words_in_one_event(world: World) -> None:
    world.api.put({**CLUSTER, "status": {"clusterId": "ab" * 16}})
    world.put("LockBackup", "once", BACKUP)
    await world.make("LockBackup", "once")
    world.end(world.all("Job")[0], "lockmaster: no member answered\n", 69)
    status = await world.make("LockBackup", "once")
    assert status["archives"][0]["message"] == "lockmaster: no member answered"
    await world.make("LockBackup", "once")
    assert [event["reason"] for event in world.all("Event")] == ["ReadyBackupFailed"]
    assert world.all("Job") == []


async def test_a_job_that_the_api_server_refuses_is_told_until_it_is_made(world: World) -> None:
    """A webhook, a quota of Jobs, a missing right: in the object's status, once by an event, gone when it is over."""
    world.api.put({**CLUSTER, "status": {"clusterId": "ab" * 16}})
    world.put("LockBackup", "once", BACKUP)
    world.api.faults.append(Fault("POST", "Job", 403, count=3, message="no Jobs today"))
    for _ in range(3):
        with pytest.raises(PassFailed):
            await world.make(*ONCE)
    writes = len([one for one in world.api.writes() if one[:2] == ("PUT", "LockBackup")])
    assert writes == 2  # begun; refused
    status = world.api.objects["LockBackup", "ns", "once"]["status"]
    assert "; refused: " in progress(status)
    assert "no Jobs today" in progress(status)
    assert [event["reason"] for event in world.all("Event")] == ["ApiServerRefused"]
    assert await world.minded.maker("LockBackup")(("ns", "once")) == 5
    assert "refused" not in progress(await world.make(*ONCE))
    assert len(world.all("Job")) == 1


async def test_a_job_whose_pod_the_api_server_refuses_says_so_in_its_words(world: World) -> None:
    """Asked for only while it has no pod; without the right to list events it goes on as before."""
    world.api.put({**CLUSTER, "status": {"clusterId": "ab" * 16}})
    world.put("LockBackup", "once", BACKUP)
    await world.make("LockBackup", "once")
    (job,) = world.all("Job")
    world.refuse(job, "another's", "2027-01-16T00:09:00Z", uid="of-a-job-that-is-gone")
    world.refuse(job, 'pods "once-1" is forbidden: exceeded quota: small', "2027-01-16T00:02:00Z")
    assert 'its pod is not made: pods "once-1" is forbidden: exceeded quota: small' in progress(await world.make(*ONCE))
    world.api.faults.append(Fault("GET", "Event", 403))
    assert "not made" not in progress(await world.make(*ONCE))
    world.pod(job, "2027-01-16T00:02:00Z", {"phase": "Failed"})  # its next one is refused as well
    assert "exceeded quota" in progress(await world.make(*ONCE))
    world.pod(job, "2027-01-16T00:03:00Z", {"phase": "Failed"})
    assert "not made" not in progress(await world.make(*ONCE))
    world.pod(job, "2027-01-16T00:01:00Z", {"phase": "Running"})
    before = world.api.requests.count(("GET", "Event", ""))
    assert "not made" not in progress(await world.make(*ONCE))
    assert world.api.requests.count(("GET", "Event", "")) == before


async def test_a_job_whose_pod_was_refused_until_its_deadline_failed_for_that(world: World) -> None:
    world.api.put({**CLUSTER, "status": {"clusterId": "ab" * 16}})
    world.put("LockBackup", "once", BACKUP)
    await world.make("LockBackup", "once")
    (job,) = world.all("Job")
    world.refuse(job, "exceeded quota: small", "2027-01-16T00:02:00Z")
    late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "active longer than specified"}
    job["status"] = {"conditions": [late]}
    (archive,) = (await world.make("LockBackup", "once"))["archives"]
    assert archive["message"] == "its pod is not made: exceeded quota: small; active longer than specified"


async def test_status_that_cannot_be_written_makes_no_job(world: World) -> None:
    world.api.put({**CLUSTER, "status": {"clusterId": "ab" * 16}})
    world.put("LockBackup", "once", BACKUP)
    world.api.faults.append(Fault("PUT", "LockBackup", 500))
    with pytest.raises(PassFailed):
        await world.make("LockBackup", "once")
    assert world.all("Job") == []


async def test_a_restore_from_a_backups_last_archive(world: World) -> None:
    name = "once-20270116T000100Z.lma"
    row = {"name": name, "phase": "Verified", "started": "2027-01-16T00:01:00Z"}
    world.put("LockBackup", "once", BACKUP, {"lastArchive": name, "archives": [row]})
    waiting = {
        "type": "Ready", "status": "False", "reason": "WaitingForRestore", "lastTransitionTime": "2027-01-16T00:01:00Z"
    }  # fmt: skip
    world.api.put({**CLUSTER, "status": {"conditions": [waiting]}})
    world.put("LockRestore", "back", {"clusterRef": {"name": "locks"}, "source": {"backupRef": {"name": "once"}}})
    status = await world.make("LockRestore", "back")
    assert (status["phase"], status["archive"]) == ("Restoring", name)
    await world.make("LockRestore", "back")
    assert [claim["metadata"]["name"] for claim in world.all("PersistentVolumeClaim")] == ["data-locks-0"]
    world.end(world.all("Job")[0], '{"old_revision":7}', 0)
    assert (await world.make("LockRestore", "back"))["phase"] == "Joining"


async def test_a_restore_looks_at_the_volumes_that_are_there_and_names_one_that_is_not_blank(world: World) -> None:
    """By their names alone: a claim that somebody made by hand has no labels of ours."""
    waiting = {
        "type": "Ready", "status": "False", "reason": "WaitingForRestore", "lastTransitionTime": "2027-01-16T00:01:00Z"
    }  # fmt: skip
    world.api.put({**CLUSTER, "status": {"conditions": [waiting]}})
    for ordinal, spec in ((1, {"volumeName": "pv-1"}), (2, {})):
        metadata = {"name": f"data-locks-{ordinal}", "namespace": "ns"}
        world.api.put({"kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    source = {"store": {"pvc": {"claimName": "backups"}}, "archive": "once-20270116T000100Z.lma"}
    world.put("LockRestore", "back", {"clusterRef": {"name": "locks"}, "source": source})
    await world.make("LockRestore", "back")
    await world.make("LockRestore", "back")
    (job,) = world.all("Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["args"][:2] == ["job", "look"]
    world.end(job, "lockmaster: /data: is not blank: it is member 2 of cluster abcd", 4)
    status = await world.make("LockRestore", "back")
    assert status["phase"] == "Refused"
    assert "data-locks-1: lockmaster: /data: is not blank: it is member 2" in status["conditions"][0]["message"]
    await world.make("LockRestore", "back")
    assert world.all("Job") == []


async def test_a_recovery_of_a_cluster_without_members_is_refused(world: World) -> None:
    world.api.put({**CLUSTER, "status": {}})
    spec = {
        "clusterRef": {"name": "locks"},
        "survivor": {"ordinal": 1, "memberId": 2},
        "confirmation": "recover locks from member 2",
    }
    world.put("QuorumRecovery", "q", spec)
    status = await world.make("QuorumRecovery", "q")
    assert status["phase"] == "Refused"
    assert world.all("Event")[0]["type"] == "Warning"


def test_what_a_jobs_pod_says() -> None:
    job: Json = {"metadata": {"name": "j", "uid": "u"}, "status": {}}
    label = {"batch.kubernetes.io/job-name": "j"}
    pending = {"type": "PodScheduled", "status": "False", "message": "no node fits"}
    pod: Json = {"metadata": {"labels": label}, "status": {"conditions": [pending]}}
    assert "no node fits" in seen(job, [pod]).words
    waits = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
    pod["status"] = {"containerStatuses": [waits]}
    assert "ImagePullBackOff not found" in seen(job, [pod]).words
    late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "was active too long"}
    assert seen({**job, "status": {"conditions": [late]}}, []).words == "was active too long"
    done = {"type": "Complete", "status": "True"}
    assert seen({**job, "status": {"conditions": [done]}}, []).state is JobState.DONE
