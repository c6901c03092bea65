"""One pass over a LockBackup, a LockRestore or a QuorumRecovery: observe → plan → status, if changed → steps.

kinds/backups.py, kinds/restores.py and kinds/recoveries.py decide. If the status cannot be written the pass ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from lockmaster_operator.desired.jobs import Owner
from lockmaster_operator.desired.names import Cluster, Settings, claim_name, selector_text
from lockmaster_operator.host.engine import Engine
from lockmaster_operator.host.jobs import carry_out, jobs_of, owner_of
from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.host.observe import claims_of, look, status_of
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.refusals import Refusals
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.kinds import backups, recoveries, restores
from lockmaster_operator.kinds.jobs import POLL_S
from lockmaster_operator.kinds.planned import Plan
from lockmaster_operator.models.backups import (
    LockBackupSpec,
    LockBackupStatus,
    LockRestoreSpec,
    LockRestoreStatus,
    RestorePhase,
)
from lockmaster_operator.models.conditions import Truth, condition_of
from lockmaster_operator.models.part import Part
from lockmaster_operator.models.quorum_recovery import QuorumRecoverySpec, QuorumRecoveryStatus, RecoveryPhase
from lockmaster_operator.models.timestamps import seconds_at
from lockmaster_operator.observed import ClaimSeen
from lockmaster_operator.plan import read_cluster

M = TypeVar("M", bound=BaseModel)


Decided = Plan[LockBackupStatus] | Plan[LockRestoreStatus] | Plan[QuorumRecoveryStatus]


def _read(model: type[M], stored: Json, part: str) -> M | None:
    """A spec or status as stored; None if it can't be read: a schema of another version let it in."""
    try:
        return model.model_validate(stored.get(part) or {})
    except ValidationError:
        return None


def _deleting(stored: Json) -> bool:
    return "deletionTimestamp" in stored["metadata"]


@dataclass(slots=True)
class Minded:
    """Makes passes over the three kinds; for one event loop, and for one object at a time."""

    kube: Kube
    engine: Engine
    settings: Settings
    teller: Teller
    reads_cluster: bool = True
    now: Callable[[], float] = time.time
    _plans: dict[str, Callable[[Json], Any]] = field(init=False)
    _refusals: Refusals[tuple[str, str, str]] = field(init=False)
    """By kind, namespace and name."""

    def __post_init__(self) -> None:
        self._refusals = Refusals(self.teller)
        self._plans = {"LockBackup": self._backup, "LockRestore": self._restore, "QuorumRecovery": self._recovery}

    def maker(self, kind: str) -> Callable[[tuple[str, str]], Any]:
        """A pass of one kind: seconds until the next; None: there is no such object. Raises PassFailed."""

        async def make(key: tuple[str, str]) -> float | None:
            stored: Json | None = None
            try:
                stored = await self.kube.get(kind, *key)
                if stored is None:
                    self._refusals.over((kind, *key))
                    return None
                found: tuple[Part, Decided] | None = await self._plans[kind](stored)
                if found is None:
                    return None
                again = await self._act(stored, *found)
                # What the status says of a refusal is over.
                return min(again, POLL_S) if self._refusals.over((kind, *key)) else again
            except (KubeError, TimeoutError) as error:
                await self._refusals.note((kind, *key), stored, error)
                raise PassFailed(str(error) or type(error).__name__, getattr(error, "retry_after_s", 0.0)) from error

        return make

    async def _act(self, stored: Json, before: Part, decided: Decided) -> float:
        if decided.status != before or "status" not in stored:
            status = decided.status.model_dump(mode="json", by_alias=True, exclude_none=True)
            await self.kube.replace({**stored, "status": status}, "status")
            for event in decided.events:
                await self.teller.tell(stored, event)
        for step in decided.steps:
            await carry_out(self.kube, stored["metadata"]["namespace"], step)
        return decided.requeue_after_s

    def _refused(self, stored: Json) -> str:
        metadata = stored["metadata"]
        return self._refusals.of((stored["kind"], metadata["namespace"], metadata["name"]))

    async def _cluster(self, owner: Owner, name: str) -> tuple[Json | None, Cluster | None]:
        stored = await self.kube.get("LockCluster", owner.namespace, name)
        cluster = read_cluster(stored) if stored is not None else None
        usable = isinstance(cluster, Cluster) and not cluster.deleting
        return stored, cluster if isinstance(cluster, Cluster) and usable else None

    async def _backup(self, stored: Json) -> tuple[Part, Decided] | None:
        spec, owner = _read(LockBackupSpec, stored, "spec"), owner_of(stored)
        if spec is None:
            return None
        status = _read(LockBackupStatus, stored, "status") or LockBackupStatus()
        there, cluster = await self._cluster(owner, spec.cluster_ref.name)
        seen = backups.Observed(
            status=status,
            refused=self._refused(stored),
            cluster=cluster,
            founded=there is not None and bool(status_of(there).cluster_id),
            jobs=await jobs_of(self.kube, owner),
        )
        metadata = stored["metadata"]
        created = seconds_at(str(metadata.get("creationTimestamp", "")))
        own = backups.Backup(owner, int(metadata.get("generation", 0)), created, spec, _deleting(stored))
        return status, backups.plan_backup(own, seen, int(self.now()), self.settings)

    async def _restore(self, stored: Json) -> tuple[Part, Decided] | None:
        spec, owner = _read(LockRestoreSpec, stored, "spec"), owner_of(stored)
        if spec is None:
            return None
        status = _read(LockRestoreStatus, stored, "status") or LockRestoreStatus()
        there, cluster = await self._cluster(owner, spec.cluster_ref.name)
        said = status_of(there or {})
        ready = condition_of(said.conditions, "Ready")
        pods = [] if cluster is None else await self.kube.list("Pod", owner.namespace, selector_text(cluster))
        claims = [] if cluster is None else await self._volumes(cluster)
        seen = restores.Observed(
            status=status,
            refused=self._refused(stored),
            cluster=cluster,
            cluster_id=said.cluster_id,
            cluster_reason=ready.reason if ready is not None else "",
            cluster_message=ready.message if ready is not None else "",
            cluster_ready=ready is not None and ready.status is Truth.TRUE,
            pods=len(pods),
            claims=tuple(claims),
            other=await self._older_restore(stored, spec),
            source=await self._source(owner, spec, status),
            jobs=await jobs_of(self.kube, owner),
        )
        own = restores.Restore(owner, int(stored["metadata"].get("generation", 0)), spec, _deleting(stored))
        return status, restores.plan_restore(own, seen, int(self.now()), self.settings)

    async def _volumes(self, cluster: Cluster) -> list[ClaimSeen]:
        """By their names: who made them, and with which labels, does not matter to the pods that take them over."""
        names = [claim_name(cluster, ordinal) for ordinal in range(cluster.spec.members.total)]
        found = [await self.kube.get("PersistentVolumeClaim", cluster.namespace, name) for name in names]
        return claims_of(cluster, [claim for claim in found if claim is not None])

    async def _older_restore(self, stored: Json, spec: LockRestoreSpec) -> str:
        mine = _age(stored)
        for other in await self.kube.list("LockRestore", stored["metadata"]["namespace"]):
            named = other.get("spec", {}).get("clusterRef", {}).get("name")
            over = other.get("status", {}).get("phase") in (RestorePhase.REFUSED, RestorePhase.DONE)
            if named == spec.cluster_ref.name and not over and not _deleting(other) and _age(other) < mine:
                return str(other["metadata"]["name"])
        return ""

    async def _source(self, owner: Owner, spec: LockRestoreSpec, status: LockRestoreStatus) -> restores.SourceSeen:
        """What was chosen stays chosen, also when a newer archive comes while the Job is made."""
        source = spec.source
        chosen = status.archive or source.archive
        if source.store is not None:
            return restores.SourceSeen(source.store.pvc, chosen)
        name = source.backup_ref.name if source.backup_ref is not None else ""
        stored = await self.kube.get("LockBackup", owner.namespace, name) if name else None
        backup = _read(LockBackupSpec, stored, "spec") if stored is not None else None
        if stored is None or backup is None:
            return restores.SourceSeen(problem=f"source.backupRef: there is no LockBackup {name} here")
        said = _read(LockBackupStatus, stored, "status") or LockBackupStatus()
        good = {one.name for one in said.archives if one.phase in backups.GOOD}
        archive = chosen or said.last_archive
        if not status.archive and archive not in good:
            what = f"no good archive {archive}" if archive else "no good archive yet"
            return restores.SourceSeen(problem=f"source: LockBackup {name} has {what}")
        return restores.SourceSeen(backup.store.pvc, archive)

    async def _recovery(self, stored: Json) -> tuple[Part, Decided] | None:
        spec, owner = _read(QuorumRecoverySpec, stored, "spec"), owner_of(stored)
        if spec is None:
            return None
        status = _read(QuorumRecoveryStatus, stored, "status") or QuorumRecoveryStatus()
        there, cluster = await self._cluster(owner, spec.cluster_ref.name)
        jobs = await jobs_of(self.kube, owner)
        refused = self._refused(stored)
        seen = recoveries.Observed(status=status, refused=refused, job=jobs[0] if jobs else None)
        if there is not None and cluster is not None:
            looked = (await look(self.kube, self.engine, cluster, there, self.settings, self.reads_cluster)).observed
            seen = recoveries.Observed(
                status=status,
                refused=refused,
                cluster=cluster,
                cluster_status=status_of(there),
                led=looked.engine is not None,
                pods=looked.pods,
                claims=looked.claims,
                other=await self._other_recovery(stored, spec),
                job=seen.job,
            )
        own = recoveries.Recovery(owner, int(stored["metadata"].get("generation", 0)), spec, _deleting(stored))
        return status, recoveries.plan_recovery(own, seen, int(self.now()), self.settings)

    async def _other_recovery(self, stored: Json, spec: QuorumRecoverySpec) -> str:
        for other in await self.kube.list("QuorumRecovery", stored["metadata"]["namespace"]):
            named = other.get("spec", {}).get("clusterRef", {}).get("name")
            busy = other.get("status", {}).get("phase") in (RecoveryPhase.FOUNDING, RecoveryPhase.REJOINING)
            if named == spec.cluster_ref.name and busy and other["metadata"]["uid"] != stored["metadata"]["uid"]:
                return str(other["metadata"]["name"])
        return ""


def _age(stored: Json) -> tuple[str, str]:
    return str(stored["metadata"].get("creationTimestamp", "")), str(stored["metadata"]["uid"])


KINDS: Final = ("LockBackup", "LockRestore", "QuorumRecovery")
"""What `maker` knows."""
