"""SIGKILL of the operator, the leader and the witness at each arrow of a promotion: 18 runs, a table in the report.

The stages are the witness's own word (Admin.Status, `promotion`), asked from the host without a pause, and the kill is
the host's, of a process found beforehand: between the two there are some milliseconds, so the table says which stage
was seen last. The full member that is away is stopped (SIGSTOP), which nothing in Kubernetes notices for a minute.
"""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster.api import admin_pb2

from .bed import host
from .bed.cluster import Bed
from .product import SYSTEM, Product, is_ready, roles
from .report import Report
from .test_scenarios import SHAPE

pytestmark = pytest.mark.e2e
STAGES = ("fetching", "opening", "replaying", "finishing", "ready", "full")
VICTIMS = ("operator", "leader", "witness")
QUICK = {"promoteAfter": "3s", "coolDown": "1s"}
WAIT_S = 60.0
FAILURES_MAX = 100
"""Most failed operations that the report shows one by one."""


def main_process(pod_uid: str) -> int:
    """The host's number of the first process of a pod's container."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if pod_uid in (path / "cgroup").read_text() and (path / "comm").read_text().strip() != "pause":
                found.append(int(path.name))
    return min(found)


class Witness:
    """Its own word on how far it is."""

    def __init__(self, product: Product, pod: dict[str, Any]) -> None:
        data = {
            key: base64.b64decode(value) for key, value in product.get("secret", "locks-operator-tls")["data"].items()
        }
        credentials = grpc.ssl_channel_credentials(data["ca.crt"], data["tls.key"], data["tls.crt"])
        name = f"{pod['metadata']['name']}.locks-peers.{product.namespace}.svc.cluster.local"
        options = (("grpc.ssl_target_name_override", name),)
        self.channel = grpc.secure_channel(f"{pod['status']['podIP']}:7420", credentials, options)
        self.ask: Any = self.channel.unary_unary(
            "/lockmaster.v1.Admin/Status",
            admin_pb2.StatusRequest.SerializeToString,
            admin_pb2.StatusResponse.FromString,
        )

    def stage(self) -> str:
        """A word of STAGES, or "" before the first."""
        said: admin_pb2.StatusResponse = self.ask(admin_pb2.StatusRequest(), timeout=3.0)
        return "full" if said.member_role == "full" else said.promotion

    def wait(self, stage: str) -> str:
        """The stage seen, once it is this one or a later one. Raises TimeoutError."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            seen = self.stage()
            if seen and STAGES.index(seen) >= STAGES.index(stage):
                return seen
        raise TimeoutError(f"no promotion came to {stage} within {WAIT_S:g} s")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def one_run(bed: Bed, product: Product, victim: str, stage: str) -> tuple[float, str]:
    """When it was killed (seconds since 1970), and what the table says of one run."""
    rows = product.status("locks")["members"]
    leads = next(row["ordinal"] for row in rows if row["leader"])
    away = next(row["ordinal"] for row in rows if row["role"] == "Full" and not row["leader"])
    pods = product.pods()
    operator = bed.get("pods", "-n", SYSTEM)["items"][0]
    victims = {"operator": (SYSTEM, operator), "leader": (product.namespace, pods[f"locks-{leads}"])}
    victims["witness"] = (product.namespace, pods["locks-2"])
    namespace, pod = victims[victim]
    pid = main_process(pod["metadata"]["uid"])
    witness = Witness(product, pods["locks-2"])
    with stopped(main_process(pods[f"locks-{away}"]["metadata"]["uid"])):
        seen = witness.wait(stage)
        os.kill(pid, signal.SIGKILL)
        began, killed = time.monotonic(), time.time()
        witness.channel.close()
        # A new pod begins at once; a container that is killed often is restarted later and later.
        name = pod["metadata"]["name"]
        bed.kubectl("-n", namespace, "delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
        product.wait("locks", "the promotion's end", lambda s: roles(s)[2:] == ["Full/Steady"], WAIT_S)
        promoted = time.monotonic() - began
    product.wait("locks", "the shape", lambda s: roles(s) == SHAPE and is_ready(s), 2 * WAIT_S)
    return killed, f"{victim:<9} {stage:<10} {seen:<10} {promoted:8.1f} {time.monotonic() - began:8.1f}"


def failed(kills: Sequence[tuple[float, str]], failures: Sequence[str]) -> list[str]:
    """Each failed operation, with the run in which it failed and how long after the kill."""
    found = []
    for failure in failures[:FAILURES_MAX]:
        at, _, words = failure.partition(" ")
        before = [(killed, line) for killed, line in kills if killed <= float(at)]
        since, line = before[-1] if before else (float(at), "before them")
        found.append(f"{' '.join(line.split()[:2]):<20} {float(at) - since:6.1f} s after the kill  {words[:160]}")
    return found


def test_29_sigkill_at_every_arrow_of_a_promotion(
    mended: Bed, product: Product, report: Report, capfd: pytest.CaptureFixture[str]
) -> None:
    product.ready(witness=QUICK)
    product.start_load()
    head = "victim    arrow to   seen       promoted  restored (seconds after the kill)"
    kills: list[tuple[float, str]] = []
    try:
        for victim in VICTIMS:
            for stage in STAGES:
                kills.append(one_run(mended, product, victim, stage))
                with capfd.disabled():  # a run of a quarter of an hour: each row as it comes
                    host.say(kills[-1][1])
    finally:
        report.table("SIGKILL in a promotion", [head, *(line for _, line in kills)])
    seen = product.end_load()
    counts = f"{len(seen.puts):,} writes, {len(seen.lost)} lost, {len(seen.failures)} failed"
    report.table("its load", [counts, *failed(kills, seen.failures)])
    assert seen.lost == ()
