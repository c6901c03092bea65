"""One member as `lockmaster serve`, that also writes down what it costs: run by LocalCluster in tethered.py's place.

Four times a second one JSON line goes to the file that BENCH_SAMPLES names: memory of this process and of its children,
processor time, bytes through TCP sockets and to disks, and the longest time that the event loop was late since the last
line (its waits for a processor left out).
BENCH_GIVES_WAY: it runs only where nobody else wants the processor (SCHED_IDLE).
BENCH_RAFT has settings of the consensus core as JSON that `serve` has no flags for, for both sides of a comparison.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import struct
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from lockmaster.cli.serving import run_server, server_options
from lockmaster.cli.tethered import tether
from lockmaster.server.settings import Settings
from lockmaster_raft.config import RaftConfig

SAMPLES, RAFT, GIVES_WAY = "BENCH_SAMPLES", "BENCH_RAFT", "BENCH_GIVES_WAY"
SAMPLE_SECONDS = 0.25
TURN_SECONDS = 0.01
"""How often the loop is asked to show that it turns."""
TCP_INFO_BYTES = struct.Struct("QQ")
TCP_INFO_AT = 120
"""tcpi_bytes_acked and tcpi_bytes_received in Linux's struct tcp_info."""
PAGE = resource.getpagesize()


class Probe:
    """Measures this process; its file is the only way out, for a member may be killed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._late = 0.0
        self._due = 0.0
        self._waited = 0.0
        """Seconds that the loop's thread could have run and had no processor: on a busy machine no stall of its own."""
        self._sockets: dict[str, tuple[int, int]] = {}

    def start(self) -> None:
        """In the event loop, once it serves."""
        loop = asyncio.get_running_loop()
        statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

        def turn() -> None:
            now = time.monotonic()
            waited = int(os.pread(statistics, 128, 0).split()[1]) / 1e9
            self._late = max(self._late, now - self._due - (waited - self._waited))
            self._due, self._waited = now + TURN_SECONDS, waited
            loop.call_later(TURN_SECONDS, turn)

        self._due = time.monotonic()
        turn()
        self._late = 0.0
        threading.Thread(target=self._write, name="probe", daemon=True).start()

    def _write(self) -> None:
        while True:
            self._file.write(json.dumps(self._sample()) + "\n")
            time.sleep(SAMPLE_SECONDS)

    def _sample(self) -> dict[str, float]:
        late, self._late = self._late, 0.0
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                self._count(int(number))
        sent, received = (sum(pair[way] for pair in self._sockets.values()) for way in (0, 1))
        children = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
        spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return {
            "at": time.monotonic(),
            "rss": resident("self"),
            "anonymous": anonymous(),
            "children_rss": sum(resident(pid) for pid in children),
            "cpu": sum(used.ru_utime + used.ru_stime for used in spent),
            "sent": sent,
            "received": received,
            "written": written(),
            "late": late,
        }

    def _count(self, number: int) -> None:
        """Bytes of a socket; what a closed one had carried stays counted."""
        name = os.readlink(f"/proc/self/fd/{number}")
        if not name.startswith("socket:"):
            return
        with socket.socket(fileno=os.dup(number)) as copy:
            info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_AT + TCP_INFO_BYTES.size)
        if len(info) == TCP_INFO_AT + TCP_INFO_BYTES.size:
            self._sockets[name] = TCP_INFO_BYTES.unpack_from(info, TCP_INFO_AT)


def resident(process: int | str) -> int:
    """Bytes of memory a process has now; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def anonymous() -> int:
    """Bytes of this process's memory that are no pages of files: what the kernel can't take back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def written() -> int:
    """Bytes that this process had written to disks."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


@click.command()
@server_options
def serve(**values: Any) -> int:
    """As `lockmaster serve`."""
    return run_server(values, Probe(Path(os.environ.pop(SAMPLES))).start)


def change_settings(changes: dict[str, int]) -> None:
    """These fields of RaftConfig, whatever the profile."""
    from_flags = Settings.raft_config

    def raft_config(settings: Settings) -> RaftConfig:
        return replace(from_flags(settings), **changes)  # type: ignore[arg-type]

    Settings.raft_config = raft_config  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    tether()
    if os.environ.pop(GIVES_WAY, ""):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # threads that it starts inherit it
    change_settings(json.loads(os.environ.pop(RAFT, "{}")))
    sys.exit(serve(sys.argv[2:], standalone_mode=False))
