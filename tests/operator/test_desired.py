"""What the operator makes for a cluster, where a story in the simulated world would not notice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from lockmaster.client import surroundings
from lockmaster.server.app import dev_settings
from lockmaster.server.settings import Settings as ServerSettings
from lockmaster_operator.desired.certificates import certificates
from lockmaster_operator.desired.names import LOGIN_PORT_NAME, Cluster, Settings
from lockmaster_operator.desired.objects import Decided, render
from lockmaster_operator.models.lock_cluster import LockClusterSpec, ServiceAccountLogin


def objects(logins: bool = False, authority: str = "", **spec: Any) -> dict[tuple[str, str], dict[str, Any]]:
    asked = LockClusterSpec.model_validate({"version": "0.2.0", **spec})
    cluster, decided = Cluster("locks", "infra", "uid-1", 1, asked), Decided(3, "1Gi", frozenset())
    made = render(cluster, Settings(logins=logins), replace(decided, client_authority=authority))
    return {(o["kind"], o["metadata"]["name"]): o for o in made}


def environment(found: dict[tuple[str, str], dict[str, Any]]) -> dict[str, str]:
    container = found["StatefulSet", "locks"]["spec"]["template"]["spec"]["containers"][0]
    return {one["name"]: one.get("value") for one in container["env"]}


def ports_of(found: dict[tuple[str, str], dict[str, Any]]) -> set[int]:
    """What clients can reach."""
    container = found["StatefulSet", "locks"]["spec"]["template"]["spec"]["containers"][0]
    listened = {one["containerPort"] for one in container["ports"]}
    offered = {one["port"] for one in found["Service", "locks"]["spec"]["ports"]}
    rules = found["NetworkPolicy", "locks"]["spec"]["ingress"]
    everybody = {one["port"] for rule in rules if "from" not in rule for one in rule["ports"]}
    return listened & offered & everybody


def test_login_is_listened_on_offered_and_open_where_it_is_asked_for_and_can_be() -> None:
    found = objects(logins=True, authority="PEM")
    assert ports_of(found) == {7420, 7422, 7424}
    assert environment(found)["LOCKMASTER_LISTEN_LOGIN"] == "0.0.0.0:7424"
    assert environment(found)["LOCKMASTER_LOGIN_AUDIENCE"] == "lockmaster"
    assert found["StatefulSet", "locks"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is True
    access = found["ConfigMap", "locks-access"]["data"]
    assert access == {"ca.crt": "PEM", "endpoints": "locks.infra.svc.cluster.local:7424"}


@pytest.mark.parametrize(("logins", "spec"), [(False, {}), (True, {"auth": {"serviceAccounts": {"enabled": False}}})])
def test_without_login_there_is_no_port_no_token_and_no_access(logins: bool, spec: dict[str, Any]) -> None:
    found = objects(logins, "PEM", **spec)
    assert ports_of(found) == {7420, 7422}
    assert not [name for name in environment(found) if "LOGIN" in name]
    assert found["StatefulSet", "locks"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert ("ConfigMap", "locks-access") not in found


def test_members_send_traces_and_metrics_where_they_are_told_to_and_else_their_pods_have_nothing_of_it() -> None:
    asked = {"otlpEndpoint": "collector.infra:4317", "otlpInsecure": True, "traceSampleRatio": "0.5"}
    found = environment(objects(config={"telemetry": asked}))
    told = {name: value for name, value in found.items() if name not in environment(objects())}
    assert told == {
        "LOCKMASTER_OTLP_ENDPOINT": "collector.infra:4317",
        "LOCKMASTER_OTLP_INSECURE": "true",
        "LOCKMASTER_TRACE_SAMPLE_RATIO": "0.5",
    }
    settings = dev_settings(Path("data"))
    read = {name.removeprefix("LOCKMASTER_").lower(): value for name, value in told.items()}
    known = ServerSettings.model_validate({**settings.model_dump(), **read})
    assert (known.otlp_endpoint, known.otlp_insecure, known.trace_sample_ratio) == ("collector.infra:4317", True, 0.5)


def test_a_pod_finds_its_cluster_by_one_service_alone() -> None:
    found = objects(logins=True)
    named = [n for (kind, n), o in found.items() if kind == "Service" and "lockmaster-login" in str(o)]
    assert named == ["locks"]
    assert ("ConfigMap", "locks-access") not in found  # no authority yet


def test_admins_always_have_the_operator_among_them() -> None:
    assert "LOCKMASTER_ADMINS" not in environment(objects())
    found = objects(auth={"admins": ["eve", "system:serviceaccount:ops:admin"]})
    assert environment(found)["LOCKMASTER_ADMINS"] == "locks-operator-tls,eve,system:serviceaccount:ops:admin"
    wanted = certificates(Cluster("locks", "infra", "u", 1, LockClusterSpec(version="0.2.0")), Settings())
    assert wanted[-1].common_name == "locks-operator-tls"
    assert wanted[-1].names == ()  # so its common name is what it is known by


def test_the_session_port_is_listened_on_named_in_every_service_and_open_to_clients() -> None:
    """docs/decisions/0006: where it cannot be reached the SDK falls back to gRPC, and nobody sees why it is slower."""
    found = objects()
    container = found[("StatefulSet", "locks")]["spec"]["template"]["spec"]["containers"][0]
    listens = {one["name"]: one.get("value") for one in container["env"]}["LOCKMASTER_LISTEN_SESSION"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert (listens, ports["session"]) == ("0.0.0.0:7422", 7422)
    for service in ("locks", "locks-leader", "locks-peers"):
        named = {one["name"]: one["port"] for one in found[("Service", service)]["spec"]["ports"]}
        assert named["session"] == 7422
    rules = found[("NetworkPolicy", "locks")]["spec"]["ingress"]
    everybody = [one["port"] for rule in rules if "from" not in rule for one in rule["ports"]]
    assert everybody == [7420, 7422, 7423]


def test_no_two_ports_of_a_member_are_the_same() -> None:
    container = objects()[("StatefulSet", "locks")]["spec"]["template"]["spec"]["containers"][0]
    ports = [one["containerPort"] for one in container["ports"]]
    assert len(set(ports)) == len(ports) == 4


def test_the_pod_of_the_docs_mounts_what_the_operator_makes_where_a_client_looks() -> None:
    body = yaml.safe_load((Path(__file__).parents[2] / "docs/quick-start/login.yaml").read_text())
    token, config = body["spec"]["volumes"][0]["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] == ServiceAccountLogin().audience
    assert token["serviceAccountToken"]["path"] == "token"
    assert ("ConfigMap", config["configMap"]["name"]) in objects(logins=True, authority="PEM")
    assert body["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] == surroundings.DIRECTORY
    variable = LOGIN_PORT_NAME.upper().replace("-", "_")  # as the kubelet makes it
    assert f"_SERVICE_PORT_{variable}" == surroundings.SERVICE_PORT
