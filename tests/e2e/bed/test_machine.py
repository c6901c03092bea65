"""The supervisor of a machine, as an ordinary process: restarts, holds, releases, reaps, bounds its logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import host, machine

SECONDS = 20.0
SUPERVISE = (
    "import json, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import machine;"
    "machine.RESTART_SECONDS = 0.01; machine.LOOK_SECONDS = 0.05; machine.LOG_BYTES_MAX = 1000;"
    "d = Path(sys.argv[2]); machine.Machine(d, json.loads((d / 'spec.json').read_text())).supervise()"
)


class Supervised:
    """One supervisor over one shell program."""

    def __init__(self, directory: Path, script: str) -> None:
        self.directory = directory
        for name in ("log", "hold"):
            (directory / name).mkdir()
        spec: machine.Spec = {
            "hostname": "",
            "mounts": [],
            "environment": {"PATH": "/bin:/usr/bin"},
            "programs": [{"name": "p", "command": ["/bin/sh", "-c", script]}],
        }
        (directory / "spec.json").write_text(json.dumps(spec))
        folder = str(Path(machine.__file__).parent)
        self.process = subprocess.Popen([sys.executable, "-c", SUPERVISE, folder, str(directory)])

    def state(self) -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((self.directory / "programs.json").read_text())["p"]
        except FileNotFoundError:
            return {"running": False, "held": False, "starts": 0}
        return found

    def hold(self, held: bool) -> None:
        note = self.directory / "hold" / "p"
        if held:
            note.touch()
        else:
            note.unlink()
        self.process.send_signal(signal.SIGUSR1)

    def log(self) -> str:
        path = self.directory / "log" / "p.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def supervised(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Supervised]:
    one = Supervised(tmp_path, request.param)
    yield one
    one.hold(held=True)
    host.wait_until("the end", SECONDS, lambda: bool(one.state()["held"]) and not one.state()["running"], 0.01)
    one.process.kill()
    one.process.wait()


FOREVER = "echo pid $$; exec sleep 600"


@pytest.mark.parametrize("supervised", [FOREVER], indirect=True)
def test_a_killed_program_is_started_again(supervised: Supervised) -> None:
    host.wait_until("the first start", SECONDS, lambda: "pid" in supervised.log(), 0.01)
    os.kill(int(supervised.log().split()[1]), signal.SIGKILL)
    host.wait_until("the second start", SECONDS, lambda: supervised.state()["starts"] == 2, 0.01)


@pytest.mark.parametrize("supervised", [FOREVER], indirect=True)
def test_a_held_program_is_killed_and_stays_down_until_released(supervised: Supervised) -> None:
    host.wait_until("the first start", SECONDS, lambda: "pid" in supervised.log(), 0.01)
    pid = int(supervised.log().split()[1])
    supervised.hold(held=True)
    stopped = {"running": False, "held": True, "starts": 1}
    host.wait_until("the stop", SECONDS, lambda: supervised.state() == stopped, 0.01)
    assert not Path("/proc", str(pid)).exists(), "reaped, not left as a zombie"
    supervised.hold(held=False)
    again = {"running": True, "held": False, "starts": 2}
    host.wait_until("the start", SECONDS, lambda: supervised.state() == again, 0.01)


@pytest.mark.parametrize("supervised", ["yes x | head -c 3000; exec sleep 600"], indirect=True)
def test_a_log_is_cut_at_its_bound_with_the_last_part_kept_beside(supervised: Supervised) -> None:
    old = supervised.directory / "log" / "p.log.1"
    host.wait_until("the cut", SECONDS, old.exists, 0.01)
    host.wait_until("an empty log", SECONDS, lambda: supervised.log() == "", 0.01)
    assert old.stat().st_size == 3000
