"""Configuration and its watch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lockmaster import CompareFailed
from lockmaster.api import config_pb2, session_pb2


async def test_put_get_delete(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("billing")
        assert await config.get("rate") is None
        revision = await config.put("rate", "5")
        item = await config.get("rate")
        assert item is not None
        assert (item.text, item.revision) == ("5", revision)
        assert await config.delete("rate") is True
        assert await config.delete("rate") is False


async def test_reading_opens_no_session(cluster: Any) -> None:
    async with cluster.client() as client:
        await client.config("a").range()
        assert client.session_id == 0
        assert not cluster.model.alive


async def test_if_revision_is_compared(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("a")
        revision = await config.put("k", b"1", if_revision=0)
        with pytest.raises(CompareFailed) as caught:
            await config.put("k", b"2", if_revision=0)
        assert caught.value.current == revision


async def test_updates_by_many_lose_nothing(cluster: Any) -> None:
    async with cluster.client() as one, cluster.client() as other:

        async def increment(client: Any) -> None:
            await client.config("a").update("n", lambda value: str(int(value or b"0") + 1))

        await asyncio.gather(*(increment(client) for client in (one, other) for _ in range(5)))
        item = await one.config("a").get("n")
        assert item is not None
        assert item.text == "10"


async def test_range_reads_all_pages(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("a")
        await asyncio.gather(*(config.put(f"k{number:04}", b"") for number in range(1_100)))
        assert len(await config.range("k")) == 1_100
        assert [item.key for item in await config.range(limit=2)] == ["k0000", "k0001"]


async def test_watch_tells_every_change_in_order_across_a_broken_stream(cluster: Any) -> None:
    async with cluster.client() as client, cluster.client() as writer:
        async with client.config("a").watch() as watch:
            seen: list[tuple[str, bytes]] = []
            for number in range(30):
                await writer.config("a").put("k", str(number))
                if number % 10 == 9:
                    cluster.member.drop_streams()
                change = await anext(watch)
                seen.append((change.kind, change.item.value))
        assert seen == [("put", str(number).encode()) for number in range(30)]


async def test_watch_of_one_key_ignores_others(cluster: Any) -> None:
    async with cluster.client() as client, client.config("a").watch("k") as watch:
        await client.config("a").put("k2", b"no")
        await client.config("a").put("k", b"yes")
        await client.config("a").delete("k")
        assert (await anext(watch)).item.value == b"yes"
        assert (await anext(watch)).kind == "delete"


async def test_a_reset_is_told_as_coalesced_changes(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("a")
        await config.put("gone", b"1")
        await config.put("kept", b"1")
        await config.put("new", b"0")
        async with config.watch() as watch:
            stale = cluster.model.keys["a", "new"]
            while not cluster.model.watches:
                await config.get("kept")
            stream, request = cluster.model.watches[0]
            at = cluster.model.revision + 10
            fresh = config_pb2.KeyValue(namespace="a", key="new", value=b"9", mod_revision=at)
            assert stale.mod_revision < at
            for items, last in (([cluster.model.keys["a", "kept"]], False), ([fresh], True)):
                page = config_pb2.WatchEvents(
                    watch_id=request.watch_id,
                    changes=[config_pb2.Change(kind=config_pb2.Change.KIND_PUT, item=item) for item in items],
                    reset_revision=at,
                    reset_last=last,
                )
                stream.send(session_pb2.ServerFrame(events=[session_pb2.SessionEvent(watch=page)]))
            changes = [await anext(watch), await anext(watch)]
            assert [(c.kind, c.key, c.coalesced) for c in changes] == [("put", "new", True), ("delete", "gone", True)]
            assert watch.revision == at


async def test_closing_a_watch_ends_its_reader(cluster: Any) -> None:
    async with cluster.client() as client:
        watch = await client.config("a").watch().start()
        task = asyncio.create_task(anext(watch, None))
        await client.config("a").get("k")
        await watch.aclose()
        assert await task is None
