"""Spans of the session stream's operations: parents, links, ends, sampling; logs with the trace; paced metrics."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster import AsyncClient
from lockmaster.api import config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.client.telemetry import Telemetry as SdkTelemetry
from lockmaster.errors import Overloaded
from lockmaster.measuring import RECORDS_PER_SECOND_MAX, SERIES_MAX, Pace, PacedHistogram
from lockmaster.server import operation_tracing, reads
from lockmaster.server.app import Server, dev_settings
from lockmaster.server.meters import Meters
from lockmaster.server.operation_tracing import OperationTracing
from lockmaster.server.telemetry import JsonFormatter
from lockmaster.statemachine.commands import CloseSession, Command, EndCause, SessionEnded
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.service.server.test_session_stream import Client

Request = session_pb2.Request
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Traced:
    """A stream over an engine in memory, and the spans that it makes."""

    def __init__(self, engine: Any, ratio: float) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        tracer = self.provider.get_tracer("test")
        self.tracing = OperationTracing(tracer, ratio, lambda name: engine.machine.inspect_lock(name, 0).token)
        engine.subscribe(self.tracing.listen)
        self.client = Client(engine, tracing=self.tracing)
        self.client.open()

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


@pytest.fixture
async def traced(engine: Any) -> Any:
    made = Traced(engine, 0.0)
    yield made
    await made.client.end()
    made.provider.shutdown()


def acquire(id: int, traceparent: str = "", name: str = "a", wait: bool = True) -> Request:
    body = lock_pb2.AcquireRequest(name=name, wait=wait)
    return Request(id=id, seq=id, acquire=body, traceparent=traceparent)


def release(id: int, token: int, traceparent: str = "") -> Request:
    return Request(id=id, seq=id, release=lock_pb2.ReleaseRequest(name="a", token=token), traceparent=traceparent)


def put(id: int, traceparent: str = "", **fields: Any) -> Request:
    body = config_pb2.PutRequest(namespace="n", key="secret-key", value=b"secret-value", **fields)
    return Request(id=id, seq=id, put=body, traceparent=traceparent)


async def test_a_span_is_the_child_of_the_clients(traced: Traced) -> None:
    await traced.client.ask(put(1, PARENT))
    (span,) = traced.spans
    assert (span.name, span.kind) == ("put", trace.SpanKind.SERVER)
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert dict(span.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "lockmaster.v1.Sessions",
        "rpc.method": "Connect",
        "lockmaster.operation": "put",
        "lockmaster.config.namespace": "n",
    }
    assert "secret" not in span.to_json()


@pytest.mark.parametrize(
    "parent", ["nonsense", PARENT + "x", "ff-" + PARENT[3:], f"00-{TRACE}-{SPAN}-00", "00" * 40_000]
)
async def test_a_parent_that_is_none_or_not_sampled_disturbs_nothing(traced: Traced, parent: str) -> None:
    (answer,) = await traced.client.ask(put(1, parent))
    assert answer.status == status_pb2.STATUS_OK
    assert not [span for span in traced.spans if span.parent is not None]


async def test_without_a_parent_the_ratio_decides_unless_the_client_does(engine: Any) -> None:
    traced = Traced(engine, 1.0)
    await traced.client.ask(put(1))
    assert len(traced.spans) == 1
    await traced.client.ask(put(2), traced=True)
    assert len(traced.spans) == 1, "the client decided that it is not traced"
    await traced.client.end()


async def test_spans_a_second_are_bounded(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced.tracing, "_spans", Pace(2))
    await traced.client.ask(*(put(n, PARENT) for n in range(1, 201)))
    assert len(traced.spans) < 20


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (Request(id=1, get=config_pb2.GetRequest(namespace="n", key="k")), "get"),
        (Request(id=1, range=config_pb2.RangeRequest(namespace="n")), "range"),
        (Request(id=1, attach=session_pb2.AttachRequest()), "attach"),
        (Request(id=1, watch=config_pb2.WatchRequest(watch_id=1, namespace="n")), "watch"),
        (Request(id=1, inspect_lock=lock_pb2.InspectLockRequest(name="a")), "inspect_lock"),
    ],
)
async def test_every_sort_of_operation_has_a_span(traced: Traced, request_: Request, name: str) -> None:
    request_.traceparent = PARENT
    await traced.client.ask(request_)
    await asyncio.sleep(0)
    assert [span.name for span in traced.spans] == [name]


async def test_a_refusal_is_told_and_only_the_servers_own_is_an_error(traced: Traced, engine: Any) -> None:
    await traced.client.ask(put(1, PARENT, if_revision=7))
    engine.refusal = Overloaded("too many commands wait")
    await traced.client.ask(put(2, PARENT))
    engine.refusal = None
    await traced.client.ask(Request(id=3, seq=3, put=config_pb2.PutRequest(), traceparent=PARENT))
    told = [(dict(span.attributes or {})["error.type"], span.status.is_ok) for span in traced.spans]
    assert told == [("COMPARE_FAILED", True), ("OVERLOADED", False), ("INVALID_REQUEST", True)]


async def test_a_waiters_span_links_to_the_holders_and_ends_with_the_grant(traced: Traced, engine: Any) -> None:
    (held,) = await traced.client.ask(acquire(1, PARENT))
    (queued,) = await traced.client.ask(acquire(2, PARENT))
    assert queued.acquire.state == lock_pb2.ACQUIRE_STATE_QUEUED
    (holder,) = traced.spans
    await traced.client.ask(release(3, held.acquire.token))
    (waiter,) = [span for span in traced.spans if span is not holder]
    assert [link.context.span_id for link in waiter.links] == [holder.context.span_id]
    assert waiter.events[0].name == "queued"
    assert str(held.acquire.token) not in waiter.to_json()
    await traced.client.ask(acquire(4, PARENT))
    traced.tracing.close()
    third = traced.spans[-1]
    assert [link.context.span_id for link in third.links] == [waiter.context.span_id], "the waiter holds it now"


async def test_a_waiter_does_not_link_to_one_who_no_longer_holds(traced: Traced) -> None:
    (held,) = await traced.client.ask(acquire(1, PARENT))
    await traced.client.ask(release(2, held.acquire.token), acquire(3))
    await traced.client.ask(acquire(4, PARENT))
    traced.tracing.close()
    assert not traced.spans[-1].links


async def test_a_wait_ends_with_its_session(traced: Traced, engine: Any) -> None:
    await traced.client.ask(acquire(1), acquire(2, PARENT))
    assert not traced.spans
    traced.tracing.listen([SessionEnded(traced.client.session_id, EndCause.EXPIRED)], 1)
    (span,) = traced.spans
    assert dict(span.attributes or {})["error.type"] == "SESSION_EXPIRED"


async def test_open_spans_end_when_the_lead_is_lost(traced: Traced) -> None:
    await traced.client.ask(acquire(1), acquire(2, PARENT))
    traced.tracing.role_changed(True, "")
    assert not traced.spans
    traced.tracing.role_changed(False, "other:7420")
    assert [event.name for event in traced.spans[0].events] == ["queued", "moved"]


async def test_open_spans_and_remembered_holders_are_bounded(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_tracing, "WAITING_MAX", 1)
    monkeypatch.setattr(operation_tracing, "HOLDERS_MAX", 2)
    await traced.client.ask(*(acquire(n, PARENT, f"lock-{n}") for n in range(1, 6)))
    assert len(traced.tracing._holders) == 2
    await traced.client.ask(acquire(6, PARENT, "lock-1"), acquire(7, PARENT, "lock-1"))
    assert len(traced.spans) == 6, "the second waiter's span ended where it queued"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    handler, logger = Lines(), logging.getLogger("lockmaster.server")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


async def test_a_log_line_carries_the_trace_of_the_operation_it_belongs_to(
    traced: Traced, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("a bug in a query")

    monkeypatch.setattr(reads, "get", broken)
    get = config_pb2.GetRequest(namespace="n", key="k")
    await traced.client.ask(Request(id=1, get=get, traceparent=PARENT), Request(id=2, get=get))
    failed = [line for line in lines if line["level"] == "error"]
    assert [line.get("trace_id") for line in failed] == [TRACE, None]
    answered = [line for line in lines if "answered" in line["message"]]
    assert [(line["trace_id"], line["span_id"]) for line in answered] == [
        (TRACE, f"{traced.spans[0].context.span_id:016x}")
    ]
    assert operation_tracing.operation_here() is None


# -- metrics


def test_a_pace_lets_everything_pass_that_is_slow() -> None:
    pace = Pace(10)
    assert all(pace.passes(n / 10) for n in range(100))


@pytest.mark.parametrize("per_second", [1_000, 20_000])
def test_a_pace_bounds_what_is_fast_and_thins_it_evenly(per_second: int) -> None:
    pace = Pace(100)
    passed = [n for n in range(3 * per_second) if pace.passes(n / per_second)]
    first = sum(1 for n in passed if n < per_second)
    later = [n for n in passed if n >= per_second]
    assert first <= 100 * (per_second // 100).bit_length()
    assert 180 <= len(later) <= 220
    assert max(b - a for a, b in itertools.pairwise(later)) <= 2 * per_second / 100


class Metered:
    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.meter = self.provider.get_meter("test")

    def points(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


@pytest.fixture
def metered() -> Iterator[Metered]:
    made = Metered()
    yield made
    made.provider.shutdown()


def test_labels_of_a_histogram_are_bounded(metered: Metered) -> None:
    histogram = PacedHistogram(metered.meter, "h", "", labels=("kind",))
    for n in range(SERIES_MAX + 50):
        histogram.record(0.0, 1.0, str(n))
    assert len(metered.points()["h"]) <= SERIES_MAX + 1


def test_the_data_path_is_measured(metered: Metered) -> None:
    meters = Meters(metered.meter)
    meters.synced(2_000_000)
    meters.applied(0, 3, 1)
    meters.applied(0, 0, 0)
    points = metered.points()
    assert points["lockmaster.storage.sync.duration"][0].sum == pytest.approx(0.002)
    assert points["lockmaster.raft.apply.duration"][0].count == 2
    assert points["lockmaster.raft.commit.duration"][0].count == 1, "only entries formed here"
    assert points["lockmaster.raft.batch.size"][0].sum == 3


def test_a_sync_a_millisecond_costs_no_record_each(metered: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockmaster.server.meters.time.monotonic", iter(n / 10_000 for n in range(30_000)).__next__)
    meters = Meters(metered.meter)
    for _ in range(30_000):
        meters.synced(1)
    assert metered.points()["lockmaster.storage.sync.duration"][0].count < 12 * RECORDS_PER_SECOND_MAX


async def test_waits_are_measured_by_how_they_end(engine: Any, metered: Metered) -> None:
    meters = Meters(metered.meter)
    engine.subscribe(meters.listen)
    client = Client(engine, meters=meters)
    session_id = client.open()
    (held, *_) = await client.ask(*(acquire(n, name="secret-lock") for n in range(1, 5)))
    assert metered.points()["lockmaster.lock.waiters"][0].value == 3
    cancel = lock_pb2.CancelAcquireRequest(name="secret-lock", acquire_seq=2)
    back = lock_pb2.ReleaseRequest(name="secret-lock", token=held.acquire.token)
    await client.ask(Request(id=5, seq=5, cancel_acquire=cancel), Request(id=6, seq=6, release=back))
    engine.apply(Command(CloseSession(session_id)))
    points = metered.points()
    outcomes = {p.attributes["lockmaster.outcome"]: p.value for p in points["lockmaster.lock.waits"]}
    assert outcomes.keys() >= {"cancelled", "granted"}
    assert sum(outcomes.values()) == 3
    assert points["lockmaster.lock.waiters"][0].value == 0
    labels = {str(value) for each in points.values() for point in each for value in point.attributes.values()}
    assert labels == set(outcomes)
    await client.end()


# -- the whole way: SDK, server, collector


class Collector:
    """An OpenTelemetry collector in this process that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: set[str] = set()

    async def traces(self, request: Any, context: Any) -> Any:
        self.spans += [span for r in request.resource_spans for scope in r.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    async def measures(self, request: Any, context: Any) -> Any:
        for resource in request.resource_metrics:
            self.metrics.update(metric.name for scope in resource.scope_metrics for metric in scope.metrics)
        return metrics_service_pb2.ExportMetricsServiceResponse()

    async def start(self) -> str:
        self.server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        base = "opentelemetry.proto.collector"
        for service, call, pb2, kind in (
            (f"{base}.trace.v1.TraceService", self.traces, trace_service_pb2, "Trace"),
            (f"{base}.metrics.v1.MetricsService", self.measures, metrics_service_pb2, "Metrics"),
        ):
            handler = grpc.unary_unary_rpc_method_handler(
                call,
                getattr(pb2, f"Export{kind}ServiceRequest").FromString,
                getattr(pb2, f"Export{kind}ServiceResponse").SerializeToString,
            )
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return f"127.0.0.1:{port}"


async def test_a_trace_goes_from_the_sdk_through_the_server_to_the_collector(tmp_path: Path) -> None:
    collector = Collector()
    address = await collector.start()
    settings = dev_settings(tmp_path / "data").model_copy(update={"otlp_endpoint": address, "otlp_insecure": True})
    running = Server(settings)
    await running.start()
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = AsyncClient(running.bound_address)
    client.telemetry = SdkTelemetry(provider, NoOpMeterProvider())
    async with client:
        async with client.lock("a"):
            waiting = asyncio.create_task(client.lock("a").acquire())
            while running.engine.machine.inspect_lock("a").queue_length == 0:
                await asyncio.sleep(0.01)
        await (await waiting).release()
        await client.locks.list()
    running.telemetry.refresh()
    await asyncio.to_thread(running.telemetry.flush)
    await running.stop()
    await collector.server.stop(None)
    provider.shutdown()
    ours = {span.context.span_id: span.name for span in exporter.get_finished_spans() if span.context is not None}
    theirs = [(span.name, ours.get(int.from_bytes(span.parent_span_id))) for span in collector.spans]
    pairs = [("acquire", "lockmaster acquire"), ("release", "lockmaster release")] * 2
    assert sorted(theirs) == sorted([*pairs, ("lockmaster.v1.Locks/List", "lockmaster Locks/List")]), ours
    first, second = sorted((s for s in collector.spans if s.name == "acquire"), key=lambda s: s.start_time_unix_nano)
    assert [link.span_id for link in second.links] == [first.span_id]
    assert collector.metrics >= {"lockmaster.raft.commit.duration", "lockmaster.raft.role", "lockmaster.lock.waits"}
