"""Makes certificates and reads them: ECDSA on P-256. Private keys go into Secrets and nowhere else."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lockmaster_operator.desired.certificates import SECRET_KEYS, SINCE_ANNOTATION, CertificateWanted
from lockmaster_operator.models.timestamps import seconds_at
from lockmaster_operator.observed import AuthoritySeen, CertificateSeen

BEFORE_S: Final = 300
"""A certificate is valid from so long ago: clocks of nodes differ."""
SEEN_MAX: Final = 2_048
"""Most inputs of `seen` whose outcome is remembered, about 8 KiB each: one per LockCluster while nothing changes."""
Pems = tuple[str, str, str]
_SEEN: Final[dict[bytes, tuple[CertificateSeen, ...]]] = {}
"""What `seen` found, by a hash of all that it was given; the one used last is the last."""


class BadSecret(Exception):
    """A Secret does not hold what its keys promise; the text names the Secret."""


@dataclass(frozen=True, slots=True)
class Held:
    """What stands in a Secret."""

    pems: Pems
    since: int = 0
    """As CertificateSeen.since."""


def held_of(secret: Mapping[str, Any]) -> Held:
    """Of a Secret as read. Raises BadSecret."""
    annotations = secret.get("metadata", {}).get("annotations") or {}
    return Held(pems_of(secret), seconds_at(str(annotations.get(SINCE_ANNOTATION, ""))))


def pems_of(secret: Mapping[str, Any]) -> Pems:
    """ca.crt, tls.crt and tls.key of a Secret as read. Raises BadSecret."""
    name = secret.get("metadata", {}).get("name", "")
    data = secret.get("data") or {}
    try:
        ca, certificate, key = (base64.b64decode(data[part], validate=True).decode() for part in SECRET_KEYS)
    except (KeyError, binascii.Error, UnicodeDecodeError):
        raise BadSecret(f"Secret {name}: {', '.join(SECRET_KEYS)} must be there, in PEM") from None
    return ca, certificate, key


def normal(pem: str) -> str:
    """A certificate as it is written here. Raises BadSecret."""
    try:
        return _text(x509.load_pem_x509_certificate(pem.encode()))
    except ValueError:
        raise BadSecret("tls.crt is no certificate in PEM") from None


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _name(wanted: CertificateWanted) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name[:64])])


def _key_of(pem: str, name: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except ValueError:
        raise BadSecret(f"{name}: tls.key is no private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadSecret(f"{name}: tls.key is not on an elliptic curve")
    return key


def issue(wanted: CertificateWanted, issuer: Pems | None, now: int, beside: str = "") -> Pems:
    """A new key and certificate: ca.crt, tls.crt, tls.key. `issuer`: the authority's; None: it signs itself.

    ca.crt: what signs it, and `beside` after it. Raises BadSecret.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(wanted)
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
    certificate = _text(made)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (certificate if issuer is None else normal(issuer[1])) + beside, certificate, secret.decode()


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


def seen(wanted: Sequence[CertificateWanted], held: Mapping[str, Held]) -> tuple[CertificateSeen, ...]:
    """What is in the Secrets of the operator's own certificates, by name; those that are not there are left out.

    A Secret that does not hold a certificate is one that ran out long ago: it is issued anew. Read once for the same
    input, of which only a hash is kept: certificates say the same as long as they are the same, and keys stay nowhere.
    """
    key = hashlib.sha256(repr([(one, held.get(one.secret)) for one in wanted]).encode()).digest()
    found = _SEEN.pop(key, None)
    if found is None:
        found = _look_into(wanted, held)
    _SEEN[key] = found
    while len(_SEEN) > SEEN_MAX:
        del _SEEN[next(iter(_SEEN))]
    return found


def _look_into(wanted: Sequence[CertificateWanted], held: Mapping[str, Held]) -> tuple[CertificateSeen, ...]:
    there = [one for one in wanted if one.secret in held]
    subjects = {one.secret: {_name(one)} for one in wanted if not one.issuer_secret}
    for one in there:
        if not one.issuer_secret:  # somebody may have put an authority of another name there
            subjects[one.secret] |= {own.subject for own in _read(held[one.secret].pems[1])}
    found: dict[str, dict[str, x509.Certificate]] = {}
    known: dict[str, dict[str, x509.Certificate]] = {secret: {} for secret in subjects}
    for one in there:
        family, pems = one.issuer_secret or one.secret, held[one.secret].pems
        texts = pems[:1] if one.issuer_secret else pems[:2]
        found[one.secret] = _authorities(texts, subjects[family])
        known[family] |= found[one.secret]
    return tuple(
        _seen(one, held[one.secret], found[one.secret], known[one.issuer_secret or one.secret]) for one in there
    )


def _read(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return []


def _authorities(texts: Sequence[str], subjects: Set[x509.Name]) -> dict[str, x509.Certificate]:
    """Certificates that sign themselves, of these names alone: what somebody else put into ca.crt is not spread."""
    read = [one for text in texts for one in _read(text)]
    return {_text(one): one for one in read if one.subject in subjects and _signed(one, one)}


def _seen(
    wanted: CertificateWanted, held: Held, here: Mapping[str, x509.Certificate], known: Mapping[str, x509.Certificate]
) -> CertificateSeen:
    """`here`: the authorities in this Secret; `known`: those in any Secret around it."""
    ca, pem, key_pem = held.pems
    authorities = tuple(
        AuthoritySeen(text, _seconds(one.not_valid_before_utc), _seconds(one.not_valid_after_utc))
        for text, one in here.items()
    )
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        key = _key_of(key_pem, wanted.secret)
    except (ValueError, BadSecret):
        return CertificateSeen(wanted.secret, 0, ca=ca, authorities=authorities, since=held.since)
    names: tuple[str, ...] = ()
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))
    except x509.ExtensionNotFound:
        pass
    issuer = ""
    if certificate.public_key() == key.public_key():
        signers = known.items() if wanted.issuer_secret else ((_text(certificate), certificate),)
        issuer = next((text for text, one in signers if _signed(certificate, one)), "")
    until = _seconds(certificate.not_valid_after_utc)
    return CertificateSeen(wanted.secret, until, names, issuer, ca, authorities, held.since)


def _seconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp())


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
