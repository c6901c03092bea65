"""The README's Kubernetes quick start as commands, and its recorded output (docs/quick-start/README.md).

A command that watches (`-w`) is a reader's to end by Ctrl-C: it runs until a row of what it prints matches.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from .bed import host

HEADING: Final = "## On Kubernetes"
RECORD: Final = Path("docs", "quick-start", "README.md")
INTRODUCTION: Final = """# The quick start, as recorded
Each command of [the README's quick start](../../README.md#on-kubernetes) with what it printed on the test bed, in a
fresh clone. `E2E_RECORD=1 make e2e-all E2E="-k quick_start"` records it anew.

```console
"""
COMMAND_SECONDS: Final = 400.0
WATCH_SECONDS: Final = 180.0
ROW: Final = r"(?m)^locks\s+{ready}\s+{full}\s+{witness}\s"
PROMOTED: Final = ROW.format(ready=r"\w+", full=2, witness=0)
RESTORED: Final = ROW.format(ready="True", full=2, witness=1)
ENDS: Final = (PROMOTED, RESTORED)
"""What the first and the second watch are ended by."""


def commands_of(readme: str) -> list[str]:
    """The lines of the section's code blocks, in order. Raises ValueError where there is no such section."""
    _, found, rest = readme.partition(f"\n{HEADING}\n")
    if not found:
        raise ValueError(f"the README has no section {HEADING!r}")
    section = re.split(r"(?m)^## ", rest)[0]
    blocks = re.findall(r"(?ms)^```\n(.*?)^```$", section)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def recorded_commands(page: str) -> list[str]:
    """Those of the recorded page."""
    return [line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ ")]


def page_of(steps: Iterable[tuple[str, str]]) -> str:
    """The page of commands and what each printed."""
    shown = "".join(f"$ {command}\n{said.rstrip()}\n" if said.strip() else f"$ {command}\n" for command, said in steps)
    return f"{INTRODUCTION}{shown}```\n"


def watches(command: str) -> bool:
    """Whether it ends only by Ctrl-C."""
    return command.split()[-1] == "-w"


def ran(command: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What one command printed. Raises Failed."""
    return host.run(("bash", "-c", f"cd '{folder}' && {command}"), seconds=COMMAND_SECONDS, env=environment)


def watched(command: str, folder: Path, environment: Mapping[str, str], until: str) -> str:
    """What a watch printed until it matched; then Ctrl-C. Raises Failed with what it printed."""
    said, found = "", False
    with subprocess.Popen(
        command.split(), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        timer = threading.Timer(WATCH_SECONDS, process.kill)
        timer.start()
        try:
            for line in process.stdout or ():
                said += line
                found = re.search(until, said) is not None
                if found:
                    break
        finally:
            timer.cancel()
            process.send_signal(signal.SIGINT)
    if not found:
        raise host.Failed(f"{command}: no row matched {until!r}:\n{said}")
    return said


class Shell:
    """Runs the commands as a reader would, one after the other; exports last."""

    def __init__(self, folder: Path, kubeconfig: Path, programs: Mapping[str, Path], names: Mapping[str, str]) -> None:
        """`programs`: kubectl and helm, by name; `names`: what stands for the README's placeholders."""
        self.folder, self.names = folder, names
        path = [*(str(program.parent) for program in programs.values()), os.environ["PATH"]]
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": ":".join(path)}
        self.ends = iter(ENDS)
        self.steps: list[tuple[str, str]] = []

    def run(self, command: str) -> str:
        """What it printed, which is kept."""
        said = ""
        if command.startswith("export "):
            for pair in command.split()[1:]:
                key, _, value = pair.partition("=")
                self.environment[key] = self.names.get(key, value)
        elif watches(command):
            said = watched(command, self.folder, self.environment, next(self.ends))
        else:
            said = ran(command, self.folder, self.environment)
        self.steps.append((command, said))
        return said
