"""Steps that only bring Kubernetes' objects to what is desired: none takes anything from a running cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lockmaster_operator.desired.compare import changed_claim_templates, differs, key_of, owned
from lockmaster_operator.desired.names import Cluster
from lockmaster_operator.desired.objects import Decided, render
from lockmaster_operator.models.lock_cluster_status import Phase
from lockmaster_operator.plan.certificates import certificate_steps
from lockmaster_operator.plan.repair import wanted_witness
from lockmaster_operator.plan.shape import replicas
from lockmaster_operator.plan.steps import Apply, LabelPod, RecreateStatefulSet, Step
from lockmaster_operator.plan.upgrade import Block
from lockmaster_operator.plan.view import STABLE_S, View
from lockmaster_operator.plan.volumes import expansions, volume_size


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Steps that may all be taken at once, and one that wants a quiet moment."""

    steps: tuple[Step, ...]
    recreate: RecreateStatefulSet | None
    template_pending: bool
    """The StatefulSet is not as desired yet, or its controller has not seen it."""
    taken: tuple[str, ...]
    """Objects of these names are there and not ours: they are left alone."""
    volume_size: str
    """How large every volume is to be."""


def upkeep(view: View, block: Block | None) -> Upkeep:
    """What differs from what is desired."""
    size = volume_size(view)
    wanted = render(_runnable(view, block), view.settings, _decided(view, size))
    steps: list[Step] = certificate_steps(view)
    recreate = None
    taken: list[str] = []
    for body in wanted:
        live = view.observed.objects.get(key_of(body))
        if live is not None and not owned(view.cluster, live):
            taken.append(" ".join(key_of(body)))
            continue
        if live is not None and body["kind"] == "StatefulSet" and changed_claim_templates(body, live):
            uid = str(live.get("metadata", {}).get("uid", ""))
            recreate = RecreateStatefulSet(uid) if view.settled_for >= STABLE_S else None
            body = _with_claims_of(body, live)
        if live is None or differs(body, live):
            steps.append(Apply(body))
    pending = not view.template or any(isinstance(s, Apply) and s.body["kind"] == "StatefulSet" for s in steps)
    steps += expansions(view, size)
    steps += _labels(view)
    return Upkeep(tuple(steps), recreate, pending, tuple(taken), size)


def _runnable(view: View, block: Block | None) -> Cluster:
    """The cluster with the image that may run: what the live StatefulSet has, while the version is blocked."""
    if block is None or view.stateful_set is None:
        return view.cluster
    containers = view.stateful_set.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    image = str(containers[0].get("image", "")) if containers else ""
    spec = view.cluster.spec.model_copy(update={"image": image or view.cluster.spec.image})
    return Cluster(view.cluster.name, view.cluster.namespace, view.cluster.uid, view.cluster.generation, spec)


def _with_claims_of(body: dict[str, Any], live: Any) -> dict[str, Any]:
    """The StatefulSet with the claim templates that it has: they can't be changed in place."""
    return {**body, "spec": {**body["spec"], "volumeClaimTemplates": live["spec"]["volumeClaimTemplates"]}}


def _decided(view: View, size: str) -> Decided:
    members_max = view.cluster.members_max
    budget = _budget(view)
    return Decided(
        replicas=replicas(view),
        volume_size=size,
        witness_ordinals=frozenset(n for n in members_max if wanted_witness(view, n)),
        disruptions=budget[0],
        evict_unready=budget[1],
        client_authority=view.observed.client_authority,
    )


def _budget(view: View) -> tuple[int, bool]:
    """operator.md §3: 1; 0 while the quorum has no margin or a change runs; what it was while nobody knows."""
    if view.engine is None:
        live = view.observed.objects.get(("PodDisruptionBudget", view.cluster.name), {}).get("spec", {})
        allowed = live.get("maxUnavailable")
        evict = live.get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
        return (allowed if isinstance(allowed, int) else 0), evict
    unready = [pod for pod in view.observed.pods if not pod.ready]
    mute = len(unready) == 1 and any(m.silent for m in view.at(unready[0].ordinal))
    gives = any(not m.silent for pod in unready for m in view.at(pod.ordinal))
    quiet = not view.change_open and not any(m.phase in (Phase.BEHIND, Phase.LOST) for m in view.members)
    return int(view.margin >= 1 and quiet), mute and not gives and view.margin >= 0


def _labels(view: View) -> list[Step]:
    """By the leader's word only; without one the Services stay as they are."""
    found: list[Step] = []
    for member in view.members:
        pod = view.pods.get(member.ordinal)
        if pod is None or pod.deleting or member.lost or len(view.at(member.ordinal)) > 1:
            continue
        role = "witness" if member.seen.witness else "full"
        if (pod.role_label, pod.leads_label) != (role, member.seen.leader):
            found.append(LabelPod(member.ordinal, pod.uid, role, member.seen.leader))
    return found
