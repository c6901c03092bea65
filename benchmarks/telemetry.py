"""What telemetry costs: lock operations with it off and on, in turn, on two clusters that are both up.

On means everything at its defaults: members that send traces and metrics to a collector (here one that throws them
away, in this process), serve a Prometheus page and write JSON logs; and, in the second case, a driver whose
application has set up OpenTelemetry's SDK with the same sampling. Run as a module, this file is that driver.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from lockmaster.cli.local_cluster import LocalCluster, TlsFiles
from lockmaster.cli.main import main

from benchmarks.cases import Row

PAIRS = 3
FIRST_EXPORT_SECONDS = 11.0
"""The longest export interval, and a second."""
SAMPLE_RATIO = 0.01
"""The server's default, here for the driver too."""
EXPORT_SERVICES = ("trace.v1.TraceService", "metrics.v1.MetricsService")
ON = ("--otlp-insecure", "--metrics-listen", "127.0.0.1:0", "--log-format", "json")

Execute = Callable[[Sequence[str]], dict[str, Any]]
Command = Callable[[LocalCluster, Row], list[str]]


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """A collector that takes everything and keeps nothing; its address."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
        for name in EXPORT_SERVICES:
            service = f"opentelemetry.proto.collector.{name}"
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def compare(
    directory: Path,
    tls: TlsFiles | None,
    rows: Sequence[Row],
    rounds: int,
    command: Command,
    execute: Execute,
    say: Callable[[str], None],
) -> None:
    """Each case off and on, PAIRS times in each round, the first in turn. On counts as ours, off as the other's.

    Both clusters are new in each round: two of the same kind differ by up to a fifth, by who leads and on which core.
    What is done once is no part of an operation's cost: both are loaded for a moment and then left alone until
    exporters have connected and exported for the first time, which takes some tenths of a second of processor time.
    """
    with collector() as address:
        for number in range(rounds):
            with contextlib.ExitStack() as stack:
                clusters = {}
                for name, arguments in (("off", ()), ("on", ("--otlp-endpoint", address, *ON))):
                    place = directory / f"{number}-{name}"
                    place.mkdir()
                    clusters[name] = stack.enter_context(LocalCluster(place, tls=tls, arguments=arguments))
                    clusters[name].start()

                for name, cluster in clusters.items():
                    run(cluster, rows[0], name, address, command, execute)
                time.sleep(FIRST_EXPORT_SECONDS)
                for row in rows:
                    for pair in range(PAIRS):
                        for name in ("off", "on") if (number + pair) % 2 else ("on", "off"):
                            (row.lockmaster if name == "on" else row.etcd).append(
                                run(clusters[name], row, name, address, command, execute)
                            )
                    ratios = f"{row.ratio('rate'):.3f} × the rate, {row.ratio('cpu'):.3f} × the processor time"
                    say(f"{row.case.title}: {ratios} so far")


def run(cluster: LocalCluster, row: Row, name: str, address: str, command: Command, execute: Execute) -> dict[str, Any]:
    """One run of a case on the cluster that has telemetry `name`: on or off."""
    with_sdk = name == "on" and row.case.workload == "telemetry of SDK"
    words = [sys.executable, "-m", "benchmarks.telemetry", address, "on" if with_sdk else "off"]
    words += command(cluster, row)[3:]
    return with_cpu(cluster, functools.partial(execute, words))


def with_cpu(cluster: LocalCluster, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A run with the processor time that its members and its driver took: on a shared machine rates say little."""
    before = cpu_seconds(cluster)
    answer = run()
    answer["cpu_us_per_operation"] = (cpu_seconds(cluster) - before) * 1e6 / max(1, answer["operations"])
    return answer


def cpu_seconds(cluster: LocalCluster) -> float:
    """Of the members that run, and of all drivers that have ended; 0 for members where there is no /proc."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for member in cluster.members:
        stat = Path(f"/proc/{member.process.pid}/stat") if member.process is not None else None
        if stat is not None and stat.exists():
            fields = stat.read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def drive(address: str, on: bool, words: list[str]) -> None:
    """The command line, in an application that has set up OpenTelemetry; or has made all of it and uses none.

    Making it takes some 0.5 s of processor time, which is no part of an operation's cost.
    """
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    traces = TracerProvider(sampler=ParentBased(TraceIdRatioBased(SAMPLE_RATIO)))
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address, insecure=True)))
    exporter = OTLPMetricExporter(endpoint=address, insecure=True)
    measures = MeterProvider([PeriodicExportingMetricReader(exporter, 10_000)])
    if on:
        trace.set_tracer_provider(traces)
        metrics.set_meter_provider(measures)
    sys.argv[1:] = words
    main()


if __name__ == "__main__":
    drive(sys.argv[1], sys.argv[2] == "on", sys.argv[3:])
