"""Scenario 1 of reference/operators.md §5: helm install, a LockCluster with only what is required, Ready, a lock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from .bed.cluster import Bed
from .kubernetes import Kubernetes
from .product import SYSTEM, Json, Product, condition, is_ready
from .report import Report

pytestmark = pytest.mark.e2e
SETTLE_SECONDS = 45.0
IDLE_SECONDS = 90.0
PROCESSOR = "process_cpu_seconds_total"
WRITES = "lockmaster_operator_status_writes_total"
TAKE = """
from lockmaster import Client, TLS
with Client("locks:7420", tls=TLS("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")) as client:
    with client.lock("orders/42", timeout=20) as held:
        print("token", held.fencing_token)
"""

PORTS = """
from lockmaster import Client, TLS
with Client("locks-leader:7420", tls=TLS("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")) as client:
    with client.lock("orders/43", timeout=20):
        rows = [line.split() for line in open("/proc/net/tcp").read().splitlines()[1:]]
        print("ports", *sorted(int(row[2].split(":")[1], 16) for row in rows if row[3] == "01"))
"""


def token(printed: str) -> int:
    return next(int(line.split()[1]) for line in printed.splitlines() if line.startswith("token "))


@pytest.mark.scenario("install")
def test_1_helm_install_a_lock_cluster_and_a_lock(kubernetes: Kubernetes, operator: Product, report: Report) -> None:
    """From nothing, images present: both charts' work and the first lock by a pod."""
    one = Product(kubernetes, "e2e-first")
    one.end(wait=True)
    one.uninstall()
    began = time.monotonic()
    one.begin()
    installed = time.monotonic() - began
    one.ready()
    seconds = time.monotonic() - began
    assert token(one.run("first", TAKE, "locks-operator-tls")) > 0
    report.figure("helm install to Ready", f"{seconds:.1f} s")
    report.note("install", f"operator {installed:.1f} s, LockCluster {seconds - installed:.1f} s")
    one.end()


@pytest.fixture(scope="module")
def product(kubernetes: Kubernetes, operator: Product) -> Iterator[Product]:
    one = Product(kubernetes, "e2e-install")
    one.begin()
    yield one
    one.end()


@pytest.fixture(scope="module")
def ready(product: Product) -> Json:
    """The status of a LockCluster that has become Ready."""
    product.apply(product.cluster("locks"))
    seconds = product.wait("locks", "Ready", is_ready)
    print(f"apply to Ready: {seconds:.1f} s")
    return product.status("locks")


def test_1_two_full_members_and_a_witness_with_one_leader(ready: Json) -> None:
    roles = sorted((row["role"], row["phase"]) for row in ready["members"])
    assert roles == [("Full", "Steady"), ("Full", "Steady"), ("Witness", "Steady")]
    assert [row["leader"] for row in ready["members"]].count(True) == 1
    assert (ready["observedGeneration"], ready["quorumMargin"], ready["fullCopies"]) == (1, 1, 2)


def test_1_a_pod_takes_a_lock_by_the_sdk_and_tokens_grow(product: Product, ready: Json) -> None:
    first, second = (token(product.run(name, TAKE, "locks-operator-tls")) for name in ("first", "second"))
    assert 0 < first < second


def test_1_the_sdk_in_a_pod_uses_the_session_port(product: Product, ready: Json) -> None:
    """An established connection to it (/proc/net/tcp), docs/decisions/0006."""
    printed = product.run("ports", PORTS, "locks-operator-tls")
    assert "7422" in next(line for line in printed.splitlines() if line.startswith("ports ")).split()


def test_1_kopf_leaves_nothing_on_the_custom_resource(product: Product, ready: Json) -> None:
    metadata = product.get("lockcluster", "locks")["metadata"]
    assert "finalizers" not in metadata
    assert not [name for name in metadata.get("annotations", {}) if "kopf" in name]


def test_2_applied_again_unchanged_nothing_is_written(product: Product, ready: Json) -> None:
    kinds = "statefulset,service,configmap,serviceaccount,networkpolicy,poddisruptionbudget,secret,lockcluster"
    mine = ("-l", "app.kubernetes.io/instance=locks")

    def versions() -> dict[tuple[str, str], str]:
        items = product.get(kinds, *mine)["items"]
        return {(one["kind"], one["metadata"]["name"]): one["metadata"]["resourceVersion"] for one in items}

    before = versions()
    passes = product.passes()
    product.apply(product.cluster("locks"))
    product.kubectl("annotate", "statefulset", "locks", "e2e/poke=1", "--overwrite")
    product.wait_passes(passes + 2)
    after = versions()
    assert len(before) > 10
    changed = {key for key in before if before[key] != after.get(key)}
    assert changed <= {("StatefulSet", "locks")}  # the test's own annotation


def paused(product: Product, value: bool) -> float:
    """The seconds until the operator has followed a change of the spec."""
    product.kubectl("patch", "lockcluster", "locks", "--type=merge", "-p", json.dumps({"spec": {"paused": value}}))
    return product.wait("locks", "Paused", lambda status: condition(status, "Paused") == str(value))


def test_68_the_api_server_restarts_and_its_watches_with_it(bed: Bed, product: Product, ready: Json) -> None:
    bed.restart("kube-apiserver")
    bed.wait_ready()
    print(f"followed {paused(product, True):.1f} s after the API server was back")


def test_the_operator_is_killed_and_goes_on_where_it_was(bed: Bed, product: Product, ready: Json) -> None:
    paused(product, True)
    pod = json.loads(bed.kubectl("-n", SYSTEM, "get", "pods", "-o", "json"))["items"][0]["metadata"]["name"]
    bed.kill_container(SYSTEM, pod, "operator")
    print(f"followed {paused(product, False):.1f} s after the kill")
    product.wait("locks", "Ready", is_ready)


def test_20_a_deleted_service_comes_back_and_no_pod_restarts(product: Product, ready: Json) -> None:
    pods = {one["metadata"]["uid"] for one in product.get("pods", "-l", "app.kubernetes.io/instance=locks")["items"]}
    product.kubectl("delete", "service", "locks-peers")
    product.kubectl("wait", "--for=create", "service/locks-peers", "--timeout=60s")
    product.wait("locks", "Ready", is_ready)
    again = {one["metadata"]["uid"] for one in product.get("pods", "-l", "app.kubernetes.io/instance=locks")["items"]}
    assert again == pods


def test_88_an_uninstall_leaves_the_cluster_and_a_new_install_adopts_it(product: Product, ready: Json) -> None:
    mine = ("pods", "-l", "app.kubernetes.io/instance=locks")
    pods = {one["metadata"]["uid"] for one in product.get(*mine)["items"]}
    product.uninstall()
    assert product.status("locks")["clusterId"] == ready["clusterId"]
    product.install()
    assert paused(product, True) < 60
    paused(product, False)
    product.wait("locks", "Ready", is_ready)
    assert {one["metadata"]["uid"] for one in product.get(*mine)["items"]} == pods


def test_1_an_idle_operator_as_installed(product: Product, ready: Json, report: Report) -> None:
    """One LockCluster that needs nothing: its passes come, and no status is written."""
    time.sleep(SETTLE_SECONDS)
    passes, writes = product.passes(), product.counted(WRITES)
    processor, began = product.counted(PROCESSOR), time.monotonic()
    time.sleep(IDLE_SECONDS)
    share = (product.counted(PROCESSOR) - processor) / (time.monotonic() - began)
    report.figure("idle operator of one real LockCluster", f"{100 * share:.2f} % of a core")
    assert product.passes() > passes
    assert product.counted(WRITES) == writes
