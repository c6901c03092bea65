"""What `bench` makes of its samples."""

from __future__ import annotations

from lockmaster.cli.bench.samples import BARS_MAX, Samples, histogram, quantile, summary


def test_only_what_starts_in_the_measured_time_counts() -> None:
    samples = Samples(10.0, 20.0)
    for started in (9.9, 10.0, 19.9, 20.0):
        samples.add(started, started + 1.0, 2)
    assert (samples.operations, samples.latencies) == (4, [1.0, 1.0])


def test_quantiles_of_a_hundred() -> None:
    ordered = [float(n) for n in range(101)]
    assert [quantile(ordered, q) for q in (0.0, 0.5, 0.99, 1.0)] == [0.0, 50.0, 99.0, 100.0]
    assert quantile([], 0.5) == 0.0


def test_histogram_holds_every_sample_in_a_bounded_number_of_bars() -> None:
    latencies = [1e-6 * 1.3**n for n in range(80)]
    bars = histogram(latencies)
    assert sum(count for _, count in bars) == len(latencies)
    assert len(bars) <= BARS_MAX
    assert bars[-1][0] == latencies[-1]


def test_summary_says_rate_and_milliseconds() -> None:
    samples = Samples(0.0, 2.0, operations=100, latencies=[0.001, 0.002, 0.003])
    answer = summary("locks", 4, samples)
    assert (answer["operations_per_second"], answer["latency_ms"]["p50"]) == (50.0, 2.0)
    assert "gap_ms" not in answer
