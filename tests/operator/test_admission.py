"""What `kubectl apply` takes and refuses, by the CRDs alone: each bad spec with the message that a person reads."""

from __future__ import annotations

from typing import Any

import pytest
from lockmaster_operator.models.lock_cluster import LockClusterSpec

from .admission import admit, defaulted, schema_of


def cluster(name: str = "locks", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"version": "0.2.0", **spec}}


def config_set(**spec: Any) -> dict[str, Any]:
    base = {"clusterRef": {"name": "locks"}, "namespace": "billing", "data": {"rate": "0.19"}}
    return {"metadata": {"name": "billing"}, "spec": {**base, **spec}}


def recovery(confirmation: str = "recover locks from member 2") -> dict[str, Any]:
    spec = {"clusterRef": {"name": "locks"}, "survivor": {"ordinal": 1, "memberId": 2}, "confirmation": confirmation}
    return {"metadata": {"name": "r"}, "spec": spec}


def backup(**spec: Any) -> dict[str, Any]:
    base = {"clusterRef": {"name": "locks"}, "store": {"pvc": {"claimName": "backups"}}}
    return {"metadata": {"name": "nightly"}, "spec": {**base, **spec}}


def restore(**source: Any) -> dict[str, Any]:
    return {"metadata": {"name": "r"}, "spec": {"clusterRef": {"name": "new"}, "source": source}}


STORE = {"pvc": {"claimName": "backups"}}

SECRETS = {"client": "c", "peer": "p", "operator": "o"}
CANARY: dict[str, Any] = {"strategy": "Canary", "steps": [{"percent": 5}]}
HTTP_GATE: dict[str, Any] = {"name": "g", "http": {"url": "http://probe"}}
TAKEN = [
    ("LockCluster", cluster()),
    ("LockCluster", cluster(members={"full": 3, "witness": 0})),
    ("LockCluster", cluster(members={"full": 3, "witness": 2})),
    ("LockCluster", cluster(members={"full": 5, "witness": 0})),
    ("LockCluster", cluster(members={"full": 4, "witness": 1})),
    ("LockCluster", cluster(members={"full": 5, "witness": 2})),
    ("LockCluster", cluster(version="0.2.0.dev0")),
    ("LockCluster", cluster(version="1.0.0-rc.1")),
    ("LockCluster", cluster(storage={"size": "1.5Ti", "class": "fast", "autoGrow": {"max": "2Ti"}})),
    ("LockCluster", cluster(tls={"mode": "certManager", "issuer": {"name": "ca"}})),
    ("LockCluster", cluster(tls={"mode": "secret", "secrets": {"client": "a", "peer": "b", "operator": "c"}})),
    ("LockCluster", cluster(maintenanceWindow={"start": "02:30", "days": ["Sat", "Sun"]})),
    ("LockCluster", cluster(podTemplate={"env": [{"name": "TZ", "value": "UTC"}, {"name": "A"}]})),
    ("LockCluster", cluster(scheduling={"affinity": {"nodeAffinity": {}}, "tolerations": [{"operator": "Exists"}]})),
    ("LockCluster", cluster(name="a" * 48)),
    ("LockCluster", cluster(config={"telemetry": {"otlpEndpoint": "collector.infra:4317"}})),
    (
        "LockCluster",
        cluster(config={"telemetry": {"otlpEndpoint": "[::1]:65535", "otlpInsecure": True, "traceSampleRatio": "1"}}),
    ),
    ("ConfigSet", config_set()),
    ("ConfigSet", config_set(data={}, files=[{"configMap": {"name": "rates"}}])),
    (
        "ConfigSet",
        config_set(
            rollout={
                "strategy": "Canary",
                "steps": [{"percent": 10}, {"percent": 50, "bake": "10m"}],
                "gates": [{"name": "errors", "prometheus": {"url": "http://p:9090", "query": "up", "max": "0.01"}}],
            }
        ),
    ),
    ("QuorumRecovery", recovery()),
    ("LockBackup", backup()),
    ("LockBackup", backup(schedule="15 2 * * *", retention={"count": 14, "age": "720h"})),
    ("LockCluster", cluster(lockProjection={"enabled": True, "interval": "5s"})),
    ("LockCluster", cluster(auth={"admins": ["eve", "system:serviceaccount:ops:admin"]})),
    ("LockCluster", cluster(auth={"serviceAccounts": {"enabled": False, "audience": "locks"}})),
    ("LockBackup", backup(schedule="@daily")),
    ("LockBackup", backup(schedule="@daily", startingDeadline="10m", deadline="2h", verify=False)),
    ("LockRestore", restore(backupRef={"name": "nightly"})),
    ("LockRestore", restore(store=STORE, archive="locks-20260101.lmb")),
    ("Lock", {"metadata": {"name": "l"}, "spec": {"clusterRef": {"name": "locks"}, "name": "orders/42"}}),
]

REFUSED = [
    ("LockCluster", {"metadata": {"name": "locks"}, "spec": {}}, "'version' is a required property"),
    ("LockCluster", cluster(version="latest"), ".spec.version: 'latest' does not match"),
    ("LockCluster", cluster(version="0.2"), ".spec.version: '0.2' does not match"),
    ("LockCluster", cluster(members={"full": 1, "witness": 0}), ".spec.members.full: 1 is less than"),
    ("LockCluster", cluster(members={"full": -3}), ".spec.members.full: -3 is less than"),
    ("LockCluster", cluster(members={"full": 10**6, "witness": 1}), ".spec.members.full: 1000000 is greater"),
    ("LockCluster", cluster(members={"full": 4, "witness": 0}), ".spec.members.full: full + witness must be odd"),
    ("LockCluster", cluster(members={"full": 2, "witness": 2}), ".full: full must be more than witness"),
    ("LockCluster", cluster(members={"full": 3, "witness": 3}), ".spec.members.witness: 3 is greater"),
    ("LockCluster", cluster(members={"full": 7, "witness": 2}), ".full: full + witness must be at most 7"),
    ("LockCluster", cluster(witness={"promoteAfter": "0s"}), ".spec.witness.promoteAfter: must be at least 1s"),
    ("LockCluster", cluster(witness={"promoteAfter": "25h"}), ".spec.witness.promoteAfter: must be at most 24h"),
    ("LockCluster", cluster(witness={"promoteAfter": "soon"}), ".spec.witness.promoteAfter: 'soon' does not match"),
    ("LockCluster", cluster(witness={"mode": "Sometimes"}), "'Sometimes' is not one of ['Auto', 'Disabled']"),
    ("LockCluster", cluster(storage={"size": "100Mi"}), ".spec.storage.size: size must be at least 1Gi"),
    ("LockCluster", cluster(storage={"size": "ten"}), ".spec.storage.size: 'ten' does not match"),
    ("LockCluster", cluster(storage={"autoGrow": {"max": "5Gi"}}), ".autoGrow: autoGrow.max must be at least size"),
    ("LockCluster", cluster(tls={"mode": "secret"}), ".spec.tls.secrets: secrets must be given with mode secret"),
    ("LockCluster", cluster(tls={"issuer": {"name": "ca"}}), ".spec.tls.issuer: issuer must be given with mode"),
    ("LockCluster", cluster(maintenanceWindow={"start": "24:00"}), "'24:00' does not match"),
    ("LockCluster", cluster(maintenanceWindow={"start": "02:00", "duration": "5m"}), "duration: must be at least 10m"),
    ("LockCluster", cluster(maintenanceWindow={"start": "02:00", "days": []}), ".days: [] should be non-empty"),
    (
        "LockCluster",
        cluster(tls={"mode": "secret", "secrets": SECRETS, "extraNames": ["a.example"]}),
        ".spec.tls.extraNames: extraNames must be in the certificate of your own",
    ),
    ("LockCluster", cluster(podTemplate={"env": [{"name": "A"}, {"name": "A"}]}), ".env: Duplicate value"),
    (
        "LockCluster",
        cluster(podTemplate={"env": [{"name": "LOCKMASTER_ROLE"}]}),
        ".spec.podTemplate.env[0].name: LOCKMASTER_ variables are the operator's",
    ),
    ("LockCluster", cluster(config={"telemetry": {}}), "'otlpEndpoint' is a required property"),
    *(
        (
            "LockCluster",
            cluster(config={"telemetry": {"otlpEndpoint": endpoint}}),
            f".spec.config.telemetry.otlpEndpoint: '{endpoint}' does not match",
        )
        for endpoint in ("", "collector", "http://collector:4317", "collector:65536", "collector:0", "::1:4317")
    ),
    *(
        (
            "LockCluster",
            cluster(config={"telemetry": {"otlpEndpoint": "c:4317", "traceSampleRatio": ratio}}),
            f".spec.config.telemetry.traceSampleRatio: '{ratio}' does not match",
        )
        for ratio in ("1.5", "-1", "1e-3", "all")
    ),
    ("LockCluster", cluster(deletionPolicy="Maybe"), "'Maybe' is not one of ['Retain', 'Delete']"),
    ("LockCluster", cluster(name="a" * 49), "metadata.name must have at most 48 characters"),
    ("LockCluster", cluster(name="4locks"), "metadata.name must begin with a letter"),
    ("LockCluster", cluster(name="a.b"), "metadata.name must begin with a letter"),
    ("ConfigSet", config_set(data={}), ".spec.data: data or files must name at least one key"),
    ("ConfigSet", config_set(data={"": "x"}), ".spec.data: data has a key that is empty"),
    ("ConfigSet", config_set(data={"a" * 513: "x"}), ".spec.data: data has a key that is empty or longer than 512"),
    ("ConfigSet", config_set(data={"a": 1}), "1 is not of type 'string'"),
    ("ConfigSet", config_set(rollout={"strategy": "Canary"}), ".rollout.steps: steps must have at least one step"),
    ("ConfigSet", config_set(rollout={"steps": [{"percent": 5}]}), "steps are for strategy Canary only"),
    (
        "ConfigSet",
        config_set(rollout={"strategy": "Canary", "steps": [{"percent": 5}, {"percent": 5}]}),
        "steps must have different percents",
    ),
    ("ConfigSet", config_set(rollout={"gates": [{"name": "g"}]}), "a gate is either prometheus or http"),
    ("ConfigSet", config_set(rollout={"gates": [HTTP_GATE]}), ".rollout.gates: gates are for strategy Canary only"),
    (
        "ConfigSet",
        config_set(rollout={**CANARY, "gates": [{"name": "g", "http": {**HTTP_GATE["http"], "timeout": "31s"}}]}),
        ".http.timeout: must be at most 30s",
    ),
    ("QuorumRecovery", recovery("yes"), ".spec.confirmation: 'yes' does not match"),
    ("QuorumRecovery", recovery("recover locks from member 3"), "confirmation must be the words"),
    ("QuorumRecovery", recovery("recover other from member 2"), ".spec.confirmation: confirmation must be the words"),
    ("LockBackup", backup(store={}), ".spec.store.pvc: store must have pvc"),
    ("LockBackup", backup(store={"pvc": {"claimName": "b", "path": "../etc"}}), "does not match"),
    ("LockBackup", backup(schedule="whenever"), ".spec.schedule: 'whenever' does not match"),
    ("LockCluster", cluster(lockProjection={"enabled": True, "interval": "1s"}), "interval must be 5s or more"),
    ("LockCluster", cluster(auth={"admins": ["a,b"]}), "'a,b' does not match"),
    (
        "LockCluster",
        cluster(auth={"admins": ["system:serviceaccount:ops"]}),
        ".spec.auth.admins[0]: a ServiceAccount among admins is written system:serviceaccount:NAMESPACE:NAME",
    ),
    ("LockCluster", cluster(auth={"serviceAccounts": {"audience": ""}}), "audience: '' should be non-empty"),
    ("LockCluster", cluster(lockProjection={"max": 1001}), ".spec.lockProjection.max: 1001 is greater than"),
    ("LockBackup", backup(startingDeadline="soon"), ".spec.startingDeadline: 'soon' does not match"),
    ("LockBackup", {**backup(), "metadata": {"name": "b" * 201}}, "metadata.name must have at most 200"),
    ("LockBackup", backup(retention={"count": 0}), ".spec.retention.count: 0 is less than"),
    ("LockRestore", restore(), "source is either backupRef or store"),
    ("LockRestore", restore(backupRef={"name": "b"}, store=STORE), "source is either backupRef or store"),
    ("LockRestore", restore(store=STORE), ".spec.source.archive: archive must be named with store"),
]

CHANGES_TAKEN = [
    ("LockCluster", cluster(members={"full": 3, "witness": 0}), cluster()),
    ("LockCluster", cluster(storage={"size": "20Gi"}), cluster()),
    ("LockCluster", cluster(storage={"size": "10240Mi"}), cluster(storage={"size": "10Gi"})),
    ("LockCluster", cluster(version="0.3.1"), cluster(version="0.2.0")),
    ("LockCluster", cluster(version="0.2.0"), cluster(version="0.3.1")),
    ("LockCluster", cluster(version="1.0.0"), cluster(version="0.9.4")),
    ("ConfigSet", config_set(data={"rate": "0.20"}), config_set()),
    ("LockBackup", backup(suspend=True), backup()),
]

CHANGES_REFUSED = [
    ("LockCluster", cluster(storage={"size": "5Gi"}), cluster(), ".spec.storage.size: size can't shrink"),
    (
        "LockCluster",
        cluster(storage={"class": "slow"}),
        cluster(storage={"class": "fast"}),
        ".spec.storage.class: class can't change",
    ),
    ("LockCluster", cluster(storage={"class": "slow"}), cluster(), ".spec.storage.class: class can't change"),
    ("LockCluster", cluster(), cluster(storage={"class": "fast"}), ".spec.storage.class: class can't change"),
    (
        "LockCluster",
        cluster(tls={"mode": "certManager", "issuer": {"name": "ca"}}),
        cluster(),
        ".spec.tls: mode can't change",
    ),
    ("LockCluster", cluster(version="0.4.0"), cluster(version="0.2.0"), "version must not skip a minor version"),
    ("LockCluster", cluster(version="0.2.0"), cluster(version="0.4.0"), "version must not skip a minor version"),
    ("LockCluster", cluster(version="2.0.0"), cluster(version="0.9.0"), "version must not skip a major version"),
    ("ConfigSet", config_set(namespace="other"), config_set(), "namespace and prefix can't change"),
    ("ConfigSet", config_set(clusterRef={"name": "b"}), config_set(), "clusterRef can't change"),
    (
        "QuorumRecovery",
        {**recovery(), "spec": {**recovery()["spec"], "requestedBy": "me"}},
        recovery(),
        "spec can't change",
    ),
    ("LockBackup", backup(schedule="@daily"), backup(), ".spec.schedule: schedule can't be added"),
    ("LockBackup", backup(store={"pvc": {"claimName": "c"}}), backup(), "store can't change"),
    ("LockRestore", restore(backupRef={"name": "b"}), restore(backupRef={"name": "a"}), "spec can't change"),
]


def named(row: tuple[Any, ...]) -> str:
    return f"{row[0]}: {row[-1]}"[:70] if isinstance(row[-1], str) else row[0]


@pytest.mark.parametrize(("kind", "new"), TAKEN)
def test_good_object_is_taken(kind: str, new: dict[str, Any]) -> None:
    assert admit(kind, new) == []


@pytest.mark.parametrize("row", REFUSED, ids=named)
def test_bad_object_is_refused_naming_field_and_reason(row: tuple[str, dict[str, Any], str]) -> None:
    kind, new, words = row
    faults = admit(kind, new)
    assert any(words in fault for fault in faults), faults


@pytest.mark.parametrize(("kind", "new", "old"), CHANGES_TAKEN)
def test_good_change_is_taken(kind: str, new: dict[str, Any], old: dict[str, Any]) -> None:
    assert admit(kind, new, old) == []


@pytest.mark.parametrize("row", CHANGES_REFUSED, ids=named)
def test_bad_change_is_refused_naming_field_and_reason(row: tuple[str, Any, Any, str]) -> None:
    kind, new, old, words = row
    faults = admit(kind, new, old)
    assert len(faults) == 1
    assert words in faults[0]


def test_defaults_of_the_schema_are_those_of_the_model() -> None:
    """What the API server stores for a minimal spec reads as the model's own defaults."""
    stored = defaulted(schema_of("LockCluster"), cluster())["spec"]
    assert LockClusterSpec.model_validate(stored) == LockClusterSpec(version="0.2.0")
    assert stored["members"] == {"full": 2, "witness": 1}
    assert stored["witness"] == {"mode": "Auto", "promoteAfter": "60s", "coolDown": "10m"}


def test_unknown_fields_of_a_newer_operator_are_ignored() -> None:
    stored = {**cluster()["spec"], "future": {"x": 1}}
    assert LockClusterSpec.model_validate(stored) == LockClusterSpec(version="0.2.0")
