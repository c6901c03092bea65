"""Attempts at several addresses: the order in which they begin, and that one stream is left."""

from __future__ import annotations

import asyncio
import math

import pytest
from lockmaster.client.racing import ATTEMPTS_MAX, first_open


class Stream:
    """What an attempt gives."""

    def __init__(self) -> None:
        self.closed = 0

    def cancel(self) -> None:
        self.closed += 1


class Track:
    """Attempts that end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.ends: dict[str, asyncio.Future[Stream | None]] = {}
        self.stubborn: set[str] = set()
        """They go on although they are cancelled."""

    async def attempt(self, address: str) -> Stream | None:
        self.begun.append(address)
        self.ends[address] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.shield(self.ends[address])
        except asyncio.CancelledError:
            self.cancelled.append(address)
            if address not in self.stubborn:
                raise
            return await self.ends[address]

    async def until_begun(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.begun) < count:
                await asyncio.sleep(0)


async def test_an_attempt_that_is_not_over_is_joined_by_the_next_ones_up_to_the_maximum() -> None:
    track = Track()
    race = asyncio.create_task(first_open("abcdef", track.attempt, 0.0))
    await track.until_begun(ATTEMPTS_MAX)
    for _ in range(20):
        await asyncio.sleep(0)
    assert track.begun == ["a", "b", "c"]
    track.ends["b"].set_result(None)
    await track.until_begun(ATTEMPTS_MAX + 1)
    stream = Stream()
    track.ends["c"].set_result(stream)
    assert await race == ("c", stream)
    assert sorted(track.cancelled) == ["a", "d"]
    assert stream.closed == 0


async def test_a_failed_attempt_is_followed_at_once_and_nothing_else_is_tried_beside_one_that_is_quick() -> None:
    track = Track()
    race = asyncio.create_task(first_open("abc", track.attempt, math.inf))
    await track.until_begun(1)
    track.ends["a"].set_result(None)
    await track.until_begun(2)
    stream = Stream()
    track.ends["b"].set_result(stream)
    assert await race == ("b", stream)
    assert track.begun == ["a", "b"]


async def test_none_where_all_have_failed() -> None:
    async def attempt(address: str) -> None:
        return None

    assert await first_open("abcdef", attempt, math.inf) is None


@pytest.mark.parametrize("stubborn", [False, True])
async def test_of_two_that_are_open_one_is_left(stubborn: bool) -> None:
    """At the same time, or as the other one's cancellation was swallowed."""
    track = Track()
    track.stubborn = {"b"}
    race = asyncio.create_task(first_open("ab", track.attempt, 0.0))
    await track.until_begun(2)
    first, second = Stream(), Stream()
    track.ends["a"].set_result(first)
    if not stubborn:
        track.ends["b"].set_result(second)
    assert await race == ("a", first)
    if stubborn:
        track.ends["b"].set_result(second)
    async with asyncio.timeout(10):
        while not second.closed:
            await asyncio.sleep(0)
    assert (first.closed, second.closed) == (0, 1)


async def test_one_that_is_cancelled_leaves_nothing() -> None:
    track = Track()
    race = asyncio.create_task(first_open("ab", track.attempt, 0.0))
    await track.until_begun(2)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert sorted(track.cancelled) == ["a", "b"]


async def test_a_mistake_in_an_attempt_is_raised_and_ends_the_others() -> None:
    track = Track()

    async def attempt(address: str) -> Stream | None:
        if address == "b":
            raise LookupError(address)
        return await track.attempt(address)

    with pytest.raises(LookupError):
        await first_open("abc", attempt, 0.0)
    assert track.cancelled == ["a"]
