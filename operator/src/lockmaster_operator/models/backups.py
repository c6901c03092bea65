"""LockBackup and LockRestore (operator.md §1): to a volume claim; object stores are one more kind of `store`, later."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from lockmaster_operator.models.conditions import Condition
from lockmaster_operator.models.part import (
    DurationText,
    LocalReference,
    ObjectName,
    Part,
    Rule,
    Timestamp,
    extra,
    rules,
)

ARCHIVES_MAX: Final = 64
PATH: Final = r"^[A-Za-z0-9_][-A-Za-z0-9_.]*(/[A-Za-z0-9_][-A-Za-z0-9_.]*)*$"
CRON: Final = r"^(@(hourly|daily|weekly|monthly)|[-0-9*/,]+ [-0-9*/,]+ [-0-9*/,]+ [-0-9*/,]+ [-0-9*/,]+)$"


class ClaimStore(Part):
    """A folder on a volume claim."""

    claim_name: ObjectName
    """The PersistentVolumeClaim, in the same namespace. Not one of the cluster's own."""
    path: Annotated[str, Field(max_length=256, pattern=PATH)] = "lockmaster"
    """Folder below its root; no ".." and no leading "/"."""


class Store(Part):
    """Where archives are. Exactly one kind."""

    model_config = rules(Rule("has(self.pvc)", "store must have pvc: object stores are not supported yet", ".pvc"))

    pvc: ClaimStore | None = None
    """A volume claim."""


class BackupRetention(Part):
    """How long archives are kept. The newest verified one always is."""

    count: Annotated[int, Field(ge=1, le=ARCHIVES_MAX)] = 7
    """At most so many."""
    age: DurationText | None = None
    """None older than this, such as 720h; absent: only `count` counts."""


class LockBackupSpec(Part):
    """A backup: once, or by a schedule."""

    model_config = rules(
        Rule("self.clusterRef.name == oldSelf.clusterRef.name", "clusterRef can't change: make another LockBackup"),
        Rule("self.store == oldSelf.store", "store can't change: make another LockBackup"),
        Rule(
            "has(self.schedule) == has(oldSelf.schedule)",
            "schedule can't be added or removed: a single backup and a scheduled one are two objects",
            ".schedule",
        ),
    )

    cluster_ref: LocalReference
    """The LockCluster, in the same namespace."""
    store: Store
    """Where the archives go."""
    schedule: Annotated[str | None, Field(max_length=64, pattern=CRON)] = None
    """Five cron fields in UTC, or @hourly, @daily, @weekly, @monthly; absent: one backup, now."""
    retention: BackupRetention = BackupRetention()
    """How long archives are kept."""
    verify: bool = True
    """Read each archive back and check every checksum before it counts."""
    suspend: bool = False
    """No backup begins while this is true."""
    starting_deadline: DurationText = "1h"
    """A scheduled backup that could not begin for so long after it was due is missed: an event and the condition Missed
    say so, and the next one is made."""
    deadline: DurationText = "30m"
    """A backup that takes longer is given up and shown as failed."""


BACKUP_RULES: Final = (
    Rule(
        "self.metadata.name.size() <= 200",
        "metadata.name must have at most 200 characters: the names of archives are made from it",
    ),
)


class ArchivePhase(StrEnum):
    """How far one archive is."""

    RUNNING = "Running"
    WRITTEN = "Written"
    VERIFIED = "Verified"
    FAILED = "Failed"


class Archive(Part):
    """One archive."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """File name in the store."""
    phase: ArchivePhase
    """Only a Verified one (Written, with verify: false) can be restored."""
    started: Timestamp
    """When it began: everything acknowledged before is in it."""
    finished: Timestamp | None = None
    """When it ended."""
    cluster_id: Annotated[str, Field(max_length=32)] = ""
    """The cluster that it is of."""
    revision: Annotated[int, Field(ge=0)] = 0
    """The revision of its state."""
    level: Annotated[int, Field(ge=0)] = 0
    """The level active then: an older binary can't restore it."""
    size: Annotated[int, Field(ge=0)] = 0
    """Bytes."""
    sha256: Annotated[str, Field(max_length=64)] = ""
    """Of the whole file."""
    message: Annotated[str, Field(max_length=512)] = ""
    """Why it failed."""


class Following(Part):
    """Since when due times count as missed where no archive began."""

    schedule: Annotated[str, Field(max_length=64)]
    """As it is followed."""
    since: Timestamp
    """When it was made, changed or resumed."""


class LockBackupStatus(Part):
    """The archives."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this speaks of."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16, json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["type"])
        ),
    ] = ()
    """Ready, Progressing; with a schedule Missed."""
    last: Timestamp | None = None
    """When the last good archive began."""
    last_archive: Annotated[str, Field(max_length=253)] = ""
    """Its name."""
    next: Timestamp | None = None
    """When the next one is due."""
    missed: Timestamp | None = None
    """When the last one that could not begin within startingDeadline was due."""
    following: Following | None = None
    """The schedule that due times are reckoned by; absent while it is suspended."""
    archives: Annotated[
        tuple[Archive, ...],
        Field(
            max_length=ARCHIVES_MAX,
            json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["name"]),
        ),
    ] = ()
    """Those that are kept, the newest first."""


class RestoreSource(Part):
    """Which archive. Exactly one of the two."""

    model_config = rules(
        Rule(
            "has(self.backupRef) != has(self.store)",
            "source is either backupRef or store with archive: give exactly one of the two",
        ),
        Rule("has(self.store) ? self.archive != '' : true", "archive must be named with store", ".archive"),
    )

    backup_ref: LocalReference | None = None
    """A LockBackup in the same namespace."""
    store: Store | None = None
    """A place with archives whose LockBackup is gone."""
    archive: Annotated[str, Field(max_length=253, pattern=r"^([A-Za-z0-9_][-A-Za-z0-9_.]*)?$")] = ""
    """File name; empty with backupRef: its last good one."""


class LockRestoreSpec(Part):
    """A new cluster out of an archive. Apply it before, or together with, the LockCluster that it names."""

    model_config = rules(Rule("self == oldSelf", "spec can't change: make another LockRestore for another cluster"))

    cluster_ref: LocalReference
    """The LockCluster to restore into, in the same namespace. It must not have been made yet: a cluster with data is
    never overwritten."""
    source: RestoreSource
    """Which archive."""
    revision_jump: Annotated[int, Field(ge=0, le=2**40)] = 0
    """Added to the revision of the archive, besides what makes it higher than any that was given out since."""


class RestorePhase(StrEnum):
    """How far it is."""

    PENDING = "Pending"
    """The LockCluster or its first pod is not there yet."""
    RESTORING = "Restoring"
    JOINING = "Joining"
    """The first member stands; the others join it."""
    DONE = "Done"
    REFUSED = "Refused"
    """The cluster has data, or the archive is not fit; nothing was changed."""


class LockRestoreStatus(Part):
    """What was done."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this speaks of."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16, json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["type"])
        ),
    ] = ()
    """Ready."""
    phase: RestorePhase = RestorePhase.PENDING
    """How far it is."""
    archive: Annotated[str, Field(max_length=253)] = ""
    """The archive that was taken."""
    cluster_id: Annotated[str, Field(max_length=32)] = ""
    """The new cluster. Written before it is made."""
    revision: Annotated[int, Field(ge=0)] = 0
    """The revision that it begins with; 0: its Job, of an older version, did not say."""
    started: Timestamp | None = None
    """When it began."""
    finished: Timestamp | None = None
    """When it ended."""
