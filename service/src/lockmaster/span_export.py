"""Spans to a collector by OTLP, the same for server and operator.

It needs OpenTelemetry's SDK, which the base install has not; the exporter is loaded only where there is a collector.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

EXPORT_TIMEOUT_S: Final = 3.0
"""How long one export may take, so how long a collector that is gone may hold up a stop."""


def tracer_provider(endpoint: str, insecure: bool, sample_ratio: float, resource: Resource) -> TracerProvider:
    """A provider whose spans go to `endpoint` in batches: this share of the roots, and below them as the parent says.

    `shutdown` sends what waits and blocks for up to EXPORT_TIMEOUT_S.
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sample_ratio)), resource=resource)
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=insecure, timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
