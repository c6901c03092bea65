"""Questions about the applied state: pure reads, each bounded by a limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from lockmaster.errors import Compacted
from lockmaster.statemachine.commands import ConfigChanged, KeyValue
from lockmaster.statemachine.config import version_at
from lockmaster.statemachine.identity import identity_of
from lockmaster.statemachine.locks import queue_position
from lockmaster.statemachine.records import (
    CHANGES,
    CLAIMS,
    HEADS,
    LOCKS,
    NAMESPACES,
    RENEWALS,
    SESSIONS,
    VERSIONS,
    WAITERS,
    WHOLE_HISTORY,
    Lock,
    Session,
    after_stem,
    text_stem,
)
from lockmaster.statemachine.view import StateView
from lockmaster.statemachine.wire import U64

PAGE_BYTES_MAX: Final = 3 * 1024 * 1024
QUEUE_COUNT_MAX: Final = 1_000
INDEX_MAX: Final = 2**63 - 1
CHANGES_LOOKED_MAX: Final = 4_000
"""Most changes that one call of `changes` looks at, wanted or not: a few milliseconds."""
SESSIONS_LOOKED_MAX: Final = 4_000
"""Most sessions that one call of `list_sessions` looks at, wanted or not: a few milliseconds."""
SCAN_COUNT_MAX: Final = 100_000
"""Records that one question looks at, at most; its page then ends early with `more`."""


@dataclass(slots=True)
class Page:
    """Config items in key order. Go on after `after` if `more`."""

    items: list[KeyValue]
    more: bool
    after: str = ""


@dataclass(slots=True)
class Changes:
    """Changes in revision order (or newest first for history). Complete up to `revision`."""

    changes: list[ConfigChanged]
    more: bool
    revision: int
    compacted: int


@dataclass(slots=True)
class WaiterInfo:
    """A place in a queue. Times are cluster time in nanoseconds."""

    session_id: int
    acquire_seq: int
    label: str
    position: int
    since: int


@dataclass(slots=True)
class LockInfo:
    """A lock as it stands. token 0 = free."""

    name: str
    session_id: int = 0
    acquire_seq: int = 0
    label: str = ""
    token: int = 0
    granted_at: int = 0
    delay_until: int = 0
    queue_length: int = 0
    queue: list[WaiterInfo] = field(default_factory=list)


@dataclass(slots=True)
class SessionInfo:
    """A live session. Times are cluster time in nanoseconds."""

    session_id: int
    principal: str
    label: str
    ttl_ns: int
    deadline: int
    opened_at: int
    lock_delay_ns: int


@dataclass(slots=True)
class SessionLocks:
    """What a session holds (name, token, acquire_seq) and waits for (name, acquire_seq, position)."""

    held: list[tuple[str, int, int]]
    waiting: list[tuple[str, int, int]]


class Queries:
    """The reading half of StateMachine."""

    view: StateView

    @property
    def revision(self) -> int:
        """The newest revision."""
        raise NotImplementedError

    @property
    def lift_stamp(self) -> int:
        """See StateMachine."""
        raise NotImplementedError

    # -- config

    def compacted(self, namespace: str) -> int:
        """The first revision of which the namespace's history is held in full; 0 = all of it."""
        record, whole = self.view.get(NAMESPACES, namespace), self.view.get(NAMESPACES, WHOLE_HISTORY)
        return max(record.compacted if record is not None else 0, whole.compacted if whole is not None else 0)

    def _check_held(self, namespace: str, revision: int) -> None:
        first = self.compacted(namespace)
        if revision < first:
            raise Compacted(first)

    def get(self, namespace: str, key: str, at_revision: int = 0) -> KeyValue | None:
        """The key's value, now or as it was at a revision. Raises Compacted."""
        if at_revision:
            self._check_held(namespace, at_revision)
            return self._get_at(namespace, key, at_revision)
        head = self.view.get(HEADS, (namespace, key))
        if head is None:
            return None
        return self._version(namespace, key, head.mod_revision)

    def _version(self, namespace: str, key: str, revision: int) -> KeyValue | None:
        return version_at(self.view.get(VERSIONS, (namespace, key, revision)), namespace, key, revision)

    def _get_at(self, namespace: str, key: str, revision: int) -> KeyValue | None:
        stem = text_stem(namespace, key)
        stop = stem + U64.pack(min(revision, INDEX_MAX) + 1)
        for (_, _, found), item in self.view.scan(VERSIONS, stem, stop, reverse=True):
            return None if item.deleted else version_at(item, namespace, key, found)
        return None

    def range(
        self,
        namespace: str,
        prefix: str = "",
        after: str = "",
        limit: int = 100,
        at_revision: int = 0,
        keys_only: bool = False,
    ) -> Page:
        """A page of the keys with a prefix, in key order, now or as of a revision. Raises Compacted."""
        if at_revision:
            self._check_held(namespace, at_revision)
        record = self.view.get(NAMESPACES, namespace)
        if record is None:
            return Page([], False)
        if not at_revision or at_revision >= record.last_revision:
            candidates = self._live_keys(namespace, prefix, after)
        else:
            candidates = self._keys_at(namespace, prefix, after, at_revision)
        page = Page([], False)
        size = looked = 0
        for key, revision in candidates:
            looked += 1
            if len(page.items) >= limit or size >= PAGE_BYTES_MAX or looked > SCAN_COUNT_MAX:
                page.more = True
                break
            page.after = key
            if not revision:
                continue
            item = self._version(namespace, key, revision)
            if item is None:
                continue
            if keys_only:
                item = _without_value(item)
            size += len(item.value) + len(key)
            page.items.append(item)
        return page

    def _live_keys(self, namespace: str, prefix: str, after: str) -> Iterator[tuple[str, int]]:
        stem = text_stem(namespace) + prefix.encode()
        first = max(stem, text_stem(namespace) + after.encode() + b"\0") if after else stem
        for (_, key), head in self.view.scan(HEADS, first, after_stem(stem)):
            yield key, head.mod_revision

    def _keys_at(self, namespace: str, prefix: str, after: str, revision: int) -> Iterator[tuple[str, int]]:
        """Each key and the newest revision <= `revision` at which it is not deleted, else 0."""
        stem = text_stem(namespace) + prefix.encode()
        first = max(stem, text_stem(namespace, after) + b"\xff" * 8) if after else stem
        current, newest = "", 0
        for (_, key, found), item in self.view.scan(VERSIONS, first, after_stem(stem)):
            if key != current:
                if current:
                    yield current, newest
                current, newest = key, 0
            if found <= revision:
                newest = 0 if item.deleted else found
        if current:
            yield current, newest

    def history(self, namespace: str, key: str = "", before: int = 0, limit: int = 100) -> Changes:
        """Changes of a key ("" = of the namespace), newest first, below revision `before` (0 = from the newest)."""
        stop_revision = before or INDEX_MAX
        found: list[ConfigChanged] = []
        more = False
        for name, revision in self._change_points(namespace, key, stop_revision):
            if len(found) >= limit:
                more = True
                break
            change = self._change(namespace, name, revision)
            if change is not None:
                found.append(change)
        return Changes(found, more, self.revision, self.compacted(namespace))

    def _change_points(self, namespace: str, key: str, stop_revision: int) -> Iterator[tuple[str, int]]:
        stop = U64.pack(stop_revision)
        if key:
            stem = text_stem(namespace, key)
            for (_, _, revision), _ in self.view.scan(VERSIONS, stem, stem + stop, reverse=True):
                yield key, revision
        else:
            stem = text_stem(namespace)
            for (_, revision), change in self.view.scan(CHANGES, stem, stem + stop, reverse=True):
                yield change.key, revision

    def _change(self, namespace: str, key: str, revision: int) -> ConfigChanged | None:
        item = self._version(namespace, key, revision)
        if item is None:
            return None
        record = self.view.get(CHANGES, (namespace, revision))
        superseded = record.previous_revision if record is not None else 0
        return ConfigChanged(item, self._version(namespace, key, superseded) if superseded else None)

    def changes(
        self, namespace: str, key: str, from_revision: int, limit: int = 1_000, *, prefix: bool = False
    ) -> Changes:
        """Changes at revisions >= from_revision, oldest first: what a watch is fed from. Raises Compacted.

        Every change at or below the answer's `revision` is in it: go on from revision + 1.
        """
        self._check_held(namespace, from_revision)
        stem = text_stem(namespace)
        found: list[ConfigChanged] = []
        size = looked = complete = 0
        for (_, revision), record in self.view.scan(CHANGES, stem + U64.pack(from_revision), after_stem(stem)):
            looked += 1
            if len(found) >= limit or size >= PAGE_BYTES_MAX or looked > CHANGES_LOOKED_MAX:
                return Changes(found, True, complete, self.compacted(namespace))
            complete = revision
            if record.key != key and not (prefix and record.key.startswith(key)):
                continue
            change = self._change(namespace, record.key, revision)
            if change is not None:
                found.append(change)
                size += len(change.item.value)
        return Changes(found, False, self.revision, self.compacted(namespace))

    # -- locks

    def inspect_lock(self, name: str, queue_count_max: int = QUEUE_COUNT_MAX) -> LockInfo:
        """The lock as it stands; one that was never taken is free."""
        lock = self.view.get(LOCKS, name)
        return self._lock_info(name, lock, queue_count_max) if lock is not None else LockInfo(name)

    def _label(self, session_id: int) -> str:
        session = self.view.get(SESSIONS, session_id)
        return session.label if session is not None else ""

    def _lock_info(self, name: str, lock: Lock, queue_count_max: int) -> LockInfo:
        label = self._label(lock.session_id) if lock.token else ""
        info = LockInfo(
            name, lock.session_id, lock.acquire_seq, label, lock.token, lock.granted_at, lock.delay_until, lock.waiting
        )
        ticket = lock.head
        while ticket and len(info.queue) < queue_count_max:
            waiter = self.view.get(WAITERS, (name, ticket))
            if waiter is None:
                break
            label, position = self._label(waiter.session_id), len(info.queue) + 1
            info.queue.append(WaiterInfo(waiter.session_id, waiter.acquire_seq, label, position, waiter.since))
            ticket = waiter.following
        return info

    def list_locks(self, prefix: str = "", after: str = "", limit: int = 100) -> tuple[list[LockInfo], bool]:
        """Locks that are held, waited for or in their delay, by name, without their queues; and whether more follow."""
        stem = prefix.encode()
        first = max(stem, after.encode() + b"\0") if after else stem
        found: list[LockInfo] = []
        for name, lock in self.view.scan(LOCKS, first, after_stem(stem)):
            if len(found) >= limit:
                return found, True
            found.append(self._lock_info(name, lock, 0))
        return found, False

    # -- sessions

    def session(self, session_id: int) -> SessionInfo | None:
        """A live session, or None."""
        session = self.view.get(SESSIONS, session_id)
        return self._session_info(session_id, session) if session is not None else None

    def _session_info(self, session_id: int, session: Session) -> SessionInfo | None:
        renewal = self.view.get(RENEWALS, session_id)
        if renewal is None:
            return None
        return SessionInfo(
            session_id,
            session.principal,
            session.label,
            renewal.ttl_ns,
            renewal.deadline(self.lift_stamp),
            session.opened_at,
            session.lock_delay_ns,
        )

    def list_sessions(
        self, after: int = 0, limit: int = 100, *, pod_bound: bool = False
    ) -> tuple[list[SessionInfo], int]:
        """Live sessions with ids above `after`, and after which id to go on; 0: no more follow.

        `pod_bound`: only those of pods. At most SESSIONS_LOOKED_MAX are looked at, so a page may be short.
        """
        found: list[SessionInfo] = []
        looked, last = 0, after
        for session_id, session in self.view.scan(SESSIONS, U64.pack(after + 1), None):
            if len(found) >= limit or looked >= SESSIONS_LOOKED_MAX:
                return found, last
            looked, last = looked + 1, session_id
            if pod_bound and not identity_of(session.principal).pod_uid:
                continue
            info = self._session_info(session_id, session)
            if info is not None:
                found.append(info)
        return found, 0

    def session_locks(self, session_id: int) -> SessionLocks:
        """What a session holds and waits for, by acquire seq."""
        locks = SessionLocks([], [])
        for (_, seq), claim in self.view.scan(CLAIMS, U64.pack(session_id), U64.pack(session_id + 1)):
            if claim.token:
                locks.held.append((claim.name, claim.token, seq))
            else:
                locks.waiting.append((claim.name, seq, queue_position(self.view, claim.name, claim.ticket)))
        return locks


def _without_value(item: KeyValue) -> KeyValue:
    return KeyValue(
        item.namespace,
        item.key,
        b"",
        item.create_revision,
        item.mod_revision,
        item.version,
        item.author,
        item.comment,
        item.session_id,
        item.deleted,
    )
