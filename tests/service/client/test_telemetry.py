"""Spans and metrics of the client, and that nothing is made where nobody asked for them."""

from __future__ import annotations

from typing import Any

import pytest
from lockmaster import LockBusy
from lockmaster.client.telemetry import Telemetry, telemetry_if_on
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def test_without_a_provider_there_is_no_telemetry() -> None:
    assert telemetry_if_on() is None


async def test_waits_and_holds_are_told_without_tokens(cluster: Any) -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    traces, measures = TracerProvider(), MeterProvider([reader])
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    async with cluster.client() as client:
        client.telemetry = Telemetry(traces, measures)
        async with client.lock("x") as held:
            token = held.fencing_token
            with pytest.raises(LockBusy):
                await client.lock("x", timeout=0).acquire()
    granted, refused = exporter.get_finished_spans()
    assert granted.name == refused.name == "lock acquire"
    assert dict(granted.attributes or {}) == {"lockmaster.lock.name": "x"}
    assert dict(refused.attributes or {})["error.type"] == "LockBusy"
    data = reader.get_metrics_data()
    assert data is not None
    names = {metric.name for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics}
    assert names == {"lockmaster.client.lock.wait", "lockmaster.client.lock.hold"}
    assert str(token) not in granted.to_json()
    measures.shutdown()
    traces.shutdown()
