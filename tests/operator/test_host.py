"""The host against an API server over real HTTP and simulated members: passes, faults, preconditions, the Lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from kubernetes.aio.client import ApiClient, Configuration
from lockmaster import Unavailable
from lockmaster_operator.desired.names import TEMPLATE_LABEL, Settings
from lockmaster_operator.host import lease as leases
from lockmaster_operator.host.execute import Executor, StepRefused
from lockmaster_operator.host.issuing import Pems
from lockmaster_operator.host.kube import Kube, KubeError
from lockmaster_operator.host.lease import Lease
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.host.observe import look
from lockmaster_operator.host.passes import Passes, PassFailed
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.observed import EngineSeen, MemberReport, MemberSeen
from lockmaster_operator.plan import read_cluster, steps

from .fake_api import FakeApi, Fault

NOW = 1_800_000_000
KEY = ("ns", "locks")
Json = dict[str, Any]


class FakeMembers:
    """Blank members in every pod that is asked, who do what they are told."""

    def __init__(self) -> None:
        self.engine: EngineSeen | None = None
        self.performed: list[steps.EngineStep] = []
        self.keys: list[str] = []
        self.forgotten: list[str] = []
        self.fails = False
        self.on_look: Callable[[], object] = lambda: None

    async def look(
        self, uid: str, addresses: Mapping[int, str], tls: Pems
    ) -> tuple[dict[int, MemberReport], EngineSeen | None]:
        self.on_look()
        rows = {row.incarnation: row for row in self.engine.members} if self.engine is not None else {}
        cluster_id = self.engine.cluster_id if self.engine is not None else ""
        reports = {}
        for n in addresses:
            row = rows.get(f"{n:032x}")
            belongs = (cluster_id, row.member_id) if row is not None else ("", 0)
            reports[n] = MemberReport(*belongs, f"{n:032x}", "0.2.0", 2, witness=n == 2)
        return reports, self.engine

    async def perform(
        self, uid: str, addresses: Mapping[int, str], tls: Pems, step: steps.EngineStep, key: str
    ) -> None:
        if self.fails:
            raise Unavailable("no leader")
        self.performed.append(step)
        self.keys.append(key)
        match step:
            case steps.Bootstrap():
                first = self._row(1, 0, addresses[0], leader=True)
                self.engine = EngineSeen(step.cluster_id, 1, 1, (first,), pods_mark=1)
            case steps.AddMember():
                assert self.engine is not None
                assert step.expected_epoch == self.engine.epoch
                row = self._row(len(self.engine.members) + 1, step.ordinal, addresses[step.ordinal])
                self.engine = replace(self.engine, epoch=self.engine.epoch + 1, members=(*self.engine.members, row))

    async def forget(self, uid: str) -> None:
        self.forgotten.append(uid)

    def _row(self, member_id: int, n: int, address: str, leader: bool = False) -> MemberSeen:
        host = address.rpartition(":")[0]
        name = host.partition(".")[0]
        return MemberSeen(member_id, name, f"{host}:7421", True, n == 2, f"{n:032x}", leader=leader, level_max=2)


class World:
    def __init__(self, api: FakeApi, kube: Kube) -> None:
        self.api, self.kube, self.members = api, kube, FakeMembers()
        self.now = NOW
        teller, self.metrics = Teller(kube, "operator-1"), Metrics()
        self.passes = Passes(kube, self.members, Settings(), teller, self.metrics, now=lambda: self.now)
        spec = {"version": "0.2.0", "storage": {"size": "1Gi"}}
        where = {"name": "locks", "namespace": "ns"}
        api.put({"apiVersion": "lockmaster.dev/v1alpha1", "kind": "LockCluster", "metadata": where, "spec": spec})

    def controllers(self) -> None:
        """What Kubernetes makes of a StatefulSet: pods that run and are ready once their members belong."""
        found = self.api.objects.get(("StatefulSet", "ns", "locks"))
        if found is None:
            return
        found["status"] = {"observedGeneration": found["metadata"]["generation"]}
        template = found["spec"]["template"]["metadata"]["labels"]
        for n in range(found["spec"]["replicas"]):
            if ("Pod", "ns", f"locks-{n}") in self.api.objects:
                continue
            status = {
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "lockmaster", "state": {"running": {}}}],
            }
            metadata = {"name": f"locks-{n}", "namespace": "ns", "labels": dict(template)}
            self.api.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})

    async def run(self, passes: int = 20) -> None:
        for _ in range(passes):
            await self.passes.make(KEY)
            self.controllers()
            self.now += 15

    @property
    def status(self) -> Json:
        found: Json = self.api.objects["LockCluster", "ns", "locks"].get("status", {})
        return found

    def ready(self) -> bool:
        return any(c["type"] == "Ready" and c["status"] == "True" for c in self.status.get("conditions", ()))


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    one = FakeApi()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def kube(api: FakeApi) -> AsyncIterator[Kube]:
    configuration = Configuration(host=api.url)
    configuration.retries = None
    client = ApiClient(configuration)
    yield Kube(client)
    await client.close()


@pytest.fixture
def world(api: FakeApi, kube: Kube) -> World:
    return World(api, kube)


async def test_a_cluster_becomes_ready_and_then_nothing_is_written(world: World) -> None:
    await world.run()
    assert world.ready()
    assert [type(step).__name__ for step in world.members.performed] == ["Bootstrap", "AddMember", "AddMember"]
    cluster_id = world.status["clusterId"]
    assert world.members.keys == [steps.idempotency_key(cluster_id, step) for step in world.members.performed]
    quiet = len(world.api.writes())
    await world.run(5)
    assert world.api.writes()[quiet:] == []


async def test_the_clusters_id_is_stored_before_it_is_made(world: World) -> None:
    stored: list[str] = []
    world.members.on_look = lambda: stored.append(world.status.get("clusterId", ""))
    await world.run()
    bootstrap = world.members.performed[0]
    assert isinstance(bootstrap, steps.Bootstrap)
    assert world.status["clusterId"] == bootstrap.cluster_id


@pytest.mark.parametrize("status", [409, 410, 429, 500, 503])
async def test_a_pass_that_cannot_store_its_status_does_nothing_else(world: World, status: int) -> None:
    world.api.faults.append(Fault("PUT", "LockCluster", status, headers=(("Retry-After", "7"),)))
    with pytest.raises(PassFailed, match=str(status)) as failed:
        await world.passes.make(KEY)
    assert failed.value.retry_after_s == 7.0
    assert world.api.writes() == []


@pytest.mark.parametrize("status", [409, 410, 429, 500, 503])
@pytest.mark.parametrize(
    ("method", "kind"),
    [("GET", "LockCluster"), ("GET", "Pod"), ("GET", "Secret"), ("PATCH", "Secret"), ("PATCH", "StatefulSet")],
)
async def test_any_refusal_ends_the_pass_and_the_cluster_still_becomes_ready(
    world: World, method: str, kind: str, status: int
) -> None:
    world.api.faults.append(Fault(method, kind, status, count=2))
    failed = 0
    for _ in range(25):
        try:
            await world.passes.make(KEY)
        except PassFailed as error:
            failed += str(status) in str(error)
        world.controllers()
        world.now += 15
    assert (failed, world.ready()) == (2, True)


async def test_an_api_server_that_does_not_answer_in_time_ends_the_pass(world: World) -> None:
    """The answer is later than any deadline: how loaded the machine is does not matter."""
    world.kube._timeout = aiohttp.ClientTimeout(total=3)
    world.api.faults.append(Fault("GET", "Pod", 200, delay_s=60.0))
    with pytest.raises(PassFailed, match="no answer: GET /api/v1/namespaces/ns/pods"):
        await world.passes.make(KEY)


async def test_members_that_refuse_end_the_pass(world: World) -> None:
    world.members.fails = True
    with pytest.raises(PassFailed, match="no leader"):
        await world.run()


async def test_a_disruptive_step_is_not_taken_when_a_second_look_does_not_ask_for_it(world: World) -> None:
    """Between the two looks the pods go: Bootstrap is not what is needed any more."""

    def gone() -> None:
        for n in range(3):
            world.api.objects.pop(("Pod", "ns", f"locks-{n}"), None)

    while not world.status.get("clusterId"):
        await world.run(1)
    world.members.on_look = gone
    with pytest.raises(PassFailed, match="Bootstrap is not what is needed any more"):
        await world.passes.make(KEY)
    assert world.members.performed == []


async def test_a_step_whose_reason_counts_seconds_is_the_same_a_second_later(world: World) -> None:
    """Found on the bed: a slow second look never agreed with the first, and the witness was not promoted."""
    await world.run()
    assert world.members.engine is not None
    gone = tuple(replace(row, reachable=row.member_id != 2) for row in world.members.engine.members)
    world.members.engine = replace(world.members.engine, members=gone)

    def later() -> None:
        world.now += 1

    world.members.on_look = later
    world.api.objects.pop(("Pod", "ns", "locks-1"))
    for _ in range(8):
        await world.passes.make(KEY)
        world.now += 15
    assert [type(step).__name__ for step in world.members.performed][-1] == "PromoteMember"


async def test_a_lock_cluster_that_is_gone_is_forgotten(world: World) -> None:
    await world.run(3)
    uid = world.api.objects.pop(("LockCluster", "ns", "locks"))["metadata"]["uid"]
    assert await world.passes.make(KEY) is None
    assert world.members.forgotten == [uid]


async def test_a_spec_that_cannot_be_read_touches_nothing_and_is_shown(world: World) -> None:
    world.api.objects["LockCluster", "ns", "locks"]["spec"]["members"] = {"full": 1, "witness": 1}
    await world.passes.make(KEY)
    assert {kind for _, kind, _ in world.api.writes()} <= {"LockCluster", "Event"}
    assert world.status["conditions"][0]["reason"] == "InvalidSpec"


def metric(world: World, name: str) -> bool:
    """Whether the page has this sample, with its value."""
    return f"{name}\n".encode() in world.metrics.page()


async def test_a_spec_that_cannot_be_read_is_told_to_prometheus_until_it_can(world: World) -> None:
    stalled = 'lockmaster_cluster_condition{cluster="locks",condition="Stalled",namespace="ns"} 1.0'
    spec = world.api.objects["LockCluster", "ns", "locks"]["spec"]
    spec["members"] = {"full": 1, "witness": 1}
    await world.passes.make(KEY)
    assert metric(world, stalled)
    del spec["members"]
    await world.passes.make(KEY)
    assert b'condition="Stalled"' not in world.metrics.page()


async def test_a_hibernated_cluster_is_told_to_prometheus_as_such_whatever_else_its_spec_says(world: World) -> None:
    hibernated = 'lockmaster_cluster_hibernated{cluster="locks",namespace="ns"}'
    spec = world.api.objects["LockCluster", "ns", "locks"]["spec"]
    await world.passes.make(KEY)
    assert metric(world, f"{hibernated} 0.0")
    spec["hibernate"] = True
    await world.passes.make(KEY)
    assert metric(world, f"{hibernated} 1.0")
    spec["members"] = {"full": 1, "witness": 1}
    await world.passes.make(KEY)
    assert metric(world, f"{hibernated} 1.0")


async def test_another_ones_secret_is_never_written_over(world: World) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "locks-client-ca", "namespace": "ns"}}
    world.api.put(theirs)
    with pytest.raises(PassFailed, match="Secret locks-client-ca is there and not this LockCluster's"):
        await world.run(3)
    assert "data" not in world.api.objects["Secret", "ns", "locks-client-ca"]


async def executor(world: World) -> Executor:
    await world.run()
    stored = world.api.objects["LockCluster", "ns", "locks"]
    cluster = read_cluster(stored)
    assert not isinstance(cluster, str)
    seen = await look(world.kube, world.members, cluster, stored, Settings(), True)
    return Executor(world.kube, world.members, cluster, seen, world.now)


async def test_a_member_begins_blank_by_losing_its_claim_and_then_its_pod(world: World) -> None:
    await world.run()
    labels = world.api.objects["Pod", "ns", "locks-1"]["metadata"]["labels"]
    claim = {"name": "data-locks-1", "namespace": "ns", "labels": labels}
    world.api.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim})
    one = await executor(world)
    gone: list[str] = []

    def noted(method: str, kind: str, name: str) -> None:
        if method == "DELETE":
            gone.append(f"{kind} {name}")

    world.api.before = noted
    uid = world.api.objects["Pod", "ns", "locks-1"]["metadata"]["uid"]
    await one.carry_out(steps.WipeMember(1, uid, "", "member 2 was removed"))
    assert gone == ["PersistentVolumeClaim data-locks-1", "Pod locks-1"]


async def test_a_pod_is_deleted_only_if_it_is_this_very_one_and_unchanged_since_it_was_read(world: World) -> None:
    one = await executor(world)
    with pytest.raises(StepRefused, match="Pod locks-1 is gone, or another by now"):
        await one.carry_out(steps.DeletePod(1, "another", "why"))
    uid = world.api.objects["Pod", "ns", "locks-1"]["metadata"]["uid"]

    def changed(method: str, kind: str, name: str) -> None:
        if method == "DELETE":
            world.api.objects["Pod", "ns", "locks-1"]["metadata"]["resourceVersion"] = "later"

    world.api.before = changed
    with pytest.raises(KubeError, match="409"):
        await one.carry_out(steps.DeletePod(1, uid, "why"))
    world.api.before = lambda method, kind, name: None
    await one.carry_out(steps.DeletePod(1, uid, "why"))
    assert ("Pod", "ns", "locks-1") not in world.api.objects


async def test_labels_go_to_this_very_pod(world: World) -> None:
    one = await executor(world)
    with pytest.raises(KubeError, match="409"):
        await one.carry_out(steps.LabelPod(1, "another", "witness", False))
    pod = world.api.objects["Pod", "ns", "locks-0"]["metadata"]
    assert (pod["labels"]["lockmaster.dev/role"], pod["labels"]["lockmaster.dev/leads"]) == ("full", "true")
    await one.carry_out(steps.LabelPod(0, pod["uid"], "full", False))
    labels = world.api.objects["Pod", "ns", "locks-0"]["metadata"]["labels"]
    assert "lockmaster.dev/leads" not in labels
    assert TEMPLATE_LABEL in labels


async def test_a_volume_on_a_node_that_is_gone_or_out_of_service_is_told_from_one_that_is_away(world: World) -> None:
    one = await executor(world)
    world.api.objects["Pod", "ns", "locks-1"]["status"]["containerStatuses"] = []
    labels = one.look.observed.objects["StatefulSet", "locks"]["metadata"]["labels"]
    claim = {"name": "data-locks-1", "namespace": "ns", "labels": labels}
    world.api.put({"kind": "PersistentVolumeClaim", "metadata": claim, "spec": {"volumeName": "v1"}})
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    world.api.put({"kind": "PersistentVolume", "metadata": {"name": "v1"}, "spec": {"nodeAffinity": affinity}})

    async def gone() -> bool:
        stored = world.api.objects["LockCluster", "ns", "locks"]
        seen = await look(world.kube, world.members, one.cluster, stored, Settings(), True)
        return seen.observed.claims[0].node_gone

    assert await gone()
    node = {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}
    world.api.put({"kind": "Node", "metadata": node})
    assert not await gone()
    taint = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}
    world.api.put({"kind": "Node", "metadata": node, "spec": {"taints": [taint]}})
    assert await gone()


async def test_events_are_posted_once_for_a_transition(world: World) -> None:
    await world.run()
    events = [one for (kind, _, _), one in world.api.objects.items() if kind == "Event"]
    added = [one for one in events if one["reason"] == "MemberAdded"]
    assert len(added) == 3
    assert all(one["regarding"]["name"] == "locks" and one["eventTime"].endswith("Z") for one in events)
    count = len(events)
    await world.run(4)
    assert sum(kind == "Event" for kind, _, _ in world.api.objects) == count


async def test_a_list_is_read_to_its_end_and_its_items_know_what_they_are(world: World) -> None:
    await world.run(2)
    (found,) = await world.kube.list("StatefulSet", "ns")
    assert (found["apiVersion"], found["kind"]) == ("apps/v1", "StatefulSet")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def attempt(one: Lease) -> bool:
    """One try to take it, however long the machine needs for it."""
    return await one._attempt()


async def test_one_operator_holds_the_lease_and_another_takes_it_over_when_it_was_not_renewed(kube: Kube) -> None:
    clock = Clock()
    first, second = (Lease(kube, "ns", "op", name, clock) for name in ("first", "second"))
    assert await attempt(first)
    assert not await attempt(second)
    clock.now += leases.DURATION_S
    assert not await attempt(second)
    clock.now += 1
    assert await attempt(second)
    assert not await attempt(first)


async def test_a_renewal_is_one_request_unless_the_lease_is_another_by_now(kube: Kube, api: FakeApi) -> None:
    one = Lease(kube, "ns", "op", "first", Clock())
    assert await attempt(one)

    async def requests() -> list[str]:
        asked = len(api.requests)
        assert await attempt(one)
        return [method for method, *_ in api.requests[asked:]]

    assert await requests() == ["PUT"]
    api.faults.append(Fault("PUT", "Lease", 409))
    assert await requests() == ["GET", "PUT"]  # and before them the one that was refused
    api.remove("Lease", "ns", "op")
    assert await requests() == ["PUT", "GET", "POST"]
    assert await requests() == ["PUT"]


async def test_a_released_lease_is_free_at_once(kube: Kube) -> None:
    clock = Clock()
    first, second = (Lease(kube, "ns", "op", name, clock) for name in ("first", "second"))
    assert await attempt(first)
    await first.release()
    assert await attempt(second)


async def test_a_holder_that_cannot_renew_gives_up_before_another_may_take_over(kube: Kube, api: FakeApi) -> None:
    clock = Clock()
    one = Lease(kube, "ns", "op", "first", clock)
    assert await attempt(one)
    renewed = 0.0

    def renew_once(method: str, kind: str, name: str) -> None:
        nonlocal renewed
        clock.now += 2
        if method == "PUT":
            renewed = clock.now
            api.faults.append(Fault("PUT", "Lease", 500, count=1000))

    api.before = renew_once
    async with asyncio.timeout(60):
        await one.keep(retry_s=0)
    assert not one.held
    assert renewed
    # From when the last renewal was sent, 2 s before it was carried out.
    assert clock.now - renewed == leases.RENEW_SECONDS_MAX - 2


async def test_a_lease_whose_first_write_was_answered_late_is_as_old_as_its_request(kube: Kube, api: FakeApi) -> None:
    clock = Clock()
    one = Lease(kube, "ns", "op", "first", clock)
    api.before = lambda method, *_: setattr(clock, "now", clock.now + 10 * (method == "POST"))
    async with asyncio.timeout(60):
        await one.acquire(retry_s=0)
        asked = len(api.requests)
        await one.keep(retry_s=0)
    assert (one.held, len(api.requests)) == (False, asked)


async def test_renewals_keep_others_out(kube: Kube, api: FakeApi) -> None:
    clock = Clock()
    first, second = (Lease(kube, "ns", "op", name, clock) for name in ("first", "second"))
    assert await attempt(first)
    began = api.objects["Lease", "ns", "op"]["spec"]["acquireTime"]
    for _ in range(4):
        clock.now += leases.DURATION_S - 1
        assert await attempt(first)
        assert not await attempt(second)
    spec = api.objects["Lease", "ns", "op"]["spec"]
    assert (spec["acquireTime"], spec["leaseTransitions"]) == (began, 0)
    clock.now += leases.DURATION_S + 1
    assert await attempt(second)
    spec = api.objects["Lease", "ns", "op"]["spec"]
    assert (spec["acquireTime"] > began, spec["leaseTransitions"]) == (True, 1)


async def test_an_answer_that_is_no_lease_is_no_renewal(api: FakeApi, kube: Kube) -> None:
    """As from a proxy that answers for the API server."""
    one = Lease(kube, "ns", "op", "first", Clock())
    assert await attempt(one)
    replace = kube.replace

    async def answered(body: Any, subresource: str = "") -> Any:
        await replace(body, subresource)
        return {}

    kube.replace = answered  # type: ignore[method-assign]
    assert not await attempt(one)
    kube.replace = replace  # type: ignore[method-assign]
    assert await attempt(one)
    assert [method for method, *_ in api.requests] == ["GET", "POST", "PUT", "GET", "PUT", "GET", "PUT"]


async def test_a_keeper_that_is_cancelled_still_holds_the_lease_and_can_give_it_back(kube: Kube) -> None:
    clock = Clock()
    first, second = (Lease(kube, "ns", "op", name, clock) for name in ("first", "second"))
    assert await attempt(first)
    keeper = asyncio.create_task(first.keep())
    await asyncio.sleep(0)
    keeper.cancel()
    await asyncio.wait({keeper})
    assert first.held
    await first.release()
    assert await attempt(second)


async def test_a_renewal_that_hangs_is_given_up_for_another(
    kube: Kube, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "ATTEMPT_SECONDS_MAX", 0.2)
    one = Lease(kube, "ns", "op", "first")
    assert await attempt(one)
    began = one._renewed
    api.faults.append(Fault("PUT", "Lease", 200, delay_s=60))
    keeper = asyncio.create_task(one.keep(retry_s=0.01))
    async with asyncio.timeout(leases.RENEW_SECONDS_MAX):
        while one._renewed == began:
            await asyncio.sleep(0.01)
    assert one.held
    keeper.cancel()


async def test_a_keeper_that_ends_in_a_way_nobody_foresaw_holds_nothing(kube: Kube) -> None:
    one = Lease(kube, "ns", "op", "first", Clock())
    assert await attempt(one)
    kube.replace = None  # type: ignore[method-assign,assignment]
    with pytest.raises(TypeError):
        await one.keep(retry_s=0)
    assert not one.held


async def test_a_holder_whose_lease_another_has_taken_gives_up_at_once(kube: Kube, api: FakeApi) -> None:
    one = Lease(kube, "ns", "op", "first", Clock())  # no time passes: it is not that it could not renew
    assert await attempt(one)
    live = api.objects["Lease", "ns", "op"]
    api.put({**live, "spec": {**live["spec"], "holderIdentity": "second", "renewTime": "later"}})
    async with asyncio.timeout(60):
        await one.keep(retry_s=0)
    assert not one.held
