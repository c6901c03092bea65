"""The custom resources as Kubernetes takes them: one CustomResourceDefinition per kind, out of the typed models.

Pydantic's JSON Schema becomes a *structural* schema: no $ref, no anyOf, every object and array typed, no null (an
absent field is absent), `default` only where the schema allows the value. Kubernetes' own keywords pass through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lockmaster_operator.models import backups, config_set, lock, lock_cluster, lock_cluster_status, quorum_recovery
from lockmaster_operator.models.part import GROUP, RULES, VERSION, Part, Rule

DEPTH_MAX: Final = 24
"""Nesting of a schema; a model that refers to itself is refused, not followed for ever."""
_KEPT: Final = (
    "type", "format", "description", "properties", "default", "enum", "pattern", "minimum", "maximum", "minLength",
    "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "required", "items", "additionalProperties",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    priority: int = 0
    """0: always shown; 1: with -o wide."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[Part]
    status: type[Part]
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    """Of the whole object."""
    scale: tuple[str, str, str] | None = None
    """Paths of the wanted number, the number there is, and the label selector."""


def condition_path(kind: str) -> str:
    """JSON path of a condition's status."""
    return f'.status.conditions[?(@.type=="{kind}")].status'


_AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
_READY: Final = Column("Ready", condition_path("Ready"))
_CLUSTER: Final = Column("Cluster", ".spec.clusterRef.name")

KINDS: Final = (
    Kind(
        "LockCluster",
        "lockclusters",
        ("lkc",),
        "A cluster of lock servers: full members and witnesses.",
        lock_cluster.LockClusterSpec,
        lock_cluster_status.LockClusterStatus,
        (
            _READY,
            Column("Full", ".status.fullCopies", "integer", "Copies of the state that are there and caught up"),
            Column("Witness", ".status.witnesses", "integer", "Witnesses in the configuration"),
            Column("Leader", ".status.leader", description="Pod of the member that leads"),
            Column("Version", ".status.version", description="The lowest version that runs"),
            Column("Gate", ".status.gate.level", "integer", "The active level; 2 allows witnesses"),
            Column("Margin", ".status.quorumMargin", "integer", "Voters that may fail now without stopping writes"),
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', priority=1),
            _AGE,
        ),
        lock_cluster.ROOT_RULES,
        (".spec.members.full", ".status.fullReplicas", ".status.selector"),
    ),
    Kind(
        "ConfigSet",
        "configsets",
        ("lkcs",),
        "Configuration that a LockCluster shall hold.",
        config_set.ConfigSetSpec,
        config_set.ConfigSetStatus,
        (
            _CLUSTER,
            Column("Namespace", ".spec.namespace", description="Configuration namespace in the cluster"),
            Column("Keys", ".status.keys", "integer"),
            Column("Revision", ".status.revision", "integer"),
            Column(
                "Rollout",
                ".status.rollout.percent",
                "integer",
                "Share of the clients that take part which get the new revision",
            ),
            Column("InSync", condition_path("InSync")),
            _READY,
            _AGE,
        ),
    ),
    Kind(
        "QuorumRecovery",
        "quorumrecoveries",
        ("lkqr",),
        "Goes on from one survivor when a LockCluster has lost its majority for good. Loses what it has not seen.",
        quorum_recovery.QuorumRecoverySpec,
        quorum_recovery.QuorumRecoveryStatus,
        (
            _CLUSTER,
            Column("Survivor", ".spec.survivor.memberId", "integer"),
            Column("Phase", ".status.phase"),
            _READY,
            _AGE,
        ),
    ),
    Kind(
        "LockBackup",
        "lockbackups",
        ("lkb",),
        "Backups of a LockCluster, once or by a schedule.",
        backups.LockBackupSpec,
        backups.LockBackupStatus,
        (
            _CLUSTER,
            Column("Schedule", ".spec.schedule"),
            Column("Last", ".status.last", "date"),
            Column("Archive", ".status.lastArchive", priority=1),
            _READY,
            _AGE,
        ),
        backups.BACKUP_RULES,
    ),
    Kind(
        "LockRestore",
        "lockrestores",
        ("lkr",),
        "A new LockCluster out of a backup.",
        backups.LockRestoreSpec,
        backups.LockRestoreStatus,
        (_CLUSTER, Column("Archive", ".status.archive"), Column("Phase", ".status.phase"), _READY, _AGE),
    ),
    Kind(
        "Lock",
        "locks",
        (),
        "A lock that is held now. Read only: the operator writes it where it was switched on.",
        lock.LockSpec,
        lock.LockStatus,
        (
            _CLUSTER,
            Column("Lock", ".spec.name"),
            Column("Holder", ".status.holder"),
            Column("Pod", ".status.pod"),
            Column("Token", ".status.token", "integer"),
            Column("Since", ".status.since", "date"),
            Column("Waiters", ".status.waiters", "integer"),
        ),
    ),
)


def structural(model: type[Part], *, defaults: bool) -> dict[str, Any]:
    """The model's schema as Kubernetes takes it; `defaults`: the API server fills in what is absent."""
    whole = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(whole, whole.get("$defs", {}), defaults, 0)


def _convert(schema: dict[str, Any], definitions: dict[str, Any], defaults: bool, depth: int) -> dict[str, Any]:
    if depth > DEPTH_MAX:
        raise ValueError(f"a schema nests deeper than {DEPTH_MAX}")
    schema = _resolved(schema, definitions)
    found: dict[str, Any] = {}
    for key in _KEPT:
        value = schema.get(key)
        if value is None or (key in ("properties", "required") and not value):
            continue
        if key == "properties":
            value = {name: _convert(item, definitions, defaults, depth + 1) for name, item in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            value = _convert(value, definitions, defaults, depth + 1)
        elif key == "default":
            if not defaults:
                continue
            if "properties" in found:
                value = _filled(found)
        found[key] = value
    if found.get("additionalProperties") in (True, False):
        del found["additionalProperties"]
    if found.get("type") == "integer":
        found["format"] = "int64"
    if "description" in found:
        found["description"] = " ".join(str(found["description"]).split())
    found.update({key: value for key, value in schema.items() if key.startswith("x-kubernetes-")})
    return found


def _filled(schema: dict[str, Any]) -> dict[str, Any]:
    """The default of a part, out of those of its fields: the API server runs the part's rules on it as it stands."""
    return {name: inner["default"] for name, inner in schema["properties"].items() if "default" in inner}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Without $ref and without the null of an optional field; what stands at the field wins over its type's."""
    for _ in range(DEPTH_MAX):
        if "$ref" in schema:
            inner = definitions[schema["$ref"].rsplit("/", 1)[1]]
            outer = {key: value for key, value in schema.items() if key != "$ref"}
        elif "anyOf" in schema:
            choices = [choice for choice in schema["anyOf"] if choice.get("type") != "null"]
            if len(choices) != 1:
                raise ValueError(f"a structural schema has one type, not {choices}")
            inner = choices[0]
            outer = {key: value for key, value in schema.items() if key != "anyOf"}
        else:
            return schema
        both = [*inner.get(RULES, ()), *outer.get(RULES, ())]
        schema = {**inner, **outer, **({RULES: both} if both else {})}
    raise ValueError("a schema refers to itself")


def custom_resource_definition(kind: Kind) -> dict[str, Any]:
    """The whole CustomResourceDefinition of a kind."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "schema": {"openAPIV3Schema": _root(kind)},
        "subresources": {"status": {}},
    }
    if kind.scale is not None:
        wanted, there, selector = kind.scale
        version["subresources"]["scale"] = {
            "specReplicasPath": wanted,
            "statusReplicasPath": there,
            "labelSelectorPath": selector,
        }
    singular = kind.kind.lower()
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": singular,
        "categories": ["lockmaster"],
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _root(kind: Kind) -> dict[str, Any]:
    root: dict[str, Any] = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this schema."},
            "kind": {"type": "string", "description": "Name of this kind."},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec, defaults=True),
            "status": structural(kind.status, defaults=False),
        },
    }
    if kind.rules:
        root[RULES] = [rule.schema() for rule in kind.rules]
    return root


def _column(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        found["description"] = column.description
    if column.priority:
        found["priority"] = column.priority
    return found
