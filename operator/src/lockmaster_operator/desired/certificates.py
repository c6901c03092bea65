"""Which certificates a cluster needs, and the shape of the Secrets that hold them (operator.md §3, docs/tls.md).

Two authorities: whoever has a certificate of the members' authority may speak as a member, so clients get none of it.
The names cover every ordinal there can be: scaling issues nothing. Files are read again when they change, so a
rotation needs no restart; a new authority is first added to ca.crt beside the old one, then used, then the old goes
(plan/certificates.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lockmaster_operator.desired.names import Cluster, Settings, host_of, leader_service, metadata
from lockmaster_operator.models.lock_cluster import TlsMode
from lockmaster_operator.models.timestamps import timestamp_of

LIFETIME_S: Final = 90 * 86_400
"""Of a certificate."""
RENEW_BEFORE_S: Final = 30 * 86_400
"""A certificate with less than this left is issued anew."""
AUTHORITY_LIFETIME_S: Final = 10 * 365 * 86_400
AUTHORITY_RENEW_BEFORE_S: Final = 365 * 86_400
"""An authority with less than this left gets a successor. It stays in ca.crt to its end: so long do certificates that
clients outside have of it stay good."""
SYNC_S: Final = 86_400
"""How long everybody must have had an authority in ca.crt before it signs anything. A kubelet that reaches the API
server takes at most two minutes (its sync period of one, and as long for its cache); the rest is for nodes that are
cut off, for the clocks of two operators, and for jobs that copy ca.crt to clients outside every hour or every day."""
AUTHORITIES_MAX: Final = 4
"""Most authorities in a ca.crt: two, unless a new one was made several times, because its Secret was lost."""
SECRET_KEYS: Final = ("ca.crt", "tls.crt", "tls.key")
"""Of every Secret here, type kubernetes.io/tls; ca.crt holds at most AUTHORITIES_MAX, the one in use first."""
SINCE_ANNOTATION: Final = "lockmaster.dev/authorities-since"
"""On a Secret: since when ca.crt has had all authorities that it has. Written together with it."""


class Purpose(StrEnum):
    """What a certificate is for."""

    CLIENT_AUTHORITY = "client-ca"
    PEER_AUTHORITY = "peer-ca"
    CLIENT = "client-tls"
    """The client port; also what the pre-stop hand-over shows as a client."""
    PEER = "peer-tls"
    """What members show each other, both ways."""
    OPERATOR = "operator-tls"
    """The operator as a client."""


@dataclass(frozen=True, slots=True)
class CertificateWanted:
    """One certificate to be there."""

    purpose: Purpose
    secret: str
    common_name: str
    names: tuple[str, ...] = ()
    """Subject alternative names: DNS names and IP addresses."""
    server: bool = False
    client: bool = False
    issuer_secret: str = ""
    """Secret of the authority that signs it; empty: it is an authority and signs itself."""
    lifetime_s: int = LIFETIME_S


def secret_name(cluster: Cluster, purpose: Purpose) -> str:
    """The Secret of a purpose: the operator's or cert-manager's, or the one that spec.tls.secrets names."""
    given = cluster.spec.tls.secrets
    if cluster.spec.tls.mode is TlsMode.SECRET and given is not None:
        chosen = {Purpose.CLIENT: given.client, Purpose.PEER: given.peer, Purpose.OPERATOR: given.operator}
        if purpose in chosen:
            return chosen[purpose]
    return f"{cluster.name}-{purpose.value}"


def client_names(cluster: Cluster, settings: Settings) -> tuple[str, ...]:
    """What a client may have dialled."""
    found = ["localhost", "127.0.0.1"]
    for service in (cluster.name, leader_service(cluster)):
        local = f"{service}.{cluster.namespace}.svc"
        found += [service, f"{service}.{cluster.namespace}", local, f"{local}.{settings.cluster_domain}"]
    found += [host_of(cluster, settings, ordinal) for ordinal in cluster.members_max]
    return (*found, *cluster.spec.tls.extra_names)


def peer_names(cluster: Cluster, settings: Settings) -> tuple[str, ...]:
    """The hosts of the peer addresses that members advertise."""
    return tuple(host_of(cluster, settings, ordinal) for ordinal in cluster.members_max)


def secret_object(
    cluster: Cluster, wanted: CertificateWanted, pems: tuple[str, str, str], since: int
) -> dict[str, Any]:
    """The Secret of a certificate; `pems` as SECRET_KEYS names them. Whoever logs it logs a private key."""
    annotations = {SINCE_ANNOTATION: timestamp_of(since)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**metadata(cluster, wanted.secret), "annotations": annotations},
        "type": "kubernetes.io/tls",
        "stringData": dict(zip(SECRET_KEYS, pems)),
    }


def certificates(cluster: Cluster, settings: Settings) -> tuple[CertificateWanted, ...]:
    """What the operator issues itself, authorities first; () in the other modes."""
    if cluster.spec.tls.mode is not TlsMode.OPERATOR:
        return ()
    authorities = tuple(
        CertificateWanted(p, secret_name(cluster, p), f"{cluster.name} {p.value}", lifetime_s=AUTHORITY_LIFETIME_S)
        for p in (Purpose.CLIENT_AUTHORITY, Purpose.PEER_AUTHORITY)
    )
    return (*authorities, *_leaves(cluster, settings))


def _leaves(cluster: Cluster, settings: Settings) -> tuple[CertificateWanted, ...]:
    client_ca = secret_name(cluster, Purpose.CLIENT_AUTHORITY)
    peer_ca = secret_name(cluster, Purpose.PEER_AUTHORITY)
    names = {Purpose.CLIENT: client_names(cluster, settings), Purpose.PEER: peer_names(cluster, settings)}
    return tuple(
        CertificateWanted(
            purpose,
            secret_name(cluster, purpose),
            f"{cluster.name}-{purpose.value}",
            names.get(purpose, ()),
            server=purpose is not Purpose.OPERATOR,
            client=True,
            issuer_secret=peer_ca if purpose is Purpose.PEER else client_ca,
        )
        for purpose in (Purpose.CLIENT, Purpose.PEER, Purpose.OPERATOR)
    )


def cert_manager_objects(cluster: Cluster, settings: Settings) -> tuple[dict[str, Any], ...]:
    """cert-manager's own Certificates for the three leaves, with mode certManager."""
    issuer = cluster.spec.tls.issuer
    if cluster.spec.tls.mode is not TlsMode.CERT_MANAGER or issuer is None:
        return ()
    found: list[dict[str, Any]] = []
    for wanted in _leaves(cluster, settings):
        usages = ["digital signature"]
        usages += ["server auth"] if wanted.server else []
        usages += ["client auth"] if wanted.client else []
        spec: dict[str, Any] = {
            "secretName": wanted.secret,
            "commonName": wanted.common_name,
            "duration": f"{LIFETIME_S // 3600}h",
            "renewBefore": f"{RENEW_BEFORE_S // 3600}h",
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": usages,
            "issuerRef": {"group": "cert-manager.io", "kind": issuer.kind, "name": issuer.name},
        }
        addresses = [name for name in wanted.names if name.replace(".", "").isdigit() or ":" in name]
        names = [name for name in wanted.names if name not in addresses]
        if names:
            spec["dnsNames"] = names
        if addresses:
            spec["ipAddresses"] = addresses
        found.append(
            {
                "apiVersion": "cert-manager.io/v1",
                "kind": "Certificate",
                "metadata": metadata(cluster, wanted.secret),
                "spec": spec,
            }
        )
    return tuple(found)
