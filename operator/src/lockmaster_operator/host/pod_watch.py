"""The last that was observed of clients' pods: a watch of each namespace that has pod-bound sessions, and no other.

Laws.
1. What is kept of a pod was read from the API server. A pod that went while nobody watched keeps what was last seen
   of it, which is less: nothing is made up.
2. At most NAMESPACES_MAX watches and PODS_MAX pods; of pods that are gone the oldest make room first.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.host.queue import Key
from lockmaster_operator.kinds.pod_sessions import Container, PodLast

_log = logging.getLogger(__name__)
NAMESPACES_MAX: Final = 64
PODS_MAX: Final = 50_000
AGAIN_S: Final = 1.0
AGAIN_S_MAX: Final = 60.0
_UNKNOWN: Final = "ContainerStatusUnknown"
"""The kubelet's reason where it found no trace of a container: not its word that it has ended."""
_TERMINAL: Final = ("Succeeded", "Failed")


def last_of(pod: Mapping[str, Any], there: bool = True) -> PodLast:
    """What is kept of a pod as stored. Total."""
    metadata, spec, status = (pod.get(part) or {} for part in ("metadata", "spec", "status"))
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
    containers: list[Container] = []
    for wanted, told in (
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
        ("ephemeralContainers", "ephemeralContainerStatuses"),
    ):
        states = {str(one.get("name")): one.get("state") or {} for one in status.get(told) or ()}
        containers += [_container(states.get(str(one.get("name")), {})) for one in spec.get(wanted) or ()]
    return PodLast(
        uid=str(metadata.get("uid", "")),
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        node=str(spec.get("nodeName") or ""),
        there=there,
        terminal=status.get("phase") in _TERMINAL,
        ready=ready,
        containers=tuple(containers),
        made=str(metadata.get("creationTimestamp") or ""),
    )


def _container(state: Mapping[str, Any]) -> Container:
    """By what the kubelet says alone: nobody else writes containers' statuses."""
    ended = state.get("terminated")
    known = isinstance(ended, dict) and ended.get("reason") != _UNKNOWN and bool(ended.get("finishedAt"))
    return Container.TERMINATED if known and len(state) == 1 else Container.OTHER


class PodWatches:
    """For one event loop; `close` at the end."""

    def __init__(self, kube: Kube, namespaces: tuple[str, ...], changed: Callable[[Key], None]) -> None:
        """`namespaces`: those that may be read, all if empty. `changed`: a cluster's pods are worth another look."""
        self.pods: OrderedDict[str, PodLast] = OrderedDict()
        """By UID."""
        self._kube = kube
        self._allowed = namespaces
        self._changed = changed
        self._wanted: dict[Key, frozenset[str]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def want(self, cluster: Key, namespaces: Iterable[str]) -> None:
        """The namespaces in which this cluster's clients run, from now on; those that nobody wants are let go."""
        found = frozenset(n for n in namespaces if n and (not self._allowed or n in self._allowed))
        self._wanted[cluster] = found
        if not found:
            del self._wanted[cluster]
        wanted = sorted(set().union(*self._wanted.values()))[:NAMESPACES_MAX]
        for namespace in [name for name in self._tasks if name not in wanted]:
            self._tasks.pop(namespace).cancel()
            for uid in [uid for uid, pod in self.pods.items() if pod.namespace == namespace]:
                del self.pods[uid]
        for namespace in wanted:
            if namespace not in self._tasks:
                self._tasks[namespace] = asyncio.create_task(self._follow(namespace), name=f"pods-{namespace}")

    async def close(self) -> None:
        """End all watches."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, namespace: str) -> None:
        wait = AGAIN_S
        while True:
            try:
                items, version = await self._kube.list_at("Pod", namespace)
                self._listed(namespace, items)
                while True:  # a watch that has ended goes on where it was: what a list misses is a pod's last word
                    async for kind, pod in self._kube.watch("Pod", namespace, version):
                        self._take(last_of(pod, there=kind != "DELETED"))
                        version = str(pod["metadata"]["resourceVersion"])
                    wait = AGAIN_S
                    await asyncio.sleep(wait * random.random())
            except KubeError as error:
                _log.warning("pods of namespace %s: %s; again in %.0f s", namespace, error, wait)
            except Exception:
                _log.exception("pods of namespace %s: the watch failed in a way nobody foresaw", namespace)
            await asyncio.sleep(wait * (0.5 + 0.5 * random.random()))
            wait = min(2 * wait, AGAIN_S_MAX)

    def _listed(self, namespace: str, items: list[Json]) -> None:
        there = {str(item["metadata"]["uid"]) for item in items}
        for uid, pod in list(self.pods.items()):
            if pod.namespace == namespace and pod.there and uid not in there:
                self._take(PodLast(**{**_fields(pod), "there": False}))
        for item in items:
            self._take(last_of(item))

    def _take(self, pod: PodLast) -> None:
        before = self.pods.get(pod.uid)
        if before == pod:
            return
        self.pods[pod.uid] = pod
        self.pods.move_to_end(pod.uid)
        while len(self.pods) > PODS_MAX:
            gone = next((uid for uid, one in self.pods.items() if not one.there), next(iter(self.pods)))
            del self.pods[gone]
        if pod.terminal or not pod.ready or not pod.there:
            for cluster, namespaces in self._wanted.items():
                if pod.namespace in namespaces:
                    self._changed(cluster)


def _fields(pod: PodLast) -> dict[str, Any]:
    return {name: getattr(pod, name) for name in PodLast.__dataclass_fields__}
