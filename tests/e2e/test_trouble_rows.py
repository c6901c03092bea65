"""Rows about links, disks, quotas and a lost majority on a real Kubernetes, each named for its row (`make e2e-all`)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .bed.cluster import Bed
from .product import Json, Product, condition, is_ready, member_at, message, reason, roles
from .test_backups import READ, WRITE, recovery, told_by, wait
from .test_more_scenarios import whole
from .test_scenarios import PROMOTE_AFTER_S, QUICK, SHAPE, follower, kill

pytestmark = pytest.mark.e2e
COOL_DOWN_S = 60
DAMAGE = """cd $(find {volume} -type d -name journal)/.. && first=$(ls journal | head -1) && sync &&
dd if=/dev/urandom of=journal/$first bs=1 seek=1030 count=40 conv=notrunc status=none && sync"""


def place(product: Product, pod: str) -> str:
    """The node where a pod runs."""
    return str(product.get("pod", pod)["spec"]["nodeName"])


def changes_of_role(product: Product) -> int:
    """How often a member has become a witness or a full member, by the operator's events."""
    return len(product.notes("RoleChanged"))


def test_28_a_member_whose_links_flap_changes_roles_at_most_once_per_cool_down(mended: Bed, product: Product) -> None:
    """Cut off a little longer than promoteAfter, back for a few seconds, again and again; the kubelet sees nothing."""
    product.ready(witness={"promoteAfter": f"{PROMOTE_AFTER_S}s", "coolDown": f"{COOL_DOWN_S}s"})
    safe = product.operator_node()
    fulls = [f"locks-{row['ordinal']}" for row in product.status("locks")["members"] if row["role"] == "Full"]
    node = next(name for name in (place(product, pod) for pod in fulls) if name != safe)
    others = [one["metadata"]["name"] for one in mended.get("nodes")["items"] if one["metadata"]["name"] != node]
    product.start_load(safe)
    before, began = changes_of_role(product), time.monotonic()
    for _ in range(6):
        for other in others:
            mended.cut(node, other)
        time.sleep(PROMOTE_AFTER_S + 3)
        for other in others:
            mended.heal(node, other)
        time.sleep(4)
    changes, flapped = changes_of_role(product) - before, time.monotonic() - began
    assert changes <= 2 * (1 + flapped / COOL_DOWN_S)  # a promotion tells of two members: one up, one set aside
    product.wait("locks", "the shape", lambda s: roles(s) == SHAPE and is_ready(s), 3 * COOL_DOWN_S)
    whole(product.end_load())


def test_34_a_member_with_damaged_data_is_replaced_in_place_under_a_new_id(bed: Bed, product: Product) -> None:
    """Bytes of its journal are others: it refuses to start, and after the third time its volume is given up."""
    product.ready(witness=QUICK)
    pod, node = follower(product)
    ordinal = int(pod.rpartition("-")[2])
    old = member_at(product.status("locks"), ordinal)
    volume = product.get("pvc", f"data-{pod}")["spec"]["volumeName"]
    product.start_load()
    path = json.loads(bed.kubectl("get", "pv", volume, "-o", "json"))["spec"]["local"]["path"]
    bed.shell(node, "sh", "-c", DAMAGE.format(volume=path))
    kill(product.kubernetes, product.namespace, pod)
    product.wait("locks", "a new member", lambda s: member_at(s, ordinal) > old and roles(s) == SHAPE, 300)
    product.wait("locks", "Ready", is_ready)
    assert product.get("pvc", f"data-{pod}")["spec"]["volumeName"] != volume
    whole(product.end_load())


def test_40_members_that_were_lost_come_back_after_a_recovery_and_change_nothing(mended: Bed, product: Product) -> None:
    """Two nodes are cut off, their processes run on with the old data; the third goes on by a person's word."""
    before = product.ready(members={"full": 3, "witness": 0}, witness=QUICK)
    saw = told_by(product, "write", "locks", WRITE, "only")
    safe = product.operator_node()
    survivor = next(row["ordinal"] for row in before["members"] if place(product, f"locks-{row['ordinal']}") == safe)
    lost = {f"locks-{n}": place(product, f"locks-{n}") for n in range(3) if n != survivor}
    for node in lost.values():
        mended.unplug(node)
    product.wait("locks", "QuorumLost", lambda s: reason(s, "QuorumAvailable") == "QuorumLost", 120)
    recovery(product, "again", survivor, member_at(before, survivor))
    wait(product, "quorumrecovery", "again", "its beginning", lambda s: s.get("phase") == "Founding")
    # Kubernetes waits for the kubelets' word, which do not answer: a person knows better.
    product.kubectl("delete", "pod", *lost, "--grace-period=0", "--force")
    wait(product, "quorumrecovery", "again", "the new cluster", lambda s: s.get("phase") == "Rejoining")
    for node in lost.values():
        mended.plug(node)
    done = wait(product, "quorumrecovery", "again", "its end", lambda s: s.get("phase") == "Done")
    after = product.ready(members={"full": 3, "witness": 0}, witness=QUICK)
    assert after["clusterId"] == done["newClusterId"] != before["clusterId"]
    assert roles(after) == ["Full/Steady"] * 3
    again = told_by(product, "read", "locks", READ, "only")
    assert (again.revision > saw.revision, again.token > saw.token) == (True, True)


def small(kind: str, **spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "small"}, "spec": spec}


def test_77_a_quota_that_lets_only_two_pods_in_is_told_in_its_words(product: Product) -> None:
    """No more than it may have, and why; whole once there is room."""
    product.apply(small("ResourceQuota", hard={"pods": "2"}))
    product.apply(product.cluster("locks", witness=QUICK))
    product.wait("locks", "the quota's words", lambda s: "exceeded quota: small" in message(s, "Degraded"), 120)
    status = product.status("locks")
    assert (reason(status, "Degraded"), condition(status, "Ready")) == ("PodsNotCreated", "False")
    assert len(product.pods()) == 2
    product.apply(small("ResourceQuota", hard={"pods": "9"}))
    look_again(product)
    product.wait("locks", "Ready", lambda s: is_ready(s) and roles(s) == SHAPE, 240)
    assert condition(product.status("locks"), "Degraded") == "False"


def test_77_a_limit_of_the_namespace_below_the_specs_is_told_in_its_words(product: Product) -> None:
    product.apply(small("LimitRange", limits=[{"type": "Container", "max": {"memory": "100Mi"}}]))
    product.apply(product.cluster("locks", witness=QUICK, resources={"limits": {"memory": "1Gi"}}))
    product.wait("locks", "the limit's words", lambda s: "maximum memory usage" in message(s, "Degraded"), 120)
    assert (reason(product.status("locks"), "Degraded"), product.pods()) == ("PodsNotCreated", {})
    product.kubectl("delete", "limitrange", "small")
    look_again(product)
    product.wait("locks", "Ready", lambda s: is_ready(s) and roles(s) == SHAPE, 240)


def look_again(product: Product) -> None:
    """Its controller backs off for up to 17 minutes; any change of the StatefulSet makes it look at once."""
    product.kubectl("annotate", "statefulset", "locks", "example.com/look=now")
