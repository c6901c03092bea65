"""What the operator does about LockRestore and QuorumRecovery (operator.md §1), and how their LockCluster is held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lockmaster_operator.desired.jobs import Owner, job_name, look_of
from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.host.observe import after_recovery
from lockmaster_operator.kinds import recoveries, restores
from lockmaster_operator.kinds.jobs import (
    CreateClaim,
    CreateJob,
    DeleteClaim,
    DeleteJob,
    JobSeen,
    JobState,
    new_cluster_id,
)
from lockmaster_operator.kinds.planned import Plan
from lockmaster_operator.kinds.recoveries import plan_recovery
from lockmaster_operator.kinds.restores import SourceSeen, plan_restore
from lockmaster_operator.models.backups import ClaimStore, LockRestoreSpec, LockRestoreStatus, RestorePhase
from lockmaster_operator.models.conditions import Condition, Truth, condition_of
from lockmaster_operator.models.lock_cluster import LockClusterSpec
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus, MemberRole, MemberStatus, Phase
from lockmaster_operator.models.quorum_recovery import QuorumRecoverySpec, QuorumRecoveryStatus, RecoveryPhase
from lockmaster_operator.models.timestamps import timestamp_of
from lockmaster_operator.observed import ClaimSeen, MemberReport, Observed, PodSeen
from lockmaster_operator.plan import plan
from lockmaster_operator.plan.steps import Apply

NOW = 1_800_000_000
CLUSTER = Cluster("locks", "ns", "uid-c", 1, LockClusterSpec(version="0.2.0"))
OLD = "0d" * 16
R_OWNER = Owner("LockRestore", "ns", "back", "uid-r")
Q_OWNER = Owner("QuorumRecovery", "ns", "again", "uid-q")
RESTORE = restores.Restore(
    R_OWNER,
    1,
    LockRestoreSpec.model_validate({"clusterRef": {"name": "locks"}, "source": {"backupRef": {"name": "n"}}}),
)
SOURCE = SourceSeen(ClaimStore(claim_name="backups"), "n-20260101T000000Z.lma")
WAITING = restores.Observed(cluster=CLUSTER, cluster_reason="WaitingForRestore", source=SOURCE)
RESTORING = replace(
    WAITING,
    status=LockRestoreStatus(phase=RestorePhase.RESTORING, archive=SOURCE.archive, cluster_id=new_cluster_id("uid-r")),
)


def restore(seen: restores.Observed) -> Plan[LockRestoreStatus]:
    return plan_restore(RESTORE, seen, NOW, Settings())


def ready(planned: Plan[LockRestoreStatus] | Plan[QuorumRecoveryStatus]) -> tuple[str, str]:
    found = condition_of(planned.status.conditions, "Ready")
    assert found is not None
    return found.reason, found.message


def test_the_new_clusters_id_is_in_status_before_anything_is_made() -> None:
    planned = restore(WAITING)
    assert planned.steps == ()
    assert planned.status.phase is RestorePhase.RESTORING
    assert planned.status.cluster_id == new_cluster_id("uid-r")
    assert planned.status.archive == SOURCE.archive


@pytest.mark.parametrize(
    ("seen", "phase", "reason", "words"),
    [
        (replace(WAITING, cluster_id=OLD), RestorePhase.REFUSED, "AlreadyFounded", "name a LockCluster that does not"),
        (replace(WAITING, other="older"), RestorePhase.REFUSED, "Conflict", "LockRestore older"),
        (replace(WAITING, cluster=None), RestorePhase.PENDING, "WaitingForCluster", "apply LockCluster locks"),
        (replace(WAITING, cluster_reason="WaitingForPods"), RestorePhase.PENDING, "WaitingForCluster", "stops"),
        (replace(WAITING, pods=1), RestorePhase.PENDING, "WaitingForCluster", "stops"),
        (replace(WAITING, source=SourceSeen(problem="no")), RestorePhase.PENDING, "SourceNotFound", "no"),
    ],
)
def test_a_restore_that_does_not_begin(seen: restores.Observed, phase: RestorePhase, reason: str, words: str) -> None:
    planned = restore(seen)
    assert planned.status.phase is phase
    assert ready(planned)[0] == reason
    assert words in ready(planned)[1]
    assert planned.steps == ()


def test_the_first_volume_and_then_the_job() -> None:
    claim, job = restore(RESTORING).steps
    assert isinstance(claim, CreateClaim)
    assert claim.body["metadata"]["name"] == "data-locks-0"
    assert isinstance(job, CreateJob)
    args = job.body["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[:3] == ["job", "restore", f"/archives/lockmaster/{SOURCE.archive}"]
    assert new_cluster_id("uid-r") in args
    assert [type(step) for step in restore(replace(RESTORING, claims=(ClaimSeen(0, "c", bound=False),))).steps] == [
        CreateJob
    ]
    assert restore(replace(RESTORING, pods=1)).steps == ()


def test_a_restore_joins_and_is_done_when_the_cluster_is_ready() -> None:
    report = {"old_revision": 5, "first_revision": 9}
    done = JobSeen(job_name(R_OWNER, "restore"), "u", JobState.DONE, report)
    joined = restore(replace(RESTORING, jobs=(done,)))
    assert (joined.status.phase, joined.status.revision) == (RestorePhase.JOINING, 9)
    joining = replace(RESTORING, status=joined.status, jobs=(done,))
    assert restore(joining).steps == (DeleteJob(done.name, "u"),)
    other = replace(joining, cluster_ready=True, cluster_id=OLD)
    assert restore(other).status.phase is RestorePhase.JOINING
    assert restore(replace(other, cluster_id=joined.status.cluster_id)).status.phase is RestorePhase.DONE


def test_a_job_of_an_older_version_does_not_say_where_the_revisions_begin() -> None:
    done = JobSeen(job_name(R_OWNER, "restore"), "u", JobState.DONE, {"old_revision": 5})
    joined = restore(replace(RESTORING, jobs=(done,)))
    assert (joined.status.phase, joined.status.revision) == (RestorePhase.JOINING, 0)


def test_a_restore_that_failed_is_refused_with_the_pods_words() -> None:
    failed = JobSeen(job_name(R_OWNER, "restore"), "u", JobState.FAILED, words="is not blank", exit_code=4)
    planned = restore(replace(RESTORING, jobs=(failed,)))
    assert planned.status.phase is RestorePhase.REFUSED
    assert "is not blank" in ready(planned)[1]
    assert condition_of(planned.status.conditions, "Stalled") is not None


def look(ordinal: int, state: JobState, words: str = "", code: int | None = None) -> JobSeen:
    return JobSeen(job_name(R_OWNER, look_of(ordinal)), f"look-{ordinal}", state, words=words, exit_code=code)


THERE = replace(RESTORING, claims=(ClaimSeen(0, "c-0"), ClaimSeen(1, "c-1", bound=False), ClaimSeen(2, "c-2")))


def test_every_volume_that_is_there_is_looked_at_before_the_cluster_is_founded() -> None:
    """One that was never bound has nothing on it, and a look would bind it to a node of the look's choosing."""
    steps = restore(THERE).steps
    made = [step.body for step in steps if isinstance(step, CreateJob)]
    assert len(made) == len(steps)
    assert [body["metadata"]["name"] for body in made] == [job_name(R_OWNER, look_of(n)) for n in (0, 2)]
    pod = made[1]["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"][:2] == ["job", "look"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-locks-2"}} in pod["volumes"]
    begun = replace(THERE, jobs=(look(0, JobState.DONE), look(2, JobState.RUNNING, "its pod waits: x")))
    assert restore(begun).steps == ()
    assert "data-locks-2" in ready(restore(begun))[1]
    blank = replace(THERE, jobs=(look(0, JobState.DONE), look(2, JobState.DONE)))
    (job,) = restore(blank).steps
    assert isinstance(job, CreateJob)
    assert job.body["metadata"]["name"] == job_name(R_OWNER, "restore")


def test_volumes_that_are_not_blank_are_all_named_and_nothing_is_founded() -> None:
    whose = "is not blank: it is member {} of cluster " + OLD
    bad = (look(0, JobState.FAILED, whose.format(1), 4), look(2, JobState.FAILED, whose.format(3), 4))
    planned = restore(replace(THERE, jobs=bad))
    assert (planned.status.phase, planned.steps) == (RestorePhase.REFUSED, ())
    reason, words = ready(planned)
    assert reason == "VolumesNotBlank"
    assert f"data-locks-0: {whose.format(1)}" in words
    assert f"data-locks-2: {whose.format(3)}" in words
    after = restore(replace(THERE, status=planned.status, jobs=bad))
    assert after.steps == (DeleteJob(bad[0].name, "look-0"), DeleteJob(bad[1].name, "look-2"))


@pytest.mark.parametrize("code", [None, 74, 137])
def test_a_volume_that_can_not_be_looked_at_is_looked_at_again_and_nobody_is_told_to_remove_it(
    code: int | None,
) -> None:
    away = look(2, JobState.FAILED, "it took longer than its deadline; no node fits", code)
    planned = restore(replace(THERE, jobs=(look(0, JobState.FAILED, "is not blank", 4), away)))
    reason, words = ready(planned)
    assert (planned.status.phase, reason) == (RestorePhase.RESTORING, "VolumesUnseen")
    assert planned.steps == (DeleteJob(away.name, away.uid),)
    assert "data-locks-2: it took longer" in words
    assert "remove" not in words
    assert [event.reason for event in planned.events] == ["ReadyVolumesUnseen"]
    again = restore(replace(THERE, status=planned.status, jobs=(look(0, JobState.FAILED, "is not blank", 4),)))
    assert [type(step) for step in again.steps] == [CreateJob]
    assert (ready(again), again.events) == (ready(planned), ())


def test_a_claim_that_is_being_removed_is_waited_for_and_one_of_no_member_is_nobodys_business() -> None:
    going = replace(RESTORING, claims=(ClaimSeen(2, "c-2", deleting=True),))
    assert restore(going).steps == ()
    assert "data-locks-2" in ready(restore(going))[1]
    higher = replace(RESTORING, claims=(ClaimSeen(3, "c-3"),))
    assert [type(step) for step in restore(higher).steps] == [CreateClaim, CreateJob]


def member(ordinal: int, role: MemberRole = MemberRole.FULL) -> MemberStatus:
    since = timestamp_of(NOW - 99)
    return MemberStatus(ordinal=ordinal, member_id=ordinal + 1, role=role, phase=Phase.STEADY, since=since)


def lost(since: int = 60) -> LockClusterStatus:
    told = Condition(
        type="QuorumAvailable", status=Truth.FALSE, reason="NoLeader", last_transition_time=timestamp_of(NOW - since)
    )
    return LockClusterStatus(
        cluster_id=OLD, members=(member(0), member(1), member(2, MemberRole.WITNESS)), conditions=(told,)
    )


def pod(ordinal: int, cluster_id: str | None = OLD, ready: bool = False) -> PodSeen:
    said = None
    if cluster_id is not None:
        said = MemberReport(cluster_id, ordinal + 1 if cluster_id else 0, "aa", "0.2.0", 2)
    return PodSeen(ordinal, f"uid-{ordinal}", ready=ready, running=True, report=said)


CLAIMS = tuple(ClaimSeen(n, f"claim-{n}") for n in range(3))
LOST = recoveries.Observed(
    cluster=CLUSTER, cluster_status=lost(), pods=(pod(0, ""), pod(1), pod(2, None)), claims=CLAIMS
)
FOUNDING = replace(
    LOST,
    pods=(),
    status=QuorumRecoveryStatus(phase=RecoveryPhase.FOUNDING, old_cluster_id=OLD, new_cluster_id="ee" * 16),
)
DONE = JobSeen(job_name(Q_OWNER, "recover"), "u", JobState.DONE, {"last_index": 40})


def recover(seen: recoveries.Observed, ordinal: int = 1, member_id: int = 2) -> Plan[QuorumRecoveryStatus]:
    spec = QuorumRecoverySpec.model_validate(
        {
            "clusterRef": {"name": "locks"},
            "survivor": {"ordinal": ordinal, "memberId": member_id},
            "confirmation": f"recover locks from member {member_id}",
            "requestedBy": "eve",
        }
    )
    return plan_recovery(recoveries.Recovery(Q_OWNER, 1, spec), seen, NOW, Settings())


def test_a_recovery_is_written_down_with_its_evidence_before_anything_is_stopped() -> None:
    planned = recover(LOST)
    assert planned.steps == ()
    status = planned.status
    assert (status.phase, status.old_cluster_id) == (RecoveryPhase.FOUNDING, OLD)
    assert status.new_cluster_id == new_cluster_id("uid-q")
    assert "member 1 at ordinal 0, Full: blank" in status.evidence
    assert "member 3 at ordinal 2, Witness: runs without answering" in status.evidence
    assert planned.events[0].warning
    assert "eve" in planned.events[0].message
    assert "is lost" in planned.events[0].message


@pytest.mark.parametrize(
    ("seen", "survivor", "reason", "words"),
    [
        (replace(LOST, pods=(pod(0), pod(1))), (1, 2), "MajorityAlive", "locks-0 (member 1), locks-1 (member 2)"),
        (replace(LOST, pods=(pod(1), pod(2, None, ready=True))), (1, 2), "MajorityAlive", "locks-2 (member 3)"),
        (replace(LOST, led=True), (1, 2), "MajorityAlive", "repair"),
        (LOST, (0, 2), "NoSuchMember", "locks-0 is 1"),
        (LOST, (2, 3), "WitnessHasNoState", "LockRestore"),
        (replace(LOST, other="q2"), (1, 2), "Conflict", "q2"),
        (replace(LOST, cluster_status=LockClusterStatus()), (1, 2), "NothingToRecover", "never had members"),
    ],
)
def test_a_recovery_that_is_refused(
    seen: recoveries.Observed, survivor: tuple[int, int], reason: str, words: str
) -> None:
    planned = recover(seen, *survivor)
    assert planned.status.phase is RecoveryPhase.REFUSED
    assert ready(planned)[0] == reason
    assert words in ready(planned)[1]
    assert planned.steps == ()


GIB = 1 << 30


def tight(free: int, copy: int) -> recoveries.Observed:
    said = MemberReport(OLD, 2, "aa", "0.2.0", 2, free_bytes=free, copy_bytes=copy)
    return replace(LOST, pods=(pod(0, ""), replace(pod(1), report=said), pod(2, None)))


def test_a_survivor_without_room_for_a_second_copy_is_refused_before_anything_is_stopped() -> None:
    planned = recover(tight(GIB, 3 * GIB))
    assert (planned.status.phase, planned.steps) == (RecoveryPhase.REFUSED, ())
    reason, words = ready(planned)
    assert reason == "NoRoom"
    assert "locks-1" in words
    assert "3072 MiB must be free and 1024 are, 2048 MiB are missing" in words
    assert recover(tight(3 * GIB, 3 * GIB)).status.phase is RecoveryPhase.FOUNDING
    assert recover(tight(0, 0)).status.phase is RecoveryPhase.FOUNDING  # an older binary does not say: the Job asks


def test_a_quorum_that_was_lost_just_now_is_waited_for() -> None:
    assert recover(replace(LOST, cluster_status=lost(5))).status.phase is RecoveryPhase.CHECKING


def with_spec(**spec: bool) -> Cluster:
    return replace(CLUSTER, spec=CLUSTER.spec.model_copy(update=spec))


def test_a_cluster_that_hibernates_has_lost_nothing() -> None:
    """No pod answers there, and every volume is whole."""
    planned = recover(replace(LOST, pods=(), cluster=with_spec(hibernate=True)))
    assert (planned.status.phase, planned.steps, ready(planned)[0]) == (RecoveryPhase.REFUSED, (), "Hibernated")


@pytest.mark.parametrize("reason", ["NotFounded", "Hibernated", "SomethingNew"])
def test_only_reasons_that_speak_of_a_loss_begin_a_recovery(reason: str) -> None:
    told = condition_of(lost().conditions, "QuorumAvailable")
    assert told is not None
    status = lost().model_copy(update={"conditions": (told.model_copy(update={"reason": reason}),)})
    assert recover(replace(LOST, cluster_status=status)).status.phase is RecoveryPhase.CHECKING


def test_a_paused_cluster_is_neither_stopped_nor_left_without_a_word() -> None:
    planned = recover(replace(LOST, cluster=with_spec(paused=True)))
    assert (planned.status.phase, ready(planned)[0]) == (RecoveryPhase.CHECKING, "Paused")
    later = recover(replace(FOUNDING, pods=LOST.pods, cluster=with_spec(paused=True)))
    assert (later.steps, ready(later)[0]) == ((), "Paused")


def test_pods_stop_before_the_survivor_is_read_and_volumes_go_after_it_stands() -> None:
    assert recover(replace(FOUNDING, pods=LOST.pods)).steps == ()
    (job,) = recover(FOUNDING).steps
    assert isinstance(job, CreateJob)
    args = job.body["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[:2] == ["job", "recover"]
    assert "locks-1" in args
    given_up = recover(replace(FOUNDING, job=DONE))
    assert given_up.steps == (DeleteClaim("data-locks-0", "claim-0"), DeleteClaim("data-locks-2", "claim-2"))
    assert given_up.status.phase is RecoveryPhase.FOUNDING
    going = tuple(replace(claim, deleting=True) for claim in CLAIMS)
    assert recover(replace(FOUNDING, job=DONE, claims=going)).status.phase is RecoveryPhase.FOUNDING
    gone = recover(replace(FOUNDING, job=DONE, claims=CLAIMS[1:2]))
    assert (gone.status.phase, gone.status.survivor_last_index) == (RecoveryPhase.REJOINING, 40)


def test_a_job_that_refuses_ends_it_and_one_that_failed_is_run_again() -> None:
    failed = replace(DONE, state=JobState.FAILED, report={}, words="is a witness", exit_code=4)
    assert recover(replace(FOUNDING, job=failed)).status.phase is RecoveryPhase.REFUSED
    again = recover(replace(FOUNDING, job=replace(failed, exit_code=137)))
    assert again.status.phase is RecoveryPhase.FOUNDING
    assert again.steps == (DeleteJob(DONE.name, "u"),)


def replicas_of(observed: Observed) -> int | None:
    bodies = [s.body for s in plan(CLUSTER, observed, NOW).steps if isinstance(s, Apply)]
    return next((int(body["spec"]["replicas"]) for body in bodies if body["kind"] == "StatefulSet"), None)


def test_a_held_cluster_has_no_pod_and_a_cluster_with_an_id_is_held_by_a_recovery_alone() -> None:
    assert replicas_of(Observed()) == 3
    assert replicas_of(Observed(restore_pending=True)) == 0
    founded = LockClusterStatus(cluster_id=OLD)
    assert replicas_of(Observed(status=founded, restore_pending=True)) == 3
    assert replicas_of(Observed(status=founded, recovering=True)) == 0
    told = condition_of(plan(CLUSTER, Observed(restore_pending=True), NOW).status.conditions, "Ready")
    assert told is not None
    assert told.reason == restores.WAITING


def test_a_cluster_remembers_the_one_that_goes_on() -> None:
    said = {"phase": "Rejoining", "oldClusterId": OLD, "newClusterId": "ee" * 16}
    one: dict[str, Any] = {"metadata": {}, "spec": {"clusterRef": {"name": "locks"}}, "status": said}
    after = after_recovery(CLUSTER, lost(), [one])
    assert (after.cluster_id, after.members) == ("ee" * 16, ())
    assert after_recovery(CLUSTER, after, [one]) == after
    assert after_recovery(CLUSTER, lost(), [{**one, "status": {**said, "phase": "Founding"}}]) == lost()
    assert after_recovery(CLUSTER, lost(), [{**one, "spec": {"clusterRef": {"name": "x"}}}]) == lost()


PODS = st.lists(
    st.builds(pod, st.integers(0, 2), st.sampled_from([OLD, "", None, "ff" * 16]), st.booleans()),
    max_size=3,
    unique_by=lambda one: one.ordinal,
)
JOBS = st.none() | st.builds(
    JobSeen,
    st.sampled_from([DONE.name, "x"]),
    st.just("u"),
    st.sampled_from(list(JobState)),
    st.just({}),
    st.text(max_size=40),
    st.sampled_from([None, 0, 4, 137]),
)
PHASES = st.sampled_from(list(RecoveryPhase))


@given(PODS, JOBS, PHASES, st.booleans(), st.integers(0, 90), st.sampled_from([None, CLUSTER]))
def test_no_volume_is_given_up_but_after_the_survivor_stands(
    pods: list[PodSeen],
    job: JobSeen | None,
    phase: RecoveryPhase,
    led: bool,
    since: int,
    cluster: Cluster | None,
) -> None:
    """Total. A claim goes only in Founding, without pods, after the Job is done, and never the survivor's; it is begun
    only where no majority is there."""
    status = QuorumRecoveryStatus(phase=phase, old_cluster_id=OLD, new_cluster_id="ee" * 16)
    seen = recoveries.Observed(status, cluster, lost(since), led, tuple(pods), CLAIMS, job=job)
    planned = recover(seen)
    for step in planned.steps:
        if isinstance(step, DeleteClaim):
            assert job is not None
            assert (phase, job.state, job.name, pods) == (RecoveryPhase.FOUNDING, JobState.DONE, DONE.name, [])
            assert step.uid != "claim-1"
        if isinstance(step, CreateJob):
            assert (phase, pods) == (RecoveryPhase.FOUNDING, [])
    if phase in (RecoveryPhase.PENDING, RecoveryPhase.CHECKING) and planned.status.phase is RecoveryPhase.FOUNDING:
        assert not led
        assert len(recoveries.alive_members(seen)) < 2
        assert since >= recoveries.LOST_S
