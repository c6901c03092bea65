"""service.md §1 (time) and §2 (sessions)."""

from __future__ import annotations

import pytest
from lockmaster.statemachine.apply import StateMachine
from lockmaster.statemachine.commands import (
    CloseSession,
    Dedup,
    EndCause,
    EndSession,
    KeepAlive,
    LockGranted,
    LockLost,
    OpenSession,
    ResultStatus,
    SessionEnded,
)
from lockmaster.statemachine.limits import Limits
from lockmaster.testing.machine import SECOND, TTL, Machine


def test_a_session_id_is_the_revision_of_its_opening() -> None:
    m = Machine()
    assert m.open() == 1_001 == m.state.revision


def test_the_same_nonce_answers_with_the_same_live_session() -> None:
    m = Machine()
    assert m.open("a") == m.open("a")
    assert m.state.sessions_count == 1


def test_a_nonce_of_another_principal_is_refused() -> None:
    m = Machine()
    m.open("a")
    assert m.do(OpenSession(b"a".ljust(16, b"."), TTL, "other", "", 0)).status is ResultStatus.PERMISSION_DENIED


BOUND = "system:serviceaccount:shop:worker;pod=worker-1;uid=4d6b"


def test_the_mark_is_another_one_whenever_a_pod_opens_a_session_and_never_below_one_that_lives() -> None:
    m = Machine()
    began = m.state.pods_mark
    assert began == m.state.revision
    m.open("somebody")
    assert m.state.pods_mark == began
    session = m.do(OpenSession(bytes(16), TTL, BOUND, "", 0)).revision
    assert m.state.pods_mark == session
    m.do(OpenSession(bytes(16), TTL, BOUND, "", 0))  # the same nonce: the same session
    m.open("somebody else")
    m.do(EndSession(session, "4d6b", "gone", "op"))
    assert m.state.pods_mark == session
    assert StateMachine(m.view).pods_mark == m.state.revision


@pytest.mark.parametrize(
    ("principal", "uid", "status"),
    [
        (BOUND, "4d6b", ResultStatus.OK),
        (BOUND, "4d6", ResultStatus.COMPARE_FAILED),
        (BOUND, "", ResultStatus.COMPARE_FAILED),
        ("somebody", "4d6b", ResultStatus.COMPARE_FAILED),
        ("somebody", "", ResultStatus.OK),
    ],
)
def test_a_session_is_ended_for_its_own_pod_alone(principal: str, uid: str, status: ResultStatus) -> None:
    m = Machine()
    session = m.do(OpenSession(bytes(16), TTL, principal, "", 0)).revision
    before = m.state.revision
    assert m.do(EndSession(session, uid, "gone", "op")).status is status
    ended = status is ResultStatus.OK
    assert (m.state.sessions_count, m.state.revision - before) == ((0, 1) if ended else (1, 0))


def test_an_ended_session_passes_its_locks_on_after_the_lock_delay_and_only_once() -> None:
    m = Machine()
    one, two = m.do(OpenSession(bytes(16), TTL, BOUND, "", SECOND)).revision, m.open("b")
    token = m.acquire(one).revision
    m.acquire(two)
    assert m.do(EndSession(one, "4d6b", "gone", "op")).extra == 1
    assert any(isinstance(event, LockLost) and event.token == token for event in m.events)
    assert not any(isinstance(event, LockGranted) for event in m.events)
    assert m.do(EndSession(one, "4d6b", "gone", "op")).extra == 0
    m.now += SECOND
    m.expire_due()
    granted = [event for event in m.events if isinstance(event, LockGranted)]
    assert [event.session_id for event in granted] == [two]


@pytest.mark.parametrize("reason", ["", "x" * 1025])
def test_ending_a_session_needs_a_reason_of_some_length(reason: str) -> None:
    m = Machine()
    session = m.open()
    assert m.do(EndSession(session, "", reason, "op")).status is ResultStatus.INVALID
    assert m.state.sessions_count == 1


def test_a_nonce_of_a_dead_session_opens_another() -> None:
    m = Machine()
    first = m.open("a")
    m.do(CloseSession(first))
    assert m.open("a") > first


@pytest.mark.parametrize("ttl", [0, 2**63, 86_400 * SECOND + 1])
def test_a_ttl_out_of_range_is_invalid(ttl: int) -> None:
    assert Machine().do(OpenSession(bytes(16), ttl, "", "", 0)).status is ResultStatus.INVALID


def test_sessions_above_the_quota_are_refused() -> None:
    m = Machine(Limits(sessions_count_max=1))
    m.open("a")
    assert m.do(OpenSession(bytes(16), TTL, "", "", 0)).status is ResultStatus.QUOTA_EXCEEDED


def test_a_session_lives_for_its_whole_ttl() -> None:
    m = Machine()
    s = m.open()
    m.now = TTL - 1
    m.expire(s)
    assert m.state.session(s) is not None


def test_a_session_that_is_over_is_expired_by_the_entry() -> None:
    m = Machine()
    s = m.open()
    m.now = TTL
    m.expire(s)
    assert m.state.session(s) is None
    assert m.events == [SessionEnded(s, EndCause.EXPIRED)]


def test_a_session_that_is_over_lives_until_an_entry_says_so() -> None:
    m = Machine()
    s = m.open()
    m.now = 5 * TTL
    assert m.renew(s).expired == ()


def test_a_keepalive_renews_from_its_stamp() -> None:
    m = Machine()
    s = m.open()
    m.now = TTL - 1
    m.renew(s)
    m.now = 2 * TTL - 2
    m.expire(s)
    assert m.state.session(s) is not None


def test_a_keepalive_names_the_dead() -> None:
    m = Machine()
    s, t = m.open("a"), m.open("b")
    m.do(CloseSession(s))
    assert m.renew(s, t).expired == (s,)


def test_keepalive_ids_must_ascend() -> None:
    m = Machine()
    assert m.do(KeepAlive((2, 1))).status is ResultStatus.INVALID


def test_cluster_time_never_goes_back() -> None:
    m = Machine()
    m.now = TTL
    m.noop()
    m.now = 1
    m.noop()
    assert m.state.cluster_time == TTL


def test_a_new_leader_lifts_live_deadlines_to_half_a_ttl() -> None:
    m = Machine()
    s = m.open()
    m.now = TTL
    m.noop()
    m.now = TTL + TTL // 2 - 1
    m.expire(s)
    assert m.state.session(s) is not None
    m.now += 1
    m.expire(s)
    assert m.state.session(s) is None


def test_a_lift_shortens_nothing() -> None:
    m = Machine()
    s = m.open()
    m.noop()
    m.now = TTL - 1
    m.expire(s)
    assert m.state.session(s) is not None


def test_expiry_removes_all_sessions_before_it_grants() -> None:
    m = Machine()
    a, b, c = m.open("a"), m.open("b"), m.open("c", ttl=3 * TTL)
    token = m.acquire(a).revision
    m.acquire(b)
    m.acquire(c)
    m.now = TTL
    m.expire(a, b)
    granted = m.state.inspect_lock("L").token
    assert m.events == [
        LockLost(a, 1, "L", token, EndCause.EXPIRED, ""),
        SessionEnded(a, EndCause.EXPIRED),
        SessionEnded(b, EndCause.EXPIRED),
        LockGranted(c, 1, "L", granted),
    ]


def test_each_grant_of_one_expiry_has_its_own_revision() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b", ttl=3 * TTL)
    for name in ("L1", "L2"):
        m.acquire(a, name)
        m.acquire(b, name)
    m.now = TTL
    m.expire(a)
    tokens = [m.state.inspect_lock(name).token for name in ("L1", "L2")]
    assert tokens[0] != tokens[1]
    assert max(tokens) == m.state.revision


def test_a_close_passes_locks_on_without_lock_delay() -> None:
    m = Machine()
    a, b = m.open("a", delay=SECOND), m.open("b")
    m.acquire(a)
    m.acquire(b)
    m.do(CloseSession(a))
    assert m.state.inspect_lock("L").session_id == b


def test_a_close_by_its_own_header_leaves_no_record() -> None:
    m = Machine()
    a = m.open()
    close = CloseSession(a)
    assert m.once(a, close).status is ResultStatus.OK
    assert m.once(a, close, seq=1).status is ResultStatus.SESSION_EXPIRED
    assert len(m.view.dump()) == 1  # meta alone


def test_a_closed_session_leaves_nothing_behind() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    m.acquire(a, "held")
    m.acquire(b, "shared")
    m.acquire(a, "shared")
    m.put("k", owner=a)
    m.do(CloseSession(a))
    owned = [key for key, _ in m.view.dump() if a.to_bytes(8, "big") in key]
    assert owned == []


def test_the_leaders_own_kinds_carry_no_header() -> None:
    m = Machine()
    s = m.open()
    assert m.do(KeepAlive((s,)), Dedup(s, 1, 1, bytes(8))).status is ResultStatus.INVALID
