"""The operator's host against a real API server, with simulated members: apply, defaults, preconditions, Lease.

The pods are made by the real StatefulSet controller and fit on no node: the test speaks for their kubelet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from lockmaster_operator.desired.names import Settings
from lockmaster_operator.host.kube import Kube, KubeError
from lockmaster_operator.host.lease import Lease
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.host.passes import Passes
from lockmaster_operator.host.telling import Teller

from tests.operator.test_host import FakeMembers

from .bed.cluster import Bed

pytestmark = pytest.mark.e2e
SPACE = "e2e-host"
KEY = (SPACE, "locks")
KINDS = ("StatefulSet", "Service", "ConfigMap", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget")
MINE = "app.kubernetes.io/instance=locks"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def space(no_operator: Bed) -> Iterator[str]:
    no_operator.kubectl("create", "namespace", SPACE)
    spec = {"version": "0.2.0", "storage": {"size": "1Gi"}, "scheduling": {"nodeSelector": {"no": "node"}}}
    where = {"name": "locks", "namespace": SPACE}
    body = {"apiVersion": "lockmaster.dev/v1alpha1", "kind": "LockCluster", "metadata": where, "spec": spec}
    no_operator.kubectl("apply", "-f", "-", text_in=json.dumps(body))
    yield SPACE
    no_operator.kubectl("delete", "namespace", SPACE, "--timeout=100s")


@pytest.fixture
async def kube(bed: Bed, space: str) -> AsyncIterator[Kube]:
    configuration = Configuration()
    await config.load_kube_config(str(bed.places.kubeconfig), client_configuration=configuration)
    client = ApiClient(configuration)
    yield Kube(client)
    await client.close()


async def say_for_the_kubelet(kube: Kube, space: str = SPACE, labels: str = MINE) -> None:
    """Every pod runs and is ready; what others say of it stays, or the scheduler says it again minutes later."""
    for pod in await kube.list("Pod", space, labels):
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        others = [one for one in pod.get("status", {}).get("conditions") or () if one["type"] != "Ready"]
        container = {
            "name": "lockmaster",
            "state": state,
            "ready": True,
            "restartCount": 0,
            "image": "i",
            "imageID": "i",
        }
        status = {
            "phase": "Running",
            "conditions": [*others, {"type": "Ready", "status": "True"}],
            "containerStatuses": [container],
        }
        if not pod.get("status", {}).get("containerStatuses"):
            try:
                await kube.replace({**pod, "status": {**pod.get("status", {}), **status}}, "status")
            except KubeError as error:  # the controllers write, too
                if error.status != 409:
                    raise


async def versions(kube: Kube) -> dict[tuple[str, str], str]:
    found = {}
    for kind in KINDS:
        for one in await kube.list(kind, SPACE, MINE):
            found[kind, one["metadata"]["name"]] = one["metadata"]["resourceVersion"]
    return found


def ready(stored: Json | None) -> bool:
    conditions = (stored or {}).get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def test_a_cluster_becomes_ready_then_nothing_is_written_and_drift_is_put_right(kube: Kube) -> None:
    passes = Passes(kube, FakeMembers(), Settings(), Teller(kube, "test"), Metrics())
    async with asyncio.timeout(120):
        while not ready(await kube.get("LockCluster", *KEY)):
            await passes.make(KEY)
            await say_for_the_kubelet(kube)
            await asyncio.sleep(0.2)
    for _ in range(3):
        await passes.make(KEY)
        await asyncio.sleep(0.5)
    before = await versions(kube)
    stored = await kube.get("LockCluster", *KEY)
    assert stored is not None
    for _ in range(3):
        await passes.make(KEY)
    assert await versions(kube) == before
    after = await kube.get("LockCluster", *KEY)
    assert after is not None
    assert after["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
    budget = {"spec": {"maxUnavailable": 2}}
    await kube.merge("PodDisruptionBudget", SPACE, "locks", budget)
    await passes.make(KEY)
    again = await kube.get("PodDisruptionBudget", SPACE, "locks")
    assert again is not None
    assert again["spec"]["maxUnavailable"] == 1


async def test_preconditions_are_the_api_servers_own(kube: Kube) -> None:
    service = await kube.get("Service", SPACE, "locks-peers")
    assert service is not None
    uid = service["metadata"]["uid"]
    for given in (("another-uid", ""), (uid, "1")):
        with pytest.raises(KubeError) as refused:
            await kube.delete("Service", SPACE, "locks-peers", *given)
        assert refused.value.status == 409
    with pytest.raises(KubeError) as refused:
        await kube.merge("Service", SPACE, "locks-peers", {"metadata": {"uid": "another-uid", "labels": {"a": "b"}}})
    assert refused.value.status in (409, 422)  # another uid in a patch is a conflict, or a change of what is immutable


async def test_one_of_two_operators_holds_the_lease(kube: Kube) -> None:
    first, second = (Lease(kube, SPACE, "op", name) for name in ("first", "second"))
    await first.acquire()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await second.acquire(retry_s=0.5)
    await first.release()
    async with asyncio.timeout(10):
        await second.acquire(retry_s=0.5)
