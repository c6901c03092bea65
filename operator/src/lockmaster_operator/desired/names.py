"""Names, labels, ports and addresses of everything that belongs to one LockCluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lockmaster_operator.models.lock_cluster import VOTERS_MAX, LockClusterSpec
from lockmaster_operator.models.part import API_VERSION

CLIENT_PORT: Final = 7420
PEER_PORT: Final = 7421
SESSION_PORT: Final = 7422
"""Direct session streams of the SDK, with the client port's certificates; gRPC where it can't be reached."""
HEALTH_PORT: Final = 7423
"""Metrics, and the kubelet's probes: plain HTTP, says nothing that is secret."""
LOGIN_PORT: Final = 7424
"""Clients that log in by ServiceAccount token, without a certificate."""
LOGIN_PORT_NAME: Final = "lockmaster-login"
"""Of the Service's port: pods find the Service by the variable that Kubernetes names after it
(lockmaster/client/surroundings.py)."""
MANAGER: Final = "lockmaster-operator"
ROLE_LABEL: Final = "lockmaster.dev/role"
"""full or witness: what the client Service selects by."""
LEADS_LABEL: Final = "lockmaster.dev/leads"
"""true on the pod of the leader."""
TEMPLATE_LABEL: Final = "lockmaster.dev/template"
"""Hash of the pod template that a pod was made from, the operator's own: a Kubernetes upgrade does not change it."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One LockCluster as stored: its identity and its spec."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: LockClusterSpec
    deleting: bool = False

    @property
    def members_max(self) -> range:
        """Every ordinal that there can ever be: certificates and settings name them all, so that scaling moves none."""
        return range(VOTERS_MAX)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator itself was told."""

    image_repository: str = "lockmaster"
    """Image of the members where spec.image is empty: this, a colon, spec.version."""
    cluster_domain: str = "cluster.local"
    logins: bool = False
    """Members' accounts can be given the right to review tokens."""


def logs_in(cluster: Cluster, settings: Settings) -> bool:
    """Whether clients log in by ServiceAccount token."""
    return settings.logins and cluster.spec.auth.service_accounts.enabled


def account_of(cluster_name: str) -> str:
    """The ServiceAccount that the members run as."""
    return f"{cluster_name}-member"


def image_of(cluster: Cluster, settings: Settings) -> str:
    """The members' image."""
    return cluster.spec.image or f"{settings.image_repository}:{cluster.spec.version}"


def peers_service(cluster: Cluster) -> str:
    """The headless Service: addresses of pods before they are ready, too."""
    return f"{cluster.name}-peers"


def leader_service(cluster: Cluster) -> str:
    """The Service over the one pod that leads."""
    return f"{cluster.name}-leader"


def pod_name(cluster: Cluster, ordinal: int) -> str:
    """The pod's name."""
    return f"{cluster.name}-{ordinal}"


def claim_name(cluster: Cluster, ordinal: int) -> str:
    """The pod's volume claim."""
    return f"data-{cluster.name}-{ordinal}"


def host_of(cluster: Cluster, settings: Settings, ordinal: int | str) -> str:
    """DNS name of a pod by ordinal, or of the pod that `$(POD_NAME)` names."""
    pod = ordinal if isinstance(ordinal, str) else pod_name(cluster, ordinal)
    return f"{pod}.{peers_service(cluster)}.{cluster.namespace}.svc.{settings.cluster_domain}"


def ordinal_of(cluster: Cluster, address: str) -> int:
    """The ordinal of the pod that a member's address names; -1 if it names none of this cluster's."""
    head = address.split(".", 1)[0].split(":", 1)[0]
    prefix = f"{cluster.name}-"
    digits = head[len(prefix) :]
    canonical = digits.isascii() and digits.isdigit() and len(digits) <= 3 and str(int(digits)) == digits
    return int(digits) if head.startswith(prefix) and canonical else -1


def selector_labels(cluster: Cluster) -> dict[str, str]:
    """What selects the members' pods. Never changed: selectors are immutable."""
    return {
        "app.kubernetes.io/name": "lockmaster",
        "app.kubernetes.io/instance": cluster.name,
        "app.kubernetes.io/component": "member",
    }


def labels(cluster: Cluster) -> dict[str, str]:
    """Labels of every object."""
    return {**selector_labels(cluster), "app.kubernetes.io/managed-by": MANAGER}


def selector_text(cluster: Cluster) -> str:
    """The selector as one text, for status."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_labels(cluster).items()))


def metadata(cluster: Cluster, name: str) -> dict[str, Any]:
    """Metadata of an owned object: it goes with the LockCluster."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "LockCluster",
        "name": cluster.name,
        "uid": cluster.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {"name": name, "namespace": cluster.namespace, "labels": labels(cluster), "ownerReferences": [owner]}
