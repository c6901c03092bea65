"""Traces of the operator: one for each pass, its steps and its calls to members below it.

Off by default and then free: no provider, and the SDK of OpenTelemetry is not even loaded.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from opentelemetry import trace

from lockmaster_operator.host.settings import HostSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def start_traces(settings: HostSettings) -> TracerProvider | None:
    """The provider of this process, set for all of it, or None. Once, and before clients of members are made."""
    if not settings.otlp_endpoint or settings.trace_sample_ratio <= 0:
        return None
    from lockmaster.span_export import tracer_provider
    from opentelemetry.sdk.resources import Resource

    instance = settings.identity or socket.gethostname()
    resource = Resource.create({"service.name": "lockmaster-operator", "service.instance.id": instance})
    provider = tracer_provider(settings.otlp_endpoint, settings.otlp_insecure, settings.trace_sample_ratio, resource)
    trace.set_tracer_provider(provider)
    return provider
