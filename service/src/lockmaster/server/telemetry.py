"""Logs, metrics and traces of a server. Off costs nothing: without an exporter there is no provider, no span, no timer.

Gauges are observed from a snapshot that the loop refreshes once a second, so a scrape in its own thread touches no
live state; histograms are in meters.py, spans of the session stream in operation_tracing.py, those of unary calls
here. Traces are sampled at their root, and as their parent says. Neither value nor token is in any of it, and no name
of a lock or key in a metric.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import propagate, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from lockmaster.addresses import split_address
from lockmaster.errors import LockmasterError
from lockmaster.server.health import Health
from lockmaster.server.meters import Meters
from lockmaster.server.operation_tracing import OperationTracing, operation_here
from lockmaster.server.runtime import Engine
from lockmaster.server.settings import Settings
from lockmaster.server.status import StatusSnapshot
from lockmaster.span_export import EXPORT_TIMEOUT_S, tracer_provider

EXPORT_INTERVAL_MS: Final = 10_000
if TYPE_CHECKING:
    from lockmaster.server.token_review import Logins

GAUGES: Final[dict[str, tuple[str, str, Callable[[StatusSnapshot], float]]]] = {
    "lockmaster.raft.term": ("{term}", "Current term.", lambda now: now.term),
    "lockmaster.raft.leader": ("1", "1 on the member that leads.", lambda now: int(now.role == "leader")),
    "lockmaster.raft.commit_index": ("{entry}", "Commit index.", lambda now: now.commit_index),
    "lockmaster.raft.applied_index": ("{entry}", "Applied index.", lambda now: now.applied_index),
    "lockmaster.raft.apply_lag": (
        "{entry}",
        "Committed, not applied.",
        lambda now: now.commit_index - now.applied_index,
    ),
    "lockmaster.raft.durable_index": ("{entry}", "Durable index of the own log.", lambda now: now.durable_index),
    "lockmaster.raft.log_size": ("By", "Bytes of log on disk.", lambda now: now.log_bytes),
    "lockmaster.storage.free": ("By", "Bytes free for the data directory.", lambda now: now.free_bytes),
    "lockmaster.state.revision": ("{revision}", "Revision of the state.", lambda now: now.revision),
    "lockmaster.level.active": ("{level}", "Active feature level.", lambda now: now.level_active),
    "lockmaster.raft.snapshot.progress": (
        "1",
        "Share of the snapshot being fetched that is stored; 1 when none is.",
        lambda now: now.snapshot_progress,
    ),
    "lockmaster.alarms": ("{alarm}", "Alarms raised.", lambda now: len(now.alarms)),
}
LOCAL_GAUGES: Final = (
    ("lockmaster.sessions", "{session}", "Live sessions."),
    ("lockmaster.watches", "{watch}", "Open watches on this member."),
    ("lockmaster.streams", "{stream}", "Open session streams on this member."),
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the trace's id where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        operation = operation_here()
        span = (operation.span if operation is not None else trace.get_current_span()).get_span_context()
        if span.is_valid:
            line["trace_id"] = trace.format_trace_id(span.trace_id)
            line["span_id"] = trace.format_span_id(span.span_id)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(settings: Settings) -> None:
    """Log lines to stderr, in the form and from the level on that the settings say."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())


class Telemetry:
    """The providers of this process, or none."""

    def __init__(
        self, settings: Settings, engine: Engine, health: Health, counts: Callable[[], tuple[int, int, int]]
    ) -> None:
        self._engine = engine
        self._counts = counts
        self._latest: StatusSnapshot | None = None
        self._latest_counts = (0, 0, 0)
        self._latest_counters: dict[str, int] = {}
        self._meters: MeterProvider | None = None
        self._traces: TracerProvider | None = None
        self._page: Any = None
        self._tracer: trace.Tracer | None = None
        self.meters: Meters | None = None
        self.logins: Logins | None = None
        """Histograms of the data path, where metrics are on."""
        self.operations: OperationTracing | None = None
        """Spans of the session stream, where traces are on."""
        resource = Resource.create({"service.name": "lockmaster", "service.instance.id": settings.name})
        self._start_metrics(settings, health, resource)
        self._start_traces(settings, resource)

    def _start_metrics(self, settings: Settings, health: Health, resource: Resource) -> None:
        readers: list[MetricReader] = []
        if settings.metrics_listen:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader

            from lockmaster.server.page import start_page

            readers.append(PrometheusMetricReader())
            host, port = split_address(settings.metrics_listen)
            self._page = start_page(host, port, health.alive, health.whole)
        if settings.otlp_endpoint:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

            exporter = OTLPMetricExporter(
                endpoint=settings.otlp_endpoint, insecure=settings.otlp_insecure, timeout=EXPORT_TIMEOUT_S
            )
            readers.append(PeriodicExportingMetricReader(exporter, EXPORT_INTERVAL_MS))
        if not readers:
            return
        self._meters = MeterProvider(readers, resource=resource)
        meter = self._meters.get_meter("lockmaster.server")
        for name, (unit, description, value) in GAUGES.items():
            meter.create_observable_gauge(name, [self._observe(value)], unit, description)
        for place, (name, unit, description) in enumerate(LOCAL_GAUGES):
            meter.create_observable_gauge(name, [self._observe_count(place)], unit, description)
        meter.create_observable_counter(
            "lockmaster.events", [self._observe_counters], "{event}", "Things counted since the start, by kind."
        )
        meter.create_observable_counter(
            "lockmaster.raft.refusals",
            [self._observe_refusals],
            "{message}",
            "Messages of other members that were refused or came too late, by reason.",
        )
        meter.create_observable_gauge(
            "lockmaster.raft.role", [self._observe_role], "1", "1 for the role that this member has."
        )
        meter.create_observable_gauge(
            "lockmaster.raft.peer.rtt", [self._observe_rtt], "s", "Smoothed time of a request, its sync included."
        )
        meter.create_observable_gauge(
            "lockmaster.raft.peer.lag",
            [self._observe_lag],
            "{entry}",
            "Entries that a member lacks, as its leader sees it.",
        )
        self.meters = self._engine.meters = Meters(meter)
        self._engine.subscribe(self.meters.listen)
        self._engine.subscribe_role(self.meters.role_changed)

    def _start_traces(self, settings: Settings, resource: Resource) -> None:
        if not settings.otlp_endpoint or settings.trace_sample_ratio <= 0:
            return
        self._traces = tracer_provider(
            settings.otlp_endpoint, settings.otlp_insecure, settings.trace_sample_ratio, resource
        )
        self._tracer = self._traces.get_tracer("lockmaster.server")
        self.operations = OperationTracing(self._tracer, settings.trace_sample_ratio, self._holder_token)
        self._engine.subscribe(self.operations.listen)
        self._engine.subscribe_role(self.operations.role_changed)

    def _holder_token(self, lock: str) -> int:
        try:
            return self._engine.machine.inspect_lock(lock, 0).token
        except LockmasterError:
            return 0

    def _observe(self, value: Callable[[StatusSnapshot], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            latest = self._latest
            return [] if latest is None else [Observation(value(latest))]

        return observe

    def _observe_count(self, place: int) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda options: [Observation(self._latest_counts[place])]

    def _observe_counters(self, options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, {"kind": kind}) for kind, count in sorted(self._latest_counters.items())]

    def _observe_refusals(self, options: CallbackOptions) -> Iterable[Observation]:
        refusals = self._latest.refusals if self._latest is not None else {}
        return [Observation(count, {"lockmaster.reason": reason}) for reason, count in sorted(refusals.items())]

    def _observe_role(self, options: CallbackOptions) -> Iterable[Observation]:
        latest = self._latest
        return [] if latest is None else [Observation(1, {"lockmaster.role": latest.role})]

    def _observe_rtt(self, options: CallbackOptions) -> Iterable[Observation]:
        peers = self._latest.members if self._latest is not None else ()
        return [Observation(m.rtt_ns / 1e9, {"lockmaster.member.name": m.name}) for m in peers if m.rtt_ns]

    def _observe_lag(self, options: CallbackOptions) -> Iterable[Observation]:
        latest = self._latest
        if latest is None or latest.role != "leader":
            return []
        return [Observation(m.lag_entries, {"lockmaster.member.name": m.name}) for m in latest.members]

    def refresh(self) -> None:
        """Take the snapshot that the next exports see. For the loop's thread; nothing without an exporter."""
        if self._meters is None:
            return
        self._latest = self._engine.status()
        self._latest_counts = self._counts()
        self._latest_counters = dict(self._latest.counters)
        if self.logins is not None:
            refused = {f"login_refused_{reason}": count for reason, count in self.logins.refused.items()}
            self._latest_counters |= {"login_reviews": self.logins.reviews, **refused}

    @contextlib.contextmanager
    def call(self, method: str, metadata: Mapping[str, Any]) -> Iterator[None]:
        """The span of one unary call, child of the caller's; nothing without an exporter."""
        tracer = self._tracer
        if tracer is None:
            yield
            return
        parent = propagate.extract({key: value for key, value in metadata.items() if isinstance(value, str)})
        name = method.removeprefix("/")
        service, _, short = name.partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": short}
        with tracer.start_as_current_span(name, parent, trace.SpanKind.SERVER, attributes):
            yield

    def link_holder(self, lock: str) -> None:
        """Links the running call's span, which is about to wait for this lock, to that of its holder."""
        if self.operations is not None:
            self.operations.link_holder(trace.get_current_span(), lock)

    @property
    def traces(self) -> bool:
        """Whether spans are made at all."""
        return self._tracer is not None

    def flush(self) -> None:
        """Send what waits; blocks for that long, so in a thread of its own while others serve."""
        if self._traces is not None:
            self._traces.force_flush()
        if self._meters is not None:
            self._meters.force_flush()

    def close(self) -> None:
        """Send what waits and stop; blocks for up to twice EXPORT_TIMEOUT_S."""
        if self.operations is not None:
            self.operations.close()
        if self._traces is not None:
            self._traces.shutdown()
        if self._meters is not None:
            self._meters.shutdown()
        if self._page is not None:
            server, thread = self._page
            server.shutdown()
            server.server_close()
            thread.join(timeout=1)
