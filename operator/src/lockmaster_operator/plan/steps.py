"""What a plan may ask for. Each step is idempotent, and says what must still be so when it is carried out.

`disruptive` steps take something away from a running cluster, if only for a moment, or change who belongs to it: a plan
has at most one, as its last. Steps towards the engine carry the epoch that they were decided from, or the term: the
leader refuses them when the configuration or the leadership is another by then, so an operator that was stopped in
between does no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar

from lockmaster_operator.desired.certificates import CertificateWanted


class GateOperation(StrEnum):
    """What is asked of a gate; the words of the protocol."""

    FENCE = "fence"
    ACTIVATE = "activate"
    CANCEL = "cancel"
    DEACTIVATE = "deactivate"


# --- towards Kubernetes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of one object, whole, with the operator's field manager."""

    disruptive: ClassVar[bool] = False
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class IssueCertificate:
    """Make a key and a certificate, and put them into the Secret (desired.certificates.secret_object).

    Only while the authority that signs it is this very one.
    """

    disruptive: ClassVar[bool] = False
    wanted: CertificateWanted
    issuer: str
    """PEM of the authority that signs it; "": it is an authority and signs itself."""
    beside: str
    """PEM of the authorities that ca.crt holds after the one that signs it."""
    since: int
    """As CertificateSeen.since."""


@dataclass(frozen=True, slots=True)
class SpreadAuthorities:
    """Replace ca.crt in the Secret of a certificate; the certificate and its key stay."""

    disruptive: ClassVar[bool] = False
    wanted: CertificateWanted
    ca: str
    since: int
    """As CertificateSeen.since."""


@dataclass(frozen=True, slots=True)
class LabelPod:
    """Tell the Services what this pod is good for."""

    disruptive: ClassVar[bool] = False
    ordinal: int
    uid: str
    role: str
    leads: bool


@dataclass(frozen=True, slots=True)
class ExpandClaim:
    """Ask for a larger volume."""

    disruptive: ClassVar[bool] = False
    ordinal: int
    uid: str
    size: str


@dataclass(frozen=True, slots=True)
class RecreateStatefulSet:
    """Delete the StatefulSet and orphan its pods: the next pass makes it anew, with other claim templates."""

    disruptive: ClassVar[bool] = True
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Restart a pod from the present template. Only while it is this very pod."""

    disruptive: ClassVar[bool] = True
    ordinal: int
    uid: str
    why: str


@dataclass(frozen=True, slots=True)
class WipeMember:
    """The volume of a running pod is given up, and a blank one comes in its place. Only while it is this very pod."""

    disruptive: ClassVar[bool] = True
    ordinal: int
    uid: str
    incarnation: str
    why: str


@dataclass(frozen=True, slots=True)
class ReplaceVolume:
    """Delete a claim and then its pod, for a member that cannot run to be told: a blank volume comes in its place."""

    disruptive: ClassVar[bool] = True
    ordinal: int
    claim_uid: str
    pod_uid: str
    """"" if there is no pod."""
    why: str


# --- towards the engine ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Make the blank member of a pod the first of a new cluster with this id. Repeating it changes nothing."""

    disruptive: ClassVar[bool] = True
    ordinal: int
    cluster_id: str


@dataclass(frozen=True, slots=True)
class AddMember:
    """Add a blank member; `learner`: it waits to replace another."""

    disruptive: ClassVar[bool] = True
    ordinal: int
    name: str
    incarnation: str
    witness: bool
    learner: bool
    level_max: int
    expected_epoch: int


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """Take a member out for good."""

    disruptive: ClassVar[bool] = True
    member_id: int
    expected_epoch: int
    why: str


@dataclass(frozen=True, slots=True)
class ReplaceMember:
    """One joint change: the caught-up learner takes the place of a member that is lost."""

    disruptive: ClassVar[bool] = True
    old_id: int
    new_id: int
    expected_epoch: int
    why: str


@dataclass(frozen=True, slots=True)
class PromoteMember:
    """Begin to make a witness a full member, in place: it votes throughout."""

    disruptive: ClassVar[bool] = True
    member_id: int
    expected_epoch: int
    why: str


@dataclass(frozen=True, slots=True)
class DemoteMember:
    """Begin to make a full member, not the leader, a witness."""

    disruptive: ClassVar[bool] = True
    member_id: int
    expected_epoch: int
    why: str


@dataclass(frozen=True, slots=True)
class TransferLeadership:
    """Move the lead to a caught-up full member."""

    disruptive: ClassVar[bool] = True
    target: int
    expected_term: int
    """Of the leader that is to hand over: a later one does not."""
    why: str


@dataclass(frozen=True, slots=True)
class ChangeGate:
    """FENCE, ACTIVATE, CANCEL or DEACTIVATE a level."""

    disruptive: ClassVar[bool] = True
    operation: GateOperation
    level: int
    expected_epoch: int
    """Of the gate."""
    why: str


EngineStep = (
    Bootstrap
    | AddMember
    | RemoveMember
    | ReplaceMember
    | PromoteMember
    | DemoteMember
    | TransferLeadership
    | ChangeGate
)
KubernetesStep = (
    Apply
    | IssueCertificate
    | SpreadAuthorities
    | LabelPod
    | ExpandClaim
    | RecreateStatefulSet
    | DeletePod
    | WipeMember
    | ReplaceVolume
)
Step = EngineStep | KubernetesStep


def idempotency_key(cluster_id: str, step: EngineStep) -> str:
    """The same for every repetition of the same step, another for any other; within the protocol's 128 bytes.

    Epoch or term are in it: a step that is taken anew after others is another one, and no old answer is its answer.
    """
    values = [f"{field.name}={getattr(step, field.name)}" for field in fields(step) if field.name != "why"]
    whole = "/".join([cluster_id, type(step).__name__, *values])
    return f"{type(step).__name__}/{hashlib.sha256(whole.encode()).hexdigest()[:32]}"
