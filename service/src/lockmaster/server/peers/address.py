"""host:port as text, with IPv6 hosts in brackets."""

from __future__ import annotations


def split_address(address: str) -> tuple[str, int]:
    """(host, port); ValueError when it is not host:port."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """host:port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
