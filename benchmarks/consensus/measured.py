"""Clusters of benchmarks/consensus/member.py, a steady load beside them, and what both wrote down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
from lockmaster import TLS, AsyncClient
from lockmaster.api import admin_pb2, admin_pb2_grpc
from lockmaster.cli.bench.samples import quantile
from lockmaster.cli.local_cluster import ClusterFailed, LocalCluster, Member
from lockmaster.cli.ports import free_ports
from lockmaster.errors import LockmasterError

from benchmarks.consensus.member import RAFT, SAMPLES
from benchmarks.consensus.part import Setting

WRITERS = 24
COUNTERS_LATE_SECONDS = 1.5
"""The Prometheus page shows the counters of the last second."""
CALL_SECONDS = 30.0
STOP_SECONDS = 30.0


class MeasuredCluster(LocalCluster):
    """A LocalCluster whose members tell what they cost."""

    def prepare(self, member: Member, raft: dict[str, int]) -> Member:
        """Gives a member that has not been started its page and its file of samples."""
        member.arguments += ("--metrics-listen", f"127.0.0.1:{free_ports(1)[0]}")
        member.environment = {SAMPLES: str(samples_of(member)), RAFT: json.dumps(raft)}
        return member

    def counter(self, member: Member, kind: str) -> int:
        """What this member has counted of that kind; 0 if it never happened."""
        page_at = member.arguments[member.arguments.index("--metrics-listen") + 1]
        with urllib.request.urlopen(f"http://{page_at}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        hit = re.search(rf'^lockmaster_events\S*{{[^}}]*kind="{kind}"[^}}]*}} (\S+)$', page, re.MULTILINE)
        return int(float(hit[1])) if hit is not None else 0

    def id_of(self, member: Member) -> int:
        """Its member id. Raises ClusterFailed if it does not answer."""
        status = self.status(member, CALL_SECONDS)
        if status is None:
            raise ClusterFailed(f"{member.name} does not answer")
        return int(status.member_id)

    @contextlib.contextmanager
    def admin(self, member: Member) -> Iterator[admin_pb2_grpc.AdminStub]:
        """Its admin calls."""
        with self._channel(member) as channel:
            yield admin_pb2_grpc.AdminStub(channel)

    def the_leader(self) -> Member:
        """The leader, waited for: on a busy machine an election may be going on. Raises ClusterFailed."""
        deadline = time.monotonic() + CALL_SECONDS
        while time.monotonic() < deadline:
            leader = self.leader()
            if leader is not None:
                return leader
            time.sleep(0.1)
        raise ClusterFailed(f"no leader for {CALL_SECONDS:.0f} s")

    def lead_by(self, member: Member) -> None:
        """Moves the leadership to this member, if it isn't there. Raises ClusterFailed."""
        wanted = self.id_of(member)
        deadline = time.monotonic() + CALL_SECONDS
        while time.monotonic() < deadline:
            leader = self.the_leader()
            if leader is member:
                return
            with self.admin(leader) as calls, contextlib.suppress(grpc.RpcError):
                calls.TransferLeadership(admin_pb2.TransferLeadershipRequest(target=wanted), timeout=CALL_SECONDS)
                continue
            time.sleep(0.2)
        raise ClusterFailed(f"{member.name} does not lead after {CALL_SECONDS:.0f} s")

    def remove(self, member: Member) -> None:
        """Removes a member for good, process and place."""
        with self.admin(self.the_leader()) as calls:
            calls.RemoveMember(admin_pb2.RemoveMemberRequest(member_id=self.id_of(member)), timeout=CALL_SECONDS)
        if member.running:
            self.kill(member)
        self.members.remove(member)
        shutil.rmtree(member.directory)
        samples_of(member).unlink()  # the next one gets this place

    def tip(self) -> int:
        """The commit index as the leader knows it."""
        status = self.status(self.the_leader(), CALL_SECONDS)
        if status is None:
            raise ClusterFailed("the leader does not answer")
        return int(status.commit_index)


@contextlib.contextmanager
def cluster(
    setting: Setting, roles: tuple[str, ...], raft: dict[str, dict[str, int]], arguments: tuple[str, ...] = ()
) -> Iterator[MeasuredCluster]:
    """A new cluster of these roles; `raft` has the core's settings by name of the member, "" for all others."""
    arguments = ("--promote-after-s", "3600", *arguments)
    module = "benchmarks.consensus.member"
    with tempfile.TemporaryDirectory(dir=setting.scratch) as directory:
        made = MeasuredCluster(Path(directory), roles=roles, tls=setting.tls, arguments=arguments, module=module)
        with made:
            for member in made.members:
                made.prepare(member, raft.get(member.name, raft.get("", {})))
            made.start(timeout=60)
            yield made


def samples_of(member: Member) -> Path:
    """Where it writes them."""
    return member.directory.with_suffix(".samples")


def samples(member: Member, start: float, until: float) -> list[dict[str, float]]:
    """What it measured in that time, and its children's memory; a line that a kill cut off is left out."""
    found = []
    for line in samples_of(member).read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            sample = json.loads(line)
            if start <= sample["at"] <= until:
                found.append(sample)
    if not found:
        raise ClusterFailed(f"{member.name} measured nothing in {until - start:.1f} s ({member.last_words()})")
    return found


@dataclass(frozen=True, slots=True)
class Cost:
    """What a member cost over a time."""

    cpu_seconds: float
    rss_peak: float
    rss_first: float
    """When the time began."""
    anonymous_peak: float
    """Of that what is no page of a file."""
    children_rss_peak: float
    traffic: float
    """Bytes sent and received."""
    written: float
    """Bytes written to the disk by its own process."""
    stall: float
    """Seconds: the longest time that its event loop was late, its waits for a processor left out."""

    @property
    def risen(self) -> float:
        """How far the memory rose above where it was."""
        return self.rss_peak - self.rss_first


def cost(member: Member, start: float, until: float) -> Cost:
    """Of a member that was not started anew in that time."""
    seen = samples(member, start, until)
    first, last = seen[0], seen[-1]
    return Cost(
        last["cpu"] - first["cpu"],
        max(sample["rss"] for sample in seen),
        first["rss"],
        max(sample["anonymous"] for sample in seen),
        max(sample["children_rss"] for sample in seen),
        last["sent"] + last["received"] - first["sent"] - first["received"],
        last["written"] - first["written"],
        max(sample["late"] for sample in seen[1:] or seen),
    )


def disk_bytes(member: Member) -> int:
    """Bytes that its data directory takes on the disk."""
    total = 0
    for where, _, names in os.walk(member.directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(where) / name).stat().st_blocks * 512
    return total


class Load:
    """Steady writes from a process of their own; a context manager. Its record is there once it has ended."""

    def __init__(self, target: MeasuredCluster, setting: Setting, *, clients: int = 16, pause_ms: float = 0.0) -> None:
        self._record = target.members[0].directory.with_name("load.json")
        self._command = [sys.executable, "-m", "benchmarks.consensus.load", target.endpoints, str(self._record)]
        self._command += ["--clients", str(clients), "--pause-ms", str(pause_ms)]
        if setting.tls is not None:
            self._command += ["--ca", str(setting.tls.ca)]
        self.done: list[tuple[float, float]] = []
        self.errors: list[str] = []

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        return self

    def __exit__(self, kind: Any, error: Any, at: Any) -> None:
        try:
            self._process.communicate(timeout=STOP_SECONDS)
            if self._process.returncode == 0:
                answer = json.loads(self._record.read_text())
                self.done = [(ended, took) for ended, took in answer["done"]]
                self.errors = answer["errors"]
            elif error is None:
                raise ClusterFailed(f"the load ended with {self._process.returncode}")
        finally:
            self._process.kill()
            self._process.wait()

    def latency(self, start: float, until: float, q: float) -> float:
        """The q-quantile in seconds of the writes that ended in that time."""
        return quantile(sorted(took for ended, took in self.done if start <= ended <= until), q)

    def gap(self, start: float, until: float) -> float:
        """The longest time in seconds without a success between these two moments."""
        ends = [start, *sorted(ended for ended, _ in self.done if start < ended < until), until]
        return max(after - before for before, after in pairwise(ends))


def fill(target: MeasuredCluster, setting: Setting, size: int, keys: int, value_bytes: int, seconds: float) -> int:
    """Writes `size` bytes of values, `keys` keys in turn, or as many as go in that time; returns the bytes."""

    async def write_all() -> int:
        tls = TLS(setting.tls.ca, None, None) if setting.tls is not None else None
        deadline = time.monotonic() + seconds
        written = 0
        numbers = iter(range(-(-size // value_bytes)))
        async with AsyncClient(tuple(target.endpoints.split(",")), tls=tls, insecure=tls is None) as client:
            config = client.config("bench-fill")

            async def work() -> None:
                nonlocal written
                for number in numbers:
                    if time.monotonic() > deadline:
                        return
                    value = number.to_bytes(8, "big") + os.urandom(value_bytes - 8)
                    while time.monotonic() < deadline:
                        with contextlib.suppress(LockmasterError):  # on a busy machine a leader may be lost
                            await config.put(f"k{number % keys:06}", value)
                            written += value_bytes
                            break

            async with asyncio.TaskGroup() as group:
                for _ in range(WRITERS):
                    group.create_task(work())
        return written

    return asyncio.run(write_all())
