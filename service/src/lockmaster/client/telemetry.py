"""OpenTelemetry through its api alone. Where the application has set up no provider, nothing is called per operation.

What the application's sampler decides, it decides: these spans are children of the application's current span, and
where that one isn't sampled none is made here either. Operations outside of any span begin a trace of their own, about
ROOTS_PER_SECOND_MAX a second, since asking the sampler costs as much as half an operation. Histograms get an even
sample for the same reason: whether an operation is timed is decided where it begins, by a Pace of its kind, and one
that is neither timed nor traced has no object here. `lockmaster.client.operations` counts all.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from lockmaster.measuring import RECORDS_PER_SECOND_MAX, Pace, histogram

if TYPE_CHECKING:
    from lockmaster.client.calls import AcquireCall, Call
    from lockmaster.client.holds import Hold
    from lockmaster.errors import LockLost

SCOPE: Final = "lockmaster"
LOCK_NAME: Final = "lockmaster.lock.name"
NAMESPACE: Final = "lockmaster.config.namespace"
ROOTS_PER_SECOND_MAX: Final = 20
Counts = dict[tuple[str, str], int]
"""By operation and kind of error."""


class Operation:
    """One operation of the client that is timed or traced, its wait for a lock or for a new leader included."""

    __slots__ = ("span", "started", "timed", "traceparent")

    def __init__(self, span: trace.Span | None, started: float, timed: bool) -> None:
        self.span = span
        self.started = started
        self.timed = timed
        self.traceparent = None if span is None else traceparent_of(span.get_span_context())


class Measures:
    """The instruments of one provider, shared by all clients of the process: a second set would not be counted."""

    def __init__(self, provider: metrics.MeterProvider) -> None:
        meter = metrics.get_meter(SCOPE, meter_provider=provider)
        self.wait = histogram(meter, "lockmaster.client.lock.wait.duration", "From the call of acquire to its end.")
        self.duration = histogram(
            meter, "lockmaster.client.operation.duration", "Any other call, with all its attempts."
        )
        self.hold = histogram(meter, "lockmaster.client.lock.hold.duration", "From the grant to the call of release.")
        meter.create_observable_counter(
            "lockmaster.client.operations", [self._count], "{operation}", "Calls that ended."
        )
        self.losses = meter.create_counter(
            "lockmaster.client.lock.losses", "{lock}", "Locks that were lost before they were released."
        )
        self._lock = threading.Lock()
        self._counts: list[Counts] = [{}]
        """First that of all clients that are closed, then one of each open client."""

    def open(self) -> Counts:
        """The counts of a new client, which its thread alone changes."""
        counts: Counts = {}
        with self._lock:
            self._counts.append(counts)
        return counts

    def close(self, counts: Counts) -> None:
        """This client counts no more."""
        with self._lock:
            self._counts = [each for each in self._counts if each is not counts]
            add(self._counts[0], counts)

    def _count(self, options: CallbackOptions) -> Iterable[Observation]:
        total: Counts = {}
        with self._lock:
            for counts in self._counts:
                add(total, dict(counts))
        return [Observation(count, labels_of(*key)) for key, count in total.items()]


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
        self._paces: dict[str, Pace] = {}
        self._counts = self.measures.open()
        # Tokens this client holds, so bounded by its locks; lost ones leave with `forget`.
        self._held_since: dict[int, float] = {}

    def begin(self, name: str, key: str = "", value: str = "") -> Operation | None:
        """An operation begins; the attribute `key` is of its span alone, and left out where it has no value.

        None: neither timed nor traced. Either way `end` is to be told.
        """
        now = time.monotonic()
        pace = self._paces.get(name)
        if pace is None:
            pace = self._paces[name] = Pace(RECORDS_PER_SECOND_MAX)
        timed = pace.passes(now)
        span = None
        if self.tracing and (self._is_traced(now) if context.get_current() else self._roots.passes(now)):
            described = {key: value} if value else {}
            span = self._tracer.start_span(f"lockmaster {name}", kind=trace.SpanKind.CLIENT, attributes=described)
            if not span.is_recording():
                span = None
        return Operation(span, now, timed) if timed or span is not None else None

    def end(self, operation: Operation | None, name: str, error: BaseException | None = None) -> None:
        """What `begin` began is over, with this error or well."""
        kind = "" if error is None else type(error).__name__
        counted = (name, kind)
        counts = self._counts
        counts[counted] = counts.get(counted, 0) + 1
        if operation is None:
            return
        if operation.timed:
            measure = self.measures.wait if name == "acquire" else self.measures.duration
            measure.record(time.monotonic() - operation.started, labels_of(name, kind))
        span = operation.span
        if span is not None:
            if kind:
                span.set_attribute("error.type", kind)
                span.set_status(trace.StatusCode.ERROR, kind)
            span.end()

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
        if operation is not None:
            call.traceparent = operation.traceparent
        waiter: Any = call.waiter
        try:
            answer = await waiter
        except BaseException as error:
            self.end(operation, name, error)
            raise
        self.end(operation, name)
        return answer

    def acquiring(self, call: AcquireCall) -> Operation | None:
        """An acquire begins that was just submitted."""
        operation = self.begin("acquire", LOCK_NAME, call.name)
        if operation is not None:
            call.traceparent = operation.traceparent
        return operation

    def granted(self, operation: Operation | None, hold: Hold) -> None:
        """An acquire got its lock."""
        if operation is not None and operation.timed:
            self._held_since[hold.token] = time.monotonic()
        hold.callbacks = [self._lost]
        self.end(operation, "acquire")

    def released(self, hold: Hold) -> None:
        """A lock is given back."""
        since = self._held_since.pop(hold.token, None)
        if since is not None:
            self.measures.hold.record(time.monotonic() - since)

    def _lost(self, loss: LockLost) -> None:
        self._held_since.pop(loss.token, None)
        self.measures.losses.add(1)

    def forget(self) -> None:
        """A session ended: what it held is not measured."""
        self._held_since.clear()

    def close(self) -> None:
        """The client is closed."""
        self.forget()
        self.measures.close(self._counts)


def labels_of(name: str, kind: str) -> dict[str, str]:
    """Of one operation that ended with this kind of error, "" for none."""
    return {"lockmaster.operation": name, "error.type": kind} if kind else {"lockmaster.operation": name}


def add(total: Counts, counts: Counts) -> None:
    """Adds the one to the other."""
    for key, count in counts.items():
        total[key] = total.get(key, 0) + count


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
