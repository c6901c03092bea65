"""What a workload measured: operations and latencies after the warm-up, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

QUANTILES = (("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("max", 1.0))
BARS_MAX = 16


@dataclass(slots=True)
class Samples:
    """Filled by all workers of one workload; only what starts within [start, until) counts."""

    start: float
    until: float
    operations: int = 0
    errors: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds."""
    gap: float = 0.0
    """failover: longest time between two successful writes, in seconds."""

    def add(self, started: float, ended: float, operations: int) -> None:
        """One sample."""
        if self.start <= started < self.until:
            self.latencies.append(ended - started)
            self.operations += operations


def summary(workload: str, clients: int, samples: Samples) -> dict[str, Any]:
    """The one object that `bench -o json` prints; the etcd driver prints the same."""
    seconds = samples.until - samples.start
    ordered = sorted(samples.latencies)
    answer: dict[str, Any] = {
        "workload": workload,
        "clients": clients,
        "seconds": round(seconds, 3),
        "operations": samples.operations,
        "operations_per_second": samples.operations / seconds if seconds else 0.0,
        "latency_ms": {name: quantile(ordered, q) * 1e3 for name, q in QUANTILES},
        "errors": samples.errors,
    }
    if samples.gap:
        answer["gap_ms"] = samples.gap * 1e3
    return answer


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of an ascending sequence; 0 if it is empty."""
    return ordered[int(q * (len(ordered) - 1))] if ordered else 0.0


def histogram(latencies: Sequence[float]) -> list[tuple[float, int]]:
    """(upper bound in seconds, count) per bar; each bound doubles, at most BARS_MAX bars."""
    if not latencies:
        return []
    bars: list[tuple[float, int]] = []
    ordered = sorted(latencies)
    bound = max(ordered[0], 1e-6)
    at = 0
    while at < len(ordered):
        bound = float("inf") if len(bars) == BARS_MAX - 1 else bound * 1.5
        upto = at
        while upto < len(ordered) and ordered[upto] <= bound:
            upto += 1
        bars.append((min(bound, ordered[-1]), upto - at))
        at = upto
    return bars
