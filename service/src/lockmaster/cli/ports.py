"""Ports of loopback for servers that are started a moment later, and maybe again after a kill.

They lie below the range from which the kernel takes the port of a connection or of a server that asked for any: one
from that range would be free now and taken when its server starts, by a neighbour's connection.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

LOWEST: Final = 10_240
KERNELS_LOWEST: Final = 32_768
RANGE_FILE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """`count` TCP ports of 127.0.0.1, all different, that nothing listens on and that the kernel gives nobody.

    Raises OSError when fewer are free.
    """
    found: list[int] = []
    candidates = list(range(LOWEST, max(_kernels_lowest(), LOWEST + 1000)))
    random.shuffle(candidates)
    for port in candidates:
        if len(found) == count:
            break
        if _is_free(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"{len(found)} ports of 127.0.0.1 are free between {LOWEST} and {max(candidates)}, not {count}")
    return found


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def _kernels_lowest() -> int:
    try:
        return int(RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):  # not Linux: its usual one
        return KERNELS_LOWEST
