"""The simulated figures of `make bench` (benchmarks/consensus): deterministic, so the targets are facts."""

from __future__ import annotations

import math

import pytest
from lockmaster.cli.bench.samples import quantile
from lockmaster_raft.config import MILLISECOND

from benchmarks.consensus import availability, latency, patterns


@pytest.mark.parametrize("shape", availability.SHAPES, ids=lambda shape: shape.title)
def test_wr_1_3_share_of_time_without_writes(shape: availability.Shape) -> None:
    for ratio, known in zip(availability.RATIOS, shape.known, strict=False):
        if not math.isnan(known):
            assert availability.unavailability(shape, ratio) == pytest.approx(known, rel=availability.ROUNDING - 1)


@pytest.mark.parametrize("trip_ms", latency.ROUND_TRIPS_MS)
def test_performance_a_steady_write_takes_a_round_trip_and_a_sync(trip_ms: int) -> None:
    took = latency.latencies(trip_ms * MILLISECOND, 200, 5)
    assert quantile(took, 0.5) <= latency.OURS * trip_ms * MILLISECOND + latency.SYNC_NS


@pytest.mark.parametrize("pattern", patterns.PATTERNS, ids=lambda pattern: pattern.title)
def test_raft_4_two_and_a_witness_outlive_what_three_full_members_do(pattern: patterns.Pattern) -> None:
    ours, three = patterns.outcome(pattern, 2, 1), patterns.outcome(pattern, 3, 0)
    assert math.isinf(ours.seconds) == math.isinf(three.seconds)
    if not math.isinf(ours.seconds):
        assert ours.copies == 2  # the design's two copies, also with one member gone
