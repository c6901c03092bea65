"""What a client may ask of the state machine, once, for the session stream and the unary calls alike.

Theory of operation. A handler checks the request, and either proposes a command or waits for a read barrier; in both
cases it ends by calling `reply(size)` exactly once and filling in the Response it gets, in the same call. `reply` is
the stream's or the unary call's: it knows the request's id and where the answer goes. No handler awaits, and no task
is made per operation. A handler that raises LockmasterError has proposed nothing and not called `reply`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lockmaster_raft.errors import RaftError

from lockmaster.api import config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.errors import InvalidRequest, LockmasterError, Overloaded, PermissionDenied, Unavailable
from lockmaster.server import admission, reads, translate
from lockmaster.server.admission import (
    REVISION_WAIT_MS_MAX,
    TIMEOUT_MS_MAX,
    admit,
    admit_name,
    need_sequence,
    need_session,
)
from lockmaster.server.batching import QUEUE_BYTES_MAX
from lockmaster.server.events import RevisionWaiters
from lockmaster.server.reads import Reply
from lockmaster.server.runtime import Engine
from lockmaster.server.translate import MILLISECOND, Response
from lockmaster.statemachine import commands
from lockmaster.statemachine.codec import command_digest, encode_command
from lockmaster.statemachine.commands import Command, Dedup, Result, ResultStatus
from lockmaster.statemachine.faults import InvalidEntry

if TYPE_CHECKING:
    from lockmaster.server.meters import Meters
    from lockmaster.server.operation_tracing import OperationTracing

_log = logging.getLogger(__name__)

KNOWN_SESSIONS_MAX: Final = 4096
READ_SLICE_NS: Final = 5_000_000
"""Longest time of the loop that answering reads takes in one turn (plus the one read that passes it)."""
WAITING_BYTES_MAX: Final = QUEUE_BYTES_MAX
LOOK_BYTES: Final = 1024
"""What looking for one session of a keepalive counts as: it takes time rather than room."""
DEFERRED_MAX: Final = 65_536
"""Most reads that wait for a later turn."""
Writer = Callable[[Response, Result], None]
Query = Callable[[Reply], None]
Found = Callable[[frozenset[int] | LockmasterError], None]
"""Told which of a request's sessions are over."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits until its sessions are found, or behind one that does."""

    session_ids: Sequence[int]
    found: Found
    size: int
    reserved: bool = False
    """It frees something: no bound keeps it out."""


class Origin:
    """Who asks, and under which session; one per stream (changed frame by frame) or unary call."""

    __slots__ = ("behind", "first_incomplete", "known", "principal", "session_id")

    def __init__(self, principal: str, session_id: int = 0, first_incomplete: int = 0) -> None:
        self.principal = principal
        self.session_id = session_id
        self.first_incomplete = first_incomplete
        self.known: set[int] = set()
        """Sessions that were found to be this principal's; at most KNOWN_SESSIONS_MAX."""
        self.behind: deque[Waiting] | None = None
        """What came after a request that waits to find its session and must not overtake it; None: nothing waits. As
        many as the stream may have unanswered."""


Handler = Callable[[Any, Origin, int, Reply], None]


class Operations:
    """The handlers, by the name of the request's `operation`. For the loop's thread only."""

    def __init__(self, engine: Engine, waiters: RevisionWaiters, election_timeout_ns: int) -> None:
        self._engine = engine
        self._waiters = waiters
        self._election_timeout_ns = election_timeout_ns
        self.meters: Meters | None = None
        self.tracing: OperationTracing | None = None
        """Both None: nothing is measured, nothing traced."""
        self._deferred: deque[tuple[Query, Reply]] = deque()
        self._waiting_bytes = 0
        """Of all Waiting; at most WAITING_BYTES_MAX, but for what is reserved."""
        self._slice_stop = 0
        """When this turn's reads have had their time; 0: no read yet in this turn."""
        self.handlers: Final[dict[str, Handler]] = {
            "acquire": self.acquire,
            "release": self.release,
            "cancel_acquire": self.cancel_acquire,
            "force_release": self.force_release,
            "inspect_lock": self.inspect_lock,
            "put": self.put,
            "delete": self.delete,
            "get": self.get,
            "range": self.range,
            "history": self.history,
            "open_session": self.open_session,
            "keep_alive": self.keep_alive,
            "close_session": self.close_session,
        }

    # -- locks

    def acquire(self, request: lock_pb2.AcquireRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Take a lock or a place in its queue."""
        name = request.name
        admit_name(name)
        timeout_ms = request.timeout_ms
        if timeout_ms > TIMEOUT_MS_MAX:
            raise InvalidRequest("timeout_ms", f"is {timeout_ms}; at most {TIMEOUT_MS_MAX} is allowed")
        need_sequence(seq)
        operation = commands.Acquire(name, request.wait, timeout_ms * MILLISECOND)
        meters = self.meters
        write = translate.write_acquire if meters is None else meters.acquire_writer(origin.session_id, seq)
        self._propose(operation, origin, seq, reply, write)

    def release(self, request: lock_pb2.ReleaseRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Give a lock back."""
        name = request.name
        admit_name(name)
        token = request.token
        if not 0 < token <= admission.NUMBER_MAX:
            raise InvalidRequest("token", f"is {token}; it must be the fencing token of the grant")
        operation = commands.Release(origin.session_id, name, token)
        self._propose(operation, origin, seq, reply, translate.write_release, reserved=True, owned=True)

    def cancel_acquire(self, request: lock_pb2.CancelAcquireRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Withdraw an acquire."""
        admit(request)
        operation = commands.CancelAcquire(origin.session_id, request.name, request.acquire_seq)
        self._propose(operation, origin, seq, reply, translate.write_cancel_acquire, reserved=True, owned=True)

    def force_release(self, request: lock_pb2.ForceReleaseRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Take a lock from its holder."""
        admit(request)
        operation = commands.ForceRelease(request.name, request.token_max, request.reason, origin.principal)
        self._propose(operation, origin, seq, reply, translate.write_force_release)

    def inspect_lock(self, request: lock_pb2.InspectLockRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Holder and queue of a lock."""
        admit(request)
        self._read(request.read, reply, lambda reply: reads.inspect_lock(self._engine, request, reply))

    # -- config

    def put(self, request: config_pb2.PutRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Write a key."""
        admit(request)
        operation = translate.put(request, origin.session_id)
        self._propose(operation, origin, seq, reply, translate.write_put, owned=request.ephemeral)

    def delete(self, request: config_pb2.DeleteRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Delete a key."""
        admit(request)
        self._propose(translate.delete(request), origin, seq, reply, translate.write_delete)

    def get(self, request: config_pb2.GetRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """One key."""
        admit(request)
        self._read(request.read, reply, lambda reply: reads.get(self._engine, request, reply), request.at_revision)

    def range(self, request: config_pb2.RangeRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """A page of keys."""
        admit(request)
        at_revision = request.at_revision
        self._read(request.read, reply, lambda reply: reads.range_page(self._engine, request, reply), at_revision)

    def history(self, request: config_pb2.HistoryRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """A page of changes, newest first."""
        admit(request)
        self._read(request.read, reply, lambda reply: reads.history_page(self._engine, request, reply))

    # -- sessions

    def open_session(self, request: session_pb2.OpenSessionRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Open a session for this principal."""
        admit(request)
        admission.admit_ttl(request.ttl_ms, self._election_timeout_ns)
        operation = translate.open_session(request, origin.principal)

        def done(result: Result | LockmasterError) -> None:
            answer = reply(0)
            if isinstance(result, LockmasterError):
                translate.write_error(answer, result)
            elif result.status is not ResultStatus.OK:
                translate.write_result_failure(answer, result)
            else:
                answer.open_session.session_id = result.revision
                answer.open_session.ttl_ms = operation.ttl_ns // MILLISECOND

        self._engine.propose(Command(operation), done)

    def keep_alive(self, request: session_pb2.KeepAliveRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """Renew sessions."""
        admit(request)
        session_ids = sorted(set(request.session_ids))

        def found(over: frozenset[int] | LockmasterError) -> None:
            if isinstance(over, LockmasterError):
                translate.write_error(reply(0), over)
                return

            def done(result: Sequence[int] | LockmasterError) -> None:
                answer = reply(0)
                if isinstance(result, LockmasterError):
                    translate.write_error(answer, result)
                else:
                    answer.keep_alive.SetInParent()
                    answer.keep_alive.expired.extend(sorted(over.union(result)))

            self._engine.keep_alive([each for each in session_ids if each not in over], done)

        self._find(origin, Waiting(session_ids, found, len(session_ids) * LOOK_BYTES))

    def close_session(self, request: session_pb2.CloseSessionRequest, origin: Origin, seq: int, reply: Reply) -> None:
        """End a session."""
        admit(request)
        command = Command(commands.CloseSession(request.session_id))

        def done(result: Result | LockmasterError) -> None:
            answer = reply(0)
            if isinstance(result, LockmasterError):
                translate.write_error(answer, result)
            else:
                translate.write_close_session(answer, result)

        # Ending a session frees what it holds, so it must get through an overload like a release does.
        self._propose_owned(command, origin, (request.session_id,), done, reserved=True)

    # -- what they have in common

    def own_session(self, origin: Origin, session_id: int) -> bool:
        """Whether the session is known here; it is this principal's then. Raises InvalidRequest, PermissionDenied."""
        if session_id in origin.known:
            return True
        need_session(session_id)
        found = self._engine.machine.session(session_id)
        if found is None:
            return False
        if found.principal != origin.principal:
            raise PermissionDenied("the session belongs to another principal")
        if len(origin.known) >= KNOWN_SESSIONS_MAX:
            origin.known.clear()
        origin.known.add(session_id)
        return True

    def _find(self, origin: Origin, one: Waiting) -> None:
        """Calls its `found` (which of its sessions are over) once this member knows; raises what own_session does, and
        Overloaded, unless it waits already.

        A session that isn't known here may be on its way into the state, for somebody else: ids can be guessed, and
        `apply` asks for no principal. So a leader first applies all that was acknowledged (its own term's first entry
        included): whoever was told the id is found then. Nobody else proposes, so nobody else has to know.
        What one stream sends is proposed in its order: what comes meanwhile waits behind.
        """
        unknown: Sequence[int] = one.session_ids
        if origin.behind is None:
            unknown = [each for each in one.session_ids if not self.own_session(origin, each)]
            if not unknown or not self._engine.is_leader:
                one.found(frozenset())
                return
        if not one.reserved and self._waiting_bytes + one.size > WAITING_BYTES_MAX:
            raise Overloaded(f"{WAITING_BYTES_MAX >> 20} MiB of requests wait to find their sessions", 0.1)
        self._waiting_bytes += one.size
        if origin.behind is not None:
            origin.behind.append(one)
            return
        origin.behind = deque()

        def ready(error: LockmasterError | None) -> None:
            behind, origin.behind = origin.behind or (), None
            self._waiting_bytes -= one.size + sum(later.size for later in behind)
            failed = error if self._engine.is_leader else None  # who leads no more says who does
            if failed is not None:
                one.found(failed)
            else:
                self._find_again(origin, unknown, one.found)
            for later in behind:  # of these one may wait again, and keeps the rest behind it
                self._next(origin, later, failed)

        self._engine.read_index(ready)

    def _next(self, origin: Origin, one: Waiting, failed: LockmasterError | None) -> None:
        """What waited behind: nothing overtakes what its client tries again, but what frees and needs no finding."""
        if failed is not None and (one.session_ids or not one.reserved):
            one.found(failed)
            return
        try:
            self._find(origin, one)
        except LockmasterError as refused:
            one.found(refused)

    def _find_again(self, origin: Origin, unknown: Sequence[int], found: Found) -> None:
        """The state is confirmed: what still isn't known is over. Or this member leads no more and will say so."""
        try:
            over = frozenset(each for each in unknown if not self.own_session(origin, each))
        except LockmasterError as refused:
            found(refused)
            return
        found(over if self._engine.is_leader else frozenset())

    def _propose_owned(
        self,
        command: Command,
        origin: Origin,
        session_ids: Sequence[int],
        told: Callable[[Result | LockmasterError], None],
        *,
        reserved: bool,
    ) -> None:
        """Propose what acts for these sessions, once they are known to be this principal's."""

        def found(over: frozenset[int] | LockmasterError) -> None:
            if isinstance(over, LockmasterError):
                told(over)
            elif over:
                told(Result(ResultStatus.SESSION_EXPIRED))  # as `apply` answers
            else:
                self._engine.propose(command, told, reserved=reserved)

        self._find(origin, Waiting(session_ids, found, _size(command), reserved))

    def _propose(
        self,
        operation: commands.Operation,
        origin: Origin,
        seq: int,
        reply: Reply,
        write: Writer,
        *,
        reserved: bool = False,
        owned: bool = False,
    ) -> None:
        """`owned`: acts for the session also where no sequence number says so."""

        def done(result: Result | LockmasterError) -> None:
            answer = reply(0)
            if type(result) is Result:
                write(answer, result)
            elif isinstance(result, LockmasterError):
                translate.write_error(answer, result)

        tracing = self.tracing
        told = done if tracing is None or tracing.here is None else tracing.here.bound(done)
        session_id = origin.session_id
        acts_for = (session_id,) if (owned or seq) and session_id not in origin.known else ()
        if acts_for:
            need_session(session_id)
        # Nothing is known to be received: every answer from the first on is kept.
        dedup = Dedup(session_id, seq, origin.first_incomplete or 1, command_digest(operation)) if seq else None
        command = Command(operation, dedup)
        if acts_for or origin.behind is not None:
            self._propose_owned(command, origin, acts_for, told, reserved=reserved)
        else:
            self._engine.propose(command, told, reserved=reserved)

    def _read(self, options: status_pb2.ReadOptions, reply: Reply, query: Query, at_revision: int = 0) -> None:
        def ready(error: LockmasterError | None) -> None:
            if error is None:
                self._answer(query, reply)
            else:
                translate.write_error(reply(0), error)

        tracing = self.tracing
        told = ready if tracing is None or tracing.here is None else tracing.here.bound(ready)
        self.barrier(options, told, at_revision)

    def _answer(self, query: Query, reply: Reply) -> None:
        """Run a query whose barrier is passed: now, or in a later turn when this one has had its slice.

        Later is as good: the state is only fresher then.
        """
        if not self._slice_stop:
            self._slice_stop = time.perf_counter_ns() + READ_SLICE_NS
            asyncio.get_running_loop().call_soon(self._next_slice)
        if self._deferred or time.perf_counter_ns() > self._slice_stop:
            if len(self._deferred) >= DEFERRED_MAX:
                translate.write_error(reply(0), Overloaded("too many reads wait", 0.1))
            else:
                self._deferred.append((query, reply))
        elif (error := run_query(query, reply)) is not None:
            translate.write_error(reply(0), error)

    def _next_slice(self) -> None:
        self._slice_stop = 0
        deferred = self._deferred
        if not deferred:
            return
        self._slice_stop = stop = time.perf_counter_ns() + READ_SLICE_NS
        asyncio.get_running_loop().call_soon(self._next_slice)
        try:
            while deferred:  # ends: each turn of it answers one
                query, reply = deferred.popleft()
                if (error := run_query(query, reply)) is not None:
                    translate.write_error(reply(0), error)
                if time.perf_counter_ns() > stop:
                    break
        except RaftError as broken:
            self._engine.fail(broken)

    def barrier(
        self, options: status_pb2.ReadOptions, ready: Callable[[LockmasterError | None], None], at_revision: int = 0
    ) -> None:
        """Calls `ready` when this member's state is fresh enough, or with why it cannot be.

        A read pinned at a revision that another member gave out waits until it is applied here as well.
        """
        consistency = options.consistency
        if consistency in (status_pb2.CONSISTENCY_LINEARIZABLE, status_pb2.CONSISTENCY_LEADER_LEASE):
            self._engine.read_index(ready, by_lease=consistency == status_pb2.CONSISTENCY_LEADER_LEASE)
            return
        if consistency == status_pb2.CONSISTENCY_BOUNDED and not self._young(options.age_ms_max):
            self._engine.read_index(_or_too_old(options.age_ms_max, ready))
            return
        revision_min = max(options.revision_min, at_revision)
        if self._engine.revision >= revision_min:
            ready(None)
        else:
            self._waiters.wait(revision_min, ready, (options.wait_ms_max or REVISION_WAIT_MS_MAX) / 1000)

    def _young(self, age_ms_max: int) -> bool:
        age = self._engine.state_age_ns()
        return age is not None and age <= age_ms_max * MILLISECOND


def _size(command: Command) -> int:
    """Encoded; 0 where it can't be, which `propose` says."""
    try:
        return len(encode_command(command))
    except InvalidEntry:
        return 0


def _or_too_old(
    age_ms_max: int, ready: Callable[[LockmasterError | None], None]
) -> Callable[[LockmasterError | None], None]:
    """Why a BOUNDED read cannot be answered: the bound, and why no newer state was to be had."""

    def confirmed(error: LockmasterError | None) -> None:
        if isinstance(error, Unavailable):
            error = Unavailable(f"the state here may be older than {age_ms_max / 1000:g} s: {error}")
        ready(error)

    return confirmed


def run_query(query: Callable[[Any], None], argument: Any) -> LockmasterError | None:
    """Runs a query on the state; a refusal comes back as the error.

    Storage errors and broken laws pass through and stop the member; any other error is a bug in one query, which must
    not let one request stop every member of the cluster in turn.
    """
    try:
        query(argument)
    except LockmasterError as error:
        return error
    except RaftError:
        raise
    except Exception:
        _log.exception("a query failed; please report this")
        return Unavailable("internal error in this query; the server's log has it")
    return None
