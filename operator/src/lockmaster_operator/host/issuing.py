"""Makes certificates and reads them: ECDSA on P-256. Private keys go into Secrets and nowhere else."""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lockmaster_operator.desired.certificates import SECRET_KEYS, CertificateWanted
from lockmaster_operator.observed import CertificateSeen

BEFORE_S: Final = 300
"""A certificate is valid from so long ago: clocks of nodes differ."""
AUTHORITIES_MAX: Final = 2
"""Most authorities in a ca.crt: the one in use and the one before it."""
Pems = tuple[str, str, str]


class BadSecret(Exception):
    """A Secret does not hold what its keys promise; the text names the Secret."""


def pems_of(secret: Mapping[str, Any]) -> Pems:
    """ca.crt, tls.crt and tls.key of a Secret as read. Raises BadSecret."""
    name = secret.get("metadata", {}).get("name", "")
    data = secret.get("data") or {}
    try:
        ca, certificate, key = (base64.b64decode(data[part], validate=True).decode() for part in SECRET_KEYS)
    except (KeyError, binascii.Error, UnicodeDecodeError):
        raise BadSecret(f"Secret {name}: {', '.join(SECRET_KEYS)} must be there, in PEM") from None
    return ca, certificate, key


def _key_of(pem: str, name: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except ValueError:
        raise BadSecret(f"{name}: tls.key is no private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadSecret(f"{name}: tls.key is not on an elliptic curve")
    return key


def issue(wanted: CertificateWanted, issuer: Pems | None, now: int, before: Pems | None = None) -> Pems:
    """A new key and certificate: ca.crt, tls.crt, tls.key. `issuer`: the authority's; None: it signs itself.

    `before`: what a new authority replaces: it stays in ca.crt, so that its leaves stay good until they are renewed.
    Raises BadSecret.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name[:64])])
    start = datetime.datetime.fromtimestamp(now - BEFORE_S, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(datetime.datetime.fromtimestamp(now + wanted.lifetime_s, datetime.UTC))
    )
    signer, issuer_name = key, name
    if issuer is None:
        builder = _as_authority(builder)
    else:
        signer, authority = _key_of(issuer[2], wanted.issuer_secret), x509.load_pem_x509_certificate(issuer[1].encode())
        issuer_name = authority.subject
        builder = _as_leaf(builder, wanted)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    made = builder.issuer_name(issuer_name).sign(signer, hashes.SHA256())
    certificate = made.public_bytes(serialization.Encoding.PEM).decode()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if issuer is not None:
        return issuer[0], certificate, secret.decode()
    kept = x509.load_pem_x509_certificates(before[0].encode())[: AUTHORITIES_MAX - 1] if before is not None else []
    old = "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in kept)
    return certificate + old, certificate, secret.decode()


def _as_authority(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(usage, critical=True)


def _as_leaf(builder: x509.CertificateBuilder, wanted: CertificateWanted) -> x509.CertificateBuilder:
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] if wanted.server else []
    usages += [ExtendedKeyUsageOID.CLIENT_AUTH] if wanted.client else []
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if wanted.names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(n) for n in wanted.names]), critical=False
        )
    return builder


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def seen(secret: str, pems: Pems, issuer: Pems | None) -> CertificateSeen:
    """What is in a Secret; `issuer`: the authority in use now, None for an authority itself.

    A Secret that does not hold a certificate is one that ran out long ago: it is issued anew.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pems[1].encode())
        key = _key_of(pems[2], secret)
    except (ValueError, BadSecret):
        return CertificateSeen(secret, 0, (), trusted=False)
    names: tuple[str, ...] = ()
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))
    except x509.ExtensionNotFound:
        pass
    fits = certificate.public_key() == key.public_key()
    until = int(certificate.not_valid_after_utc.timestamp())
    return CertificateSeen(secret, until, names, trusted=fits and _signed(certificate, issuer))


def _signed(certificate: x509.Certificate, issuer: Pems | None) -> bool:
    try:
        authority = certificate if issuer is None else x509.load_pem_x509_certificate(issuer[1].encode())
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
