"""OpenTelemetry through its api alone. Where the application has set up no provider, nothing is called per operation.

What the application's sampler decides, it decides: these spans are children of the application's current span, and
where that one isn't sampled none is made here either. Operations outside of any span begin a trace of their own, about
ROOTS_PER_SECOND_MAX a second, since asking the sampler costs as much as half an operation. Histograms pass a Pace for
the same reason; `lockmaster.client.operations` counts exactly.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace

from lockmaster.measuring import Pace, PacedHistogram, exact_counts

if TYPE_CHECKING:
    from lockmaster.client.calls import AcquireCall, Call
    from lockmaster.client.holds import Hold
    from lockmaster.errors import LockLost

SCOPE: Final = "lockmaster"
LOCK_NAME: Final = "lockmaster.lock.name"
NAMESPACE: Final = "lockmaster.config.namespace"
ROOTS_PER_SECOND_MAX: Final = 50


class Operation:
    """One operation of the client while it runs, its wait for a lock or for a new leader included."""

    __slots__ = ("_name", "_span", "_started", "_telemetry", "traceparent")

    def __init__(self, telemetry: Telemetry, name: str, span: trace.Span | None, started: float) -> None:
        self._telemetry = telemetry
        self._name = name
        self._span = span
        self._started = started
        self.traceparent = None if span is None else traceparent_of(span.get_span_context())

    def end(self, error: BaseException | None = None) -> None:
        """It is over, with this error or well."""
        now = time.monotonic()
        kind = "" if error is None else type(error).__name__
        measures = self._telemetry.measures
        histogram = measures.wait if self._name == "acquire" else measures.duration
        histogram.record(now, now - self._started, self._name, kind)
        span = self._span
        if span is not None:
            if kind:
                span.set_attribute("error.type", kind)
                span.set_status(trace.StatusCode.ERROR, kind)
            span.end()

    def granted(self, hold: Hold) -> None:
        """The acquire got its lock."""
        self._telemetry.holds(hold)
        self.end()


class Measures:
    """The instruments of one provider, shared by all clients of the process: a second set would not be counted."""

    def __init__(self, provider: metrics.MeterProvider) -> None:
        meter = metrics.get_meter(SCOPE, meter_provider=provider)
        labels = ("lockmaster.operation", "error.type")
        self.wait = PacedHistogram(
            meter, "lockmaster.client.lock.wait.duration", "From the call of acquire to its end.", labels=labels
        )
        self.duration = PacedHistogram(
            meter, "lockmaster.client.operation.duration", "Any other call, with all its attempts.", labels=labels
        )
        self.hold = PacedHistogram(
            meter, "lockmaster.client.lock.hold.duration", "From the grant to the call of release."
        )
        exact_counts(
            meter, "lockmaster.client.operations", "{operation}", "Calls that ended.", self.wait, self.duration
        )
        self.losses = meter.create_counter(
            "lockmaster.client.lock.losses", "{lock}", "Locks that were lost before they were released."
        )


_measures: weakref.WeakKeyDictionary[metrics.MeterProvider, Measures] = weakref.WeakKeyDictionary()
_measures_lock = threading.Lock()


def measures_of(provider: metrics.MeterProvider) -> Measures:
    """The one set of instruments of a provider."""
    with _measures_lock:
        found = _measures.get(provider)
        if found is None:
            found = _measures[provider] = Measures(provider)
        return found


class Telemetry:
    """What one client tells, to the given providers or the global ones. For its loop's thread only."""

    def __init__(
        self, traces: trace.TracerProvider | None = None, measures: metrics.MeterProvider | None = None
    ) -> None:
        self.tracing = is_tracing(traces or trace.get_tracer_provider())
        """Whether there is anybody to make spans for; the server then leaves it to this client what is traced."""
        self.measures = measures_of(measures or metrics.get_meter_provider())
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=traces)
        self._roots = Pace(ROOTS_PER_SECOND_MAX)
        # Tokens this client holds, so bounded by its locks; lost ones leave with `forget`.
        self._held_since: dict[int, float] = {}

    def begin(self, name: str, key: str = "", value: str = "") -> Operation:
        """An operation begins; the attribute `key` is of its span alone, and left out where it has no value."""
        span = None
        now = time.monotonic()
        if self.tracing and self._is_traced(now):
            described = {key: value} if value else {}
            span = self._tracer.start_span(f"lockmaster {name}", kind=trace.SpanKind.CLIENT, attributes=described)
            if not span.is_recording():
                span = None
        return Operation(self, name, span, now)

    def _is_traced(self, now: float) -> bool:
        span = trace.get_current_span()
        if span is not trace.INVALID_SPAN:
            parent = span.get_span_context()
            if parent.is_valid:
                return parent.trace_flags.sampled
        return self._roots.passes(now)

    async def measured(self, name: str, call: Call, key: str, value: str) -> Any:
        """Waits for the answer of a call that was just submitted, as an operation."""
        operation = self.begin(name, key, value)
        call.traceparent = operation.traceparent
        waiter: Any = call.waiter
        try:
            answer = await waiter
        except BaseException as error:
            operation.end(error)
            raise
        operation.end()
        return answer

    def acquiring(self, call: AcquireCall) -> Operation:
        """An acquire begins that was just submitted."""
        operation = self.begin("acquire", LOCK_NAME, call.name)
        call.traceparent = operation.traceparent
        return operation

    def holds(self, hold: Hold) -> None:
        """A lock is held from now on."""
        self._held_since[hold.token] = time.monotonic()
        hold.callbacks = [self._lost]

    def released(self, hold: Hold) -> None:
        """A lock is given back."""
        since = self._held_since.pop(hold.token, None)
        if since is not None:
            now = time.monotonic()
            self.measures.hold.record(now, now - since)

    def _lost(self, loss: LockLost) -> None:
        self._held_since.pop(loss.token, None)
        self.measures.losses.add(1)

    def forget(self) -> None:
        """A session ended: what it held is not measured."""
        self._held_since.clear()


def traceparent_of(context: trace.SpanContext) -> str:
    """The context as W3C Trace Context writes it."""
    return (
        f"00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
        f"-{context.trace_flags:02x}"
    )


def is_tracing(provider: trace.TracerProvider) -> bool:
    """Whether this provider makes spans."""
    return type(provider).__name__ not in ("ProxyTracerProvider", "NoOpTracerProvider")


def telemetry_if_on() -> Telemetry | None:
    """Telemetry if the application has set up a provider of traces or metrics, else None."""
    measuring = type(metrics.get_meter_provider()).__name__ not in ("_ProxyMeterProvider", "NoOpMeterProvider")
    return Telemetry() if measuring or is_tracing(trace.get_tracer_provider()) else None
