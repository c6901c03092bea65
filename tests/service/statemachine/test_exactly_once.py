"""RIFL, service.md §2 and reference witness-rifl §4.4: what a retry, a stray and a ghost get."""

from __future__ import annotations

import itertools

import pytest
from lockmaster.statemachine.codec import command_digest
from lockmaster.statemachine.commands import (
    Acquire,
    CloseSession,
    Command,
    Dedup,
    ForceRelease,
    Operation,
    Put,
    Release,
    Result,
    ResultStatus,
)
from lockmaster.statemachine.limits import Limits
from lockmaster.testing.machine import TTL, Machine


def put(value: bytes) -> Put:
    return Put("ns", "k", value, None, "", 0, "", "", 0)


def versions(m: Machine) -> list[bytes]:
    return [change.item.value for change in m.state.history("ns", "k").changes]


def test_a_retry_gets_the_stored_answer_and_has_no_effect() -> None:
    m = Machine()
    s = m.open()
    first = m.once(s, put(b"1"), seq=1)
    assert [m.once(s, put(b"1"), seq=1) for _ in range(10)] == [first] * 10
    assert versions(m) == [b"1"]


def test_a_retry_in_the_same_entry_gets_the_stored_answer() -> None:
    m = Machine()
    s = m.open()
    command = Command(put(b"1"), Dedup(s, 1, 1, command_digest(put(b"1"))))
    first, second = m.entry(command, command).results
    assert first == second


def test_a_retry_gets_the_same_fencing_token() -> None:
    m = Machine()
    s = m.open()
    assert m.acquire(s, seq=1).revision == m.acquire(s, seq=1).revision == m.state.inspect_lock("L").token


def test_a_business_refusal_is_stored_too() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    token = m.acquire(a).revision
    assert m.acquire(b, wait=False, seq=1).status is ResultStatus.BUSY
    m.release(a, token)
    assert m.acquire(b, wait=False, seq=1).status is ResultStatus.BUSY


def test_a_retry_after_restart_or_snapshot_gets_the_stored_answer() -> None:
    m = Machine()
    s = m.open()
    first = m.once(s, put(b"1"), seq=1)
    assert m.copy().once(s, put(b"1"), seq=1) == first


def test_an_acknowledged_seq_is_stale() -> None:
    m = Machine()
    s = m.open()
    m.once(s, put(b"1"), seq=1)
    m.once(s, put(b"2"), seq=2, first=2)
    assert m.once(s, put(b"1"), seq=1).status is ResultStatus.STALE
    assert versions(m) == [b"2", b"1"]


def test_an_acknowledgement_forgets_the_records() -> None:
    m = Machine()
    s = m.open()
    for seq in range(1, 11):
        m.once(s, put(b"%d" % seq), seq=seq)
    before = len(m.view.dump())
    m.once(s, put(b"10"), seq=10, first=10)
    assert len(m.view.dump()) == before - 9


def test_another_command_under_a_used_seq_is_refused() -> None:
    m = Machine()
    s = m.open()
    m.once(s, put(b"1"), seq=1)
    assert m.once(s, put(b"2"), seq=1).status is ResultStatus.SEQ_REUSED
    assert versions(m) == [b"1"]


def test_seqs_applied_out_of_order_all_take_effect_once() -> None:
    m = Machine()
    s = m.open()
    for seq in (3, 1, 2, 3, 2, 1):
        m.once(s, put(b"%d" % seq), seq=seq)
    assert versions(m) == [b"2", b"1", b"3"]


def test_the_window_ends_512_above_first_incomplete() -> None:
    m = Machine()
    s = m.open()
    assert m.once(s, put(b"1"), seq=512).status is ResultStatus.OK
    assert m.once(s, put(b"1"), seq=513).status is ResultStatus.WINDOW_FULL
    assert m.once(s, put(b"1"), seq=513, first=2).status is ResultStatus.OK


def test_a_refusal_for_the_window_stores_nothing() -> None:
    m = Machine()
    s = m.open()
    m.once(s, put(b"1"), seq=513)
    assert m.once(s, put(b"1"), seq=513, first=513).status is ResultStatus.OK


def test_answers_above_the_byte_quota_are_refused() -> None:
    m = Machine(Limits(window_bytes_max=128))
    s = m.open()
    assert [m.once(s, put(b"1"), seq=seq).status for seq in (1, 2, 3)] == [0, 0, ResultStatus.WINDOW_FULL]
    assert m.once(s, put(b"1"), seq=3, first=2).status is ResultStatus.OK


def test_a_huge_acknowledgement_costs_no_more_than_the_window() -> None:
    m = Machine()
    s = m.open()
    m.once(s, put(b"1"), seq=1)
    assert m.once(s, put(b"2"), seq=2**62, first=2**62).status is ResultStatus.OK


@pytest.mark.parametrize(("seq", "first"), [(0, 0), (0, 1), (1, 0), (1, 2), (2**63, 1)])
def test_a_header_that_makes_no_sense_is_invalid(seq: int, first: int) -> None:
    m = Machine()
    s = m.open()
    assert m.do(put(b"1"), Dedup(s, seq, first, bytes(8))).status is ResultStatus.INVALID


def test_an_original_delayed_past_expiry_is_not_executed() -> None:
    m = Machine()
    s = m.open()
    m.now = TTL
    m.expire(s)
    assert m.acquire(s, seq=1).status is ResultStatus.SESSION_EXPIRED
    assert m.state.inspect_lock("L").token == 0


def test_a_session_id_that_never_was_is_expired_not_created() -> None:
    m = Machine()
    assert m.acquire(7, seq=1).status is ResultStatus.SESSION_EXPIRED
    assert m.state.sessions_count == 0


def test_a_retry_of_a_queued_acquire_gets_its_current_place() -> None:
    m = Machine()
    a, b, c = (m.open(name) for name in "abc")
    m.acquire(a)
    m.acquire(b, seq=1)
    m.acquire(c, seq=1)
    m.cancel(b, 1)
    assert m.acquire(c, seq=1) == Result(ResultStatus.QUEUED, 0, 1)


def test_a_retry_of_a_queued_acquire_gets_the_token_of_its_grant() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    token = m.acquire(a).revision
    m.acquire(b, seq=1)
    m.release(a, token)
    assert m.acquire(b, seq=1) == Result(ResultStatus.OK, m.state.inspect_lock("L").token)


def test_a_retry_of_an_acquire_whose_hold_is_over_gets_ended_with_its_token() -> None:
    m = Machine()
    a = m.open()
    token = m.acquire(a, seq=1).revision
    m.do(ForceRelease("L", 0, "stuck", "op"))
    assert m.acquire(a, seq=1) == Result(ResultStatus.ENDED, token)


def test_a_late_copy_of_an_acquire_does_not_take_the_lock_again() -> None:
    m = Machine()
    a = m.open()
    token = m.acquire(a, seq=1).revision
    m.release(a, token)
    m.acquire(a, seq=1)
    assert m.state.inspect_lock("L").token == 0


def test_a_late_copy_of_a_release_does_not_release_the_next_hold() -> None:
    m = Machine()
    a = m.open()
    token = m.acquire(a, seq=1).revision
    release = Release(a, "L", token)
    m.once(a, release, seq=2)
    again = m.acquire(a, seq=3).revision
    m.once(a, release, seq=2)
    assert m.state.inspect_lock("L").token == again


def test_a_cancel_before_its_acquire_leaves_no_ghost() -> None:
    m = Machine()
    a = m.open()
    assert m.cancel(a, 1).status is ResultStatus.CANCELLED
    assert m.acquire(a, seq=1).status is ResultStatus.CANCELLED
    assert m.state.inspect_lock("L").token == 0


def test_a_cancelled_seq_is_no_use_for_another_command() -> None:
    m = Machine()
    a = m.open()
    m.cancel(a, 1)
    assert m.once(a, put(b"1"), seq=1).status is ResultStatus.SEQ_REUSED


def test_a_cancel_far_above_the_window_is_refused() -> None:
    m = Machine()
    a = m.open()
    assert m.cancel(a, 513).status is ResultStatus.WINDOW_FULL


def test_a_header_of_another_session_can_not_release() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    token = m.acquire(a).revision
    assert m.once(b, Release(a, "L", token)).status is ResultStatus.INVALID


OPERATIONS: list[tuple[int, Operation]] = [(1, Acquire("L", True, 0)), (2, put(b"x")), (3, Acquire("M", True, 0))]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_with_every_command_twice_gives_each_seq_one_answer(order: tuple[int, ...]) -> None:
    m = Machine()
    s = m.open()
    answers: dict[int, set[int]] = {}
    for position in (*order, *reversed(order)):
        seq, operation = OPERATIONS[position]
        answers.setdefault(seq, set()).add(m.once(s, operation, seq=seq).revision)
    assert all(len(revisions) == 1 for revisions in answers.values())


def test_two_sessions_may_use_the_same_seq() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    assert m.once(a, put(b"1"), seq=1).revision != m.once(b, put(b"1"), seq=1).revision


def test_the_window_closes_with_the_session() -> None:
    m = Machine()
    s = m.open()
    m.once(s, put(b"1"), seq=1)
    m.do(CloseSession(s))
    assert m.once(s, put(b"1"), seq=1).status is ResultStatus.SESSION_EXPIRED
    assert versions(m) == [b"1"]
