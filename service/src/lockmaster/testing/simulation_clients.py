"""Simulated client processes: a session each, locks taken, awaited, held and released, config written and watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lockmaster_raft.testing.clients import Client
from lockmaster_raft.testing.frontend import Answer
from lockmaster_raft.testing.invariants.base import Violation
from lockmaster_raft.testing.invariants.s9_watch import WatchOrder

from lockmaster.errors import Compacted
from lockmaster.statemachine.codec import command_digest
from lockmaster.statemachine.commands import (
    Acquire,
    CancelAcquire,
    CloseSession,
    Command,
    Compact,
    Dedup,
    Delete,
    ForceRelease,
    OpenSession,
    Operation,
    Put,
    Release,
    Result,
    ResultStatus,
)
from lockmaster.statemachine.queries import Changes

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster

SECOND: Final = 1_000_000_000
LOCKS: Final = ("a", "b", "c")
KEYS: Final = ("x", "y", "z", "dir/p", "dir/q")
THREADS: Final = 4
"""Operations of one session that overlap."""
FOR_EVER: Final = 10_000 * SECOND

Settled = Callable[[Result], None]


class ServiceClient:
    """One client process; it may fall silent and let its session die, and then begins anew."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._draw = client.draw
        self._cluster: Cluster = client.cluster
        self._session = 0
        self._life = 0
        self._seq = 0
        self._open: set[int] = set()
        self._last_renewal = 0
        self._watched = 0
        self._nonces = 0

    # --- the session --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open a session, then work under it until it is over."""
        self._life += 1
        life = self._life
        self._session, self._seq = 0, 0
        self._open.clear()
        self._nonces += 1
        nonce = self._client.number.to_bytes(8, "big") + self._nonces.to_bytes(8, "big")
        ttl = self._cluster.mix.session_ttl_ns
        delay = self._draw.choice([0, 0, SECOND])
        command = Command(OpenSession(nonce, ttl, "sim", f"client-{self._client.number}", delay))

        def opened(answer: Answer | None) -> None:
            if life != self._life:
                return
            if answer is None or not isinstance(answer.value, Result) or answer.value.status is not ResultStatus.OK:
                self._cluster.scheduler.after(SECOND // 2, self.start)
                return
            self._cluster.checker.acknowledged(0, 0, answer)
            self._session = answer.value.revision
            self._client.succeeded()
            self._keep(life)
            for _ in range(THREADS):
                self._pause(life)

        self._client.write(command, opened, reserved=False, repeatable=True, patience=FOR_EVER)

    def _keep(self, life: int) -> None:
        def kept(answer: Answer | None) -> None:
            if life == self._life and answer is not None and answer.value == "expired":
                self._lost(life)

        if life != self._life:
            return
        ttl = self._cluster.mix.session_ttl_ns
        self._client.keep_alive(self._session, kept, ttl)
        self._cluster.scheduler.after(ttl // 3, lambda: self._keep(life))

    def _lost(self, life: int) -> None:
        """The session is over: what was held or asked is void; begin anew."""
        if life == self._life:
            self._cluster.count("sessions lost")
            self._life += 1
            self._cluster.scheduler.after(int(self._draw.random() * SECOND), self.start)

    # --- calls --------------------------------------------------------------------------------------------------

    def _call(self, operation: Operation, settled: Settled, *, seq: int = 0, reserved: bool = False) -> int:
        """A deduplicated mutation, resent under its number until it is answered or the session is over."""
        life, client = self._life, self._client
        if not seq:
            self._seq += 1
            seq = self._seq
            self._open.add(seq)
        dedup = Dedup(self._session, seq, min(self._open), command_digest(operation))
        command = Command(operation, dedup)
        session = self._session

        def done(answer: Answer | None) -> None:
            if life != self._life or answer is None or not isinstance(answer.value, Result):
                return
            result = answer.value
            if result.status is ResultStatus.SESSION_EXPIRED:
                self._lost(life)
                return
            if result.status in (ResultStatus.SEQ_REUSED, ResultStatus.STALE, ResultStatus.INVALID):
                raise Violation("S5", f"({session}, {seq}) answered {result.status.name}: {operation}")
            self._cluster.checker.acknowledged(session, seq, answer)
            settled(result)

        client.write(command, done, reserved=reserved, repeatable=True, patience=FOR_EVER)
        return seq

    def _finish(self, seq: int, life: int) -> None:
        """The call needs no retry any more: its number is complete."""
        self._open.discard(seq)
        self._client.succeeded()
        self._pause(life)

    def _pause(self, life: int) -> None:
        interval = self._cluster.operation_interval_ns(THREADS * len(self._cluster.clients))
        self._cluster.scheduler.after(int(interval * 2 * self._draw.random()), lambda: self._next(life))

    def _next(self, life: int) -> None:
        if life != self._life:
            return
        roll = self._draw.random()
        if roll < 0.30:
            self._lock(life)
        elif roll < 0.55:
            self._put(life)
        elif roll < 0.62:
            self._delete(life)
        elif roll < 0.80:
            self._get(life)
        elif roll < 0.93:
            self._watch(life)
        elif roll < 0.96:
            self._force(life)
        elif roll < 0.98:
            self._quiet(life)
        elif roll < 0.99:
            self._close(life)
        else:
            self._compact(life)

    def _quiet(self, life: int) -> None:
        """The process hangs: no keepalives until the session is dead, then a new life."""
        if self._cluster.healing:
            self._pause(life)
            return
        self._life += 1
        self._cluster.count("clients fell silent")
        ttl = self._cluster.mix.session_ttl_ns
        self._cluster.scheduler.after(int(ttl * (0.5 + self._draw.random())), self.start)

    def _close(self, life: int) -> None:
        def closed(result: Result) -> None:
            self._life += 1
            self._client.succeeded()
            self.start()

        session = self._session
        command = Command(CloseSession(session))

        def done(answer: Answer | None) -> None:
            if life == self._life and answer is not None and isinstance(answer.value, Result):
                closed(answer.value)

        self._client.write(command, done, reserved=False, repeatable=True, patience=FOR_EVER)

    # --- locks --------------------------------------------------------------------------------------------------

    def _lock(self, life: int) -> None:
        wait = self._draw.random() < 0.7
        timeout = self._draw.choice([0, SECOND, 4 * SECOND]) if wait else 0
        name = self._draw.choice(LOCKS[: self._cluster.mix.locks])
        operation = Acquire(name, wait, timeout)
        polls = seq = 0

        def settled(result: Result) -> None:
            nonlocal polls
            if result.status is ResultStatus.OK:
                hold = int(self._draw.random() ** 2 * 2 * SECOND)
                self._cluster.scheduler.after(hold, lambda: self._release(life, seq, name, result.revision))
            elif result.status is ResultStatus.QUEUED:
                polls += 1
                if polls > 4 and self._draw.random() < 0.3:
                    self._cancel(life, seq, name)
                    return
                self._cluster.scheduler.after(SECOND // 3, again)
            else:
                self._finish(seq, life)

        def again() -> None:
            if life == self._life:
                self._call(operation, settled, seq=seq)

        seq = self._call(operation, settled)

    def _release(self, life: int, seq: int, name: str, token: int) -> None:
        if life != self._life:
            return
        self._open.discard(seq)

        def settled(result: Result) -> None:
            self._finish(release, life)

        release = self._call(Release(self._session, name, token), settled, reserved=True)

    def _cancel(self, life: int, seq: int, name: str) -> None:
        def settled(result: Result) -> None:
            self._open.discard(seq)
            self._cluster.count("cancels")
            if result.status is ResultStatus.OK and result.revision:
                self._open.discard(cancel)
                self._release(life, seq, name, result.revision)
                return
            self._finish(cancel, life)

        cancel = self._call(CancelAcquire(self._session, name, seq), settled, reserved=True)

    def _force(self, life: int) -> None:
        def settled(result: Result) -> None:
            self._finish(seq, life)

        seq = self._call(ForceRelease(self._draw.choice(LOCKS[: self._cluster.mix.locks]), 0, "sim", "sim"), settled)

    # --- config -------------------------------------------------------------------------------------------------

    def _put(self, life: int) -> None:
        key = self._draw.choice(KEYS)
        owner = self._session if self._draw.random() < 0.15 else 0
        if_revision = 0 if self._draw.random() < 0.1 else None
        value = b"%d.%d" % (self._session, self._seq + 1)
        operation = Put("n", key, value, if_revision, "", 0, "sim", "", owner)
        twice = self._draw.random() < 0.1
        first: Result | None = None

        def settled(result: Result) -> None:
            nonlocal first
            if twice and first is None:
                first = result
                self._call(operation, settled, seq=seq)
                return
            if first is not None and (first.status, first.revision) != (result.status, result.revision):
                raise Violation("S5", f"({self._session}, {seq}) answered {first} and then {result}")
            self._finish(seq, life)

        seq = self._call(operation, settled)

    def _delete(self, life: int) -> None:
        def settled(result: Result) -> None:
            self._finish(seq, life)

        seq = self._call(Delete("n", self._draw.choice(KEYS), None, "", 0, "sim", ""), settled)

    def _compact(self, life: int) -> None:
        def settled(result: Result) -> None:
            self._finish(seq, life)

        seq = self._call(Compact("n", max(1, self._watched)), settled)

    def _get(self, life: int) -> None:
        def done(answer: Answer | None) -> None:
            if life == self._life:
                if answer is not None:
                    self._client.succeeded()
                self._pause(life)

        self._client.read(("get", "n", self._draw.choice(KEYS)), done, 8 * SECOND)

    def _watch(self, life: int) -> None:
        """A page of a watch from any replica, checked against the truth."""
        prefix = "dir/" if self._client.number % 2 else ""
        after = self._watched

        def done(answer: Answer | None) -> None:
            if life != self._life:
                return
            if answer is not None and isinstance(answer.value, Compacted):
                self._cluster.count("watch resets")
                self._watched = max(answer.value.first - 1, self._watched)
                self._client.succeeded()
            elif answer is not None and isinstance(answer.value, Changes):
                self._check_page(prefix, after, answer.value)
                self._client.succeeded()
            self._pause(life)

        self._client.stale(("changes", "n", prefix, after + 1), done)

    def _check_page(self, prefix: str, after: int, page: Changes) -> None:
        if page.revision <= after:
            return  # A replica that is behind what was seen: wait for it, as the server does.
        got = [(c.item.mod_revision, f"{c.item.namespace}/{c.item.key}") for c in page.changes]
        for rule in self._cluster.checker.all:
            if isinstance(rule, WatchOrder):
                rule.watched("n/" + prefix, after, page.revision, got)
        self._watched = page.revision
