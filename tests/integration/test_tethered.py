"""What LocalCluster starts does not outlive a runner that is itself killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .processes import is_there

ENDED_SECONDS = 20.0

RUNNER = """
import asyncio, json, sys, time
from pathlib import Path
from lockmaster.cli.local_cluster import LocalCluster

cluster = LocalCluster(Path(sys.argv[1]), size=1)
if sys.argv[2] == "thread":
    asyncio.run(asyncio.to_thread(cluster.start, timeout=90))
else:
    cluster.start(timeout=90)
if sys.argv[2] == "paused":
    cluster.pause(cluster.members[0])
print(json.dumps([member.process.pid for member in cluster.members]), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    "started",
    [
        "main",
        "thread",
        pytest.param(
            "paused", marks=pytest.mark.skipif(sys.platform != "linux", reason="a stopped process ends by PDEATHSIG")
        ),
    ],
)
def test_kill_9_of_the_runner_ends_its_members(tmp_path: Path, started: str) -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path), started], stdout=subprocess.PIPE)
    pids: list[int] = []
    try:
        assert runner.stdout is not None
        pids = json.loads(runner.stdout.readline())
        assert all(map(is_there, pids))
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        deadline = time.monotonic() + ENDED_SECONDS
        while any(map(is_there, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [pid for pid in pids if is_there(pid)] == []
    finally:
        runner.kill()
        runner.wait()
        if runner.stdout is not None:
            runner.stdout.close()
        for pid in filter(is_there, pids):
            os.kill(pid, signal.SIGKILL)
