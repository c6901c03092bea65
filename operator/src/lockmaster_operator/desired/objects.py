"""The objects of one LockCluster: StatefulSet, Services, budget, network policy, account, members' settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lockmaster_operator.desired.certificates import cert_manager_objects
from lockmaster_operator.desired.names import (
    CLIENT_PORT,
    HEALTH_PORT,
    LEADS_LABEL,
    PEER_PORT,
    ROLE_LABEL,
    SESSION_PORT,
    Cluster,
    Settings,
    labels,
    leader_service,
    metadata,
    peers_service,
    selector_labels,
)
from lockmaster_operator.desired.pods import pod_template
from lockmaster_operator.models.lock_cluster import DeletionPolicy

REVISIONS_MAX: Final = 3
"""Old pod templates that the StatefulSet keeps."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the plan has decided about the objects, beyond the spec."""

    replicas: int
    volume_size: str
    """Of the claims: never smaller than what is there."""
    witness_ordinals: frozenset[int]
    """What a blank volume of each ordinal is made for."""
    disruptions: int = 1
    """How many pods an eviction may take: 1, or 0 while the quorum has no margin or a change runs."""
    evict_unready: bool = False
    """The one unready pod gives neither votes nor acks, by the leader's word: evicting it costs nothing."""


def render(cluster: Cluster, settings: Settings, decided: Decided) -> tuple[dict[str, Any], ...]:
    """Every object that is to be there, what others refer to first."""
    return (
        service_account(cluster),
        members_config(cluster, decided),
        *services(cluster),
        network_policy(cluster),
        disruption_budget(cluster, decided),
        *cert_manager_objects(cluster, settings),
        stateful_set(cluster, settings, decided),
    )


def service_account(cluster: Cluster) -> dict[str, Any]:
    """Whom the members run as. Its token is mounted by the pods that need it, never by default."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(cluster, f"{cluster.name}-member"),
        "automountServiceAccountToken": False,
    }


def members_config(cluster: Cluster, decided: Decided) -> dict[str, Any]:
    """One key per ordinal: what a blank volume there is made for. A volume that is in use knows its role itself."""
    roles = {f"role-{n}": "witness" if n in decided.witness_ordinals else "full" for n in cluster.members_max}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(cluster, f"{cluster.name}-members"),
        "data": roles,
    }


def _port(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "port": number, "targetPort": name, "protocol": "TCP"}


def services(cluster: Cluster) -> tuple[dict[str, Any], ...]:
    """Headless for members (also the unready ones), one for clients over ready full members, one for the leader."""
    selector = selector_labels(cluster)
    client, session = _port("client", CLIENT_PORT), _port("session", SESSION_PORT)
    headless = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector,
        "ports": [client, session, _port("peer", PEER_PORT), _port("health", HEALTH_PORT)],
    }
    return tuple(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata(cluster, name), "spec": spec}
        for name, spec in (
            (peers_service(cluster), headless),
            (cluster.name, {"selector": {**selector, ROLE_LABEL: "full"}, "ports": [client, session]}),
            (leader_service(cluster), {"selector": {**selector, LEADS_LABEL: "true"}, "ports": [client, session]}),
        )
    )


def network_policy(cluster: Cluster) -> dict[str, Any]:
    """Only members reach the peer port; the client and the session port are guarded by their certificates."""
    members = {"podSelector": {"matchLabels": selector_labels(cluster)}}
    open_ports = [{"port": port, "protocol": "TCP"} for port in (CLIENT_PORT, SESSION_PORT, HEALTH_PORT)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(cluster, cluster.name),
        "spec": {
            "podSelector": {"matchLabels": selector_labels(cluster)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": open_ports},
                {"from": [members], "ports": [{"port": PEER_PORT, "protocol": "TCP"}]},
            ],
        },
    }


def disruption_budget(cluster: Cluster, decided: Decided) -> dict[str, Any]:
    """How many pods may be evicted; 0 while the quorum has no margin (operator.md §3)."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(cluster, cluster.name),
        "spec": {
            "maxUnavailable": decided.disruptions,
            "unhealthyPodEvictionPolicy": "AlwaysAllow" if decided.evict_unready else "IfHealthyBudget",
            "selector": {"matchLabels": selector_labels(cluster)},
        },
    }


def stateful_set(cluster: Cluster, settings: Settings, decided: Decided) -> dict[str, Any]:
    """Parallel (OrderedReady stays stuck after a bad image), OnDelete (the plan picks the pod)."""
    storage = cluster.spec.storage
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": decided.volume_size}},
    }
    if storage.class_:
        claim["storageClassName"] = storage.class_
    deleted = "Delete" if cluster.spec.deletion_policy is DeletionPolicy.DELETE else "Retain"
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(cluster, cluster.name),
        "spec": {
            "replicas": decided.replicas,
            "serviceName": peers_service(cluster),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": REVISIONS_MAX,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": "Retain"},
            "selector": {"matchLabels": selector_labels(cluster)},
            "template": pod_template(cluster, settings),
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": labels(cluster)}, "spec": claim}],
        },
    }
