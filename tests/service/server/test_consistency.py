"""What each consistency makes a member wait for, and what it says when the bound can't be met (raft.md §2)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lockmaster.api import config_pb2, status_pb2
from lockmaster.errors import NotLeader, Overloaded, Unavailable
from lockmaster.server.events import EventHub, RevisionWaiters
from lockmaster.server.operations import Operations, Origin
from lockmaster.server.translate import Response
from lockmaster.statemachine.commands import Command, Put

S = status_pb2
BOUNDED = {"consistency": S.CONSISTENCY_BOUNDED, "age_ms_max": 2_000}


class Reader:
    """Asks one member in memory for key n/k."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        events = EventHub()
        events.revision_waiters = RevisionWaiters()
        engine.subscribe(events.listen)
        self._operations = Operations(engine, events.revision_waiters, 10**9)

    async def get(self, at_revision: int = 0, **read: Any) -> Response:
        """The answer."""
        answered = asyncio.get_running_loop().create_future()

        def reply(size: int) -> Response:
            response = Response()
            answered.set_result(response)
            return response

        request = config_pb2.GetRequest(namespace="n", key="k", at_revision=at_revision, read=read)
        self._operations.get(request, Origin("p"), 0, reply)
        async with asyncio.timeout(5):
            response: Response = await answered
        await asyncio.sleep(0)
        return response

    def put(self) -> int:
        """Writes the key; its revision."""
        return int(self.engine.apply(Command(Put("n", "k", b"v", None, "", 0, "", "", 0)))[0].revision)


@pytest.fixture
async def reader(engine: Any) -> Reader:
    return Reader(engine)


async def test_linearizable_asks_for_an_index_and_a_lease_read_says_that_one_will_do(reader: Reader) -> None:
    assert (await reader.get()).status == S.STATUS_OK
    assert (await reader.get(consistency=S.CONSISTENCY_LEADER_LEASE)).status == S.STATUS_OK
    assert reader.engine.indexes_read == [False, True]


async def test_a_state_within_the_bound_is_read_without_asking_anybody(reader: Reader) -> None:
    reader.engine.age_ns = 2_000 * 1_000_000
    reader.put()
    assert (await reader.get(**BOUNDED)).get.item.value == b"v"
    assert reader.engine.indexes_read == []


@pytest.mark.parametrize("age_ns", [None, 2_000 * 1_000_000 + 1])
async def test_an_older_or_unknown_state_is_confirmed_first(reader: Reader, age_ns: int | None) -> None:
    reader.engine.age_ns = age_ns
    assert (await reader.get(**BOUNDED)).status == S.STATUS_OK
    assert reader.engine.indexes_read == [False]


async def test_a_bound_that_nobody_confirms_is_refused_and_named(reader: Reader) -> None:
    reader.engine.unconfirmed = Unavailable("no leader confirmed the read; try again")
    failure = (await reader.get(**BOUNDED)).failure
    assert failure.status == S.STATUS_UNAVAILABLE
    assert failure.message == "the state here may be older than 2 s: no leader confirmed the read; try again"


@pytest.mark.parametrize("error", [NotLeader("h:1", "a witness"), Overloaded("too many reads wait")])
async def test_why_else_a_bounded_read_fails_is_passed_on(reader: Reader, error: Any) -> None:
    reader.engine.unconfirmed = error
    failure = (await reader.get(**BOUNDED)).failure
    assert failure.message == str(error)
    assert failure.leader.address == getattr(error, "leader_hint", "")


async def test_a_page_of_a_bounded_read_waits_for_the_revision_that_another_member_gave_out(reader: Reader) -> None:
    reader.engine.age_ns = 0
    first = reader.put()
    waiting = asyncio.ensure_future(reader.get(at_revision=first + 1, **BOUNDED))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert reader.put() == first + 1
    assert (await waiting).get.item.mod_revision == first + 1


async def test_an_eventual_read_waits_so_long_as_it_says_and_names_the_revision(reader: Reader) -> None:
    revision = reader.put()
    eventual = {"consistency": S.CONSISTENCY_EVENTUAL, "wait_ms_max": 20}
    assert (await reader.get(**eventual, revision_min=revision)).status == S.STATUS_OK
    failure = (await reader.get(**eventual, revision_min=revision + 1)).failure
    assert failure.status == S.STATUS_UNAVAILABLE
    assert failure.message == f"revision {revision + 1} was not applied here within 0.02 s; ask another member"
    assert reader.engine.indexes_read == []
