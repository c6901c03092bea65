"""The session core alone: frames in, frames out, a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest
from lockmaster import Indeterminate, LockLost, Overloaded, SessionExpired, Unavailable
from lockmaster.api import lock_pb2, session_pb2, status_pb2
from lockmaster.api.session_pb2 import ClientFrame, Response, ServerFrame
from lockmaster.client import session_core
from lockmaster.client.calls import AcquireCall, MessageCall, ReleaseCall
from lockmaster.client.holds import Session
from lockmaster.client.session_core import SILENCE_SECONDS_MAX, WINDOW_MAX, SessionCore


class Waiter:
    """What asyncio.Future is to the core."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.settled = False

    def done(self) -> bool:
        return self.settled

    def set_result(self, result: Any, /) -> None:
        self.settled, self.value = True, result

    def set_exception(self, exception: BaseException, /) -> None:
        self.settled, self.error = True, exception


class Rig:
    """A core with an open session (id 7), at time 0."""

    def __init__(self) -> None:
        self.sessions: list[Session | None] = []
        self.core = SessionCore(
            ttl=15.0,
            label="test",
            lock_delay=1.0,
            wake=lambda: None,
            nonce=lambda: bytes(16),
            draw=lambda: 0.5,
            session_changed=self.sessions.append,
            now=0.0,
        )

    def open(self) -> Rig:
        self.core.connected(0.0)
        self.put()
        (opening,) = self.sent().requests
        opened = session_pb2.OpenSessionResponse(session_id=7, ttl_ms=15_000)
        self.answer(Response(id=opening.id, open_session=opened))
        frame = self.sent()
        assert [each.WhichOneof("operation") for each in frame.requests] == ["attach", "put"]
        for request in frame.requests:
            self.ok(request)
        return self

    def put(self, timeout: float | None = None) -> Waiter:
        waiter = Waiter()
        self.core.submit(MessageCall(waiter, "put", session_pb2.Request().put), timeout)
        return waiter

    def acquire(self, timeout_ms: int = 0, timeout: float | None = None) -> tuple[AcquireCall, Waiter]:
        waiter = Waiter()
        call = AcquireCall(waiter, "x", True, timeout_ms)
        self.core.submit(call, timeout)
        return call, waiter

    def sent(self) -> ClientFrame:
        data = self.core.next_frame(self.core.now)
        assert data is not None
        return ClientFrame.FromString(data)

    def answer(self, *responses: Response) -> None:
        self.core.receive(ServerFrame(responses=responses).SerializeToString(), self.core.now)

    def ok(self, request: session_pb2.Request) -> None:
        kind = request.WhichOneof("operation")
        response = Response(id=request.id)
        getattr(response, str(kind)).SetInParent()
        self.answer(response)

    def refuse(self, request: session_pb2.Request, status: Any, **failure: Any) -> None:
        self.answer(Response(id=request.id, status=status, failure=status_pb2.Failure(status=status, **failure)))

    def event(self, **event: Any) -> None:
        frame = ServerFrame(events=[session_pb2.SessionEvent(session_id=7, **event)])
        self.core.receive(frame.SerializeToString(), self.core.now)

    @property
    def session(self) -> Session:
        assert self.core.session is not None
        return self.core.session

    def hold(self) -> Any:
        _, waiter = self.acquire()
        (request,) = self.sent().requests
        granted = lock_pb2.AcquireResponse(state=lock_pb2.ACQUIRE_STATE_GRANTED, token=99)
        self.answer(Response(id=request.id, acquire=granted))
        return waiter.value


@pytest.fixture
def rig() -> Rig:
    return Rig().open()


def test_waiting_calls_share_one_frame_with_rising_numbers(rig: Rig) -> None:
    for _ in range(3):
        rig.put()
    frame = rig.sent()
    assert [each.seq for each in frame.requests] == [2, 3, 4]
    assert frame.session_id == 7
    assert frame.first_incomplete == 2


def test_first_incomplete_is_the_lowest_unanswered(rig: Rig) -> None:
    for _ in range(3):
        rig.put()
    first, second, _ = rig.sent().requests
    rig.ok(second)
    rig.put()
    assert rig.sent().first_incomplete == 2
    rig.ok(first)
    rig.put()
    assert rig.sent().first_incomplete == 4


def test_a_resend_carries_the_same_numbers(rig: Rig) -> None:
    rig.put()
    (before,) = rig.sent().requests
    rig.core.disconnected(1.0)
    rig.core.connected(1.0)
    attach, again = rig.sent().requests
    assert attach.WhichOneof("operation") == "attach"
    assert again == before


def test_the_window_is_never_exceeded(rig: Rig) -> None:
    for _ in range(WINDOW_MAX + 10):
        rig.put()
    frame = rig.sent()
    assert len(frame.requests) == WINDOW_MAX
    assert rig.core.next_frame(0.0) is None
    rig.ok(frame.requests[0])
    assert [each.seq for each in rig.sent().requests] == [WINDOW_MAX + 2]


def test_the_backlog_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_core, "BACKLOG_MAX", 2)
    rig.put()
    rig.put()
    with pytest.raises(Overloaded):
        rig.put()


def test_not_leader_asks_to_leave_for_the_hint_and_sends_nothing_here(rig: Rig) -> None:
    waiter = rig.put()
    (request,) = rig.sent().requests
    rig.refuse(request, status_pb2.STATUS_NOT_LEADER, leader=status_pb2.LeaderHint(address="b:1"))
    assert rig.core.redirect is not None
    assert rig.core.redirect.address == "b:1"
    assert rig.core.next_frame(0.0) is None
    rig.core.disconnected(0.0)
    rig.core.connected(0.0)
    assert rig.sent().requests[1] == request
    assert not waiter.done()


def test_expired_before_the_only_attempt_is_sent_under_a_new_session(rig: Rig) -> None:
    rig.put()
    (request,) = rig.sent().requests
    rig.refuse(request, status_pb2.STATUS_SESSION_EXPIRED)
    assert [each.WhichOneof("operation") for each in rig.sent().requests] == ["open_session"]
    assert rig.sessions[-1] is None


def test_expired_after_a_lost_attempt_is_indeterminate(rig: Rig) -> None:
    waiter = rig.put()
    rig.sent()
    rig.core.disconnected(0.0)
    rig.core.connected(0.0)
    _, again = rig.sent().requests
    rig.refuse(again, status_pb2.STATUS_SESSION_EXPIRED)
    assert isinstance(waiter.error, Indeterminate)
    assert rig.core.next_frame(0.0) is None


def test_a_deadline_before_sending_is_unavailable_after_it_indeterminate(rig: Rig) -> None:
    sent = rig.put(timeout=1.0)
    rig.sent()
    rig.core.redirect = session_core.Redirect("", 0.0)
    unsent = rig.put(timeout=1.0)
    rig.core.tick(2.0)
    assert isinstance(sent.error, Indeterminate)
    assert isinstance(unsent.error, Unavailable)
    assert rig.session.lowest_pending() == rig.session.next_seq


def test_a_release_is_resent_after_its_waiter_was_told(rig: Rig) -> None:
    hold = rig.hold()
    waiter = Waiter()
    rig.core.submit(ReleaseCall(waiter, rig.session, "x", hold.token, hold), 1.0)
    rig.sent()
    rig.core.tick(2.0)
    assert isinstance(waiter.error, Indeterminate)
    rig.core.disconnected(2.0)
    rig.core.connected(2.0)
    assert [each.WhichOneof("operation") for each in rig.sent().requests] == ["attach", "release"]


def test_a_grant_by_event_settles_the_queued_acquire_once(rig: Rig) -> None:
    call, waiter = rig.acquire()
    (request,) = rig.sent().requests
    queued = lock_pb2.AcquireResponse(state=lock_pb2.ACQUIRE_STATE_QUEUED, position=1)
    rig.answer(Response(id=request.id, acquire=queued))
    assert not waiter.done()
    granted = lock_pb2.LockGranted(name="x", token=99, acquire_seq=call.seq)
    rig.event(lock_granted=granted)
    rig.event(lock_granted=granted)
    assert waiter.value.token == 99
    assert list(rig.session.holds) == [99]


def test_an_attach_that_shows_a_grant_settles_an_acquire_sent_after_it(rig: Rig) -> None:
    rig.core.disconnected(0.0)
    call, waiter = rig.acquire()
    rig.core.connected(0.0)
    attach, acquire = rig.sent().requests
    queued = lock_pb2.AcquireResponse(state=lock_pb2.ACQUIRE_STATE_QUEUED, position=1)
    rig.answer(Response(id=acquire.id, acquire=queued))
    held = session_pb2.AttachResponse(held=[session_pb2.HeldLock(name="x", token=99, acquire_seq=call.seq)])
    rig.answer(Response(id=attach.id, attach=held))
    assert waiter.value.token == 99


def test_a_withdrawn_acquire_is_cancelled_by_its_number(rig: Rig) -> None:
    call, waiter = rig.acquire()
    (request,) = rig.sent().requests
    waiter.set_exception(RuntimeError())
    rig.core.withdraw(call)
    (cancel,) = rig.sent().requests
    assert cancel.cancel_acquire.acquire_seq == request.seq
    answer = lock_pb2.CancelAcquireResponse(state=lock_pb2.ACQUIRE_STATE_GRANTED, token=99)
    rig.answer(Response(id=cancel.id, cancel_acquire=answer))
    (release,) = rig.sent().requests
    assert release.release.token == 99


def test_locks_are_lost_when_validity_runs_out_and_are_given_back(rig: Rig) -> None:
    hold = rig.hold()
    in_jeopardy: list[bool] = []
    hold.jeopardy_callbacks = [lambda: in_jeopardy.append(True)]
    rig.core.tick(13.0)
    assert in_jeopardy == [True]
    assert hold.lost is None
    rig.core.tick(14.0)
    assert isinstance(hold.lost, LockLost)
    assert [each.WhichOneof("operation") for each in rig.sent().requests] == ["attach", "release"]


def granted_late(rig: Rig, timeout: float | None = None) -> tuple[AcquireCall, Waiter]:
    """The process stood still with the answer in its socket, or the group had no quorum: the body must not begin."""
    call, waiter = rig.acquire(timeout=timeout)
    (request,) = rig.sent().requests
    rig.core.now = 14.0
    granted = lock_pb2.AcquireResponse(state=lock_pb2.ACQUIRE_STATE_GRANTED, token=99)
    rig.answer(Response(id=request.id, acquire=granted))
    rig.core.tick(14.0)
    assert not waiter.done()
    assert not rig.session.holds
    assert not rig.core.idle
    return call, waiter


def sent_by(rig: Rig) -> list[str | None]:
    return [each.WhichOneof("operation") for each in rig.sent().requests]


def test_a_grant_that_is_read_after_validity_ran_out_is_a_lock_once_the_session_is_renewed(rig: Rig) -> None:
    call, waiter = granted_late(rig)
    (probe,) = rig.sent().requests
    rig.session.renewed(13.5)
    rig.core.tick(14.1)
    assert not waiter.done(), "first what the probe shows"
    held = [session_pb2.HeldLock(acquire_seq=call.seq, token=99)]
    rig.answer(Response(id=probe.id, attach=session_pb2.AttachResponse(held=held)))
    rig.core.tick(14.2)
    assert waiter.value is call.hold is rig.session.holds[99]
    assert not rig.session.unproved
    rig.core.tick(13.5 + 14.0)
    assert isinstance(waiter.value.lost, LockLost)


def test_it_is_given_back_when_the_time_of_its_call_runs_out_first(rig: Rig) -> None:
    _, waiter = granted_late(rig, timeout=16.0)
    rig.core.tick(15.9)
    assert not waiter.done()
    rig.core.tick(16.0)
    assert isinstance(waiter.error, LockLost)
    assert sent_by(rig) == ["attach", "release"]
    assert not rig.session.unproved


def test_it_is_given_back_when_its_caller_gives_up_first(rig: Rig) -> None:
    call, waiter = granted_late(rig)
    rig.core.time_out(call, 14.0)
    assert isinstance(waiter.error, LockLost)
    assert sent_by(rig) == ["attach", "release"]
    rig.session.renewed(13.5)
    rig.core.tick(14.2)
    assert not rig.session.holds


def test_it_is_lost_with_its_session(rig: Rig) -> None:
    _, waiter = granted_late(rig)
    rig.event(session_ended=session_pb2.SessionEnded(cause=session_pb2.SessionEnded.CAUSE_EXPIRED))
    assert isinstance(waiter.error, LockLost)


def test_it_is_lost_when_it_is_taken_away(rig: Rig) -> None:
    _, waiter = granted_late(rig)
    rig.event(lock_lost=lock_pb2.LockLost(name="x", token=99, cause=lock_pb2.LockLost.CAUSE_FORCED))
    assert isinstance(waiter.error, LockLost)
    assert "force-released" in str(waiter.error)


@pytest.mark.parametrize("held", [True, False])
def test_it_is_lost_when_an_attach_does_not_show_it(rig: Rig, held: bool) -> None:
    call, waiter = granted_late(rig)
    rig.core.disconnected(14.1)
    rig.core.connected(14.2)
    (request,) = rig.sent().requests
    shown = [session_pb2.HeldLock(acquire_seq=call.seq, token=99)] if held else []
    rig.session.renewed(14.2)
    rig.core.tick(14.4)
    assert not waiter.done(), "it may have been taken away while no stream was there"
    rig.answer(Response(id=request.id, attach=session_pb2.AttachResponse(held=shown)))
    rig.core.tick(14.6)
    assert (waiter.value is not None) is held
    assert isinstance(waiter.error, LockLost) is not held


def test_an_acquire_without_end_does_not_keep_a_lock_from_others_without_end(rig: Rig) -> None:
    """Renewals that are done but not confirmed keep the session alive at the server."""
    _, waiter = granted_late(rig)
    rig.core.tick(14.0 + rig.session.ttl - 0.1)
    assert not waiter.done()
    rig.core.tick(14.0 + rig.session.ttl)
    assert isinstance(waiter.error, LockLost)
    assert "release" in sent_by(rig)


def test_a_lock_that_an_attach_showed_is_not_given_back_at_the_deadline_of_its_resent_acquire(rig: Rig) -> None:
    call, waiter = rig.acquire(timeout=5.0)
    rig.sent()
    rig.core.disconnected(1.0)
    rig.core.connected(1.1)
    attach = rig.sent().requests[0]
    held = [session_pb2.HeldLock(acquire_seq=call.seq, token=99)]
    rig.answer(Response(id=attach.id, attach=session_pb2.AttachResponse(held=held)))
    assert waiter.value is rig.session.holds[99]
    rig.session.renewed(4.0)
    rig.core.tick(5.1)
    assert rig.session.holds == {99: waiter.value}
    assert rig.core.next_frame(5.1) is None, "no release"


def test_the_end_of_a_session_ends_holds_and_waits(rig: Rig) -> None:
    hold = rig.hold()
    _, waiter = rig.acquire()
    (request,) = rig.sent().requests
    rig.answer(Response(id=request.id, acquire=lock_pb2.AcquireResponse(state=lock_pb2.ACQUIRE_STATE_QUEUED)))
    rig.event(session_ended=session_pb2.SessionEnded(cause=session_pb2.SessionEnded.CAUSE_EXPIRED))
    assert isinstance(hold.lost, LockLost)
    assert isinstance(waiter.error, SessionExpired)


def test_silence_with_calls_in_flight_leaves_the_member(rig: Rig) -> None:
    rig.put()
    rig.sent()
    rig.core.tick(SILENCE_SECONDS_MAX)
    assert rig.core.redirect is None
    rig.core.tick(SILENCE_SECONDS_MAX + 0.1)
    assert rig.core.redirect is not None


def test_a_moved_notice_asks_to_leave(rig: Rig) -> None:
    frame = ServerFrame(moved=status_pb2.LeaderHint(address="b:1"))
    rig.core.receive(frame.SerializeToString(), 0.0)
    assert rig.core.redirect is not None
    assert rig.core.redirect.address == "b:1"


def test_a_moved_notice_is_newer_than_the_leader_that_an_answer_named(rig: Rig) -> None:
    rig.put()
    (request,) = rig.sent().requests
    leader = status_pb2.LeaderHint(address="dead:1")
    failure = status_pb2.Failure(status=status_pb2.STATUS_NOT_LEADER, leader=leader)
    rig.answer(Response(id=request.id, status=status_pb2.STATUS_NOT_LEADER, failure=failure))
    assert rig.core.redirect == session_core.Redirect("dead:1", 0.0)
    rig.core.receive(ServerFrame(moved=status_pb2.LeaderHint()).SerializeToString(), 0.0)
    assert rig.core.redirect == session_core.Redirect("dead:1", 0.0)
    rig.core.receive(ServerFrame(moved=status_pb2.LeaderHint(address="b:1")).SerializeToString(), 0.0)
    assert rig.core.redirect == session_core.Redirect("b:1", 0.0)


def test_members_that_were_named_outlast_the_stream_and_are_bounded(rig: Rig) -> None:
    addresses = [f"m{number}:1" for number in range(session_core.MEMBERS_MAX + 1)]
    members = session_pb2.ClusterMembers(addresses=addresses, own="m1:1")
    rig.core.receive(ServerFrame(members=members).SerializeToString(), 0.0)
    assert rig.core.member == "m1:1"
    rig.core.receive(ServerFrame().SerializeToString(), 0.0)
    rig.core.disconnected(0.0)
    rig.core.connected(0.0)
    assert rig.core.members == tuple(addresses[: session_core.MEMBERS_MAX])
    assert rig.core.member == ""


def test_an_answer_nobody_waits_for_is_ignored(rig: Rig) -> None:
    rig.answer(Response(id=12_345, status=status_pb2.STATUS_NOT_LEADER))
    assert rig.core.redirect is None
