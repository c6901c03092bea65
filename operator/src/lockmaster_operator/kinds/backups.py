"""What to do about one LockBackup: `plan_backup(backup, seen, now)`, pure and total.

Order of one pass, the first that applies:
 1. an archive is Running: its Job is made if it is not there, and its end is written down
 2. one is due, and nothing is in its way: an archive is written down as Running, then its Job is made
 3. nothing: when the next one is due
Laws: an archive is in status before its Job is; one at a time; what a Job reported is in status before the Job goes;
every archive that retention lets go was let go by a Job that has just verified a newer one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from lockmaster_operator.desired.jobs import Owner, backup_job, job_name
from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.kinds.jobs import POLL_S, CreateJob, DeleteJob, JobSeen, JobState, Step, number, text
from lockmaster_operator.kinds.missed import begun_at, condition, event, following, missed_now
from lockmaster_operator.kinds.planned import RESYNC_S, Plan, planned
from lockmaster_operator.kinds.schedules import last_before, next_after, problem_of
from lockmaster_operator.kinds.telling import Told
from lockmaster_operator.models.backups import ARCHIVES_MAX, Archive, ArchivePhase, LockBackupSpec, LockBackupStatus
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.models.timestamps import seconds_at, timestamp_of

STAMP: Final = "%Y%m%dT%H%M%SZ"
FAILED_MAX: Final = 3
"""Failed archives that are shown, the latest; the rest of the room is for good ones."""
LEFT_OVERS_MAX: Final = 8
"""Jobs removed in one pass."""
GOOD: Final = (ArchivePhase.VERIFIED, ArchivePhase.WRITTEN)


@dataclass(frozen=True, slots=True)
class Backup:
    """One LockBackup as stored."""

    owner: Owner
    generation: int
    created: int
    """Seconds since 1970."""
    spec: LockBackupSpec
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """One look."""

    status: LockBackupStatus = field(default_factory=LockBackupStatus)
    cluster: Cluster | None = None
    """The LockCluster; None: there is none, or it is being deleted, or its spec can't be read."""
    founded: bool = False
    """It has a cluster id."""
    jobs: tuple[JobSeen, ...] = ()
    """All Jobs of this LockBackup."""
    refused: str = ""
    """What the API server refused the last pass, in its words."""


def archive_name(backup: str, stamp: str) -> str:
    """The file's name, as `lockmaster job backup` gives it."""
    return f"{backup}-{stamp}.lma"


def stamp_of(seconds: int) -> str:
    """A due time as it stands in an archive's name."""
    return datetime.fromtimestamp(seconds, UTC).strftime(STAMP)


def plan_backup(own: Backup, seen: Observed, now: int, settings: Settings) -> Plan[LockBackupStatus]:
    """What to do about one LockBackup, now (seconds since 1970)."""
    if own.deleting:
        return Plan((), seen.status)
    running = next((one for one in seen.status.archives if one.phase is ArchivePhase.RUNNING), None)
    if running is not None:
        return _under_way(own, seen, now, settings, running)
    left = tuple(DeleteJob(job.name, job.uid) for job in seen.jobs if job.state is not JobState.RUNNING)
    left = left[:LEFT_OVERS_MAX]
    wrong = problem_of(own.spec.schedule) if own.spec.schedule is not None else ""
    if wrong:
        return _told(own, seen, now, left, seen.status.archives, _bad("InvalidSpec", wrong))
    due = _due(own, seen.status, now)
    unfounded = seen.cluster is None or not seen.founded
    if own.spec.suspend or (due is None and (own.spec.schedule is None or not unfounded)):
        return _told(own, seen, now, left, seen.status.archives, _resting(own, seen.status))
    if due is None or seen.cluster is None or unfounded:
        what = "there is no" if seen.cluster is None else "nothing is stored yet in"
        why = f"{what} LockCluster {own.spec.cluster_ref.name} in {own.owner.namespace}"
        return _told(own, seen, now, left, seen.status.archives, _bad("ClusterNotFound", why))
    if any(job.state is JobState.RUNNING for job in seen.jobs):
        # Of an archive that status has lost: two at once would write into one folder.
        told = _progressing("BackingUp", "an earlier Job of this LockBackup still runs", seen.status)
        return _told(own, seen, now, left, seen.status.archives, told, POLL_S)
    begun = Archive(
        name=archive_name(own.owner.name, stamp_of(due)), phase=ArchivePhase.RUNNING, started=timestamp_of(now)
    )
    # A second try at the same due time has the same name; the list is keyed by it.
    others = tuple(one for one in seen.status.archives if one.name != begun.name)
    told = _progressing("BackingUp", f"{begun.name} is made", seen.status)
    name = job_name(own.owner, stamp_of(due))
    if any(job.name == name for job in seen.jobs):  # status was lost: the Job that is there tells how it ended
        return _told(own, seen, now, (), (begun, *others), told, POLL_S)
    job = CreateJob(backup_job(own.owner, seen.cluster, settings, own.spec, stamp_of(due)))
    return _told(own, seen, now, (*left, job), (begun, *others), told, POLL_S)


def _due(own: Backup, status: LockBackupStatus, now: int) -> int | None:
    """When the archive that is to be made now was due; None: none is."""
    if own.spec.schedule is None:
        return own.created if not status.archives else None
    due = last_before(own.spec.schedule, now)
    if due is None or due <= begun_at(status, own.created) or now - due > seconds_of(own.spec.starting_deadline):
        return None
    return due


# ---- an archive that is being made -----------------------------------------------------------------------------------


def _under_way(own: Backup, seen: Observed, now: int, settings: Settings, running: Archive) -> Plan[LockBackupStatus]:
    stamp = _stamp_in(own, running)
    job = next((one for one in seen.jobs if one.name == job_name(own.owner, stamp)), None)
    age = now - seconds_at(running.started)
    if job is None and age > seconds_of(own.spec.deadline):
        why = seen.refused or "none could be made, or it was removed"
        why = f"it has no Job ({why}), and deadline has passed"
        return _ended(own, seen, now, _failed(running, now, why), None)
    if job is None:
        if seen.cluster is None:
            why = f"LockCluster {own.spec.cluster_ref.name} is gone"
            return _ended(own, seen, now, _failed(running, now, why), None)
        create = CreateJob(backup_job(own.owner, seen.cluster, settings, own.spec, stamp))
        told = _progressing("BackingUp", f"{running.name} is made", seen.status)
        return _told(own, seen, now, (create,), seen.status.archives, told, POLL_S)
    if job.state is JobState.RUNNING:
        words = f": {job.words}" if job.words else ""
        told = _progressing("BackingUp", f"{running.name} is made{words}", seen.status)
        return _told(own, seen, now, (), seen.status.archives, told, POLL_S)
    if job.state is JobState.FAILED:
        return _ended(own, seen, now, _failed(running, now, job.words or "its Job failed without a word"), job)
    if not job.report:
        return _ended(own, seen, now, _failed(running, now, "its Job ended without a report that can be read"), job)
    return _ended(own, seen, now, _good(own, running, job, now), job)


def _stamp_in(own: Backup, archive: Archive) -> str:
    return archive.name.removeprefix(f"{own.owner.name}-").removesuffix(".lma")


def _failed(archive: Archive, now: int, why: str) -> Archive:
    return archive.model_copy(
        update={"phase": ArchivePhase.FAILED, "finished": timestamp_of(now), "message": why[:512]}
    )


def _good(own: Backup, archive: Archive, job: JobSeen, now: int) -> Archive:
    report = job.report
    return archive.model_copy(
        update={
            "phase": ArchivePhase.VERIFIED if own.spec.verify else ArchivePhase.WRITTEN,
            "finished": timestamp_of(now),
            "cluster_id": text(report, "cluster_id", 32),
            "revision": number(report, "revision"),
            "level": number(report, "level"),
            "size": number(report, "size"),
            "sha256": text(report, "sha256", 64),
        }
    )


def _ended(own: Backup, seen: Observed, now: int, archive: Archive, job: JobSeen | None) -> Plan[LockBackupStatus]:
    others = tuple(one for one in seen.status.archives if one.name != archive.name)
    rows = (archive, *others)
    if job is not None and archive.phase in GOOD:
        rows = _kept(own, rows, job)
    steps = (DeleteJob(job.name, job.uid),) if job is not None else ()
    after = seen.status.model_copy(update={"archives": rows})
    return _told(own, seen, now, steps, rows, _resting(own, after))


def _kept(own: Backup, rows: tuple[Archive, ...], job: JobSeen) -> tuple[Archive, ...]:
    """What the store holds by the Job's word; what is there and unknown (status was lost) is shown by its name."""
    found = job.report.get("kept")
    stamps = (
        [s for s in found if isinstance(s, str) and re.fullmatch(r"\d{8}T\d{6}Z", s)] if isinstance(found, list) else []
    )
    names = {archive_name(own.owner.name, stamp): stamp for stamp in stamps[:ARCHIVES_MAX]}
    known = {row.name for row in rows}
    kept = [row for row in rows if row.phase not in GOOD or row.name in names]
    for name in sorted(names.keys() - known, reverse=True):
        started = datetime.strptime(names[name], STAMP).replace(tzinfo=UTC) if _is_time(names[name]) else None
        if started is not None:
            row = Archive(name=name, phase=ArchivePhase.WRITTEN, started=timestamp_of(int(started.timestamp())))
            kept.append(row)
    return tuple(kept)


def _is_time(stamp: str) -> bool:
    try:
        datetime.strptime(stamp, STAMP)
    except ValueError:
        return False
    return True


def _bounded(rows: tuple[Archive, ...]) -> tuple[Archive, ...]:
    """The newest first; of the failed ones the latest few."""
    ordered = sorted(rows, key=lambda row: (row.started, row.name), reverse=True)
    failed = {row.name for row in [one for one in ordered if one.phase is ArchivePhase.FAILED][FAILED_MAX:]}
    return tuple(row for row in ordered if row.name not in failed)[:ARCHIVES_MAX]


# ---- what is told ----------------------------------------------------------------------------------------------------


def _last_good(status: LockBackupStatus) -> Archive | None:
    return next((one for one in _bounded(status.archives) if one.phase in GOOD), None)


def _bad(reason: str, message: str) -> tuple[Told, ...]:
    return (
        Told("Ready", False, reason, message, bad_when=False),
        Told("Progressing", False, reason, message),
    )


def _progressing(reason: str, message: str, status: LockBackupStatus) -> tuple[Told, ...]:
    """While one is made, what was good or bad stays so; a first one is not Ready yet."""
    good = _last_good(status)
    ready = Told("Ready", good is not None, good.phase.value if good is not None else reason, good.name if good else "")
    return (ready, Told("Progressing", True, reason, message))


def _resting(own: Backup, status: LockBackupStatus) -> tuple[Told, ...]:
    ended = [one for one in _bounded(status.archives) if one.phase is not ArchivePhase.RUNNING]
    rest = "Suspended" if own.spec.suspend else "Waiting" if own.spec.schedule is not None else "Done"
    idle = Told("Progressing", False, rest)
    if not ended:
        why = "spec.suspend is true" if own.spec.suspend else "the first one is not due yet"
        return (Told("Ready", False, rest, why), idle)
    last = ended[0]
    if last.phase is ArchivePhase.FAILED:
        good = _last_good(status)
        instead = f"; the last good one is {good.name}" if good is not None else "; there is no good one"
        again = "" if own.spec.schedule is not None else "; make another LockBackup"
        message = f"{last.name}: {last.message}{instead}{again}"
        return (Told("Ready", False, "BackupFailed", message, bad_when=False), idle)
    return (Told("Ready", True, last.phase.value, last.name, bad_when=False), idle)


def _told(
    own: Backup,
    seen: Observed,
    now: int,
    steps: tuple[Step, ...],
    archives: tuple[Archive, ...],
    told: tuple[Told, ...],
    requeue_after_s: int = RESYNC_S,
) -> Plan[LockBackupStatus]:
    before, spec = seen.status, own.spec
    rows = _bounded(archives)
    good = next((one for one in rows if one.phase in GOOD), None)
    follows = None if told[0].reason == "InvalidSpec" else following(spec, before, own.created, now)
    upcoming = next_after(follows.schedule, now) if follows is not None else None
    late = missed_now(spec, follows, before, own.created, now)
    missed = timestamp_of(late.last) if late is not None else before.missed
    after = before.model_copy(
        update={
            "archives": rows,
            "last": good.started if good is not None else before.last,
            "last_archive": good.name if good is not None else before.last_archive,
            "next": timestamp_of(upcoming) if upcoming is not None else None,
            "missed": missed,
            "following": follows,
        }
    )
    tell = told
    if spec.schedule is not None:
        tell = (*told, condition(spec, seconds_at(missed or ""), begun_at(after, own.created), upcoming))
    wait = requeue_after_s if upcoming is None else max(1, min(requeue_after_s, upcoming - now))
    decided = planned(own, replace(seen, status=after), now, steps, {}, tell, wait)
    # Each missed time has its own event, with what stood in the way: a second one in a row is no transition.
    others = tuple(one for one in decided.events if not one.reason.startswith("Missed"))
    announced = () if late is None else (event(spec, late, before, upcoming),)
    return replace(decided, events=(*announced, *others))
