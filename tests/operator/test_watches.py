"""kopf's watches as the operator has them, against an API server over real HTTP: what they hear, how old they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import kopf
import pytest
from lockmaster_operator.host.queue import Key
from lockmaster_operator.host.watch_ages import WATCH_SECONDS, WatchAges
from lockmaster_operator.host.watching import RESOURCES_WATCHED, settings, watch

from .fake_api import FakeApi

UNTIL_SECONDS = 60


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    one = FakeApi()
    await one.start()
    monkeypatch.setenv("KUBECONFIG", one.kubeconfig(tmp_path))
    yield one
    await one.stop()


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(UNTIL_SECONDS):
        while not met():
            await asyncio.sleep(0.01)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("namespaces", [(), ("ns", "other")])
async def test_the_oldest_watch_is_known_however_quiet_all_are(api: FakeApi, namespaces: tuple[str, ...]) -> None:
    count, clock = RESOURCES_WATCHED * max(1, len(namespaces)), Clock()
    ages, keys = WatchAges(count, clock), list[Key]()
    ready, stop = asyncio.Event(), asyncio.Event()
    clock.now = 100.0
    assert ages.age_s() == 100.0
    watching = asyncio.create_task(watch(keys.append, lambda *_: None, ages, namespaces, "me", ready, stop))
    await until(lambda: ages.age_s() == 0.0)
    assert len(api.watches) == count
    clock.now = 200.0
    first, *others = list(api.watches)
    for _, _, queue in others:
        queue.put_nowait(None)
    await until(lambda: len(api.watches) == count and not set(map(id, others)) & set(map(id, api.watches)))
    assert ages.age_s() == 100.0
    first[2].put_nowait(None)
    await until(lambda: ages.age_s() == 0.0)
    api.put({"kind": "LockCluster", "metadata": {"name": "locks", "namespace": "ns"}})
    await until(lambda: keys == [("ns", "locks")])
    stop.set()
    await watching


async def test_a_watch_ends_by_itself_long_before_it_counts_as_old() -> None:
    told = settings().watching
    assert told.server_timeout == WATCH_SECONDS
    assert isinstance(told.server_timeout, int), "the API server reads a whole number"
    assert told.client_timeout is not None
    assert told.client_timeout > told.server_timeout


async def test_a_session_shows_the_credentials_and_refused_ones_are_not_tried_again() -> None:
    ages = WatchAges(1)
    info = kopf.ConnectionInfo(server="https://api", token="first", priority=7)
    made = ages.session_of(info)
    assert made is not None
    assert (made.server, made.priority) == ("https://api", 7)
    assert made.aiohttp_session.headers["Authorization"] == "Bearer first"
    assert ages.session_of(info) is None
    renewed = ages.session_of(kopf.ConnectionInfo(server="https://api", token="second"))
    assert renewed is not None
    assert ages.session_of(None) is None
    for one in (made, renewed):
        await one.aiohttp_session.close()
