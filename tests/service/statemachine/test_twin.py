"""The state machine against a dumb twin: lists and dicts, everything recomputed, no records, no indexes."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lockmaster.statemachine.commands import Acquire, CloseSession, ForceRelease, Put, Release, Result, ResultStatus
from lockmaster.testing.machine import SECOND, TTL, Machine

NAMES = st.sampled_from(["L", "N/1"])
KEYS = st.sampled_from(["a", "a/b", "b"])
PICK = st.integers(0, 11)
TIMEOUTS = st.sampled_from([0, SECOND, TTL])


@dataclass
class TwinSession:
    renewed: int
    ttl: int
    delay: int
    seq: int = 0


@dataclass
class TwinLock:
    holder: tuple[int, int] | None = None
    token: int = 0
    delay_until: int = 0
    queue: list[tuple[int, int, int]] = field(default_factory=list)
    """(session, seq, deadline)."""


class Twin(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.m = Machine()
        self.sessions: dict[int, TwinSession] = {}
        self.locks = {name: TwinLock() for name in ("L", "N/1")}
        self.keys: dict[str, tuple[bytes, int, int]] = {}
        self.versions: list[tuple[int, str, bytes | None]] = []
        self.lift = 0
        self.opened = 0
        self.tokens: list[int] = []

    # -- what should happen

    def grant(self, name: str) -> None:
        """The lock is free: who should have it now? The token itself is the machine's; only its law is checked."""
        lock = self.locks[name]
        now = self.m.state.cluster_time
        if lock.holder is not None or now < lock.delay_until:
            return
        lock.delay_until = 0
        while lock.queue and 0 < lock.queue[0][2] <= now:
            lock.queue.pop(0)
        if lock.queue:
            session, seq, _ = lock.queue.pop(0)
            self.hold(name, session, seq, self.m.state.inspect_lock(name).token)

    def hold(self, name: str, session: int, seq: int, token: int) -> None:
        assert token not in self.tokens
        self.tokens.append(token)
        lock = self.locks[name]
        lock.holder, lock.token, lock.delay_until = (session, seq), token, 0

    def drop_session(self, session: int, delay: int) -> None:
        for lock in self.locks.values():
            lock.queue = [waiter for waiter in lock.queue if waiter[0] != session]
            if lock.holder is not None and lock.holder[0] == session:
                lock.holder, lock.token = None, 0
                lock.delay_until = self.m.state.cluster_time + delay if delay else 0
        del self.sessions[session]

    def deadline(self, session: int) -> int:
        twin = self.sessions[session]
        return max(twin.renewed + twin.ttl, self.lift + twin.ttl // 2)

    def pick(self, number: int) -> int:
        ids = sorted(self.sessions)
        return ids[number % len(ids)]

    def next_seq(self, session: int) -> int:
        self.sessions[session].seq += 1
        return self.sessions[session].seq

    # -- rules

    @initialize(delays=st.lists(st.sampled_from([0, SECOND]), min_size=4, max_size=4))
    def some_sessions(self, delays: list[int]) -> None:
        for delay in delays:
            self.open(20 * TTL, delay)

    @precondition(lambda self: self.sessions)
    @rule(name=NAMES, burst=st.lists(st.tuples(PICK, TIMEOUTS), min_size=2, max_size=6))
    def acquire_many(self, name: str, burst: list[tuple[int, int]]) -> None:
        """Deep queues are where queues go wrong."""
        for who, timeout in burst:
            self.acquire(who, name, True, timeout)

    @rule(ttl=st.sampled_from([TTL, 4 * TTL]), delay=st.sampled_from([0, SECOND]))
    def open(self, ttl: int, delay: int) -> None:
        self.opened += 1
        session = self.m.open(str(self.opened), ttl, delay)
        assert session == self.m.state.revision
        self.sessions[session] = TwinSession(self.m.state.cluster_time, ttl, delay)

    @precondition(lambda self: self.sessions)
    @rule(who=PICK, name=NAMES, wait=st.booleans(), timeout=TIMEOUTS)
    def acquire(self, who: int, name: str, wait: bool, timeout: int) -> None:
        session = self.pick(who)
        seq = self.next_seq(session)
        answer = self.m.once(session, Acquire(name, wait, timeout), seq)
        self.grant(name)
        lock = self.locks[name]
        if lock.holder is None and not lock.queue and self.m.state.cluster_time >= lock.delay_until:
            assert answer.status is ResultStatus.OK
            self.hold(name, session, seq, answer.revision)
        elif not wait:
            assert answer.status is ResultStatus.BUSY
        else:
            lock.queue.append((session, seq, self.m.state.cluster_time + timeout if timeout else 0))
            assert answer == Result(ResultStatus.QUEUED, 0, len(lock.queue))

    @precondition(lambda self: self.sessions)
    @rule(who=PICK, name=NAMES, wrong=st.booleans())
    def release(self, who: int, name: str, wrong: bool) -> None:
        lock = self.locks[name]
        session = self.pick(who) if wrong or lock.holder is None else lock.holder[0]
        held = lock.holder is not None and lock.holder[0] == session
        answer = self.m.once(session, Release(session, name, lock.token), self.next_seq(session))
        assert answer.status is (ResultStatus.OK if held else ResultStatus.NOT_HELD)
        if held:
            lock.holder, lock.token = None, 0
            self.grant(name)

    @rule(name=NAMES, who=PICK)
    def cancel(self, name: str, who: int) -> None:
        lock = self.locks[name]
        if lock.queue:
            session, seq, _ = lock.queue.pop(who % len(lock.queue))
            assert self.m.cancel(session, seq, name).status is ResultStatus.CANCELLED
            self.grant(name)

    @rule(name=NAMES)
    def force(self, name: str) -> None:
        lock = self.locks[name]
        answer = self.m.do(ForceRelease(name, 0, "why", ""))
        assert answer.extra == (lock.holder is not None)
        if lock.holder is not None:
            delay = self.sessions[lock.holder[0]].delay
            lock.holder, lock.token = None, 0
            lock.delay_until = self.m.state.cluster_time + delay if delay else 0
            self.grant(name)

    @precondition(lambda self: self.sessions)
    @rule(who=PICK)
    def close(self, who: int) -> None:
        session = self.pick(who)
        self.m.do(CloseSession(session))
        self.drop_session(session, 0)
        for name in sorted(self.locks):
            self.grant(name)

    @precondition(lambda self: self.sessions)
    @rule(who=PICK)
    def renew(self, who: int) -> None:
        session = self.pick(who)
        assert self.m.renew(session).expired == ()
        self.sessions[session].renewed = self.m.state.cluster_time

    @rule(step=st.sampled_from([SECOND // 2, SECOND, TTL // 2, TTL]))
    def pass_time_and_expire(self, step: int) -> None:
        self.m.now += step
        self.m.entry()
        self.m.expire_due()
        for session in [s for s in sorted(self.sessions) if self.deadline(s) <= self.m.now]:
            self.drop_session(session, self.sessions[session].delay)
        for name in sorted(self.locks):
            lock = self.locks[name]
            lock.queue = [waiter for waiter in lock.queue if not 0 < waiter[2] <= self.m.now]
            self.grant(name)

    @rule()
    def new_leader(self) -> None:
        self.m.noop()
        self.lift = self.m.state.cluster_time

    @rule()
    def restart(self) -> None:
        self.m = self.m.copy()

    @rule(key=KEYS, value=st.binary(max_size=3), compare=st.sampled_from(["none", "right", "wrong"]))
    def put(self, key: str, value: bytes, compare: str) -> None:
        current = self.keys.get(key, (b"", 0, 0))
        if_revision = {"none": None, "right": current[1], "wrong": current[1] + 1}[compare]
        answer = self.m.put(key, value, if_revision)
        if compare == "wrong":
            assert answer == Result(ResultStatus.COMPARE_FAILED, current[1])
            return
        assert answer == Result(ResultStatus.OK, self.m.state.revision, current[2] + 1)
        self.keys[key] = (value, answer.revision, answer.extra)
        self.versions.append((answer.revision, key, value))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        answer = self.m.delete(key)
        assert answer.extra == (key in self.keys)
        if self.keys.pop(key, None) is not None:
            self.versions.append((answer.revision, key, None))

    @rule(key=KEYS, back=st.integers(0, 20))
    def read_the_past(self, key: str, back: int) -> None:
        at = self.m.state.revision - back
        values = [value for revision, name, value in self.versions if name == key and revision <= at]
        item = self.m.state.get("ns", key, at)
        assert (item.value if item is not None else None) == (values[-1] if values else None)

    @precondition(lambda self: self.sessions)
    @rule(who=PICK, value=st.binary(max_size=3))
    def retry(self, who: int, value: bytes) -> None:
        session = self.pick(who)
        put = Put("other", "k", value, None, "", 0, "", "", 0)
        seq = self.next_seq(session)
        first = self.m.once(session, put, seq)
        before = [pair for pair in self.m.view.dump() if pair[0][:1] != b"\x01"]
        assert self.m.once(session, put, seq) == first
        assert [pair for pair in self.m.view.dump() if pair[0][:1] != b"\x01"] == before

    # -- what must hold

    @invariant()
    def locks_are_as_the_twin_says(self) -> None:
        for name, lock in self.locks.items():
            info = self.m.state.inspect_lock(name)
            assert ((info.session_id, info.acquire_seq) if info.token else None) == lock.holder
            assert info.token == lock.token
            assert [(w.session_id, w.acquire_seq) for w in info.queue] == [waiter[:2] for waiter in lock.queue]
            assert info.queue_length == len(lock.queue)

    @invariant()
    def sessions_and_keys_are_as_the_twin_says(self) -> None:
        found, _ = self.m.state.list_sessions(limit=1_000)
        assert {s.session_id: s.deadline for s in found} == {s: self.deadline(s) for s in self.sessions}
        page = self.m.state.range("ns")
        assert [(i.key, (i.value, i.mod_revision, i.version)) for i in page.items] == sorted(self.keys.items())


Twin.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
TestTwin = Twin.TestCase
