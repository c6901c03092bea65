"""QuorumRecovery: the majority is lost for good, and a person decides to go on from one survivor (operator.md §1)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lockmaster_operator.models.conditions import Condition
from lockmaster_operator.models.part import LocalReference, LongText, Part, Rule, ShortText, Timestamp, extra, rules


class Survivor(Part):
    """The one member whose data the new cluster begins with. A witness has none and is refused."""

    ordinal: Annotated[int, Field(ge=0, le=999)]
    """Of its pod."""
    member_id: Annotated[int, Field(ge=1)]
    """Its member id, as `kubectl lockmaster members` shows it."""


class QuorumRecoverySpec(Part):
    """What to recover, and the words that say that you mean it. Never changed: a second try is a second object."""

    model_config = rules(
        Rule("self == oldSelf", "spec can't change: make another QuorumRecovery"),
        Rule(
            "self.confirmation.startsWith('recover ' + self.clusterRef.name + ' from member ') && "
            "int(self.confirmation.substring(self.confirmation.lastIndexOf(' ') + 1)) == self.survivor.memberId",
            "confirmation must be the words 'recover CLUSTER from member ID': writes that this member has not seen "
            "are lost, and all sessions end",
            ".confirmation",
        ),
    )

    cluster_ref: LocalReference
    """The LockCluster that has lost its majority, in the same namespace."""
    survivor: Survivor
    """The member to go on from: of those left, the one with the highest last index."""
    confirmation: Annotated[str, Field(max_length=320, pattern=r"^recover [-a-z0-9]+ from member [0-9]{1,18}$")]
    """recover CLUSTER from member ID, typed out."""
    requested_by: ShortText = ""
    """Who decided it, for the record."""


class RecoveryPhase(StrEnum):
    """How far it is."""

    PENDING = "Pending"
    CHECKING = "Checking"
    """Whether the majority is really gone, and the survivor fit."""
    FOUNDING = "Founding"
    """The survivor's data becomes the first member of a new cluster."""
    REJOINING = "Rejoining"
    """The others join it, on blank volumes."""
    DONE = "Done"
    REFUSED = "Refused"
    """Nothing was changed; the condition Ready says why."""


class QuorumRecoveryStatus(Part):
    """What was done, for the record."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this speaks of."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16, json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["type"])
        ),
    ] = ()
    """Ready."""
    phase: RecoveryPhase = RecoveryPhase.PENDING
    """How far it is."""
    old_cluster_id: Annotated[str, Field(max_length=32)] = ""
    """The cluster that was lost."""
    new_cluster_id: Annotated[str, Field(max_length=32)] = ""
    """The cluster that goes on. Written before it is made."""
    survivor_last_index: Annotated[int, Field(ge=0)] = 0
    """The last entry that was saved."""
    started: Timestamp | None = None
    """When it began."""
    finished: Timestamp | None = None
    """When it ended."""
    evidence: LongText = ""
    """Why the majority was held to be lost: each member and what was seen of it."""
