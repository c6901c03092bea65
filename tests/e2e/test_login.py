"""Login by ServiceAccount token and pod-bound sessions (docs/authentication.md) with real tokens, kubelets and pods."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
import yaml
from lockmaster_operator.host.pod_sessions import INTERVAL_S
from lockmaster_operator.plan import RESYNC_S

from .bed import host
from .bed.cluster import Bed
from .kubernetes import Kubernetes, OnBed
from .product import ROOT, Json, Product

pytestmark = pytest.mark.e2e
WORKER = ROOT / "docs" / "quick-start" / "login.yaml"
TTL_S = 600
"""Of sessions that must not end by their TTL."""
AT_ONCE_S = 15.0
"""A kubelet's word on its way, a look of the operator's, the lock-delay."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
SEEN_S = RESYNC_S + INTERVAL_S + 5
"""Until the operator has heard of a session and looked at it: a pass over its cluster, and a look."""
HOLD = f"""
import time
from lockmaster import Client
with Client(ttl={TTL_S}) as client:
    held = client.lock("orders/42", timeout=20).acquire()
    print("holds", held.fencing_token)
    time.sleep({TTL_S})
"""
WAIT = """
from lockmaster import Client
with Client() as client:
    print("waits")
    with client.lock("orders/42", timeout=300) as held:
        print("took", held.fencing_token)
"""
KNOCK = """
from lockmaster import Client, PermissionDenied
with Client() as client:
    try:
        client.lock("orders/42", timeout=30).acquire()
    except PermissionDenied as error:
        print("refused", error)
"""


def worker(product: Product, name: str, code: str = "", *, node: str = "", token: Json | None = None) -> Json:
    """The pod of the docs, with another program, node, or source of its token."""
    body: Json = copy.deepcopy(yaml.safe_load(WORKER.read_text()))
    body["metadata"]["name"] = name
    spec: Any = body["spec"]
    spec["terminationGracePeriodSeconds"] = 0
    spec["containers"][0]["image"] = product.server_image
    if code:
        spec["containers"][0]["args"] = [code]
    if node:
        spec["nodeName"] = node
    if token is not None:
        spec["volumes"][0]["projected"]["sources"][0] = token
    return body


def line(product: Product, pod: str, word: str) -> int:
    """The number behind a word of a pod's log, once it is there."""
    return int(product.wait_log(pod, word).split()[1])


def test_a_pod_without_any_settings_takes_a_lock_with_its_token(product: Product) -> None:
    product.ready()
    product.apply(worker(product, "worker"))
    assert "fencing token" in product.wait_log("worker", "0 s: held")
    env = {name.partition("=")[0] for name in product.kubectl("exec", "worker", "--", "env").splitlines()}
    assert not {name for name in env if name.startswith("LOCKMASTER_") and "SERVICE" not in name}


def test_the_session_of_a_killed_pod_that_is_deleted_by_force_ends_at_once(
    product: Product, kubernetes: Kubernetes
) -> None:
    if not isinstance(kubernetes, OnBed):
        pytest.skip("kills a process on a node: the bed's alone")
    product.ready()
    product.apply(worker(product, "holder", HOLD))
    first = line(product, "holder", "holds")
    product.apply(worker(product, "waiter", WAIT))
    product.wait_log("waiter", "waits")
    time.sleep(SEEN_S)  # the operator has seen the session and watches its namespace
    kubernetes.bed.kill_container(product.namespace, "holder")
    product.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/holder", "--timeout=30s")
    product.kubectl("delete", "pod", "holder", "--force", "--grace-period=0")
    began = time.monotonic()
    assert line(product, "waiter", "took") > first
    assert time.monotonic() - began < AT_ONCE_S
    assert any("all containers have terminated" in note for note in product.notes("PodSessionEnded"))


def test_a_forced_delete_on_a_cut_off_node_ends_nothing_until_the_node_is_out_of_service(
    product: Product, mended: Bed
) -> None:
    product.ready()
    node = next(one.name for one in mended.layout.nodes if one.name != product.operator_node())
    product.apply(worker(product, "holder", HOLD, node=node))
    first = line(product, "holder", "holds")
    others = [one.name for one in mended.layout.nodes if one.name != node]
    product.apply(worker(product, "waiter", WAIT, node=others[0]))
    product.wait_log("waiter", "waits")
    time.sleep(SEEN_S)
    mended.power_off(node)
    mended.wait_node(node, ready=False)
    product.kubectl("delete", "pod", "holder", "--force", "--grace-period=0")
    with pytest.raises(host.Failed, match="not within"):
        host.wait_until("a session that ends", 30, lambda: bool(product.notes("PodSessionEnded")), every=2)
    began = time.monotonic()
    mended.kubectl("taint", "node", node, f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute")
    try:
        assert line(product, "waiter", "took") > first
        assert time.monotonic() - began < AT_ONCE_S
        assert any("out of service" in note for note in product.notes("PodSessionEnded"))
    finally:
        mended.kubectl("taint", "node", node, f"{OUT_OF_SERVICE}-")


def test_tokens_of_another_audience_and_tokens_that_are_over_are_refused(product: Product) -> None:
    """An expired one is refused by the same word of the API server as one whose pod is gone, and that takes no ten
    minutes, the least that a token lives."""
    product.ready()
    other = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 3600}}
    product.apply(worker(product, "other", KNOCK, token=other))
    assert "audience" in product.wait_log("other", "refused")
    product.apply(worker(product, "short", "import time; time.sleep(600)"))
    token = product.kubectl(
        "create", "token", "default", "--audience=lockmaster", "--bound-object-kind=Pod", "--bound-object-name=short"
    ).strip()
    product.kubectl("delete", "pod", "short", "--force", "--grace-period=0")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "over"}, "stringData": {"token": token}}
    product.kubectl("apply", "-f", "-", text_in=json.dumps(secret))
    product.apply(worker(product, "over", KNOCK, token={"secret": {"name": "over"}}))
    assert "does not accept" in product.wait_log("over", "refused")
