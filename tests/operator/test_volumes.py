"""Volumes that grow, by the spec and by themselves, in the simulated world; and a class that refuses, over HTTP."""

from __future__ import annotations

import pytest
from lockmaster_operator.desired.names import ROLE_LABEL
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.passes import PassFailed

from .fake_api import FakeApi, Fault
from .test_host import KEY, api, kube
from .test_host import World as HostWorld
from .world import World, settled

__all__ = ["api", "kube"]  # fixtures
GIB = 1 << 30


def test_volumes_grow_and_the_stateful_set_is_made_anew_around_its_pods() -> None:
    found = settled()
    pods = {n: pod.uid for n, pod in found.pods.items()}
    found.change(storage={"size": "20Gi"})
    found.settle()
    assert {volume.size for volume in found.volumes.values()} == {"20Gi"}
    claim = found.objects[("StatefulSet", "locks")]["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert {n: pod.uid for n, pod in found.pods.items()} == pods


def test_volumes_grow_by_themselves_as_one_fills_up_and_no_further_than_allowed() -> None:
    found = settled()
    assert found.status.volume_size == "10Gi"
    found.change(storage={"size": "10Gi"})
    found.volumes[2].used = 9 * GIB
    found.run(60)
    assert asked_sizes(found) == {"10Gi"}  # nobody allowed it
    pods = {n: pod.uid for n, pod in found.pods.items()}
    for used, expected in ((7 * GIB, "10Gi"), (9 * GIB, "15Gi"), (13 * GIB, "20Gi"), (19 * GIB, "20Gi")):
        found.change(storage={"size": "10Gi", "autoGrow": {"max": "20Gi"}})
        found.volumes[2].used = used
        found.settle()
        found.run(60)
        assert asked_sizes(found) == {expected}
        assert found.status.volume_size == expected
    claim = found.objects[("StatefulSet", "locks")]["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert {n: pod.uid for n, pod in found.pods.items()} == pods


def test_an_expansion_that_does_not_come_is_waited_for_and_asked_for_once() -> None:
    found = settled()
    for volume in found.volumes.values():
        volume.grows = False
    found.change(storage={"size": "10Gi", "autoGrow": {"max": "90Gi"}})
    found.volumes[1].used = 10 * GIB - 1
    found.run(120)
    assert asked_sizes(found) == {"15Gi"}
    found.volumes[1].capacity = "15Gi"
    found.volumes[1].used, found.volumes[1].nearly_full = 0, True  # by the alarm alone
    found.run(10)
    assert asked_sizes(found) == {"23040Mi"}


def asked_sizes(found: World) -> set[str]:
    return {volume.size for volume in found.volumes.values()}


async def test_a_class_that_lets_no_volume_grow_stands_in_the_way_of_nothing_else(api: FakeApi, kube: Kube) -> None:
    """Told once, in its words; what comes after it is done."""
    found = HostWorld(api, kube)
    await found.run()
    for n in range(3):
        spec = {"volumeName": f"v{n}", "resources": {"requests": {"storage": "1Gi"}}}
        labels = api.objects["Pod", "ns", "locks-0"]["metadata"]["labels"]
        metadata = {"name": f"data-locks-{n}", "namespace": "ns", "labels": labels}
        api.put({"kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    locks = api.objects["LockCluster", "ns", "locks"]
    api.put({**locks, "spec": {**locks["spec"], "storage": {"size": "2Gi"}}})
    words = "only dynamically provisioned pvc can be resized"
    api.faults.append(Fault("PATCH", "PersistentVolumeClaim", 403, message=words, count=9))
    del api.objects["Pod", "ns", "locks-0"]["metadata"]["labels"][ROLE_LABEL]
    for _ in range(3):
        with pytest.raises(PassFailed, match=words):
            await found.passes.make(KEY)
    assert api.objects["Pod", "ns", "locks-0"]["metadata"]["labels"][ROLE_LABEL] == "full"
    told = [one for (kind, _, _), one in api.objects.items() if kind == "Event" and one["reason"] == "ApiServerRefused"]
    assert len(told) == 1
