"""Carries out one step of a plan. Each says what must still be so, and the API server or the leader checks it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lockmaster_operator.desired.certificates import secret_object
from lockmaster_operator.desired.compare import owned
from lockmaster_operator.desired.names import LEADS_LABEL, ROLE_LABEL, Cluster, claim_name, pod_name
from lockmaster_operator.host.engine import Engine
from lockmaster_operator.host.issuing import BadSecret, Pems, issue, normal, pems_of
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.observe import Look
from lockmaster_operator.plan import steps

_log = logging.getLogger(__name__)


class StepRefused(Exception):
    """What the step was decided from is not so any more, or is in its way; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Executor:
    """Carries out steps on one cluster, by one look at it."""

    kube: Kube
    engine: Engine
    cluster: Cluster
    look: Look
    now: int

    async def carry_out(self, step: steps.Step) -> None:
        """One step. Raises StepRefused, KubeError, LockmasterError, TimeoutError."""
        if isinstance(step, steps.EngineStep):
            await self._ask(step)
            return
        match step:
            case steps.Apply():
                await self.kube.apply(step.body)
            case steps.IssueCertificate():
                await self._issue(step)
            case steps.SpreadAuthorities():
                await self._spread(step)
            case steps.LabelPod():
                labels = {ROLE_LABEL: step.role, LEADS_LABEL: "true" if step.leads else None}
                await self._change("Pod", pod_name(self.cluster, step.ordinal), step.uid, {"labels": labels}, {})
            case steps.ExpandClaim():
                spec = {"resources": {"requests": {"storage": step.size}}}
                name = claim_name(self.cluster, step.ordinal)
                await self._change("PersistentVolumeClaim", name, step.uid, {}, {"spec": spec})
            case steps.RecreateStatefulSet():
                await self._delete("StatefulSet", self.cluster.name, step.uid, orphan=True)
            case steps.DeletePod():
                await self._delete("Pod", pod_name(self.cluster, step.ordinal), step.uid)
            case steps.WipeMember():
                await self._begin_blank(step)
            case steps.ReplaceVolume():
                await self._delete("PersistentVolumeClaim", claim_name(self.cluster, step.ordinal), step.claim_uid)
                if step.pod_uid:
                    await self._delete("Pod", pod_name(self.cluster, step.ordinal), step.pod_uid)

    async def _begin_blank(self, step: steps.WipeMember) -> None:
        """Claim, then pod: the volume stays until its pod is gone, so nothing goes behind a running member's back.

        The pod that comes in its place waits until there is a new claim.
        """
        claim = next((claim for claim in self.look.observed.claims if claim.ordinal == step.ordinal), None)
        if claim is not None:
            await self._delete("PersistentVolumeClaim", claim_name(self.cluster, step.ordinal), claim.uid)
        await self._delete("Pod", pod_name(self.cluster, step.ordinal), step.uid)

    async def _ask(self, step: steps.EngineStep) -> None:
        if self.look.tls is None:
            raise StepRefused("the operator has no certificate for this cluster yet")
        key = steps.idempotency_key(self.look.observed.status.cluster_id, step)
        _log.info("%s/%s: asks for %s as %s", self.cluster.namespace, self.cluster.name, step, key)
        await self.engine.perform(self.cluster.uid, self.look.addresses, self.look.tls, step, key)

    async def _change(
        self, kind: str, name: str, uid: str, metadata: Mapping[str, Any], rest: Mapping[str, Any]
    ) -> None:
        """A merge patch of this very object: the uid in it is a precondition of the API server."""
        await self.kube.merge(kind, self.cluster.namespace, name, {"metadata": {"uid": uid, **metadata}, **rest})

    async def _delete(self, kind: str, name: str, uid: str, orphan: bool = False) -> None:
        """Read once more; deleted only at the version that was read, so nobody has changed it in between."""
        live = await self.kube.get(kind, self.cluster.namespace, name)
        if live is None or live["metadata"]["uid"] != uid:
            raise StepRefused(f"{kind} {name} is gone, or another by now")
        if "deletionTimestamp" in live["metadata"]:
            return
        version = live["metadata"]["resourceVersion"]
        await self.kube.delete(kind, self.cluster.namespace, name, uid, version, orphan)

    async def _issue(self, step: steps.IssueCertificate) -> None:
        wanted = step.wanted
        live = await self.kube.get("Secret", self.cluster.namespace, wanted.secret)
        if live is not None and not owned(self.cluster, live):
            raise StepRefused(f"Secret {wanted.secret} is there and not this LockCluster's: rename or remove it")
        issuer = await self._pems(wanted.issuer_secret) if wanted.issuer_secret else None
        try:
            if issuer is not None and normal(issuer[1]) != step.issuer:
                raise StepRefused(f"the authority in Secret {wanted.issuer_secret} is another by now")
            made = issue(wanted, issuer, self.now, step.beside)
        except BadSecret as error:
            raise StepRefused(str(error)) from None
        await self.kube.apply(secret_object(self.cluster, wanted, made, step.since))

    async def _spread(self, step: steps.SpreadAuthorities) -> None:
        _, certificate, key = await self._pems(step.wanted.secret)
        await self.kube.apply(secret_object(self.cluster, step.wanted, (step.ca, certificate, key), step.since))

    async def _pems(self, secret: str) -> Pems:
        live = await self.kube.get("Secret", self.cluster.namespace, secret)
        if live is None or not owned(self.cluster, live):
            raise StepRefused(f"Secret {secret} is gone, or another's")
        try:
            return pems_of(live)
        except BadSecret as error:
            raise StepRefused(str(error)) from None
