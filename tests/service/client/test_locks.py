"""Locks over a real gRPC stream to a model of the cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lockmaster import AsyncClient, LockBusy, LockLost, LockTimeout, NotHeld


async def test_a_lock_is_held_in_the_body_and_free_after(cluster: Any) -> None:
    async with cluster.client() as client:
        async with client.lock("orders/42", timeout=5) as held:
            assert cluster.model.holders["orders/42"][1] == held.fencing_token
            assert held.valid
            held.ensure(min_remaining=2.0)
        assert "orders/42" not in cluster.model.holders
        with pytest.raises(NotHeld):
            held.ensure()
        await held.release()


async def test_tokens_rise_and_waiters_are_served_in_order(cluster: Any) -> None:
    order: list[int] = []
    tokens: list[int] = []
    async with cluster.client() as client:

        async def worker(number: int) -> None:
            async with client.lock("x") as held:
                order.append(number)
                tokens.append(held.fencing_token)

        await asyncio.gather(*(worker(number) for number in range(50)))
    assert order == list(range(50))
    assert tokens == sorted(set(tokens))


async def test_try_acquire_of_a_held_lock_gives_none(cluster: Any) -> None:
    async with cluster.client() as one, cluster.client() as other:
        async with one.lock("x"):
            assert await other.lock("x").try_acquire() is None
            with pytest.raises(LockBusy):
                await other.lock("x", timeout=0).acquire()
        held = await other.lock("x").try_acquire()
        assert held is not None
        await held.release()


async def test_timeout_withdraws_the_waiter(cluster: Any) -> None:
    async with cluster.client() as one, cluster.client() as other, one.lock("x"):
        with pytest.raises(LockTimeout):
            async with other.lock("x", timeout=0.01):
                pytest.fail("the body ran unheld")
        await other.locks.inspect("x")
        assert not cluster.model.queues["x"]


async def test_cancelling_an_acquire_withdraws_the_waiter(cluster: Any) -> None:
    async with cluster.client() as one, cluster.client() as other, one.lock("x"):
        task = asyncio.create_task(other.lock("x").acquire())
        while not cluster.model.queues.get("x"):
            await one.locks.inspect("x")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await other.locks.inspect("x")
        assert not cluster.model.queues["x"]


async def test_a_grant_that_crosses_a_cancel_is_given_back(cluster: Any) -> None:
    async with cluster.client() as client:
        task = asyncio.create_task(client.lock("x").acquire())
        while "x" not in cluster.model.holders:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.locks.inspect("x")
        await client.locks.inspect("x")
        assert "x" not in cluster.model.holders


async def test_errors_of_body_and_release_both_survive(cluster: Any) -> None:
    async with cluster.client() as client:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 (the body is the subject)
            async with client.lock("x") as held:
                cluster.model.expire(held.session_id)
                await held.lost.wait()
                raise ZeroDivisionError
        assert [type(each) for each in caught.value.exceptions] == [ZeroDivisionError, LockLost]


async def test_the_body_error_alone_goes_through_unchanged(cluster: Any) -> None:
    async with cluster.client() as client:
        with pytest.raises(ZeroDivisionError):
            async with client.lock("x"):
                raise ZeroDivisionError
        assert "x" not in cluster.model.holders


async def test_force_release_tells_the_holder(cluster: Any) -> None:
    async with cluster.client() as client, cluster.client() as admin:
        with pytest.raises(LockLost, match="INC-1"):  # noqa: PT012 (the body is the subject)
            async with client.lock("x") as held:
                told: list[LockLost] = []
                held.on_lost(told.append)
                assert await admin.locks.force_release("x", "INC-1") == held.fencing_token
                await held.lost.wait()
                assert held.remaining == 0.0
                assert told == [held.loss]
                held.ensure()


async def test_cancel_on_lost_turns_into_lock_lost(cluster: Any) -> None:
    async with cluster.client() as client:
        with pytest.raises(LockLost):  # noqa: PT012 (the body is the subject)
            async with client.lock("x", on_lost="cancel") as held:
                cluster.model.expire(held.session_id)
                await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_decorator_holds_the_lock_while_the_function_runs(cluster: Any) -> None:
    client: AsyncClient = cluster.client()
    async with client:

        @client.locked("nightly")
        async def report(number: int) -> int:
            assert "nightly" in cluster.model.holders
            return number + 1

        assert await report(1) == 2
        assert "nightly" not in cluster.model.holders


async def test_after_expiry_a_new_session_serves_later_calls(cluster: Any) -> None:
    async with cluster.client() as client:
        async with client.lock("x"):
            first = client.session_id
        cluster.model.expire(first, tell=False)
        async with client.lock("x") as held:
            assert held.session_id != first


async def test_inspect_shows_holder_and_queue_length(cluster: Any) -> None:
    async with cluster.client() as client, client.lock("x") as held:
        status = await client.locks.inspect("x")
        assert status.holder is not None
        assert status.holder.token == held.fencing_token
