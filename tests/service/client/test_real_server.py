"""Against the real server: one member in this process, on a real data directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lockmaster import AsyncClient, CompareFailed, InvalidRequest, LockLost, LockTimeout, NotHeld
from lockmaster.server.app import Server, dev_settings


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(dev_settings(tmp_path / "dev"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.bound_address) as client:
        yield client


async def test_locks_exclude_and_tokens_rise(server: Server, client: AsyncClient) -> None:
    inside: list[int] = []
    tokens: list[int] = []

    async def work(number: int, mine: AsyncClient) -> None:
        async with mine.lock("x", timeout=20) as held:
            inside.append(number)
            assert inside == [number]
            tokens.append(held.fencing_token)
            await asyncio.sleep(0)
            inside.clear()

    async with AsyncClient(server.bound_address) as other:
        await asyncio.gather(*(work(number, (client, other)[number % 2]) for number in range(40)))
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 40


async def test_timeout_try_and_inspect(server: Server, client: AsyncClient) -> None:
    async with AsyncClient(server.bound_address, label="the other") as other, client.lock("x") as held:
        assert await other.lock("x").try_acquire() is None
        task = asyncio.create_task(other.lock("x", timeout=1.0).acquire())
        while not (status := await client.locks.inspect("x")).queue:
            assert not task.done()
        assert status.holder is not None
        assert status.holder.token == held.fencing_token
        assert status.queue[0].label == "the other"
        with pytest.raises(LockTimeout):
            await task
        assert not (await client.locks.inspect("x")).queue
        assert [each.name for each in await client.locks.list()] == ["x"]


async def test_force_release_passes_the_lock_on(server: Server, client: AsyncClient) -> None:
    async with AsyncClient(server.bound_address) as other:
        held = await other.lock("x").acquire()
        task = asyncio.create_task(client.lock("x", timeout=20).acquire())
        while not (await client.locks.inspect("x")).queue:
            pass
        assert await client.locks.force_release("x", "INC-1") == held.fencing_token
        await held.lost.wait()
        with pytest.raises(LockLost, match="INC-1"):
            held.ensure()
        assert (await task).fencing_token > held.fencing_token


async def test_config_compare_guard_history_and_watch(server: Server, client: AsyncClient) -> None:
    config = client.config("billing")
    async with config.watch() as watch:
        first = await config.put("rate", "5", if_revision=0, author="me", comment="start")
        with pytest.raises(CompareFailed) as caught:
            await config.put("rate", "6", if_revision=0)
        assert caught.value.current == first
        held = await client.lock("writer").acquire()
        await config.update("rate", lambda value: (value or b"") + b"0", guard=held)
        await held.release()
        with pytest.raises(NotHeld):
            await config.put("rate", "7", guard=held)
        assert await config.delete("rate")
        changes = [await anext(watch) for _ in range(3)]
    assert [(each.kind, each.item.value) for each in changes] == [("put", b"5"), ("put", b"50"), ("delete", b"")]
    old = await config.get("rate", at_revision=first)
    assert old is not None
    assert (old.text, old.author, old.comment) == ("5", "me", "start")
    assert [each.kind for each in await config.history("rate")] == ["delete", "put", "put"]
    assert await config.range() == []


async def test_an_ephemeral_key_goes_with_its_session(server: Server, client: AsyncClient) -> None:
    async with AsyncClient(server.bound_address) as other:
        await other.config("a").put("alive", b"1", ephemeral=True)
        item = await client.config("a").get("alive")
        assert item is not None
        assert item.session_id == other.session_id
    assert await client.config("a").get("alive") is None


async def test_refusals_name_the_field(client: AsyncClient) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        await client.lock("").acquire()


async def test_admin_shows_the_member(client: AsyncClient) -> None:
    async with client.lock("x"):
        assert (await client.admin.status()).role == "leader"
        assert [each.leader for each in (await client.admin.members()).members] == [True]
        assert [each.session_id for each in (await client.admin.sessions()).sessions] == [client.session_id]


async def test_a_thousand_calls_share_the_window(client: AsyncClient) -> None:
    config = client.config("a")
    revisions = await asyncio.gather(*(config.put(f"k{number}", b"x") for number in range(2_000)))
    assert len(set(revisions)) == 2_000
    assert len(await config.range()) == 2_000
