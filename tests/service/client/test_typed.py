"""`config(model=…)`: one key as a pydantic model or a dataclass, its watch, and `current`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pydantic
import pytest
from lockmaster import Client, CompareFailed, ConfigMismatch, NotFound, NotHeld
from lockmaster.api import session_pb2, status_pb2


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


class Settings(pydantic.BaseModel):
    rate: float = pydantic.Field(default=0.19, ge=0, le=1)
    currency: str = "EUR"


@dataclass(frozen=True)
class Retry:
    attempts: int
    pauses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Service:
    retry: Retry
    hosts: dict[str, int]


async def test_a_model_is_written_as_json_and_read_back(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("billing", model=Settings)
        written = await config.put(Settings(rate=0.5))
        assert await config.get() == written
        assert written.value == Settings(rate=0.5)
        raw = await client.config("billing").get("settings")
        assert (raw.text, raw.revision) == ('{"rate":0.5,"currency":"EUR"}', written.revision)


async def test_dataclasses_nest(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("app", model=Service, key="service")
        value = Service(Retry(3, [0.5]), {"a": 1})
        await config.put(value)
        assert (await config.get()).value == value


async def test_without_a_key_the_model_s_defaults_have_revision_0(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("billing", model=Settings)
        settings = await config.get()
        assert (settings.value, settings.revision) == (Settings(), 0)
        written = await config.update(lambda s: s.model_copy(update={"rate": 0.2}), if_revision=settings.revision)
        assert (await config.get()).revision == written.revision
        with pytest.raises(CompareFailed):
            await config.update(lambda s: s, if_revision=0)


async def test_without_a_key_and_without_defaults_it_is_not_found(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("app", model=Service)
        with pytest.raises(NotFound, match="without a default"):
            await config.get()
        with pytest.raises(NotFound):
            await config.start()
        assert not config.following
        await until(lambda: not cluster.model.watches)


async def test_what_does_not_fit_names_the_path_and_not_the_value(cluster: Any) -> None:
    async with cluster.client() as client:
        revision = await client.config("billing").put("settings", '{"rate": "geheim"}')
        config = client.config("billing", model=Settings)
        with pytest.raises(
            ConfigMismatch, match=r"billing/settings at revision \d+ does not fit the model: rate: "
        ) as e:
            await config.get()
        assert e.value.revision == revision
        assert "geheim" not in str(e.value)
        with pytest.raises(ConfigMismatch):
            await config.update(lambda s: s)


async def test_what_would_not_be_read_back_is_never_sent(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("billing", model=Settings)
        bad = Settings()
        bad.rate = 7.0
        nothing: Any = None
        for value in (bad, nothing):
            with pytest.raises(ConfigMismatch):
                await config.put(value)
            with pytest.raises(ConfigMismatch):
                await config.update(lambda _, value=value: value)
        assert cluster.model.keys == {}


async def test_updates_by_many_lose_nothing(cluster: Any) -> None:
    async with cluster.client() as one, cluster.client() as other:
        await one.config("n", model=Retry).put(Retry(0))

        async def increment(client: Any) -> None:
            await client.config("n", model=Retry).update(lambda r: replace(r, attempts=r.attempts + 1))

        await asyncio.gather(*(increment(client) for client in (one, other) for _ in range(5)))
        assert (await one.config("n", model=Retry).get()).value.attempts == 10


async def test_a_guard_goes_along(cluster: Any) -> None:
    seen: list[Any] = []

    def refuse(request: Any) -> Any:
        if request.WhichOneof("operation") != "put":
            return None
        seen.append(request.put.guard.token)
        failure = status_pb2.Failure(status=status_pb2.STATUS_NOT_HELD)
        return session_pb2.Response(id=request.id, status=failure.status, failure=failure)

    cluster.member.fault = refuse
    async with cluster.client() as client, client.lock("l") as held:
        with pytest.raises(NotHeld):
            await client.config("billing", model=Settings).put(Settings(), guard=held)
        assert seen == [held.fencing_token]


async def test_a_watch_tells_values_and_goes_on_after_one_that_does_not_fit(cluster: Any) -> None:
    async with cluster.client() as client:
        raw, config = client.config("billing"), client.config("billing", model=Settings)
        async with config.watch() as changes:
            await config.put(Settings(rate=0.1))
            await raw.put("settings", "no json")
            await raw.put("other", "not this key")
            await config.put(Settings(rate=0.3))
            await raw.delete("settings")
            first, bad, second, gone = [await anext(changes) for _ in range(4)]
        assert (first.value.rate, second.value.rate, gone.value) == (0.1, 0.3, Settings())
        assert (gone.change.kind, gone.revision > second.revision) == ("delete", True)
        with pytest.raises(ConfigMismatch):
            _ = bad.value


async def test_current_follows_and_keeps_the_last_value_that_fitted(cluster: Any) -> None:
    async with cluster.client() as client, cluster.client() as other:
        raw, config = other.config("billing"), client.config("billing", model=Settings)
        with pytest.raises(NotFound, match="start"):
            _ = config.current
        async with config:
            assert config.current.revision == 0
            revision = await raw.put("settings", '{"rate": 0.4}')
            await until(lambda: config.current.revision == revision)
            assert config.current.value == Settings(rate=0.4)
            await raw.put("settings", "no json")
            last = await raw.put("settings", '{"rate": 0.6}')
            await until(lambda: config.current.revision == last)
            assert config.following
        assert not config.following
        await raw.put("settings", '{"rate": 0.7}')
        assert config.current.value.rate == 0.6


async def test_current_never_goes_back(cluster: Any) -> None:
    async with cluster.client() as client:
        config = client.config("billing", model=Settings)
        first = await config.put(Settings(rate=0.1))
        second = await config.put(Settings(rate=0.2))
        async with config.watch(from_revision=first.revision) as changes:
            assert (await anext(changes)).value.rate == 0.1
            assert config.current == second


async def test_following_ends_with_the_client(cluster: Any) -> None:
    client = cluster.client()
    config = await client.config("billing", model=Settings).start()
    await client.close()
    await until(lambda: not config.following)
    assert config.current.value == Settings()


async def test_the_sync_client_has_the_same(cluster: Any) -> None:
    def use() -> None:
        with Client(cluster.endpoints) as client:
            config = client.config("billing", model=Settings)
            with config, config.watch() as changes:
                written = config.update(lambda s: s.model_copy(update={"rate": 0.2}))
                assert config.get() == written == config.current
                assert next(changes).value == Settings(rate=0.2)
                assert config.following
            assert not config.following
            assert (config.namespace, config.key) == ("billing", "settings")

    await asyncio.to_thread(use)


def test_the_base_install_needs_no_pydantic_and_says_what_to_install() -> None:
    script = """
import sys
sys.modules["pydantic"] = None
import lockmaster
client = lockmaster.Client("127.0.0.1:1")
client.config("billing")
try:
    client.config("billing", model=int)
except ModuleNotFoundError as error:
    print(error)
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert 'pip install "lockmaster[typed]"' in answer.stdout
