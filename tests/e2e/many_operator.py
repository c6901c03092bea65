"""One operator process over many LockClusters of a real API server, its members simulated; what it cost, as JSON.

Login by ServiceAccount token is on, as in the chart: the operator asks each LockCluster for its pod-bound sessions. For
that there is one real member, the same for all, over TLS.

A program of test_figures.py, so that memory and processor time are those of an operator alone:
`python -m tests.e2e.many_operator NAMESPACE CLUSTERS MEMBERS_FILE IDLE_SECONDS`, with the API server of KUBECONFIG.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from lockmaster import TLS, AsyncClient
from lockmaster.cli.local_cluster import LocalCluster, TlsFiles
from lockmaster_operator.host.app import Operator, connect
from lockmaster_operator.host.engine import Answers
from lockmaster_operator.host.issuing import Pems
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.passes import Passes
from lockmaster_operator.host.queue import Key
from lockmaster_operator.host.settings import HostSettings
from lockmaster_operator.plan import steps

from benchmarks import certificates
from tests.operator.test_host import FakeMembers

SETTLE_SECONDS = 45.0
"""From the first pass over the last cluster to the beginning of what counts as idle: a requeue and a half."""


class ManyMembers:
    """FakeMembers of each cluster, by its uid."""

    def __init__(self) -> None:
        self.clusters: dict[str, FakeMembers] = {}

    def _of(self, uid: str) -> FakeMembers:
        return self.clusters.setdefault(uid, FakeMembers())

    async def look(self, uid: str, addresses: Mapping[int, str], tls: Pems) -> Answers:
        """As FakeMembers."""
        return await self._of(uid).look(uid, addresses, tls)

    async def perform(
        self, uid: str, addresses: Mapping[int, str], tls: Pems, step: steps.EngineStep, key: str
    ) -> None:
        """As FakeMembers."""
        await self._of(uid).perform(uid, addresses, tls, step, key)

    async def forget(self, uid: str) -> None:
        """As FakeMembers."""
        self.clusters.pop(uid, None)

    def save(self, path: Path) -> None:
        """For another process."""
        path.write_bytes(pickle.dumps({uid: one.engine for uid, one in self.clusters.items()}))

    def load(self, path: Path) -> None:
        """What another process has saved."""
        for uid, engine in pickle.loads(path.read_bytes()).items():
            self._of(uid).engine = engine


class OneMember:
    """Reaches a real member, whatever the LockCluster's name."""

    def __init__(self, cluster: LocalCluster, tls: TlsFiles) -> None:
        self._cluster = cluster
        self._tls = tls
        self.opened = 0

    @contextlib.asynccontextmanager
    async def open(self, namespace: str, name: str) -> AsyncIterator[AsyncClient]:
        """As reaching.Reach."""
        self.opened += 1
        async with AsyncClient(self._cluster.endpoints, tls=TLS(self._tls.ca)) as client:
            yield client


class CountingKube(Kube):
    """Counts requests by method, and writes by path."""

    requests: Counter[str]
    writes: Counter[str]

    async def call(self, method: str, path: str, *rest: Any, **named: Any) -> dict[str, Any]:
        """As Kube."""
        self.requests[method] += 1
        if method != "GET":
            self.writes[f"{method} {path}"] += 1
        return await super().call(method, path, *rest, **named)


async def measure(namespace: str, clusters: int, members: Path, idle_s: float, reach: OneMember) -> dict[str, Any]:
    """Until all have been looked at, and then over some idle seconds."""
    engine = ManyMembers()
    engine.load(members)
    client = await connect()
    kube = CountingKube(client)
    kube.requests, kube.writes = Counter(), Counter()
    settings = HostSettings(
        namespace=namespace, namespaces=(namespace,), lease="many", listen="127.0.0.1:0", login_binding="many"
    )
    operator = Operator(settings, kube, engine)
    operator.sessions.reach = reach
    looked: set[Key] = set()
    all_looked, make = asyncio.Event(), Passes.make

    async def counted(passes: Passes, key: Key) -> float | None:
        again = await make(passes, key)
        looked.add(key)
        if len(looked) >= clusters:
            all_looked.set()
        return again

    Passes.make = counted  # type: ignore[method-assign,assignment]  # this process is for nothing else
    stop = asyncio.Event()
    running = asyncio.create_task(operator.run(stop))
    await asyncio.wait({running, asyncio.create_task(all_looked.wait())}, return_when=asyncio.FIRST_COMPLETED)
    found: dict[str, Any] = {"looked": len(looked), "at": time.time(), "requests": kube.requests.total()}
    await asyncio.sleep(SETTLE_SECONDS)
    kube.requests.clear()
    kube.writes.clear()
    processor, began = time.process_time(), time.monotonic()
    await asyncio.sleep(idle_s)
    found["idle_s"] = time.monotonic() - began
    found["idle_processor_s"] = time.process_time() - processor
    found["idle_requests"] = kube.requests.total()
    found["clients_opened"] = reach.opened
    found["idle_writes"] = {path: n for path, n in kube.writes.items() if "/leases" not in path}
    stop.set()
    await running
    await client.close()
    found["memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


if __name__ == "__main__":
    logging.basicConfig(level="WARNING")
    space, count, file, seconds = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        tls = certificates.make(Path(folder))
        with LocalCluster(Path(folder), size=1, tls=tls) as cluster:
            cluster.start()
            result = asyncio.run(measure(space, int(count), Path(file), float(seconds), OneMember(cluster, tls)))
    print(json.dumps(result))
