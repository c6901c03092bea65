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
from lockmaster.client.endpoints import on_loopback, parse_endpoints

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
    forwards: tuple[tuple[str, str], ...] = ()
    """(beginning of an address that members tell of each other, address to dial for it): where theirs can't be
    reached from here."""

    def dialled(self, address: str) -> str:
        """What to dial for an address that a member told."""
        return next((there for beginning, there in self.forwards if address.startswith(beginning)), address)

    def client(self, *, ttl: float = 15.0, label: str = "lockmaster") -> AsyncClient:
        """A client of the SDK, not yet entered."""
        tls = None if self.insecure else TLS(self.ca, self.cert, self.key)
        try:
            return AsyncClient(
                self.endpoints,
                ttl=ttl,
                label=label[:LABEL_MAX],
                tls=tls,
                insecure=self.insecure,
                operation_timeout=self.timeout,
            )
        except (ValueError, OSError) as error:
            raise Refused(str(error), USAGE) from None

    def channel(self, endpoint: str) -> grpc.Channel:
        """A plain channel to one member, for what asks each member by itself."""
        options = [("grpc.enable_http_proxy", 0)]
        if self.insecure:
            return grpc.insecure_channel(endpoint, options=options)
        ca, key, cert = (read(path) for path in (self.ca, self.key, self.cert))
        return grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(ca, key, cert), options=options)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -e, --ca, --cert, --key, --insecure and --call-timeout; the command gets them as `target`.

    Where whoever runs the command has the members reached already, that Target is taken as it is.
    """

    @click.option(
        "-e",
        "--endpoints",
        envvar="LOCKMASTER_ENDPOINTS",
        default=DEFAULT_ENDPOINTS,
        show_default=True,
        help="host:port of members, comma-separated; LOCKMASTER_ENDPOINTS.",
    )
    @click.option(
        "--ca", "tls_ca", envvar="LOCKMASTER_CA", type=existing_file(), help="Authority of the servers' certificates."
    )
    @click.option(
        "--cert", "tls_cert", envvar="LOCKMASTER_CERT", type=existing_file(), help="Own certificate, for mTLS."
    )
    @click.option("--key", "tls_key", envvar="LOCKMASTER_KEY", type=existing_file(), help="Its key.")
    @click.option("--insecure", is_flag=True, help="Plaintext; what is used on loopback when there is no --ca.")
    @click.option("--call-timeout", type=Seconds(0.1, 3600), default=10.0, show_default=True, metavar="SECONDS")
    @functools.wraps(command)
    def with_target(
        endpoints: str,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        insecure: bool,
        call_timeout: float,
        **others: Any,
    ) -> Any:
        reached = click.get_current_context().find_object(Target)
        if reached is not None:
            return command(target=reached, **others)
        addresses = split(endpoints)
        if (tls_cert is None) != (tls_key is None):
            raise Refused("--cert and --key belong together: give both", USAGE)
        if insecure and (tls_ca or tls_cert):
            raise Refused("--insecure and --ca or --cert exclude each other: give one", USAGE)
        plain = insecure or (not (tls_ca or tls_cert) and on_loopback(addresses))
        return command(target=Target(addresses, tls_ca, tls_cert, tls_key, plain, call_timeout), **others)

    return with_target


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


def read(path: Path | None) -> bytes | None:
    """A file's bytes; None for no file."""
    return None if path is None else path.read_bytes()
