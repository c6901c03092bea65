"""kopf, for watching alone: its handlers put keys into the queue, and it is told to write nothing.

Only `on.event`: state handlers would leave annotations, daemons and timers finalizers (operator.md §2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import kopf

from lockmaster_operator.desired.names import MANAGER
from lockmaster_operator.host.kube import RESOURCES
from lockmaster_operator.host.minding import KINDS
from lockmaster_operator.host.queue import Key
from lockmaster_operator.host.watch_ages import WATCH_SECONDS, WatchAges
from lockmaster_operator.models.part import GROUP, VERSION

INSTANCE: Final = "app.kubernetes.io/instance"
MANAGED: Final = f"app.kubernetes.io/managed-by={MANAGER}"
"""What is watched besides LockClusters: the server sends nothing else."""
OWNED: Final = (
    ("", "v1", "pods"),
    ("", "v1", "persistentvolumeclaims"),
    ("", "v1", "services"),
    ("", "v1", "configmaps"),
    ("apps", "v1", "statefulsets"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "networkpolicies"),
)
RESOURCES_WATCHED: Final = len(OWNED) + len({"LockCluster", *KINDS})
"""How many watches there are, in each namespace that is named, or of the whole cluster."""
NAMING: Final = ("LockRestore", "QuorumRecovery")
"""Kinds of ours that change what is to be done about the LockCluster which they name."""
REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0


class _NoProgress(kopf.ProgressStorage):
    """Nothing is remembered in objects."""

    def fetch(self, **_: Any) -> None:
        """Nothing."""

    def store(self, **_: Any) -> None:
        """Nothing."""

    def purge(self, **_: Any) -> None:
        """Nothing."""

    def clear(self, *, essence: Any) -> Any:
        """The same."""
        return essence

    def touch(self, **_: Any) -> None:
        """Nothing."""


class _NoDiffBase(kopf.DiffBaseStorage):
    """No last-handled configuration is kept in objects."""

    def fetch(self, **_: Any) -> None:
        """Nothing."""

    def store(self, **_: Any) -> None:
        """Nothing."""


def settings() -> kopf.OperatorSettings:
    """kopf's settings: no posting, no peering, no scanning, no storage; every call with a deadline."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.peering.standalone = True
    found.scanning.disabled = True
    found.networking.request_timeout = REQUEST_SECONDS
    found.networking.connect_timeout = CONNECT_SECONDS
    found.networking.enforce_retry_after = True
    found.watching.connect_timeout = CONNECT_SECONDS
    found.watching.reconnect_backoff = 1.0
    found.watching.server_timeout = WATCH_SECONDS
    found.watching.client_timeout = WATCH_SECONDS + REQUEST_SECONDS
    found.persistence.progress_storage = _NoProgress()
    found.persistence.diffbase_storage = _NoDiffBase()
    for group, version, plural in OWNED:
        found.watching.label_selectors[group, version, plural] = MANAGED
    return found


def registry(
    enqueue: Callable[[Key], None], mind: Callable[[str, Key], None], ages: WatchAges
) -> kopf.OperatorRegistry:
    """The handlers, all of which only enqueue: the LockCluster that an object is, belongs to or (NAMING) names, or
    (`mind`) the object itself where it is of another of our kinds."""
    found = kopf.OperatorRegistry()

    async def cluster_changed(name: str | None, namespace: str | None, **_: Any) -> None:
        if name and namespace:
            enqueue((namespace, name))

    async def owned_changed(labels: Mapping[str, str], namespace: str | None, **_: Any) -> None:
        name = labels.get(INSTANCE, "")
        if name and namespace:
            enqueue((namespace, name))

    kopf.on.event(GROUP, VERSION, "lockclusters", registry=found, id="cluster")(cluster_changed)
    for group, version, plural in OWNED:
        kopf.on.event(group, version, plural, registry=found, id=plural)(owned_changed)

    for kind in KINDS:
        kopf.on.event(GROUP, VERSION, RESOURCES[kind][1], registry=found, id=kind)(_minds(enqueue, mind, kind))

    # A coroutine: it runs in the loop that its session is for.
    async def login(**given: Any) -> kopf.AiohttpSession | None:
        return ages.session_of(kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given))

    kopf.on.login(registry=found, id="login")(login)
    return found


def _minds(enqueue: Callable[[Key], None], mind: Callable[[str, Key], None], kind: str) -> Callable[..., Any]:
    async def changed(
        name: str | None, namespace: str | None, spec: Mapping[str, Any] = MappingProxyType({}), **_: Any
    ) -> None:
        if name and namespace:
            mind(kind, (namespace, name))
            named = spec.get("clusterRef", {}).get("name", "")
            if kind in NAMING and named:
                enqueue((namespace, named))

    return changed


async def watch(
    enqueue: Callable[[Key], None],
    mind: Callable[[str, Key], None],
    ages: WatchAges,
    namespaces: tuple[str, ...],
    identity: Any,
    ready: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Watches until `stop` is set. `ready` is set once the watches run. Raises what ends a watch for good.

    `ages` is told whenever one is opened.

    `identity`: a text (kopf's own type for it is not public); without it kopf asks for a user name that a pod has not.
    """
    await kopf.operator(
        identity=identity,
        registry=registry(enqueue, mind, ages),
        settings=settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
        stop_flag=stop,
    )
