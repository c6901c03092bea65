"""What a client does with an error: try again (when, where) or raise it.

Pure: no clock, no randomness, no transport. The simulator runs this very module. Laws:

- a definite error is never tried again;
- nothing is tried again past the caller's deadline;
- Indeterminate is tried again only by a call that can be recognised as the same one: a read, or a mutation that is
  resent under the same session and sequence number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lockmaster.errors import Indeterminate, LockmasterError, NotLeader, Overloaded, Unavailable

BACKOFF_FIRST_SECONDS = 0.02
BACKOFF_MAX_SECONDS = 0.5
BACKOFF_GROWTH = 1.3
HINTS_FOLLOWED_AT_ONCE_MAX = 3


class Where(Enum):
    """Which member the next attempt goes to, where no leader is named."""

    SAME = "same"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds, at `to`: host:port of the leader, or Where."""

    delay: float
    to: str | Where


@dataclass(frozen=True, slots=True)
class Raise:
    """Give the error to the caller."""

    error: LockmasterError


Decision = Retry | Raise


def backoff(attempt: int, draw: float = 0.5) -> float:
    """Seconds before attempt `attempt + 1`: grows from 20 ms to 0.5 s, scaled into [0.5, 1) of that by `draw`.

    `attempt` counts from 1; `draw` is a uniform number in [0, 1) that the caller drew. Each delay is about 0.3 of all
    before it, so what ends meanwhile (an election) is noticed after at most 1.3 times its length; doubling makes it 2.
    """
    full = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * BACKOFF_GROWTH ** min(max(attempt, 1) - 1, 64))
    return full * (0.5 + draw / 2)


def policy(
    error: LockmasterError, attempt: int, deadline: float, *, draw: float = 0.5, repeatable: bool = True
) -> Decision:
    """Says what to do after attempt number `attempt` (from 1) ended with `error`.

    `deadline` is how many seconds are left until the caller's deadline (math.inf: none). `repeatable`: the call is a
    read or carries a session and a sequence number, so that a second attempt can't act twice.
    """
    decision = _decide(error, attempt, draw, repeatable)
    if isinstance(decision, Retry) and decision.delay >= deadline:
        return Raise(error)
    return decision


def _decide(error: LockmasterError, attempt: int, draw: float, repeatable: bool) -> Decision:
    match error:
        case NotLeader(leader_hint=hint) if hint:
            at_once = attempt <= HINTS_FOLLOWED_AT_ONCE_MAX
            return Retry(0.0 if at_once else backoff(attempt - HINTS_FOLLOWED_AT_ONCE_MAX, draw), hint)
        case NotLeader():
            return Retry(backoff(attempt, draw), Where.NEXT)
        case Overloaded(retry_after=after):
            return Retry(max(after, backoff(attempt, draw)), Where.SAME)
        case Unavailable():
            return Retry(backoff(attempt, draw), Where.NEXT)
        case Indeterminate() if repeatable:
            return Retry(backoff(attempt, draw), Where.SAME)
        case _:
            return Raise(error)
