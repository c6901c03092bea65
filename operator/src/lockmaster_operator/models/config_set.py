"""ConfigSet: configuration that a person declares, kept so in a cluster (operator.md §1). Schemas come later."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from lockmaster_operator.models.conditions import Condition
from lockmaster_operator.models.part import (
    DurationText,
    LocalReference,
    Part,
    Rule,
    ShortText,
    Timestamp,
    extra,
    rules,
)

KEYS_MAX: Final = 1024
VALUE_BYTES_MAX: Final = 262_144
KEY_SIZE_MAX: Final = 512
CONFLICTS_MAX: Final = 64
RUNNING_MAX: Final = 16
KEY: Final = r"^[^\x00-\x1f\x7f]+$"


class FileSource(Part):
    """Each file of a ConfigMap becomes a key: its name after the prefix, its content the value."""

    config_map: LocalReference
    """The ConfigMap, followed when it changes."""
    prefix: Annotated[str, Field(max_length=256)] = ""
    """Put before each file's name, after the ConfigSet's own prefix."""


class Strategy(StrEnum):
    """How a change reaches the clients."""

    ALL = "All"
    CANARY = "Canary"


class CanaryStep(Part):
    """One step of a canary rollout."""

    percent: Annotated[int, Field(ge=1, le=99)]
    """Share of the clients that take part which get the new revision, chosen by a hash of their identity."""
    bake: DurationText = "5m"
    """How long the gates must hold before the next step."""


class PrometheusGate(Part):
    """An error rate, asked of Prometheus."""

    url: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^https?://[^\s]+$")]
    """Its base address."""
    query: Annotated[str, Field(min_length=1, max_length=2048)]
    """A PromQL expression with one number as its answer."""
    max: Annotated[str, Field(max_length=24, pattern=r"^[0-9]+(\.[0-9]+)?$")]
    """The gate fails when the number is above this; no number at all fails it too."""


class HttpGate(Part):
    """A user's own probe."""

    url: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^https?://[^\s]+$")]
    """Asked by GET; any answer but 2xx fails the gate."""
    timeout: Annotated[
        DurationText, Field(json_schema_extra=extra(Rule("duration(self) <= duration('30s')", "must be at most 30s")))
    ] = "5s"
    """How long it may take; at most 30s."""


class Gate(Part):
    """What must hold while a step bakes; a failure rolls back."""

    model_config = rules(
        Rule(
            "has(self.prometheus) != has(self.http)",
            "a gate is either prometheus or http: give exactly one of the two",
        )
    )

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What it is called in status and events."""
    prometheus: PrometheusGate | None = None
    """An error rate."""
    http: HttpGate | None = None
    """A probe."""


class Rollout(Part):
    """How a change reaches the clients."""

    model_config = rules(
        Rule(
            "self.strategy != 'Canary' || self.steps.size() > 0",
            "steps must have at least one step with strategy Canary; use All to change all clients at once",
            ".steps",
        ),
        Rule(
            "self.strategy == 'Canary' || self.steps.size() == 0",
            "steps are for strategy Canary only",
            ".steps",
        ),
        Rule(
            "self.strategy == 'Canary' || self.gates.size() == 0",
            "gates are for strategy Canary only: nothing asks them while all clients change at once",
            ".gates",
        ),
        Rule(
            "self.steps.all(a, self.steps.filter(b, b.percent == a.percent).size() == 1)",
            "steps must have different percents: each step reaches more clients than the one before",
            ".steps",
        ),
    )

    strategy: Strategy = Strategy.ALL
    """All: at once. Canary: by steps, each baked, with a rollback by itself when a gate fails."""
    steps: Annotated[
        tuple[CanaryStep, ...], Field(max_length=8, json_schema_extra=extra(x_kubernetes_list_type="atomic"))
    ] = ()
    """The steps, taken in order of their percent; after the last one all clients follow."""
    gates: Annotated[
        tuple[Gate, ...],
        Field(
            max_length=8,
            json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["name"]),
        ),
    ] = ()
    """All must hold."""


class DriftPolicy(StrEnum):
    """What happens to a key that somebody else changed."""

    CORRECT = "Correct"
    REPORT = "Report"


class ConfigDeletionPolicy(StrEnum):
    """What happens to the keys when the ConfigSet is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class ConfigSetSpec(Part):
    """Keys and values that a cluster shall hold."""

    model_config = rules(
        Rule(
            "(has(self.data) && self.data.size() > 0) || self.files.size() > 0",
            "data or files must name at least one key",
            ".data",
        ),
        Rule("self.clusterRef.name == oldSelf.clusterRef.name", "clusterRef can't change: make another ConfigSet"),
        Rule(
            "self.__namespace__ == oldSelf.__namespace__ && self.prefix == oldSelf.prefix",
            "namespace and prefix can't change: make another ConfigSet and delete this one",
        ),
    )

    cluster_ref: LocalReference
    """The LockCluster, in the same Kubernetes namespace."""
    namespace: Annotated[str, Field(min_length=1, max_length=253, pattern=KEY)]
    """Configuration namespace in the cluster (not one of Kubernetes)."""
    prefix: Annotated[str, Field(max_length=256)] = ""
    """Put before every key. Two ConfigSets must not own one key: the younger is refused with a conflict."""
    data: Annotated[
        dict[str, Annotated[str, Field(max_length=VALUE_BYTES_MAX)]],
        Field(
            max_length=KEYS_MAX,
            json_schema_extra=extra(
                Rule(
                    f"self.all(key, key.size() > 0 && key.size() <= {KEY_SIZE_MAX})",
                    f"data has a key that is empty or longer than {KEY_SIZE_MAX} characters",
                )
            ),
        ),
    ] = Field(default_factory=dict)
    """Keys and their values."""
    files: Annotated[
        tuple[FileSource, ...], Field(max_length=16, json_schema_extra=extra(x_kubernetes_list_type="atomic"))
    ] = ()
    """Keys out of ConfigMaps. A key in `data` wins over the same key here."""
    rollout: Rollout = Rollout()
    """How a change reaches the clients."""
    drift_policy: DriftPolicy = DriftPolicy.CORRECT
    """Correct: a key that somebody else changed is put back. Report: only the condition InSync says so."""
    deletion_policy: ConfigDeletionPolicy = ConfigDeletionPolicy.RETAIN
    """Whether the keys go with the ConfigSet."""
    paused: bool = False
    """Nothing is written, and a rollout stands where it is."""


class Conflict(Part):
    """A key that is not as declared, or that another ConfigSet owns."""

    key: Annotated[str, Field(max_length=768)]
    """The whole key, prefix included."""
    revision: Annotated[int, Field(ge=0)] = 0
    """The revision in which somebody else wrote it."""
    owner: Annotated[str, Field(max_length=253)] = ""
    """The ConfigSet that owns it, if one does."""


class RolloutStatus(Part):
    """A canary rollout that runs, or the last one."""

    step: Annotated[int, Field(ge=0)] = 0
    """Steps done; as many as there are: all clients follow."""
    percent: Annotated[int, Field(ge=0, le=100)] = 100
    """Share of the clients that take part which get `canaryRevision`."""
    since: Timestamp | None = None
    """When this step began."""
    canary_revision: Annotated[int, Field(ge=0)] = 0
    """The revision that is rolled out."""
    stable_revision: Annotated[int, Field(ge=0)] = 0
    """The one that all others get, and that a rollback goes to."""
    failed_gate: Annotated[str, Field(max_length=64)] = ""
    """The gate that ended the last rollout."""


class Running(Part):
    """Who runs what."""

    revision: Annotated[int, Field(ge=0)]
    """The revision that the clients hold."""
    clients: Annotated[int, Field(ge=0)]
    """How many hold it."""


class ConfigSetStatus(Part):
    """What the operator saw and wrote last."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the spec that this speaks of."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16, json_schema_extra=extra(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=["type"])
        ),
    ] = ()
    """Ready, Progressing, InSync, Degraded."""
    revision: Annotated[int, Field(ge=0)] = 0
    """The revision of the last write."""
    applied_hash: Annotated[str, Field(max_length=64)] = ""
    """SHA-256 of all keys and values as written."""
    keys: Annotated[int, Field(ge=0)] = 0
    """How many keys are kept."""
    conflicts: Annotated[
        tuple[Conflict, ...], Field(max_length=CONFLICTS_MAX, json_schema_extra=extra(x_kubernetes_list_type="atomic"))
    ] = ()
    """At most 64 keys that are not as declared."""
    rollout: RolloutStatus = RolloutStatus()
    """The rollout."""
    running: Annotated[
        tuple[Running, ...], Field(max_length=RUNNING_MAX, json_schema_extra=extra(x_kubernetes_list_type="atomic"))
    ] = ()
    """The revisions that clients hold, the newest first, at most 16."""
    message: ShortText = ""
    """What the operator does now, in a few words."""
