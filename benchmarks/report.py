"""The table, the JSON and the plot of a comparison."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cases import Row


def print_table(rows: Sequence[Row], facts: dict[str, Any]) -> None:
    """Medians of both sides, their ratio, and each target with whether it is met."""
    console = Console(width=int(os.environ.get("COLUMNS", "150")), highlight=False)
    table = Table(title="Lockmaster ÷ etcd, medians of interleaved runs", header_style="bold")
    for heading in ("what", "measure", "Lockmaster", "etcd", "ratio", "target"):
        table.add_column(heading, justify="left" if heading in ("what", "measure", "target") else "right")
    for row in rows:
        for number, measure in enumerate(measures(row)):
            target = next((t for t in row.case.targets if t.measure == measure), None)
            ratio = row.ratio(measure)
            verdict = "" if target is None else f"{target} {'[green]met' if target.met(ratio) else '[red]not met'}[/]"
            values = [shown(row.value(side, measure), measure) for side in ("lockmaster", "etcd")]
            table.add_row("" if number else row.case.title, label(measure), *values, f"{ratio:.2f}", verdict)
        table.add_section()
    console.print(table)
    console.print("; ".join(f"{name}: {value}" for name, value in facts.items()), style="dim")


def measures(row: Row) -> list[str]:
    """What is told of a case."""
    if row.case.workload == "failover":
        return ["gap"]
    return ["rate", "p50", "p99", "cpu"] if row.case.compares_telemetry else ["rate", "p50", "p99"]


def label(measure: str) -> str:
    names = {"rate": "operations/s", "gap": "longest write pause, ms", "cpu": "processor time/operation, us"}
    return names.get(measure, f"{measure}, ms")


def shown(value: float, measure: str) -> str:
    return f"{value:,.0f}" if measure in ("rate", "gap") else f"{value:,.2f}"


def machine() -> dict[str, Any]:
    """The facts of this machine that matter to a reader."""
    return {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}


def write_json(rows: Sequence[Row], facts: dict[str, Any], path: Path) -> None:
    """Every run, the medians, the ratios and the targets."""
    cases = [
        {
            "case": row.case.title,
            "workload": row.case.workload,
            "clients": row.case.clients,
            "medians": {
                side: {measure: row.value(side, measure) for measure in measures(row)}
                for side in ("lockmaster", "etcd")
            },
            "ratios": {measure: row.ratio(measure) for measure in measures(row)},
            "targets": [
                {"target": str(target), "met": target.met(row.ratio(target.measure))} for target in row.case.targets
            ],
            "runs": {"lockmaster": row.lockmaster, "etcd": row.etcd},
        }
        for row in rows
    ]
    path.write_text(json.dumps({"facts": facts, "cases": cases}, indent=2) + "\n")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Rates and acquire latencies over the number of clients, side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    locks = [row for row in rows if row.case.workload == "locks"]
    if not locks:
        return
    figure, panels = pyplot.subplots(1, 3, figsize=(15, 4.5))
    clients = [row.case.clients for row in locks]
    for panel, measure in zip(panels, ("rate", "p50", "p99"), strict=True):
        for side, colour in (("lockmaster", "#1f6feb"), ("etcd", "#d1570a")):
            panel.plot(clients, [row.value(side, measure) for row in locks], "o-", color=colour, label=side)
        panel.set(xscale="log", yscale="log", xlabel="clients", title=f"locks: {label(measure)}")
        panel.set_xticks(clients, [str(n) for n in clients])
        panel.grid(visible=True, alpha=0.3)
        panel.legend()
    figure.tight_layout()
    figure.savefig(path)
