"""A session is for the principal that opened it, also before this member knows it: ids can be guessed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lockmaster.api import config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.errors import NotLeader, Overloaded, Unavailable
from lockmaster.server import operations

from .test_session_stream import Client

Request = session_pb2.Request
S = status_pb2


def requests(session_id: int) -> dict[str, Request]:
    """Everything that acts for a session."""
    return {
        "acquire": Request(id=1, seq=1, acquire=lock_pb2.AcquireRequest(name="a", wait=True)),
        "release": Request(id=1, release=lock_pb2.ReleaseRequest(name="a", token=1)),
        "cancel": Request(id=1, cancel_acquire=lock_pb2.CancelAcquireRequest(name="a", acquire_seq=1)),
        "put": Request(id=1, seq=1, put=config_pb2.PutRequest(namespace="n", key="k", value=b"v")),
        "ephemeral": Request(id=1, put=config_pb2.PutRequest(namespace="n", key="k", value=b"v", ephemeral=True)),
        "keep alive": Request(id=1, keep_alive=session_pb2.KeepAliveRequest(session_ids=[session_id])),
        "close": Request(id=1, close_session=session_pb2.CloseSessionRequest(session_id=session_id)),
        "attach": Request(id=1, attach=session_pb2.AttachRequest()),
    }


NAMES = list(requests(1))
UNKNOWN = {"keep alive": S.STATUS_OK, "close": S.STATUS_OK}
"""How what names a session that is over ends, where not by SESSION_EXPIRED."""


async def ask_early(client: Client, name: str) -> int:
    """Asks for the session that will be opened next, and returns its id once the member waits for a read index."""
    engine = client.engine
    client.session_id = engine.revision + 1
    engine.held = []
    client.send(requests(client.session_id)[name])
    async with asyncio.timeout(5):
        while not engine.indexes_read:
            await asyncio.sleep(0)
    return client.session_id


async def once_confirmed(client: Client) -> list[int]:
    """The statuses of what is answered after the read index."""
    (confirmed,), client.engine.held = client.engine.held, None
    confirmed()
    return [answer.status for answer in (await client.frame()).responses]


@pytest.mark.parametrize("name", NAMES)
async def test_a_session_on_its_way_to_its_owner_is_not_a_strangers(engine: Any, name: str) -> None:
    stranger = Client(engine, "stranger")
    guessed = await ask_early(stranger, name)
    assert stranger.open("owner") == guessed
    assert await once_confirmed(stranger) == [S.STATUS_PERMISSION_DENIED]
    assert engine.proposed == []
    assert engine.machine.session(stranger.session_id).principal == "owner"
    await stranger.end()


@pytest.mark.parametrize("name", NAMES)
async def test_a_session_that_nobody_has_is_over(engine: Any, name: str) -> None:
    client = Client(engine)
    client.session_id = engine.revision + 1
    (answer,) = await client.ask(requests(client.session_id)[name])
    assert answer.status == UNKNOWN.get(name, S.STATUS_SESSION_EXPIRED)
    if name == "keep alive":
        assert list(answer.keep_alive.expired) == [client.session_id]
    assert engine.proposed == []
    await client.end()


@pytest.mark.parametrize("name", ["acquire", "close"])
async def test_its_own_session_is_found_once_the_state_is_confirmed(engine: Any, name: str) -> None:
    """A new leader that hasn't applied the opening yet: the owner waits a moment and is served."""
    owner = Client(engine, "owner")
    await ask_early(owner, name)
    owner.open("owner")
    assert await once_confirmed(owner) == [S.STATUS_OK]
    await owner.end()


async def test_who_cannot_propose_asks_nobody_and_names_the_leader(engine: Any) -> None:
    engine.is_leader, engine.refusal = False, NotLeader("leader.example:7420")
    client = Client(engine)
    client.session_id = engine.revision + 1
    for name in ("acquire", "release", "put", "close"):
        (answer,) = await client.ask(requests(client.session_id)[name])
        assert answer.status == S.STATUS_NOT_LEADER, name
    assert engine.indexes_read == []
    await client.end()


async def test_an_unconfirmed_state_decides_nothing(engine: Any) -> None:
    engine.unconfirmed = Unavailable("no leader confirmed the read; try again")
    client = Client(engine)
    client.session_id = engine.revision + 1
    for name in NAMES:
        (answer,) = await client.ask(requests(client.session_id)[name])
        assert answer.status == S.STATUS_UNAVAILABLE, name
    assert engine.proposed == []
    await client.end()


def put(id: int, **fields: Any) -> Request:
    return Request(id=id, put=config_pb2.PutRequest(namespace="n", key="k", value=b"%d" % id), **fields)


async def test_a_stream_is_proposed_in_its_order_while_a_request_waits_to_find_its_session(engine: Any) -> None:
    """With a number or without one, of this frame or a later one, after the state moved on: nothing overtakes."""
    owner = Client(engine, "owner")
    await ask_early(owner, "put")
    owner.send(put(2))
    owner.open("owner")  # from here on it is known
    owner.send(put(3, seq=3), requests(owner.session_id)["close"])
    await asyncio.sleep(0.01)
    assert engine.proposed == []
    (confirmed,), engine.held = engine.held, None
    confirmed()
    answers = (await owner.frame()).responses
    assert [answer.status for answer in answers] == [S.STATUS_OK] * 4
    assert [getattr(each.operation, "value", b"closed") for each in engine.proposed] == [b"v", b"2", b"3", b"closed"]
    await owner.end()


async def test_what_waited_behind_is_refused_by_itself(engine: Any) -> None:
    """Sessions of others, and one that must be looked for anew, which keeps the rest behind it."""
    client = Client(engine, "owner")
    other = client.open("other")
    guessed = await ask_early(client, "put")
    client.send(put(2, seq=2), session_id=other)
    client.send(put(3, seq=3), session_id=guessed + 1000)
    client.send(put(4))
    await asyncio.sleep(0.01)
    (first,), engine.held = engine.held, []
    client.open("owner")
    first()
    assert [each.operation.value for each in engine.proposed] == [b"v"]
    waiting, engine.held = engine.held, None
    for answer in waiting:  # the first one's, and the second look
        answer()
    answers: dict[int, int] = {}
    while len(answers) < 4:
        answers |= {each.id: each.status for each in (await client.frame()).responses}
    assert answers == {1: S.STATUS_OK, 2: S.STATUS_PERMISSION_DENIED, 3: S.STATUS_SESSION_EXPIRED, 4: S.STATUS_OK}
    assert [each.operation.value for each in engine.proposed] == [b"v", b"4"]
    await client.end()


async def test_who_leads_no_more_while_it_is_found_names_the_leader(engine: Any) -> None:
    client = Client(engine, "owner")
    engine.unconfirmed = Unavailable("stepped down")
    await ask_early(client, "acquire")
    engine.is_leader, engine.refusal = False, NotLeader("leader.example:7420")
    assert await once_confirmed(client) == [S.STATUS_NOT_LEADER]
    await client.end()


async def test_nothing_behind_overtakes_what_could_not_be_found(engine: Any) -> None:
    client = Client(engine, "owner")
    engine.unconfirmed = Overloaded("too many reads wait")
    await ask_early(client, "put")
    held = client.session_id
    frees = Request(id=3, release=lock_pb2.ReleaseRequest(name="a", token=1))
    client.send(put(2))
    client.stream._origin.known.add(7)
    client.send(frees, session_id=7)  # a session that is known: no overload keeps it out
    client.send(frees, session_id=held)
    await asyncio.sleep(0.01)
    statuses = await once_confirmed(client)
    assert statuses[:2] == [S.STATUS_OVERLOADED] * 2
    assert [type(each.operation).__name__ for each in engine.proposed] == ["Release"]
    await client.end()


async def test_what_waits_to_find_its_session_is_bounded_in_bytes_but_for_what_frees(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "WAITING_BYTES_MAX", 1000)
    owner = Client(engine, "owner")
    await ask_early(owner, "put")
    large = Request(id=2, put=config_pb2.PutRequest(namespace="n", key="k", value=bytes(990)))
    owner.send(large, requests(owner.session_id)["close"])
    await asyncio.sleep(0.01)
    (refused,) = (await owner.frame()).responses
    assert (refused.id, refused.status) == (2, S.STATUS_OVERLOADED)
    owner.open("owner")
    assert await once_confirmed(owner) == [S.STATUS_OK] * 2
    owner.send(large)  # the room is free again
    assert [answer.status for answer in (await owner.frame()).responses] == [S.STATUS_OK]
    await owner.end()
