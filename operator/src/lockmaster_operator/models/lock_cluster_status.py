"""The status of a LockCluster: what a person looks at, and the few things that the operator must remember."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lockmaster_operator.models.conditions import Condition
from lockmaster_operator.models.part import LongText, Part, ShortText, Timestamp, extra

MEMBERS_MAX = 32
"""Most rows of `members`: what the consensus core allows."""


class MemberRole(StrEnum):
    """What a member stores."""

    FULL = "Full"
    WITNESS = "Witness"


class Phase(StrEnum):
    """Where a member stands. Only a Steady voter is counted on."""

    JOINING = "Joining"
    """A learner that catches up and has not voted yet."""
    STEADY = "Steady"
    BEHIND = "Behind"
    """A voter that answers and lacks a good part of the log."""
    PROMOTING = "Promoting"
    DEMOTING = "Demoting"
    LEAVING = "Leaving"
    """In a joint change, to be removed by its end."""
    UNREACHABLE = "Unreachable"
    """The leader has not heard of it for an election timeout."""
    SET_ASIDE = "SetAside"
    """A voter of four or more that fell silent and is a learner until it is back (quorum shaping)."""
    LOST = "Lost"
    """Its volume is gone or another's: it never comes back under this id."""


class MemberStatus(Part):
    """One member of the configuration."""

    ordinal: Annotated[int, Field(ge=-1, le=999)]
    """Of its pod; -1 for a member that is none of this StatefulSet's."""
    member_id: Annotated[int, Field(ge=1)]
    """Minted by the leader for one incarnation of a data directory; never reused."""
    role: MemberRole
    """Full or Witness."""
    phase: Phase
    """Where it stands."""
    version: Annotated[str, Field(max_length=64)] = ""
    """Of the binary that runs; empty while its pod does not answer."""
    level: Annotated[int, Field(ge=0)] = 0
    """Highest level that its binary knows, as it reported to the leader; 0: not yet."""
    durable_lag: Annotated[int, Field(ge=0)] = 0
    """Entries that it lacks, rounded up to a power of two; 0 while it keeps up."""
    leader: bool = False
    """Whether it leads."""
    since: Timestamp
    """Since when it is in this phase, as far as the operator has seen."""


class GateEvidence(Part):
    """What one member has said about its level: why the gate may move."""

    member_id: Annotated[int, Field(ge=1)]
    """Who said it."""
    level: Annotated[int, Field(ge=0)]
    """The highest level that its binary knows."""
    version: Annotated[str, Field(max_length=64)] = ""
    """The version of that binary."""
    fence_index: Annotated[int, Field(ge=0)] = 0
    """Index of the FENCE that it holds durably, 0: none."""
    since: Timestamp
    """Since when it has been saying so."""


class GateStatus(Part):
    """Levels: features that need every member."""

    level: Annotated[int, Field(ge=0)] = 0
    """The active level; 2 allows witnesses. 0: not known yet."""
    fence: Annotated[int, Field(ge=0)] = 0
    """Above level while a FENCE stands."""
    evidence: Annotated[
        tuple[GateEvidence, ...],
        Field(
            max_length=MEMBERS_MAX,
            json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["memberId"]),
        ),
    ] = ()
    """Every member's report, while the gate waits for one."""


class RoleChange(Part):
    """The last change of a member's role."""

    member_id: Annotated[int, Field(ge=1)]
    """Whose role."""
    role: MemberRole
    """What it was to become."""
    time: Timestamp
    """When the operator saw it begin."""
    why: ShortText = ""
    """Why it was asked for; empty: the leader or a person did it."""


class Shape(Part):
    """How many members of each role."""

    full: Annotated[int, Field(ge=0)]
    """Full members."""
    witness: Annotated[int, Field(ge=0)]
    """Witnesses."""


class LockClusterStatus(Part):
    """What the operator saw last."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this speaks of."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["type"]),
        ),
    ] = ()
    """Ready, Progressing, Degraded, QuorumAvailable, WitnessGate, UpgradeBlocked, Paused."""
    cluster_id: Annotated[str, Field(max_length=32, pattern="^([0-9a-f]{32})?$")] = ""
    """32 hex digits. Written before the cluster is made, so that it is made once."""
    members: Annotated[
        tuple[MemberStatus, ...],
        Field(
            max_length=MEMBERS_MAX,
            json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["memberId"]),
        ),
    ] = ()
    """The configuration, as the leader last told it."""
    full_copies: Annotated[int, Field(ge=0)] = 0
    """Full members that are there and caught up: copies of the state."""
    quorum_margin: Annotated[int, Field(ge=0)] = 0
    """Voters that may fail now without stopping writes. A promotion restores copies, not this."""
    gate: GateStatus = GateStatus()
    """Levels."""
    last_role_change: RoleChange | None = None
    """The last change of a role, from which the cool-down counts."""
    shape: Shape | None = None
    """The spec.members that was reached last. While spec.members is another a person has asked, and nothing waits for
    promoteAfter or coolDown."""
    leader: Annotated[str, Field(max_length=64)] = ""
    """Pod of the member that leads."""
    version: Annotated[str, Field(max_length=64)] = ""
    """The lowest version that runs."""
    witnesses: Annotated[int, Field(ge=0)] = 0
    """Witnesses in the configuration."""
    full_replicas: Annotated[int, Field(ge=0)] = 0
    """Full voters in the configuration: what the scale subresource reports."""
    selector: LongText = ""
    """Label selector of the pods, for the scale subresource."""
    volume_size: Annotated[str, Field(max_length=32)] = ""
    """Size that the operator asks for each volume: spec.storage.size, or more by spec.storage.autoGrow."""
