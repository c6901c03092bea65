"""Two members in one process: joining, relaying, reading at a follower, `moved` when the lead goes over."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from lockmaster.api import admin_pb2, config_pb2, session_pb2, status_pb2
from lockmaster.cli.connection import Target
from lockmaster.cli.serving import hand_over
from lockmaster.server.app import Server, dev_settings
from lockmaster.server.joining import JoinRefused, join
from lockmaster.server.relay import FAILURE_KEY

S = status_pb2
WAIT = 30.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def members(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Server, Server]]:
    """Two members, both voters: forming takes seconds, so all tests share them."""
    tmp_path = tmp_path_factory.mktemp("pair")
    first = Server(dev_settings(tmp_path / "first"))
    await first.start()
    joining = {"name": "second", "bootstrap": False, "join": (first.bound_address,)}
    second = Server(dev_settings(tmp_path / "second").model_copy(update=joining))
    await second.start()
    await until(lambda: sum(member.voter for member in first.engine.status().members) == 2)
    yield first, second
    await second.stop()
    await first.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def pair(members: tuple[Server, Server]) -> tuple[Server, Server]:
    """(leader, follower), as they stand when the test begins."""
    first, second = members
    await until(lambda: any(member.engine.admits_writes for member in members))
    await until(lambda: first.engine.ready and second.engine.ready)
    return (first, second) if first.engine.is_leader else (second, first)


async def call(address: str, path: str, request: Any, response: Any, metadata: Any = ()) -> Any:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = channel.unary_unary(path, type(request).SerializeToString, response.FromString)
        return await stub(request, timeout=10, metadata=metadata)


@contextlib.asynccontextmanager
async def session_channel(address: str) -> AsyncIterator[Callable[[], Any]]:
    """Gives a function that opens a session stream of messages."""
    async with grpc.aio.insecure_channel(address) as channel:
        connect: Any = channel.stream_stream(
            "/lockmaster.v1.Sessions/Connect",
            session_pb2.ClientFrame.SerializeToString,
            session_pb2.ServerFrame.FromString,
        )
        yield connect


async def put(address: str, value: bytes, metadata: Any = ()) -> Any:
    request = config_pb2.PutRequest(namespace="n", key="k", value=value)
    return await call(address, "/lockmaster.v1.Config/Put", request, config_pb2.PutResponse, metadata)


async def get(address: str, **read: Any) -> Any:
    request = config_pb2.GetRequest(namespace="n", key="k", read=read)
    return await call(address, "/lockmaster.v1.Config/Get", request, config_pb2.GetResponse)


def plain(address: str) -> Target:
    return Target((address,), None, None, None, insecure=True, timeout=5.0)


def failure_of(error: grpc.aio.AioRpcError) -> status_pb2.Failure:
    trailing: dict[str, Any] = dict(error.trailing_metadata() or ())  # type: ignore[arg-type]
    return status_pb2.Failure.FromString(trailing[FAILURE_KEY])


async def test_a_follower_relays_writes_one_hop_and_reads_what_was_written(pair: tuple[Server, Server]) -> None:
    leader, follower = pair
    written = await put(follower.bound_address, b"1")
    assert (await get(follower.bound_address)).item.mod_revision == written.revision
    assert (await get(leader.bound_address)).item.value == b"1"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put(follower.bound_address, b"2", (("lockmaster-relayed-for-bin", b""),))
    failure = failure_of(caught.value)
    assert (failure.status, failure.leader.address) == (S.STATUS_NOT_LEADER, leader.client_address)
    request = config_pb2.PutRequest(namespace="n", key="k", if_revision=5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(follower.bound_address, "/lockmaster.v1.Config/Put", request, config_pb2.PutResponse)
    failure = failure_of(caught.value)
    assert (failure.status, failure.current_revision) == (S.STATUS_COMPARE_FAILED, written.revision)


async def test_every_consistency_at_both_members_sees_what_was_written_as_it_promises(
    pair: tuple[Server, Server],
) -> None:
    for number in range(5):
        written = await put(pair[0].bound_address, b"%d" % number)
        for member in pair:
            leased = await get(member.bound_address, consistency=S.CONSISTENCY_LEADER_LEASE)
            assert leased.item.mod_revision == written.revision
            eventual = {"consistency": S.CONSISTENCY_EVENTUAL, "revision_min": written.revision}
            assert (await get(member.bound_address, **eventual)).item.mod_revision == written.revision
        await asyncio.sleep(0.1)
        for member in pair:
            bounded = await get(member.bound_address, consistency=S.CONSISTENCY_BOUNDED, age_ms_max=100)
            assert bounded.item.mod_revision == written.revision


async def test_a_lease_read_asks_nobody_and_a_bounded_one_only_when_its_bound_is_over(
    pair: tuple[Server, Server],
) -> None:
    leader, follower = pair

    async def rounds(address: str, **read: Any) -> int:
        before = leader.engine.node._core.round_id
        for _ in range(50):
            await get(address, **read)
        return leader.engine.node._core.round_id - before

    assert await rounds(leader.bound_address) >= 50
    assert await rounds(leader.bound_address, consistency=S.CONSISTENCY_LEADER_LEASE) < 25
    assert await rounds(follower.bound_address, consistency=S.CONSISTENCY_LEADER_LEASE) >= 50
    for member in pair:
        bounded = {"consistency": S.CONSISTENCY_BOUNDED, "age_ms_max": 2_000}
        assert await rounds(member.bound_address, **bounded) < 25


async def test_a_follower_serves_watches_and_tells_streams_where_the_leader_is(pair: tuple[Server, Server]) -> None:
    leader, follower = pair
    async with session_channel(follower.bound_address) as connect:
        stream = connect()
        watch = session_pb2.Request(id=1, watch={"namespace": "n", "key": "k", "watch_id": 1})
        opening = session_pb2.Request(id=2, open_session={"nonce": os.urandom(16)})
        await stream.write(session_pb2.ClientFrame(requests=[watch, opening]))
        answers: dict[int, session_pb2.Response] = {}
        while len(answers) < 2:
            answers |= {answer.id: answer for answer in (await stream.read()).responses}
        assert answers[1].status == S.STATUS_OK
        assert answers[2].status == S.STATUS_NOT_LEADER
        assert answers[2].failure.leader.address == leader.client_address
        await put(leader.bound_address, b"watched")
        seen: list[bytes] = []
        while not seen:
            for event in (await stream.read()).events:
                seen += [change.item.value for change in event.watch.changes]
        assert seen == [b"watched"]
        stream.cancel()


async def test_a_stream_is_told_to_move_when_the_lead_goes_over(pair: tuple[Server, Server]) -> None:
    leader, follower = pair
    async with session_channel(leader.bound_address) as connect:
        stream = connect()
        opening = session_pb2.Request(id=1, open_session={"nonce": os.urandom(16)})
        await stream.write(session_pb2.ClientFrame(requests=[opening]))
        session_id = (await stream.read()).responses[0].open_session.session_id
        attach = session_pb2.Request(id=2, attach={})
        await stream.write(session_pb2.ClientFrame(session_id=session_id, requests=[attach]))
        assert (await stream.read()).responses[0].HasField("attach")
        transfer = admin_pb2.TransferLeadershipRequest()
        path = "/lockmaster.v1.Admin/TransferLeadership"
        moved = await call(leader.bound_address, path, transfer, admin_pb2.TransferLeadershipResponse)
        assert moved.leader_id == follower.engine.member_id
        assert (await stream.read()).moved.address == follower.client_address
        stream.cancel()


async def test_a_client_that_a_follower_turned_away_is_told_when_that_one_leads(pair: tuple[Server, Server]) -> None:
    """It listens there until then; another one, that has only watches, is left alone."""
    leader, follower = pair
    async with session_channel(follower.bound_address) as connect:
        turned_away, watcher = connect(), connect()
        await turned_away.write(session_pb2.ClientFrame(session_id=1, requests=[{"id": 1, "attach": {}}]))
        answer = await turned_away.read()
        assert answer.responses[0].status == S.STATUS_NOT_LEADER
        assert answer.members.own == follower.client_address
        assert set(answer.members.addresses) == {leader.client_address, follower.client_address}
        watch = {"namespace": "n", "key": "told", "watch_id": 1}
        await watcher.write(session_pb2.ClientFrame(requests=[{"id": 1, "watch": watch}]))
        assert (await watcher.read()).responses[0].status == S.STATUS_OK
        await hand_over(plain(leader.bound_address))
        assert (await turned_away.read()).moved.address == follower.client_address
        await until(lambda: follower.engine.admits_writes)
        request = config_pb2.PutRequest(namespace="n", key="told", value=b"v")
        await call(follower.bound_address, "/lockmaster.v1.Config/Put", request, config_pb2.PutResponse)
        frame = await watcher.read()
        assert not frame.HasField("moved")
        assert frame.events[0].watch.changes[0].item.value == b"v"


async def test_members_that_have_changed_are_named_with_a_later_answer(tmp_path: Path) -> None:
    first = Server(dev_settings(tmp_path / "first"))
    await first.start()
    second: Server | None = None
    try:
        async with asyncio.timeout(WAIT), session_channel(first.bound_address) as connect:
            stream = connect()
            read = session_pb2.ClientFrame(requests=[{"id": 1, "get": {"namespace": "n", "key": "k"}}])
            await stream.write(read)
            assert list((await stream.read()).members.addresses) == [first.client_address]
            joining = {"name": "second", "bootstrap": False, "join": (first.bound_address,)}
            second = Server(dev_settings(tmp_path / "second").model_copy(update=joining))
            await second.start()
            named: list[str] = []
            while named != [first.client_address, second.client_address]:
                await stream.write(read)
                named = list((await stream.read()).members.addresses)
            stream.cancel()
    finally:
        if second is not None:
            await second.stop()
        await first.stop()


async def test_a_member_that_is_refused_says_why(pair: tuple[Server, Server], tmp_path: Path) -> None:
    leader, _ = pair
    blank = Server(dev_settings(tmp_path / "third").model_copy(update={"bootstrap": False, "name": "third"}))
    await blank.start()
    try:
        settings = blank.settings.model_copy(update={"join": (leader.bound_address,)})
        with pytest.raises(JoinRefused, match="client_address"):
            await join(blank.engine, settings, "nowhere", lambda: None)
        assert blank.engine.is_blank
    finally:
        await blank.stop()


async def test_a_handover_moves_the_lead_away_and_does_nothing_on_a_follower(pair: tuple[Server, Server]) -> None:
    leader, follower = pair
    told = await hand_over(plain(follower.bound_address))
    assert told == "nothing to hand over: this member is follower"
    assert leader.engine.is_leader
    told = await hand_over(plain(leader.bound_address))
    assert told == f"member {follower.engine.status().member_id} leads now"
    await until(lambda: follower.engine.is_leader)
