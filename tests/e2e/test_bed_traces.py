"""What a bed leaves on the host: nothing. A second, small bed beside the first is brought up, interrupted, removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bed import cgroups, cluster, host, machines
from .bed.cluster import Bed

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "LOCKMASTER_BED_NAME": "lmtrace",
    "LOCKMASTER_BED_NODES": "1",
    "LOCKMASTER_BED_NETWORK": "10.91.0",
    "LOCKMASTER_BED_PODS": "10.246",
    "LOCKMASTER_BED_SERVICES": "10.97",
}
FOLDERS = ("/run", "/run/netns", "/var/lib", "/var/log", "/opt", "/etc", "/etc/cni", "/sys/class/net")
"""Where the programs of a node would leave something."""
QUESTIONS = ("ip -4 route", "nft list ruleset", "iptables-save", "sysctl net.ipv4.ip_forward")


def host_state() -> set[str]:
    """Everything of the host that programs of a cluster change if let, a line each."""
    found = {f"{folder}/{name}" for folder in FOLDERS if Path(folder).exists() for name in os.listdir(folder)}
    found |= {f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines()}
    found |= {f"kernel {name} {value}" for name, value in cluster.kernel_values().items()}
    for hierarchy in cgroups.hierarchies():
        found |= {f"cgroup {path}" for path in hierarchy.mount.iterdir() if path.is_dir()}
    for question in QUESTIONS:
        command = question.split()
        if shutil.which(command[0]):
            found |= {f"{question}: {line}" for line in told(command)}
    return found


def told(command: list[str]) -> list[str]:
    """A command's lines without comments, which hold times and counts."""
    return [line for line in host.run(command).splitlines() if not line.startswith("#")]


@pytest.fixture
def second(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """Another bed on this machine, not up; the first one shows by itself that the two don't meet."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    other = Bed.of()
    other.down()
    yield other
    other.down()
    bed.wait_ready()


def added_since(before: set[str]) -> list[str]:
    return sorted(host_state() - before)


def test_a_bed_that_was_up_leaves_no_trace(second: Bed) -> None:
    before = host_state()
    second.up()
    assert any(second.layout.host_link in line for line in added_since(before))
    assert len(second.traces()) >= 4
    second.down()
    assert second.traces() == []
    assert added_since(before) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["network and control plane", "images on nodes", "API server ready"])
def test_make_cluster_interrupted_removes_what_it_made(second: Bed, number: signal.Signals, moment: str) -> None:
    before = host_state()
    # Whoever is started with & inherits that SIGINT is ignored.
    command = ("env", "--default-signal=INT", sys.executable, "-m", "tests.e2e.bed", "up")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                time.sleep(0.3)
                process.send_signal(number)
                break
        said = process.stdout.read()
    assert process.returncode == host.EXIT_INTERRUPTED
    assert "interrupted: removing what is there" in said
    assert second.traces() == []
    assert added_since(before) == []


def test_a_bed_whose_machines_died_is_removed_too(second: Bed) -> None:
    before = host_state()
    second.up()
    assert machines.kill_processes(second.layout, "cp")
    host.wait_until("the end of the control plane", 10, lambda: not second.is_up())
    second.down()
    assert added_since(before) == []
