"""One pass over one LockCluster: observe → plan → status, if changed → steps, at most one of them disruptive → events.

Where nothing is known to have changed since a look that led to nothing (host/quiet.py), a pass asks the members alone,
and does nothing itself: where their word is another, a whole pass follows at once, which reads everything anew.

If the status cannot be written the pass ends: what it remembers (the cluster's id before it is made, since when a
member is gone) must be stored before anything is done. Steps are taken in order and the first that fails ends the
pass; the next begins from what is there then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from lockmaster import LockmasterError
from opentelemetry import trace

from lockmaster_operator.desired.certificates import Purpose, secret_name
from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.host.engine import Answers, Engine
from lockmaster_operator.host.execute import Executor, StepRefused
from lockmaster_operator.host.issuing import BadSecret, pems_of
from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.host.observe import Look, look, status_of
from lockmaster_operator.host.queue import Key
from lockmaster_operator.host.quiet import Calm, Quiet
from lockmaster_operator.host.refusals import REFUSALS, Refusals
from lockmaster_operator.host.reviewers import Reviewers
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.models.lock_cluster import TlsMode
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus
from lockmaster_operator.plan import BUSY_S, RESYNC_S, Plan, plan, read_cluster, refuse, unseen
from lockmaster_operator.plan.calm import calm, told
from lockmaster_operator.plan.steps import ExpandClaim, Step

_log = logging.getLogger(__name__)
_tracer = trace.get_tracer("lockmaster.operator")
FAILURES: Final = (KubeError, LockmasterError, StepRefused, TimeoutError)
"""What a pass may end with; anything else is a bug."""

BUNCH_S: Final = 5
"""Quiet passes fall due together at whole multiples of this: a process that wakes up once for many does them in less
than half of the time."""


class PassFailed(Exception):
    """A pass ended early. `retry_after_s`: what the API server asked for, else 0."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Passes:
    """Makes passes; for one event loop, and for one key at a time."""

    kube: Kube
    engine: Engine
    settings: Settings
    teller: Teller
    metrics: Metrics
    reads_cluster: bool = True
    reviewers: Reviewers | None = None
    now: Callable[[], float] = time.time
    quiet: Quiet = field(default_factory=Quiet)
    """Whoever hears that something about a LockCluster has changed tells this."""
    heard: Callable[[Key, int], None] = lambda key, mark: None
    """Told of the leader's EngineSeen.pods_mark at each pass in which one says it."""
    _uids: dict[Key, str] = field(default_factory=dict)
    _refusals: Refusals[Key] = field(init=False)

    def __post_init__(self) -> None:
        self._refusals = Refusals(self.teller)

    async def visit(self, key: Key) -> float | None:
        """A quiet pass, which asks the members alone, where that is enough: nothing is known to have changed, and they
        say what they said at the last whole pass. Else a whole one, as `make`."""
        with _tracer.start_as_current_span("quiet", attributes={"k8s.namespace.name": key[0], "cluster": key[1]}):
            if await self._still(key):
                return RESYNC_S - self.now() % BUNCH_S
        return await self.make(key)

    async def make(self, key: Key) -> float | None:
        """One whole pass. Seconds until the next one is due; None: there is no such LockCluster. Raises PassFailed."""
        namespace, name = key
        stored: Json | None = None
        with _tracer.start_as_current_span("reconcile", attributes={"k8s.namespace.name": namespace, "cluster": name}):
            try:
                self.quiet.begin(key)
                stored = await self.kube.get("LockCluster", namespace, name)
                if stored is None:
                    await self._forget(key)
                    return None
                again = await self._pass(key, stored)
                # What the status says of a refusal is over.
                return min(again, BUSY_S) if self._refusals.over(key) else again
            except FAILURES as error:
                self.quiet.changed(key)
                await self._refusals.note(key, stored, error)
                raise PassFailed(str(error) or type(error).__name__, getattr(error, "retry_after_s", 0.0)) from error

    async def _still(self, key: Key) -> bool:
        """Whether nothing is to be done, by what is remembered of a full look and by its members' word now."""
        before = self.quiet.of(key)
        if before is None:
            return False
        try:
            if before.secret:
                secret = await self.kube.get("Secret", key[0], before.secret)
                if secret is None or pems_of(secret) != before.tls:
                    return False
            said = ({}, None) if before.tls is None else await self.engine.look(before.uid, before.asked, before.tls)
        except (*FAILURES, BadSecret):
            return False  # the full look says what it is
        self._hear(key, said)
        return told(*said, before.status) == before.said

    def _hear(self, key: Key, said: Answers) -> None:
        _, engine = said
        if engine is not None and engine.pods_mark is not None:
            self.heard(key, engine.pods_mark)

    def _remember(self, key: Key, cluster: Cluster, stored: Json, seen: Look) -> None:
        """That all is well, as it was seen by a look; `stored` is what that look was at."""
        own = cluster.spec.tls.mode is TlsMode.OPERATOR
        status = seen.observed.status
        found = Calm(
            uid=cluster.uid,
            version=str(stored["metadata"].get("resourceVersion", "")),
            asked=seen.asked,
            tls=seen.tls,
            secret="" if own else secret_name(cluster, Purpose.OPERATOR),
            status=status,
            said=told(*seen.said, status),
        )
        self.quiet.keep(key, found)

    async def _forget(self, key: Key) -> None:
        self.quiet.changed(key)
        self._refusals.over(key)
        uid = self._uids.pop(key, "")
        self.metrics.forget(key)
        if uid:
            await self.engine.forget(uid)

    async def _pass(self, key: Key, stored: Json) -> float:
        cluster = read_cluster(stored)
        if isinstance(cluster, str):
            decided = refuse(stored, status_of(stored), cluster, int(self.now()))
            await self._store(stored, status_of(stored), decided)
            return decided.requeue_after_s
        if self._uids.get(key, cluster.uid) != cluster.uid:
            await self._forget(key)
        self._uids[key] = cluster.uid
        try:
            seen = await self._look(cluster, stored)
        except KubeError as error:
            if error.status in REFUSALS:
                blind = unseen(cluster, status_of(stored), self._refusals.of(key) or str(error), int(self.now()))
                await self._store(stored, status_of(stored), blind)
            raise
        self._hear(key, seen.said)
        observed = replace(seen.observed, refused=self._refusals.of(key))
        now = int(self.now())
        decided = plan(cluster, observed, now, self.settings)
        well = decided.status == status_of(stored) and calm(cluster, observed, decided, now, self.settings)
        stored = await self._store(stored, status_of(stored), decided)
        if self.reviewers is not None:
            await self.reviewers.add(cluster)
        if well:
            self._remember(key, cluster, stored, seen)
        refusal: KubeError | None = None
        for step in decided.steps:
            if step.disruptive:
                await self._disrupt(cluster, step)
                continue
            try:
                await self._carry_out(cluster, seen, step)
            except KubeError as error:
                if not isinstance(step, ExpandClaim) or error.status not in REFUSALS:
                    raise
                refusal = error  # a storage class whose volumes can't grow stands in the way of nothing else
        if refusal is not None:
            raise refusal
        return decided.requeue_after_s

    async def _look(self, cluster: Cluster, stored: Json) -> Look:
        return await look(self.kube, self.engine, cluster, stored, self.settings, self.reads_cluster)

    async def _disrupt(self, cluster: Cluster, step: Step) -> None:
        """Only if the same step comes out of another look: its reasons are as old as the first one."""
        stored = await self.kube.get("LockCluster", cluster.namespace, cluster.name)
        again = read_cluster(stored) if stored is not None else "gone"
        if stored is None or isinstance(again, str) or again.uid != cluster.uid:
            raise StepRefused("the LockCluster is another by now")
        seen = await self._look(again, stored)
        if not same(plan(again, seen.observed, int(self.now()), self.settings).disruptive, step):
            raise StepRefused(f"{type(step).__name__} is not what is needed any more")
        await self._carry_out(again, seen, step)

    async def _carry_out(self, cluster: Cluster, seen: Look, step: Step) -> None:
        kind = type(step).__name__
        _log.info("%s/%s: %s%s", cluster.namespace, cluster.name, kind, _shown(step))
        with _tracer.start_as_current_span(kind):
            try:
                await Executor(self.kube, self.engine, cluster, seen, int(self.now())).carry_out(step)
            except FAILURES:
                self.metrics.step(kind, "failed")
                raise
        self.metrics.step(kind, "done")

    async def _store(self, stored: Json, before: LockClusterStatus, decided: Plan) -> Json:
        """The stored object after the status was written and its events posted, where it differs; Prometheus is told
        in any case, whatever the status is about."""
        after = stored
        if decided.status != before or "status" not in stored:
            status: dict[str, Any] = decided.status.model_dump(mode="json", by_alias=True, exclude_none=True)
            after = await self.kube.replace({**stored, "status": status}, "status")
            self.metrics.status_written()
            for event in decided.events:
                await self.teller.tell(stored, event)
        metadata, hibernate = stored["metadata"], stored.get("spec", {}).get("hibernate")
        self.metrics.tell((metadata["namespace"], metadata["name"]), decided.status, hibernated=hibernate is True)
        return after


def same(one: Step | None, other: Step) -> bool:
    """Whether two steps ask for the same; why they do may have changed: it counts seconds."""
    if type(one) is not type(other):
        return False
    names = [field.name for field in fields(other) if field.name != "why"]
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _shown(step: Step) -> str:
    """What a step is about, without bodies and keys."""
    body = getattr(step, "body", None)
    if body is not None:
        return f" {body['kind']} {body['metadata']['name']}"
    wanted = getattr(step, "wanted", None)
    if wanted is not None:
        return f" {wanted.secret}"
    why = getattr(step, "why", "")
    ordinal = getattr(step, "ordinal", None)
    return (f" at ordinal {ordinal}" if ordinal is not None else "") + (f": {why}" if why else "")
