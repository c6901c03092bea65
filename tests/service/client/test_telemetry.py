"""Spans and metrics of the client, and that nothing is made where nobody asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from lockmaster import LockBusy
from lockmaster.client.telemetry import Telemetry, telemetry_if_on
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased


class Watched:
    """A client's telemetry, in memory."""

    def __init__(self, sampler: Any = DEFAULT_ON) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.traces, self.measures = (
            TracerProvider(sampler=sampler, shutdown_on_exit=False),
            MeterProvider([self.reader]),
        )
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))

    def client(self, cluster: Any) -> Any:
        client = cluster.client()
        client.telemetry = Telemetry(self.traces, self.measures)
        return client

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def points(self) -> dict[str, list[Any]]:
        """All data points by the metric's name."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.measures.shutdown()
    made.traces.shutdown()


def test_without_a_provider_there_is_no_telemetry() -> None:
    assert telemetry_if_on() is None


async def test_without_telemetry_nothing_of_it_is_sent(cluster: Any) -> None:
    frames = cluster.member.received
    async with cluster.client() as client:
        await client.config("n").put("k", b"v")
    assert frames
    assert not any(frame.traced or any(request.traceparent for request in frame.requests) for frame in frames)


async def test_waits_and_holds_are_told_without_tokens(cluster: Any, watched: Watched) -> None:
    async with watched.client(cluster) as client, client.lock("x") as held:
        token = held.fencing_token
        with pytest.raises(LockBusy):
            await client.lock("x", timeout=0).acquire()
    granted, refused, released = watched.exporter.get_finished_spans()
    assert granted.name == refused.name == "lockmaster acquire"
    assert dict(granted.attributes or {}) == {"lockmaster.lock.name": "x"}
    assert dict(refused.attributes or {})["error.type"] == "LockBusy"
    assert (released.name, released.kind) == ("lockmaster release", trace.SpanKind.CLIENT)
    assert str(token) not in granted.to_json() + released.to_json()
    points = watched.points()
    waits = {point.attributes.get("error.type", ""): point for point in points["lockmaster.client.lock.wait.duration"]}
    assert set(waits) == {"", "LockBusy"}
    assert waits[""].explicit_bounds[0] < 0.001, "bounds are in seconds"
    assert points["lockmaster.client.lock.hold.duration"][0].count == 1


async def test_config_operations_have_spans_durations_and_exact_counts(cluster: Any, watched: Watched) -> None:
    async with watched.client(cluster) as client:
        for _ in range(3):
            await client.config("n").put("secret-key", b"secret-value")
        await client.config("n").get("secret-key")
    spans = watched.spans()
    assert set(spans) == {"lockmaster put", "lockmaster get"}
    assert dict(spans["lockmaster put"].attributes or {}) == {"lockmaster.config.namespace": "n"}
    assert "secret" not in "".join(span.to_json() for span in spans.values())
    points = watched.points()
    counts = {p.attributes["lockmaster.operation"]: p.value for p in points["lockmaster.client.operations"]}
    assert counts == {"put": 3, "get": 1}
    assert {p.attributes["lockmaster.operation"] for p in points["lockmaster.client.operation.duration"]} == set(counts)


async def test_no_metric_is_labelled_with_a_name_of_a_lock_or_key(cluster: Any, watched: Watched) -> None:
    async with watched.client(cluster) as client:
        for n in range(5):
            async with client.lock(f"lock-{n}"):
                await client.config("n").put(f"key-{n}", b"v")
    keys = {key for points in watched.points().values() for point in points for key in point.attributes}
    assert keys == {"lockmaster.operation"}


async def test_two_clients_of_a_process_are_counted_together(cluster: Any, watched: Watched) -> None:
    for _ in range(2):
        async with watched.client(cluster) as client:
            await client.config("n").put("k", b"v")
    (counted,) = watched.points()["lockmaster.client.operations"]
    assert counted.value == 2


async def test_a_span_is_the_child_of_the_applications_and_is_sent_along(cluster: Any, watched: Watched) -> None:
    tracer = watched.traces.get_tracer("application")
    async with watched.client(cluster) as client:
        with tracer.start_as_current_span("request") as request:
            await client.config("n").put("k", b"v")
    put, parent = watched.spans()["lockmaster put"], request.get_span_context()
    assert put.parent is not None
    assert put.parent.span_id == parent.span_id
    (sent,) = [each for frame in cluster.member.received for each in frame.requests if each.HasField("put")]
    assert put.context is not None
    assert sent.traceparent.startswith(f"00-{parent.trace_id:032x}-{put.context.span_id:016x}-")
    assert int(sent.traceparent[-2:], 16) & trace.TraceFlags.SAMPLED
    assert all(frame.traced for frame in cluster.member.received)


async def test_where_the_applications_span_is_not_sampled_there_is_none(cluster: Any, watched: Watched) -> None:
    unsampled = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("application")
    async with watched.client(cluster) as client:
        with unsampled.start_as_current_span("request"):
            await client.config("n").put("k", b"v")
    assert not watched.exporter.get_finished_spans()
    assert all(frame.traced for frame in cluster.member.received), "the server must not begin a trace of its own"


async def test_what_the_sampler_drops_is_not_sent(cluster: Any) -> None:
    watched = Watched(ParentBased(ALWAYS_OFF))
    async with watched.client(cluster) as client:
        await client.config("n").put("k", b"v")
    assert not any(request.traceparent for frame in cluster.member.received for request in frame.requests)
    watched.measures.shutdown()


async def test_a_lost_lock_is_counted(cluster: Any, watched: Watched) -> None:
    async with watched.client(cluster) as client:
        held = await client.lock("x").acquire()
        lost = asyncio.Event()
        held.on_lost(lambda _: lost.set())
        cluster.model.expire(client.session_id)
        async with asyncio.timeout(5):
            await lost.wait()
    assert [point.value for point in watched.points()["lockmaster.client.lock.losses"]] == [1]


async def test_a_cancelled_wait_is_told(cluster: Any, watched: Watched) -> None:
    async with watched.client(cluster) as client, client.lock("x"):
        waiting = asyncio.create_task(client.lock("x").acquire())
        async with asyncio.timeout(5):
            while not cluster.model.queues.get("x"):
                await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    waits = watched.points()["lockmaster.client.lock.wait.duration"]
    assert "CancelledError" in {point.attributes.get("error.type") for point in waits}
