"""Who may review tokens: the members' accounts of the LockClusters that are, as subjects of one ClusterRoleBinding.

The chart makes the binding and its role. The operator may patch this binding and give away this role, and no other.
Nothing here raises for what the API server says: without the right, login by token is refused and all else goes on;
the resync tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from lockmaster_operator.desired.names import Cluster, Settings, account_of, logs_in
from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.host.queue import Key
from lockmaster_operator.plan import read_cluster

_log = logging.getLogger(__name__)
SUBJECTS_MAX: Final = 10_000
Subject = tuple[str, str]
"""Namespace and name of a ServiceAccount."""


def wanted(clusters: Iterable[Json], settings: Settings) -> tuple[Subject, ...]:
    """The accounts of these LockClusters as stored; at most SUBJECTS_MAX. Pure."""
    found = set()
    for stored in clusters:
        cluster = read_cluster(stored)
        if isinstance(cluster, Cluster) and not cluster.deleting and logs_in(cluster, settings):
            found.add((cluster.namespace, account_of(cluster.name)))
    return tuple(sorted(found)[:SUBJECTS_MAX])


class Reviewers:
    """Keeps the binding; for one event loop."""

    def __init__(self, kube: Kube, binding: str, settings: Settings) -> None:
        """`binding`: its name; empty: there is none, and nothing is done."""
        self._kube = kube
        self._binding = binding
        self._settings = settings
        self._known: frozenset[Subject] = frozenset()
        self._versions: Mapping[Key, str] | None = None
        self._wanted: tuple[Subject, ...] = ()

    async def add(self, cluster: Cluster) -> None:
        """Its members may ask from now on."""
        subject = (cluster.namespace, account_of(cluster.name))
        if self._binding and subject not in self._known and not cluster.deleting and logs_in(cluster, self._settings):
            await self._write(lambda there: {*there, subject})

    async def resync(self, versions: Mapping[Key, str], read: Callable[[], Awaitable[Iterable[Json]]]) -> None:
        """These are all LockClusters, with their resourceVersions: nobody else may ask. `read` gets them whole; it is
        called only where a version is another than last time. Raises what it does."""
        if not self._binding:
            return
        if versions != self._versions:
            self._wanted = wanted(await read(), self._settings)
            self._versions = versions
        now = self._wanted
        await self._write(lambda there: set(now))

    async def _write(self, change: Callable[[set[Subject]], set[Subject]]) -> None:
        try:
            await self._replace(change)
        except KubeError as error:
            _log.warning("who may review tokens is not written: %s", error)

    async def _replace(self, change: Callable[[set[Subject]], set[Subject]]) -> None:
        live = await self._kube.get("ClusterRoleBinding", "", self._binding)
        if live is None:
            _log.warning("ClusterRoleBinding %s is gone: no login by ServiceAccount token", self._binding)
            return
        subjects = live.get("subjects") or ()
        there = {(str(one.get("namespace", "")), str(one.get("name", ""))) for one in subjects}
        after = sorted(change(there))[:SUBJECTS_MAX]
        if set(after) != there:
            rows = [{"kind": "ServiceAccount", "namespace": namespace, "name": name} for namespace, name in after]
            version = {"resourceVersion": live["metadata"]["resourceVersion"]}  # 409 if it is another by now
            patch = {"metadata": version, "subjects": rows}
            await self._kube.merge("ClusterRoleBinding", "", self._binding, patch)
        self._known = frozenset(after)
