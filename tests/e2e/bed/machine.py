"""The first process of a machine of the bed: mounts what is the machine's own, starts its programs and restarts them.

It runs as pid 1 of new mount, pid, uts and ipc namespaces, so a SIGKILL of it ends everything on the machine at once,
containers included: that is the bed's power cut. Standard library only, started by its path:

    nsenter --net=... unshare --mount --pid ... python machine.py MACHINE_DIRECTORY

The directory holds `spec.json` (see Spec), `log/`, `hold/NAME` for each program to be kept stopped (send SIGUSR1
after a change), and `programs.json`: what runs, as the last change left it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

BED = Path("/run/bed")
"""Where a machine sees its own directory: no path of the host is in any of its files."""
RESTART_SECONDS = 0.5
LOOK_SECONDS = 10.0
"""How often log sizes are looked at; everything else wakes it by a signal."""
LOG_BYTES_MAX = 64 << 20


class ProgramSpec(TypedDict):
    """One program and its argument list, an absolute path first."""

    name: str
    command: list[str]


class Spec(TypedDict):
    """A machine. `mounts` are argument lists of mount(8), the target last; one of them lays DIRECTORY on BED."""

    hostname: str
    mounts: list[list[str]]
    environment: dict[str, str]
    programs: list[ProgramSpec]


@dataclass(slots=True)
class Running:
    """One supervised program. Invariant: `pid` is 0 exactly while no process of it runs."""

    spec: ProgramSpec
    pid: int = 0
    held: bool = False
    starts: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class Machine:
    """The supervisor's state."""

    directory: Path
    spec: Spec
    running: list[Running] = field(default_factory=list)

    def log_of(self, name: str) -> Path:
        return self.directory / "log" / f"{name}.log"

    def start(self, program: Running) -> None:
        """Starts it in a session of its own, its output appended to its log: that can be cut while it runs."""
        name, command = program.spec["name"], program.spec["command"]
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log_of(name)), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        program.pid = os.posix_spawn(
            command[0],
            command,
            self.spec["environment"],
            file_actions=actions,
            setsigmask=(),
            # Python ignores these for itself; an ignored signal would stay so in every program.
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            setsid=True,
        )
        program.starts += 1

    def step(self, now: float) -> float:
        """Brings every program to where it should be. Returns the seconds until the next thing to do."""
        wait = LOOK_SECONDS
        for program in self.running:
            program.held = (self.directory / "hold" / program.spec["name"]).exists()
            if program.held:
                if program.pid:
                    os.kill(program.pid, signal.SIGKILL)
            elif not program.pid:
                if now >= program.not_before:
                    self.start(program)
                else:
                    wait = min(wait, program.not_before - now)
        return wait

    def reap(self, now: float) -> None:
        """Collects every ended child, orphans of the machine too: it is their pid 1."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for program in self.running:
                if program.pid == pid:
                    program.pid = 0
                    program.not_before = now + RESTART_SECONDS

    def publish(self) -> None:
        """Writes programs.json in one step: a reader sees the old or the new one."""
        state = {p.spec["name"]: {"running": p.pid != 0, "held": p.held, "starts": p.starts} for p in self.running}
        draft = self.directory / "programs.json.new"
        draft.write_text(json.dumps(state))
        draft.replace(self.directory / "programs.json")

    def cut_logs(self) -> None:
        """A log that has grown past the bound becomes NAME.log.1, and starts anew."""
        for program in self.running:
            log = self.log_of(program.spec["name"])
            if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
                log.with_suffix(".log.1").write_bytes(log.read_bytes())
                os.truncate(log, 0)

    def supervise(self) -> None:
        """Runs for as long as the machine does."""
        # sigtimedwait takes blocked signals only; a plain handler would lose one that comes between look and wait.
        signals = {signal.SIGCHLD, signal.SIGUSR1}
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self.running = [Running(spec) for spec in self.spec["programs"]]
        while True:
            now = time.monotonic()
            self.reap(now)
            wait = self.step(now)
            self.publish()
            if signal.sigtimedwait(signals, wait) is None:
                self.cut_logs()


def prepare(spec: Spec) -> None:
    """The machine's own mounts, which end with it, and its name."""
    for mount in spec["mounts"]:
        target = Path(mount[-1])
        if not target.is_file():
            target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", *mount], check=True)
    subprocess.run(["hostname", spec["hostname"]], check=True)


def main(directory: Path) -> None:
    spec: Spec = json.loads((directory / "spec.json").read_text())
    prepare(spec)
    # The directory's own path may lie below one of the mounts now.
    Machine(BED, spec).supervise()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
