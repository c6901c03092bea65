"""Queries of the state machine, filled into answers. Pages are bounded in items and bytes; nothing here awaits.

Each query reads first, then calls `reply(size)` once and fills in what it gets; one that raises has not replied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lockmaster.api import config_pb2, lock_pb2, session_pb2
from lockmaster.errors import InvalidRequest, SessionExpired
from lockmaster.server.admission import PAGE_LIMIT_DEFAULT
from lockmaster.server.runtime import Engine
from lockmaster.server.translate import MILLISECOND, SESSION_OVER, Response, write_change, write_item
from lockmaster.statemachine.commands import KeyValue
from lockmaster.statemachine.identity import identity_of
from lockmaster.statemachine.queries import LockInfo

Reply = Callable[[int], Response]
"""Where the answer to fill in is; the argument is about how many bytes it will have. May raise Overloaded."""
ITEM_OVERHEAD_BYTES: Final = 64
HISTORY_STEP: Final = 16
ANSWER_BYTES_MAX: Final = 3 << 20
"""Below gRPC's default message limit of 4 MiB; pages of config items are cut at this by the state machine."""


def item_size(item: KeyValue) -> int:
    """About how many bytes it has on the wire."""
    return ITEM_OVERHEAD_BYTES + len(item.key) + len(item.namespace) + len(item.value) + len(item.comment)


def _need_past(at_revision: int, revision: int) -> None:
    """An answer for a revision that is yet to come would not be the answer for it later."""
    if at_revision > revision:
        raise InvalidRequest("at_revision", f"is in the future: the revision is {revision}")


def get(engine: Engine, request: config_pb2.GetRequest, reply: Reply) -> None:
    """Fill in one key, or nothing where there is none."""
    machine = engine.machine
    _need_past(request.at_revision, machine.revision)
    item = machine.get(request.namespace, request.key, request.at_revision)
    target = reply(0 if item is None else len(item.value)).get
    target.revision = machine.revision
    if item is not None and not item.deleted:
        write_item(target.item, item)


def range_page(engine: Engine, request: config_pb2.RangeRequest, reply: Reply) -> None:
    """Fill in a page of keys, pinned to the revision it names."""
    machine = engine.machine
    _need_past(request.at_revision, machine.revision)
    limit = request.limit or PAGE_LIMIT_DEFAULT
    page = machine.range(
        request.namespace, request.prefix, request.after, limit, request.at_revision, request.keys_only
    )
    target = reply(sum(map(item_size, page.items))).range
    target.revision = request.at_revision or machine.revision
    target.more = page.more
    for item in page.items:
        write_item(target.items.add(), item, value=not request.keys_only)


def history_page(engine: Engine, request: config_pb2.HistoryRequest, reply: Reply) -> None:
    """Fill in a page of changes, newest first; small steps, because a page is bounded in bytes too."""
    machine = engine.machine
    left = request.limit or PAGE_LIMIT_DEFAULT
    before = request.before
    size = 0
    more = True
    page: list[KeyValue] = []
    while more and left and size < ANSWER_BYTES_MAX:
        found = machine.history(request.namespace, request.key, before, min(left, HISTORY_STEP))
        more = found.more
        for change in found.changes:
            cost = item_size(change.item)
            if page and size + cost > ANSWER_BYTES_MAX:
                more, left = True, 0
                break
            page.append(change.item)
            size += cost
            left -= 1
            before = change.item.mod_revision
        if not found.changes:
            break
    compacted = machine.compacted(request.namespace)
    target = reply(size).history
    target.revision = machine.revision
    target.more = more
    target.compacted_revision = compacted
    for item in page:
        write_change(target.changes.add(), item, None)


def inspect_lock(engine: Engine, request: lock_pb2.InspectLockRequest, reply: Reply) -> None:
    """Fill in holder and queue; a lock nobody ever took is free."""
    machine = engine.machine
    view = machine.inspect_lock(request.name)
    target = reply(len(view.queue) * ITEM_OVERHEAD_BYTES).inspect_lock
    target.revision = machine.revision
    write_lock(target.lock, view, machine.cluster_time)


def write_lock(target: lock_pb2.LockInfo, view: LockInfo, cluster_time: int) -> None:
    """Fill in one lock."""
    target.name = view.name
    target.queue_length = view.queue_length
    target.delay_remaining_ms = max(0, view.delay_until - cluster_time) // MILLISECOND
    target.last_token = view.token
    if view.token:
        holder = target.holder
        holder.session_id = view.session_id
        holder.label = view.label
        holder.token = view.token
        holder.held_ms = max(0, cluster_time - view.granted_at) // MILLISECOND
    for waiter in view.queue:
        row = target.queue.add()
        row.session_id = waiter.session_id
        row.label = waiter.label
        row.position = waiter.position
        row.waited_ms = max(0, cluster_time - waiter.since) // MILLISECOND


def list_locks(engine: Engine, request: lock_pb2.ListLocksRequest) -> lock_pb2.ListLocksResponse:
    """A page of locks by name, without their queues."""
    machine = engine.machine
    views, more = machine.list_locks(request.prefix, request.after, request.limit or PAGE_LIMIT_DEFAULT)
    answer = lock_pb2.ListLocksResponse(more=more, revision=machine.revision)
    for view in views:
        write_lock(answer.locks.add(), view, machine.cluster_time)
    return answer


def list_sessions(engine: Engine, request: session_pb2.ListSessionsRequest) -> session_pb2.ListSessionsResponse:
    """A page of sessions by id."""
    machine = engine.machine
    limit = request.limit or PAGE_LIMIT_DEFAULT
    views, after = machine.list_sessions(request.after, limit, pod_bound=request.pod_bound)
    answer = session_pb2.ListSessionsResponse(more=after > 0, after=after)
    for view in views:
        row = answer.sessions.add()
        row.session_id = view.session_id
        row.label = view.label
        identity = identity_of(view.principal)
        row.principal = identity.name
        row.pod, row.pod_uid, row.pod_namespace = identity.pod, identity.pod_uid, identity.namespace
        row.ttl_ms = view.ttl_ns // MILLISECOND
        row.remaining_ms = max(0, view.deadline - machine.cluster_time) // MILLISECOND
        row.locks_held = len(machine.session_locks(view.session_id).held)
    return answer


def attach(engine: Engine, session_id: int, reply: Reply) -> None:
    """Fill in what the session holds and waits for. Raises SessionExpired."""
    machine = engine.machine
    if machine.session(session_id) is None:
        raise SessionExpired(SESSION_OVER)
    locks = machine.session_locks(session_id)
    target = reply((len(locks.held) + len(locks.waiting)) * ITEM_OVERHEAD_BYTES).attach
    target.SetInParent()
    for name, token, acquire_seq in locks.held:
        row = target.held.add()
        row.name = name
        row.token = token
        row.acquire_seq = acquire_seq
    for name, acquire_seq, position in locks.waiting:
        place = target.waiting.add()
        place.name = name
        place.acquire_seq = acquire_seq
        place.position = position
