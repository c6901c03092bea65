"""The session stream: coalescing, bounds, attach, watches, `moved`, drain; over an engine that applies at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from lockmaster.api import config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.errors import Indeterminate, NotLeader, Overloaded
from lockmaster.server import operations, session_stream
from lockmaster.server.events import EventHub, RevisionWaiters
from lockmaster.server.operations import Operations, Origin
from lockmaster.server.session_stream import SessionStream
from lockmaster.server.watches import WatchHub
from lockmaster.statemachine.commands import Command, Expire, ForceRelease, OpenSession

Request = session_pb2.Request
S = status_pb2
ELECTION_TIMEOUT_NS = 1_000_000_000


class Aborted(Exception):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code


class Context:
    """Both ends of one stream, in memory."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.outgoing: asyncio.Queue[session_pb2.ServerFrame] = asyncio.Queue()
        self.may_write = asyncio.Event()
        self.may_write.set()

    async def read(self) -> Any:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        await self.may_write.wait()
        self.outgoing.put_nowait(session_pb2.ServerFrame.FromString(data))

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details)


class Client:
    """Drives one stream."""

    def __init__(self, engine: Any, principal: str = "", tracing: Any = None, meters: Any = None) -> None:
        self.engine = engine
        self.context = Context()
        self.events = EventHub()
        self.hub = WatchHub(engine, 100)
        self.events.changes = self.hub.listen
        engine.subscribe(self.events.listen)
        self.events.revision_waiters = RevisionWaiters()
        handlers = Operations(engine, self.events.revision_waiters, ELECTION_TIMEOUT_NS)
        handlers.tracing, handlers.meters = tracing, meters
        self.stream = SessionStream(handlers, engine, self.events, self.hub, Origin(principal))
        self.task = asyncio.create_task(self.stream.run(self.context))
        self.session_id = 0

    def open(self, principal: str = "", ttl_ns: int = 10**10) -> int:
        operation = OpenSession(os.urandom(16), ttl_ns, principal, "", 0)
        self.session_id = self.engine.apply(Command(operation))[0].revision
        return self.session_id

    def send(
        self, *requests: Request, first_incomplete: int = 1, session_id: int | None = None, traced: bool = False
    ) -> None:
        frame = session_pb2.ClientFrame(
            traced=traced,
            session_id=self.session_id if session_id is None else session_id,
            first_incomplete=first_incomplete,
            requests=requests,
        )
        self.context.incoming.put_nowait(frame.SerializeToString())

    async def frame(self) -> session_pb2.ServerFrame:
        async with asyncio.timeout(5):
            return await self.context.outgoing.get()

    async def ask(self, *requests: Request, **fields: Any) -> list[session_pb2.Response]:
        """Answers to these, by id."""
        self.send(*requests, **fields)
        answers: list[session_pb2.Response] = []
        while len(answers) < len(requests):
            answers += (await self.frame()).responses
        return sorted(answers, key=lambda answer: answer.id)

    async def end(self) -> None:
        self.context.incoming.put_nowait(grpc.aio.EOF)  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            await self.task


def acquire(id: int, name: str = "a", seq: int = 0, **fields: Any) -> Request:
    return Request(id=id, seq=seq or id, acquire=lock_pb2.AcquireRequest(name=name, wait=True, **fields))


@pytest.fixture
async def client(engine: Any) -> AsyncIterator[Client]:
    made = Client(engine)
    made.open()
    yield made
    if not made.task.done():
        made.task.cancel()
    await asyncio.wait({made.task})


async def test_answers_to_one_frame_travel_together(client: Client) -> None:
    client.send(*(acquire(number, f"lock-{number}") for number in range(1, 51)))
    frame = await client.frame()
    assert [answer.id for answer in frame.responses] == list(range(1, 51))
    assert {answer.acquire.state for answer in frame.responses} == {lock_pb2.ACQUIRE_STATE_GRANTED}


async def test_a_frame_of_too_many_requests_ends_the_stream(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_stream, "REQUESTS_PER_FRAME_MAX", 3)
    client.send(*(acquire(number) for number in range(1, 5)))
    with pytest.raises(Aborted) as aborted:
        await asyncio.wait_for(client.task, 5)
    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert client.engine.proposed == []


async def test_a_linearizable_read_pinned_in_the_future_is_refused(client: Client) -> None:
    revision = client.engine.revision + 1
    get = config_pb2.GetRequest(namespace="n", key="k", at_revision=revision)
    page = config_pb2.RangeRequest(namespace="n", at_revision=revision)
    for answer in await client.ask(Request(id=1, get=get), Request(id=2, range=page)):
        assert (answer.status, answer.failure.field) == (S.STATUS_INVALID_REQUEST, "at_revision")


async def test_an_eventual_read_pinned_at_a_revision_waits_until_it_is_applied_here(client: Client) -> None:
    get = config_pb2.GetRequest(namespace="n", key="k", at_revision=client.engine.revision + 1)
    get.read.consistency = S.CONSISTENCY_EVENTUAL
    put = config_pb2.PutRequest(namespace="n", key="k", value=b"v")
    first, second = await client.ask(Request(id=1, get=get), Request(id=2, put=put, seq=1))
    assert second.put.revision == get.at_revision
    assert first.get.item.value == b"v"


async def test_many_watches_that_read_history_share_the_loop(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    put = config_pb2.PutRequest(namespace="n", key="k", value=b"v")
    (first,) = await client.ask(Request(id=1, put=put, seq=1))
    await client.ask(*(Request(id=number, put=put, seq=number) for number in range(2, 11)))
    monkeypatch.setattr(session_stream, "PULL_SLICE_NS", -1)
    watch = config_pb2.WatchRequest(namespace="n", key="k", from_revision=first.put.revision)
    for number in range(1, 6):
        watch.watch_id = number
        client.send(Request(id=number, watch=watch))
    told: dict[int, int] = {}
    while sum(told.values()) < 50:
        events = (await client.frame()).events
        assert len(events) <= 1  # one page, then everybody else
        for event in events:
            told[event.watch.watch_id] = told.get(event.watch.watch_id, 0) + len(event.watch.changes)
    assert told == dict.fromkeys(range(1, 6), 10)


async def test_reads_beyond_a_turns_slice_are_answered_in_later_turns(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "READ_SLICE_NS", 0)
    get = config_pb2.GetRequest(namespace="n", key="k")
    answers = await client.ask(*(Request(id=number, get=get) for number in range(1, 51)))
    assert [answer.id for answer in answers] == list(range(1, 51))


async def test_a_retry_gets_the_same_token(client: Client) -> None:
    first = (await client.ask(acquire(1)))[0]
    again = (await client.ask(acquire(7, seq=1)))[0]
    assert again.acquire.token == first.acquire.token


async def test_bad_requests_are_answered_each_for_itself(client: Client) -> None:
    answers = await client.ask(
        Request(id=1),
        Request(id=2, acquire=lock_pb2.AcquireRequest(name="a")),
        Request(id=3, seq=1, acquire=lock_pb2.AcquireRequest(name="")),
        acquire(4, timeout_ms=86_400_001),
        Request(id=5, seq=2, release={"name": "a", "token": 0}),
        Request(id=6, watch={"namespace": "n", "key": "k"}),
        Request(id=7, cancel_watch={"watch_id": 9}),
        acquire(8),
    )
    assert [answer.failure.field for answer in answers] == [
        "operation",
        "seq",
        "name",
        "timeout_ms",
        "token",
        "watch_id",
        "",
        "",
    ]
    assert answers[6].status == S.STATUS_NOT_FOUND
    assert answers[7].acquire.state == lock_pb2.ACQUIRE_STATE_GRANTED


async def test_a_frame_that_is_none_ends_the_stream(client: Client) -> None:
    client.context.incoming.put_nowait(b"\xff\xff\xff")
    with pytest.raises(Aborted, match="INVALID_ARGUMENT"):
        await client.task


async def test_another_principal_s_session_is_refused(engine: Any) -> None:
    client = Client(engine, "mallory")
    client.open("alice")
    answer = (await client.ask(acquire(1)))[0]
    assert answer.status == S.STATUS_PERMISSION_DENIED
    assert (await client.ask(Request(id=2, attach={})))[0].status == S.STATUS_PERMISSION_DENIED
    closing = Request(id=3, close_session={"session_id": client.session_id})
    assert (await client.ask(closing, session_id=0))[0].status == S.STATUS_PERMISSION_DENIED
    renewing = Request(id=4, keep_alive={"session_ids": [client.session_id]})
    assert (await client.ask(renewing, session_id=0))[0].status == S.STATUS_PERMISSION_DENIED
    await client.end()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotLeader("h:1"), S.STATUS_NOT_LEADER),
        (Overloaded("full", 0.25), S.STATUS_OVERLOADED),
        (Indeterminate("lost"), S.STATUS_INDETERMINATE),
    ],
)
async def test_errors_of_the_engine_are_told(client: Client, error: Any, status: int) -> None:
    client.engine.refusal = error
    answer = (await client.ask(acquire(1)))[0]
    assert answer.status == answer.failure.status == status
    if isinstance(error, NotLeader):
        assert answer.failure.leader.address == "h:1"
    if isinstance(error, Overloaded):
        assert answer.failure.retry_after_ms == 250


async def test_attach_tells_what_is_held_and_then_every_event(client: Client) -> None:
    other = Client(client.engine)
    other.open()
    held = (await other.ask(acquire(1, "held")))[0].acquire.token
    await client.ask(acquire(1, "held", seq=1), acquire(2, "mine", seq=2))
    attached = (await client.ask(Request(id=3, attach={})))[0].attach
    assert [(lock.name, lock.acquire_seq) for lock in attached.held] == [("mine", 2)]
    assert [(lock.name, lock.position) for lock in attached.waiting] == [("held", 1)]
    await other.ask(Request(id=2, seq=2, release={"name": "held", "token": held}))
    event = (await client.frame()).events[0]
    assert (event.session_id, event.lock_granted.name) == (client.session_id, "held")
    client.engine.apply(Command(ForceRelease("mine", 0, "because", "admin")))
    lost = (await client.frame()).events[0].lock_lost
    assert (lost.name, lost.cause, lost.reason) == ("mine", lock_pb2.LockLost.CAUSE_FORCED, "because")
    client.engine.now = 10**12
    client.engine.apply(Command(Expire((client.session_id,), (), ())))
    ended = [event.WhichOneof("event") for event in (await client.frame()).events]
    assert ended == ["lock_lost", "session_ended"]
    assert not client.stream.has_sessions
    await other.end()


async def test_attach_of_a_dead_session_or_on_a_follower_is_refused(client: Client) -> None:
    answer = (await client.ask(Request(id=1, attach={}), session_id=77))[0]
    assert answer.status == S.STATUS_SESSION_EXPIRED
    client.engine.is_leader = False
    answer = (await client.ask(Request(id=2, attach={})))[0]
    assert (answer.status, answer.failure.leader.address) == (S.STATUS_NOT_LEADER, "leader.example:7420")


async def test_a_stream_that_could_not_attach_is_to_be_told_who_leads(client: Client) -> None:
    client.engine.is_leader = False
    await client.ask(Request(id=1, attach={}))
    assert client.stream.turned_away
    assert not client.stream.has_sessions
    client.stream.moved("new:1")
    assert (await client.frame()).moved.address == "new:1"
    assert not client.stream.turned_away
    client.engine.is_leader = True
    await client.ask(Request(id=2, attach={}))
    assert not client.stream.turned_away
    assert client.stream.has_sessions


async def test_members_are_named_with_the_next_answer_and_once(client: Client) -> None:
    client.stream.name_members(("a:1", "b:1"), "a:1")
    client.send(acquire(1))
    frame = await client.frame()
    assert (list(frame.members.addresses), frame.members.own) == (["a:1", "b:1"], "a:1")
    client.send(acquire(2, "b"))
    assert not (await client.frame()).HasField("members")


async def test_a_watch_on_the_stream(client: Client) -> None:
    watch = Request(id=1, watch={"namespace": "n", "prefix": True, "watch_id": 4})
    assert (await client.ask(watch))[0].watch.revision == client.engine.revision
    again = Request(id=2, watch={"namespace": "n", "prefix": True, "watch_id": 4})
    assert (await client.ask(again))[0].failure.field == "watch_id"
    client.send(Request(id=3, put={"namespace": "n", "key": "k", "value": b"v"}))
    seen: list[tuple[int, bytes]] = []
    while not seen:
        for event in (await client.frame()).events:
            seen += [(event.watch.watch_id, change.item.value) for change in event.watch.changes]
    assert seen == [(4, b"v")]
    assert (await client.ask(Request(id=4, cancel_watch={"watch_id": 4})))[0].status == S.STATUS_OK
    await client.end()
    assert len(client.hub) == 0


async def test_a_client_that_does_not_read_is_held_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_stream, "OUTSTANDING_MAX", 4)
    client.engine.held = []
    for number in range(1, 8):
        client.send(acquire(number, f"lock-{number}"))
    while client.context.incoming.qsize() > 2:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert client.context.incoming.qsize() == 2
    held, client.engine.held = client.engine.held, None
    for answer in held:
        answer()
    ids: list[int] = []
    while len(ids) < 7:
        ids += [answer.id for answer in (await client.frame()).responses]
    assert sorted(ids) == list(range(1, 8))


async def test_what_is_over_the_bound_in_one_frame_is_overloaded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_stream, "OUTSTANDING_MAX", 2)
    answers = await client.ask(*(acquire(number, f"lock-{number}") for number in range(1, 8)))
    assert [answer.status for answer in answers] == [S.STATUS_OK] * 4 + [S.STATUS_OVERLOADED] * 3


async def test_unread_events_end_the_stream_and_none_is_dropped_silently(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_stream, "EVENTS_MAX", 5)
    await client.ask(Request(id=1, attach={}))
    client.context.may_write.clear()
    for number in range(1, 20):
        client.engine.propose(Command(ForceRelease("x", 0, "r", "")), lambda result: None)
        client.send(acquire(number, f"lock-{number}"))
    for _ in range(200):
        await asyncio.sleep(0)
    for number in range(1, 20):
        client.engine.apply(Command(ForceRelease(f"lock-{number}", 0, "r", "")))
    client.context.may_write.set()
    with pytest.raises(Aborted, match="RESOURCE_EXHAUSTED"):
        await client.task


async def test_large_answers_get_frames_of_their_own(client: Client) -> None:
    for number in range(3):
        key = f"k{number}"
        await client.ask(Request(id=number + 1, put={"namespace": "n", "key": key, "value": bytes(400_000)}))
    client.send(*(Request(id=9 + n, get={"namespace": "n", "key": f"k{n}"}) for n in range(3)))
    sizes = [len((await client.frame()).responses) for _ in range(3)]
    assert sizes == [1, 1, 1]


async def test_moved_is_told_and_a_closed_stream_answers_what_it_owes(client: Client) -> None:
    client.engine.held = []
    client.send(acquire(1))
    while not client.engine.held:
        await asyncio.sleep(0)
    client.stream.close("next.example:7420")
    assert (await client.frame()).moved.address == "next.example:7420"
    assert not client.task.done()
    client.engine.held[0]()
    assert (await client.frame()).responses[0].acquire.state == lock_pb2.ACQUIRE_STATE_GRANTED
    await client.task


async def test_an_answer_after_the_stream_is_gone_hurts_nobody(client: Client) -> None:
    client.engine.held = []
    client.send(acquire(1), Request(id=2, attach={}))
    while len(client.engine.held) < 2:
        await asyncio.sleep(0)
    client.task.cancel()
    for answer in client.engine.held:
        answer()
    with pytest.raises(asyncio.CancelledError):
        await client.task
    client.engine.apply(Command(ForceRelease("a", 0, "r", "")))
