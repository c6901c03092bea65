"""When a look may be left out: what of the members' word a plan tells apart, and whether the same word leads to
nothing for a while.

Law: where `calm` says so, any plan from the same objects, from answers that are `told` alike, at any of the next
CALM_S seconds decides nothing: what has come due by then has not come due in between, for what is once due stays so.
(A maintenance window that opens and closes within them is none for a cluster that is as specified.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Final

from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.models.conditions import Truth, condition_of
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus
from lockmaster_operator.observed import EngineSeen, MemberReport, MemberSeen, Observed
from lockmaster_operator.plan import RESYNC_S, Plan, plan
from lockmaster_operator.plan.view import LAG_STEADY_MAX
from lockmaster_operator.plan.volumes import low

CALM_S: Final = 1_800
"""Seconds for which a look's outcome stands at most. What nobody watches (Secrets, accounts, cert-manager's objects)
is found changed so much later at the latest; while a pod does not run, or the plan does anything, at every pass."""
Told = tuple[object, ...]
"""What each member says of itself by ordinal, and the cluster by its leader's word; to be compared, not read."""


def _all_but(seen: type, *names: str) -> Callable[[object], object]:
    """The values of the fields of `seen` but for these; each quiet pass asks for them, so without a copy of it."""
    return attrgetter(*(one.name for one in fields(seen) if one.name not in names))


_report = _all_but(MemberReport, "free_bytes", "copy_bytes")
_member = _all_but(MemberSeen, "lag_entries")
_engine = _all_but(EngineSeen, "members", "pods_mark")


def told(reports: Mapping[int, MemberReport], engine: EngineSeen | None, status: LockClusterStatus) -> Told:
    """The same answers without what makes no difference to the plan of a cluster with this status: a lag of those who
    are caught up anyway, room that is neither too little nor enough for anything."""
    rows = tuple((n, _report(one), low(one.free_bytes, status.volume_size)) for n, one in sorted(reports.items()))
    if engine is None:
        return (rows,)
    lags = ((one, one.lag_entries) for one in engine.members)
    members = tuple((_member(one), 0 if 0 < lag <= LAG_STEADY_MAX else lag) for one, lag in lags)
    return rows, _engine(engine), members


def calm(cluster: Cluster, observed: Observed, decided: Plan, now: int, settings: Settings) -> bool:
    """Whether this plan decided nothing, nothing is in doubt, and the same look CALM_S later (`now`: seconds since
    1970) leads to nothing either."""
    if cluster.deleting or decided.steps or decided.status != observed.status or decided.requeue_after_s < RESYNC_S:
        return False
    if observed.refused or observed.pods_refused or observed.bad_secrets:
        return False
    if observed.restore_pending or observed.recovering:
        return False
    if not all(pod.running and pod.ready and not pod.deleting for pod in observed.pods):
        return False
    ready, degraded = (condition_of(decided.status.conditions, kind) for kind in ("Ready", "Degraded"))
    if degraded is None or degraded.status is not Truth.FALSE:
        return False
    if (ready is None or ready.status is not Truth.TRUE) and not cluster.spec.hibernate:
        return False
    later = plan(cluster, observed, now + CALM_S, settings)
    return not later.steps and later.status == decided.status
