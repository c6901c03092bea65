"""One authority and one certificate for everything on this machine, made for one run."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lockmaster.cli.local_cluster import TlsFiles

DAYS = 2


def make(directory: Path) -> TlsFiles:
    """Writes ca.pem, cert.pem and key.pem for 127.0.0.1 and localhost, good for server and client side."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark authority")])
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=DAYS)

    def start(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(authority_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(until)

    authority = start(authority_name, authority_key.public_key())
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    member = start(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "member")]), key.public_key())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    member = member.add_extension(x509.SubjectAlternativeName(names), critical=False)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    member = member.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    files = TlsFiles(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    for path, builder in ((files.ca, authority), (files.cert, member)):
        signed = builder.sign(authority_key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    files.key.touch(mode=0o600)
    files.key.write_bytes(text)
    return files
