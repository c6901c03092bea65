"""Measuring what happens thousands of times a second, through OpenTelemetry's api alone.

A histogram's `record` costs 5 to 15 us in OpenTelemetry for Python, starting a span that is then not sampled about
10 us: at 20,000 operations a second that would be a quarter of the throughput. So both pass a Pace first. Counts are
exact all the same: they are kept here and read by an observable counter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

SECONDS: Final = (
    0.0001,
    0.0003,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    60.0,
    600.0,
)
"""Bounds of a histogram of durations."""
RECORDS_PER_SECOND_MAX: Final = 25
"""Records of one series a second, about; a burst after a quiet second has some dozen more."""
SERIES_MAX: Final = 256
"""Sets of label values of one histogram; what comes beyond is counted under OTHER."""
OTHER: Final = "_OTHER"


class Pace:
    """Lets everything pass up to `rate_max` a second, and beyond that every n-th, evenly."""

    __slots__ = ("_left", "_passed", "_rate_max", "_seen", "_stride", "_until")

    def __init__(self, rate_max: int) -> None:
        self._rate_max = rate_max
        self._until = 0.0
        self._seen = 0
        self._passed = 0
        self._stride = 1
        self._left = 1
        # invariant: 1 <= _left <= _stride

    def passes(self, now: float) -> bool:
        """Whether this one does; `now` in seconds of any clock that does not go back."""
        if now >= self._until:
            self._until = now + 1.0
            self._stride = max(1, -(-self._seen // self._rate_max))
            self._left = min(self._left, self._stride)
            self._seen = self._passed = 0
        self._seen += 1
        self._left -= 1
        if self._left:
            return False
        self._passed += 1
        if self._passed > self._rate_max:
            self._stride *= 2  # a burst: the last second did not announce it
            self._passed = 0
        self._left = self._stride
        return True


class _Series:
    __slots__ = ("attributes", "count", "pace")

    def __init__(self, attributes: dict[str, str]) -> None:
        self.attributes = attributes
        self.count = 0
        self.pace = Pace(RECORDS_PER_SECOND_MAX)


class PacedHistogram:
    """A histogram of a paced sample of what happens, and the exact number of times that it did. Any thread."""

    def __init__(
        self,
        meter: Meter,
        name: str,
        description: str,
        *,
        unit: str = "s",
        bounds: Sequence[float] = SECONDS,
        labels: tuple[str, ...] = (),
    ) -> None:
        self._histogram = histogram(meter, name, description, unit=unit, bounds=bounds)
        self._labels = labels
        self._series: dict[tuple[str, ...], _Series] = {}
        self._lock = threading.Lock()

    def record(self, now: float, value: float, *values: str) -> None:
        """One value at `now` (seconds), with one value for each label; "" leaves a label out."""
        with self._lock:
            series = self._series.get(values)
            if series is None:
                series = self._new(values)
            series.count += 1
            passes = series.pace.passes(now)
        if passes:
            self._histogram.record(value, series.attributes)

    def _new(self, values: tuple[str, ...]) -> _Series:
        if len(self._series) >= SERIES_MAX:
            values = (OTHER,) * len(values)
        if values not in self._series:
            attributes = {label: value for label, value in zip(self._labels, values, strict=True) if value}
            self._series[values] = _Series(attributes)
        return self._series[values]

    def counts(self, options: CallbackOptions) -> Iterable[Observation]:
        """How often each has happened: the callback of an observable counter."""
        with self._lock:
            return [Observation(series.count, series.attributes) for series in self._series.values()]


def histogram(
    meter: Meter, name: str, description: str, *, unit: str = "s", bounds: Sequence[float] = SECONDS
) -> Histogram:
    """OpenTelemetry's own, of durations unless told otherwise."""
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=bounds)


def exact_counts(meter: Meter, name: str, unit: str, description: str, *histograms: PacedHistogram) -> None:
    """An observable counter of everything that came to these histograms, sampled into them or not."""
    callbacks: list[Callable[[CallbackOptions], Iterable[Observation]]] = [each.counts for each in histograms]
    meter.create_observable_counter(name, callbacks, unit, description)
