"""What a session owns, followed through grants, losses, reconnects and time; the rest of SessionCore's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster.api import lock_pb2, session_pb2
from lockmaster.client.calls import AcquireCall
from lockmaster.client.holds import Hold, Session
from lockmaster.errors import LockLost, LockmasterError

if TYPE_CHECKING:
    from lockmaster.client.session_core import SessionCore

JEOPARDY_SHARE = 0.3
NOT_RENEWED = "the session was not renewed in time"


def check_validity(core: SessionCore, now: float) -> None:
    """Locks whose session was not renewed in time are lost to this client, whatever the server believes."""
    session = core.session
    if session is None:
        return
    for token, call in list(session.unproved.items()):
        _prove(core, session, token, call, now)
    if not session.holds:
        return
    left = session.valid_until - now
    if left <= 0:
        for hold in list(session.holds.values()):
            hold.lose(LockLost(hold.name, hold.token, NOT_RENEWED))
            # The session may yet live at the server: nobody shall wait for a lock that nobody uses.
            core.give_back(session, hold.name, hold.token)
    elif left < session.ttl * JEOPARDY_SHARE:
        for hold in list(session.holds.values()):
            hold.jeopardise()
    else:
        for hold in session.holds.values():
            hold.in_jeopardy = False


def _prove(core: SessionCore, session: Session, token: int, call: AcquireCall, now: float) -> None:
    """A lock that was granted while the session was overdue: held, if a renewal was confirmed since and no stream was
    lost by which its end would have been told."""
    if call.given_up:
        core.give_back(session, call.name, token)
    elif core.attached and now < session.valid_until:
        del session.unproved[token]
        core.granted(call, token)
    elif call.deadline <= now:
        call.fail(LockLost(call.name, token, NOT_RENEWED))
        core.give_back(session, call.name, token)


def attach(core: SessionCore, session: Session) -> None:
    """Has this session's events sent to the new stream, and learns what they would have been until now."""
    holds, waits = list(session.holds.values()), list(session.waiting.values())
    unproved = list(session.unproved)

    def attached(answer: session_pb2.AttachResponse | None, error: LockmasterError | None) -> None:
        if answer is not None and not session.ended:
            core.attached = True
            _reconcile(core, session, answer, holds, waits)
            for token in set(unproved) - {each.token for each in answer.held}:
                _not_to_be(session, token, "it was taken away while the connection was lost")

    core.attached = False
    core.control("attach", session_pb2.AttachRequest(), attached)


def _reconcile(
    core: SessionCore, session: Session, answer: session_pb2.AttachResponse, holds: list[Hold], waits: list[AcquireCall]
) -> None:
    """Learns what happened while no stream was there, about what was owned when the attach was sent."""
    held = {each.acquire_seq: each.token for each in answer.held}
    tokens = set(held.values())
    queued = {each.acquire_seq for each in answer.waiting}
    for hold in holds:
        if hold.token not in tokens and session.holds.get(hold.token) is hold and not hold.released:
            del session.holds[hold.token]
            hold.lose(LockLost(hold.name, hold.token, "it was taken away while the connection was lost"))
    for seq, token in held.items():
        # Also those that were queued or sent after the attach: the grant may have come before it took effect.
        granted = session.waiting.get(seq) or session.pending.get(seq)
        if isinstance(granted, AcquireCall):
            core.granted(granted, token)
    for call in waits:
        if session.waiting.get(call.seq) is call and call.seq not in queued:
            ended = lock_pb2.ACQUIRE_STATE_TIMED_OUT if call.timeout_ms else lock_pb2.ACQUIRE_STATE_ENDED
            call.ended(core, ended)


def _not_to_be(session: Session, token: int, cause: str) -> None:
    """What was granted, but not proved, is lost."""
    call = session.unproved.pop(token, None)
    if call is not None:
        call.fail(LockLost(call.name, token, cause))


def take_event(core: SessionCore, event: session_pb2.SessionEvent) -> None:
    """A lock event, the session's end or a watch's page."""
    kind = event.WhichOneof("event")
    if kind == "watch":
        watching = core.watches.get(event.watch.watch_id)
        if watching is not None:
            watching.deliver(core, event.watch)
        return
    session = core.session
    if session is None or session.id != event.session_id:
        return
    if kind == "lock_granted":
        seq = event.lock_granted.acquire_seq
        call = session.waiting.get(seq) or session.pending.get(seq)
        if isinstance(call, AcquireCall):
            core.granted(call, event.lock_granted.token)
    elif kind == "lock_lost":
        hold = session.holds.pop(event.lock_lost.token, None)
        if hold is not None:
            hold.lose(LockLost(hold.name, hold.token, _loss_cause(event.lock_lost)))
        _not_to_be(session, event.lock_lost.token, _loss_cause(event.lock_lost))
    elif kind == "acquire_ended":
        waiting = session.waiting.get(event.acquire_ended.acquire_seq)
        if waiting is not None:
            waiting.ended(core, event.acquire_ended.state)
    elif kind == "session_ended":
        core.session_ended(session, "the session expired")


def _loss_cause(event: lock_pb2.LockLost) -> str:
    if event.cause == lock_pb2.LockLost.CAUSE_FORCED:
        return f"it was force-released: {event.reason}" if event.reason else "it was force-released"
    return "the session expired"
