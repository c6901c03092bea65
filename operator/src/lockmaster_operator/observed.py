"""What the operator sees of one LockCluster at one moment: plain data, filled in by the host.

Laws for whoever fills it in: everything is read after the pass began; what could not be read is absent (None, or no
row), never what it was before; `engine` is the answer of the member that leads by its own word, the one of the highest
term if two say so, and None if none does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lockmaster_operator.models.lock_cluster_status import LockClusterStatus

PODS_MAX: Final = 32
"""Most pods, claims and members that a look may hold; what is beyond is left out by the host."""


@dataclass(frozen=True, slots=True)
class MemberReport:
    """What the member in a pod says of itself (Admin.Status)."""

    cluster_id: str
    """32 hex digits; "" on a blank volume."""
    member_id: int
    """0 on a blank volume."""
    incarnation: str
    """32 hex digits: of this data directory, made with it."""
    version: str
    level_max: int
    """Highest level that its binary knows."""
    witness: bool = False
    """What it is; of a blank volume: what it was made for."""
    leader_id: int = 0
    """Whom it follows; 0: it knows no leader."""
    level_floor: int = 0
    """Lowest level of a binary that can open its directory; 0: it can't tell, it is an older one."""
    alarms: tuple[str, ...] = ()
    """Codes of what it complains of now (docs/operations.md), sorted."""
    free_bytes: int = 0
    """On its volume; means something beside `copy_bytes` alone."""
    copy_bytes: int = 0
    """Free bytes that a new cluster founded beside its state asks for; 0: it does not say (older, or without state)."""

    @property
    def blank(self) -> bool:
        """It belongs to no cluster."""
        return not self.cluster_id


@dataclass(frozen=True, slots=True)
class PodSeen:
    """One pod of the StatefulSet."""

    ordinal: int
    uid: str
    template: str = ""
    """Its label lockmaster.dev/template."""
    ready: bool = False
    running: bool = False
    """The kubelet's word: its container runs now. False: waiting, crashed, or never started."""
    deleting: bool = False
    exit_code: int | None = None
    """Of the container's last end."""
    restarts: int = 0
    pending_reason: str = ""
    """Why it does not run: Unschedulable, ImagePullBackOff, …"""
    role_label: str = ""
    leads_label: bool = False
    report: MemberReport | None = None
    """None: its member did not answer the operator, which proves nothing about it."""


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """The volume claim of an ordinal."""

    ordinal: int
    uid: str
    requested: str = ""
    """Quantity in its spec."""
    capacity: str = ""
    """Quantity that its volume has by now; "": none yet."""
    bound: bool = True
    """It has a volume, or will get one with contents; False: nothing is on it."""
    lost: bool = False
    """Its volume is gone: phase Lost."""
    node_gone: bool = False
    """Its volume can be used on no node that exists, or only on nodes with the out-of-service taint."""
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """One row of the leader's ListMembers."""

    member_id: int
    name: str
    peer_address: str
    voter: bool
    witness: bool
    incarnation: str
    phase: str = "steady"
    """steady, promoting, demoting, leaving."""
    leader: bool = False
    lag_entries: int = 0
    reachable: bool = True
    """The leader has heard of it within an election timeout."""
    level_max: int = 0
    """0: it has not reported to this leader."""
    fence_index: int = 0


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """The cluster by its leader's word."""

    cluster_id: str
    epoch: int
    term: int
    """Of its leadership."""
    members: tuple[MemberSeen, ...]
    level_active: int = 2
    level_fence: int = 2
    """Above level_active while a FENCE stands."""
    gate_epoch: int = 0
    pods_mark: int | None = None
    """Another one than before if a pod's token has opened a session since; None: the leader can't say. No plan is made
    from it."""


@dataclass(frozen=True, slots=True)
class AuthoritySeen:
    """The certificate of one of the operator's own authorities."""

    pem: str
    not_before: int
    """Seconds since 1970, as not_after."""
    not_after: int


@dataclass(frozen=True, slots=True)
class CertificateSeen:
    """A certificate in a Secret, and the authorities beside it."""

    secret: str
    not_after: int
    """Seconds since 1970."""
    names: tuple[str, ...] = ()
    issuer: str = ""
    """PEM of the authority that signed it, of those in any Secret around it; of an authority, its own. "": there is no
    such authority, or the certificate does not fit its key."""
    ca: str = ""
    """ca.crt as it stands there."""
    authorities: tuple[AuthoritySeen, ...] = ()
    """The operator's own in ca.crt; in the Secret of an authority, that one, too."""
    since: int = 0
    """Since when all of them have been in ca.crt, in seconds since 1970; 0: nobody knows."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at one LockCluster."""

    status: LockClusterStatus = field(default_factory=LockClusterStatus)
    """As it is stored, read uncached."""
    objects: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """Live objects of the kinds that `desired` makes, by (kind, name); another's object of that name is there too."""
    pods: tuple[PodSeen, ...] = ()
    claims: tuple[ClaimSeen, ...] = ()
    engine: EngineSeen | None = None
    certificates: tuple[CertificateSeen, ...] = ()
    client_authority: str = ""
    """ca.crt of the operator's own certificate: by it everybody knows the client port. "" while there is none."""
    pods_refused: str = ""
    """Why pods that are missing can't be created: a quota, a rule of pod security, a webhook, in its own words."""
    refused: str = ""
    """What the API server refused the last pass, in its words."""
    bad_secrets: tuple[str, ...] = ()
    """What is wrong with the Secrets of spec.tls.secrets, which the operator does not make."""
    restore_pending: bool = False
    """A LockRestore names this cluster and has not made it yet."""
    recovering: bool = False
    """A QuorumRecovery founds the cluster anew on its survivor's volume: no pod may have one of them."""
