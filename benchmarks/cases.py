"""What is measured, and the targets of docs/benchmarks.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a ratio Lockmaster ÷ etcd. `measure`: rate, p50, p99, gap, cpu; `at_least` for rates, else at most."""

    measure: str
    bound: float
    at_least: bool = False

    def met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.at_least else ratio <= self.bound

    def __str__(self) -> str:
        return f"{self.measure} {'≥' if self.at_least else '≤'} {self.bound:g}×"


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    title: str
    workload: str
    clients: int
    targets: tuple[Target, ...] = ()

    @property
    def compares_telemetry(self) -> bool:
        """Lockmaster with telemetry on and off, in the places of Lockmaster and etcd (benchmarks/telemetry.py)."""
        return self.workload.startswith("telemetry")

    @property
    def connections(self) -> int:
        """Client objects that the workers share, on both sides."""
        return min(self.clients, 4)


def rate(bound: float) -> Target:
    return Target("rate", bound, at_least=True)


ON_TARGETS = (rate(0.95), Target("cpu", 1.05))

CASES = (
    Case("locks, 1 client", "locks", 1, (Target("p50", 0.7), Target("p99", 0.8))),
    Case("locks, 16 clients", "locks", 16, (rate(2),)),
    Case("locks, 64 clients", "locks", 64, (rate(4), Target("p50", 0.3), Target("p99", 0.3))),
    Case("locks, 256 clients", "locks", 256, (rate(6), Target("p50", 0.3), Target("p99", 0.3))),
    Case("locks, 1000 clients", "locks", 1000, (rate(7), Target("p50", 0.3), Target("p99", 0.3))),
    Case("put 256 B, 256 clients", "put", 256, (rate(5),)),
    Case("linearizable get, 256 clients", "get", 256, (rate(3),)),
    Case("watch, 1000 watchers of a key", "watch", 1, (rate(1), Target("p99", 1.0))),
    Case("hand-off, 64 waiters", "handoff", 64, (Target("p50", 0.3),)),
    Case("leader kill -9", "failover", 16, (Target("gap", 1.0),)),
    Case("telemetry of members on ÷ off, locks, 256 clients", "telemetry of members", 256, ON_TARGETS),
    Case("telemetry of members and SDK on ÷ off, locks, 256 clients", "telemetry of SDK", 256, ON_TARGETS),
)


@dataclass(slots=True)
class Row:
    """All runs of one case, in the order they ran."""

    case: Case
    lockmaster: list[dict[str, Any]] = field(default_factory=list)
    etcd: list[dict[str, Any]] = field(default_factory=list)

    def value(self, side: str, measure: str) -> float:
        """The median over a side's runs; latencies and gap in milliseconds."""
        return median(read(run, measure) for run in getattr(self, side))

    def ratio(self, measure: str) -> float:
        """Lockmaster ÷ etcd: the median of the ratios of neighbouring runs, so that drift of the machine cancels."""
        pairs = zip(self.lockmaster, self.etcd, strict=True)
        return median(read(ours, measure) / max(read(theirs, measure), 1e-9) for ours, theirs in pairs)


def read(run: dict[str, Any], measure: str) -> float:
    """One measure of one run."""
    if measure == "cpu":
        return float(run["cpu_us_per_operation"])
    if measure == "rate":
        return float(run["operations_per_second"])
    return float(run["gap_ms"] if measure == "gap" else run["latency_ms"][measure])
