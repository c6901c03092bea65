"""Figures of the operator alone: 200 LockClusters on the real API server, their members simulated.

Pods are made by the real StatefulSet controller and fit on no node; the test speaks for their kubelet. No other
operator may run on the cluster meanwhile: it would look after them, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from lockmaster_operator.desired.names import Settings
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.host.passes import Passes, PassFailed
from lockmaster_operator.host.telling import Teller

from .bed import host
from .bed.cluster import Bed
from .many_operator import ManyMembers
from .report import Report
from .test_host_api import ready, say_for_the_kubelet

pytestmark = pytest.mark.e2e
SPACE: Final = "e2e-figures"
CLUSTERS: Final = 200
WORKERS: Final = 8
FORM_SECONDS: Final = 900.0
IDLE_SECONDS: Final = 300.0
"""Whole looks come at random, a third of them more or less in 90 s; they are a third of the cost."""


@pytest.fixture
def space(no_operator: Bed) -> Iterator[str]:
    no_operator.kubectl("create", "namespace", SPACE)
    yield SPACE
    no_operator.kubectl("delete", "namespace", SPACE, "--timeout=300s", seconds=310)


def bodies() -> str:
    """All LockClusters, as one list."""
    spec = {"version": "0.2.0", "storage": {"size": "1Gi"}, "scheduling": {"nodeSelector": {"no": "node"}}}
    items = [
        {
            "apiVersion": "lockmaster.dev/v1alpha1",
            "kind": "LockCluster",
            "metadata": {"name": f"locks-{n:03}", "namespace": SPACE},
            "spec": spec,
        }
        for n in range(CLUSTERS)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


async def form(kubeconfig: Path, members: ManyMembers) -> None:
    """Passes over all of them until each is Ready. Raises TimeoutError."""
    configuration = Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    client = ApiClient(configuration)
    kube = Kube(client)
    passes = Passes(kube, members, Settings(logins=True), Teller(kube, "form"), Metrics())
    waiting = asyncio.Queue[str]()

    async def work() -> None:
        while True:
            name = await waiting.get()
            try:
                await passes.make((SPACE, name))
            except PassFailed as error:
                host.say(f"{name}: {error}")
            await say_for_the_kubelet(kube, SPACE, f"app.kubernetes.io/instance={name}")
            if ready(await kube.get("LockCluster", SPACE, name)):
                waiting.task_done()
            else:
                waiting.put_nowait(name)
                waiting.task_done()

    for n in range(CLUSTERS):
        waiting.put_nowait(f"locks-{n:03}")
    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    try:
        async with asyncio.timeout(FORM_SECONDS):
            await waiting.join()
    finally:
        for task in workers:
            task.cancel()
        await client.close()


async def test_23_an_operator_restarted_over_200_clusters(bed: Bed, space: str, report: Report) -> None:
    """Every cluster observed again within a minute, nothing written, memory bounded; then it idles."""
    bed.kubectl("apply", "--server-side", "-f", "-", text_in=bodies(), seconds=120)
    members = ManyMembers()
    await form(bed.places.kubeconfig, members)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "members")
        members.save(file)
        command = (sys.executable, "-m", "tests.e2e.many_operator", space, str(CLUSTERS), str(file), str(IDLE_SECONDS))
        began = time.time()
        environment = {**os.environ, "KUBECONFIG": str(bed.places.kubeconfig)}
        child = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        said, _ = await child.communicate()
    found = json.loads(said)
    idle = 100 * found["idle_processor_s"] / found["idle_s"]
    writes = sum(found["idle_writes"].values())
    report.figure("200 clusters after a restart", f"{found['at'] - began:.1f} s, {found['memory_mib']:.0f} MiB")
    report.figure("idle operator of 200 clusters", f"{idle:.2f} % of a core, {writes} writes")
    print(found)
    assert found["looked"] == CLUSTERS
    assert found["clients_opened"] >= CLUSTERS
    assert found["idle_writes"] == {}
