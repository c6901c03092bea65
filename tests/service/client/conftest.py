"""A real grpc.aio server in this process that speaks the session stream over a small model of the cluster's state."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest
from lockmaster import AsyncClient
from lockmaster.api import config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.api.session_pb2 import Response, ServerFrame, SessionEvent


class Model:
    """Sessions with completion records, FIFO locks, config keys: shared by all members of a fake cluster."""

    def __init__(self) -> None:
        self.revision = 1 << 20
        self.nonces: dict[bytes, int] = {}
        self.alive: set[int] = set()
        self.records: dict[tuple[int, int], bytes] = {}
        self.executed: list[tuple[str, int, int]] = []
        self.holders: dict[str, tuple[int, int, int]] = {}
        self.queues: dict[str, deque[tuple[int, int]]] = {}
        self.cancelled: set[tuple[int, int]] = set()
        self.keys: dict[tuple[str, str], config_pb2.KeyValue] = {}
        self.changes: list[config_pb2.Change] = []
        self.streams: dict[int, FakeStream] = {}
        self.watches: list[tuple[FakeStream, config_pb2.WatchRequest]] = []
        self.renewals = 0

    def bump(self) -> int:
        self.revision += 1
        return self.revision

    def tell(self, session: int, **event: Any) -> None:
        stream = self.streams.get(session)
        if stream is not None:
            stream.send(ServerFrame(events=[SessionEvent(session_id=session, **event)]))

    def grant_next(self, name: str) -> None:
        self.holders.pop(name, None)
        queue = self.queues.get(name, deque())
        while queue:
            session, seq = queue.popleft()
            if session in self.alive:
                token = self.bump()
                self.holders[name] = (session, token, seq)
                self.tell(session, lock_granted=lock_pb2.LockGranted(name=name, token=token, acquire_seq=seq))
                return

    def expire(self, session: int, tell: bool = True) -> None:
        self.alive.discard(session)
        if tell:
            ended = session_pb2.SessionEnded(cause=session_pb2.SessionEnded.CAUSE_EXPIRED)
            self.tell(session, session_ended=ended)
        for name, holder in list(self.holders.items()):
            if holder[0] == session:
                self.grant_next(name)

    def execute(self, session: int, request: session_pb2.Request, stream: FakeStream) -> session_pb2.Response:
        kind = str(request.WhichOneof("operation"))
        if session and session not in self.alive and kind not in ("get", "range", "watch"):
            return failed(request.id, status_pb2.STATUS_SESSION_EXPIRED)
        record = self.records.get((session, request.seq)) if request.seq else None
        if record is not None and kind != "acquire":
            stored = Response.FromString(record)
            stored.id = request.id
            return stored
        if request.seq and record is None:
            self.executed.append((kind, session, request.seq))
        answer: Response = getattr(self, "do_" + kind)(session, request, stream)
        answer.id = request.id
        if request.seq:
            self.records[session, request.seq] = answer.SerializeToString()
        return answer

    def do_open_session(self, session: int, request: Any, stream: FakeStream) -> Response:
        nonce = request.open_session.nonce
        if nonce not in self.nonces:
            self.nonces[nonce] = self.bump()
            self.alive.add(self.nonces[nonce])
        opened = session_pb2.OpenSessionResponse(session_id=self.nonces[nonce], ttl_ms=request.open_session.ttl_ms)
        return Response(open_session=opened)

    def do_close_session(self, session: int, request: Any, stream: FakeStream) -> Response:
        self.expire(request.close_session.session_id, tell=False)
        return Response(close_session=session_pb2.CloseSessionResponse())

    def do_attach(self, session: int, request: Any, stream: FakeStream) -> Response:
        self.streams[session] = stream
        answer = session_pb2.AttachResponse()
        for name, (holder, token, seq) in self.holders.items():
            if holder == session:
                answer.held.add(name=name, token=token, acquire_seq=seq)
        for name, queue in self.queues.items():
            for position, (waiter, seq) in enumerate(queue, 1):
                if waiter == session:
                    answer.waiting.add(name=name, acquire_seq=seq, position=position)
        return Response(attach=answer)

    def do_acquire(self, session: int, request: Any, stream: FakeStream) -> Response:
        name, key = request.acquire.name, (session, request.seq)
        holder, queue = self.holders.get(name), self.queues.setdefault(name, deque())
        if key in self.cancelled:
            state, token = lock_pb2.ACQUIRE_STATE_CANCELLED, 0
        elif holder is not None and (holder[0], holder[2]) == key:
            state, token = lock_pb2.ACQUIRE_STATE_GRANTED, holder[1]
        elif key in queue:
            state, token = lock_pb2.ACQUIRE_STATE_QUEUED, 0
        elif holder is None:
            state, token = lock_pb2.ACQUIRE_STATE_GRANTED, self.bump()
            self.holders[name] = (session, token, request.seq)
        elif request.acquire.wait:
            state, token = lock_pb2.ACQUIRE_STATE_QUEUED, 0
            queue.append(key)
        else:
            state, token = lock_pb2.ACQUIRE_STATE_BUSY, 0
        return Response(acquire=lock_pb2.AcquireResponse(state=state, token=token))

    def do_release(self, session: int, request: Any, stream: FakeStream) -> Response:
        holder = self.holders.get(request.release.name)
        if holder is None or holder[:2] != (session, request.release.token):
            return failed(request.id, status_pb2.STATUS_NOT_HELD)
        self.grant_next(request.release.name)
        return Response(release=lock_pb2.ReleaseResponse())

    def do_cancel_acquire(self, session: int, request: Any, stream: FakeStream) -> Response:
        name, key = request.cancel_acquire.name, (session, request.cancel_acquire.acquire_seq)
        holder, queue = self.holders.get(name), self.queues.get(name, deque())
        if holder is not None and (holder[0], holder[2]) == key:
            granted = lock_pb2.CancelAcquireResponse(state=lock_pb2.ACQUIRE_STATE_GRANTED, token=holder[1])
            return Response(cancel_acquire=granted)
        if key in queue:
            queue.remove(key)
        self.cancelled.add(key)
        cancelled = lock_pb2.CancelAcquireResponse(state=lock_pb2.ACQUIRE_STATE_CANCELLED)
        return Response(cancel_acquire=cancelled)

    def do_force_release(self, session: int, request: Any, stream: FakeStream) -> Response:
        name, holder = request.force_release.name, self.holders.get(request.force_release.name)
        if holder is None:
            return Response(force_release=lock_pb2.ForceReleaseResponse())
        self.grant_next(name)
        cause, reason = lock_pb2.LockLost.CAUSE_FORCED, request.force_release.reason
        lost = lock_pb2.LockLost(name=name, token=holder[1], acquire_seq=holder[2], cause=cause, reason=reason)
        self.tell(holder[0], lock_lost=lost)
        return Response(force_release=lock_pb2.ForceReleaseResponse(released=True, token=holder[1]))

    def do_inspect_lock(self, session: int, request: Any, stream: FakeStream) -> Response:
        name = request.inspect_lock.name
        info = lock_pb2.LockInfo(name=name, queue_length=len(self.queues.get(name, ())))
        if name in self.holders:
            holder, token, _ = self.holders[name]
            info.holder.session_id, info.holder.token = holder, token
        return Response(inspect_lock=lock_pb2.InspectLockResponse(lock=info, revision=self.revision))

    def do_put(self, session: int, request: Any, stream: FakeStream) -> Response:
        put = request.put
        old = self.keys.get((put.namespace, put.key))
        if put.HasField("if_revision") and put.if_revision != (old.mod_revision if old else 0):
            answer = failed(request.id, status_pb2.STATUS_COMPARE_FAILED)
            answer.failure.current_revision = old.mod_revision if old else 0
            return answer
        revision = self.bump()
        item = config_pb2.KeyValue(
            namespace=put.namespace,
            key=put.key,
            value=put.value,
            mod_revision=revision,
            create_revision=old.create_revision if old else revision,
            version=old.version + 1 if old else 1,
        )
        self.keys[put.namespace, put.key] = item
        self.changed(config_pb2.Change(kind=config_pb2.Change.KIND_PUT, item=item))
        return Response(put=config_pb2.PutResponse(revision=revision, version=item.version))

    def do_delete(self, session: int, request: Any, stream: FakeStream) -> Response:
        old = self.keys.pop((request.delete.namespace, request.delete.key), None)
        if old is None:
            return Response(delete=config_pb2.DeleteResponse(revision=self.revision))
        item = config_pb2.KeyValue(namespace=old.namespace, key=old.key, mod_revision=self.bump())
        self.changed(config_pb2.Change(kind=config_pb2.Change.KIND_DELETE, item=item))
        return Response(delete=config_pb2.DeleteResponse(deleted=True, revision=item.mod_revision))

    def do_get(self, session: int, request: Any, stream: FakeStream) -> Response:
        item = self.keys.get((request.get.namespace, request.get.key))
        return Response(get=config_pb2.GetResponse(item=item, revision=self.revision))

    def do_range(self, session: int, request: Any, stream: FakeStream) -> Response:
        wanted = request.range
        items = [
            item
            for (namespace, key), item in sorted(self.keys.items())
            if namespace == wanted.namespace and key.startswith(wanted.prefix) and key > wanted.after
        ]
        page = items[: wanted.limit or 100]
        more = len(items) > len(page)
        return Response(range=config_pb2.RangeResponse(items=page, more=more, revision=self.revision))

    def do_watch(self, session: int, request: Any, stream: FakeStream) -> Response:
        watch = config_pb2.WatchRequest()
        watch.CopyFrom(request.watch)
        self.watches.append((stream, watch))
        missed = [change for change in self.changes if change.item.mod_revision >= watch.from_revision]
        if missed:
            stream.later.extend(partial(self.watch_event, stream, watch, change) for change in missed)
        return Response(watch=config_pb2.WatchResponse(revision=self.revision))

    def do_cancel_watch(self, session: int, request: Any, stream: FakeStream) -> Response:
        ended = (stream, request.cancel_watch.watch_id)
        self.watches = [(s, w) for s, w in self.watches if (s, w.watch_id) != ended]
        return Response(cancel_watch=config_pb2.CancelWatchResponse())

    def changed(self, change: config_pb2.Change) -> None:
        self.changes.append(change)
        for stream, watch in self.watches:
            self.watch_event(stream, watch, change)

    def watch_event(self, stream: FakeStream, watch: config_pb2.WatchRequest, change: config_pb2.Change) -> None:
        key = change.item.key
        if not (key.startswith(watch.key) if watch.prefix else key == watch.key):
            return
        events = config_pb2.WatchEvents(watch_id=watch.watch_id, changes=[change], revision=change.item.mod_revision)
        stream.send(ServerFrame(events=[SessionEvent(watch=events)]))


def failed(id: int, status: Any, leader: str = "") -> session_pb2.Response:
    failure = status_pb2.Failure(status=status, leader=status_pb2.LeaderHint(address=leader))
    return Response(id=id, status=status, failure=failure)


class FakeStream:
    """One open stream: what waits to be written to the client."""

    def __init__(self) -> None:
        self.outbox: asyncio.Queue[session_pb2.ServerFrame | None] = asyncio.Queue()
        self.later: list[Callable[[], Any]] = []

    def send(self, frame: session_pb2.ServerFrame) -> None:
        self.outbox.put_nowait(frame)


class Member:
    """One server of the fake cluster. `fault(request) -> answer | "lose" | "drop" | None` may interfere."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.address = ""
        self.leader: Member = self
        self.fault: Callable[[session_pb2.Request], Any] = lambda request: None
        self.connects = 0
        self.frames = 0
        self.received: deque[session_pb2.ClientFrame] = deque(maxlen=1000)
        self.streams: set[FakeStream] = set()
        self.keepalive_down = False
        self.named = session_pb2.ClusterMembers()
        """What it tells with each answer."""

    async def start(self) -> None:
        self.server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        handlers = {
            "Connect": grpc.stream_stream_rpc_method_handler(self.connect),
            "KeepAlive": grpc.unary_unary_rpc_method_handler(
                self.keep_alive,
                request_deserializer=session_pb2.KeepAliveRequest.FromString,
                response_serializer=session_pb2.KeepAliveResponse.SerializeToString,
            ),
        }
        generic = grpc.method_handlers_generic_handler("lockmaster.v1.Sessions", handlers)
        self.server.add_generic_rpc_handlers((generic,))
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self.server.start()

    async def stop(self) -> None:
        self.drop_streams()
        await self.server.stop(0)

    def drop_streams(self) -> None:
        for stream in list(self.streams):
            stream.outbox.put_nowait(None)

    async def keep_alive(self, request: Any, context: Any) -> session_pb2.KeepAliveResponse:
        if self.keepalive_down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        self.model.renewals += 1
        dead = [each for each in request.session_ids if each not in self.model.alive]
        return session_pb2.KeepAliveResponse(expired=dead)

    async def connect(self, requests: Any, context: Any) -> None:
        self.connects += 1
        stream = FakeStream()
        self.streams.add(stream)
        reader = asyncio.create_task(self.read(requests, stream))
        try:
            while (frame := await stream.outbox.get()) is not None:
                await context.write(frame.SerializeToString())
        finally:
            reader.cancel()
            self.streams.discard(stream)
            self.model.watches = [(s, w) for s, w in self.model.watches if s is not stream]

    async def read(self, requests: Any, stream: FakeStream) -> None:
        async for data in requests:
            self.frames += 1
            frame = session_pb2.ClientFrame.FromString(data)
            self.received.append(frame)
            responses: list[Response] = []
            for request in frame.requests:
                outcome = self.fault(request)
                if outcome == "drop":
                    stream.send(ServerFrame(responses=responses))
                    stream.outbox.put_nowait(None)
                    return
                if self.leader is not self:
                    outcome = failed(request.id, status_pb2.STATUS_NOT_LEADER, self.leader.address)
                if isinstance(outcome, Response):
                    outcome.id = request.id
                    responses.append(outcome)
                    continue
                answer = self.model.execute(frame.session_id, request, stream)
                if outcome != "lose":
                    responses.append(answer)
                    if outcome == "twice":
                        responses.append(answer)
            stream.send(ServerFrame(responses=responses, members=self.named))
            later, stream.later = stream.later, []
            for act in later:
                act()


class FakeCluster:
    """Members that share one model."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.model = members[0].model
        self.member = members[0]
        self.endpoints = [member.address for member in members]

    def client(self, *endpoints: str, **settings: Any) -> AsyncClient:
        return AsyncClient(endpoints or self.endpoints, **settings)

    def name_members(self) -> None:
        for member in self.members:
            member.named = session_pb2.ClusterMembers(addresses=self.endpoints, own=member.address)

    def lead(self, number: int) -> None:
        for member in self.members:
            member.leader = self.members[number]


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    model = Model()
    member = Member(model)
    await member.start()
    yield FakeCluster([member])
    await member.stop()


@pytest.fixture
async def three() -> AsyncIterator[FakeCluster]:
    model = Model()
    members = [Member(model) for _ in range(3)]
    for member in members:
        await member.start()
    yield FakeCluster(members)
    for member in members:
        await member.stop()
