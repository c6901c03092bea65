"""What a real API server and the operator answer to wrong and to dangerous requests: field and reason, nothing harmful.

The wrong ones are the rows of tests/operator/test_admission.py, which runs them on a stand-in for the API server: here
the stand-in is held to the real one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.operator import test_admission as rows
from tests.operator.admission import admit

from .bed import host
from .kubernetes import Kubernetes
from .product import Json, Product, condition, is_ready, message, reason, roles
from .test_backups import READ, WRITE, told_by
from .test_more_scenarios import changed
from .test_scenarios import QUICK, SHAPE

pytestmark = pytest.mark.e2e
SECONDS_STILL = 30
"""So long nothing may happen that the operator must not do."""


@pytest.fixture(scope="module")
def space(kubernetes: Kubernetes, operator: Product) -> Iterator[Product]:
    """A namespace for objects that are stored only to be changed: their LockClusters are paused."""
    one = Product(kubernetes, "e2e-requests")
    one.begin()
    yield one
    one.end()


def whole(kind: str, body: Json) -> Json:
    spec = {**body["spec"], "paused": True} if kind == "LockCluster" else body["spec"]
    return {"apiVersion": "lockmaster.dev/v1alpha1", "kind": kind, **body, "spec": spec}


def answer(product: Product, kind: str, body: Json, *options: str) -> str:
    """ "" where `kubectl apply` takes it, else what it says."""
    try:
        product.kubectl("apply", "-f", "-", *options, text_in=json.dumps(whole(kind, body)))
    except host.Failed as error:
        return str(error)
    return ""


def wanted(fault: str) -> list[str]:
    """What the real answer must hold of a line of the stand-in: the field, and a rule's own message."""
    path, _, said = fault.partition(": ")
    schema_words = (
        *("does not match", "is not", "is a required", "is less than", "is greater than", "should be non-empty"),
        "Duplicate value",
    )
    path = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)
    return [path.lstrip("."), *([] if any(word in said for word in schema_words) else [said])]


def test_good_objects_are_taken_by_the_api_server(space: Product) -> None:
    told = {f"{kind} {body}": answer(space, kind, body, "--dry-run=server") for kind, body in rows.TAKEN}
    assert {row: said for row, said in told.items() if said} == {}


def test_17_wrong_objects_are_refused_with_field_and_reason(space: Product) -> None:
    wrong = []
    for kind, body, _ in rows.REFUSED:
        said = answer(space, kind, body, "--dry-run=server")
        fault = admit(kind, body)[0]
        if not said or not all(part in said for part in wanted(fault)):
            wrong.append(f"{kind}: {fault!r}: {said!r}")
    assert not wrong, "\n".join(wrong)


def test_7_wrong_changes_are_refused_with_field_and_reason(space: Product) -> None:
    wrong = []
    changes: list[tuple[str, Any, Any]] = [*rows.CHANGES_TAKEN, *(row[:3] for row in rows.CHANGES_REFUSED)]
    for kind, new, old in changes:
        assert answer(space, kind, old) == ""
        said, faults = answer(space, kind, new, "--dry-run=server"), admit(kind, new, old)
        missing = [part for fault in faults for part in wanted(fault) if part not in said]
        if bool(said) != bool(faults) or missing:
            wrong.append(f"{kind}: {faults}: {said!r}")
        space.kubectl("delete", kind.lower(), old["metadata"]["name"])
    assert not wrong, "\n".join(wrong)


def test_kubectl_scale_obeys_the_same_rules(product: Product) -> None:
    """The scale subresource is the number of full members; one that no shape has is refused, and nothing moves."""
    product.ready()
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    for replicas in ("1", "0", "3", "8"):
        with pytest.raises(host.Failed, match=r"full"):
            product.kubectl("scale", "lockcluster", "locks", f"--replicas={replicas}")
    assert product.get("lockcluster", "locks")["spec"]["members"] == {"full": 2, "witness": 1}
    assert changed(product, before) == 0


def still(product: Product, what: str, before: dict[str, str]) -> None:
    """No pod becomes another, or goes, for SECONDS_STILL."""
    with pytest.raises(host.Failed, match="not within"):
        host.wait_until(what, SECONDS_STILL, lambda: changed(product, before) > 0, every=2)


def test_a_rollback_behind_the_gate_touches_nothing_and_says_the_way_out(product: Product) -> None:
    status = product.ready(witness=QUICK)
    assert status["gate"]["level"] == 2
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    product.start_load()
    product.apply(product.cluster("locks", version="0.1.0", witness=QUICK))
    product.wait("locks", "UpgradeBlocked", lambda s: reason(s, "UpgradeBlocked") == "WitnessActive", 60)
    said = message(product.status("locks"), "UpgradeBlocked")
    assert "set members.witness to 0 and keep spec.version until no witness is left" in said
    still(product, "a restart", before)
    product.ready(witness=QUICK)
    seen = product.end_load()
    assert (seen.lost, seen.failures, seen.held, changed(product, before)) == ((), (), True, 0)


def test_a_scale_in_without_margin_waits_until_members_are_back(product: Product, kubernetes: Kubernetes) -> None:
    """Of 3+2 two full members are away: to take two more would take the quorum."""
    five = {"full": 3, "witness": 2}
    slow = {"promoteAfter": "1h"}
    status = product.ready(members=five, witness=slow, seconds=240)
    followers = [row["ordinal"] for row in status["members"] if row["role"] == "Full" and not row["leader"]]
    away = [f"locks-{ordinal}" for ordinal in followers]
    nodes = kubernetes.nodes()
    kubernetes.kubectl("cordon", *nodes)
    try:
        product.kubectl("delete", "pod", *away, "--grace-period=0", "--force")
        product.wait("locks", "no margin", lambda s: s["quorumMargin"] == 0, 60)
        running = {name: pod["metadata"]["uid"] for name, pod in product.pods().items() if name not in away}
        assert len(running) == 3
        product.apply(product.cluster("locks", members={"full": 2, "witness": 1}, witness=slow))
        product.wait("locks", "ShapeWaits", lambda s: reason(s, "Progressing") == "ShapeWaits", 60)
        still(product, "a member that goes", running)
        assert len(product.status("locks")["members"]) == 5
    finally:
        kubernetes.kubectl("uncordon", *nodes)
    product.ready(witness=QUICK, seconds=240)
    assert roles(product.status("locks")) == SHAPE


def test_10_a_deleted_cluster_leaves_its_volumes_and_one_of_the_same_name_takes_them_over(product: Product) -> None:
    """deletionPolicy Retain, the default; with Delete they go."""
    before = product.ready()
    saw = told_by(product, "write", "locks", WRITE, "kept")
    volumes = {one["metadata"]["uid"] for one in product.get("pvc")["items"]}
    product.kubectl("delete", "lockcluster", "locks")
    host.wait_until("the pods are gone", 90, lambda: not product.pods())
    assert {one["metadata"]["uid"] for one in product.get("pvc")["items"]} == volumes
    after = product.ready(deletionPolicy="Delete")
    assert after["clusterId"] == before["clusterId"]
    again = told_by(product, "read", "locks", READ, "kept")
    assert (again.revision > saw.revision, again.token > saw.token) == (True, True)
    product.kubectl("delete", "lockcluster", "locks")
    host.wait_until("the volumes are gone", 90, lambda: not product.get("pvc")["items"])


def test_a_name_that_somebody_else_has_is_told_and_left_alone(product: Product) -> None:
    """The other Service stays what it is until its owner removes it."""
    other = {"selector": {"app": "other"}, "ports": [{"port": 80}]}
    product.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "locks"}, "spec": other})
    product.apply(product.cluster("locks"))
    product.wait("locks", "NameTaken", lambda s: reason(s, "Degraded") == "NameTaken", 90)
    assert "Service locks" in message(product.status("locks"), "Degraded")
    assert product.get("service", "locks")["spec"]["selector"] == {"app": "other"}
    product.kubectl("delete", "service", "locks")
    product.wait("locks", "Ready", is_ready)
    assert condition(product.status("locks"), "Degraded") == "False"
