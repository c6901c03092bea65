"""host:port as text: how every part of this package reads and writes it."""

from __future__ import annotations

import ipaddress
from typing import Final

ADDRESS_BYTES_MAX: Final = 261
"""A DNS name of 253 bytes, a colon, five digits, and brackets."""


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of host:port or [v6]:port; ports 0 to 65535. Raises ValueError with what is wrong."""
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{address!r} is not host:port")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{address!r}: write an IPv6 address as [address]:port")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{address!r}: the port is not a number up to 65535")
    if len(address.encode()) > ADDRESS_BYTES_MAX or any(not c.isprintable() or c.isspace() for c in host):
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)


def join_address(host: str, port: int) -> str:
    """host:port, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine certainly is at this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
