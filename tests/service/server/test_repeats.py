"""Idempotency keys of administrative changes (issue 4, point 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from google.protobuf.message import Message
from lockmaster.api import admin_pb2
from lockmaster.errors import InvalidRequest, Overloaded, PreconditionFailed
from lockmaster.server import repeats as module
from lockmaster.server.repeats import REPEATS_MAX, Repeats

REQUEST = admin_pb2.AbortRoleChangeRequest(member_id=3)
OTHER = admin_pb2.AbortRoleChangeRequest(member_id=4)


class Change:
    """Counts how often it ran; answers when told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> Message:
        self.runs += 1
        run = self.runs
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return admin_pb2.AbortRoleChangeResponse(configuration_epoch=run)


def answered(epoch: int) -> Callable[[], Awaitable[Message]]:
    async def run() -> Message:
        return admin_pb2.AbortRoleChangeResponse(configuration_epoch=epoch)

    return run


async def test_a_repeat_gets_the_first_answer_and_changes_nothing() -> None:
    repeats = Repeats()
    first = await repeats.once("k", REQUEST, answered(1))
    assert await repeats.once("k", REQUEST, answered(2)) == first
    assert await repeats.once("another", REQUEST, answered(2)) != first


async def test_without_a_key_every_call_is_one_of_its_own() -> None:
    repeats = Repeats()
    first = await repeats.once("", REQUEST, answered(1))
    assert await repeats.once("", REQUEST, answered(2)) != first


async def test_a_repeat_while_the_first_runs_waits_for_its_answer() -> None:
    repeats, change = Repeats(), Change()
    calls = [asyncio.ensure_future(repeats.once("k", REQUEST, change)) for _ in range(3)]
    await asyncio.sleep(0)
    change.go.set()
    assert len({str(answer) for answer in await asyncio.gather(*calls)}) == 1
    assert change.runs == 1


async def test_a_call_whose_caller_has_gone_is_answered_to_the_repeat() -> None:
    repeats, change = Repeats(), Change()
    gone = asyncio.ensure_future(repeats.once("k", REQUEST, change))
    await asyncio.sleep(0)
    gone.cancel()
    change.go.set()
    assert await repeats.once("k", REQUEST, change) == admin_pb2.AbortRoleChangeResponse(configuration_epoch=1)


async def test_a_key_names_one_request() -> None:
    repeats = Repeats()
    await repeats.once("k", REQUEST, answered(1))
    for request in (OTHER, admin_pb2.PromoteMemberRequest(member_id=3)):
        with pytest.raises(InvalidRequest) as caught:
            await repeats.once("k", request, answered(2))
        assert caught.value.field == "idempotency_key"


async def test_a_refusal_is_not_remembered() -> None:
    repeats, change = Repeats(), Change()
    change.error = PreconditionFailed("member 3 is 100 entries behind")
    change.go.set()
    with pytest.raises(PreconditionFailed):
        await repeats.once("k", REQUEST, change)
    change.error = None
    assert await repeats.once("k", REQUEST, change) == admin_pb2.AbortRoleChangeResponse(configuration_epoch=2)


async def test_the_oldest_answer_makes_room_and_what_runs_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REPEATS_MAX == 1024
    monkeypatch.setattr(module, "REPEATS_MAX", 2)
    repeats, change = Repeats(), Change()
    running = asyncio.ensure_future(repeats.once("running", REQUEST, change))
    await asyncio.sleep(0)
    await repeats.once("a", REQUEST, answered(1))
    await repeats.once("b", REQUEST, answered(2))  # in the place of a
    again = await repeats.once("a", REQUEST, answered(3))
    assert again == admin_pb2.AbortRoleChangeResponse(configuration_epoch=3)
    other = Change()
    second = asyncio.ensure_future(repeats.once("running too", REQUEST, other))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await repeats.once("c", REQUEST, answered(4))
    for each in (change, other):
        each.go.set()
    await asyncio.gather(running, second)
