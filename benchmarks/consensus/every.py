"""All parts, and what runs those that were chosen: each prints its table as soon as it has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.consensus import availability, catch_up, latency, moves, patterns, snapshots, witness
from benchmarks.consensus.part import Figure, Part, Setting, print_part, write_json

MODULES = (catch_up, snapshots, witness, moves, latency, availability, patterns)
PARTS: tuple[Part, ...] = tuple(part for module in MODULES for part in module.PARTS)


def run(parts: Sequence[Part], setting: Setting, facts: dict[str, Any], path: Path) -> None:
    """One part after the other; the file has what was found so far, also when a later part fails."""
    found: list[tuple[Part, list[Figure]]] = []
    for part in parts:
        setting.say(part.title)
        figures = part.run(setting)
        print_part(part, figures)
        found.append((part, figures))
        write_json(found, facts, path)
