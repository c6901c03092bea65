"""What the operator will do next: `plan(cluster, observed, now) -> Plan`. Pure and total.

    observe → plan → status (if changed) → steps, at most one of them disruptive → again

Order of the disruptive step, the first that applies (operator.md §§2–5):
 1. found the cluster, once its id is in status                                    founding.py
 2. restart an outdated pod that does not run anyway                               repair.py
 3. mend: drop a lost learner, begin blank, add a replacement, replace a volume    repair.py
 4. promote a witness, swap a lost member, restore the shape                       roles.py
 5. join blank pods that have a place                                              shape.py
 6. take back a gate that is in a rollback's way; restart outdated pods            upgrade.py
 7. open the witness gate                                                          gate.py
 8. promote or remove as spec.members asks                                         shape.py
 9. make the StatefulSet anew around its pods, for larger claims                   objects.py
Laws: no engine step without a full member that leads; none on purpose (6 to 9) unless everything is Steady and, from
three voters on, one can be missed; steps carry the epoch or term that they were decided from; same inputs, same plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.models.lock_cluster import LockClusterSpec
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus, Phase
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.observed import Observed
from lockmaster_operator.plan.founding import founding
from lockmaster_operator.plan.gate import Gate, gate
from lockmaster_operator.plan.objects import Upkeep, upkeep
from lockmaster_operator.plan.repair import repair_step, restart_step
from lockmaster_operator.plan.roles import role_step
from lockmaster_operator.plan.shape import join_step, resize_step
from lockmaster_operator.plan.status import Verdict, refused_status, status_of, unseen_status
from lockmaster_operator.plan.steps import Step
from lockmaster_operator.plan.transitions import Event, transitions
from lockmaster_operator.plan.upgrade import Block, Roll, blocked, roll
from lockmaster_operator.plan.view import STABLE_S, View

RESYNC_S: Final = 30
"""Pause until the next pass while nothing happens."""
BUSY_S: Final = 2
"""The same while something is under way."""
_DOING: Final = {
    "Bootstrap": "Founding",
    "AddMember": "Joining",
    "RemoveMember": "Removing",
    "ReplaceMember": "Replacing",
    "PromoteMember": "Promoting",
    "DemoteMember": "Restoring",
    "TransferLeadership": "HandingOver",
    "ChangeGate": "ChangingGate",
    "DeletePod": "Rolling",
    "WipeMember": "BeginningBlank",
    "ReplaceVolume": "ReplacingVolume",
    "RecreateStatefulSet": "Expanding",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. The host writes `status` first, if it differs from what is stored, and stops if that fails."""

    steps: tuple[Step, ...]
    """In this order; at most one is disruptive, and that is the last."""
    status: LockClusterStatus
    events: tuple[Event, ...] = ()
    requeue_after_s: int = RESYNC_S
    """When to look again if no event comes before."""

    @property
    def disruptive(self) -> Step | None:
        """The one step that takes something from a running cluster, if there is one."""
        return self.steps[-1] if self.steps and self.steps[-1].disruptive else None


def read_cluster(stored: Mapping[str, Any]) -> Cluster | str:
    """The LockCluster as stored, or why its spec cannot be read: `field: reason`, in the words of the schema."""
    metadata = stored.get("metadata", {})
    try:
        spec = LockClusterSpec.model_validate(stored.get("spec", {}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        return f"spec.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    members = spec.members
    if members.full <= members.witness or members.total % 2 == 0:
        return f"spec.members: full ({members.full}) + witness ({members.witness}) must be odd, and full the majority"
    return Cluster(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace", "")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        spec=spec,
        deleting=bool(metadata.get("deletionTimestamp")),
    )


def refuse(stored: Mapping[str, Any], status: LockClusterStatus, why: str, now: int) -> Plan:
    """The plan for a spec that cannot be read: nothing is touched, the status says why."""
    metadata = stored.get("metadata", {})
    named = Cluster(
        str(metadata.get("name", "")),
        str(metadata.get("namespace", "")),
        str(metadata.get("uid", "")),
        int(metadata.get("generation", 0)),
        LockClusterSpec(version="0.0.0"),
    )
    after = refused_status(named, status, why, now)
    return Plan((), after, transitions(status, after))


def unseen(cluster: Cluster, status: LockClusterStatus, why: str, now: int) -> Plan:
    """The plan where the API server refuses a look: nothing is touched, the status says why."""
    after = unseen_status(cluster, status, why, now)
    return Plan((), after, transitions(status, after))


def plan(cluster: Cluster, observed: Observed, now: int, settings: Settings | None = None) -> Plan:
    """What to do about one LockCluster, now (seconds since 1970).

    Total: any Observed gives a plan. A cluster that is being deleted gets none: what it owns goes with it, and its
    volumes as the StatefulSet's retention policy says.
    """
    if cluster.deleting:
        return Plan((), observed.status)
    view = View(cluster, settings or Settings(), observed, now)
    begin, block, rolling, witness = founding(view), blocked(view), roll(view), gate(view)
    if cluster.spec.paused:
        return _planned(view, Verdict(begin, witness, block, rolling), ())
    care = upkeep(view, block)
    step = None if cluster.spec.hibernate else _disruptive(view, begin.step, block, rolling, witness, care)
    doing = _DOING[type(step).__name__] if step is not None else ""
    why = str(getattr(step, "why", ""))
    verdict = Verdict(begin, witness, block, rolling, doing, why, care.template_pending, care.taken, care.volume_size)
    return _planned(view, verdict, (*care.steps, step) if step is not None else care.steps)


def _disruptive(
    view: View, begin: Step | None, block: Block | None, rolling: Roll, witness: Gate, care: Upkeep
) -> Step | None:
    if begin is not None:
        return begin
    step = restart_step(view) or repair_step(view) or role_step(view) or join_step(view)
    if step is not None:
        return step
    if block is not None and block.step is not None:
        return block.step
    # By the template that is on its way another pod may be the outdated one.
    restart = None if care.template_pending else rolling.step
    return restart or witness.step or resize_step(view) or care.recreate


def _planned(view: View, verdict: Verdict, steps: tuple[Step, ...]) -> Plan:
    status = status_of(view, verdict)
    return Plan(steps, status, transitions(view.status, status), _requeue(view, verdict, steps))


def _requeue(view: View, verdict: Verdict, steps: tuple[Step, ...]) -> int:
    """Soon after a step or while something moves; at the next deadline that is known; else the resync."""
    if steps or verdict.founding.reason or view.change_open:
        return BUSY_S
    # An election, or catching up: no object changes when it is over, so no event tells.
    if not view.cluster.spec.hibernate and (not view.led or any(m.phase is Phase.BEHIND for m in view.members)):
        return BUSY_S
    waits = [RESYNC_S]
    deadlines = (STABLE_S, int(seconds_of(view.cluster.spec.witness.promote_after)))
    waits += [wait - (view.now - m.since) for m in view.members for wait in deadlines]
    return min(wait for wait in waits if wait > 0)
