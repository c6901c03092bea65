"""One certificate authority for the bed, and what it issues: P-256, valid for a year, made anew with every bed."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import configs
from .layout import CONTROL, Layout

VALID_DAYS = 365
CLOCK_SKEW_HOURS = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def subject(common_name: str, organization: str) -> x509.Name:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(names)


class Authority:
    """Signs for one bed. Its key stays in memory and in the control plane's directory."""

    def __init__(self, name: str, now: datetime.datetime) -> None:
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = subject(name, "")
        builder = self._builder(self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pair = Pair(self._sign(builder), key_pem(self._key))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - datetime.timedelta(hours=CLOCK_SKEW_HOURS))
            .not_valid_after(self._now + datetime.timedelta(days=VALID_DAYS))
        )

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(
        self, common_name: str, organization: str = "", hosts: tuple[str, ...] = (), addresses: tuple[str, ...] = ()
    ) -> Pair:
        """A certificate for a client, and for a server of these hosts and addresses where there are any."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._builder(subject(common_name, organization), key)
        alternatives: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        if alternatives:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return Pair(self._sign(builder), key_pem(key))


def machine_files(layout: Layout, now: datetime.datetime) -> dict[str, dict[str, bytes]]:
    """Every file of keys, certificates and kubeconfigs: machine → name below its directory → content.

    The machine "" stands for the host, which gets the administrator's kubeconfig.
    """
    authority = Authority(f"{layout.name} authority", now)
    outside = f"https://{layout.control_address}:6443"

    def config(server: str, common_name: str, organization: str = "") -> bytes:
        pair = authority.issue(common_name, organization)
        ca, certificate, key = (
            base64.b64encode(part).decode() for part in (authority.pair.certificate, pair.certificate, pair.key)
        )
        return configs.as_file(configs.kubeconfig(server, ca, certificate, key)).encode()

    accounts = ec.generate_private_key(ec.SECP256R1())
    api = authority.issue(
        "kube-apiserver",
        hosts=api_hosts(),
        addresses=("127.0.0.1", layout.control_address, layout.api_service_address),
    )
    kubelet_client = authority.issue("kube-apiserver-kubelet-client", "system:masters")
    inside = "https://127.0.0.1:6443"
    files = {
        "": {"kubeconfig.draft": config(outside, "bed-administrator", "system:masters")},
        CONTROL: {
            "pki/ca.crt": authority.pair.certificate,
            "pki/ca.key": authority.pair.key,
            "pki/api.crt": api.certificate,
            "pki/api.key": api.key,
            "pki/kubelet-client.crt": kubelet_client.certificate,
            "pki/kubelet-client.key": kubelet_client.key,
            "pki/accounts.key": key_pem(accounts),
            "pki/accounts.pub": public_pem(accounts),
            "kube-controller-manager.kubeconfig": config(inside, "system:kube-controller-manager"),
            "kube-scheduler.kubeconfig": config(inside, "system:kube-scheduler"),
            "kube-proxy.kubeconfig": config(inside, "system:kube-proxy"),
            "provisioner.kubeconfig": config(inside, "bed-provisioner", "system:masters"),
        },
    }
    for node in layout.nodes:
        serving = authority.issue(f"system:node:{node.name}", "system:nodes", addresses=(node.address,))
        files[node.name] = {
            "pki/ca.crt": authority.pair.certificate,
            "pki/kubelet.crt": serving.certificate,
            "pki/kubelet.key": serving.key,
            "kubelet.kubeconfig": config(outside, f"system:node:{node.name}", "system:nodes"),
            "kube-proxy.kubeconfig": config(outside, "system:kube-proxy"),
        }
    return files


def api_hosts() -> tuple[str, ...]:
    """The names under which pods and the host know the API server."""
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    return ("localhost", *names, f"kubernetes.default.svc.{configs.DOMAIN}")
