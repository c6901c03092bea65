"""Scenario 26 of reference/operators.md §5: 2+1, a full pod is gone for longer than promoteAfter, and comes back.

The pod stays away because its node takes no pods, and its volume is there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .bed.cluster import Bed
from .product import Json, Product, is_ready

pytestmark = pytest.mark.e2e
PROMOTE_AFTER_S = 10
HOLD = """
import time
from lockmaster import Client, TLS
with Client("locks:7420", tls=TLS("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")) as client:
    app = client.config("app")
    with client.lock("orders/42", timeout=30) as held:
        token, written, worst, last = held.fencing_token, 0, 0.0, time.monotonic()
        print("holds", token, flush=True)
        end = last + SECONDS
        while time.monotonic() < end:
            app.put("count", str(written).encode())
            now = time.monotonic()
            worst, last, written = max(worst, now - last), now, written + 1
            time.sleep(0.05)
        assert held.fencing_token == token and held.valid
        assert int(app.get("count").value) == written - 1
        print("done", token, written, round(worst, 2), flush=True)
"""


@pytest.fixture(scope="module")
def product(bed: Bed) -> Iterator[Product]:
    one = Product(bed, "e2e-promotion")
    one.remove()
    one.install()
    yield one
    bed.kubectl("uncordon", *(node.name for node in bed.layout.nodes))
    one.remove()


def roles(status: Json) -> list[str]:
    return [f"{row['role']}/{row['phase']}" for row in sorted(status.get("members", ()), key=lambda r: r["ordinal"])]


def test_26_a_witness_is_promoted_while_writes_go_on_and_the_shape_comes_back(product: Product) -> None:
    times = {"promoteAfter": f"{PROMOTE_AFTER_S}s", "coolDown": "5s"}
    product.apply(product.cluster("locks", witness=times))
    product.wait("locks", "Ready", is_ready)
    status = product.status("locks")
    product.start("holder", HOLD.replace("SECONDS", "75"), "locks-operator-tls")
    product.wait_log("holder", "holds")
    victim = next(f"locks-{r['ordinal']}" for r in status["members"] if r["role"] == "Full" and not r["leader"])
    node = product.get("pod", victim)["spec"]["nodeName"]
    product.bed.kubectl("cordon", node)
    product.kubectl("delete", "pod", victim, "--grace-period=5")
    promoted = product.wait("locks", "promotion", lambda s: roles(s)[2:] == ["Full/Steady"], 60)
    assert product.status("locks")["quorumMargin"] == 0
    assert product.get("pdb", "locks")["spec"]["maxUnavailable"] == 0
    product.bed.kubectl("uncordon", node)
    restored = product.wait("locks", "the shape", lambda s: roles(s) == ["Full/Steady"] * 2 + ["Witness/Steady"], 90)
    product.wait("locks", "Ready", is_ready)
    done = product.wait_log("holder", "done")
    print(f"promoted {promoted:.1f} s after the pod was deleted, shape {restored:.1f} s after its return; {done}")
