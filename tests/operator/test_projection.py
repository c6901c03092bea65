"""`kubectl get locks` (operator.md §1): bounded, and no write that changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio.client import ApiClient, Configuration
from lockmaster import AsyncClient
from lockmaster.server.app import Server, dev_settings
from lockmaster_operator.desired.names import Cluster
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.projection import Projection
from lockmaster_operator.kinds.projection import STEPS_MAX, Held, Hide, Show, Shown, object_name, plan_locks
from lockmaster_operator.models.lock_cluster import LockClusterSpec

from .fake_api import FakeApi

NOW = 1_800_000_000


def cluster(**projection: object) -> Cluster:
    spec = LockClusterSpec.model_validate({"version": "0.2.0", "lockProjection": {"enabled": True, **projection}})
    return Cluster("locks", "ns", "uid-c", 1, spec)


def held(name: str, held_s: float = 10, token: int = 5, waiters: int = 0) -> Held:
    return Held(name, "worker", 3, token, held_s, waiters, "ns/pod-1")


def shown(*steps: Show | Hide) -> list[Shown]:
    return [Shown(step.body["metadata"]["name"], "u", step.status) for step in steps if isinstance(step, Show)]


def test_a_renewal_writes_nothing_and_a_change_does() -> None:
    there = shown(*plan_locks(cluster(), [held("a")], [], NOW)[0])
    assert there[0].status.pod == "ns/pod-1"
    assert plan_locks(cluster(), [held("a", 71)], there, NOW + 60) == ((), False)
    (waits,) = plan_locks(cluster(), [held("a", 70, waiters=2)], there, NOW + 60)[0]
    assert isinstance(waits, Show)
    assert (waits.status.waiters, waits.status.since) == (2, there[0].status.since)
    (other,) = plan_locks(cluster(), [held("a", 1, token=9)], there, NOW + 60)[0]
    assert isinstance(other, Show)
    assert other.status.since != there[0].status.since


def test_released_and_switched_off_go() -> None:
    there = shown(*plan_locks(cluster(), [held("a"), held("b")], [], NOW)[0])
    assert plan_locks(cluster(), [held("a")], there, NOW) == ((Hide(object_name("locks", "b"), "u"),), False)
    steps, more = plan_locks(cluster(enabled=False), [held("a")], there, NOW)
    assert {type(step) for step in steps} == {Hide}
    assert (len(steps), more) == (2, False)


@given(st.lists(st.integers(0, 10_000), max_size=300), st.integers(1, 50))
def test_never_more_than_max_and_settled_is_settled(ages: list[int], limit: int) -> None:
    locks = [held(f"l{n}", age) for n, age in enumerate(ages)]
    steps, more = plan_locks(cluster(max=limit), locks, [], NOW)
    there = shown(*steps)
    assert not more
    assert len(there) == min(limit, len(ages)) <= STEPS_MAX
    assert plan_locks(cluster(max=limit), locks, there, NOW + 5) == ((), False)


class ThisServer:
    def __init__(self, address: str) -> None:
        self.address, self.asked = address, 0

    @contextlib.asynccontextmanager
    async def open(self, namespace: str, name: str) -> AsyncIterator[AsyncClient]:
        self.asked += 1
        async with AsyncClient(self.address) as client:
            yield client


async def test_a_real_lock_is_shown_at_the_interval_and_goes_when_it_is_switched_off(tmp_path: Path) -> None:
    api, now = FakeApi(), float(NOW)
    await api.start()
    configuration = Configuration(host=api.url)
    client = ApiClient(configuration)
    server = Server(dev_settings(tmp_path / "dev"))
    await server.start()
    reach = ThisServer(server.bound_address)
    passes = Projection(Kube(client), reach, lambda: now)
    spec = {"version": "0.2.0", "lockProjection": {"enabled": True}}
    metadata = {"name": "locks", "namespace": "ns"}
    api.put({"kind": "LockCluster", "metadata": metadata, "spec": spec})
    try:
        async with AsyncClient(reach.address, label="worker") as one, one.lock("orders/42", timeout=5) as lock:
            assert await passes.make(("ns", "locks")) == 30
            (found,) = [body for (kind, _, _), body in api.objects.items() if kind == "Lock"]
            assert found["spec"]["name"] == "orders/42"
            assert found["status"]["token"] == lock.fencing_token
            now += 29  # an event of the LockCluster comes: the members are not asked
            passes.changed(("ns", "locks"))
            assert await passes.make(("ns", "locks")) == 1
            read = len(api.requests)
            assert await passes.make(("ns", "locks")) == 1  # nothing came: nobody is
            assert (reach.asked, len(api.requests)) == (1, read)
            now += 1
            before = len(api.writes())
            await passes.make(("ns", "locks"))
            assert (reach.asked, len(api.writes())) == (2, before)
        off = {**spec, "lockProjection": {"enabled": False}}
        api.put({"kind": "LockCluster", "metadata": {**metadata, "generation": 2}, "spec": off})
        passes.changed(("ns", "locks"))
        await passes.make(("ns", "locks"))
        assert not [kind for (kind, _, _) in api.objects if kind == "Lock"]
        assert reach.asked == 2
    finally:
        await server.stop()
        await client.close()
        await api.stop()
