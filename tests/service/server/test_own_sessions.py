"""A session is for the principal that opened it, also before this member knows it: ids can be guessed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lockmaster.api import config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.errors import NotLeader, Unavailable

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
