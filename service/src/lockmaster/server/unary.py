"""The unary calls: twins of the stream's operations for grpcurl and other languages, and the listings.

Every RPC of the protos has a row in ROWS; one without fails the start of the server and a test. A failure travels as
gRPC status plus a serialized Failure in the trailing metadata (`lockmaster-failure-bin`, and in
`grpc-status-details-bin` where generic tools look for it). Writes need a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from lockmaster.api import admin_pb2, config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.errors import InvalidRequest, LockmasterError, NotLeader, PermissionDenied, SessionExpired
from lockmaster.server import admin, admission, reads, translate
from lockmaster.server.callers import Caller, Callers, Unauthenticated, while_good
from lockmaster.server.direct_port import DirectPort
from lockmaster.server.events import AcquireEnd, EventHub
from lockmaster.server.operations import Operations, Origin
from lockmaster.server.relay import FAILURE_KEY, RELAYED_KEY, Relay
from lockmaster.server.runtime import Engine
from lockmaster.server.telemetry import Telemetry
from lockmaster.server.translate import Response
from lockmaster.server.watches import WatchHub
from lockmaster.statemachine import commands

ADMIN_PATH: Final = "/lockmaster.v1.Admin/"
Context = grpc.aio.ServicerContext[Any, Any]
Call = Callable[["Unary", Any, Context], Awaitable[Message]]
_caller: Final[contextvars.ContextVar[Caller]] = contextvars.ContextVar("caller")
"""Whose call this task serves: set once he is identified and admitted."""

SERVICES: Final[tuple[ServiceDescriptor, ...]] = (
    session_pb2.DESCRIPTOR.services_by_name["Sessions"],
    lock_pb2.DESCRIPTOR.services_by_name["Locks"],
    config_pb2.DESCRIPTOR.services_by_name["Config"],
    admin_pb2.DESCRIPTOR.services_by_name["Admin"],
)
CODES: Final[dict[int, grpc.StatusCode]] = {
    status_pb2.STATUS_NOT_LEADER: grpc.StatusCode.UNAVAILABLE,
    status_pb2.STATUS_OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    status_pb2.STATUS_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    status_pb2.STATUS_INDETERMINATE: grpc.StatusCode.UNKNOWN,
    status_pb2.STATUS_INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    status_pb2.STATUS_SESSION_EXPIRED: grpc.StatusCode.FAILED_PRECONDITION,
    status_pb2.STATUS_STALE: grpc.StatusCode.FAILED_PRECONDITION,
    status_pb2.STATUS_SEQ_REUSED: grpc.StatusCode.INVALID_ARGUMENT,
    status_pb2.STATUS_WINDOW_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    status_pb2.STATUS_COMPARE_FAILED: grpc.StatusCode.ABORTED,
    status_pb2.STATUS_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    status_pb2.STATUS_NOT_HELD: grpc.StatusCode.FAILED_PRECONDITION,
    status_pb2.STATUS_PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    status_pb2.STATUS_QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    status_pb2.STATUS_COMPACTED: grpc.StatusCode.OUT_OF_RANGE,
    status_pb2.STATUS_PRECONDITION_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
}


@dataclass(frozen=True, slots=True)
class Row:
    """How one RPC is served."""

    operation: str = ""
    """The stream operation that it is a twin of; its answer is the field of the same name."""
    call: Call | None = None
    """What serves it where there is no such operation, or more is to be done."""
    write: bool = False
    """Needs a deadline, and is relayed to the leader."""
    streams: bool = False
    """Served by a method of its own (Connect, Watch, Backup)."""


async def _acquire(unary: Unary, request: lock_pb2.AcquireRequest, context: Context) -> Message:
    return await unary.acquire(request, context)


async def _list_sessions(unary: Unary, request: session_pb2.ListSessionsRequest, context: Context) -> Message:
    await unary.barrier(request.read)
    return reads.list_sessions(unary.engine, request)


async def _list_locks(unary: Unary, request: lock_pb2.ListLocksRequest, context: Context) -> Message:
    await unary.barrier(request.read)
    return reads.list_locks(unary.engine, request)


async def _direct(unary: Unary, request: session_pb2.DirectRequest, context: Context) -> Message:
    direct = unary.direct
    if not direct.number:
        return session_pb2.DirectResponse()
    return session_pb2.DirectResponse(port=direct.number, key=direct.key_for(_caller.get()))


async def _end_session(unary: Unary, request: admin_pb2.EndSessionRequest, context: Context) -> Message:
    principal = unary.origin(context).principal
    once = unary.admin.repeats.once
    return await once(request.idempotency_key, request, lambda: unary.admin.end_session(request, principal))


def _admin(method: Callable[[admin.AdminCalls, Any], Awaitable[Message]]) -> Call:
    async def call(unary: Unary, request: Message, context: Context) -> Message:
        return await method(unary.admin, request)

    return call


def _change(method: Callable[[admin.AdminCalls, Any], Awaitable[Message]]) -> Row:
    async def call(unary: Unary, request: Any, context: Context) -> Message:
        calls = unary.admin
        return await calls.repeats.once(request.idempotency_key, request, lambda: method(calls, request))

    return Row(call=call, write=True)


ROWS: Final[dict[str, Row]] = {
    "lockmaster.v1.Sessions.Connect": Row(streams=True),
    "lockmaster.v1.Sessions.Open": Row("open_session", write=True),
    "lockmaster.v1.Sessions.KeepAlive": Row("keep_alive", write=True),
    "lockmaster.v1.Sessions.Close": Row("close_session", write=True),
    "lockmaster.v1.Sessions.List": Row(call=_list_sessions),
    "lockmaster.v1.Sessions.Direct": Row(call=_direct),
    "lockmaster.v1.Locks.Acquire": Row(call=_acquire, write=True),
    "lockmaster.v1.Locks.Release": Row("release", write=True),
    "lockmaster.v1.Locks.Cancel": Row("cancel_acquire", write=True),
    "lockmaster.v1.Locks.Inspect": Row("inspect_lock"),
    "lockmaster.v1.Locks.List": Row(call=_list_locks),
    "lockmaster.v1.Locks.ForceRelease": Row("force_release", write=True),
    "lockmaster.v1.Config.Put": Row("put", write=True),
    "lockmaster.v1.Config.Get": Row("get"),
    "lockmaster.v1.Config.Range": Row("range"),
    "lockmaster.v1.Config.Delete": Row("delete", write=True),
    "lockmaster.v1.Config.History": Row("history"),
    "lockmaster.v1.Config.Watch": Row(streams=True),
    "lockmaster.v1.Admin.Status": Row(call=_admin(admin.AdminCalls.status)),
    "lockmaster.v1.Admin.Bootstrap": Row(call=_admin(admin.AdminCalls.bootstrap)),
    "lockmaster.v1.Admin.ListMembers": Row(call=_admin(admin.AdminCalls.list_members)),
    "lockmaster.v1.Admin.AddMember": _change(admin.AdminCalls.add_member),
    "lockmaster.v1.Admin.RemoveMember": _change(admin.AdminCalls.remove_member),
    "lockmaster.v1.Admin.ReplaceMember": _change(admin.AdminCalls.replace_member),
    "lockmaster.v1.Admin.PromoteMember": _change(admin.AdminCalls.promote_member),
    "lockmaster.v1.Admin.DemoteMember": _change(admin.AdminCalls.demote_member),
    "lockmaster.v1.Admin.AbortRoleChange": _change(admin.AdminCalls.abort_role_change),
    "lockmaster.v1.Admin.SetReducedCommit": _change(admin.AdminCalls.set_reduced_commit),
    "lockmaster.v1.Admin.ChangeGate": _change(admin.AdminCalls.change_gate),
    "lockmaster.v1.Admin.TransferLeadership": _change(admin.AdminCalls.transfer_leadership),
    "lockmaster.v1.Admin.MakeSnapshot": _change(admin.AdminCalls.make_snapshot),
    "lockmaster.v1.Admin.ListSnapshots": Row(call=_admin(admin.AdminCalls.list_snapshots)),
    "lockmaster.v1.Admin.VerifySnapshot": Row(call=_admin(admin.AdminCalls.verify_snapshot), write=True),
    "lockmaster.v1.Admin.Backup": Row(streams=True),
    "lockmaster.v1.Admin.EndSession": Row(call=_end_session, write=True),
}


class Unary:
    """Serves every RPC but Connect."""

    def __init__(
        self,
        engine: Engine,
        operations: Operations,
        events: EventHub,
        watches: WatchHub,
        admin_calls: admin.AdminCalls,
        relay: Relay | None,
        telemetry: Telemetry,
        direct: DirectPort,
        callers: Callers,
    ) -> None:
        self.engine = engine
        self._callers = callers
        self.direct = direct
        self.admin = admin_calls
        self._operations = operations
        self._events = events
        self._watches = watches
        self._relay = relay
        self._telemetry = telemetry

    def handlers(self, connect: Callable[[AsyncIterator[bytes], Any], Awaitable[None]]) -> list[Any]:
        """Handlers for all services; `connect` serves the session stream in raw bytes."""
        services = []
        for service in SERVICES:
            methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
            for method in service.methods:
                if method.full_name == "lockmaster.v1.Sessions.Connect":
                    methods[method.name] = grpc.stream_stream_rpc_method_handler(connect)
                else:
                    methods[method.name] = self._handler(method)
            services.append(grpc.method_handlers_generic_handler(service.full_name, methods))
        return services

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        request_class = message_factory.GetMessageClass(method.input_type)
        response_class = message_factory.GetMessageClass(method.output_type)
        encode = response_class.SerializeToString
        if method.full_name == "lockmaster.v1.Config.Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch, request_class.FromString, encode)
        if method.full_name == "lockmaster.v1.Admin.Backup":
            return grpc.unary_stream_rpc_method_handler(self._backup, request_class.FromString, encode)
        row = ROWS[method.full_name]
        path = f"/{method.containing_service.full_name}/{method.name}"

        async def serve(request: Any, context: Context) -> Message:
            try:
                await self._admit(context, method.full_name)
                if self._telemetry.traces:
                    with self._telemetry.call(path, dict(context.invocation_metadata() or ())):
                        return await self._serve(row, path, request, response_class, context)
                return await self._serve(row, path, request, response_class, context)
            except LockmasterError as error:
                await abort(context, error)

        return grpc.unary_unary_rpc_method_handler(serve, request_class.FromString, encode)

    async def _admit(self, context: Context, method: str) -> None:
        """Knows who calls from here on. Raises what `abort` ends the call with."""
        caller = await self._callers.identify(context)
        self._callers.admit(caller, method)
        _caller.set(caller)

    async def _serve(
        self, row: Row, path: str, request: Any, response_class: type[Message], context: Context
    ) -> Message:
        admission.admit(request)
        if row.write and context.time_remaining() is None:
            raise InvalidRequest("deadline", "is missing; a write needs one")
        try:
            if row.call is not None:
                return await row.call(self, request, context)
            response = await self._run(row.operation, request, context)
        except NotLeader as error:
            return await self._pass_on(row, path, request, response_class, context, error)
        if response.status == status_pb2.STATUS_NOT_LEADER:
            hint = NotLeader(response.failure.leader.address, response.failure.message.partition("; leader: ")[0])
            return await self._pass_on(row, path, request, response_class, context, hint)
        if response.status != status_pb2.STATUS_OK:
            await abort_with(context, response.failure)
        answer: Message = getattr(response, row.operation)
        return answer

    async def _pass_on(
        self,
        row: Row,
        path: str,
        request: Message,
        response_class: type[Message],
        context: Context,
        error: NotLeader,
    ) -> Message:
        """One hop to the leader; a call that has made it already, or has nowhere to go, is NotLeader."""
        if self._relay is None or not row.write or not error.leader_hint:
            raise error
        if self.engine.is_witness and not path.startswith(ADMIN_PATH):
            raise error  # a witness has no client traffic, not even somebody else's (raft.md §4)
        if any(key == RELAYED_KEY for key, _ in context.invocation_metadata() or ()):
            raise error
        origin = self.origin(context)
        return await self._relay.call(path, request, response_class, error.leader_hint, origin.principal, context)

    async def _run(self, operation: str, request: Any, context: Context) -> Response:
        origin, seq = self._dedup(request, context)
        return await self.run(operation, request, origin, seq)

    async def run(self, operation: str, request: Any, origin: Origin, seq: int) -> Response:
        """Runs one of the stream's operations and waits for its answer."""
        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def reply(size: int) -> Response:
            response = Response()
            if not answered.done():
                # The waiter runs in a later turn: by then the response is filled in.
                answered.set_result(response)
            return response

        # In a context of its own: call_soon copies the running one, and this call's span into the engine's turns.
        contextvars.Context().run(self._operations.handlers[operation], request, origin, seq, reply)
        return await answered

    def _dedup(self, request: Any, context: Context) -> tuple[Origin, int]:
        origin = self.origin(context)
        if "header" not in request.DESCRIPTOR.fields_by_name:
            return origin, 0
        header = request.header
        origin.session_id = header.session_id
        origin.first_incomplete = header.first_incomplete
        return origin, header.seq

    def origin(self, context: Context) -> Origin:
        """Who calls: by certificate or token, or as a trusted relay says."""
        caller = _caller.get()
        metadata = dict(context.invocation_metadata() or ())
        if RELAYED_KEY not in metadata:
            return Origin(caller.principal)
        relayed = metadata[RELAYED_KEY]
        claimed = relayed.decode("utf-8", "replace") if isinstance(relayed, bytes) else str(relayed)
        if claimed == caller.principal or self._callers.is_member(caller):
            return Origin(claimed)
        raise PermissionDenied("only a member of this cluster may relay calls of others")

    async def barrier(self, options: status_pb2.ReadOptions) -> None:
        """Returns once this member's state is fresh enough."""
        ready: asyncio.Future[LockmasterError | None] = asyncio.get_running_loop().create_future()
        self._operations.barrier(options, lambda error: None if ready.done() else ready.set_result(error))
        if (error := await ready) is not None:
            raise error

    # -- acquire: answers once it is decided

    async def acquire(self, request: lock_pb2.AcquireRequest, context: Context) -> lock_pb2.AcquireResponse:
        """Grant, end, or the caller's own end, which withdraws the place in the queue.

        A caller that ends between grant and answer keeps the lock, until it repeats the call under the same seq and
        gets the same token, releases it, or its session ends. Giving it back here would break that repetition, which
        §3 promises: a lost connection and a cancelled call look the same from here.
        """
        origin, seq = self._dedup(request, context)
        admission.need_session(origin.session_id)
        admission.need_sequence(seq)
        ended: asyncio.Future[AcquireEnd] = asyncio.get_running_loop().create_future()

        def told(event: AcquireEnd) -> None:
            if not ended.done():
                ended.set_result(event)

        self._events.wait_acquire(origin.session_id, seq, told)
        settled = False
        try:
            response = await self.run("acquire", request, origin, seq)
            if response.status == status_pb2.STATUS_NOT_LEADER:
                settled = True
                raise NotLeader(response.failure.leader.address)
            if response.status != status_pb2.STATUS_OK:
                settled = response.status != status_pb2.STATUS_INDETERMINATE
                await abort_with(context, response.failure)
            if response.acquire.state != lock_pb2.ACQUIRE_STATE_QUEUED:
                settled = True
                return response.acquire
            self._telemetry.link_holder(request.name)
            event = await ended
            settled = True
            return _acquire_end(event)
        except LockmasterError:
            settled = True
            raise
        finally:
            # A retry under the same seq may have taken this call's place: then the place in the queue is the retry's.
            waited = self._events.forget_acquire(origin.session_id, seq, told)
            if waited and not settled:
                self._withdraw(origin.session_id, request.name, seq)

    def _withdraw(self, session_id: int, name: str, seq: int) -> None:
        operation = commands.CancelAcquire(session_id, name, seq)
        self.engine.propose(commands.Command(operation), lambda result: None, reserved=True)

    # -- streams

    async def _backup(self, request: admin_pb2.BackupRequest, context: Context) -> AsyncIterator[admin_pb2.BackupPiece]:
        try:
            await self._admit(context, "lockmaster.v1.Admin.Backup")
            admission.admit(request)
            if context.time_remaining() is None:
                raise InvalidRequest("deadline", "is missing; a backup needs one")
            await self.barrier(status_pb2.ReadOptions())
            good = while_good(self._callers.logins, _caller.get())
            async with good, contextlib.aclosing(self.admin.backup()) as pieces:  # at once, when the caller is gone
                async for piece in pieces:
                    yield piece
        except LockmasterError as error:
            await abort(context, error)

    async def _watch(self, request: config_pb2.WatchRequest, context: Context) -> AsyncIterator[config_pb2.WatchEvents]:
        ready = asyncio.Event()
        watch = None
        try:
            await self._admit(context, "lockmaster.v1.Config.Watch")
            admission.admit(request)
            await self.barrier(status_pb2.ReadOptions())
            watch = self._watches.make(request, ready.set)
            self._watches.start(watch)
            # The first page tells the revision from which on everything is delivered.
            yield config_pb2.WatchEvents(watch_id=request.watch_id, revision=watch.position)
            async with while_good(self._callers.logins, _caller.get()):
                while True:
                    await ready.wait()
                    ready.clear()
                    while (page := watch.take()) is not None:
                        yield page
        except LockmasterError as error:
            await abort(context, error)
        finally:
            if watch is not None:
                self._watches.cancel(watch)


def _acquire_end(event: AcquireEnd) -> lock_pb2.AcquireResponse:
    if isinstance(event, commands.LockGranted):
        return lock_pb2.AcquireResponse(state=lock_pb2.ACQUIRE_STATE_GRANTED, token=event.token)
    if isinstance(event, commands.AcquireEnded):
        return lock_pb2.AcquireResponse(state=translate.ended_state(event.cause))
    raise SessionExpired("the session ended while its acquire was waiting")


async def abort(context: Context, error: LockmasterError) -> NoReturn:
    """End the call with the error's status and details."""
    failure = status_pb2.Failure()
    translate.write_failure(failure, error)
    await abort_with(context, failure, grpc.StatusCode.UNAUTHENTICATED if isinstance(error, Unauthenticated) else None)


async def abort_with(context: Context, failure: status_pb2.Failure, code: grpc.StatusCode | None = None) -> NoReturn:
    """End the call with this failure, under its own code unless one is given."""
    code = code or CODES.get(failure.status, grpc.StatusCode.UNKNOWN)
    message = failure.message or status_pb2.Status.Name(failure.status)
    trailing = (
        (FAILURE_KEY, failure.SerializeToString()),
        ("grpc-status-details-bin", _rpc_status(code.value[0], message, failure)),
    )
    await context.abort(code, message, trailing)
    raise RuntimeError("context.abort returned")


def _rpc_status(code: int, message: str, failure: status_pb2.Failure) -> bytes:
    """A google.rpc.Status {code = 1, message = 2, details = 3}: three fields, not worth a dependency."""
    detail = any_pb2.Any()
    detail.Pack(failure)
    parts = [b"\x08", _varint(code)]
    for tag, data in ((b"\x12", message.encode()), (b"\x1a", detail.SerializeToString())):
        parts += [tag, _varint(len(data)), data]
    return b"".join(parts)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
