"""Credentials of both ports, read anew from their files when these change: certificates rotate without a restart.

The client port uses gRPC's dynamic server credentials, whose callback runs per connection (in a thread of gRPC's);
the session port and the peer port listen with a context that takes each handshake to the newest one.
A file that is broken while it rotates keeps the last good
credentials and is logged; one that is broken at the start refuses the start.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import grpc

from lockmaster.server.settings import Settings
from lockmaster.server.status import PeerTls

T = TypeVar("T")
_log = logging.getLogger(__name__)


class CertificateError(Exception):
    """A certificate or key cannot be used; the text is one line that names the file."""


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


class Reloaded(Generic[T]):
    """A value made from files, made again when one of them has changed. Safe to call from any thread."""

    def __init__(self, paths: tuple[Path, ...], make: Callable[[], T]) -> None:
        self._paths = paths
        self._make = make
        self._lock = threading.Lock()
        self._stamps = self._read_stamps()
        self._value = make()

    def _read_stamps(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(_stamp(path) for path in self._paths)

    def get(self) -> T:
        """The value of the files as they are now; the last good one while they are broken."""
        with self._lock:
            try:
                stamps = self._read_stamps()
                if stamps != self._stamps:
                    self._value = self._make()
                    self._stamps = stamps
                    _log.info("certificates read again: %s", self._paths[0])
            except (OSError, CertificateError) as error:
                _log.error("certificates cannot be read, the old ones stay in use: %s", error)
            return self._value


def _check_pair(cert: Path, key: Path, ca: Path | None) -> None:
    """Raises CertificateError unless the files are there and belong together."""
    for path in (cert, key, *((ca,) if ca is not None else ())):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"{path}: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise CertificateError(f"{cert} and {key} are not a certificate and its key: {error.reason or error}") from None
    if ca is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(ca)
        except ssl.SSLError as error:
            raise CertificateError(f"{ca} is not a certificate: {error.reason}") from None


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Credentials of the client port, None for plaintext. With a CA, clients must show a certificate of it."""
    cert, key, ca = settings.client_tls_cert, settings.client_tls_key, settings.client_tls_ca
    if cert is None or key is None:
        return None

    def make() -> grpc.ServerCertificateConfiguration:
        _check_pair(cert, key, ca)
        roots = ca.read_bytes() if ca is not None else None
        return grpc.ssl_server_certificate_configuration([(key.read_bytes(), cert.read_bytes())], roots)

    reloaded = _reloaded((cert, key, ca), make)
    news = news_of(reloaded)  # the stub forgets that None means: nothing new
    return grpc.dynamic_ssl_server_credentials(reloaded.get(), news, ca is not None)  # type: ignore[arg-type]


def login_credentials(settings: Settings) -> grpc.ServerCredentials:
    """Credentials of the login port: the client port's certificate, and none is asked of clients (gRPC can't ask for
    one without demanding it). Only for settings with TLS."""
    cert, key = settings.client_tls_cert, settings.client_tls_key
    if cert is None or key is None:
        raise CertificateError("listen_login: there is no client_tls_cert")

    def make() -> grpc.ServerCertificateConfiguration:
        _check_pair(cert, key, None)
        return grpc.ssl_server_certificate_configuration([(key.read_bytes(), cert.read_bytes())], None)

    reloaded = _reloaded((cert, key, None), make)
    news = news_of(reloaded)
    return grpc.dynamic_ssl_server_credentials(reloaded.get(), news, False)  # type: ignore[arg-type]  # as above


def news_of(reloaded: Reloaded[T]) -> Callable[[], T | None]:
    """A callback for gRPC's dynamic server credentials: the value where it is another than last time, else None.

    gRPC asks at each handshake, in any of its threads, and takes whatever it gets for a new configuration: it then
    replaces its handshaker factory without a lock, under the feet of a handshake in another thread (seen as crashes
    with 1.71 to 1.85). So it gets one only when there is something new.
    """
    told = reloaded.get()

    def ask() -> T | None:
        nonlocal told
        value = reloaded.get()
        if value is told:
            return None
        told = value
        return value

    return ask


def session_context(settings: Settings) -> ssl.SSLContext | None:
    """What the session port listens with, None for plaintext: the certificates and the trust of the client port."""
    cert, key, ca = settings.client_tls_cert, settings.client_tls_key, settings.client_tls_ca
    if cert is None or key is None:
        return None

    def make() -> ssl.SSLContext:
        context = _context(ssl.Purpose.CLIENT_AUTH, cert, key, ca)
        if settings.listen_login and ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL  # who shows none must have a ticket (direct_port.py)
        return context

    return newest(_reloaded((cert, key, ca), make))


def _context(purpose: ssl.Purpose, cert: Path, key: Path, ca: Path | None) -> ssl.SSLContext:
    """Shows the certificate; wants one of `ca` from the other side, none without a CA. Raises CertificateError."""
    _check_pair(cert, key, ca)
    context = ssl.create_default_context(purpose, cafile=None if ca is None else str(ca))
    context.verify_mode = ssl.CERT_NONE if ca is None else ssl.CERT_REQUIRED
    context.load_cert_chain(cert, key)
    return context


def newest(reloaded: Reloaded[ssl.SSLContext]) -> ssl.SSLContext:
    """A context to listen with: each handshake is done with what `reloaded` has then. One that listens keeps its own
    context for good, so this hands over while the client's hello is being read."""
    listening = reloaded.get()

    def hand_over(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        current = reloaded.get()
        if current is not connection.context:
            connection.context = current

    listening.sni_callback = hand_over
    return listening


def member_channel_credentials(settings: Settings) -> Callable[[], grpc.ChannelCredentials | None]:
    """What this member dials other members' client ports with (joining, relaying), as its files are when it asks; the
    same object while they are the same, None for plaintext."""
    cert, key, ca = settings.client_tls_cert, settings.client_tls_key, settings.client_tls_ca
    if cert is None or key is None:
        return lambda: None

    def make() -> grpc.ChannelCredentials:
        _check_pair(cert, key, ca)
        if ca is None:
            # Without mTLS there is no CA setting; a certificate that signs itself is its own authority.
            return grpc.ssl_channel_credentials(root_certificates=cert.read_bytes())
        return grpc.ssl_channel_credentials(ca.read_bytes(), key.read_bytes(), cert.read_bytes())

    return _reloaded((cert, key, ca), make).get


def peer_tls(settings: Settings, member_hosts: Callable[[int], tuple[str, ...]]) -> PeerTls | None:
    """Contexts of the peer port, None for plaintext: both sides show a certificate of the peer CA.

    `member_hosts` tells under which hosts a member is known: its certificate must name one of them. A member that is
    not known here yet (this one is being joined) needs the CA's certificate alone.
    """
    cert, key, ca = settings.peer_tls_cert, settings.peer_tls_key, settings.peer_tls_ca
    if cert is None or key is None or ca is None:
        return None

    def make(purpose: ssl.Purpose) -> ssl.SSLContext:
        context = _context(purpose, cert, key, ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    server = _reloaded((cert, key, ca), lambda: make(ssl.Purpose.CLIENT_AUTH))
    client = _reloaded((cert, key, ca), lambda: make(ssl.Purpose.SERVER_AUTH))

    def check(member_id: int, certificate: dict[str, object]) -> bool:
        hosts = member_hosts(member_id)
        return not hosts or any(_names(certificate, host) for host in hosts)

    listening = newest(server)
    return PeerTls(lambda: listening, client.get, check)


def _names(certificate: dict[str, object], host: str) -> bool:
    """Whether a certificate (as getpeercert tells it) is for this host: exact, or one leading wildcard label."""
    names = certificate.get("subjectAltName", ())
    if not isinstance(names, tuple):
        return False
    suffix = host.partition(".")[2]
    return any(name == host or (suffix and name == f"*.{suffix}") for _, name in names)


def _reloaded(paths: tuple[Path | None, ...], make: Callable[[], T]) -> Reloaded[T]:
    try:
        return Reloaded(tuple(path for path in paths if path is not None), make)
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror}") from None
