"""OpenTelemetry through its api alone. Where no SDK is installed and set up, nothing is called per operation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace

if TYPE_CHECKING:
    from lockmaster.client.holds import Hold

SCOPE = "lockmaster"


class AcquireSpan:
    """The span of one acquire: from the call to the grant, or to the error. Neither token nor value is in it."""

    __slots__ = ("_span", "_started", "_telemetry")

    def __init__(self, telemetry: Telemetry, name: str) -> None:
        self._telemetry = telemetry
        self._started = time.monotonic()
        self._span = telemetry.tracer.start_span(
            "lock acquire", kind=trace.SpanKind.CLIENT, attributes={"lockmaster.lock.name": name}
        )

    def failed(self, error: Exception) -> None:
        """The acquire ended with an error."""
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(trace.StatusCode.ERROR, type(error).__name__)

    def done(self, hold: Hold | None) -> None:
        """The acquire is over."""
        telemetry = self._telemetry
        telemetry.wait.record(time.monotonic() - self._started, {"lockmaster.granted": hold is not None})
        if hold is not None:
            telemetry.held_since[hold.token] = time.monotonic()
        self._span.end()


class Telemetry:
    """Spans and instruments of one client, from the given providers or the global ones."""

    def __init__(
        self, traces: trace.TracerProvider | None = None, measures: metrics.MeterProvider | None = None
    ) -> None:
        self.tracer = trace.get_tracer(SCOPE, tracer_provider=traces)
        meter = metrics.get_meter(SCOPE, meter_provider=measures)
        self.wait = meter.create_histogram(
            "lockmaster.client.lock.wait", unit="s", description="From the call of acquire to its end."
        )
        self.hold = meter.create_histogram(
            "lockmaster.client.lock.hold", unit="s", description="From the grant to the release."
        )
        # Tokens this client holds, so bounded by its locks; lost ones leave with `forget`.
        self.held_since: dict[int, float] = {}

    def acquiring(self, name: str) -> AcquireSpan:
        """An acquire begins."""
        return AcquireSpan(self, name)

    def released(self, hold: Hold) -> None:
        """A lock is given back."""
        since = self.held_since.pop(hold.token, None)
        if since is not None:
            self.hold.record(time.monotonic() - since)

    def forget(self) -> None:
        """A session ended: what it held is not measured."""
        self.held_since.clear()


def telemetry_if_on() -> Telemetry | None:
    """Telemetry if the application has set up a provider of traces or metrics, else None."""
    tracing = type(trace.get_tracer_provider()).__name__ not in ("ProxyTracerProvider", "NoOpTracerProvider")
    measuring = type(metrics.get_meter_provider()).__name__ not in ("_ProxyMeterProvider", "NoOpMeterProvider")
    return Telemetry() if tracing or measuring else None
