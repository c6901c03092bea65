"""A state machine on a DictView, driven command by command in log order, through the codec."""

from __future__ import annotations

from lockmaster_raft.entry import EntryKind

from lockmaster.statemachine.apply import Applied, EntryHeader, StateMachine
from lockmaster.statemachine.codec import command_digest, decode_batch, encode_batch
from lockmaster.statemachine.commands import (
    Acquire,
    CancelAcquire,
    Command,
    Dedup,
    Delete,
    Event,
    Expire,
    KeepAlive,
    OpenSession,
    Operation,
    Put,
    Release,
    Result,
)
from lockmaster.statemachine.limits import LIMITS, Limits
from lockmaster.statemachine.memory import DictView

SECOND = 1_000_000_000
TTL = 10 * SECOND
DELAY = 1 * SECOND


class Machine:
    """`now` is the stamp of the next entry."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.view = DictView()
        StateMachine.initialise(self.view, index=1, term=1, revision=1_000)
        self.limits = limits
        self.state = StateMachine(self.view, limits)
        self.now = 0
        self.events: list[Event] = []
        self._seqs: dict[int, int] = {}

    def entry(self, *commands: Command, kind: EntryKind = EntryKind.DATA) -> Applied:
        """Apply one entry at `now`."""
        decoded = decode_batch(encode_batch(commands))
        applied = self.state.apply(EntryHeader(self.state.applied + 1, 1, kind, self.now), decoded)
        self.events = applied.events
        return applied

    def do(self, operation: Operation, dedup: Dedup | None = None) -> Result:
        """One command in an entry of its own."""
        return self.entry(Command(operation, dedup)).results[0]

    def noop(self) -> None:
        """A new leader's first entry."""
        self.entry(kind=EntryKind.NOOP)

    def open(self, name: str = "a", ttl: int = TTL, delay: int = 0) -> int:
        """A session id."""
        return self.do(OpenSession(name.encode().ljust(16, b"."), ttl, "people", name, delay)).revision

    def once(self, session: int, operation: Operation, seq: int = 0, first: int = 1) -> Result:
        """With a header; seq 0 = the session's next."""
        if not seq:
            seq = self._seqs.get(session, 0) + 1
        self._seqs[session] = max(seq, self._seqs.get(session, 0))
        return self.do(operation, Dedup(session, seq, first, command_digest(operation)))

    def acquire(
        self, session: int, name: str = "L", *, wait: bool = True, timeout: int = 0, seq: int = 0, first: int = 1
    ) -> Result:
        """Acquire with a header."""
        return self.once(session, Acquire(name, wait, timeout), seq, first)

    def release(self, session: int, token: int, name: str = "L") -> Result:
        """Release with a header."""
        return self.once(session, Release(session, name, token))

    def cancel(self, session: int, acquire_seq: int, name: str = "L") -> Result:
        """Cancel without a header."""
        return self.do(CancelAcquire(session, name, acquire_seq))

    def renew(self, *sessions: int) -> Result:
        """One KeepAlive."""
        return self.do(KeepAlive(tuple(sessions)))

    def expire_due(self) -> Result | None:
        """What the expiry index finds due, as the leader would propose it."""
        due = self.state.expiry.due(self.now, 1_000)
        return self.do(due) if due is not None else None

    def expire(self, *sessions: int) -> Result:
        """Expire these sessions, if they are due."""
        return self.do(Expire(tuple(sessions), (), ()))

    def put(
        self,
        key: str,
        value: bytes = b"v",
        if_revision: int | None = None,
        guard: tuple[str, int] = ("", 0),
        owner: int = 0,
    ) -> Result:
        """Put into namespace ns."""
        return self.do(Put("ns", key, value, if_revision, guard[0], guard[1], "me", "why", owner))

    def delete(self, key: str, if_revision: int | None = None) -> Result:
        """Delete from namespace ns."""
        return self.do(Delete("ns", key, if_revision, "", 0, "me", "why"))

    def copy(self) -> Machine:
        """The same state from its bytes, as after a restart or a snapshot."""
        other = Machine(self.limits)
        other.view = DictView(self.view.dump())
        other.state = StateMachine(other.view, self.limits)
        other.now = self.now
        other._seqs = dict(self._seqs)
        return other
