"""Where the cluster is and how its members are trusted."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc

from lockmaster.addresses import is_loopback, join_address, split_address

ENDPOINTS_VARIABLE = "LOCKMASTER_ENDPOINTS"
PORT_DEFAULT = 7420
MESSAGE_BYTES_MAX = 8 << 20


def channel_options(connect_s: float) -> tuple[tuple[str, int], ...]:
    """Of a channel on which an attempt to connect may take so long."""
    return (
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        # Each client reconnects on its own terms; ours are in policy.py.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", int(connect_s * 1000)),  # it ends an attempt, too
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.enable_retries", 0),
    )


@dataclass(frozen=True, slots=True)
class TLS:
    """Paths of PEM files: the CA that members are checked against, and this client's certificate and key (mTLS).

    `token`: the file with a ServiceAccount token, shown instead of a certificate on the members' login port. It is
    read anew for each call; every member is dialled on the port of the first endpoint then.

    The files are looked at again every few seconds; when one of the certificates' has changed, the channels are
    rebuilt.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    token: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("TLS needs both cert and key, or neither")
        if self.cert is not None and self.token is not None:
            raise ValueError("TLS takes a certificate or a token, not both")

    def check(self) -> None:
        """Raises ValueError that names the file if one can't be read, is no PEM, or the key is another certificate's.

        A connection would only fail, and gRPC does not say why.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is not None:
            _checked("ca", self.ca, lambda path: context.load_verify_locations(path), "holds no certificate as PEM")
        if self.cert is not None and self.key is not None:
            _checked("key", self.key, lambda path: Path(path).read_bytes())
            wrong = f"holds no certificate as PEM, or not that of the key {self.key}"
            _checked("cert", self.cert, lambda _: self._show(context), wrong)
        if self.token is not None:
            _checked("token", self.token, lambda path: Path(path).read_text(), "holds no text")

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises OSError if one is missing."""
        ca, cert, key = (None if path is None else Path(path).read_bytes() for path in (self.ca, self.cert, self.key))
        channel = grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)
        if self.token is None:
            return channel
        shown = grpc.metadata_call_credentials(_Bearer(Path(self.token)), name="service-account")
        return grpc.composite_channel_credentials(channel, shown)

    def context(self) -> ssl.SSLContext:
        """The same trust for a direct session stream. Reads the files; OSError if one is missing or broken."""
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        self._show(context)
        return context

    def _show(self, context: ssl.SSLContext) -> None:
        """Own certificate and key. Nobody is asked for a passphrase: gRPC takes none."""
        key = self.key

        def asked() -> str:
            raise ValueError(f"tls: key {key} is encrypted: a key without passphrase is needed")

        if self.cert is not None and key is not None:
            context.load_cert_chain(self.cert, key, password=asked)

    def fingerprint(self) -> bytes:
        """Changes when the files' contents do; empty while one can't be read (half of a rotation)."""
        digest = hashlib.sha256()
        try:
            for path in (self.ca, self.cert, self.key):
                content = b"" if path is None else Path(path).read_bytes()
                digest.update(len(content).to_bytes(8, "big") + content)
        except OSError:
            return b""
        return digest.digest()


def _checked(field: str, path: str | Path, read: Callable[[str], object], wrong: str = "") -> None:
    try:
        read(str(path))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError(f"tls: {field} {path} {wrong} ({error.reason})") from None
    except OSError as error:
        raise ValueError(f"tls: {field} {path} can't be read: {error.strerror}") from None


class _Bearer(grpc.AuthMetadataPlugin):
    """Shows what is in the token's file at the time of each call (the kubelet renews it in place)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            callback((), OSError(f"{self._path}: no token can be read: {error}"))
        else:
            callback((("authorization", f"Bearer {token}"),), None)


def dialled(address: str, first: str, tls: TLS | None) -> str:
    """What to dial for a member's address: its own with a certificate, its login port with a token.

    `first`: the first endpoint, whose port is the login port of all members.
    """
    if tls is None or tls.token is None:
        return address
    return join_address(split_address(address)[0], split_address(first)[1])


def parse_endpoints(endpoints: str | Iterable[str]) -> tuple[str, ...]:
    """host:port strings, from a comma-separated text or a list. Raises ValueError if there is none."""
    if isinstance(endpoints, str):
        endpoints = endpoints.split(",")
    parsed = [_with_port(each.strip().removeprefix("dns:///")) for each in endpoints if each.strip()]
    if not parsed:
        raise ValueError(f"no endpoints: pass host:port, or set {ENDPOINTS_VARIABLE}")
    return tuple(dict.fromkeys(parsed))


def _with_port(endpoint: str) -> str:
    _, colon, port = endpoint.rpartition(":")
    if not colon or "]" in port:
        endpoint = f"{endpoint}:{PORT_DEFAULT}"
    try:
        _, number = split_address(endpoint)
    except ValueError as error:
        raise ValueError(f"endpoint {error}") from None
    if number == 0:
        raise ValueError(f"endpoint {endpoint!r}: the port is 0")
    return endpoint


def on_loopback(endpoints: Iterable[str]) -> bool:
    """True if all of these host:port certainly are this machine."""
    return all(is_loopback(split_address(each)[0]) for each in endpoints)


def check_trust(endpoints: Iterable[str], tls: TLS | None, insecure: bool) -> None:
    """Raises ValueError if plaintext would leave this machine without being asked for."""
    if tls is not None and insecure:
        raise ValueError("tls and insecure exclude each other")
    if tls is None and not insecure and not on_loopback(endpoints):
        raise ValueError(
            "endpoints beyond this machine need tls=TLS(ca, cert, key), or a token; insecure=True sends plaintext"
        )
