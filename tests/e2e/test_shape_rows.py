"""Rows about a LockCluster's shape on a real Kubernetes, each named for its row (`make e2e-all`)."""

from __future__ import annotations

import time

import pytest

from .bed import host
from .kubernetes import Kubernetes
from .product import Product, condition, is_ready, member_at, reason, roles
from .test_more_scenarios import whole
from .test_scenarios import PROMOTE_AFTER_S, QUICK, SHAPE, follower, kill

pytestmark = pytest.mark.e2e
FIVE = {"full": 3, "witness": 2}
CLIENT = """
from lockmaster import TLS, Client
with Client("locks:7420", tls=TLS("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")) as client:
    """
PUT = CLIENT + 'client.config("n").put("k", b"kept")'
GET = CLIENT + 'print(client.config("n").get("k").value)'


def test_8_a_scale_out_that_is_taken_back_ends_at_the_last_word(product: Product) -> None:
    """Never two changes in flight: the step that runs ends, then the way is the other one."""
    product.ready(witness=QUICK)
    product.start_load()
    product.apply(product.cluster("locks", members=FIVE, witness=QUICK))
    product.wait("locks", "a fourth member", lambda s: len(s["members"]) > 3, 120)
    product.ready(witness=QUICK, seconds=240)
    product.wait("locks", "the shape", lambda s: roles(s) == SHAPE, 240)
    host.wait_until("no pod of more", 90, lambda: len(product.pods()) == 3)
    whole(product.end_load())


def test_14_hibernation_takes_all_pods_and_gives_the_same_members_and_data_back(product: Product) -> None:
    before = product.ready()
    product.run("put", PUT, "locks-operator-tls")
    product.apply(product.cluster("locks", hibernate=True))
    product.wait("locks", "hibernation", lambda s: reason(s, "Ready") == "Hibernated", 120)
    host.wait_until("no pod", 120, lambda: not product.pods())
    claims = {claim["metadata"]["name"] for claim in product.get("pvc")["items"]}
    assert {f"data-locks-{ordinal}" for ordinal in range(3)} <= claims
    after = product.ready(seconds=180)
    assert after["clusterId"] == before["clusterId"]
    ids = [[member_at(status, ordinal) for ordinal in range(3)] for status in (before, after)]
    assert ids[0] == ids[1]
    assert "kept" in product.run("get", GET, "locks-operator-tls")


def test_28_a_member_that_flaps_brings_no_more_than_one_promotion(product: Product, kubernetes: Kubernetes) -> None:
    """Back a second before promoteAfter is over, and away again: nothing; then it stays away for longer, once."""
    product.ready(witness={"promoteAfter": f"{PROMOTE_AFTER_S}s", "coolDown": "10m"})
    pod, node = follower(product)
    product.start_load()
    for _ in range(4):
        kill(kubernetes, product.namespace, pod)
        time.sleep(PROMOTE_AFTER_S - 4)
        assert roles(product.status("locks")) == SHAPE
    kubernetes.kubectl("cordon", node)
    try:
        product.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        product.wait("locks", "promotion", lambda s: "Full/Steady" in roles(s)[2:], 60)
    finally:
        kubernetes.kubectl("uncordon", node)
    product.wait("locks", "the member", lambda s: roles(s) == ["Full/Steady"] * 3, 90)
    changed_at = product.status("locks")["lastRoleChange"]
    for _ in range(3):
        kill(kubernetes, product.namespace, pod)
        time.sleep(PROMOTE_AFTER_S)
    assert product.status("locks")["lastRoleChange"] == changed_at
    whole(product.end_load())


def test_32_a_lost_witness_is_replaced_and_no_data_moves(product: Product) -> None:
    """Its claim and pod are deleted by somebody: a new witness, and the full members stay what they are."""
    product.ready(witness=QUICK)
    status = product.status("locks")
    witness = next(row["ordinal"] for row in status["members"] if row["role"] == "Witness")
    product.start_load()
    product.kubectl("delete", "pvc", f"data-locks-{witness}", "--wait=false")
    product.kubectl("delete", "pod", f"locks-{witness}")
    product.wait("locks", "a new witness", lambda s: member_at(s, witness) > 3 and roles(s) == SHAPE, 120)
    product.wait("locks", "Ready", is_ready)
    others = [ordinal for ordinal in range(3) if ordinal != witness]
    after = product.status("locks")
    assert [member_at(after, ordinal) for ordinal in others] == [member_at(status, ordinal) for ordinal in others]
    whole(product.end_load())


QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "small"},
    "spec": {"hard": {"pods": "2"}},
}


def test_77_a_quota_that_is_too_small_is_named_and_its_end_is_noticed(product: Product) -> None:
    """In a namespace that enforces the restricted pod security, as all of these tests' do."""
    product.apply(QUOTA)
    product.apply(product.cluster("locks"))
    product.wait("locks", "the quota's name", lambda s: "small" in str(s.get("conditions")), 120)
    assert condition(product.status("locks"), "Ready") == "False"
    product.kubectl("delete", "resourcequota", "small")
    product.ready(seconds=180)
    assert roles(product.status("locks")) == SHAPE
