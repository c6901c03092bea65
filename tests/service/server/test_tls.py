"""mTLS on the client port: who is let in, who is not, and rotation without a restart."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lockmaster.api import config_pb2, session_pb2, status_pb2
from lockmaster.server import tls
from lockmaster.server.app import Server, StartFailed
from lockmaster.server.exit_codes import ExitCode
from lockmaster.server.settings import Settings

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """A CA that signs what it is asked to."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        self.path = directory / f"{name}.pem"
        certificate = builder.sign(self.key, hashes.SHA256())
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        usage: tuple[Any, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
        expired: bool = False,
        dns: str = "",
    ) -> tuple[Path, Path]:
        """(certificate, key) files for 127.0.0.1 and a DNS name."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(dns or name)]
        if ExtendedKeyUsageOID.SERVER_AUTH in usage:
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * DAY)
            .not_valid_after(NOW - DAY if expired else NOW + DAY)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(list(usage)), critical=False)
        )
        cert_path, key_path = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        certificate = builder.sign(self.key, hashes.SHA256())
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cert_path, key_path


def settings_for(tmp_path: Path, authority: Authority) -> Settings:
    cert, key = authority.issue("server")
    return Settings(
        data_dir=tmp_path / "data",
        name="secure",
        listen_client="127.0.0.1:0",
        listen_peer="127.0.0.1:0",
        client_tls_cert=cert,
        client_tls_key=key,
        client_tls_ca=authority.path,
        peer_tls_cert=cert,
        peer_tls_key=key,
        peer_tls_ca=authority.path,
        bootstrap=True,
        full_min=1,
        profile="fast",
    )


def credentials(authority: Authority, files: tuple[Path, Path] | None) -> grpc.ChannelCredentials:
    if files is None:
        return grpc.ssl_channel_credentials(authority.path.read_bytes())
    return grpc.ssl_channel_credentials(
        authority.path.read_bytes(), private_key=files[1].read_bytes(), certificate_chain=files[0].read_bytes()
    )


async def list_sessions(address: str, creds: grpc.ChannelCredentials | None) -> Any:
    channel = grpc.aio.insecure_channel(address) if creds is None else grpc.aio.secure_channel(address, creds)
    async with channel:
        stub: Any = channel.unary_unary(
            "/lockmaster.v1.Sessions/List",
            session_pb2.ListSessionsRequest.SerializeToString,
            session_pb2.ListSessionsResponse.FromString,
        )
        # Eventual: answered without a leader, so UNAVAILABLE can only be the handshake's.
        read = status_pb2.ReadOptions(consistency=status_pb2.CONSISTENCY_EVENTUAL)
        return await stub(session_pb2.ListSessionsRequest(read=read), timeout=5)


async def test_only_a_client_with_a_certificate_of_the_authority_gets_in(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ca"), Authority(tmp_path, "other-ca")
    server = Server(settings_for(tmp_path, authority))
    await server.start()
    try:
        address = server.bound_address
        good = credentials(authority, authority.issue("client", usage=(ExtendedKeyUsageOID.CLIENT_AUTH,)))
        await list_sessions(address, good)
        server_only = authority.issue("server-only", usage=(ExtendedKeyUsageOID.SERVER_AUTH,))
        refused = {
            "plaintext": None,
            "no certificate": credentials(authority, None),
            "another authority's": credentials(authority, stranger.issue("stranger")),
            "expired": credentials(authority, authority.issue("expired", expired=True)),
            "a server's": credentials(authority, server_only),
        }
        for kind, creds in refused.items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await list_sessions(address, creds)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, kind
        with pytest.raises(grpc.aio.AioRpcError):
            await list_sessions(address, credentials(stranger, authority.issue("client")))
    finally:
        await server.stop()


async def test_a_session_belongs_to_the_name_in_the_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    server = Server(settings_for(tmp_path, authority))
    await server.start()
    try:
        async with asyncio.timeout(10):
            while not server.engine.admits_writes:
                await asyncio.sleep(0)
        only_client = (ExtendedKeyUsageOID.CLIENT_AUTH,)
        alice = credentials(authority, authority.issue("alice", usage=only_client))
        mallory = credentials(authority, authority.issue("mallory", usage=only_client))
        async with grpc.aio.secure_channel(server.bound_address, alice) as channel:
            opening: Any = channel.unary_unary(
                "/lockmaster.v1.Sessions/Open",
                session_pb2.OpenSessionRequest.SerializeToString,
                session_pb2.OpenSessionResponse.FromString,
            )
            opened = await opening(session_pb2.OpenSessionRequest(nonce=os.urandom(16)), timeout=5)
        found = await list_sessions(server.bound_address, alice)
        assert [session.principal for session in found.sessions] == ["alice"]
        async with grpc.aio.secure_channel(server.bound_address, mallory) as channel:
            closing: Any = channel.unary_unary(
                "/lockmaster.v1.Sessions/Close",
                session_pb2.CloseSessionRequest.SerializeToString,
                session_pb2.CloseSessionResponse.FromString,
            )
            putting: Any = channel.unary_unary(
                "/lockmaster.v1.Config/Put",
                config_pb2.PutRequest.SerializeToString,
                config_pb2.PutResponse.FromString,
            )
            put = config_pb2.PutRequest(namespace="n", key="k")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await closing(session_pb2.CloseSessionRequest(session_id=opened.session_id), timeout=5)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            # Only a member's certificate may speak for somebody else.
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await putting(put, timeout=5, metadata=(("lockmaster-relayed-for-bin", b"alice"),))
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    finally:
        await server.stop()


async def test_certificates_rotate_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    server = Server(settings_for(tmp_path, authority))
    await server.start()
    try:
        files = authority.issue("client")
        await list_sessions(server.bound_address, credentials(authority, files))
        next_authority = Authority(tmp_path, "next-ca")
        next_authority.issue("server")
        authority.path.write_bytes(next_authority.path.read_bytes())
        await list_sessions(server.bound_address, credentials(next_authority, next_authority.issue("fresh")))
        (tmp_path / "server.crt").write_text("half a cert")
        await list_sessions(server.bound_address, credentials(next_authority, next_authority.issue("later")))
    finally:
        await server.stop()


def test_a_handshake_gets_new_credentials_only_when_the_files_are_new(tmp_path: Path) -> None:
    file = tmp_path / "cert"
    file.write_text("one")
    ask = tls.news_of(tls.Reloaded((file,), file.read_text))
    assert [ask(), ask()] == [None, None]
    file.write_text("second")
    assert [ask(), ask()] == ["second", None]


def test_a_missing_or_mismatched_certificate_is_one_line(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    settings = settings_for(tmp_path, authority)
    other_key = authority.issue("other")[1]
    for change, named in (
        ({"client_tls_cert": tmp_path / "absent.crt"}, "absent.crt"),
        ({"client_tls_key": other_key}, "other.key"),
        ({"client_tls_ca": other_key}, "other.key"),
    ):
        with pytest.raises(tls.CertificateError) as caught:
            tls.server_credentials(settings.model_copy(update=change))
        assert named in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_the_server_says_which_certificate_is_missing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, Authority(tmp_path, "ca"))
    (tmp_path / "server.key").unlink()
    with pytest.raises(StartFailed) as caught:
        await Server(settings).start()
    assert caught.value.code is ExitCode.CERTIFICATE
    assert "server.key" in str(caught.value)


def test_a_peer_s_certificate_must_name_the_member_s_host(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, Authority(tmp_path, "ca"))
    hosts = {1: ("10.0.0.1",), 2: ("b.peers.example",), 3: ()}
    made = tls.peer_tls(settings, lambda member_id: hosts[member_id])
    assert made is not None
    certificate: dict[str, object] = {"subjectAltName": (("DNS", "*.peers.example"), ("IP Address", "10.0.0.1"))}
    assert made.check_peer(1, certificate)
    assert made.check_peer(2, certificate)
    assert made.check_peer(3, {})
    assert not made.check_peer(1, {"subjectAltName": (("DNS", "a.peers.example"),)})
    assert not made.check_peer(2, {})
    assert made.server_context().verify_mode.name == "CERT_REQUIRED"
