"""Rolling restarts with OnDelete (operator.md §4): followers first, the leader last after a transfer, one at a time.

The StatefulSet gets the new template at once (a pod that dies by itself comes back on it), unless the version must not
run here: then the members' image stays what it is, and the condition UpgradeBlocked says why. A restart happens only
when every member is Steady, every pod ready, for STABLE_S, with a margin to spare: so it pauses by itself when anything
is unhealthy, and resumes from what is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lockmaster_operator.desired.names import pod_name
from lockmaster_operator.models.lock_cluster import LockClusterSpec, MaintenanceWindow, Weekday
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.models.timestamps import minute_of_week
from lockmaster_operator.plan.founding import reports
from lockmaster_operator.plan.steps import ChangeGate, DeletePod, GateOperation, Step, TransferLeadership
from lockmaster_operator.plan.versions import level_of, why_not_path
from lockmaster_operator.plan.view import STABLE_S, View

VOTERS_WITHOUT_MARGIN: Final = 2
"""So few voters never have a margin: their restarts stop writes for a moment, whatever one does."""
WEEK_MINUTES: Final = 7 * 1440


@dataclass(frozen=True, slots=True)
class Block:
    """Why the asked-for version may not run here now; `step` is what the operator does about it, if it may."""

    reason: str
    message: str
    step: ChangeGate | None = None


def running_versions(view: View) -> tuple[str, ...]:
    """Versions that members report, in order of ordinals, each once."""
    return tuple(dict.fromkeys(report.version for report in reports(view).values() if report.version))


def blocked(view: View) -> Block | None:
    """Whether spec.version must not be started on these volumes now."""
    spec = view.cluster.spec
    known = running_versions(view) or ((view.status.version,) if view.status.version else ())
    for version in known:
        why = why_not_path(version, spec.version)
        if why:
            return Block("VersionSkipped", why)
    return _behind_the_gate(view, spec)


def _behind_the_gate(view: View, spec: LockClusterSpec) -> Block | None:
    """Rollback rules: free until FENCE, by CANCEL until ACTIVATE, after it only without witnesses and by DEACTIVATE."""
    level = level_of(spec.version)
    active, fence = view.level, view.fence
    if max(active, fence) <= level:
        return _floor(view, level)
    if active <= level:
        step = None
        if view.led:
            step = ChangeGate(GateOperation.CANCEL, fence, view.gate_epoch, f"rollback to {spec.version}")
        return Block(
            "FenceStands", f"version {spec.version} knows level {level}; FENCE {fence} is cancelled first", step
        )
    witnesses = [m.member_id for m in view.members if m.seen.witness or m.seen.phase == "promoting"]
    if spec.members.witness or witnesses:
        left = f"members {witnesses} are witnesses" if witnesses else f"members.witness is {spec.members.witness}"
        return Block(
            "WitnessActive",
            f"version {spec.version} knows level {level} and level {active} is active: set members.witness to 0 and "
            f"keep spec.version until no witness is left ({left}), then roll back",
        )
    step = None
    if not view.unsettled:
        step = ChangeGate(GateOperation.DEACTIVATE, active, view.gate_epoch, f"rollback to {spec.version}")
    return Block("LevelActive", f"level {active} is deactivated before {spec.version} can run", step)


def _floor(view: View, level: int) -> Block | None:
    """A directory whose log still holds a stretch of a higher level is not opened by an older binary.

    What runs a binary of that level already has opened its own.
    """
    if level >= max((level_of(version) for version in running_versions(view)), default=level):
        return None
    newer = {n: r for n, r in reports(view).items() if not r.blank and r.level_max > level}
    held = [n for n, r in newer.items() if r.level_floor > level]
    mute = [n for n, r in newer.items() if not r.level_floor]
    why = []
    if held:
        why.append(f"the logs of {_names(view, held)} still need a newer binary than level {level}")
    if mute:
        why.append(f"{_names(view, mute)} can't tell what the log needs: too old a version for that")
    return Block("LogHoldsLevel", "; ".join(why)) if why else None


def _names(view: View, ordinals: list[int]) -> str:
    return ", ".join(pod_name(view.cluster, n) for n in ordinals)


def window_open(window: MaintenanceWindow | None, now: int) -> bool:
    """Whether members may be disturbed on purpose now."""
    if window is None:
        return True
    hours, minutes = window.start.split(":")
    length = int(seconds_of(window.duration)) // 60
    week = list(Weekday)
    begins = [week.index(day) * 1440 + int(hours) * 60 + int(minutes) for day in window.days]
    return any((minute_of_week(now) - begin) % WEEK_MINUTES < length for begin in begins)


def outdated(view: View) -> tuple[int, ...]:
    """Ordinals of pods that are not of the live StatefulSet's template; () until its controller has seen that."""
    if not view.template:
        return ()
    return tuple(n for n, pod in sorted(view.pods.items()) if pod.template != view.template)


@dataclass(frozen=True, slots=True)
class Roll:
    """The next restart, or why there is none though pods are outdated."""

    step: Step | None = None
    waits: str = ""


def roll(view: View) -> Roll:
    """Restart of one outdated pod: the highest ordinal first, the leader's last."""
    old = outdated(view)
    if not old or view.leader is None:
        return Roll(waits="no full member leads" if old else "")
    why = view.unsettled or ("members have only just settled" if view.settled_for < STABLE_S else "")
    if not why and view.margin < 1 and len(view.voters) > VOTERS_WITHOUT_MARGIN:
        why = "no voter could be missed"
    if why:
        return Roll(waits=why)
    if not window_open(view.cluster.spec.maintenance_window, view.now):
        return Roll(waits="the maintenance window is closed")
    followers = [n for n in old if n != view.leader.ordinal]
    if followers:
        ordinal = followers[-1]
        return Roll(DeletePod(ordinal, view.pods[ordinal].uid, f"{pod_name(view.cluster, ordinal)} is outdated"))
    target = _successor(view, old)
    if target is None:
        return Roll(waits="no other full member can take the lead")
    why = f"{pod_name(view.cluster, view.leader.ordinal)} is to be restarted"
    return Roll(TransferLeadership(target, view.term, why))


def _successor(view: View, old: tuple[int, ...]) -> int | None:
    """A caught-up full voter besides the leader, rather one that has been restarted already; the lowest ordinal."""
    fit = [
        (member.ordinal in old, member.ordinal, member.member_id)
        for member in view.voters
        if not member.seen.witness and not member.seen.leader and member.caught_up and not member.silent
    ]
    return min(fit)[2] if fit else None
