"""What the operator makes for a cluster, where a story in the simulated world would not notice."""

from __future__ import annotations

from typing import Any

from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.desired.objects import Decided, render
from lockmaster_operator.models.lock_cluster import LockClusterSpec


def objects() -> dict[tuple[str, str], dict[str, Any]]:
    cluster = Cluster("locks", "infra", "uid-1", 1, LockClusterSpec(version="0.2.0"))
    return {(o["kind"], o["metadata"]["name"]): o for o in render(cluster, Settings(), Decided(3, "1Gi", frozenset()))}


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
