"""When the operator looks for pod-bound sessions: no more often than needed, and not late for having kept quiet."""

from __future__ import annotations

import asyncio

import pytest
from lockmaster import AsyncClient
from lockmaster_operator.host import pod_sessions
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.pod_sessions import IDLE_S, INTERVAL_S, OFF_S, STANDS_S
from lockmaster_operator.kinds.pod_sessions import Bound
from lockmaster_operator.plan.calm import CALM_S

from .test_pod_sessions import WAIT, World, pod, watching, world

__all__ = ["world"]  # fixture
KEY = ("ns", "locks")


async def test_looks_are_not_more_often_than_once_a_second(world: World) -> None:
    world.put_cluster()
    async with asyncio.timeout(WAIT):
        assert await world.make() == IDLE_S
        world.passes.look_soon(KEY)
        asked = len(world.api.requests)
        assert await world.passes.make(KEY) == 1.0
        assert len(world.api.requests) == asked


async def test_the_client_is_kept_from_look_to_look_until_something_is_heard_of_the_cluster(world: World) -> None:
    """A quiet look costs one call to a member: no request to the API server, no connection."""

    async def look(after: float = IDLE_S) -> float | None:
        world.now += after
        return await world.passes.make(KEY)

    world.put_cluster()
    async with asyncio.timeout(WAIT):
        assert await look() == IDLE_S
        asked = len(world.api.requests)
        for _ in range(3):
            assert await look() == IDLE_S
        assert (len(world.api.requests), world.opened) == (asked, 1)
        world.passes.changed(KEY)
        assert await look() == IDLE_S
        assert (len(world.api.requests), world.opened, world.open_now) == (asked + 1, 2, 1)
        assert await look(CALM_S) == IDLE_S  # heard nothing for long: read again
        assert (world.opened, world.open_now) == (3, 1)
        world.put_cluster(auth={"serviceAccounts": {"enabled": False}})
        world.passes.changed(KEY)
        assert await look() == OFF_S
        assert world.open_now == 0


class Heard:
    """Passes of a world with what the leader says, and how often the sessions were asked for."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.looks, bound = world, 0, pod_sessions._bound

        async def counted(client: AsyncClient) -> list[Bound]:
            self.looks += 1
            return await bound(client)

        monkeypatch.setattr(pod_sessions, "_bound", counted)

    async def listen(self) -> bool:
        async with self.world.open(*KEY) as client:
            said = await client.admin.status(self.world.place.server.bound_address)
        return self.world.passes.heard(KEY, said.pods_mark)

    async def after(self, seconds: float) -> tuple[float | None, int]:
        """(seconds until the next pass, looks so far)."""
        self.world.now += seconds
        return await self.world.passes.make(KEY), self.looks

    @property
    def rest(self) -> float:
        """Seconds until the whole look that comes whatever is heard."""
        return CALM_S - self.world.now


@pytest.fixture
def heard(world: World, monkeypatch: pytest.MonkeyPatch) -> Heard:
    """With a LockCluster."""
    world.put_cluster()
    return Heard(world, monkeypatch)


async def test_looks_are_left_out_while_the_leader_says_that_no_pod_has_opened_a_session(
    heard: Heard, world: World
) -> None:
    world.api.put(pod())
    async with asyncio.timeout(WAIT):
        assert await heard.after(0) == (IDLE_S, 1)
        assert await heard.listen()
        assert await heard.after(INTERVAL_S) == (IDLE_S, 2)
        assert not await heard.listen()
        assert await heard.after(IDLE_S) == (heard.rest, 2)
        async with world.open(*KEY) as client:
            await client.lock("of no pod").acquire()
        assert not await heard.listen()
        assert await heard.after(IDLE_S) == (heard.rest, 2)
        assert world.open_now == 0  # no connection is kept for a look that is left out
        async with world.pod_client() as client:
            await client.lock("orders").acquire()
            assert await heard.listen()
            assert await heard.after(0) == (INTERVAL_S, 3)
            await watching(world)
            assert not await heard.listen()
            assert await heard.after(INTERVAL_S) == (heard.rest, 3)
            assert world.open_now == 1  # kept where pods have sessions: it is wanted again soon
            await world.woken_by(lambda: world.api.remove("Pod", "shop", "worker-1"))
            assert await heard.after(0) == (INTERVAL_S, 4)
            assert not await heard.listen()
            assert await heard.after(INTERVAL_S) == (INTERVAL_S, 5)  # of its node nothing is heard


async def test_a_look_after_the_leaders_word_has_seen_what_it_tells_of(heard: Heard) -> None:
    async with asyncio.timeout(WAIT):
        assert not await heard.listen()
        assert await heard.after(INTERVAL_S) == (IDLE_S, 1)
        assert not await heard.listen()
        assert await heard.after(IDLE_S) == (heard.rest, 1)


async def test_looks_come_by_time_again_once_the_leaders_word_is_old(heard: Heard, world: World) -> None:
    """No leader, one too old to say it, passes that fail, a LockCluster that is gone: it looks who hears nothing."""
    looks = world.passes
    async with asyncio.timeout(WAIT):
        await heard.after(0)
        await heard.listen()
        assert await heard.after(INTERVAL_S) == (IDLE_S, 2)
        assert not await heard.listen()
        assert await heard.after(IDLE_S) == (heard.rest, 2)
        world.now += STANDS_S - IDLE_S - 1.0
        assert looks.unheard() == []
        world.now += 1.0
        assert looks.unheard() == [KEY]
        assert await heard.after(0) == (IDLE_S, 3)
        assert looks.unheard() == [KEY]  # whoever wakes up for it finds that it is not due
        assert await heard.after(IDLE_S) == (IDLE_S, 4)
        assert not await heard.listen()
        world.api.remove("LockCluster", *KEY)
        looks.changed(KEY)
        assert await heard.after(IDLE_S) == (heard.rest, 4)
        world.now += STANDS_S
        assert looks.unheard() == [KEY]
        assert await heard.after(0) == (None, 4)
        assert (looks._looks, looks._marks, world.open_now, looks.unheard()) == ({}, {}, 0, [])


async def test_a_word_that_is_another_or_a_pod_that_changes_ends_a_rest(heard: Heard, world: World) -> None:
    """Also where the next look by time would come as soon: nobody else would wake up for it."""
    world.api.put(pod())
    async with asyncio.timeout(WAIT), world.pod_client() as client:
        await client.lock("orders").acquire()
        assert not await heard.listen()
        assert await heard.after(0) == (INTERVAL_S, 1)
        assert await heard.after(INTERVAL_S) == (heard.rest, 1)
        assert world.passes.heard(KEY, -1)
        assert await heard.after(0) == (INTERVAL_S, 2)
        assert not world.passes.heard(KEY, -1)
        assert await heard.after(INTERVAL_S) == (heard.rest, 2)
        world.passes.look_soon(KEY)
        assert await heard.after(0) == (INTERVAL_S, 3)


async def test_a_whole_look_comes_however_often_the_leader_is_heard(heard: Heard, world: World) -> None:
    async with asyncio.timeout(WAIT):
        await heard.after(0)
        while heard.looks < 3:
            await heard.listen()
            await heard.after(IDLE_S)
            assert world.now < CALM_S or heard.looks == 3
        assert world.opened - int(world.now / IDLE_S) == 2  # beside those that listened


async def test_a_session_that_a_pod_opens_while_a_look_runs_is_found_by_the_next(world: World) -> None:
    want = world.watches.want
    world.put_cluster()
    async with asyncio.timeout(WAIT):
        await world.make()
        world.watches.want = lambda *told: (want(*told), world.passes.heard(KEY, 5))[0]  # type: ignore[method-assign]
        assert await world.make() == INTERVAL_S
        world.passes.heard(KEY, 5)
        world.now += INTERVAL_S
        assert await world.passes.make(KEY) == IDLE_S


async def test_a_pass_that_took_too_long_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(client: AsyncClient) -> list[Bound]:
        await asyncio.Event().wait()
        return []

    world.put_cluster()
    with monkeypatch.context() as patched:
        patched.setattr(pod_sessions, "_bound", stuck)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.passes.make(KEY), 0.2)
    assert await world.passes.make(KEY) == IDLE_S


async def test_a_look_that_fails_keeps_nothing_and_the_next_begins_anew(world: World) -> None:
    world.put_cluster()
    async with asyncio.timeout(WAIT):
        assert await world.passes.make(KEY) == IDLE_S
        await world.place.server.stop()
        world.now += IDLE_S
        with pytest.raises(PassFailed):
            await world.passes.make(KEY)
        assert world.open_now == 0
        await world.place.server.start()
        assert await world.passes.make(KEY) == IDLE_S
        assert (world.opened, world.open_now) == (2, 1)


async def test_more_clients_than_may_be_kept_are_opened_for_each_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_sessions, "KEPT_MAX", 0)
    world.put_cluster()
    async with asyncio.timeout(WAIT):
        for looks in range(1, 3):
            assert await world.make() == IDLE_S
            assert (world.opened, world.open_now) == (looks, 0)
