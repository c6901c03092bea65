"""Held locks of a LockCluster as Lock objects: the members are asked at the interval of its spec, not in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lockmaster import AsyncClient, LockmasterError
from pydantic import ValidationError

from lockmaster_operator.desired.names import Cluster
from lockmaster_operator.host.kube import Kube, KubeError
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.reaching import Reach, Unreachable
from lockmaster_operator.kinds.projection import CLUSTER_LABEL, HELD_MAX, Held, Hide, Show, Shown, plan_locks
from lockmaster_operator.models.lock import LockStatus
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.plan import read_cluster

OFF_S: Final = 1_800
"""Until another look whether something is shown that should not be; an event of the LockCluster asks for one where its
spec is another."""
AWAY_S: Final = 30
SESSIONS_MAX: Final = 100
"""Most pages of sessions of one look, of 1,000 each."""


@dataclass(slots=True)
class Projection:
    """Makes passes; for one event loop, and for one LockCluster at a time."""

    kube: Kube
    reach: Reach
    now: Callable[[], float] = time.time
    _due: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """Generation that was looked at, and when the next look is due: events come far more often."""
    _unchanged: set[tuple[str, str]] = field(default_factory=set)
    """LockClusters of which nothing was heard since their generation was read."""

    def changed(self, key: tuple[str, str]) -> None:
        """The LockCluster is another by now, may be, or is gone: its generation is to be read."""
        self._unchanged.discard(key)

    async def make(self, key: tuple[str, str]) -> float | None:
        """One pass. Seconds until the next; None: there is no such LockCluster. Raises PassFailed."""
        generation, due = self._due.get(key, (-1, 0.0))
        if key in self._unchanged and due > self.now():
            return due - self.now()
        self._unchanged.add(key)
        try:
            stored = await self.kube.get("LockCluster", *key)
            cluster = read_cluster(stored) if stored is not None else None
            if stored is None or not isinstance(cluster, Cluster):
                self._due.pop(key, None)
                self._unchanged.discard(key)
                return None
            if generation == cluster.generation and due > self.now():
                return due - self.now()
            wait = await self._pass(cluster)
            self._due[key] = (cluster.generation, self.now() + wait)
            return wait
        except Unreachable:
            return AWAY_S  # what was last seen stays shown, with its time
        except (KubeError, LockmasterError, TimeoutError) as error:
            raise PassFailed(str(error) or type(error).__name__, getattr(error, "retry_after_s", 0.0)) from error

    async def _pass(self, cluster: Cluster) -> float:
        asked = cluster.spec.lock_projection
        held: list[Held] = []
        if asked.enabled and not cluster.deleting:
            async with self.reach.open(cluster.namespace, cluster.name) as client:
                held = await _held(client)
        rows = await self.kube.list("Lock", cluster.namespace, f"{CLUSTER_LABEL}={cluster.name}")
        there = {str(row["metadata"]["name"]): row for row in rows}
        shown = [
            Shown(name, str(row["metadata"]["uid"]), _status(row.get("status") or {})) for name, row in there.items()
        ]
        steps, more = plan_locks(cluster, held, shown, int(self.now()))
        for step in steps:
            if isinstance(step, Hide):
                await self._hide(cluster, step)
            else:
                await self._show(step, there.get(step.body["metadata"]["name"]))
        return 1.0 if more else seconds_of(asked.interval) if asked.enabled else OFF_S

    async def _hide(self, cluster: Cluster, step: Hide) -> None:
        try:
            await self.kube.delete("Lock", cluster.namespace, step.name, step.uid)
        except KubeError as error:
            if error.status != 404:
                raise

    async def _show(self, step: Show, stored: dict[str, object] | None) -> None:
        there = stored if stored is not None else await self.kube.create(step.body)
        status = step.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        kind = {"apiVersion": step.body["apiVersion"], "kind": "Lock"}
        await self.kube.replace({**there, **kind, "status": status}, "status")


def _status(said: object) -> LockStatus:
    try:
        return LockStatus.model_validate(said)
    except ValidationError:
        return LockStatus()


async def _held(client: AsyncClient) -> list[Held]:
    pods: dict[int, str] = {}
    after = 0
    for _ in range(SESSIONS_MAX):
        page = await client.admin.sessions(after, 1_000, pod_bound=True)
        pods.update({one.session_id: f"{one.pod_namespace}/{one.pod}" for one in page.sessions})
        if not page.more:
            break
        after = page.after
    return [
        Held(
            one.name, one.holder.label, one.holder.session_id, one.holder.token, one.holder.since, one.queue_length,
            pods.get(one.holder.session_id, ""),
        )
        for one in await client.locks.list(limit=HELD_MAX)
        if one.holder is not None
    ]  # fmt: skip
