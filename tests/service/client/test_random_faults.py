"""Seeded faults on every road at once: what the caller was told must be what happened, exactly once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from lockmaster.api import session_pb2, status_pb2

TASKS = 6
ROUNDS = 12


@pytest.mark.parametrize("seed", range(6))
async def test_exactly_once_under_random_faults(three: Any, seed: int) -> None:
    """Replay: pytest tests/service/client/test_random_faults.py -k '[SEED]'."""
    draw = random.Random(seed)
    statuses = [status_pb2.STATUS_OVERLOADED, status_pb2.STATUS_UNAVAILABLE]

    def fault(request: Any) -> Any:
        chance = draw.random()
        if chance < 0.02:
            return "drop"
        if chance < 0.04:
            three.lead(draw.randrange(3))
        elif chance < 0.06:
            return "twice"
        elif chance < 0.08:
            status = draw.choice(statuses)
            failure = status_pb2.Failure(status=status, retry_after_ms=1)
            return session_pb2.Response(status=status, failure=failure)
        elif chance < 0.09:
            for member in three.members:
                asyncio.get_running_loop().call_soon(member.drop_streams)
            return "lose"
        return None

    for member in three.members:
        member.fault = fault
    inside: list[int] = []
    tokens: list[int] = []
    counted = 0

    async def work(number: int, client: Any) -> None:
        nonlocal counted
        config = client.config("a")
        for _ in range(ROUNDS):
            async with client.lock("x") as held:
                inside.append(number)
                assert inside == [number]
                tokens.append(held.fencing_token)
                item = await config.get("n")
                await config.put("n", str(int(item.text if item is not None else "0") + 1))
                counted += 1
                inside.clear()
            await config.put(f"own/{number}", b"")

    async with three.client() as one, three.client() as other:
        await asyncio.wait_for(asyncio.gather(*(work(n, (one, other)[n % 2]) for n in range(TASKS))), 30)
        for member in three.members:
            member.fault = lambda request: None
        item = await one.config("a").get("n")
        assert item is not None
        assert int(item.text) == counted == TASKS * ROUNDS
        assert tokens == sorted(set(tokens))
        owned = await one.config("a").range("own/")
        assert [each.version for each in owned] == [ROUNDS] * TASKS
    executed = three.model.executed
    assert len(executed) == len(set(executed))
