"""The operator's traces: a real process, an API server over real HTTP, and a collector that keeps what it is sent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster_operator.host.settings import SettingsError, load
from lockmaster_operator.host.tracing import start_traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb2

from .fake_api import FakeApi

UNTIL_SECONDS = 120
START = "from lockmaster_operator.main import main; main()"
SPEC = {"version": "0.2.0", "storage": {"size": "1Gi"}}
BACKUP = {"clusterRef": {"name": "locks"}, "store": {"pvc": {"claimName": "backups"}}}


class Collector:
    """An OpenTelemetry collector in this process. For one event loop."""

    def __init__(self) -> None:
        self.spans: dict[bytes, Any] = {}
        self.services: set[str] = set()
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))

    async def start(self) -> str:
        handler = grpc.unary_unary_rpc_method_handler(
            self._export,
            pb2.ExportTraceServiceRequest.FromString,
            pb2.ExportTraceServiceResponse.SerializeToString,
        )
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        await self._server.stop(None)

    async def _export(self, request: Any, context: Any) -> Any:
        for one in request.resource_spans:
            named = {each.key: each.value.string_value for each in one.resource.attributes}
            self.services.add(named["service.name"])
            self.spans |= {span.span_id: span for scope in one.scope_spans for span in scope.spans}
        return pb2.ExportTraceServiceResponse()

    def parents(self) -> set[tuple[str, str]]:
        """(name, name of the span that it is below; "" for a root) of all."""
        known = {key: str(span.name) for key, span in self.spans.items()}
        return {(str(span.name), known.get(span.parent_span_id, "")) for span in self.spans.values()}


async def test_each_pass_of_a_running_operator_is_a_trace_at_the_collector(tmp_path: Path) -> None:
    api, collector = FakeApi(), Collector()
    await api.start()
    where = {"name": "locks", "namespace": "ns"}
    api.put({"apiVersion": "lockmaster.dev/v1alpha1", "kind": "LockCluster", "metadata": where, "spec": SPEC})
    api.put({"apiVersion": "lockmaster.dev/v1alpha1", "kind": "LockBackup", "metadata": where, "spec": BACKUP})
    prefix = "LOCKMASTER_OPERATOR_"
    told = {"LISTEN": "127.0.0.1:0", "OTLP_ENDPOINT": await collector.start(), "OTLP_INSECURE": "true"}
    environment = {"KUBECONFIG": api.kubeconfig(tmp_path), "OTEL_BSP_SCHEDULE_DELAY": "100"}
    environment |= {prefix + name: value for name, value in told.items()}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", START, env=os.environ | environment)
    wanted = {("reconcile", ""), ("Apply", "reconcile"), ("mind LockCluster", ""), ("mind LockBackup", "")}
    try:
        async with asyncio.timeout(UNTIL_SECONDS):
            while not wanted <= collector.parents() and process.returncode is None:
                await asyncio.sleep(0.05)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        await api.stop()
        await collector.stop()
    assert wanted <= collector.parents()
    assert collector.services == {"lockmaster-operator"}
    assert process.returncode == 0


@pytest.mark.parametrize("off", [{}, {"otlp_endpoint": "127.0.0.1:4317", "trace_sample_ratio": 0.0}])
def test_without_a_collector_or_a_share_there_is_no_provider(off: dict[str, Any]) -> None:
    assert start_traces(load(off)) is None


def test_a_collector_that_cannot_be_dialled_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^LOCKMASTER_OPERATOR_OTLP_ENDPOINT: .*'collector' is not host:port"):
        load({"otlp_endpoint": "collector"})
