"""The retry policy: pure, so one table."""

from __future__ import annotations

import math

import pytest
from lockmaster import (
    CompareFailed,
    Indeterminate,
    InvalidRequest,
    LockmasterError,
    NotLeader,
    Overloaded,
    SessionExpired,
    Unavailable,
)
from lockmaster.client.policy import BACKOFF_MAX_SECONDS, Raise, Retry, Where, backoff, policy


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotLeader("b:1"), Retry(0.0, "b:1")),
        (NotLeader(""), Retry(backoff(1), Where.NEXT)),
        (Unavailable("down"), Retry(backoff(1), Where.NEXT)),
        (Overloaded("full", 0.3), Retry(0.3, Where.SAME)),
        (Indeterminate("?"), Retry(backoff(1), Where.SAME)),
    ],
)
def test_retryable_errors_are_tried_again(error: LockmasterError, expected: Retry) -> None:
    assert policy(error, 1, math.inf) == expected


@pytest.mark.parametrize("error", [CompareFailed(3), InvalidRequest("key", "empty"), SessionExpired("over")])
def test_definite_errors_are_raised(error: LockmasterError) -> None:
    assert policy(error, 1, math.inf) == Raise(error)


def test_indeterminate_is_raised_where_a_repeat_could_act_twice() -> None:
    error = Indeterminate("?")
    assert policy(error, 1, math.inf, repeatable=False) == Raise(error)


def test_nothing_is_tried_again_past_the_deadline() -> None:
    error = Overloaded("full", 0.3)
    assert policy(error, 1, 0.2) == Raise(error)


def test_a_hint_that_goes_in_circles_is_followed_more_slowly() -> None:
    decision = policy(NotLeader("b:1"), 9, math.inf)
    assert isinstance(decision, Retry)
    assert decision.delay > 0


def test_backoff_is_bounded_and_jittered() -> None:
    assert backoff(100, 0.999) < BACKOFF_MAX_SECONDS
    assert backoff(1, 0.0) < backoff(1, 0.9)
