"""A cluster that is far away: every byte takes its time, both ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lockmaster import AsyncClient
from lockmaster.client.endpoints import CONNECT_SECONDS_MAX, connect_seconds
from lockmaster.server.app import Server, dev_settings

WAIT = 20.0


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
    """The address of a server of one member whose answers take twice so many seconds."""
    server = Server(dev_settings(tmp_path / "dev"))
    await server.start()
    host, _, port = server.bound_address.rpartition(":")

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(host, int(port))
        ways = (carry(reader, upstream[1], seconds), carry(upstream[0], writer, seconds))
        await asyncio.gather(*ways, return_exceptions=True)

    proxy = await asyncio.start_server(accepted, "127.0.0.1", 0)
    yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    proxy.close()
    await server.stop()


@pytest.mark.parametrize("seconds", [0.2, 0.5])
async def test_a_member_far_away_is_reached(far: str) -> None:
    """At 0.4 s for both ways by the first attempt, at 1 s by a later one, which takes longer."""
    began = time.monotonic()
    async with asyncio.timeout(WAIT), AsyncClient(far) as client:
        await client.config("n").put("k", b"v")
        assert time.monotonic() - began >= 0.39


def test_an_attempt_is_short_at_first_and_never_longer_than_its_maximum() -> None:
    assert [connect_seconds(rounds) for rounds in (0, 1, 2, 3, 10**6)] == [0.5, 1.0, 2.0, 4.0, CONNECT_SECONDS_MAX]
