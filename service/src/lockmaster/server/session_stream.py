"""Sessions.Connect: one stream per client process, every command, answer and event on it.

Theory of operation. The handler gets and gives raw bytes; a frame is parsed once. The reader hands each request to its
operation; answers and events are filled straight into the frame that will be sent next, and the single writer sends
that frame as soon as the one before has left, so whatever became ready meanwhile travels together. Watches are
pulled: a ready watch gives a page when the writer builds a frame, so a slow reader costs no memory here.

Bounds. At most OUTSTANDING_MAX unanswered requests: above, the reader stops and HTTP/2 flow control holds the client
back. At most OUTBOUND_BYTES_MAX of answers: the same. Lock events cannot be refused or dropped: a stream that lets
EVENTS_MAX of them pile up is ended, and its client attaches anew and is told what it holds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import grpc
from google.protobuf.message import DecodeError
from lockmaster_raft.errors import RaftError

from lockmaster.api import config_pb2, session_pb2
from lockmaster.direct import STREAM_END
from lockmaster.errors import InvalidRequest, LockmasterError, NotFound, NotLeader, Overloaded, Unavailable
from lockmaster.server import admission, reads, translate
from lockmaster.server.events import EventHub
from lockmaster.server.operations import Operations, Origin, run_query
from lockmaster.server.runtime import Engine
from lockmaster.server.tasks import end_task
from lockmaster.server.translate import Response, SessionBound
from lockmaster.server.watches import Watch, WatchHub
from lockmaster.statemachine import commands

_log = logging.getLogger(__name__)

OUTSTANDING_MAX: Final = 4096
OUTBOUND_BYTES_MAX: Final = 8 << 20
EVENTS_MAX: Final = 10_000
REQUESTS_PER_FRAME_MAX: Final = 2 * OUTSTANDING_MAX
"""A frame with more ends the stream: a message of 4 MiB could hold a million, and the loop for seconds."""
FRAME_BYTES: Final = 512 << 10
"""A frame is closed once it has this many bytes; one answer may be larger (3 MiB)."""
FRAME_ITEMS: Final = 4096
PULL_SLICE_NS: Final = 3_000_000
"""Longest time of the loop that pulling watches into one frame takes (plus the one page that passes it)."""
WATCHES_PER_STREAM_MAX: Final = 10_000
SESSIONS_PER_STREAM_MAX: Final = 10_000
LARGE_BYTES: Final = 16 << 10
"""Answers above this are refused while too much is unread; smaller ones are bounded by OUTSTANDING_MAX."""
ITEM_BYTES: Final = 48
"""What a small answer or event counts in the bounds."""


class StreamContext(Protocol):
    """What a session stream is of: grpc.aio's ServicerContext of raw bytes, or a direct connection."""

    async def read(self) -> Any:
        """The next ClientFrame's bytes; STREAM_END once the client has ended the stream."""

    async def write(self, data: bytes) -> None:
        """Sends a ServerFrame; returns when there is room for the next."""

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the stream with a status. Always raises."""


class SessionStream:
    """One open stream."""

    def __init__(self, operations: Operations, engine: Engine, events: EventHub, watches: WatchHub, origin: Origin):
        self._engine = engine
        self._operations = operations
        self._events = events
        self._watch_hub = watches
        self._origin = origin
        self._handlers = operations.handlers
        self._tracing = operations.tracing
        self._frames: deque[tuple[session_pb2.ServerFrame, int]] = deque()
        """Closed frames, oldest first, with their sizes; the open one comes after them."""
        self._open = session_pb2.ServerFrame()
        self._open_bytes = 0
        self._open_items = 0
        self._outbound_bytes = 0
        self._outstanding = 0
        self._pending_events = 0
        self._attached: set[int] = set()
        self._turned_away = False
        """A session could not be attached here, as this member doesn't lead."""
        self._watches: dict[int, Watch] = {}
        self._ready: dict[int, Watch] = {}
        """Watches that have something, in the order in which they became ready."""
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closing = False
        self._failed = ""
        self._gone = False

    # -- reading

    async def run(self, context: StreamContext) -> None:
        """Serves the stream until the client ends it, `close` is called or it breaks a bound."""
        reader = asyncio.create_task(self._read_frames(context), name="session-stream-reader")
        reader.add_done_callback(self._reader_done)
        try:
            await self._write_frames(context)
            if self._failed:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self._failed)
            if reader.done() and not reader.cancelled() and (error := reader.exception()) is not None:
                if isinstance(error, InvalidRequest):
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                if isinstance(error, RaftError):
                    self._engine.fail(error)  # storage errors and broken laws stop the member
                elif not isinstance(error, (grpc.RpcError, grpc.aio.BaseError, OSError)):
                    _log.error("a session stream ended by a bug; please report this", exc_info=error)
        finally:
            await end_task(reader)
            self._forget()

    def close(self, hint: str) -> None:
        """Tells the client to go elsewhere and ends the stream once everything is answered and sent."""
        self.moved(hint)
        self._closing = True
        self._notify()

    def moved(self, hint: str) -> None:
        """Tells the client that this member no longer leads; `hint` is the leader's address, "" if unknown."""
        self._turned_away = False
        self._open.moved.address = hint
        self._open_items += 1
        self._notify()

    def name_members(self, addresses: tuple[str, ...], own: str) -> None:
        """Tells the client, with the next answer, where members serve clients; `own` is this one's address."""
        members = session_pb2.ClusterMembers(addresses=addresses, own=own)
        self._open.members.CopyFrom(members)

    @property
    def has_sessions(self) -> bool:
        """Whether a session is attached here: only then does it matter that another member leads."""
        return bool(self._attached)

    @property
    def turned_away(self) -> bool:
        """A session could not be attached here: its client may be listening to learn who leads, be it this member."""
        return self._turned_away

    def _reader_done(self, task: asyncio.Task[None]) -> None:
        self._closing = True
        self._notify()

    async def _read_frames(self, context: StreamContext) -> None:
        read: Callable[[], Any] = context.read
        while (data := await read()) is not STREAM_END:
            try:
                frame = session_pb2.ClientFrame.FromString(data)
            except DecodeError:
                raise InvalidRequest("frame", "is not a ClientFrame") from None
            self._receive(frame)
            while self._outstanding > OUTSTANDING_MAX or self._outbound_bytes > OUTBOUND_BYTES_MAX:
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    def _receive(self, frame: session_pb2.ClientFrame) -> None:
        origin = self._origin
        origin.session_id = frame.session_id
        origin.first_incomplete = frame.first_incomplete
        requests = frame.requests
        if len(requests) > REQUESTS_PER_FRAME_MAX:
            raise InvalidRequest("requests", f"are {len(requests)}; at most {REQUESTS_PER_FRAME_MAX} fit into a frame")
        room = 2 * OUTSTANDING_MAX - self._outstanding
        self._outstanding += len(requests)
        handlers, tracing = self._handlers, self._tracing
        draws = tracing is not None and not frame.traced  # else the client says what is traced
        for request in requests:
            name = request.WhichOneof("operation")
            reply = self._replier(request.id)
            try:
                if room <= 0:
                    raise Overloaded(f"more than {2 * OUTSTANDING_MAX} requests of this stream are unanswered", 0.1)
                room -= 1
                handler = handlers.get(name)
                if tracing is not None and name is not None and (request.traceparent or (draws and tracing.chosen())):
                    reply, handler = tracing.traced(request, name, origin, reply, handler)
                if handler is not None:
                    handler(getattr(request, name), origin, request.seq, reply)
                elif name is not None:
                    self._receive_own(name, getattr(request, name), reply)
                else:
                    admission.refuse_unknown_operation()
            except LockmasterError as error:
                translate.write_error(reply(0), error)

    def _receive_own(self, name: str, request: Any, reply: Callable[[int], Response]) -> None:
        """Operations that need the stream itself."""
        if name == "attach":
            self._attach(self._origin.session_id, reply)
        elif name == "watch":
            self._watch(request, reply)
        elif name == "cancel_watch":
            self._cancel_watch(request, reply)
        else:
            admission.refuse_unknown_operation()

    # -- answers and events into the next frame

    def _replier(self, request_id: int) -> Callable[[int], Response]:
        def reply(size: int) -> Response:
            if size > LARGE_BYTES and self._outbound_bytes > OUTBOUND_BYTES_MAX:
                raise Overloaded(f"{self._outbound_bytes} bytes of answers are unread on this stream", 0.1)
            self._outstanding -= 1
            if self._open_items and (self._open_bytes + size > FRAME_BYTES or self._open_items >= FRAME_ITEMS):
                self._close_frame()
            self._open_bytes += ITEM_BYTES + size
            self._outbound_bytes += ITEM_BYTES + size
            self._open_items += 1
            wake = self._wake
            if wake is not None and not wake.done():
                wake.set_result(None)
            answer = self._open.responses.add()
            answer.id = request_id
            return answer

        return reply

    def deliver(self, event: SessionBound) -> None:
        """Queue a lock event for the client."""
        self._pending_events += 1
        if self._pending_events > EVENTS_MAX:
            self._failed = f"{EVENTS_MAX} events are unread: connect again and attach"
            self._closing = True
        else:
            if self._open_items >= FRAME_ITEMS:
                self._close_frame()
            self._open_items += 1
            translate.write_event(self._open.events.add(), event)
        if isinstance(event, commands.SessionEnded):
            self._attached.discard(event.session_id)
        self._notify()

    def _close_frame(self) -> None:
        self._frames.append((self._open, self._open_bytes))
        self._open = session_pb2.ServerFrame()
        self._open_bytes = 0
        self._open_items = 0

    def _notify(self) -> None:
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    # -- writing

    async def _write_frames(self, context: StreamContext) -> None:
        loop = asyncio.get_running_loop()
        while not self._failed:
            frame, size = self._next_frame()
            if frame is None:
                if self._closing and self._outstanding <= 0:
                    return
                self._wake = loop.create_future()
                await self._wake
                self._wake = None
                continue
            await context.write(frame.SerializeToString())
            self._outbound_bytes -= size
            self._pending_events -= len(frame.events)
            room = self._room
            if room is not None and not room.done() and self._outbound_bytes <= OUTBOUND_BYTES_MAX:
                room.set_result(None)

    def _next_frame(self) -> tuple[session_pb2.ServerFrame | None, int]:
        if self._frames:
            return self._frames.popleft()
        if self._ready:
            self._pull_watches()
        if not self._open_items:
            return None, 0
        frame, size = self._open, self._open_bytes
        self._open = session_pb2.ServerFrame()
        self._open_bytes = 0
        self._open_items = 0
        return frame, size

    def _pull_watches(self) -> None:
        """One page of each ready watch in turn, up to a frame or a slice of the loop's time."""
        stop = time.perf_counter_ns() + PULL_SLICE_NS
        for _ in range(len(self._ready)):
            if self._open_bytes >= FRAME_BYTES or self._open_items >= FRAME_ITEMS:
                return
            if self._open_items and time.perf_counter_ns() > stop:
                return
            watch_id = next(iter(self._ready))
            watch = self._ready.pop(watch_id)
            page = watch.take()
            if page is None:
                continue
            event = self._open.events.add()
            event.watch.CopyFrom(page)
            size = page.ByteSize()
            self._open_bytes += size
            self._outbound_bytes += size
            self._open_items += 1
            self._pending_events += 1
            if watch.has_more:
                self._ready[watch_id] = watch

    # -- attach and watches

    def _attach(self, session_id: int, reply: Callable[[int], Response]) -> None:
        self._operations.own_session(self._origin, session_id)
        if len(self._attached) >= SESSIONS_PER_STREAM_MAX:
            raise Overloaded(f"{SESSIONS_PER_STREAM_MAX} sessions are attached to this stream", 1.0)

        self._turned_away = not self._engine.is_leader

        def attach(reply: Callable[[int], Response]) -> None:
            self._operations.own_session(self._origin, session_id)  # unknown before, it may be somebody else's now
            reads.attach(self._engine, session_id, reply)

        def ready(error: LockmasterError | None) -> None:
            if error is None and not self._engine.is_leader:
                error = NotLeader(self._engine.leader_address())
            if error is None:
                error = run_query(attach, reply)
            self._turned_away = isinstance(error, (NotLeader, Unavailable))
            if error is not None:
                translate.write_error(reply(0), error)
            elif not self._gone:
                # In the same turn as the query: every later entry's events come here, none before is missed.
                self._attached.add(session_id)
                self._events.attach(session_id, self)

        self._engine.read_index(ready)

    def _watch(self, request: config_pb2.WatchRequest, reply: Callable[[int], Response]) -> None:
        admission.admit(request)
        watch_id = request.watch_id
        if not watch_id:
            raise InvalidRequest("watch_id", "is 0; the client chooses it, from 1")
        if watch_id in self._watches:
            raise InvalidRequest("watch_id", f"is {watch_id}, which is a watch of this stream already")
        if len(self._watches) >= WATCHES_PER_STREAM_MAX:
            raise Overloaded(f"{WATCHES_PER_STREAM_MAX} watches are open on this stream", 1.0)
        watch = self._watch_hub.make(request, lambda: self._watch_ready(watch_id))
        self._watches[watch_id] = watch

        def ready(error: LockmasterError | None) -> None:
            if error is None and self._watches.get(watch_id) is not watch:
                error = NotFound("the watch was cancelled before it began")
            if error is None:
                error = run_query(self._watch_hub.start, watch)
            if error is None:
                reply(0).watch.revision = watch.position
                return
            if self._watches.get(watch_id) is watch:
                del self._watches[watch_id]
            self._watch_hub.cancel(watch)
            translate.write_error(reply(0), error)

        self._engine.read_index(ready)

    def _watch_ready(self, watch_id: int) -> None:
        watch = self._watches.get(watch_id)
        if watch is not None and watch_id not in self._ready:
            self._ready[watch_id] = watch
            self._notify()

    def _cancel_watch(self, request: config_pb2.CancelWatchRequest, reply: Callable[[int], Response]) -> None:
        admission.admit(request)
        watch = self._watches.pop(request.watch_id, None)
        if watch is None:
            raise NotFound(f"watch {request.watch_id} is not open on this stream")
        self._ready.pop(request.watch_id, None)
        self._watch_hub.cancel(watch)
        reply(0).cancel_watch.SetInParent()

    def _forget(self) -> None:
        self._gone = True
        for session_id in self._attached:
            self._events.detach(session_id, self)
        self._attached.clear()
        for watch in self._watches.values():
            self._watch_hub.cancel(watch)
        self._watches.clear()
        self._ready.clear()
