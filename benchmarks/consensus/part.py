"""A part of these benchmarks, what it found, and how that is shown."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from lockmaster.cli.local_cluster import TlsFiles
from rich.console import Console
from rich.table import Table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: a value beside its peer's from the same run, and the bound on it if it has one."""

    what: str
    unit: str
    ours: float
    peer: float | None = None
    bound: float | None = None
    """The most that `measured` may be."""
    absolute: bool = False
    """The bound is on `ours`, not on the ratio."""
    ratio: float | None = None
    """The median of the ratios of neighbouring runs; without it ours ÷ peer."""

    @property
    def quotient(self) -> float | None:
        """Ours ÷ the peer's."""
        if self.ratio is not None or not self.peer or math.inf in (self.ours, self.peer):
            return self.ratio
        return self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """Whether the bound holds; None without one."""
        measured = self.ours if self.absolute else self.quotient
        return None if self.bound is None or measured is None else measured <= self.bound

    @property
    def verdict(self) -> str:
        """The bound with whether it is met."""
        if self.met is None or self.bound is None:
            return ""
        return f"≤ {self.bound:g}{'' if self.absolute else '×'} {'[green]met' if self.met else '[red]not met'}[/]"


@dataclass(frozen=True, slots=True)
class Setting:
    """What every part is run with."""

    tls: TlsFiles | None
    scratch: Path
    """A directory on the project's own disk; a part removes what it puts there."""
    quick: bool
    """Seconds instead of minutes: shows that it works, not how fast it is."""
    rounds: int
    say: Callable[[str], None]

    def mebibytes(self, whole: int, quick: int) -> int:
        """Bytes of a part's data."""
        return (quick if self.quick else whole) << 20


@dataclass(frozen=True, slots=True)
class Part:
    """A named part; `sides` says what stands in the two columns."""

    title: str
    sides: tuple[str, str]
    run: Callable[[Setting], list[Figure]]


Runs = tuple[Sequence[T], Sequence[T]]
"""Of both sides, in the order in which they ran in turn."""


def paired(what: str, unit: str, runs: Runs[T], measure: Callable[[T], float], bound: float | None = None) -> Figure:
    """Medians of interleaved runs, and the median of the ratios of neighbouring ones; the bound is on that."""
    ours, peers = ([measure(run) for run in side] for side in runs)
    ratio = median(a / max(b, 1e-9) for a, b in zip(ours, peers, strict=True))
    return Figure(what, unit, median(ours), median(peers), bound, ratio=ratio)


def bounded(what: str, unit: str, runs: Runs[T], measure: Callable[[T], float], bound: float | None = None) -> Figure:
    """The largest value on each side; the bound is on ours."""
    ours, peers = ([measure(run) for run in side] for side in runs)
    return Figure(what, unit, max(ours), max(peers), bound, absolute=True)


def print_part(part: Part, figures: Sequence[Figure]) -> None:
    """One table per part."""
    console = Console(width=int(os.environ.get("COLUMNS", "150")), highlight=False)
    table = Table(title=part.title, header_style="bold")
    for heading, justify in (("what", "left"), (part.sides[0], "right"), (part.sides[1], "right"), ("ratio", "right")):
        table.add_column(heading, justify="left" if justify == "left" else "right")
    table.add_column("target")
    for figure in figures:
        quotient = figure.quotient
        table.add_row(
            f"{figure.what}{', ' if figure.unit else ''}{figure.unit}",
            shown(figure.ours),
            "" if figure.peer is None else shown(figure.peer),
            "" if quotient is None else shown(quotient),
            figure.verdict,
        )
    console.print(table)


def shown(value: float) -> str:
    """Three digits that say something."""
    if math.isinf(value):
        return "never"
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(part: Part, figures: Sequence[Figure]) -> dict[str, Any]:
    """For the file: every figure with its ratio and whether its bound is met."""
    rows = [asdict(figure) | {"ratio": figure.quotient, "met": figure.met} for figure in figures]
    rows = [{name: "never" if value == math.inf else value for name, value in row.items()} for row in rows]
    return {"part": part.title, "sides": part.sides, "figures": rows}


def write_json(parts: Sequence[tuple[Part, Sequence[Figure]]], facts: dict[str, Any], path: Path) -> None:
    """Every part that ran."""
    path.write_text(json.dumps({"facts": facts, "parts": [as_json(*part) for part in parts]}, indent=2) + "\n")
