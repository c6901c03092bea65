"""Sessions of pods that are over (operator.md §5): a row for every rule, and for every doubt that does nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration
from lockmaster import TLS, AsyncClient
from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.pod_sessions import INTERVAL_S, OFF_S, PodSessions, node_of
from lockmaster_operator.host.pod_watch import PodWatches, last_of
from lockmaster_operator.host.reviewers import Reviewers, wanted
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.kinds.pod_sessions import (
    ENDS_MAX,
    EVENT,
    NODES_MAX,
    Bound,
    Container,
    NodeSeen,
    PodLast,
    nodes_wanted,
    plan_ends,
    why_over,
)
from lockmaster_operator.models.lock_cluster import LockClusterSpec

from tests.service.server.test_login import UID, Place, token_of

from .fake_api import FakeApi, Fault

SESSION = Bound(7, "shop", "worker-1", UID)
WAIT = 20


def container(name: str, **state: Any) -> dict[str, Any]:
    return {"name": name, "state": state}


EARLIER, MADE, LATER = (f"2026-11-26T09:00:0{second}Z" for second in range(3))
ENDED = {"exitCode": 137, "reason": "Error", "finishedAt": "2026-11-26T10:00:00Z"}


def pod(phase: str = "Running", main: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """As stored: one container, which runs unless `main` says otherwise."""
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": [{"type": "Ready", "status": "True" if phase == "Running" else "False"}],
        "containerStatuses": [container("main", **(main if main is not None else {"running": {}}))],
    }
    status.update(changes.pop("status", {}))
    spec = {"nodeName": "node-1", "containers": [{"name": "main"}], **changes.pop("spec", {})}
    metadata = {"name": "worker-1", "namespace": "shop", "uid": UID, "creationTimestamp": MADE}
    metadata.update(changes.pop("metadata", {}))
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


DEAD = pod("Failed", {"terminated": ENDED})
SIDECAR = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}
PROBE = {"ephemeralContainers": [{"name": "probe"}]}
DOWN = NodeSeen("node-1", out_of_service=True, ready=False, made=EARLIER)
TERMINATED = {"terminated": ENDED}


@pytest.mark.parametrize(
    ("stored", "there", "node", "over"),
    [
        # by the kubelet's word
        (DEAD, True, None, "all containers have terminated"),
        (DEAD, False, None, "all containers have terminated"),
        (pod("Succeeded", TERMINATED), False, None, "all containers have terminated"),
        (
            pod(
                "Failed", TERMINATED, spec=SIDECAR, status={"initContainerStatuses": [container("proxy", **TERMINATED)]}
            ),
            True,
            None,
            "all containers have terminated",
        ),
        # by a person's, about the node
        (pod(), True, DOWN, "node node-1 is out of service"),
        (pod(), False, DOWN, "node node-1 is out of service"),
        (pod("Pending", {"waiting": {}}), False, DOWN, "node node-1 is out of service"),
        # doubt: the object's absence says nothing
        (pod(), False, None, ""),
        (pod(metadata={"deletionTimestamp": "2026-11-26T10:00:00Z"}), True, None, ""),
        (pod(metadata={"deletionTimestamp": "2026-11-26T10:00:00Z"}), False, None, ""),
        # doubt: the kubelet may start it again, or has already
        (pod("Running", TERMINATED), True, None, ""),
        (pod("Running", TERMINATED), False, None, ""),
        (pod("Running", {"waiting": {"reason": "CrashLoopBackOff"}}), True, None, ""),
        # doubt: the phase is another's word (the pod collector writes Failed, and no container's status)
        (pod("Failed"), True, None, ""),
        (pod("Failed"), False, None, ""),
        (pod("Unknown", TERMINATED), True, None, ""),
        # doubt: the kubelet itself does not know
        (pod("Failed", {"terminated": {**ENDED, "reason": "ContainerStatusUnknown"}}), True, None, ""),
        (pod("Failed", {"terminated": {"exitCode": 0}}), True, None, ""),
        (pod("Failed", {}), True, None, ""),
        (pod("Failed", {**TERMINATED, "running": {}}), True, None, ""),
        (pod("Failed", TERMINATED, status={"containerStatuses": []}), True, None, ""),
        (pod("Failed", TERMINATED, status={"containerStatuses": None}), True, None, ""),
        (pod("Failed", TERMINATED, status={"containerStatuses": [container("other", **TERMINATED)]}), True, None, ""),
        (pod("Failed", TERMINATED, spec={"containers": []}), True, None, ""),
        # doubt: another container of the pod
        (pod("Failed", TERMINATED, spec={"containers": [{"name": "main"}, {"name": "second"}]}), True, None, ""),
        (pod("Failed", TERMINATED, spec=SIDECAR), True, None, ""),
        (
            pod("Failed", TERMINATED, spec=SIDECAR, status={"initContainerStatuses": [container("proxy", running={})]}),
            True,
            None,
            "",
        ),
        (
            pod(
                "Failed",
                TERMINATED,
                spec=PROBE,
                status={"ephemeralContainerStatuses": [container("probe", running={})]},
            ),
            True,
            None,
            "",
        ),
        # doubt: the node
        (pod(), True, NodeSeen("node-1", out_of_service=True, ready=True, made=EARLIER), ""),
        (pod(), True, NodeSeen("node-1", out_of_service=False, ready=False, made=EARLIER), ""),
        (pod(), False, NodeSeen("node-1", out_of_service=False, ready=False, made=EARLIER), ""),
        (pod(), True, NodeSeen("node-2", out_of_service=True, ready=False, made=EARLIER), ""),
        (pod(), True, replace(DOWN, made=MADE), "node node-1 is out of service"),
        # doubt: another machine may have had the node's name
        (pod(), True, replace(DOWN, made=LATER), ""),
        (pod(), False, replace(DOWN, made=LATER), ""),
        (pod(), True, replace(DOWN, made=""), ""),
        (pod(metadata={"creationTimestamp": None}), True, DOWN, ""),
        (pod(spec={"nodeName": None}), True, DOWN, ""),
        (pod(spec={"nodeName": ""}), True, NodeSeen("", out_of_service=True, ready=False, made=EARLIER), ""),
        # doubt: it is another pod's session
        ({**DEAD, "metadata": {**DEAD["metadata"], "uid": "another"}}, True, DOWN, ""),
        ({**DEAD, "metadata": {**DEAD["metadata"], "name": "worker-2"}}, True, DOWN, ""),
        ({**DEAD, "metadata": {**DEAD["metadata"], "namespace": "infra"}}, True, DOWN, ""),
        # doubt: nothing was said
        ({}, True, DOWN, ""),
        ({"metadata": DEAD["metadata"]}, True, None, ""),
        ({"metadata": DEAD["metadata"], "spec": DEAD["spec"]}, True, None, ""),
    ],
)
def test_a_session_is_over_by_these_words_and_no_others(
    stored: dict[str, Any], there: bool, node: NodeSeen | None, over: str
) -> None:
    found = why_over(SESSION, last_of(stored, there), node)
    assert found.endswith(over)
    assert bool(found) is bool(over)


def test_a_pod_that_was_never_observed_is_in_doubt() -> None:
    assert why_over(SESSION, None, DOWN) == ""
    assert plan_ends([SESSION], {}, {"node-1": DOWN}) == ((), False)


def test_the_pod_of_the_same_name_that_came_after_says_nothing_about_the_one_before() -> None:
    after = last_of({**DEAD, "metadata": {**DEAD["metadata"], "uid": "after"}})
    assert plan_ends([SESSION], {"after": after}, {"node-1": DOWN}) == ((), False)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({}, NodeSeen("n", False, True)),
        ({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, NodeSeen("n", False, False)),
        ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, NodeSeen("n", False, False)),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service"}]}}, NodeSeen("n", True, True)),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/unreachable"}]}}, NodeSeen("n", False, True)),
        ({"metadata": {"creationTimestamp": MADE}}, NodeSeen("n", False, True, MADE)),
    ],
)
def test_a_node_is_away_only_if_somebody_says_so(node: dict[str, Any], told: NodeSeen) -> None:
    assert node_of("n", node) == told


def test_nodes_are_asked_for_only_where_a_pod_is_suspect_and_never_too_many() -> None:
    fine, suspect = last_of(pod()), last_of(DEAD)
    assert nodes_wanted([SESSION], {UID: fine}) == ()
    assert nodes_wanted([SESSION], {UID: suspect}) == nodes_wanted([SESSION], {UID: replace(fine, there=False)})
    assert nodes_wanted([SESSION], {UID: suspect}) == ("node-1",)
    many = {str(n): PodLast(str(n), "shop", f"w-{n}", f"node-{n}") for n in range(NODES_MAX + 9)}
    sessions = [Bound(n, "shop", f"w-{n}", str(n)) for n in range(NODES_MAX + 9)]
    assert len(nodes_wanted(sessions, many)) == NODES_MAX


def test_a_pass_ends_a_bounded_number_and_says_that_more_are_left() -> None:
    gone = PodLast(UID, "shop", "worker-1", terminal=True, containers=(Container.TERMINATED,))
    sessions = [replace(SESSION, session_id=n) for n in range(ENDS_MAX + 1, 0, -1)]
    ends, more = plan_ends(sessions, {UID: gone}, {})
    assert ([end.session.session_id for end in ends], more) == (list(range(1, ENDS_MAX + 1)), True)
    assert len({end.idempotency_key() for end in ends}) == ENDS_MAX
    assert plan_ends(sessions[:-1], {UID: gone}, {})[1] is False


# -- with a real member and an API server over HTTP


class World:
    """A member with pods' sessions, an API server, and the operator's part between them."""

    def __init__(self, path: Path) -> None:
        self.place, self.api, self.now = Place(path), FakeApi(), 0.0
        self.opened = self.open_now = 0
        self.woken = asyncio.Event()
        self.closing = contextlib.AsyncExitStack()

    async def start(self) -> None:
        await self.place.start()
        await self.api.start()
        client = ApiClient(Configuration(host=self.api.url))
        kube = Kube(client)
        self.watches = PodWatches(kube, (), self._changed)
        told = Settings(logins=True)
        self.passes = PodSessions(
            kube, self, Teller(kube, "test"), told, self.watches, now=lambda: self.now, phase=lambda _: 0.0
        )
        self.closing.push_async_callback(self.place.stop)
        self.closing.push_async_callback(client.close)
        self.closing.push_async_callback(self.api.stop)
        self.closing.push_async_callback(self.watches.close)
        self.closing.push_async_callback(self.passes.close)

    def _changed(self, key: tuple[str, str]) -> None:
        self.passes.look_soon(key)
        self.woken.set()

    @contextlib.asynccontextmanager
    async def open(self, namespace: str, name: str) -> AsyncIterator[AsyncClient]:
        cert, key = self.place.files["admin"]
        address = self.place.server.bound_address
        self.opened += 1
        self.open_now += 1
        try:
            async with AsyncClient(address, tls=TLS(self.place.authority.path, cert, key)) as client:
                yield client
        finally:
            self.open_now -= 1

    def pod_client(self) -> AsyncClient:
        """As the pod's process makes it, with a session that does not end by its TTL."""
        tls = self.place.tls(token_of())
        return AsyncClient(self.place.server.login_address, tls=tls, ttl=600, lock_delay=0)

    def put_cluster(self, **spec: Any) -> None:
        self.api.put(
            {
                "kind": "LockCluster",
                "metadata": {"name": "locks", "namespace": "ns"},
                "spec": {"version": "0.2.0", **spec},
            }
        )

    async def make(self) -> float | None:
        """A pass, later than any that is due."""
        self.now += OFF_S
        return await self.passes.make(("ns", "locks"))

    async def woken_by(self, change: Any) -> None:
        """Until the watch has told of this change."""
        self.woken.clear()
        change()
        await self.woken.wait()

    def events(self) -> list[dict[str, Any]]:
        return [body for (kind, _, _), body in self.api.objects.items() if kind == "Event"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.closing:
        await made.start()
        yield made


async def watching(world: World) -> None:
    while not world.api.watches:
        await asyncio.sleep(0.01)


async def test_the_session_of_a_pod_that_has_ended_goes_at_once_and_once(world: World) -> None:
    world.put_cluster()
    world.api.put(pod())
    async with asyncio.timeout(WAIT), world.pod_client() as client:
        lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await client.lock("orders", on_lost=lost.set_result).acquire()
        assert await world.make() == INTERVAL_S
        await watching(world)
        assert not lost.done()
        await world.woken_by(lambda: world.api.put(DEAD))
        await world.make()
        await lost
        (event,) = world.events()
        assert (event["reason"], event["type"]) == (EVENT, "Normal")
        assert f"pod shop/worker-1 ({UID}): all containers have terminated" in event["note"]
        before = len(world.api.writes())
        await world.make()
        assert len(world.api.writes()) == before


async def test_a_forced_delete_alone_ends_nothing_and_the_node_s_taint_then_does(world: World) -> None:
    world.put_cluster()
    world.api.put(pod())
    node = {"kind": "Node", "metadata": {"name": "node-1", "creationTimestamp": EARLIER}}
    away = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    world.api.put({**node, "status": away})
    async with asyncio.timeout(WAIT), world.pod_client() as client:
        held = await client.lock("orders").acquire()
        await world.make()
        await watching(world)
        await world.woken_by(lambda: world.api.remove("Pod", "shop", "worker-1"))
        await world.make()
        held.ensure()
        assert world.events() == []
        world.api.put({**node, "status": away, "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service"}]}})
        await world.make()
        assert "node node-1 is out of service" in world.events()[0]["note"]


async def test_a_node_that_cannot_be_read_leaves_its_pods_in_doubt_and_no_others(world: World) -> None:
    world.put_cluster()
    world.api.put(pod())
    world.api.faults.append(Fault("GET", "Node", 403, count=9))
    async with asyncio.timeout(WAIT), world.pod_client() as client:
        held = await client.lock("orders").acquire()
        await world.make()
        await watching(world)
        await world.woken_by(lambda: world.api.remove("Pod", "shop", "worker-1"))
        assert await world.make() == INTERVAL_S
        held.ensure()
        await world.woken_by(lambda: world.api.put(DEAD))
        await world.make()
        assert len(world.events()) == 1


async def test_a_pod_that_went_while_the_watch_was_cut_keeps_what_was_last_seen_of_it(world: World) -> None:
    world.api.put(pod())
    async with asyncio.timeout(WAIT):
        world.watches.want(("ns", "locks"), {"shop"})
        await watching(world)
        del world.api.objects["Pod", "shop", "worker-1"]
        (watch,) = world.api.watches
        watch[2].put_nowait({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
        await world.woken.wait()
        assert world.watches.pods[UID] == replace(last_of(pod()), there=False)


async def test_a_watch_that_has_ended_goes_on_where_it_was(world: World) -> None:
    """A list in between would take the last word of a pod that ended and went meanwhile for nothing."""
    world.api.put(pod())
    async with asyncio.timeout(WAIT):
        world.watches.want(("ns", "locks"), {"shop"})
        await watching(world)
        await world.woken_by(lambda: world.api.put(pod("Running", {"waiting": {}}, status={"conditions": []})))
        lists = world.api.requests.count(("GET", "Pod", ""))
        (watch,) = world.api.watches
        watch[2].put_nowait(None)
        while world.api.watches in ([], [watch]):
            await asyncio.sleep(0.01)
        assert world.api.requests.count(("GET", "Pod", "")) == lists + 1  # the watch itself
        assert world.api.watched_from[-1] == world.api.objects["Pod", "shop", "worker-1"]["metadata"]["resourceVersion"]
        await world.woken_by(lambda: world.api.put(DEAD))
        assert world.watches.pods[UID] == last_of(DEAD)


async def test_nobody_is_asked_and_nothing_watched_where_login_is_off(world: World) -> None:
    world.put_cluster(auth={"serviceAccounts": {"enabled": False}})
    world.watches.want(("ns", "locks"), {"shop"})
    assert await world.make() == OFF_S
    world.api.remove("LockCluster", "ns", "locks")
    assert await world.make() is None
    assert not world.watches._tasks


# -- who may review tokens


def cluster(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "generation": 1}
    return {"kind": "LockCluster", "metadata": metadata, "spec": {"version": "0.2.0", **spec}}


def test_the_accounts_of_clusters_with_login_review_tokens_and_no_others() -> None:
    off = cluster("off", auth={"serviceAccounts": {"enabled": False}})
    gone = cluster("gone")
    gone["metadata"]["deletionTimestamp"] = "2026-11-26T10:00:00Z"
    stored = [cluster("b"), cluster("a"), off, gone, {"metadata": {}, "spec": {}}]
    assert wanted(stored, Settings(logins=True)) == (("ns", "a-member"), ("ns", "b-member"))
    assert wanted(stored, Settings()) == ()


async def test_the_binding_follows_the_clusters_and_is_left_alone_while_it_is_right(world: World) -> None:
    kube, told = world.passes.kube, Settings(logins=True)
    spec = LockClusterSpec(version="0.2.0")
    reviewers = Reviewers(kube, "review", told)
    read: list[int] = []

    async def resync(version: str, *names: str) -> None:
        async def clusters() -> list[dict[str, Any]]:
            read.append(1)
            return [cluster(name) for name in names]

        await reviewers.resync({("ns", name): version for name in names}, clusters)

    await resync("1", "a")  # not there: said in the log, and nothing else
    world.api.put({"kind": "ClusterRoleBinding", "metadata": {"name": "review"}})
    await reviewers.add(Cluster("b", "ns", "u", 1, spec))
    await reviewers.add(Cluster("b", "ns", "u", 1, spec))
    assert len(world.api.writes()) == 1
    await resync("2", "a", "b")
    await resync("2", "a", "b")
    assert len(world.api.writes()) == 2
    assert len(read) == 2, "they are the same as a minute ago"
    subjects = world.api.objects["ClusterRoleBinding", "", "review"]["subjects"]
    assert [(one["kind"], one["namespace"], one["name"]) for one in subjects] == [
        ("ServiceAccount", "ns", "a-member"),
        ("ServiceAccount", "ns", "b-member"),
    ]
    await resync("3")
    assert world.api.objects["ClusterRoleBinding", "", "review"]["subjects"] == []
