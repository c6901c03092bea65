"""The report of `make e2e`: each scenario with its seconds and figures, and the figures of the design beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

GOALS: Final = {
    "helm install to Ready": "≤ 90 s",
    "promotion: writes pause": "≤ 2 election timeouts",
    "promotion: witness promoted": "≤ promoteAfter (10 s) + 15 s",
    "upgrade: write gap p99 of the worst step": "≤ 200 ms",
    "200 clusters after a restart": "≤ 60 s, ≤ 300 MiB",
    "idle operator of 200 clusters": "≤ 1 % of a core, ≤ 1 write an hour and cluster",
    "idle operator of one real LockCluster": "≤ 1 % of a core",
    "lost writes": "0",
    "failed SDK operations": "0",
}
"""What the issue asks for, by the name that a scenario notes its figure under."""


@dataclass
class Report:
    """Filled by the scenarios (fixture `report`) and by pytest (results and seconds)."""

    figures: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    results: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By scenario: passed, failed or skipped, and seconds."""
    tables: dict[str, list[str]] = field(default_factory=dict)
    lost: int = 0
    failed: int = 0
    writes: int = 0

    def figure(self, name: str, value: str) -> None:
        """A figure of GOALS."""
        if name not in GOALS:
            raise ValueError(f"{name!r} is no figure of the report: {', '.join(GOALS)}")
        self.figures[name] = value

    def note(self, scenario: str, text: str) -> None:
        """A line beside a scenario's row."""
        self.notes.setdefault(scenario, []).append(text)

    def table(self, title: str, lines: list[str]) -> None:
        """Lines of their own, after all else."""
        self.tables[title] = lines

    def operations(self, writes: int, lost: int, failed: int) -> None:
        """What one load counted."""
        self.writes += writes
        self.lost += lost
        self.failed += failed
        self.figures["lost writes"] = f"{self.lost} of {self.writes:,}"
        self.figures["failed SDK operations"] = str(self.failed)

    def lines(self) -> list[str]:
        """The whole report; [] where nothing was measured."""
        figures = self._goals() if self.results or self.figures else []
        return [
            *self._scenarios(),
            *figures,
            *(line for title, rows in self.tables.items() for line in ("", f"{title}:", *rows)),
        ]

    def _scenarios(self) -> list[str]:
        if not self.results:
            return []
        wide = max(len(name) for name in self.results)
        found = [f"{'scenario':<{wide}}  result   seconds"]
        for name, (result, seconds) in self.results.items():
            found.append(f"{name:<{wide}}  {result:<7}  {seconds:7.1f}  {'; '.join(self.notes.get(name, []))}".rstrip())
        total = sum(seconds for _, seconds in self.results.values())
        return [*found, f"{'all':<{wide}}           {total:7.1f}", ""]

    def _goals(self) -> list[str]:
        wide = max(len(name) for name in GOALS)
        return [
            f"{name:<{wide}}  {self.figures.get(name, 'not measured'):<14}  goal {goal}" for name, goal in GOALS.items()
        ]
