"""The objects of one LockCluster: StatefulSet, Services, budget, network policy, account, members' settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lockmaster_operator.desired.certificates import cert_manager_objects
from lockmaster_operator.desired.names import (
    CLIENT_PORT,
    HEALTH_PORT,
    LEADS_LABEL,
    LOGIN_PORT,
    LOGIN_PORT_NAME,
    PEER_PORT,
    ROLE_LABEL,
    SESSION_PORT,
    Cluster,
    Settings,
    account_of,
    labels,
    leader_service,
    logs_in,
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
    client_authority: str = ""
    """ca.crt by which clients know members; "" while there is none."""


def render(cluster: Cluster, settings: Settings, decided: Decided) -> tuple[dict[str, Any], ...]:
    """Every object that is to be there, what others refer to first."""
    return (
        service_account(cluster),
        members_config(cluster, decided),
        *access_config(cluster, settings, decided),
        *services(cluster, settings),
        network_policy(cluster, settings),
        disruption_budget(cluster, decided),
        *cert_manager_objects(cluster, settings),
        stateful_set(cluster, settings, decided),
    )


def service_account(cluster: Cluster) -> dict[str, Any]:
    """Whom the members run as. Its token is mounted by the pods that need it, never by default."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(cluster, account_of(cluster.name)),
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


def access_config(cluster: Cluster, settings: Settings, decided: Decided) -> tuple[dict[str, Any], ...]:
    """What a client's pod mounts beside its token: where the members are, and by which authority it knows them."""
    if not logs_in(cluster, settings) or not decided.client_authority:
        return ()
    address = f"{cluster.name}.{cluster.namespace}.svc.{settings.cluster_domain}:{LOGIN_PORT}"
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(cluster, f"{cluster.name}-access"),
        "data": {"ca.crt": decided.client_authority, "endpoints": address},
    }
    return (body,)


def _port(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "port": number, "targetPort": name, "protocol": "TCP"}


def services(cluster: Cluster, settings: Settings) -> tuple[dict[str, Any], ...]:
    """Headless for members (also the unready ones), one for clients over ready full members, one for the leader."""
    selector = selector_labels(cluster)
    client, session = _port("client", CLIENT_PORT), _port("session", SESSION_PORT)
    clients = [client, session]
    if logs_in(cluster, settings):
        # In this one alone: a pod finds its cluster by the only Service with a port of this name.
        clients = [*clients, {**_port("login", LOGIN_PORT), "name": LOGIN_PORT_NAME}]
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
            (cluster.name, {"selector": {**selector, ROLE_LABEL: "full"}, "ports": clients}),
            (leader_service(cluster), {"selector": {**selector, LEADS_LABEL: "true"}, "ports": [client, session]}),
        )
    )


def network_policy(cluster: Cluster, settings: Settings) -> dict[str, Any]:
    """Only members reach the peer port; clients' ports are guarded by certificates and tokens."""
    members = {"podSelector": {"matchLabels": selector_labels(cluster)}}
    login = (LOGIN_PORT,) if logs_in(cluster, settings) else ()
    open_ports = [{"port": port, "protocol": "TCP"} for port in (CLIENT_PORT, SESSION_PORT, HEALTH_PORT, *login)]
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
