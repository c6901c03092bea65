"""A cluster that is far away: every byte takes its time, both ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lockmaster import AsyncClient
from lockmaster.client.patience import FIRST_SECONDS, SECOND_SECONDS, SECONDS_MAX, Patience
from lockmaster.server.app import Server, dev_settings

WAIT = 30.0
TTL = 5.0


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Everything that is read is written so much later, in order."""
    loop = asyncio.get_running_loop()
    underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            at, data = await underway.get()
            await asyncio.sleep(max(0.0, at - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)

    delivery = asyncio.create_task(deliver())
    try:
        while data := await reader.read(65_536):
            underway.put_nowait((loop.time() + seconds, data))
        underway.put_nowait((0.0, b""))
        await delivery
    finally:
        delivery.cancel()
        writer.close()


@pytest.fixture
async def far(tmp_path: Path, seconds: float) -> AsyncIterator[str]:
    """The address of a server of one member: each byte takes so many seconds, a connection as long as TCP's would."""
    server = Server(dev_settings(tmp_path / "dev").model_copy(update={"listen_session": "none"}))
    await server.start()
    host, _, port = server.bound_address.rpartition(":")

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * seconds)
        upstream = await asyncio.open_connection(host, int(port))
        ways = (carry(reader, upstream[1], seconds), carry(upstream[0], writer, seconds))
        await asyncio.gather(*ways, return_exceptions=True)

    proxy = await asyncio.start_server(accepted, "127.0.0.1", 0)
    yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    proxy.close()
    await server.stop()


@pytest.mark.parametrize("seconds", [0.1, 0.3])
async def test_a_member_far_away_is_reached_and_a_lock_is_kept(far: str, seconds: float) -> None:
    """Longer than its ttl: the keepalive, which has a connection of its own, gets through, too."""
    async with (
        asyncio.timeout(WAIT),
        AsyncClient(far, ttl=TTL, operation_timeout=WAIT) as client,
        client.lock("x", timeout=WAIT) as held,
    ):
        until = time.monotonic() + 1.5 * TTL
        while time.monotonic() < until:
            began = time.monotonic()
            await client.config("n").put("k", b"v")
            assert time.monotonic() - began >= 1.9 * seconds
        assert not held.lost.is_set()


def test_an_attempt_is_short_until_something_is_known_of_the_distance() -> None:
    patience = Patience(2)
    assert patience.seconds("dead") == FIRST_SECONDS
    for _ in range(20):
        patience.failed("dead", patience.seconds("dead"), patience.seconds("dead"))
        patience.reached("near", 0.01)
    assert patience.seconds("dead") == SECOND_SECONDS
    assert patience.seconds("new") == FIRST_SECONDS
    patience.reached("dead", 0.01)
    assert patience.seconds("dead") == FIRST_SECONDS


def test_while_none_is_reached_an_attempt_may_take_longer_and_then_as_the_distance_asks() -> None:
    patience, allowed = Patience(2), list[float]()
    for _ in range(5):
        for address in ("a", "b"):
            allowed.append(patience.seconds(address))
            patience.failed(address, allowed[-1], allowed[-1])
    assert allowed == [0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, SECONDS_MAX, SECONDS_MAX]
    patience.reached("a", 1.5)
    assert patience.seconds("b") == 3.0
    patience.reached("b", 100.0)
    assert patience.seconds("a") == SECONDS_MAX


def test_a_service_that_leads_to_the_dead_member_again_and_again_does_not_look_far_away() -> None:
    """Three of its members, one of them silent: five attempts in a row at that one take less than an operation may."""
    patience, allowed = Patience(1), list[float]()
    patience.reached("service", 0.01)
    for _ in range(6):
        allowed.append(patience.seconds("service"))
        patience.failed("service", allowed[-1], allowed[-1])
    assert allowed == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert patience.seconds("service") == 2.0


def test_a_refusal_says_nothing_about_the_distance() -> None:
    patience = Patience(1)
    for _ in range(20):
        patience.failed("a", 0.01, 0.5)
    assert patience.seconds("a") == FIRST_SECONDS
