"""What the operator does about a LockBackup (operator.md §1): one fact per test, and laws over random observations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lockmaster_operator.desired.jobs import Owner, job_name
from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.kinds.backups import Backup, Observed, archive_name, plan_backup, stamp_of
from lockmaster_operator.kinds.jobs import CreateJob, DeleteJob, JobSeen, JobState
from lockmaster_operator.kinds.missed import RUNS_MAX, missed
from lockmaster_operator.kinds.planned import Plan
from lockmaster_operator.kinds.schedules import last_before, next_after, problem_of
from lockmaster_operator.models.backups import (
    ARCHIVES_MAX,
    Archive,
    ArchivePhase,
    Following,
    LockBackupSpec,
    LockBackupStatus,
)
from lockmaster_operator.models.conditions import condition_of
from lockmaster_operator.models.lock_cluster import LockClusterSpec, Resources
from lockmaster_operator.models.timestamps import timestamp_of

DAY = 86_400
MIDNIGHT = 1_800_057_600  # 2027-01-16T00:00:00Z
NOW = MIDNIGHT + 60
OWNER = Owner("LockBackup", "ns", "nightly", "uid-1")
RESOURCES = Resources(requests={"memory": "256Mi"}, limits={"memory": "1Gi"})
CLUSTER = Cluster("locks", "ns", "uid-c", 1, LockClusterSpec(version="0.2.0", resources=RESOURCES))
STAMP = stamp_of(MIDNIGHT)
NAME = archive_name("nightly", STAMP)
REPORT = {"cluster_id": "ab" * 16, "revision": 7, "level": 2, "size": 99, "sha256": "cd" * 32, "kept": [STAMP]}


def backup(**spec: Any) -> Backup:
    base = {"clusterRef": {"name": "locks"}, "store": {"pvc": {"claimName": "backups"}}, "schedule": "@daily"}
    return Backup(OWNER, 1, MIDNIGHT - DAY, LockBackupSpec.model_validate({**base, **spec}))


def archive(day: int, phase: ArchivePhase = ArchivePhase.VERIFIED, message: str = "") -> Archive:
    at = MIDNIGHT - day * DAY
    return Archive(
        name=archive_name("nightly", stamp_of(at)), phase=phase, started=timestamp_of(at + 1), message=message
    )


def job(state: JobState, **more: Any) -> JobSeen:
    return JobSeen(job_name(OWNER, STAMP), "uid-j", state, **more)


def seen(*archives: Archive, jobs: tuple[JobSeen, ...] = (), **more: Any) -> Observed:
    given: dict[str, Any] = {"cluster": CLUSTER, "founded": True, **more}
    return Observed(LockBackupStatus(archives=archives), jobs=jobs, **given)


def run(own: Backup, look: Observed, now: int = NOW) -> Plan[LockBackupStatus]:
    return plan_backup(own, look, now, Settings())


def ready(planned: Plan[LockBackupStatus]) -> tuple[str, str, str]:
    found = condition_of(planned.status.conditions, "Ready")
    assert found is not None
    return found.status.value, found.reason, found.message


def test_one_that_is_due_is_written_down_before_its_job_is_made() -> None:
    planned = run(backup(), seen(archive(1)))
    assert planned.status.archives[0].name == NAME
    assert planned.status.archives[0].phase is ArchivePhase.RUNNING
    (step,) = planned.steps
    assert isinstance(step, CreateJob)
    container = step.body["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][:8] == [
        "job", "backup", "--directory", "/archives/lockmaster", "--name", "nightly", "--stamp", STAMP
    ]  # fmt: skip
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["resources"] == {"requests": {"memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    assert ready(planned)[:2] == ("True", "Verified")


def test_a_single_one_is_made_once() -> None:
    own = Backup(OWNER, 1, MIDNIGHT, backup(schedule=None).spec)
    first = run(own, seen())
    assert [type(step) for step in first.steps] == [CreateJob]
    again = run(own, seen(archive(0)))
    assert again.steps == ()
    assert ready(again)[:2] == ("True", "Verified")


@pytest.mark.parametrize(
    ("own", "look", "now"),
    [
        (backup(), seen(archive(0)), NOW),  # made already
        (backup(), seen(archive(1)), MIDNIGHT - 1),  # not due yet
        (backup(suspend=True), seen(archive(1)), NOW),
        (backup(), seen(archive(1), cluster=None), NOW),
        (backup(), seen(archive(1), founded=False), NOW),
        (backup(startingDeadline="30s"), seen(archive(1)), NOW),  # missed
        (backup(), seen(archive(1), jobs=(JobSeen("other", "u", JobState.RUNNING),)), NOW),  # one at a time
        (backup(schedule="0 0 30 2 *"), seen(), NOW),
    ],
)
def test_nothing_begins(own: Backup, look: Observed, now: int) -> None:
    planned = run(own, look, now)
    assert planned.steps == ()
    assert all(one.phase is not ArchivePhase.RUNNING for one in planned.status.archives)


def late(planned: Plan[LockBackupStatus]) -> tuple[str, str]:
    found = condition_of(planned.status.conditions, "Missed")
    assert found is not None
    return found.status.value, found.message


def told(planned: Plan[LockBackupStatus]) -> list[str]:
    return [event.message for event in planned.events if event.reason == "BackupMissed"]


def follow(planned: Plan[LockBackupStatus], own: Backup, now: int, **more: Any) -> Plan[LockBackupStatus]:
    """The next pass, from the status that this one has written."""
    given: dict[str, Any] = {"cluster": CLUSTER, "founded": True, **more}
    return run(own, Observed(planned.status, **given), now)


HOURLY: dict[str, Any] = {"schedule": "@hourly", "startingDeadline": "10m"}


def test_a_missed_one_is_told_once_with_its_time_and_the_next() -> None:
    own = backup(startingDeadline="30s")
    planned = run(own, seen(archive(1)))
    assert planned.status.missed == timestamp_of(MIDNIGHT)
    assert planned.status.next == timestamp_of(MIDNIGHT + DAY)
    assert late(planned)[0] == "True"
    assert planned.events[0].warning
    for words in (late(planned)[1], *told(planned)):
        assert f"due at {timestamp_of(MIDNIGHT)}" in words
        assert "startingDeadline (30s)" in words
        assert f"the next one is due at {timestamp_of(MIDNIGHT + DAY)}" in words
    settled = follow(planned, own, NOW + 300)
    assert settled == Plan((), planned.status, (), 300)


def test_a_second_one_missed_in_a_row_is_told_too() -> None:
    own = backup(startingDeadline="30s")
    again = follow(run(own, seen(archive(1))), own, NOW + DAY)
    assert len(told(again)) == 1
    assert timestamp_of(MIDNIGHT + DAY) in told(again)[0]


def test_an_operator_that_was_away_tells_those_it_can_not_make_and_makes_the_last() -> None:
    """Away from 22:30 to 02:05: those of 23:00, 00:00 and 01:00 are missed, that of 02:00 is made."""
    own, before = backup(**HOURLY), MIDNIGHT - 5400
    first = run(own, seen(archive(1)), before)
    first_status = first.status.model_copy(update={"archives": (archive(0).model_copy(
        update={"started": timestamp_of(MIDNIGHT - 7190)}),)})  # fmt: skip
    planned = run(own, Observed(first_status, CLUSTER, True), MIDNIGHT + 7200 + 300)
    assert [type(step) for step in planned.steps] == [CreateJob]
    assert told(planned)[0].startswith(f"3 archives were missed, the last one due at {timestamp_of(MIDNIGHT + 3600)}")
    assert late(planned)[0] == "False"  # one has begun
    assert planned.status.missed == timestamp_of(MIDNIGHT + 3600)


def test_what_stood_in_the_way_is_named_when_it_is_missed() -> None:
    own = backup(**HOURLY)
    waits = run(own, seen(archive(1), cluster=None), MIDNIGHT + 60)
    assert ready(waits)[1] == "ClusterNotFound"
    gone = follow(waits, own, MIDNIGHT + 601, cluster=None)
    assert "there is no LockCluster locks in ns" in told(gone)[0]


def test_an_archive_that_begins_ends_the_condition_and_the_time_stays() -> None:
    own = backup(startingDeadline="30s")
    planned = follow(run(own, seen(archive(1))), own, MIDNIGHT + DAY)
    assert [type(step) for step in planned.steps] == [CreateJob]
    assert late(planned) == ("False", f"the last one that was missed was due at {timestamp_of(MIDNIGHT)}")
    assert planned.events == ()


def test_what_went_by_while_it_was_suspended_or_by_another_schedule_was_not_missed() -> None:
    own = backup(startingDeadline="30s")
    rests = run(backup(startingDeadline="30s", suspend=True), seen(archive(2)), MIDNIGHT - DAY + 60)
    assert rests.status.following is None
    resumed = follow(rests, own, NOW)
    assert (told(resumed), resumed.status.missed) == ([], None)
    changed = follow(resumed, backup(schedule="0 6 * * *", startingDeadline="30s"), MIDNIGHT + 7 * 3600)
    assert (told(changed), changed.status.missed) == ([], None)
    old = Observed(LockBackupStatus(observed_generation=1, archives=(archive(2),)), CLUSTER, True)
    assert told(run(own, old)) == []  # status of an operator that did not know


def test_a_single_one_has_no_schedule_to_miss() -> None:
    assert condition_of(run(backup(schedule=None), seen()).status.conditions, "Missed") is None


def test_years_of_missed_ones_are_not_walked() -> None:
    found = missed("* * * * *", 0, NOW, 0.0)
    assert found is not None
    assert (found.last, found.count) == (NOW - 60, RUNS_MAX)
    own = Backup(OWNER, 1, MIDNIGHT - 3650 * DAY, backup(**HOURLY).spec)
    since = Following(schedule="@hourly", since=timestamp_of(own.created))
    away = Observed(LockBackupStatus(observed_generation=1, following=since), CLUSTER, True)
    assert told(run(own, away))[0].startswith("at least 100 archives were missed")


def test_an_old_one_that_has_lost_its_status_raises_no_false_alarm() -> None:
    own = Backup(OWNER, 1, MIDNIGHT - 300 * DAY, backup(**HOURLY).spec)
    planned = run(own, seen(), MIDNIGHT + 1801)
    assert (told(planned), planned.status.missed) == ([], None)
    assert planned.status.following == Following(schedule="@hourly", since=timestamp_of(MIDNIGHT + 1801))


def test_without_its_cluster_it_is_not_ready_whether_one_is_due_or_was_missed() -> None:
    own, look = backup(**HOURLY), seen(archive(1), cluster=None)
    planned, reasons = run(own, look, MIDNIGHT - 3599), list[str]()
    for now in range(MIDNIGHT - 3500, MIDNIGHT + 7200, 300):
        reasons += [event.reason for event in planned.events]
        assert ready(planned)[1] == "ClusterNotFound"
        planned = follow(planned, own, now, cluster=None)
    assert reasons == ["BackupMissed", "ReadyClusterNotFound", "BackupMissed", "BackupMissed", "BackupMissed"]


def test_a_deadline_longer_than_the_period_is_not_blamed() -> None:
    own = backup(startingDeadline="720h")
    waits = run(own, seen(archive(1), cluster=None))
    (words,) = told(follow(waits, own, NOW + DAY, cluster=None))
    assert "or before the next one was due" in words


@given(
    st.integers(0, 4_000_000_000),
    st.integers(0, 400_000),
    st.integers(0, 7200),
    st.sampled_from(["@hourly", "@daily", "0 0 29 2 *", "0 0 30 2 *", "*/7 3 * * 1-5", "nonsense"]),
)
def test_missed_ones_lie_between(after: int, more: int, deadline: int, schedule: str) -> None:
    """Total; the last one is due, later than `after`, and past its deadline or followed by another that is due."""
    now = after + more
    found = missed(schedule, after, now, deadline)
    if found is not None:
        assert after < found.last <= now
        assert 1 <= found.count <= RUNS_MAX
        assert last_before(schedule, found.last) == found.last
        latest = last_before(schedule, now)
        assert latest is not None
        assert found.last < latest or now - found.last > deadline


def test_the_job_of_a_running_one_is_made_again_if_it_is_not_there() -> None:
    running = Archive(name=NAME, phase=ArchivePhase.RUNNING, started=timestamp_of(NOW))
    assert [type(step) for step in run(backup(), seen(running)).steps] == [CreateJob]
    late = run(backup(deadline="30m"), seen(running), NOW + 1801)
    assert late.status.archives[0].phase is ArchivePhase.FAILED
    assert "none could be made" in late.status.archives[0].message
    refused = run(backup(deadline="30m"), replace(seen(running), refused="no Jobs today"), NOW + 1801)
    assert refused.status.archives[0].message == "it has no Job (no Jobs today), and deadline has passed"
    assert [event.reason for event in late.events] == ["ReadyBackupFailed"]


def test_what_a_job_reported_is_in_status_before_the_job_goes() -> None:
    running = Archive(name=NAME, phase=ArchivePhase.RUNNING, started=timestamp_of(NOW))
    planned = run(backup(), seen(running, archive(1), jobs=(job(JobState.DONE, report=REPORT),)))
    (made,) = planned.status.archives  # yesterday's is not in `kept`
    assert (made.phase, made.revision, made.size, made.sha256) == (ArchivePhase.VERIFIED, 7, 99, "cd" * 32)
    assert planned.steps == (DeleteJob(job_name(OWNER, STAMP), "uid-j"),)
    assert planned.status.last_archive == NAME
    assert ready(planned) == ("True", "Verified", NAME)


def test_a_job_that_status_has_lost_is_taken_over() -> None:
    planned = run(backup(), seen(jobs=(job(JobState.DONE, report=REPORT),)))
    assert planned.steps == ()
    assert planned.status.archives[0].phase is ArchivePhase.RUNNING


def test_an_archive_that_is_in_the_store_and_not_in_status_is_shown() -> None:
    running = Archive(name=NAME, phase=ArchivePhase.RUNNING, started=timestamp_of(NOW))
    report = {**REPORT, "kept": [STAMP, stamp_of(MIDNIGHT - DAY), "nonsense", 7]}
    planned = run(backup(), seen(running, jobs=(job(JobState.DONE, report=report),)))
    assert [one.phase for one in planned.status.archives] == [ArchivePhase.VERIFIED, ArchivePhase.WRITTEN]


def test_a_failure_says_the_pods_words_and_keeps_the_last_good_one() -> None:
    running = Archive(name=NAME, phase=ArchivePhase.RUNNING, started=timestamp_of(NOW))
    failed = job(JobState.FAILED, words="lockmaster: no member answered", exit_code=69)
    planned = run(backup(), seen(running, archive(1), jobs=(failed,)))
    status, reason, message = ready(planned)
    assert (status, reason) == ("False", "BackupFailed")
    assert "no member answered" in message
    assert archive(1).name in message
    assert planned.status.last_archive == archive(1).name
    assert [event.warning for event in planned.events] == [True]
    settled = Observed(planned.status, CLUSTER, True)
    assert run(backup(), settled) == Plan((), planned.status, (), 300)  # no second event, no second try


def test_a_schedule_that_is_never_due_is_named() -> None:
    assert "schedule" in problem_of("0 0 30 2 *")
    assert ready(run(backup(schedule="61 * * * *"), seen()))[1] == "InvalidSpec"


@given(st.integers(0, 4_000_000_000), st.sampled_from(["@hourly", "@daily", "@weekly", "@monthly", "*/7 3 * * 1-5"]))
def test_last_and_next_enclose_a_time(at: int, schedule: str) -> None:
    last, following = last_before(schedule, at), next_after(schedule, at)
    assert following is not None
    assert following > at
    assert last is None or last <= at
    assert last_before(schedule, following) == following


PHASES = st.sampled_from(list(ArchivePhase))
ARCHIVES = st.lists(st.tuples(st.integers(0, 90), PHASES), max_size=70, unique_by=lambda row: row[0])
JOBS = st.lists(
    st.builds(
        JobSeen,
        st.sampled_from([job_name(OWNER, STAMP), job_name(OWNER, stamp_of(MIDNIGHT - DAY)), "x"]),
        st.just("u"),
        st.sampled_from(list(JobState)),
        st.sampled_from([{}, REPORT, {"kept": 3, "size": "x", "revision": -1}]),
        st.text(max_size=600),
    ),
    max_size=3,
)


@given(ARCHIVES, JOBS, st.booleans(), st.sampled_from([None, CLUSTER]), st.sampled_from(["@daily", None, "0 0 30 2 *"]))
def test_laws(
    rows: list[tuple[int, ArchivePhase]],
    jobs: list[JobSeen],
    suspend: bool,
    cluster: Cluster | None,
    schedule: str | None,
) -> None:
    """Total; at most one Job is made a pass and only for the archive that is Running; the list is bounded and unique;
    the last good archive is never dropped but by a Job's word; settled is settled."""
    rows = rows[:ARCHIVES_MAX]
    look = seen(*(archive(*row) for row in rows), jobs=tuple(jobs), cluster=cluster)
    planned = run(backup(schedule=schedule, suspend=suspend), look)
    names = [one.name for one in planned.status.archives]
    assert len(names) == len(set(names)) <= ARCHIVES_MAX
    LockBackupStatus.model_validate(planned.status.model_dump(by_alias=True))
    made = [step for step in planned.steps if isinstance(step, CreateJob)]
    assert len(made) <= 1
    if made:
        running = [one.name for one in planned.status.archives if one.phase is ArchivePhase.RUNNING]
        stamp = made[0].body["spec"]["template"]["spec"]["containers"][0]["args"][7]
        assert archive_name("nightly", stamp) in running
        assert made[0].body["metadata"]["name"] not in {one.name for one in jobs}
    assert planned.requeue_after_s >= 1
    if suspend or schedule is None:
        assert planned.status.missed is None
