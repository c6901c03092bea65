"""Lost answers, broken streams, moved leaders, expired sessions: exactly once, or said to be unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from lockmaster import Indeterminate, LockLost, SessionExpired, Unavailable
from lockmaster.api import session_pb2, status_pb2


def once(kind: str, outcome: str) -> Callable[[Any], Any]:
    """A fault that meets the first request of a kind."""
    left = [outcome]

    def fault(request: Any) -> Any:
        return left.pop() if left and request.WhichOneof("operation") == kind else None

    return fault


async def test_a_lost_answer_is_fetched_again_under_the_same_number(cluster: Any) -> None:
    cluster.member.fault = once("put", "lose")
    async with cluster.client() as client:
        task = asyncio.create_task(client.config("a").put("k", b"1"))
        while not cluster.model.keys:
            await asyncio.sleep(0)
        cluster.member.drop_streams()
        revision = await task
        assert cluster.model.keys["a", "k"].mod_revision == revision
        assert [each[0] for each in cluster.model.executed].count("put") == 1
        assert cluster.member.connects == 2


async def test_a_request_that_was_dropped_with_its_stream_is_sent_again(cluster: Any) -> None:
    cluster.member.fault = once("acquire", "drop")
    async with cluster.client() as client, client.lock("x", timeout=5) as held:
        assert held.fencing_token
    assert [each[0] for each in cluster.model.executed].count("acquire") == 1


async def test_an_answer_that_comes_twice_counts_once(cluster: Any) -> None:
    cluster.member.fault = once("acquire", "twice")
    async with cluster.client() as client:
        async with client.lock("x"):
            pass
        async with client.lock("x"):
            pass


async def test_leader_hints_are_followed(three: Any) -> None:
    three.lead(1)
    async with three.client() as client:
        async with client.lock("x"):
            pass
        three.lead(2)
        async with client.lock("x"):
            pass
    assert three.members[1].connects >= 1
    assert three.members[2].connects >= 1


async def test_a_member_that_stops_is_left_for_another(three: Any) -> None:
    async with three.client() as client, client.lock("x") as held:
        await next(member for member in three.members if member.streams).stop()
        async with client.lock("y", timeout=5):
            pass
        assert held.loss is None


async def test_a_grant_during_a_broken_stream_is_learned_by_attach(cluster: Any) -> None:
    async with cluster.client() as one, cluster.client() as other:
        held = await one.lock("x").acquire()
        task = asyncio.create_task(other.lock("x").acquire())
        while not cluster.model.queues.get("x"):
            await one.locks.inspect("x")
        session = other.session_id
        cluster.model.streams.pop(session)
        await held.release()
        cluster.member.drop_streams()
        assert (await task).session_id == session


async def test_a_lock_taken_during_a_broken_stream_is_lost_by_attach(cluster: Any) -> None:
    async with cluster.client() as client:
        held = await client.lock("x").acquire()
        cluster.model.streams.clear()
        cluster.model.holders.clear()
        cluster.member.drop_streams()
        await held.lost.wait()
        with pytest.raises(LockLost):
            await held.release()


async def test_an_unanswered_call_of_an_expired_session_is_unknown(cluster: Any) -> None:
    cluster.member.fault = once("put", "lose")
    async with cluster.client() as client:
        async with client.lock("x"):
            pass
        first = client.session_id
        task = asyncio.create_task(client.config("a").put("k", b"1"))
        while not cluster.model.keys:
            await asyncio.sleep(0)
        cluster.model.expire(first, tell=False)
        cluster.member.drop_streams()
        with pytest.raises(Indeterminate):
            await task
        assert await client.config("a").put("k", b"2")
        assert client.session_id != first
        assert [each[0] for each in cluster.model.executed].count("put") == 2


async def test_a_waiter_is_told_that_its_session_expired(cluster: Any) -> None:
    async with cluster.client() as one, cluster.client() as other, one.lock("x"):
        task = asyncio.create_task(other.lock("x").acquire())
        while not cluster.model.queues.get("x"):
            await one.locks.inspect("x")
        cluster.model.expire(other.session_id)
        with pytest.raises(SessionExpired):
            await task


async def test_overload_is_tried_again(cluster: Any) -> None:
    left = [status_pb2.STATUS_OVERLOADED, status_pb2.STATUS_INDETERMINATE, status_pb2.STATUS_WINDOW_FULL]

    def fault(request: Any) -> Any:
        if request.WhichOneof("operation") != "put" or not left:
            return None
        status = left.pop()
        return session_pb2.Response(status=status, failure=status_pb2.Failure(status=status))

    cluster.member.fault = fault
    async with cluster.client() as client:
        assert await client.config("a").put("k", b"1")
    assert not left


async def test_no_member_answers_is_unavailable_and_nothing_done(cluster: Any) -> None:
    await cluster.member.stop()
    async with cluster.client(operation_timeout=0.05) as client:
        with pytest.raises(Unavailable):
            await client.config("a").put("k", b"1")


async def test_a_call_whose_answer_does_not_come_in_time_is_indeterminate(cluster: Any) -> None:
    cluster.member.fault = lambda request: "lose" if request.WhichOneof("operation") == "put" else None
    async with cluster.client(operation_timeout=0.05) as client:
        with pytest.raises(Indeterminate):
            await client.config("a").put("k", b"1")


async def test_validity_runs_out_when_nobody_renews(cluster: Any) -> None:
    cluster.member.keepalive_down = True
    async with cluster.client(ttl=0.6) as client:
        held = await client.lock("x").acquire()
        jeopardy = asyncio.Event()
        held.on_jeopardy(jeopardy.set)
        await held.lost.wait()
        assert jeopardy.is_set()
        assert not held.valid
        assert held.loss is not None


async def test_renewals_keep_a_lock_valid_beyond_its_ttl(cluster: Any) -> None:
    async with cluster.client(ttl=0.3) as client, client.lock("x") as held:
        while cluster.model.renewals < 6:
            await client.locks.inspect("x")
        assert held.valid


async def test_a_callback_that_fails_is_logged_and_harms_nobody(cluster: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with cluster.client() as client:
        held = await client.lock("x").acquire()
        held.on_lost(lambda lost: 1 // 0)
        told: list[LockLost] = []
        held.on_lost(told.append)
        await client.locks.force_release("x", "test")
        await held.lost.wait()
        assert len(told) == 1
        async with client.lock("y", timeout=5):
            pass
    assert "a callback of a lock failed" in caplog.text


async def test_a_malformed_message_costs_the_stream_not_the_calls(
    cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster.client() as client:
        async with client.lock("x"):
            pass
        for stream in cluster.member.streams:
            stream.send(Garbage())
        async with client.lock("y", timeout=5):
            pass
        while cluster.member.connects < 2:
            await client.locks.inspect("x")
    assert "failed" in caplog.text


class Garbage:
    def SerializeToString(self) -> bytes:
        return b"\xff\xff\xff"
