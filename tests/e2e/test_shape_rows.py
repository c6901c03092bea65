"""Rows about a LockCluster's shape on a real Kubernetes, each named for its row (`make e2e-all`)."""

from __future__ import annotations

import pytest

from .bed import host
from .product import Product, is_ready, member_at, reason, roles
from .test_more_scenarios import whole
from .test_scenarios import QUICK, SHAPE

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
