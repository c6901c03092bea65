"""The leader vanishes, and the only endpoint (a Service) leads to nobody for long: by which ways a client goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from lockmaster.api import session_pb2, status_pb2
from lockmaster.client import connection, patience
from lockmaster.client.connection import ADDRESSES_MAX, AVOID_SECONDS, DOUBT_SECONDS, Channels, Connection
from lockmaster.client.patience import Patience
from lockmaster.client.session_core import Redirect

FOREVER = 3600.0
WAIT = 30.0


class Service:
    """An address that leads to a member, until it leads nowhere: connections are taken, and nothing comes back."""

    def __init__(self) -> None:
        self.target = ""
        self.accepted = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def vanish(self) -> None:
        """Open connections break."""
        self.target = ""
        for writer in self._writers:
            writer.transport.abort()

    def close(self) -> None:
        self.server.close()
        self.vanish()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        if not self.target:
            return
        host, _, port = self.target.rpartition(":")
        upstream = await asyncio.open_connection(host, int(port))
        self._writers.add(upstream[1])
        await asyncio.gather(_carry(reader, upstream[1]), _carry(upstream[0], writer), return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
    finally:
        writer.close()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    await made.start()
    yield made
    made.close()


async def test_members_that_the_cluster_named_are_reached_while_the_endpoint_leads_nowhere(
    three: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt at the endpoint would last an hour: what is reached, is reached beside it."""
    service.target = three.members[0].address
    three.name_members()
    async with three.client(service.address, operation_timeout=WAIT, ttl=FOREVER) as client:
        await client.config("a").put("k", b"1")
        monkeypatch.setattr(patience, "FIRST_SECONDS", FOREVER)
        monkeypatch.setattr(patience, "SECONDS_MAX", FOREVER)
        await three.members[0].stop()
        service.vanish()
        three.lead(1)
        await client.config("a").put("k", b"2")
    assert three.model.keys["a", "k"].value == b"2"
    assert [each[0] for each in three.model.executed].count("put") == 2
    assert three.members[1].connects == 1


async def test_the_endpoint_is_enough_where_members_names_lead_nowhere(
    three: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from outside of a cluster."""
    nowhere = Service()
    await nowhere.start()
    monkeypatch.setattr(patience, "FIRST_SECONDS", FOREVER)
    monkeypatch.setattr(patience, "SECONDS_MAX", FOREVER)
    service.target = three.members[0].address
    three.members[0].named = session_pb2.ClusterMembers(addresses=[nowhere.address], own=nowhere.address)
    async with three.client(service.address, operation_timeout=WAIT, ttl=FOREVER) as client:
        await client.config("a").put("k", b"1")
        service.vanish()
        service.target = three.members[0].address
        await client.config("a").put("k", b"2")
    nowhere.close()
    assert three.model.keys["a", "k"].value == b"2"


async def test_a_client_hears_of_a_new_leader_in_the_pause_before_its_next_attempt(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is an hour here, once there is one: nothing but the member's word can end it."""
    paused = asyncio.Event()

    def backoff(attempt: int, draw: float) -> float:
        paused.set()
        return FOREVER

    monkeypatch.setattr(connection, "backoff", backoff)
    nobody = type(three.member)(three.model)
    asked, leader, _ = three.members
    for member in three.members:
        member.leader = nobody
    async with three.client(asked.address, operation_timeout=WAIT, ttl=FOREVER) as client:
        put = asyncio.create_task(client.config("a").put("k", b"1"))
        await asyncio.wait_for(paused.wait(), WAIT)
        assert len(asked.streams) == 1
        connects = asked.connects
        leader.leader = leader
        hint = status_pb2.LeaderHint(address=leader.address)
        next(iter(asked.streams)).send(session_pb2.ServerFrame(moved=hint))
        await put
    assert (asked.connects, leader.connects) == (connects, 1)
    assert [each[0] for each in three.model.executed].count("put") == 1


class Idle:
    """As much of a SessionCore as choosing an address asks."""

    def __init__(self) -> None:
        self.members: tuple[str, ...] = ()


class Chooser:
    """A connection that is asked where it would go, at a time that the test says."""

    def __init__(self, *endpoints: str, members: tuple[str, ...] = ()) -> None:
        self.now = 100.0
        channels = Channels(None, endpoints, self.clock, Patience(len(endpoints)))
        self.connection = Connection(endpoints, channels, self.clock, asyncio.get_running_loop())
        self.connection.core = Idle()  # type: ignore[assignment]  # no more of it is asked
        self.connection.core.members = members

    def clock(self) -> float:
        return self.now

    def next(self, leader: str = "") -> list[str]:
        self.connection._leader = leader
        return self.connection._next_addresses()


async def test_a_named_leader_is_tried_alone_else_the_endpoint_and_then_members() -> None:
    chooser = Chooser("service:1", members=("a:1", "b:1", "service:1"))
    assert chooser.next("b:1") == ["b:1"]
    first, *others = chooser.next()
    assert first == "service:1"
    assert sorted(others) == ["a:1", "b:1"]


async def test_a_leader_that_was_down_is_first_avoided_and_then_tried_beside_others() -> None:
    chooser = Chooser("service:1", members=("a:1", "b:1"))
    chooser.connection._avoid("a:1")
    assert chooser.next("a:1") == ["service:1", "b:1", "a:1"]
    assert chooser.connection._pause(Redirect("a:1", 0.0)) > 0.0
    chooser.now += AVOID_SECONDS
    assert chooser.connection._pause(Redirect("a:1", 0.0)) == 0.0
    assert chooser.next("a:1") == ["a:1", "service:1", "b:1"]
    chooser.now += DOUBT_SECONDS - AVOID_SECONDS
    assert chooser.next("a:1") == ["a:1"]


async def test_a_leader_that_ended_its_stream_is_tried_at_once_and_beside_others() -> None:
    """It may be there and lead: only the connection has gone, then."""
    chooser = Chooser("service:1", members=("a:1", "b:1"))
    chooser.connection._doubt("service:1", "a:1")
    assert chooser.connection._pause(Redirect("a:1", 0.0)) == 0.0
    assert chooser.next("a:1") == ["a:1", "service:1", "b:1"]
    assert chooser.connection._pause(Redirect("a:1", 0.0)) > 0.0


async def test_attempts_of_a_round_are_bounded() -> None:
    chooser = Chooser("service:1", members=tuple(f"m{number}:1" for number in range(32)))
    assert len(chooser.next()) == ADDRESSES_MAX


def test_an_attempt_far_away_is_alone_for_longer_and_never_for_longer_than_the_shortest_attempt() -> None:
    known = Patience(1)
    assert known.stagger() == patience.STAGGER_SECONDS
    known.reached("a", 0.2)
    assert known.stagger() == pytest.approx(0.4)
    known.reached("a", 3.0)
    assert known.stagger() == patience.FIRST_SECONDS
