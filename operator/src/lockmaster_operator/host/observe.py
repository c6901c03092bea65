"""Reads everything that a plan needs of one LockCluster: Kubernetes' objects, and each member's own word."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from lockmaster_operator.desired.certificates import Purpose, certificates, secret_name
from lockmaster_operator.desired.compare import key_of
from lockmaster_operator.desired.names import (
    CLIENT_PORT,
    LEADS_LABEL,
    ROLE_LABEL,
    TEMPLATE_LABEL,
    Cluster,
    Settings,
    host_of,
    selector_text,
)
from lockmaster_operator.desired.objects import Decided, render
from lockmaster_operator.host.engine import Answers, Engine
from lockmaster_operator.host.issuing import BadSecret, Held, Pems, held_of, seen
from lockmaster_operator.host.kube import RESOURCES, Json, Kube, KubeError
from lockmaster_operator.host.refusals import pods_refused
from lockmaster_operator.models.backups import RestorePhase
from lockmaster_operator.models.lock_cluster import TlsMode
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus
from lockmaster_operator.models.quorum_recovery import RecoveryPhase
from lockmaster_operator.observed import PODS_MAX, ClaimSeen, Observed, PodSeen

_CONTAINER: Final = "lockmaster"
_OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"
_HOST_LABEL: Final = "kubernetes.io/hostname"
_NAMES_ONLY: Final = Decided(0, "1Gi", frozenset(), client_authority="-")


@dataclass(frozen=True, slots=True)
class Look:
    """One look: what the plan takes, and what carrying it out needs."""

    observed: Observed
    addresses: Mapping[int, str]
    """host:port of the client port of every pod, by ordinal."""
    asked: Mapping[int, str]
    """The same of those that run: of these something is known."""
    said: Answers
    """By their members."""
    tls: Pems | None
    """The operator's own certificate; None: there is none yet."""


def status_of(stored: Mapping[str, Any]) -> LockClusterStatus:
    """The status as stored; an empty one if it cannot be read: what it held is found out again."""
    try:
        return LockClusterStatus.model_validate(stored.get("status") or {})
    except ValidationError:
        return LockClusterStatus()


async def look(
    kube: Kube, engine: Engine, cluster: Cluster, stored: Mapping[str, Any], settings: Settings, reads_cluster: bool
) -> Look:
    """Everything about one cluster, as it is now. Raises KubeError if Kubernetes cannot be read."""
    mine = selector_text(cluster)
    objects, pods, claims, (secrets, bad_secrets), restores, recoveries = await asyncio.gather(
        _objects(kube, cluster, settings, mine),
        kube.list("Pod", cluster.namespace, mine),
        kube.list("PersistentVolumeClaim", cluster.namespace, mine),
        _secrets(kube, cluster, settings),
        kube.list("LockRestore", cluster.namespace),
        kube.list("QuorumRecovery", cluster.namespace),
    )
    held = secrets.get(secret_name(cluster, Purpose.OPERATOR))
    own = held.pems if held is not None else None
    rows = [(n, pod) for pod in pods if 0 <= (n := _ordinal(cluster.name, _name(pod))) < PODS_MAX]
    addresses = {n: f"{host_of(cluster, settings, n)}:{CLIENT_PORT}" for n, _ in rows}
    asked = {n: addresses[n] for n, pod in rows if _running(pod)}
    said: Answers = ({}, None) if own is None else await engine.look(cluster.uid, asked, own)
    reports, told = said
    found = [_pod(n, pod) for n, pod in sorted(rows, key=lambda row: row[0])]
    stuck = {pod.ordinal for pod in found if pod.running}
    gone = await _gone(kube, cluster, claims, stuck) if reads_cluster else frozenset()
    refused = await pods_refused(kube, objects.get(("StatefulSet", cluster.name)), pods)
    observed = Observed(
        status=after_recovery(cluster, status_of(stored), recoveries),
        objects=objects,
        pods=tuple(PodSeen(**{**_fields(pod), "report": reports.get(pod.ordinal)}) for pod in found),
        claims=tuple(claims_of(cluster, claims, gone)),
        engine=told,
        certificates=seen(certificates(cluster, settings), secrets),
        client_authority="" if own is None else own[0],
        pods_refused=refused,
        bad_secrets=bad_secrets if cluster.spec.tls.mode is TlsMode.SECRET else (),
        restore_pending=any(_restores(cluster, restore) for restore in restores),
        recovering=any(_phase_of(cluster, one) == RecoveryPhase.FOUNDING for one in recoveries),
    )
    return Look(observed, addresses, asked, said, own)


async def _objects(
    kube: Kube, cluster: Cluster, settings: Settings, mine: str
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """By label, a list of each kind; what is not found so is asked for by name: another's may be in the way."""
    wanted = [key_of(body) for body in render(cluster, settings, _NAMES_ONLY)]
    kinds = sorted({kind for kind, _ in wanted})
    lists = await asyncio.gather(*(_listed(kube, kind, cluster.namespace, mine) for kind in kinds))
    found: dict[tuple[str, str], Mapping[str, Any]] = {key_of(item): item for items in lists for item in items}
    missing = [key for key in wanted if key not in found]
    named = await asyncio.gather(*(kube.get(kind, cluster.namespace, name) for kind, name in missing))
    found.update({key: item for key, item in zip(missing, named) if item is not None})
    return found


async def _listed(kube: Kube, kind: str, namespace: str, labels: str) -> list[Json]:
    try:
        return await kube.list(kind, namespace, labels)
    except KubeError as error:
        if error.status != 404:
            raise
        words = f"the API server knows no {kind}s ({RESOURCES[kind][0].removeprefix('apis/')})"
        raise KubeError(422, f"{words}: spec.tls.mode certManager needs cert-manager to be installed") from None


async def _secrets(kube: Kube, cluster: Cluster, settings: Settings) -> tuple[dict[str, Held], tuple[str, ...]]:
    """By name only, so that the operator needs no right to list Secrets; and what is wrong with others."""
    names = [wanted.secret for wanted in certificates(cluster, settings)]
    names += [secret_name(cluster, purpose) for purpose in (Purpose.CLIENT, Purpose.PEER, Purpose.OPERATOR)]
    found: dict[str, Held] = {}
    bad = []
    for name in dict.fromkeys(names):
        secret = await kube.get("Secret", cluster.namespace, name)
        if secret is None:
            bad.append(f"Secret {name} is not there")
            continue
        try:
            found[name] = held_of(secret)
        except BadSecret as error:
            bad.append(str(error))
    return found, tuple(bad)


def _name(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["name"])


def _ordinal(prefix: str, name: str) -> int:
    digits = name.removeprefix(f"{prefix}-")
    return int(digits) if name != digits and digits.isascii() and digits.isdigit() and len(digits) <= 3 else -1


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((one for one in statuses if one.get("name") == _CONTAINER), {})


def _running(pod: Mapping[str, Any]) -> bool:
    return "running" in (_container(pod).get("state") or {})


def _conditions(pod: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(one.get("type")): one for one in pod.get("status", {}).get("conditions") or ()}


def _pod(ordinal: int, pod: Mapping[str, Any]) -> PodSeen:
    metadata, container, conditions = pod["metadata"], _container(pod), _conditions(pod)
    labels = metadata.get("labels") or {}
    state = container.get("state") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    waiting = str((state.get("waiting") or {}).get("reason", ""))
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        waiting = str(scheduled.get("reason", "Unschedulable"))
    return PodSeen(
        ordinal=ordinal,
        uid=str(metadata["uid"]),
        template=labels.get(TEMPLATE_LABEL, ""),
        ready=conditions.get("Ready", {}).get("status") == "True",
        running=_running(pod),
        deleting="deletionTimestamp" in metadata,
        exit_code=ended.get("exitCode"),
        restarts=int(container.get("restartCount", 0)),
        pending_reason="" if waiting == "ContainerCreating" else waiting,
        role_label=labels.get(ROLE_LABEL, ""),
        leads_label=labels.get(LEADS_LABEL) == "true",
    )


def _fields(pod: PodSeen) -> dict[str, Any]:
    return {name: getattr(pod, name) for name in PodSeen.__dataclass_fields__}


def claims_of(cluster: Cluster, claims: Sequence[Json], gone: frozenset[int] = frozenset()) -> list[ClaimSeen]:
    """The claims of a cluster's members by ordinal; `gone`: of nodes that are out of service for good."""
    found = []
    for claim in claims:
        ordinal = _ordinal(f"data-{cluster.name}", _name(claim))
        if not 0 <= ordinal < PODS_MAX:
            continue
        spec, metadata = claim.get("spec", {}), claim["metadata"]
        requested = spec.get("resources", {}).get("requests", {}).get("storage", "")
        found.append(
            ClaimSeen(
                ordinal=ordinal,
                uid=str(metadata["uid"]),
                requested=str(requested),
                capacity=str((claim.get("status", {}).get("capacity") or {}).get("storage", "")),
                bound=any(spec.get(name) for name in ("volumeName", "dataSource", "dataSourceRef")),
                lost=claim.get("status", {}).get("phase") == "Lost",
                node_gone=ordinal in gone,
                deleting="deletionTimestamp" in metadata,
            )
        )
    return sorted(found, key=lambda claim: claim.ordinal)


async def _gone(kube: Kube, cluster: Cluster, claims: Sequence[Json], running: set[int]) -> frozenset[int]:
    """Ordinals that do not run and whose volume can be used on no node that is there and in service."""
    doubtful = {n: c for c in claims if (n := _ordinal(f"data-{cluster.name}", _name(c))) >= 0 and n not in running}
    names = {n: str(c["spec"]["volumeName"]) for n, c in doubtful.items() if c.get("spec", {}).get("volumeName")}
    if not names:
        return frozenset()
    nodes = await kube.list("Node", "")
    usable = [node for node in nodes if not out_of_service(node)]
    volumes = await asyncio.gather(*(kube.get("PersistentVolume", "", name) for name in names.values()))
    return frozenset(
        n for n, volume in zip(names, volumes) if volume is not None and not _usable_somewhere(volume, usable)
    )


def out_of_service(node: Mapping[str, Any]) -> bool:
    """A person says by this taint that it is shut down for good."""
    return any(taint.get("key") == _OUT_OF_SERVICE for taint in node.get("spec", {}).get("taints") or ())


def _usable_somewhere(volume: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> bool:
    """By host name only; a volume that is bound in any other way may be usable, so it counts as usable."""
    terms = volume.get("spec", {}).get("nodeAffinity", {}).get("required", {}).get("nodeSelectorTerms") or ()
    hosts: set[str] = set()
    for term in terms:
        chosen = [
            one
            for one in term.get("matchExpressions") or ()
            if one.get("key") == _HOST_LABEL and one.get("operator") == "In"
        ]
        if not chosen:
            return True
        hosts.update(chosen[0].get("values") or ())
    if not terms:
        return True
    return any((node["metadata"].get("labels") or {}).get(_HOST_LABEL, _name(node)) in hosts for node in nodes)


def _phase_of(cluster: Cluster, one: Mapping[str, Any]) -> str | None:
    """The phase of a LockRestore or QuorumRecovery that names this cluster, "" before its first; None: it does not."""
    if one.get("spec", {}).get("clusterRef", {}).get("name") != cluster.name or "deletionTimestamp" in one["metadata"]:
        return None
    return str(one.get("status", {}).get("phase", ""))


def _restores(cluster: Cluster, restore: Mapping[str, Any]) -> bool:
    """A refused one counts: nobody who asked for the old data shall get an empty cluster without a word."""
    return _phase_of(cluster, restore) not in (None, RestorePhase.JOINING, RestorePhase.DONE)


def after_recovery(
    cluster: Cluster, status: LockClusterStatus, recoveries: Sequence[Mapping[str, Any]]
) -> LockClusterStatus:
    """What is remembered: of the cluster that goes on, once a QuorumRecovery has founded it, and of no lost member."""
    for one in recoveries:
        said = one.get("status", {})
        founded = _phase_of(cluster, one) in (RecoveryPhase.REJOINING, RecoveryPhase.DONE)
        if founded and status.cluster_id and said.get("oldClusterId") == status.cluster_id:
            return status.model_copy(update={"cluster_id": str(said.get("newClusterId", "")), "members": ()})
    return status
