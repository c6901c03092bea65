"""How fresh what is read must be: the `consistency` of reads. The default is Linearizable.

| value | sees | costs |
|---|---|---|
| `Linearizable()` | every write acknowledged before the read began | a round to a quorum |
| `LeaderLease()` | the same, while clocks drift less than 1 % apart | nothing at the leader, else the same |
| `Bounded(age_max)` | every write acknowledged more than `age_max` seconds before | a round each `age_max` |
| `Eventual(revision_min)` | at least that revision, else whatever the member has | nothing |

A bound that a member can't meet is asked of the next one until the client's `operation_timeout`; then Unavailable says
which bound it was. Revisions are what writes, grants (the fencing token) and reads answer with.
"""

from __future__ import annotations

from dataclasses import dataclass

from lockmaster.api import status_pb2

AGE_SECONDS_MAX = 86_400.0
WAIT_SECONDS_MAX = 10.0
REVISION_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Linearizable:
    """Sees every write that was acknowledged before the read began."""


@dataclass(frozen=True, slots=True)
class LeaderLease:
    """As Linearizable, and without a round at a leader whose lease holds: if clocks keep to their drift bound.

    The leader counts on every voter to refuse other candidates for a time that both measure, each by its own clock,
    1 % of drift allowed for. A machine whose clock stands still or crawls (a hypervisor that pauses it) breaks that:
    then it may answer with what was overwritten meanwhile. So it is asked for read by read, and never the default.
    """


@dataclass(frozen=True, slots=True)
class Eventual:
    """Whatever the member has applied, never less than `revision_min` (0: anything).

    `wait`: seconds, above 0 to 10, that a member may take to get to that revision before the next one is asked.
    """

    revision_min: int = 0
    wait: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.revision_min <= REVISION_MAX:
            raise ValueError("revision_min must be 0 to 2^63-1")
        if not 0.001 <= self.wait <= WAIT_SECONDS_MAX:
            raise ValueError("wait must be 0.001 to 10 seconds")


@dataclass(frozen=True, slots=True)
class Bounded:
    """Sees every write that was acknowledged more than `age_max` seconds, 0.001 to 86,400, before the read began."""

    age_max: float

    def __post_init__(self) -> None:
        if not 0.001 <= self.age_max <= AGE_SECONDS_MAX:
            raise ValueError("age_max must be 0.001 to 86,400 seconds")


Consistency = Linearizable | LeaderLease | Eventual | Bounded
LINEARIZABLE = Linearizable()


def read_options(consistency: Consistency) -> status_pb2.ReadOptions | None:
    """The wire's form; None for the default. A bound is never rounded to a laxer one."""
    match consistency:
        case Linearizable():
            return None
        case LeaderLease():
            return status_pb2.ReadOptions(consistency=status_pb2.CONSISTENCY_LEADER_LEASE)
        case Eventual(revision_min, wait):
            return status_pb2.ReadOptions(
                consistency=status_pb2.CONSISTENCY_EVENTUAL,
                revision_min=revision_min,
                wait_ms_max=int(wait * 1000) if revision_min else 0,
            )
        case Bounded(age_max):
            return status_pb2.ReadOptions(consistency=status_pb2.CONSISTENCY_BOUNDED, age_ms_max=int(age_max * 1000))
