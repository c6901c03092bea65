"""The command `bench`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import click

from lockmaster.cli.bench.samples import Samples, histogram, summary
from lockmaster.cli.bench.workloads import NAMESPACE, WORKLOADS, Plan, unique_prefix
from lockmaster.cli.connection import Target, connection_options
from lockmaster.cli.exit_codes import FAILED, OK
from lockmaster.cli.numbers import Seconds
from lockmaster.cli.output import output_option, print_json_line, stdout

DESCRIPTIONS = {
    "locks": "acquire and release of its own lock",
    "put": "writes",
    "get": "linearizable reads",
    "watch": "events to 1,000 watchers of one key",
    "handoff": "release of one lock until the next in the queue holds it",
    "failover": "writes, while you kill the leader",
}
BAR_WIDTH = 40


@click.command()
@click.argument("workload", type=click.Choice(list(WORKLOADS)), default="locks")
@click.option(
    "-c", "--clients", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Concurrent tasks."
)
@click.option("--connections", type=click.IntRange(1, 64), default=1, show_default=True, help="Clients they share.")
@click.option("-s", "--seconds", type=Seconds(0.1, 600), default=5.0, show_default=True)
@click.option("--value-size", type=click.IntRange(1, 1 << 20), default=256, show_default=True, help="Bytes of a value.")
@output_option
@connection_options
def bench(
    target: Target, output: str, workload: str, clients: int, connections: int, seconds: float, value_size: int
) -> int:
    """Measure this cluster from here: locks, put, get, watch, handoff or failover.

    It writes to locks and to the namespace lockmaster-bench. Measured time follows one second of warm-up. Exit code 1
    if nothing was done.
    """
    plan = Plan(clients, seconds, value_size, unique_prefix())
    samples = run_workload(target, workload, plan, min(connections, clients))
    answer = summary(workload, clients, samples)
    if output == "json":
        print_json_line(answer)
    else:
        show(answer, samples)
    return OK if samples.operations else FAILED


def run_workload(target: Target, workload: str, plan: Plan, connections: int) -> Samples:
    """Runs one workload on an event loop of its own, uvloop where it is installed."""

    async def main() -> Samples:
        async with contextlib.AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(target.client(label="bench")) for _ in range(connections)]
            # Some workloads wait without an end: a cluster that isn't there is said first.
            await opened[0].config(NAMESPACE).get(plan.prefix)
            return await WORKLOADS[workload](opened, plan)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main())


def loop_factory() -> Any:
    """uvloop's loop where it is installed; None for asyncio's own."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


def show(answer: dict[str, Any], samples: Samples) -> None:
    """The result for people: one line, the quantiles, and the histogram."""
    rate = answer["operations_per_second"]
    stdout.print(f"[bold]{answer['workload']}[/]: {DESCRIPTIONS[answer['workload']]}, {answer['clients']} clients")
    stdout.print(f"[bold]{rate:,.0f}[/] operations/s ({answer['operations']:,} in {answer['seconds']:g} s)")
    latency = answer["latency_ms"]
    stdout.print("  ".join(f"{name} {latency[name]:.2f} ms" for name in latency))
    if samples.gap:
        stdout.print(f"longest time without a success: {samples.gap * 1e3:.0f} ms; errors: {samples.errors}")
    bars = histogram(samples.latencies)
    most = max((count for _, count in bars), default=1)
    for bound, count in bars:
        stdout.print(f"  ≤ {bound * 1e3:>9.2f} ms {'█' * round(BAR_WIDTH * count / most):<{BAR_WIDTH}} {count:>9,}")
