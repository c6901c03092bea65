"""Who decides about roles (raft.md §4): `decide(observed, policy, now_ns) -> steps`, pure.

The leader runs it by itself (AUTOMATIC); in OPERATED mode somebody with more evidence (the operator) runs the same
function and asks, and the leader is the backstop: it acts after 3 × promote_after_ns, or when a witness's log is above
its budget. Whoever asks, the preconditions are checked where the entry is appended, so a wrong step is only refused.

Laws: at most one step is given; none while a change runs, but for an abort; between two automatic role changes lies the
cool-down, unless a log budget is exceeded and the last one was not aborted; nothing is decided about a member that the
leader has not heard of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration, Member, MemberPhase, MemberRole
from lockmaster_raft.record import record

_SECOND: Final = 1_000_000_000
BACKSTOP_FACTOR: Final = 3
"""In OPERATED mode the leader waits this many promote_after_ns before it acts by itself."""
FULL_STEADY_MIN: Final = 2
"""I8: no step leaves fewer full, steady members."""


class RoleMode(Enum):
    """Who makes automatic role changes."""

    AUTOMATIC = "automatic"
    OPERATED = "operated"


class LogPolicy(Enum):
    """What happens when a witness's log is above its byte budget. Never a silent truncation."""

    PROMOTE = "promote"
    """The witness is promoted: with a state it can truncate like any full member."""
    BLOCK = "block"
    """The leader answers Overloaded to all but reserved proposals until it is below again."""
    ALARM = "alarm"
    """Only the alarm `witness_log`."""


@dataclass(frozen=True, slots=True)
class RolePolicy:
    """Settings of `decide`; durations in nanoseconds, equal on all members."""

    mode: RoleMode = RoleMode.AUTOMATIC
    log_policy: LogPolicy = LogPolicy.PROMOTE
    promote_after_ns: int = 60 * _SECOND
    """A full voter must be silent this long before a witness is promoted in its stead."""
    restore_after_ns: int = 60 * _SECOND
    """All full voters must be there and caught up this long before the shape is restored."""
    cool_down_ns: int = 600 * _SECOND
    """Least time between two automatic role changes."""
    change_timeout_ns: int = 600 * _SECOND
    """A role change that is not complete after this long is aborted by the leader."""
    shape_after_ns: int = 45 * _SECOND
    """A voter of four or more that is silent this long becomes a learner (shaping.py); 0: never."""
    witness_names: frozenset[str] = frozenset()
    """Names of the members that are witnesses in the intended shape; empty: nothing is demoted by itself."""


@record
class Seen:
    """What the observer knows of one member."""

    member_id: NodeId
    silent_ns: int
    """How long it has not answered; 0 for one that answers, the observer itself included."""
    caught_up: bool
    """Holds the log but for a few entries, and (a full one) has applied it."""
    log_over_budget: bool = False
    """By its report; never of one that is silent, whose log doesn't grow."""
    lost: bool = False
    """Evidence that only an operator has: the volume or the node is gone for good. No waiting then."""


@record
class Observed:
    """One look at the cluster."""

    configuration: Configuration
    leader_id: NodeId
    level_active: int
    change_open: bool
    """A CONFIG or GATE entry is not committed yet, or the leader can't propose one now."""
    role_changed_at: int | None
    """When the last role change was appended, on the clock of `now_ns`; None: not known."""
    healthy_since: int | None
    """Since when every full voter has been there and caught up; None: it is not so now."""
    by_leader: bool
    """The leader looks (else: the operator)."""
    members: tuple[Seen, ...]
    change_aborted: bool = False
    """The role change at `role_changed_at` was the abort of one."""


@record
class Promote:
    """Ask for P1 of this witness."""

    member_id: NodeId
    why: str


@record
class Demote:
    """Ask for D1 of this full voter."""

    member_id: NodeId
    why: str


@record
class HandOver:
    """Ask for a transfer: the member to be demoted leads."""

    target: NodeId
    why: str


@record
class Swap:
    """Ask for the joint swap of a member lost for good by its replacement."""

    old_id: NodeId
    new_id: NodeId
    why: str


Step = Promote | Demote | HandOver | Swap


def decide(observed: Observed, policy: RolePolicy, now_ns: int) -> tuple[Step, ...]:
    """What to ask for now: at most one step. Same inputs, same answer."""
    configuration = observed.configuration
    if observed.change_open or configuration.changing is not None or configuration.outgoing:
        return ()
    seen = {s.member_id: s for s in observed.members}
    step = _swap(observed, seen) or _promote(observed, policy, now_ns, seen) or _restore(observed, policy, now_ns, seen)
    return (step,) if step is not None else ()


def _steady_full(configuration: Configuration) -> list[Member]:
    steady = MemberPhase.STEADY
    return [m for m in configuration.members if m.voter and m.is_full and m.phase is steady]


def _swap(observed: Observed, seen: dict[NodeId, Seen]) -> Swap | None:
    """A voter known to be lost, and a caught-up learner of its role that waits to replace it (the oldest first)."""
    members = observed.configuration.members
    for old in members:
        known = seen.get(old.member_id)
        if not old.voter or known is None or not known.lost or old.member_id == observed.leader_id:
            continue
        for new in members:
            there = seen.get(new.member_id)
            waits = not new.voter and not new.promote_when_caught_up and new.role is old.role
            if waits and there is not None and not there.silent_ns and there.caught_up:
                return Swap(old.member_id, new.member_id, f"member {old.member_id} is lost for good")
    return None


def _cool(observed: Observed, policy: RolePolicy, now_ns: int) -> bool:
    return observed.role_changed_at is None or now_ns - observed.role_changed_at >= policy.cool_down_ns


def _promote(observed: Observed, policy: RolePolicy, now_ns: int, seen: dict[NodeId, Seen]) -> Promote | None:
    candidate = _witness_to_promote(observed, seen)
    if candidate is None:
        return None
    pressed = [s.member_id for s in observed.members if s.log_over_budget]
    cool = _cool(observed, policy, now_ns)
    if pressed and policy.log_policy is LogPolicy.PROMOTE and (cool or not observed.change_aborted):
        return Promote(candidate, f"the log of witness {pressed[0]} is above its budget")
    if not cool:
        return None
    backstop = observed.by_leader and policy.mode is RoleMode.OPERATED
    wait = policy.promote_after_ns * (BACKSTOP_FACTOR if backstop else 1)
    for member in _steady_full(observed.configuration):
        known = seen.get(member.member_id)
        if known is not None and (known.lost or known.silent_ns >= wait):
            why = "is lost" if known.lost else f"is silent for {known.silent_ns // _SECOND} s"
            return Promote(candidate, f"full member {member.member_id} {why}")
    return None


def _witness_to_promote(observed: Observed, seen: dict[NodeId, Seen]) -> NodeId | None:
    """A live, caught-up, steady witness voter, not the leader; one over its budget first, then the lowest id."""
    fit = []
    for member in observed.configuration.members:
        known = seen.get(member.member_id)
        if not member.voter or member.role is not MemberRole.WITNESS or member.member_id == observed.leader_id:
            continue
        if known is not None and not known.silent_ns and known.caught_up:
            fit.append((not known.log_over_budget, member.member_id))
    return min(fit)[1] if fit else None


def _restore(observed: Observed, policy: RolePolicy, now_ns: int, seen: dict[NodeId, Seen]) -> Step | None:
    """Everything is back: the member in the witness's place becomes one again, after a hand-over if it leads."""
    if observed.by_leader and policy.mode is RoleMode.OPERATED:
        return None
    healthy = observed.healthy_since is not None and now_ns - observed.healthy_since >= policy.restore_after_ns
    if not healthy or not _cool(observed, policy, now_ns) or any(s.log_over_budget for s in observed.members):
        return None
    full = _steady_full(observed.configuration)
    voters = len(observed.configuration.voter_ids)
    if len(full) - 1 < max(FULL_STEADY_MIN, observed.configuration.full_min, voters // 2 + 1):
        return None
    for member in full:
        if member.name not in policy.witness_names:
            continue
        if member.member_id != observed.leader_id:
            return Demote(member.member_id, "the shape is restored: all full members are back")
        target = _first_caught_up(
            m.member_id for m in full if m.member_id != observed.leader_id and seen.get(m.member_id)
        )
        if target is not None:
            return HandOver(target, f"member {member.member_id} leads and is to become a witness again")
    return None


def _first_caught_up(ids: Iterable[NodeId]) -> NodeId | None:
    """The lowest id; all of them are caught up while the cluster is healthy."""
    return min(ids, default=None)
