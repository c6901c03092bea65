"""Ports for servers started later: the kernel gives them to nobody meanwhile."""

from __future__ import annotations

import contextlib
import random
import socket

import pytest
from lockmaster.cli import ports


def test_the_kernel_gives_such_a_port_to_nobody_who_asks_for_any() -> None:
    found = ports.free_ports(12)
    assert len(set(found)) == 12
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(200)]
        assert max(found) < min(other.getsockname()[1] for other in others)
        for port in found:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))


def test_a_port_that_is_listened_on_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, *free = ports.free_ports(3)
    monkeypatch.setattr(random, "shuffle", lambda candidates: candidates.sort(key=lambda c: c not in (taken, *free)))
    with socket.create_server(("127.0.0.1", taken)):
        assert set(ports.free_ports(2)) == set(free)


def test_too_few_are_an_error_that_says_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_is_free", lambda port: port % 100 == 0)
    with pytest.raises(OSError, match=f"ports of 127.0.0.1 are free between {ports.LOWEST} and .*, not 10000"):
        ports.free_ports(10_000)
