"""What `helm test` runs, against an API server over HTTP: it leaves nothing behind, and nothing of others alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from lockmaster import Unavailable
from lockmaster_operator.host.kube import Kube, KubeError
from lockmaster_operator.trying import NotWorking, throw_away, try_out

from .fake_api import FakeApi

KEY = ("LockCluster", "ns", "try")


class Granting:
    """Members that grant, or don't."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    @contextlib.asynccontextmanager
    async def open(self, namespace: str, name: str) -> AsyncIterator[Any]:
        yield self

    @contextlib.asynccontextmanager
    async def lock(self, name: str, *, timeout: float) -> AsyncIterator[Any]:
        if self.error is not None:
            raise self.error
        yield SimpleNamespace(fencing_token=7)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    found = FakeApi()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def kube(api: FakeApi) -> AsyncIterator[Kube]:
    configuration = Configuration()
    configuration.host = api.url
    async with ApiClient(configuration) as client:
        yield Kube(client)


def makes_ready(api: FakeApi) -> None:
    def become(method: str, kind: str, name: str) -> None:
        if method == "GET" and KEY in api.objects:
            api.objects[KEY]["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}

    api.before = become


async def test_a_lock_is_taken_and_nothing_is_left(api: FakeApi, kube: Kube) -> None:
    makes_ready(api)
    assert await try_out(kube, Granting(), throw_away("ns", "try", "1"), 5) == 7
    assert KEY not in api.objects


async def test_a_lock_that_is_not_granted_fails_and_nothing_is_left(api: FakeApi, kube: Kube) -> None:
    makes_ready(api)
    with pytest.raises(NotWorking, match="not granted: gone"):
        await try_out(kube, Granting(Unavailable("gone")), throw_away("ns", "try", "1"), 5)
    assert KEY not in api.objects


async def test_not_ready_in_time_says_what_the_operator_says(api: FakeApi, kube: Kube) -> None:
    with pytest.raises(NotWorking, match="has not seen it"):
        await try_out(kube, Granting(), throw_away("ns", "try", "1"), 0.1)
    assert KEY not in api.objects


async def test_a_cluster_of_the_name_that_somebody_made_is_left_alone(api: FakeApi, kube: Kube) -> None:
    api.put(throw_away("ns", "try", "1"))
    with pytest.raises(KubeError):
        await try_out(kube, Granting(), throw_away("ns", "try", "1"), 5)
    assert KEY in api.objects
