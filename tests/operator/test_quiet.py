"""Quiet passes: what they leave out is never missed where anything has changed, and nothing is done by what is old."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lockmaster_operator.desired.certificates import LIFETIME_S, RENEW_BEFORE_S
from lockmaster_operator.desired.names import Settings
from lockmaster_operator.host.app import Operator
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.pod_sessions import STANDS_S, _Look
from lockmaster_operator.host.quiet import Quiet
from lockmaster_operator.host.settings import load
from lockmaster_operator.host.watch_ages import WatchAges
from lockmaster_operator.host.watching import RESOURCES_WATCHED, watch
from lockmaster_operator.observed import Observed
from lockmaster_operator.plan import RESYNC_S, plan
from lockmaster_operator.plan.calm import CALM_S, calm, told
from lockmaster_operator.plan.view import LAG_STEADY_MAX

from .fake_api import FakeApi, Fault
from .test_host import KEY, NOW, api, kube
from .test_host import World as HostWorld
from .test_watches import Clock, until
from .world import World, settled

__all__ = ["api", "kube"]  # fixtures
MIB = 1 << 20


@pytest.fixture
async def idle(api: FakeApi, kube: Kube) -> HostWorld:
    """A cluster that needed nothing at its last whole pass, a second after which counts as one by this clock."""
    world = HostWorld(api, kube)
    world.passes.quiet = Quiet(lambda: float(world.now), lambda _: 0.0)
    await world.run()
    world.now += CALM_S - world.now % CALM_S
    await world.passes.visit(KEY)
    assert world.passes.quiet.of(KEY) is not None
    return world


async def visited(world: HostWorld) -> list[tuple[str, str, str]]:
    """What a pass that was due by time alone has asked the API server for."""
    before = len(world.api.requests)
    await world.passes.visit(KEY)
    return world.api.requests[before:]


async def test_a_quiet_pass_asks_the_members_and_nothing_of_the_api_server(idle: HostWorld) -> None:
    looks: list[int] = []
    idle.members.on_look = lambda: looks.append(1)
    idle.api.faults.append(Fault("GET", "LockCluster", 500))
    assert await idle.passes.visit(KEY) == RESYNC_S
    assert len(looks) == 1
    assert len(idle.api.faults) == idle.api.faults[0].count == 1


async def test_every_pass_tells_whether_a_pod_has_opened_a_session_and_that_brings_no_whole_one(
    idle: HostWorld,
) -> None:
    heard: list[int] = []
    idle.passes.heard = lambda key, mark: heard.append(mark)
    assert idle.members.engine is not None
    idle.members.engine = replace(idle.members.engine, pods_mark=7)
    assert await visited(idle) == []
    idle.members.engine = replace(idle.members.engine, pods_mark=None)
    assert await visited(idle) == []
    idle.passes.quiet.changed(KEY)
    idle.members.engine = replace(idle.members.engine, pods_mark=8)
    assert await visited(idle)
    idle.members.engine = None
    await visited(idle)
    assert heard == [7, 8]


async def test_a_whole_pass_follows_any_event_and_the_next_one_is_quiet_again(idle: HostWorld) -> None:
    idle.passes.quiet.changed(KEY)
    assert len(await visited(idle)) > 10
    assert await visited(idle) == []


async def test_an_event_while_a_look_runs_is_later_than_what_it_has_seen(idle: HostWorld) -> None:
    idle.passes.quiet.changed(KEY)
    idle.members.on_look = lambda: idle.passes.quiet.changed(KEY)
    assert await visited(idle)
    idle.members.on_look = lambda: None
    assert await visited(idle)
    assert await visited(idle) == []


async def test_an_event_while_a_quiet_pass_runs_is_not_lost(idle: HostWorld) -> None:
    idle.members.on_look = lambda: idle.passes.quiet.changed(KEY)
    assert await visited(idle) == []
    idle.members.on_look = lambda: None
    assert await visited(idle)


async def test_a_members_other_word_brings_a_whole_pass_which_acts_on_what_is_there_now(idle: HostWorld) -> None:
    """A budget that drifted unheard is mended by it, and the status written."""
    assert idle.members.engine is not None
    idle.api.objects["PodDisruptionBudget", "ns", "locks"]["spec"]["maxUnavailable"] = 3
    assert await visited(idle) == []
    rows = tuple(replace(row, reachable=row.member_id != 2) for row in idle.members.engine.members)
    idle.members.engine = replace(idle.members.engine, members=rows)
    asked = await visited(idle)
    assert ("PUT", "LockCluster", "locks") in asked
    assert ("PATCH", "PodDisruptionBudget", "locks") in asked
    assert idle.status["members"][1]["phase"] == "Unreachable"
    assert idle.passes.quiet.of(KEY) is None
    assert await visited(idle), "nothing is quiet in trouble"


async def test_a_member_that_does_not_answer_brings_a_whole_pass(idle: HostWorld) -> None:
    look = idle.members.look

    async def fewer(uid: str, addresses: Any, tls: Any) -> Any:
        reports, engine = await look(uid, addresses, tls)
        return {n: report for n, report in reports.items() if n != 1}, engine

    idle.members.look = fewer  # type: ignore[method-assign]
    assert await visited(idle)


async def test_members_that_cannot_be_asked_bring_a_whole_pass_which_says_why(idle: HostWorld) -> None:
    def away() -> None:
        raise TimeoutError("nobody there")

    idle.members.on_look = away
    with pytest.raises(PassFailed, match="nobody there"):
        await idle.passes.visit(KEY)
    idle.members.on_look = lambda: None
    assert await visited(idle)


async def test_what_no_event_has_told_is_acted_upon_by_fresh_reads_alone_and_found_in_time(idle: HostWorld) -> None:
    idle.api.objects.pop(("Pod", "ns", "locks-1"))
    secret = idle.api.objects.pop(("Secret", "ns", "locks-client-tls"))
    for _ in range(3):
        assert await visited(idle) == []
    idle.now += CALM_S
    asked = await visited(idle)
    assert ("PATCH", "Secret", "locks-client-tls") in asked
    assert idle.api.objects["Secret", "ns", "locks-client-tls"]["data"] != secret["data"]
    assert not idle.ready()


async def test_a_step_that_is_due_by_time_is_not_slept_through(idle: HostWorld) -> None:
    """A certificate that runs short before the next whole pass keeps a cluster from being quiet."""
    idle.now = NOW + LIFETIME_S - RENEW_BEFORE_S - CALM_S // 2
    assert await visited(idle), "the last look is too old"
    assert idle.passes.quiet.of(KEY) is None
    idle.now += CALM_S
    assert ("PATCH", "Secret", "locks-client-tls") in await visited(idle)


async def test_a_lock_cluster_that_is_gone_is_forgotten(idle: HostWorld) -> None:
    idle.api.remove("LockCluster", "ns", "locks")
    assert idle.passes.quiet.differing({}) == [KEY]
    idle.passes.quiet.changed(KEY)
    assert await idle.passes.visit(KEY) is None
    assert idle.passes.quiet.differing({}) == []


async def test_somebody_elses_certificate_is_asked_for_at_every_pass(idle: HostWorld) -> None:
    """By it members and clients are known: one that was renewed is used at once (tls.mode secret or certManager)."""
    names = {part: f"locks-{part}-tls" for part in ("client", "peer", "operator")}
    stored = idle.api.objects["LockCluster", "ns", "locks"]
    stored["spec"]["tls"] = {"mode": "secret", "secrets": names}
    idle.passes.quiet.changed(KEY)
    await idle.run(5)
    wanted = [("GET", "Secret", "locks-operator-tls")]
    assert await visited(idle) == wanted
    data = idle.api.objects["Secret", "ns", "locks-operator-tls"]["data"]
    data["ca.crt"], other = idle.api.objects["Secret", "ns", "locks-peer-tls"]["data"]["ca.crt"], data["ca.crt"]
    assert len(await visited(idle)) > len(wanted)
    data["ca.crt"] = other
    idle.api.objects.pop(("Secret", "ns", "locks-operator-tls"))
    assert len(await visited(idle)) > len(wanted)


# --- when it is calm ----------------------------------------------------------------------------------------------


def quiet_world() -> World:
    world = settled(2, 1)
    world.advance(600)
    world.do(world.look())
    return world


def is_calm(world: World, observed: Observed) -> bool:
    decided = plan(world.cluster, observed, world.now)
    return calm(world.cluster, observed, decided, world.now, Settings())


def test_a_cluster_that_is_as_specified_is_calm() -> None:
    world = quiet_world()
    assert is_calm(world, world.observe())


@pytest.mark.parametrize(
    "doubt",
    [
        {"refused": "no"},
        {"pods_refused": "no"},
        {"bad_secrets": ("Secret x is not there",)},
        {"restore_pending": True},
        {"recovering": True},
        {"objects": {}},
    ],
)
def test_a_cluster_in_any_doubt_is_not_calm(doubt: dict[str, Any]) -> None:
    world = quiet_world()
    assert not is_calm(world, replace(world.observe(), **doubt))


@pytest.mark.parametrize("change", [{"ready": False}, {"running": False}, {"deleting": True}, {"report": None}])
def test_a_pod_that_is_not_all_there_leaves_a_cluster_not_calm_or_decided_alike(change: dict[str, Any]) -> None:
    world = quiet_world()
    seen = world.observe()
    seen = replace(seen, pods=(replace(seen.pods[0], **change), *seen.pods[1:]))
    assert is_calm(world, seen) is ("report" in change), "that one can't be asked proves nothing"


def test_a_cluster_that_is_new_is_not_calm_before_all_is_done() -> None:
    world = settled(2, 1)
    world.change(version="0.3.0")
    for _ in range(200):
        observed = world.observe()
        if is_calm(world, observed):
            break
        world.do(world.look())
        world.advance(2)
    assert not world.look().steps
    assert world.truth(world.status, "Ready") == "True"


def test_a_cluster_that_sleeps_is_calm() -> None:
    world = quiet_world()
    world.change(hibernate=True)
    world.run(120)
    assert world.pods == {}
    assert is_calm(world, world.observe())


@given(st.data())
def test_what_is_told_alike_is_planned_alike(data: st.DataObject) -> None:
    """The law of plan/calm.py, with numbers around every bound, now and any time until the next whole pass."""
    world = quiet_world()
    if data.draw(st.booleans()):
        world.change(storage={"size": "10Gi", "autoGrow": {"max": data.draw(st.sampled_from(["10Gi", "40Gi"]))}})
        world.run(60)
    before = world.observe()
    free = st.sampled_from([0, 1, 767 * MIB, 768 * MIB, 2047 * MIB, 2048 * MIB, 2049 * MIB, 9 << 30])
    lags = st.sampled_from([0, 1, LAG_STEADY_MAX, LAG_STEADY_MAX + 1, 4096, 4097])
    assert before.engine is not None
    members = tuple(replace(member, lag_entries=data.draw(lags)) for member in before.engine.members)
    pods = tuple(
        replace(pod, report=replace(pod.report, free_bytes=data.draw(free), copy_bytes=data.draw(free)))
        for pod in before.pods
        if pod.report is not None
    )
    after = replace(before, engine=replace(before.engine, members=members), pods=pods)
    if words(world, before) == words(world, after) and is_calm(world, before):
        later = world.now + data.draw(st.integers(0, CALM_S))
        found = plan(world.cluster, after, later)
        assert not found.steps
        assert found.status == before.status


def words(world: World, observed: Observed) -> Any:
    reports = {pod.ordinal: pod.report for pod in observed.pods if pod.report is not None}
    return told(reports, observed.engine, observed.status)


def test_every_other_word_of_a_member_is_told_apart() -> None:
    world = quiet_world()
    observed = world.observe()
    assert observed.engine is not None
    report = observed.pods[0].report
    assert report is not None
    before = told({0: report}, observed.engine, observed.status)
    other: Any
    for one in dataclasses.fields(report):
        other = {"free_bytes": 1, "copy_bytes": report.copy_bytes + 1}.get(one.name, object())
        after = told({0: replace(report, **{one.name: other})}, observed.engine, observed.status)
        assert (after == before) is (one.name == "copy_bytes"), one.name
    first, *others = observed.engine.members
    for one in dataclasses.fields(first):
        other = LAG_STEADY_MAX + 1 if one.name == "lag_entries" else object()
        engine = replace(observed.engine, members=(replace(first, **{one.name: other}), *others))
        assert told({0: report}, engine, observed.status) != before, one.name
    for one in dataclasses.fields(observed.engine):
        other = () if one.name == "members" else object()
        engine = replace(observed.engine, **{one.name: other})
        assert (told({0: report}, engine, observed.status) == before) is (one.name == "pods_mark"), one.name
    assert told({0: report}, None, observed.status) != before


# --- the whole operator ---------------------------------------------------------------------------------------------


def test_looks_of_many_clusters_do_not_fall_due_together() -> None:
    clock, keys = Clock(), [("ns", f"locks-{n}") for n in range(1_000)]
    clock.now = 12_345.6
    quiet = Quiet(clock)
    for key in keys:
        quiet.begin(key)
        quiet.keep(key, object())  # type: ignore[arg-type]
    began = clock.now
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        clock.now = began + share * CALM_S
        still = sum(quiet.of(key) is not None for key in keys)
        assert abs(still - 1_000 * (1 - share)) < 100
    assert still == 0


async def test_a_resync_queues_what_is_not_as_remembered_and_nothing_else(idle: HostWorld) -> None:
    one = Operator(load({"identity": "me"}), idle.kube, idle.members)
    one.passes = idle.passes
    new = {"name": "new", "namespace": "ns"}
    idle.api.put({"apiVersion": "lockmaster.dev/v1alpha1", "kind": "LockCluster", "metadata": new, "spec": {}})
    await resynced(one)
    assert set(one.queue._due) == {("ns", "new")}
    assert set(one.minder.queue._due) == {("LockCluster", "ns", "new")}
    stored = idle.api.objects["LockCluster", "ns", "locks"]
    idle.api.objects["LockCluster", "ns", "locks"] = {
        **stored,
        "metadata": {**stored["metadata"], "resourceVersion": "later"},
    }
    await resynced(one)
    assert set(one.queue._due) == {("ns", "new"), KEY}
    assert set(one.minder.queue._due) == {("LockCluster", *key) for key in (("ns", "new"), KEY)}
    assert idle.passes.quiet.of(KEY) is None


async def test_a_look_that_rests_is_woken_by_another_word_of_the_leader_and_by_its_silence(idle: HostWorld) -> None:
    one = Operator(load({"identity": "me"}), idle.kube, idle.members)
    one.sessions.now = lambda: 100.0
    resting = one.sessions._looks[KEY] = _Look(0.0, 30.0, 1_800.0)
    item = ("LockCluster", *KEY)
    one.passes.heard(KEY, 7)
    assert list(one.minder.queue._due) == [item]
    resting.rests_until = 1_800.0
    one.minder.queue._due.clear()
    one.passes.heard(KEY, 7)
    assert list(one.minder.queue._due) == []
    one.sessions.now = lambda: 100.0 + STANDS_S
    idle.api.faults.append(Fault("GET", "LockCluster", 500, count=100))
    resync = asyncio.create_task(one._resync())
    await until(lambda: list(one.minder.queue._due) == [item])
    resync.cancel()


async def resynced(one: Operator) -> None:
    one._resynced = -1.0
    resync = asyncio.create_task(one._resync())
    await until(lambda: one._resynced > 0)
    resync.cancel()


@pytest.mark.parametrize("kind", ["LockRestore", "QuorumRecovery"])
async def test_whoever_names_a_cluster_has_it_looked_at(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", api.kubeconfig(tmp_path))
    keys: list[Any] = []
    ready, stop = asyncio.Event(), asyncio.Event()
    ages = WatchAges(RESOURCES_WATCHED)
    watching = asyncio.create_task(watch(keys.append, lambda *_: None, ages, (), "me", ready, stop))
    await until(lambda: len(api.watches) == RESOURCES_WATCHED)
    spec = {"clusterRef": {"name": "locks"}}
    api.put({"kind": kind, "metadata": {"name": "one", "namespace": "ns"}, "spec": spec})
    await until(lambda: keys == [KEY])
    api.remove(kind, "ns", "one")
    await until(lambda: keys == [KEY, KEY])
    stop.set()
    await watching
