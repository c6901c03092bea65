"""service.md §3: exclusive locks."""

from __future__ import annotations

import pytest
from lockmaster.statemachine.commands import (
    Acquire,
    AcquireEnded,
    EndCause,
    Expire,
    ForceRelease,
    LockGranted,
    LockLost,
    Release,
    Result,
    ResultStatus,
)
from lockmaster.statemachine.limits import Limits
from lockmaster.statemachine.records import WAITERS
from lockmaster.testing.machine import SECOND, TTL, Machine


def queue(m: Machine) -> list[int]:
    return [waiter.session_id for waiter in m.state.inspect_lock("L").queue]


def test_a_free_lock_is_granted_with_the_revision_as_token() -> None:
    m = Machine()
    a = m.open()
    assert m.acquire(a) == Result(ResultStatus.OK, m.state.revision)


def test_acquire_without_a_header_is_invalid() -> None:
    m = Machine()
    m.open()
    assert m.do(Acquire("L", True, 0)).status is ResultStatus.INVALID


def test_try_on_a_held_lock_is_busy_and_queues_nothing() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    m.acquire(a)
    assert m.acquire(b, wait=False).status is ResultStatus.BUSY
    assert queue(m) == []


def test_a_held_lock_is_not_reentrant() -> None:
    m = Machine()
    a = m.open()
    m.acquire(a)
    assert m.acquire(a, wait=False).status is ResultStatus.BUSY


def test_the_queue_is_first_in_first_out() -> None:
    m = Machine()
    a, b, c = (m.open(name) for name in "abc")
    token = m.acquire(a).revision
    assert [m.acquire(s).extra for s in (b, c)] == [1, 2]
    m.release(a, token)
    assert m.state.inspect_lock("L").session_id == b
    assert queue(m) == [c]


def test_only_the_next_is_told() -> None:
    m = Machine()
    a, b, c = (m.open(name) for name in "abc")
    token = m.acquire(a).revision
    m.acquire(b)
    m.acquire(c)
    m.release(a, token)
    assert m.events == [LockGranted(b, 1, "L", m.state.revision)]


def test_tokens_rise_from_holder_to_holder() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    first = m.acquire(a).revision
    m.acquire(b)
    m.release(a, first)
    assert m.state.inspect_lock("L").token > first


def test_a_try_does_not_overtake_the_queue() -> None:
    m = Machine()
    a, b = m.open("a", delay=SECOND), m.open("b", ttl=5 * TTL)
    m.acquire(a)
    m.acquire(b)
    m.now = TTL
    m.expire(a)
    m.now += SECOND
    c = m.open("c")
    assert m.acquire(c, wait=False).status is ResultStatus.BUSY
    assert m.state.inspect_lock("L").session_id == b


@pytest.mark.parametrize("wrong", ["token", "session", "name"])
def test_release_needs_session_name_and_token(wrong: str) -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    token = m.acquire(a).revision
    session = b if wrong == "session" else a
    release = Release(session, "M" if wrong == "name" else "L", token + (wrong == "token"))
    assert m.do(release).status is ResultStatus.NOT_HELD


def test_token_zero_releases_no_free_lock() -> None:
    m = Machine()
    a = m.open()
    assert m.do(Release(a, "L", 0)).status is ResultStatus.NOT_HELD


def test_a_released_lock_leaves_no_record() -> None:
    m = Machine()
    a = m.open()
    m.release(a, m.acquire(a).revision)
    assert m.state.list_locks() == ([], False)


def test_a_waiter_is_timed_out_by_the_entry_and_told() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    m.acquire(a)
    m.acquire(b, timeout=SECOND)
    m.now = SECOND
    m.do(Expire((), (("L", 1),), ()))
    assert m.events == [AcquireEnded(b, 1, "L", EndCause.TIMED_OUT)]
    assert m.acquire(b, seq=1, timeout=SECOND).status is ResultStatus.TIMED_OUT


def test_a_waiter_is_not_timed_out_early() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    m.acquire(a)
    m.acquire(b, timeout=SECOND)
    m.now = SECOND - 1
    m.do(Expire((), (("L", 1),), ()))
    assert queue(m) == [b]


def test_an_overdue_waiter_is_never_granted() -> None:
    m = Machine()
    a, b, c = (m.open(name) for name in "abc")
    token = m.acquire(a).revision
    m.acquire(b, timeout=SECOND)
    m.acquire(c)
    m.now = SECOND
    m.release(a, token)
    assert m.state.inspect_lock("L").session_id == c


def test_a_cancelled_waiter_leaves_the_queue() -> None:
    m = Machine()
    a, b, c = (m.open(name) for name in "abc")
    m.acquire(a)
    m.acquire(b)
    m.acquire(c)
    assert m.cancel(b, 1).status is ResultStatus.CANCELLED
    assert m.events == [AcquireEnded(b, 1, "L", EndCause.CANCELLED)]
    assert queue(m) == [c]


def test_a_cancel_that_lost_to_the_grant_answers_with_the_token() -> None:
    m = Machine()
    a = m.open()
    token = m.acquire(a).revision
    assert m.cancel(a, 1) == Result(ResultStatus.OK, token)
    assert m.state.inspect_lock("L").token == token


def test_a_cancel_of_another_name_is_invalid() -> None:
    m = Machine()
    a = m.open()
    m.acquire(a)
    assert m.cancel(a, 1, "M").status is ResultStatus.INVALID


def test_force_release_takes_the_lock_and_tells_with_its_reason() -> None:
    m = Machine()
    a = m.open()
    token = m.acquire(a).revision
    assert m.do(ForceRelease("L", 0, "stuck", "op")) == Result(ResultStatus.OK, token, 1)
    assert m.events == [LockLost(a, 1, "L", token, EndCause.FORCED, "stuck")]


def test_force_release_spares_a_newer_holder() -> None:
    m = Machine()
    a = m.open()
    token = m.acquire(a).revision
    assert m.do(ForceRelease("L", token - 1, "stuck", "op")).extra == 0
    assert m.state.inspect_lock("L").token == token


def test_force_release_of_a_free_lock_does_nothing() -> None:
    m = Machine()
    assert m.do(ForceRelease("L", 0, "stuck", "op")) == Result(ResultStatus.OK, 0, 0)


def test_after_an_ungraceful_loss_the_lock_stays_free_for_its_delay() -> None:
    m = Machine()
    a, b = m.open("a", delay=SECOND), m.open("b", ttl=5 * TTL)
    m.acquire(a)
    m.now = TTL
    m.expire(a)
    assert m.acquire(b).status is ResultStatus.QUEUED
    m.now = TTL + SECOND - 1
    m.do(Expire((), (), ("L",)))
    assert m.state.inspect_lock("L").token == 0
    m.now += 1
    m.do(Expire((), (), ("L",)))
    assert m.state.inspect_lock("L").session_id == b


def test_a_delay_that_nobody_waited_for_leaves_no_record() -> None:
    m = Machine()
    a = m.open("a", delay=SECOND)
    m.acquire(a)
    m.now = TTL
    m.expire(a)
    m.now += SECOND
    m.expire_due()
    assert m.state.list_locks() == ([], False)


def test_the_expiry_index_finds_waiters_and_delays() -> None:
    m = Machine()
    a, b = m.open("a", delay=SECOND), m.open("b", ttl=5 * TTL)
    m.acquire(a)
    m.acquire(b, timeout=2 * TTL)
    m.now = TTL
    assert m.state.expiry.due(m.now, 10) == Expire((a,), (), ())
    m.expire_due()
    assert m.state.expiry.due(m.now, 10) is None
    assert m.state.expiry.next_deadline() == TTL + SECOND
    m.now = TTL + SECOND
    assert m.state.expiry.due(m.now, 10) == Expire((), (), ("L",))
    m.now = 2 * TTL
    assert m.state.expiry.due(m.now, 10) == Expire((), (("L", 1),), ("L",))


def test_what_is_due_stays_due_until_it_is_applied() -> None:
    m = Machine()
    a = m.open()
    m.now = TTL
    assert m.state.expiry.due(m.now, 10) == m.state.expiry.due(m.now, 10) == Expire((a,), (), ())


def test_a_rebuilt_index_finds_the_same() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    m.acquire(a)
    m.acquire(b, timeout=SECOND)
    m.now = TTL
    assert m.copy().state.expiry.due(m.now, 10) == m.state.expiry.due(m.now, 10)


def test_a_dead_waiter_is_never_granted() -> None:
    m = Machine()
    a, b, c = m.open("a", ttl=5 * TTL), m.open("b"), m.open("c", ttl=5 * TTL)
    token = m.acquire(a).revision
    m.acquire(b)
    m.acquire(c)
    m.now = TTL
    m.expire(b)
    m.release(a, token)
    assert m.state.inspect_lock("L").session_id == c


def test_claims_above_the_sessions_quota_are_refused() -> None:
    m = Machine(Limits(session_claims_count_max=1))
    a = m.open()
    m.acquire(a, "L1")
    assert m.acquire(a, "L2").status is ResultStatus.QUOTA_EXCEEDED
    m.release(a, m.state.inspect_lock("L1").token, "L1")
    assert m.acquire(a, "L2").status is ResultStatus.OK


def test_a_full_queue_refuses() -> None:
    m = Machine(Limits(lock_waiters_count_max=1))
    a = m.open()
    m.acquire(a)
    m.acquire(a)
    assert m.acquire(a).status is ResultStatus.QUOTA_EXCEEDED


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\x7f", "\x85", "é" * 257])
def test_a_bad_name_is_invalid(name: str) -> None:
    m = Machine()
    a = m.open()
    assert m.acquire(a, name).status is ResultStatus.INVALID


def test_an_operation_in_a_long_queue_touches_a_bounded_number_of_records() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    token = m.acquire(a).revision
    for seq in range(1, 501):
        m.acquire(b, seq=seq)
    before = dict(m.view.dump())
    m.release(a, token)
    after = dict(m.view.dump())
    touched = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    assert len(touched) <= 12
    assert sum(key.startswith(WAITERS.prefix) for key in touched) == 2


def test_inspect_shows_holder_label_and_positions() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    m.now = 5
    token = m.acquire(a).revision
    m.acquire(b)
    info = m.state.inspect_lock("L")
    assert (info.session_id, info.label, info.token, info.granted_at) == (a, "a", token, 5)
    assert [(w.session_id, w.label, w.position, w.since) for w in info.queue] == [(b, "b", 1, 5)]


def test_a_sessions_locks_are_listed_held_and_waiting() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    token = m.acquire(a, "L1").revision
    m.acquire(b, "L2")
    m.acquire(a, "L2")
    locks = m.state.session_locks(a)
    assert (locks.held, locks.waiting) == ([("L1", token, 1)], [("L2", 2, 1)])


def test_locks_are_listed_by_prefix_and_page() -> None:
    m = Machine()
    a = m.open()
    for name in ("x/1", "x/2", "x/3", "y"):
        m.acquire(a, name)
    page, more = m.state.list_locks("x/", limit=2)
    assert ([lock.name for lock in page], more) == (["x/1", "x/2"], True)
    page, more = m.state.list_locks("x/", after="x/2", limit=2)
    assert ([lock.name for lock in page], more) == (["x/3"], False)
