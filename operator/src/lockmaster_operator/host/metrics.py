"""What the operator tells Prometheus. Labels are namespace and name of a LockCluster, or fixed words: bounded."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from lockmaster_operator.host.queue import Key
from lockmaster_operator.models.conditions import Truth
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus

_CLUSTER: Final = ("namespace", "cluster")
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one operator process, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._passes = Histogram(
            "lockmaster_operator_reconcile_seconds",
            "Passes, by outcome.",
            ("outcome",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._minded = Histogram(
            "lockmaster_operator_minding_seconds",
            "Passes over the kinds besides LockCluster, by kind and outcome.",
            ("kind", "outcome"),
            registry=registry,
            buckets=_SECONDS,
        )
        self._steps = Counter(
            "lockmaster_operator_steps",
            "Steps carried out, by kind and outcome.",
            ("kind", "outcome"),
            registry=registry,
        )
        self._writes = Counter("lockmaster_operator_status_writes", "Statuses written.", registry=registry)
        self._waiting = Gauge("lockmaster_operator_queue_waiting", "Clusters that are due and wait.", registry=registry)
        self._resync = Gauge("lockmaster_operator_resync_age_seconds", "Since the last full resync.", registry=registry)
        self._watch = Gauge(
            "lockmaster_operator_watch_age_seconds",
            "Since the watch that waits longest was opened; below 150 where all work, 0 without the Lease.",
            registry=registry,
        )
        self._leads = Gauge("lockmaster_operator_leader", "1 on the operator that holds the Lease.", registry=registry)
        self._condition = Gauge(
            "lockmaster_cluster_condition", "1 if the condition is True.", (*_CLUSTER, "condition"), registry=registry
        )
        self._margin = Gauge(
            "lockmaster_cluster_quorum_margin",
            "Voters that may fail now; none before it is founded.",
            _CLUSTER,
            registry=registry,
        )
        self._copies = Gauge(
            "lockmaster_cluster_full_copies",
            "Full members that are there and caught up; none before it is founded.",
            _CLUSTER,
            registry=registry,
        )
        self._level = Gauge("lockmaster_cluster_level", "Active feature level.", _CLUSTER, registry=registry)
        self._hibernated = Gauge(
            "lockmaster_cluster_hibernated", "1 while spec.hibernate asks for no pods.", _CLUSTER, registry=registry
        )
        self._conditions: dict[Key, tuple[str, ...]] = {}

    def observe(self, waiting: int, resync_age_s: float, watch_age_s: float, leads: bool) -> None:
        """What the process itself knows, just before a scrape."""
        self._waiting.set(waiting)
        self._resync.set(resync_age_s)
        self._watch.set(watch_age_s)
        self._leads.set(int(leads))

    def reconciled(self, seconds: float, outcome: str) -> None:
        """A pass ended: done, failed, gone."""
        self._passes.labels(outcome).observe(seconds)

    def minded(self, kind: str, seconds: float, outcome: str) -> None:
        """A pass over an object of another kind ended: done, failed, gone."""
        self._minded.labels(kind, outcome).observe(seconds)

    def step(self, kind: str, outcome: str) -> None:
        """A step ended: done, failed."""
        self._steps.labels(kind, outcome).inc()

    def status_written(self) -> None:
        """A status was written."""
        self._writes.inc()

    def tell(self, key: Key, status: LockClusterStatus, *, hibernated: bool) -> None:
        """Where a cluster stands. A condition that is not there any more (Stalled) is taken back."""
        if status.cluster_id:  # before, it has nothing to lose: Ready and Stalled tell why it is not founded
            self._margin.labels(*key).set(status.quorum_margin)
            self._copies.labels(*key).set(status.full_copies)
        self._level.labels(*key).set(status.gate.level)
        self._hibernated.labels(*key).set(int(hibernated))
        for condition in status.conditions:
            self._condition.labels(*key, condition.type).set(int(condition.status is Truth.TRUE))
        there = tuple(condition.type for condition in status.conditions)
        for kind in self._conditions.get(key, ()):
            if kind not in there:
                self._condition.remove(*key, kind)
        self._conditions[key] = there

    def forget(self, key: Key) -> None:
        """The cluster is gone."""
        kinds = self._conditions.pop(key, None)
        if kinds is None:
            return
        for kind in kinds:
            self._condition.remove(*key, kind)
        for gauge in (self._margin, self._copies, self._level, self._hibernated):
            gauge.remove(*key)

    def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)
