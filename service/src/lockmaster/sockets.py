"""TCP options that both ends of every long connection of ours set."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

OPTIONS: Final = (
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPINTVL", 3),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 10_000),
)
"""Seconds idle before the first probe, between probes, probes; milliseconds that sent data may stay unacknowledged."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel find a dead peer within ~15 s, also when nothing is being sent."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in OPTIONS:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:  # the connection may be gone already: then there is nothing to keep alive
        return
