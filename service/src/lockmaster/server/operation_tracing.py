"""Spans of the session stream's operations, and which operation a log line belongs to.

Theory of operation. A request that is traced gets a TracedOperation in the place of its `reply` and its handler. The
span begins when the request is handled and ends when its answer is filled in; an acquire that has to queue ends with
its grant, and links to the span of the acquire that holds the lock: a slow request points at what blocked it.

Nothing here uses OpenTelemetry's current span: `call_soon` copies the context, so one request's span would go on in
whatever the loop does next for everybody. What runs for an operation is marked in `_here` instead, by call and return.

Laws.
1. A request that is not traced costs one look at a field and, where the client doesn't trace, a random number.
2. A span ends once: by its answer, its grant or end, the loss of the lead, or `close`.
3. Neither tokens nor values are in a span. Lock names and namespaces are.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lockmaster.api import lock_pb2, session_pb2, status_pb2
from lockmaster.measuring import Pace
from lockmaster.server.operations import Handler, Origin
from lockmaster.server.reads import Reply
from lockmaster.server.translate import Response
from lockmaster.statemachine import commands
from lockmaster.statemachine.commands import Event

_log = logging.getLogger(__name__)

TRACEPARENT_LENGTH: Final = 55
ROOTS_PER_SECOND_MAX: Final = 20
"""Traces begun here a second, about, however large the ratio; clients that trace decide for themselves."""
SPANS_PER_SECOND_MAX: Final = 1_000
"""Spans a second, about, whatever clients ask for."""
WAITING_MAX: Final = 10_000
"""Most spans of queued acquires that stay open; beyond that they end where they queue."""
HOLDERS_MAX: Final = 10_000
"""Most locks whose holder's span is remembered, the oldest grant goes first."""
FAULTS: Final = frozenset(
    (status_pb2.STATUS_OVERLOADED, status_pb2.STATUS_UNAVAILABLE, status_pb2.STATUS_INDETERMINATE)
)
"""Answers that make a span an error; what the caller did wrong, or lost to another, does not."""

_here = threading.local()
_propagator = TraceContextTextMapPropagator()


def operation_here() -> TracedOperation | None:
    """The traced operation that this thread works for at this moment."""
    return getattr(_here, "operation", None)


class TracedOperation:
    """One traced request: its span, from its handling to its answer or grant."""

    __slots__ = ("_answer", "_answered_at", "_finished", "_tracing", "lock", "name", "seq", "session_id", "span")

    def __init__(self, tracing: OperationTracing, span: trace.Span, name: str, session_id: int, seq: int) -> None:
        self.span = span
        self.name = name
        self.lock = ""
        self.session_id = session_id
        self.seq = seq
        self._tracing = tracing
        self._answer: Response | None = None
        self._answered_at = 0
        self._finished = False

    def replying(self, reply: Reply) -> Reply:
        """`reply`, and the span's end after it."""

        def answered(size: int) -> Response:
            answer = reply(size)
            self._answer = answer
            self._answered_at = time.time_ns()
            # By then it is filled in; a `bound` call that answers is over sooner.
            asyncio.get_running_loop().call_soon(self.finish)
            return answer

        return answered

    def bound(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, marked as working for this operation while it runs."""

        def run(*arguments: Any) -> Any:
            self._tracing.here = _here.operation = self
            try:
                return call(*arguments)
            finally:
                self._tracing.here = _here.operation = None
                if self._answer is not None:
                    self.finish()

        return run

    def finish(self) -> None:
        """The answer is filled in: ends the span, unless the acquire queues. The second time does nothing."""
        answer = self._answer
        if self._finished or answer is None:
            return
        self._finished = True
        if answer.status:
            self.span.set_attribute("error.type", status_pb2.Status.Name(answer.status).removeprefix("STATUS_"))
            if answer.status in FAULTS:
                self.span.set_status(trace.StatusCode.ERROR)
        elif self.name == "acquire" and answer.acquire.state == lock_pb2.ACQUIRE_STATE_QUEUED:
            if self._tracing.queued(self, answer.acquire.position):
                return
        elif self.name == "acquire" and answer.acquire.state == lock_pb2.ACQUIRE_STATE_GRANTED:
            self._tracing.holds(self, answer.acquire.token)
        self.end(self._answered_at)

    def end(self, at: int | None = None) -> None:
        """Ends the span, now or at `at` (ns), and says so in the log."""
        if _log.isEnabledFor(logging.DEBUG):
            _here.operation = self
            _log.debug("%s of session %d is answered", self.name, self.session_id)
            _here.operation = None
        self.span.end(at)


class OperationTracing:
    """Decides what is traced and keeps the spans that wait. For the loop's thread only."""

    def __init__(self, tracer: trace.Tracer, ratio: float, holder_token: Callable[[str], int]) -> None:
        """`ratio`: share of requests traced for clients that don't trace; `holder_token(lock)`: who holds it, or 0."""
        self.here: TracedOperation | None = None
        """The traced operation that the loop works for at this moment."""
        self._tracer = tracer
        self._ratio = ratio
        self._holder_token = holder_token
        self._roots = Pace(ROOTS_PER_SECOND_MAX)
        self._spans = Pace(SPANS_PER_SECOND_MAX)
        self._waiting: dict[tuple[int, int], TracedOperation] = {}
        """Queued acquires by (session, seq)."""
        self._holders: dict[str, tuple[int, trace.SpanContext]] = {}
        """By lock: the token of the last traced grant, and its span. Stale where another one holds the lock since."""

    def chosen(self) -> bool:
        """Whether a request is traced whose client leaves that to the server."""
        return random.random() < self._ratio

    def traced(
        self, request: session_pb2.Request, name: str, origin: Origin, reply: Reply, handler: Handler | None
    ) -> tuple[Reply, Handler | None]:
        """Reply and handler of a traced operation for a request that is to be traced; the same ones beyond the pace."""
        parent = request.traceparent
        now = time.monotonic()
        if not (self._spans.passes(now) if parent else self._roots.passes(now)):
            return reply, handler
        span = self._start(name, parent, getattr(request, name))
        if not span.is_recording():
            return reply, handler
        operation = TracedOperation(self, span, name, origin.session_id, request.seq)
        if name == "acquire":
            operation.lock = request.acquire.name
        return operation.replying(reply), None if handler is None else operation.bound(handler)

    def _start(self, name: str, parent: str, message: Any) -> trace.Span:
        context = trace.set_span_in_context(trace.INVALID_SPAN)
        if len(parent) == TRACEPARENT_LENGTH:
            context = _propagator.extract({"traceparent": parent}, context)
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": "lockmaster.v1.Sessions",
            "rpc.method": "Connect",
            "lockmaster.operation": name,
        }
        fields = message.DESCRIPTOR.fields_by_name
        if "namespace" in fields:
            attributes["lockmaster.config.namespace"] = message.namespace
        elif "name" in fields:
            attributes["lockmaster.lock.name"] = message.name
        return self._tracer.start_span(name, context, trace.SpanKind.SERVER, attributes)

    def queued(self, operation: TracedOperation, position: int) -> bool:
        """An acquire stands in the queue: links it to the holder; True if its span stays open until it is decided."""
        span = operation.span
        span.add_event("queued", {"lockmaster.lock.position": position})
        self.link_holder(span, operation.lock)
        if len(self._waiting) >= WAITING_MAX:
            return False
        before = self._waiting.pop((operation.session_id, operation.seq), None)
        if before is not None:
            before.end()  # the client sent it again, over another stream
        self._waiting[operation.session_id, operation.seq] = operation
        return True

    def link_holder(self, span: trace.Span, lock: str) -> None:
        """Links the span of whoever waits for this lock to that of its holder, if that one was traced."""
        token, context = self._holders.get(lock, (0, None))
        if context is not None and token == self._holder_token(lock):
            span.add_link(context, {"lockmaster.link": "holder"})

    def holds(self, operation: TracedOperation, token: int) -> None:
        """A traced acquire was granted."""
        holders = self._holders
        holders.pop(operation.lock, None)
        if len(holders) >= HOLDERS_MAX:
            del holders[next(iter(holders))]
        holders[operation.lock] = (token, operation.span.get_span_context())

    def listen(self, events: Sequence[Event], revision: int) -> None:
        """The engine's listener: ends the spans of queued acquires."""
        waiting = self._waiting
        if not waiting:
            return
        for event in events:
            if isinstance(event, commands.LockGranted):
                operation = waiting.pop((event.session_id, event.acquire_seq), None)
                if operation is not None:
                    self.holds(operation, event.token)
                    operation.end()
            elif isinstance(event, commands.AcquireEnded):
                operation = waiting.pop((event.session_id, event.acquire_seq), None)
                if operation is not None:
                    operation.span.set_attribute("error.type", event.cause.name)
                    operation.end()
            elif isinstance(event, commands.SessionEnded):
                for key in [key for key in waiting if key[0] == event.session_id]:
                    waiting[key].span.set_attribute("error.type", f"SESSION_{event.cause.name}")
                    waiting.pop(key).end()

    def role_changed(self, leading: bool, leader_address: str) -> None:
        """The engine's listener: whoever leads tells the grants; waits move there under the same parent."""
        if not leading:
            self.close()

    def close(self) -> None:
        """Ends every span that is open."""
        for operation in self._waiting.values():
            operation.span.add_event("moved")
            operation.end()
        self._waiting.clear()
        self._holders.clear()
