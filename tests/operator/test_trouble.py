"""Foreign trouble that no other file shows: webhooks, an operator away for an hour, clocks, evictions, forced deletes.

docs/testing-on-kubernetes.md lists each trouble with the test that shows it.
"""

from __future__ import annotations

import pytest
from lockmaster_operator.desired.names import Settings
from lockmaster_operator.host.kube import Json
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.refusals import refusal
from lockmaster_operator.plan import BUSY_S, Plan, plan, steps

from .fake_api import FakeApi, Fault
from .test_host import KEY, api, kube
from .test_host import World as HostWorld
from .test_world import ids, kinds, shape_of
from .world import World, settled

__all__ = ["api", "kube"]  # fixtures


@pytest.fixture
def host_world(api: FakeApi, kube: object) -> HostWorld:
    return HostWorld(api, kube)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["StatefulSet", "PodDisruptionBudget", "LockCluster"])
async def test_a_webhook_that_refuses_is_told_in_its_own_words_and_nothing_follows(
    host_world: HostWorld, kind: str
) -> None:
    method = "PUT" if kind == "LockCluster" else "PATCH"
    words = 'admission webhook "policy.example" denied the request: no'
    host_world.api.faults.append(Fault(method, kind, 403, message=words, count=3))
    for _ in range(3):
        assert words in await failure(host_world)
        assert host_world.members.performed == []
    refused = [event["note"] for event in events_of(host_world, "ApiServerRefused")]
    assert len(refused) == 1
    assert words in refused[0]
    await host_world.run()
    assert host_world.ready()


async def test_pods_that_the_api_server_refuses_are_told_in_its_words_until_one_is_made(host_world: HostWorld) -> None:
    """Row 77: a quota lets two of three in. Asked for only while pods are missing."""
    quota = 'create Pod locks-2 failed: pods "locks-2" is forbidden: exceeded quota: small'
    await host_world.run()
    api = host_world.api
    assert ("GET", "Event", "") not in api.requests
    uid = api.objects["StatefulSet", "ns", "locks"]["metadata"]["uid"]
    api.put(refused("e1", uid, quota, "2026-11-27T10:00:00Z"))
    api.put(refused("e2", "uid-before", "of a StatefulSet that is gone", "2026-11-27T11:00:00Z"))
    pod = api.objects.pop(("Pod", "ns", "locks-2"))
    await host_world.passes.make(KEY)
    degraded = condition(host_world, "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "PodsNotCreated")
    assert quota in degraded["message"]
    api.faults.append(Fault("GET", "Event", 403))
    await host_world.passes.make(KEY)
    assert condition(host_world, "Degraded")["reason"] != "PodsNotCreated"
    api.objects["Pod", "ns", "locks-2"] = pod
    await host_world.passes.make(KEY)
    assert condition(host_world, "Degraded")["status"] == "False"


def refused(name: str, uid: str, words: str, at: str) -> Json:
    """As the StatefulSet controller tells it."""
    about = {"kind": "StatefulSet", "name": "locks", "namespace": "ns", "uid": uid}
    told = {"reason": "FailedCreate", "note": words, "deprecatedLastTimestamp": at, "eventTime": None}
    return {"kind": "Event", "metadata": {"name": name, "namespace": "ns"}, "regarding": about, **told}


@pytest.mark.parametrize(
    ("made", "at", "told"),
    [
        ("", {"deprecatedLastTimestamp": "2026-11-27T10:00:00Z"}, True),
        ("2026-11-27T10:00:00Z", {"deprecatedLastTimestamp": "2026-11-27T10:00:00Z"}, True),
        ("2026-11-27T10:00:01Z", {"deprecatedLastTimestamp": "2026-11-27T10:00:00Z"}, False),
        ("2026-11-27T10:00:01Z", {"eventTime": "2026-11-27T10:00:01.250000Z"}, True),
        ("2026-11-27T10:00:01Z", {"series": {"lastObservedTime": "2026-11-27T10:00:00.9Z"}}, False),
        ("2026-11-27T10:00:01Z", {}, False),
    ],
)
def test_a_refusal_is_over_once_a_pod_was_made_after_it(made: str, at: Json, told: bool) -> None:
    event = {"regarding": {"uid": "u"}, "note": "no", "deprecatedLastTimestamp": None, **at}
    words = refusal("u", [event], [{"metadata": {"creationTimestamp": made}}] if made else [])
    assert words == ("no" if told else "")


async def test_a_spec_that_only_the_api_server_can_judge_is_told_until_it_is_mended(host_world: HostWorld) -> None:
    """A refused object, in its words, for as long as it is refused; over at once when it is not."""
    words = "StatefulSet.apps is invalid: resources.requests: must be less than or equal to cpu limit"
    fault = Fault("PATCH", "StatefulSet", 422, message=words, count=99)
    host_world.api.faults.append(fault)
    for _ in range(4):
        await failure(host_world)
    degraded = condition(host_world, "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "ApiServerRefused")
    assert words in degraded["message"]
    assert len(events_of(host_world, "ApiServerRefused")) == 1
    assert events_of(host_world, "DegradedApiServerRefused") == []
    fault.count = 0
    assert await host_world.passes.make(KEY) == BUSY_S
    await host_world.run()
    assert host_world.ready()
    assert condition(host_world, "Degraded")["status"] == "False"


async def test_a_look_that_is_refused_leaves_a_status_that_says_so(host_world: HostWorld) -> None:
    """cert-manager is not installed: there is no such kind."""
    locks = host_world.api.objects["LockCluster", "ns", "locks"]
    tls = {"mode": "certManager", "issuer": {"name": "i"}}
    host_world.api.put({**locks, "spec": {**locks["spec"], "tls": tls}})
    host_world.api.faults.append(Fault("GET", "Certificate", 404, count=99, message="page not found"))
    for _ in range(3):
        assert "needs cert-manager to be installed" in await failure(host_world)
    for kind, truth in (("Ready", "False"), ("Degraded", "True")):
        told = condition(host_world, kind)
        assert (told["status"], told["reason"]) == (truth, "ApiServerRefused")
        assert "knows no Certificates (cert-manager.io/v1)" in told["message"]
    assert len(events_of(host_world, "ApiServerRefused")) == 1


async def test_a_ready_cluster_stays_ready_while_a_look_is_refused(host_world: HostWorld) -> None:
    await host_world.run()
    fault = Fault("GET", "Pod", 403, message="pods is forbidden", count=99)
    host_world.api.faults.append(fault)
    await failure(host_world)
    assert host_world.ready()
    assert "pods is forbidden" in condition(host_world, "Degraded")["message"]
    fault.count = 0
    await host_world.run(3)
    assert condition(host_world, "Degraded")["status"] == "False"


async def test_secrets_of_ones_own_that_are_missing_or_damaged_are_named(host_world: HostWorld) -> None:
    api = host_world.api
    locks = api.objects["LockCluster", "ns", "locks"]
    secrets = {"client": "mine-client", "peer": "mine-peer", "operator": "mine-operator"}
    api.put({**locks, "spec": {**locks["spec"], "tls": {"mode": "secret", "secrets": secrets}}})
    where = {"name": "mine-peer", "namespace": "ns"}
    api.put({"kind": "Secret", "metadata": where, "data": {"tls.crt": "", "tls.key": ""}})
    await host_world.passes.make(KEY)
    degraded = condition(host_world, "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "SecretUnusable")
    assert "Secret mine-client is not there" in degraded["message"]
    assert "Secret mine-peer: ca.crt, tls.crt, tls.key must be there" in degraded["message"]


def condition(world: HostWorld, kind: str) -> Json:
    found: Json = next(one for one in world.status["conditions"] if one["type"] == kind)
    return found


def events_of(world: HostWorld, reason: str) -> list[Json]:
    return [body for (kind, _, _), body in world.api.objects.items() if kind == "Event" and body["reason"] == reason]


async def failure(world: HostWorld) -> str:
    """What the next pass that fails says."""
    for _ in range(10):
        try:
            await world.passes.make(KEY)
        except PassFailed as error:
            return str(error)
    return ""


async def test_a_pod_deleted_by_force_whose_process_still_runs_is_not_given_up(host_world: HostWorld) -> None:
    """The leader still hears the member: nothing is promoted, removed or replaced, however long the pod is away."""
    await host_world.run()
    before = len(host_world.members.performed)
    del host_world.api.objects["Pod", "ns", "locks-1"]
    for _ in range(40):
        await host_world.passes.make(KEY)
        host_world.now += 15
    assert host_world.members.performed[before:] == []


def test_an_operator_away_for_an_hour_finds_what_the_leader_has_done_and_restores_the_shape() -> None:
    """The leader is the backstop (raft.md §4): it has promoted the witness meanwhile."""
    found = settled()
    witness = ids(found)[2]
    found.stop_pod(1, 3_700)
    found.advance(90)
    found.carry_out(steps.PromoteMember(witness, found.epoch, "the leader's own"))
    found.advance(3_510)
    before = len(found.log)
    found.run(30)
    assert kinds(found, before) == []
    found.run(200)
    found.settle()
    assert kinds(found, before) == ["DemoteMember"]
    assert found.shape() == shape_of(2, 1)


def test_an_operator_away_for_an_hour_does_not_count_what_it_has_not_seen() -> None:
    """A member that it finds down is down since now: promoteAfter begins anew."""
    found = settled()
    found.stop_pod(1, 3_700)
    found.advance(3_600)
    before = len(found.log)
    found.run(50)
    assert kinds(found, before) == []
    found.run(200)
    found.settle()
    assert found.shape() == shape_of(2, 1)


@pytest.mark.parametrize("skew", [-86_400, -3_600, 3_600, 86_400])
def test_an_operator_with_another_clock_breaks_no_law_and_comes_to_the_same(skew: int) -> None:
    """Every other pass is made by an operator whose clock is wrong by so much: status goes from one to the other."""
    found = settled()
    turn = 0

    def look() -> Plan:
        nonlocal turn
        turn += 1
        return plan(found.cluster, found.observe(), found.now + skew * (turn % 2), Settings())

    found.look = look  # type: ignore[method-assign]
    before = len(found.log)
    found.stop_pod(1, 300)
    found.run(400)
    assert kinds(found, before).count("PromoteMember") <= 1
    del found.look  # the clocks agree again
    found.run(900)
    found.settle()
    assert found.shape() == shape_of(2, 1)


def test_two_drains_during_an_election_may_take_nobody() -> None:
    """Nobody leads, so every pod is unready: an unready pod may not be evicted then (IfHealthyBudget)."""
    found = settled()
    found.stop_pod(0, 60)
    found.stop_pod(1, 60)
    found.advance(1)
    found.do(found.look())
    budget = found.objects[("PodDisruptionBudget", "locks")]["spec"]
    assert budget["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"
    assert budget["maxUnavailable"] <= 1
    found.settle()
    assert _budget(found) == (1, "IfHealthyBudget")


def _budget(found: World) -> tuple[int, str]:
    spec = found.objects[("PodDisruptionBudget", "locks")]["spec"]
    return spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]
