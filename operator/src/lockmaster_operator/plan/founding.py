"""How a cluster begins: its id is written down before it is made, and it is made once (operator.md §5, Identity).

A LockCluster of the same name as an earlier one takes that one's volumes over: whoever finds data never founds. So a
new cluster is made only when every pod has answered and says that its volume is blank.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from lockmaster_operator.observed import MemberReport
from lockmaster_operator.plan.steps import Bootstrap
from lockmaster_operator.plan.view import View


@dataclass(frozen=True, slots=True)
class Founding:
    """Where the beginning stands."""

    cluster_id: str
    """To be written to status; "" = not known yet."""
    step: Bootstrap | None = None
    reason: str = ""
    """One word of a condition; "" once the cluster has been made."""
    message: str = ""


def new_cluster_id(uid: str) -> str:
    """The id of the cluster that this LockCluster makes: drawn from its UID, so that two passes draw the same."""
    return hashlib.sha256(f"lockmaster cluster of {uid}".encode()).hexdigest()[:32]


def reports(view: View) -> dict[int, MemberReport]:
    """What the members that answered say, by ordinal."""
    return {n: pod.report for n, pod in sorted(view.pods.items()) if pod.report is not None}


def foreign_ordinals(view: View, cluster_id: str) -> tuple[int, ...]:
    """Ordinals whose volumes belong to another cluster. They are never wiped by the operator itself."""
    return tuple(n for n, report in reports(view).items() if report.cluster_id not in ("", cluster_id))


def founding(view: View) -> Founding:
    """What is to be done before there is a cluster; a Founding without reason once there is one."""
    answers = reports(view)
    known = view.status.cluster_id
    if view.observed.recovering:
        return Founding(known, None, "Recovering", "a QuorumRecovery founds the cluster anew on its survivor's volume")
    if known and (view.status.members or view.engine is not None):
        return Founding(known)
    found = sorted({report.cluster_id for report in answers.values() if report.cluster_id})
    if known and known in found:
        return Founding(known)
    if not known and len(found) == 1:
        return Founding(found[0])  # volumes of an earlier LockCluster of this name
    if found:
        where = ", ".join(f"{view.cluster.name}-{n} of {r.cluster_id}" for n, r in answers.items() if r.cluster_id)
        return Founding(known, None, "ForeignVolumes", f"volumes of other clusters are there: {where}; remove them")
    if view.held:
        why = "a LockRestore makes this cluster; delete it to begin an empty one instead"
        return Founding(known, None, "WaitingForRestore", why)
    wanted = range(max(view.cluster.spec.members.total, view.replicas or 0))
    silent = [f"{view.cluster.name}-{n}" for n in wanted if n not in answers]
    if silent:
        return Founding(
            known, None, "WaitingForPods", f"{', '.join(silent)} must answer first: their volumes may hold data"
        )
    if not known:
        return Founding(new_cluster_id(view.cluster.uid), None, "Founding", "the cluster's id is written down")
    return Founding(known, Bootstrap(0, known), "Founding", f"{view.cluster.name}-0 becomes the first member")
