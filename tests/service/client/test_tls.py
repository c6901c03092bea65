"""Mutual TLS to the real server, and certificates that change while the client runs."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lockmaster import TLS, AsyncClient, Client, LockmasterError, Unavailable
from lockmaster.client import connection
from lockmaster.server.app import Server, dev_settings


class Authority:
    """A certificate authority that writes PEM files into a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._builder(self.name, self.key.public_key()).add_extension(ca, critical=True)
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self._signed(certificate))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> TLS:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        tls = TLS(self.ca, self.directory / f"{name}.pem", self.directory / f"{name}.key")
        Path(str(tls.cert)).write_bytes(
            self._signed(self._builder(subject, key.public_key()).add_extension(names, critical=False))
        )
        private = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        Path(str(tls.key)).write_bytes(key.private_bytes(serialization.Encoding.PEM, private, plain))
        return tls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def server(tmp_path: Path, authority: Authority) -> AsyncIterator[Server]:
    tls = authority.issue("server")
    files = {"client_tls_ca": tls.ca, "client_tls_cert": tls.cert, "client_tls_key": tls.key}
    server = Server(dev_settings(tmp_path / "dev").model_copy(update=files))
    await server.start()
    yield server
    await server.stop()


def test_files_that_are_not_what_they_should_be_are_named_at_once(tmp_path: Path, authority: Authority) -> None:
    """A connection fails without a reason, and a client without timeout waited for a file that never was there."""
    one, other = authority.issue("one"), authority.issue("other")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with_passphrase = serialization.BestAvailableEncryption(b"secret")
    key = authority.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, with_passphrase)
    (tmp_path / "encrypted").write_bytes(key)
    for tls, said in (
        (TLS("none.pem"), "tls: ca none.pem can't be read: No such file or directory"),
        (TLS(one.key), f"tls: ca {one.key} holds no certificate as PEM"),
        (TLS(one.ca, one.cert, "none.key"), "tls: key none.key can't be read: No such file or directory"),
        (TLS(one.ca, one.cert, other.key), f"tls: cert {one.cert} holds no certificate as PEM, or not that of the key"),
        (TLS(one.ca, one.cert, tmp_path / "encrypted"), f"tls: key {tmp_path}/encrypted is encrypted"),
        (TLS(one.ca, token=tmp_path), f"tls: token {tmp_path} can't be read: Is a directory"),
        (TLS(one.ca, token=tmp_path / "bytes"), f"tls: token {tmp_path}/bytes holds no text"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(said)):
            AsyncClient("127.0.0.1:1", tls=tls)


async def test_mutual_tls_carries_stream_renewals_and_unary_calls(server: Server, authority: Authority) -> None:
    tls = authority.issue("me")
    async with AsyncClient(server.bound_address, tls=tls) as client, client.lock("x", timeout=20) as held:
        assert (await client.admin.status()).role == "leader"
        keepalive = client._keepalive
        assert keepalive is not None
        assert await asyncio.to_thread(keepalive._renew)
        assert held.valid


async def test_a_client_without_a_certificate_is_not_served(server: Server, authority: Authority) -> None:
    async with AsyncClient(server.bound_address, tls=TLS(authority.ca), operation_timeout=0.3) as client:
        with pytest.raises(Unavailable):
            await client.config("a").get("k")


async def test_closing_ends_at_whatever_moment_of_a_refused_attempt_it_comes(
    server: Server, authority: Authority
) -> None:
    for number in range(400):
        client = AsyncClient(server.bound_address, tls=TLS(authority.ca), operation_timeout=0.3)
        call = asyncio.ensure_future(client.config("a").get("k"))
        await asyncio.wait({call}, timeout=number % 100 * 0.0002)
        await asyncio.wait_for(client.close(), 5)
        with contextlib.suppress(LockmasterError, asyncio.CancelledError):
            await call


async def test_new_certificates_make_new_channels_and_lose_nothing(
    server: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TLS_CHECK_SECONDS", 0.0)
    async with AsyncClient(server.bound_address, tls=authority.issue("me")) as client:
        held = await client.lock("x", timeout=20).acquire()
        stream = client._connection
        assert stream is not None
        before = stream._stream_call
        authority.issue("me")
        while stream._stream_call in (before, None):
            await client.config("a").put("k", b"1")
        assert held.valid
        await held.release()


def test_the_sync_client_takes_tls_too(authority: Authority) -> None:
    with Client("127.0.0.1:1", tls=authority.issue("me")) as client:
        assert client.session_id == 0
