"""The charts: lint, schema of values, rendered templates against snapshots, and what they must never have.

`pytest tests/chart --rewrite-charts` writes the snapshots anew: read the diff. Helm is the bed's (make cluster), or one
on PATH; without it the tests are skipped by name, and what needs none still runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
SNAPSHOTS = Path(__file__).parent / "snapshots"
Json = dict[str, Any]
CASES: dict[str, tuple[str, Json]] = {
    "operator-default": ("lockmaster-operator", {}),
    "operator-namespaces": (
        "lockmaster-operator",
        {
            "namespaces": ["a", "b"],
            "readNodesAndVolumes": False,
            "members": {"tokenReview": False},
            "certManager": True,
            "aggregatedRoles": False,
        },
    ),
    "operator-monitoring": (
        "lockmaster-operator",
        {
            "metrics": {
                "serviceMonitor": True,
                "prometheusRule": True,
                "dashboard": True,
                "labels": {"release": "prometheus"},
                "runbooks": "https://docs.example.com/runbooks",
            },
            "test": {"enabled": False},
            "telemetry": {"otlpEndpoint": "collector.infra:4317", "otlpInsecure": True, "traceSampleRatio": 0.25},
        },
    ),
    "cluster-default": ("lockmaster-cluster", {}),
    "cluster-spec": ("lockmaster-cluster", {"name": "locks", "keep": False, "spec": {"members": {"full": 3}}}),
}

KUBE = ("--kube-version", "1.29.0")
"""The oldest that the charts are for; a Helm from `go build` takes itself for one of an older one."""
BUILT_BY = {"helm": "make cluster builds it", "helm3": 'make e2e-all E2E="-k helm_3" builds it'}


def helm(name: str) -> str:
    """The path of Helm, or a skip. `name`: "helm", Helm 4 or the one on PATH; "helm3", the one before."""
    from tests.e2e.bed.layout import places_from

    cached = sorted(places_from(os.environ, "lmbed").cache.glob(f"programs/{name}-*/{name}"))
    found = shutil.which(name) or (str(cached[-1]) if cached else None)
    if found is None:
        pytest.skip(f"needs {name}: {BUILT_BY[name]}, or put one on PATH")
    return found


def run(*arguments: str, values: Json | None = None, program: str = "helm") -> subprocess.CompletedProcess[str]:
    command = [helm(program), *arguments, *(["-f", "-"] if values is not None else [])]
    text = json.dumps(values) if values is not None else None
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def rendered(chart: str, values: Json, program: str = "helm") -> list[Json]:
    """Every object but the CRDs, which have tests of their own."""
    apis = ("--api-versions", "monitoring.coreos.com/v1")
    done = run("template", "release", str(CHARTS / chart), "-n", "system", *KUBE, *apis, values=values, program=program)
    assert done.returncode == 0, done.stderr
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    return [one for one in found if one["kind"] != "CustomResourceDefinition"]


@pytest.mark.parametrize("program", ["helm", "helm3"])
@pytest.mark.parametrize("chart", ["lockmaster-operator", "lockmaster-cluster"])
def test_lint_is_clean(chart: str, program: str) -> None:
    done = run("lint", "--strict", str(CHARTS / chart), program=program)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("case", sorted(CASES))
def test_rendered_as_in_the_snapshot(case: str, request: pytest.FixtureRequest) -> None:
    shown = yaml.safe_dump_all(rendered(*CASES[case]), sort_keys=True, width=120)
    path = SNAPSHOTS / f"{case}.yaml"
    if request.config.getoption("--rewrite-charts", default=False):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()


@pytest.mark.parametrize("case", sorted(CASES))
def test_helm_3_renders_the_same(case: str) -> None:
    shown = yaml.safe_dump_all(rendered(*CASES[case], program="helm3"), sort_keys=True, width=120)
    assert shown == (SNAPSHOTS / f"{case}.yaml").read_text()


@pytest.mark.parametrize(
    ("chart", "values", "named"),
    [
        ("lockmaster-operator", {"wrkers": 3}, "wrkers"),
        ("lockmaster-operator", {"workers": 0}, "workers"),
        ("lockmaster-operator", {"metrics": {"rules": True}}, "rules"),
        ("lockmaster-operator", {"test": {"timeout": 1}}, "timeout"),
        ("lockmaster-operator", {"metrics": {"runbooks": "docs/operations/runbooks.md"}}, "runbooks"),
        ("lockmaster-operator", {"metrics": {"runbooks": "https://example.com/a#b"}}, "runbooks"),
        ("lockmaster-operator", {"namespaces": ["UPPER"]}, "namespaces"),
        ("lockmaster-operator", {"telemetry": {"otlpEndpoint": "http://collector:4317"}}, "otlpEndpoint"),
        ("lockmaster-operator", {"telemetry": {"traceSampleRatio": 2}}, "traceSampleRatio"),
        ("lockmaster-operator", {"image": {"repository": "x", "digest": "sha256:short"}}, "digest"),
        ("lockmaster-cluster", {"spec": {"version": "1.0.0"}}, "spec"),
        ("lockmaster-cluster", {"spec": {"mmbers": {}}}, "mmbers"),
        ("lockmaster-cluster", {"name": "Locks"}, "name"),
    ],
)
@pytest.mark.parametrize("program", ["helm", "helm3"])
def test_a_wrong_value_is_refused_and_named(chart: str, values: Json, named: str, program: str) -> None:
    done = run("template", "release", str(CHARTS / chart), *KUBE, values=values, program=program)
    assert done.returncode != 0
    assert named in done.stderr


def runbook_urls(**metrics: Any) -> dict[str, str | None]:
    """Alert: its runbook_url, as rendered with these values."""
    objects = rendered("lockmaster-operator", {"metrics": {"prometheusRule": True, **metrics}})
    (rule,) = [one for one in objects if one["kind"] == "PrometheusRule"]
    rows = [row for group in rule["spec"]["groups"] for row in group["rules"]]
    return {row["alert"]: row["annotations"].get("runbook_url") for row in rows}


def test_an_alerts_runbook_url_is_absolute_or_not_there() -> None:
    """A relative one is a path of Alertmanager's own."""
    assert set(runbook_urls().values()) == {None}
    for page in ("https://docs.example.com/runbooks", "http://wiki"):
        found = runbook_urls(runbooks=page)
        assert found == {alert: f"{page}#{alert.lower()}" for alert in found}


def test_the_operator_can_neither_list_secrets_nor_touch_what_it_does_not_own() -> None:
    for role in (one for one in rendered("lockmaster-operator", {}) if one["kind"] in ("ClusterRole", "Role")):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            if "secrets" in rule["resources"] and "helm.sh/hook" in role["metadata"].get("annotations", {}):
                assert (rule["verbs"], len(rule["resourceNames"])) == (["get"], 1)
            elif "secrets" in rule["resources"]:
                assert sorted(rule["verbs"]) == ["create", "get", "patch"]


def test_with_a_list_of_namespaces_there_is_no_right_on_the_whole_cluster() -> None:
    kinds = [one["kind"] for one in rendered(*CASES["operator-namespaces"])]
    assert "ClusterRole" not in kinds
    assert kinds.count("Role") == 4  # the Lease, both namespaces, and what helm test may do in the first


def test_the_operator_may_give_away_the_right_to_review_tokens_and_no_other() -> None:
    made = rendered("lockmaster-operator", {"namespaces": ["a"], "readNodesAndVolumes": False})
    roles = {one["metadata"]["name"]: one["rules"] for one in made if one["kind"] == "ClusterRole"}
    name = "release-lockmaster-operator-token-review"
    given = [(rule["resources"], rule["verbs"]) for rule in roles[name]]
    assert given == [(["tokenreviews"], ["create"])]
    assert [(rule["resources"], rule["verbs"], rule["resourceNames"]) for rule in roles[f"{name}-subjects"]] == [
        (["clusterrolebindings"], ["get", "patch"], [name]),
        (["clusterroles"], ["bind"], [name]),
    ]
    (binding,) = [one for one in made if one["kind"] == "ClusterRoleBinding" and one["metadata"]["name"] == name]
    assert "subjects" not in binding  # an upgrade must leave those that the operator has written


def test_the_crds_are_kept_unless_told_otherwise() -> None:
    for keep in (True, False):
        done = run("template", "release", str(CHARTS / "lockmaster-operator"), values={"crds": {"keep": keep}})
        crds = [one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] == "CustomResourceDefinition"]
        assert len(crds) == 6
        kept = {one["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep" for one in crds}
        assert kept == {keep}


def test_without_prometheus_operator_nothing_of_it_is_rendered_and_the_notes_say_so() -> None:
    values = {"metrics": {"serviceMonitor": True, "prometheusRule": True}}
    done = run("template", "release", str(CHARTS / "lockmaster-operator"), values=values)
    assert done.returncode == 0, done.stderr
    assert "monitoring.coreos.com/v1\n" not in done.stdout
    notes = run(
        "install", "release", str(CHARTS / "lockmaster-operator"), "--dry-run=client", "--hide-secret", values=values
    )
    assert "WARNING: no ServiceMonitor" in notes.stdout, notes.stderr


def test_what_helm_test_makes_goes_with_it() -> None:
    hooks = [
        one for one in rendered("lockmaster-operator", {}) if "helm.sh/hook" in one["metadata"].get("annotations", {})
    ]
    assert [one["kind"] for one in hooks] == ["ServiceAccount", "Role", "RoleBinding", "Pod"]
    assert all("before-hook-creation" in one["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for one in hooks)


ABSENT = {"version"}
"""Of spec, in the CRD and not in the chart's values: `version` is a value of its own, beside spec."""


def test_the_clusters_values_have_every_key_of_spec_and_take_every_name_that_the_crd_does() -> None:
    values = json.loads((CHARTS / "lockmaster-cluster/values.schema.json").read_text())["properties"]
    crd = yaml.safe_load((CHARTS / "lockmaster-operator/files/crds/lockmaster.dev_lockclusters.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert set(values["spec"]["properties"]) == set(schema["properties"]["spec"]["properties"]) - ABSENT
    (longest,) = [rule["rule"] for rule in schema["x-kubernetes-validations"] if "name.size()" in rule["rule"]]
    assert longest == f"self.metadata.name.size() <= {values['name']['maxLength']}"


@pytest.mark.parametrize("create", [True, False])
def test_the_binding_that_login_needs_is_there_whoever_made_the_account(create: bool) -> None:
    values = {"serviceAccount": {"create": create, "name": "mine"}}
    made = {(one["kind"], one["metadata"]["name"]): one for one in rendered("lockmaster-operator", values)}
    (container,) = made["Deployment", "release-lockmaster-operator"]["spec"]["template"]["spec"]["containers"]
    (binding,) = [one["value"] for one in container["env"] if one["name"] == "LOCKMASTER_OPERATOR_LOGIN_BINDING"]
    assert made["ClusterRoleBinding", binding]["roleRef"]["name"] == binding
    assert ("ClusterRole", binding) in made
    assert made["ClusterRoleBinding", f"{binding}-subjects"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "mine", "namespace": "system"}
    ]
    assert (("ServiceAccount", "mine") in made) is create


def test_locks_are_read_by_whoever_may_edit_and_written_by_the_operator_alone() -> None:
    roles = [one for one in rendered("lockmaster-operator", {}) if one["kind"] == "ClusterRole"]
    for role in (one for one in roles if one["metadata"]["name"].endswith(("-view", "-edit"))):
        (verbs,) = [rule["verbs"] for rule in role["rules"] if "locks" in rule["resources"]]
        assert verbs == ["get", "list", "watch"]


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({}, "with a certificate of the authority in Secret locks-client-ca.\n"),
        ({"mode": "operator"}, "with a certificate of the authority in Secret locks-client-ca.\n"),
        (
            {"mode": "certManager", "issuer": {"name": "ours", "kind": "ClusterIssuer"}},
            "with a certificate of ClusterIssuer ours; Secret locks-client-tls has its authority as ca.crt.\n",
        ),
        (
            {"mode": "secret", "secrets": {"client": "c", "peer": "p", "operator": "o"}},
            "with a certificate of the authority that Secret c has as ca.crt.\n",
        ),
    ],
)
def test_the_notes_name_the_authority_that_is_there(tls: Json, words: str) -> None:
    values = {"name": "locks", "spec": {"tls": tls}}
    done = run("install", "release", str(CHARTS / "lockmaster-cluster"), "--dry-run=client", values=values)
    assert words in done.stdout, done.stderr
