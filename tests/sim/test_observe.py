"""What the service's observer says of one entry: the order in which things happened."""

from lockmaster.statemachine.apply import Applied
from lockmaster.statemachine.commands import (
    CloseSession,
    Command,
    Dedup,
    EndCause,
    Event,
    LockGranted,
    Release,
    Result,
    ResultStatus,
    SessionEnded,
)
from lockmaster.testing.simulation_observe import observe
from lockmaster_raft.entry import DATA
from lockmaster_raft.testing.application import Freed, Granted, SessionOver

HOLDER, FIRST, SECOND = 11, 12, 13


def test_a_session_that_is_closed_after_its_grant_from_the_queue_ends_after_that_grant() -> None:
    """Seeds 94 and 325: the Release's answer tells no revision, so the grant seemed to come after the close."""
    release = Command(Release(HOLDER, "a", 40), Dedup(HOLDER, 2, 2, b""))
    close = Command(CloseSession(FIRST))
    events: list[Event] = [
        LockGranted(FIRST, 1, "a", 41),
        SessionEnded(FIRST, EndCause.CLOSED),
        LockGranted(SECOND, 1, "a", 43),
    ]
    done = Applied([Result(ResultStatus.OK), Result(ResultStatus.OK)], events)
    observed = observe(DATA, [release, close], done, before=40).observed
    assert observed == [
        Freed("a", HOLDER, 40),
        Granted("a", FIRST, 1, 41),
        SessionOver(FIRST, expired=False),
        Granted("a", SECOND, 1, 43),
    ]
