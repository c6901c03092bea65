"""How commands reach the cluster: the options every one of them has, and what is opened with them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import grpc

from lockmaster import TLS, AsyncClient
from lockmaster.cli.exit_codes import USAGE
from lockmaster.cli.numbers import Seconds
from lockmaster.cli.refusals import Refused
from lockmaster.client.endpoints import dialled, on_loopback, parse_endpoints
from lockmaster.client.surroundings import known_endpoints, trust

DEFAULT_ENDPOINTS = "127.0.0.1:7420"
ENDPOINTS_MAX = 64
LABEL_MAX = 64


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster and how to speak to it."""

    endpoints: tuple[str, ...]
    ca: Path | None
    cert: Path | None
    key: Path | None
    insecure: bool
    timeout: float
    """Seconds a call may take."""
    token: Path | None = None
    """The file with the ServiceAccount token that is shown instead of a certificate."""
    forwards: tuple[tuple[str, str], ...] = ()
    """(beginning of an address that members tell of each other, address to dial for it): where theirs can't be
    reached from here."""

    def dialled(self, address: str) -> str:
        """What to dial for an address that a member told."""
        return next((there for beginning, there in self.forwards if address.startswith(beginning)), address)

    def client(self, *, ttl: float = 15.0, label: str = "lockmaster") -> AsyncClient:
        """A client of the SDK, not yet entered."""
        try:
            return AsyncClient(
                self.endpoints,
                ttl=ttl,
                label=label[:LABEL_MAX],
                tls=self._tls(),
                insecure=self.insecure,
                operation_timeout=self.timeout,
            )
        except (ValueError, OSError) as error:
            raise Refused(str(error), USAGE) from None

    def _tls(self) -> TLS | None:
        return None if self.insecure else TLS(self.ca, self.cert, self.key, self.token)

    def channel(self, endpoint: str) -> grpc.Channel:
        """A plain channel to one member, for what asks each member by itself."""
        options = [("grpc.enable_http_proxy", 0)]
        tls = self._tls()
        if tls is None:
            return grpc.insecure_channel(endpoint, options=options)
        return grpc.secure_channel(dialled(endpoint, self.endpoints[0], tls), tls.credentials(), options=options)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -e, --ca, --cert, --key, --token-file, --insecure and --call-timeout; the command gets them as `target`.

    Where whoever runs the command has the members reached already, that Target is taken as it is.
    """

    @click.option(
        "-e",
        "--endpoints",
        envvar="LOCKMASTER_ENDPOINTS",
        default="",
        help=f"host:port of members, comma-separated [default: what the pod was given, else {DEFAULT_ENDPOINTS}].",
    )
    @click.option(
        "--ca", "tls_ca", envvar="LOCKMASTER_CA", type=existing_file(), help="Authority of the servers' certificates."
    )
    @click.option(
        "--cert", "tls_cert", envvar="LOCKMASTER_CERT", type=existing_file(), help="Own certificate, for mTLS."
    )
    @click.option("--key", "tls_key", envvar="LOCKMASTER_KEY", type=existing_file(), help="Its key.")
    @click.option(
        "--token-file",
        "tls_token",
        envvar="LOCKMASTER_TOKEN_FILE",
        type=existing_file(),
        help="ServiceAccount token, on the login port, instead of a certificate.",
    )
    @click.option("--insecure", is_flag=True, help="Plaintext; what is used on loopback when there is no --ca.")
    @click.option("--call-timeout", type=Seconds(0.1, 3600), default=10.0, show_default=True, metavar="SECONDS")
    @functools.wraps(command)
    def with_target(
        endpoints: str,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_token: Path | None,
        insecure: bool,
        call_timeout: float,
        **others: Any,
    ) -> Any:
        reached = click.get_current_context().find_object(Target)
        if reached is not None:
            return command(target=reached, **others)
        addresses = split(endpoints or _surrounding())
        if (tls_cert is None) != (tls_key is None):
            raise Refused("--cert and --key belong together: give both", USAGE)
        if tls_cert and tls_token:
            raise Refused("--cert and --token-file exclude each other: give one", USAGE)
        if insecure and (tls_ca or tls_cert or tls_token):
            raise Refused("--insecure and --ca, --cert or --token-file exclude each other: give one", USAGE)
        given = TLS(tls_ca, tls_cert, tls_key, tls_token)
        tls = None if insecure else trust(tls=given, local=on_loopback(addresses))
        plain = insecure or (tls is None and on_loopback(addresses))
        ca, cert, key, token = (None if path is None else Path(path) for path in _paths(given if tls is None else tls))
        return command(target=Target(addresses, ca, cert, key, plain, call_timeout, token), **others)

    return with_target


def _paths(tls: TLS) -> tuple[str | Path | None, ...]:
    return tls.ca, tls.cert, tls.key, tls.token


def _surrounding() -> str:
    """Where a pod's members are; else this machine."""
    try:
        return known_endpoints() or DEFAULT_ENDPOINTS
    except ValueError as error:
        raise Refused(f"--endpoints: {error}", USAGE) from None


def split(endpoints: str) -> tuple[str, ...]:
    """The addresses of a comma-separated list. Refused with the one that isn't host:port."""
    try:
        addresses = parse_endpoints(endpoints)
    except ValueError as error:
        raise Refused(f"--endpoints: {error}", USAGE) from None
    if len(addresses) > ENDPOINTS_MAX:
        raise Refused(f"--endpoints: {len(addresses)} addresses; at most {ENDPOINTS_MAX} are allowed", USAGE)
    return addresses


def existing_file() -> click.Path:
    """A file that is there and can be read."""
    return click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
