"""ConfigSets by their host, against an API server over real HTTP, a real lock server and real gates."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration
from lockmaster import AsyncClient, rollout
from lockmaster.server.app import Server, dev_settings
from lockmaster_operator.desired.certificates import Purpose
from lockmaster_operator.desired.names import Settings
from lockmaster_operator.host.config_sets import ConfigSets
from lockmaster_operator.host.gates import number_in
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.reaching import Members, Unreachable
from lockmaster_operator.host.telling import Teller

from .fake_api import FakeApi, with_data

KEY = ("ns", "tariffs")
NOW = 1_800_000_000
Json = dict[str, Any]


class ThisServer:
    """Reaches one server of this process, whatever the cluster's name; `away`: why it can't."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.away: Unreachable | None = None

    @contextlib.asynccontextmanager
    async def open(self, namespace: str, name: str) -> AsyncIterator[AsyncClient]:
        if self.away is not None:
            raise self.away
        async with AsyncClient(self.address) as client:
            yield client


class Prometheus:
    """Answers every query with one number."""

    def __init__(self) -> None:
        self.number = "0.001"
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        assert request.query["query"] == "rate(errors)"
        result = [{"metric": {}, "value": [0, self.number]}]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


class World:
    def __init__(self, api: FakeApi, kube: Kube, reach: ThisServer) -> None:
        self.api, self.reach, self.now = api, reach, NOW
        self.passes = ConfigSets(kube, reach, Teller(kube, "operator-1"), now=lambda: self.now)

    def apply(self, generation: int = 1, **spec: Any) -> None:
        whole = {"clusterRef": {"name": "locks"}, "namespace": "billing", "data": {"rate": "5"}, **spec}
        old = self.api.objects.get(("ConfigSet", *KEY), {})
        where = {"name": KEY[1], "namespace": KEY[0], "generation": generation, "uid": "uid-1"}
        body = {"apiVersion": "lockmaster.dev/v1alpha1", "kind": "ConfigSet", "metadata": where, "spec": whole}
        self.api.put({**body, **({"status": old["status"]} if "status" in old else {})})

    async def run(self, passes: int = 6) -> None:
        for _ in range(passes):
            await self.passes.make(KEY)

    @property
    def status(self) -> Json:
        found: Json = self.api.objects["ConfigSet", *KEY]["status"]
        return found

    def reason(self) -> str:
        return next(str(one["reason"]) for one in self.status["conditions"] if one["type"] == "Ready")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    one = Server(dev_settings(tmp_path / "dev"))
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.bound_address) as one:
        yield one


@pytest.fixture
async def world(server: Server) -> AsyncIterator[World]:
    api = FakeApi()
    await api.start()
    configuration = Configuration(host=api.url)
    configuration.retries = None
    connected = ApiClient(configuration)
    yield World(api, Kube(connected), ThisServer(server.bound_address))
    await connected.close()
    await api.stop()


@pytest.fixture
async def prometheus() -> AsyncIterator[Prometheus]:
    one = Prometheus()
    app = web.Application()
    app.router.add_get("/api/v1/query", one.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


async def test_keys_and_files_are_written_drift_is_mended_and_then_nothing_is_written(
    world: World, client: AsyncClient
) -> None:
    files = {"kind": "ConfigMap", "metadata": {"name": "files", "namespace": "ns"}, "data": {"app.toml": "a = 1"}}
    world.api.put({"apiVersion": "v1", **files})
    world.apply(files=[{"configMap": {"name": "files"}, "prefix": "conf/"}])
    await world.run()
    config = client.config("billing")
    items = await config.range()
    assert {item.key: item.text for item in items} == {"conf/app.toml": "a = 1", "rate": "5"}
    assert {(item.author, item.comment) for item in items} == {
        ("configset/uid-1", "ConfigSet ns/tariffs, generation 1")
    }
    assert (world.reason(), world.status["keys"]) == ("AsDeclared", 2)
    quiet = len(world.api.writes())
    await world.run()
    assert world.api.writes()[quiet:] == []
    await config.put("rate", "99")
    await world.run()
    mended = await config.get("rate")
    assert mended is not None
    assert mended.text == "5"


async def test_a_canary_is_rolled_back_by_prometheus_and_all_follow_when_it_is_well(
    world: World, client: AsyncClient, prometheus: Prometheus
) -> None:
    query = {"url": prometheus.url, "query": "rate(errors)", "max": "0.01"}
    steps = {"strategy": "Canary", "steps": [{"percent": 50, "bake": "1m"}]}
    canary = {**steps, "gates": [{"name": "errors", "prometheus": query}]}
    world.apply(rollout=canary)
    await world.run()
    world.apply(2, data={"rate": "6"}, rollout=canary)
    await world.run()
    assert world.status["rollout"]["percent"] == 50
    tried = await client.config(rollout.CANARY).get("uid-1/rate")
    assert tried is not None
    assert tried.text == "6"
    prometheus.number = "0.2"
    await world.run()
    assert (world.reason(), world.status["rollout"]["failedGate"]) == ("RolledBack", "errors")
    assert await client.config(rollout.CANARY).range() == []
    prometheus.number = "0.001"
    world.apply(3, data={"rate": "7"}, rollout=canary)
    await world.run()
    world.now += 61
    await world.run()
    now = await client.config("billing").get("rate")
    assert now is not None
    assert (now.text, world.reason()) == ("7", "AsDeclared")


async def test_who_runs_what_is_counted_by_revision_while_their_sessions_live(
    world: World, server: Server, client: AsyncClient
) -> None:
    world.apply()
    await world.run()
    async with AsyncClient(server.bound_address) as one:
        for n, (teller, revision) in enumerate([(client, 7), (one, 7), (one, 9)]):
            await teller.config(rollout.RUNNING).put(f"uid-1/{n}", str(revision), ephemeral=True)
        await world.run()
        assert world.status["running"] == [{"revision": 9, "clients": 1}, {"revision": 7, "clients": 2}]
    await world.run()
    assert world.status["running"] == [{"revision": 7, "clients": 1}]


async def test_a_cluster_that_cannot_be_reached_is_told(world: World) -> None:
    world.apply()
    for there, reason in ((True, "ClusterUnavailable"), (False, "ClusterNotFound")):
        world.reach.away = Unreachable("why", there)
        await world.run(1)
        assert world.reason() == reason


async def test_the_members_of_no_cluster_are_nowhere(world: World) -> None:
    with pytest.raises(Unreachable, match="there is no LockCluster locks in ns") as refused:
        async with Members(world.passes.kube, Settings()).open("ns", "locks"):
            pass
    assert not refused.value.there


async def test_a_certificate_of_no_use_is_a_cluster_that_cannot_be_reached(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    world.api.put(
        {"kind": "LockCluster", "metadata": {"name": "locks", "namespace": "ns"}, "spec": {"version": "0.2.0"}}
    )
    name = f"locks-{Purpose.OPERATOR.value}"
    bad = {"ca.crt": "none", "tls.crt": "none", "tls.key": "none"}
    world.api.put(with_data({"kind": "Secret", "metadata": {"name": name, "namespace": "ns"}, "stringData": bad}))
    with pytest.raises(
        Unreachable, match="LockCluster locks: the operator's certificate is of no use: tls: ca"
    ) as told:
        async with Members(world.passes.kube, Settings()).open("ns", "locks"):
            pass
    assert told.value.there
    assert list(tmp_path.glob("lockmaster-operator-*")) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b'{"status":"success","data":{"resultType":"scalar","result":[0,"3"]}}', 3.0),
        (b'{"status":"success","data":{"resultType":"vector","result":[]}}', None),
        (b'{"status":"error"}', None),
        (b"<html>", None),
        (b"[]", None),
    ],
)
def test_only_one_number_is_an_answer(text: bytes, number: float | None) -> None:
    assert number_in(text) == number
