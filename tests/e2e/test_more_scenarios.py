"""Scenarios of `make e2e-all` only: gate, rollback, volumes that grow, a scale-out onto volumes of removed members."""

from __future__ import annotations

import json

import pytest

from . import load
from .bed import host
from .bed.cluster import Bed
from .bed.provisioner import node_of
from .kubernetes import Kubernetes
from .product import Product, condition, is_ready, member_at, reason, roles
from .test_scenarios import NEXT_VERSION, QUICK, SHAPE

pytestmark = pytest.mark.e2e
GATE = """
from lockmaster import Client, TLS
from lockmaster.api import admin_pb2
with Client("locks:7420", tls=TLS("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")) as client:
    print("level", client.admin.change_gate(admin_pb2.GATE_OPERATION_DEACTIVATE, 2).level_active)
"""
SMALL = """mkdir -p /run/small && mount -t tmpfs -o size=760m none /run/small && cp -a {path}/. /run/small/ &&
mount --bind /run/small {path} && umount /run/small"""


def whole(seen: load.Seen) -> None:
    assert (seen.lost, seen.failures, seen.held) == ((), (), True)


def test_56_the_gate_opens_by_stages_and_only_then_a_witness_comes(product: Product) -> None:
    """Three full members at level 1, as after an upgrade; then a witness: evidence, FENCE, ACTIVATE, demotion."""
    product.ready(members={"full": 3, "witness": 0}, witness=QUICK)
    assert "level 1" in product.run("gate", GATE, "locks-operator-tls")
    product.start_load()
    product.apply(product.cluster("locks", witness=QUICK))
    product.wait("locks", "Stabilizing", lambda s: reason(s, "WitnessGate") == "Stabilizing", 60)
    status = product.status("locks")
    assert roles(status) == ["Full/Steady"] * 3
    assert [row["level"] for row in status["gate"]["evidence"]] == [2, 2, 2]
    took = product.wait("locks", "a witness", lambda s: roles(s) == SHAPE and is_ready(s), 240)
    assert took > 40  # the stabilization time, less what passed before we looked
    assert product.status("locks")["gate"]["level"] == 2
    whole(product.end_load())


def test_62_an_upgrade_whose_image_is_missing_stops_after_one_pod_and_the_old_one_heals_it(product: Product) -> None:
    product.ready(witness=QUICK)
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    product.start_load()
    missing = product.server_image + "-missing"
    product.apply(product.cluster("locks", version=NEXT_VERSION, image=missing, witness=QUICK))
    product.wait("locks", "Degraded", lambda s: condition(s, "Degraded") == "True", 90)
    with pytest.raises(host.Failed, match="not within"):
        host.wait_until("a second pod", 30, lambda: changed(product, before) > 1, every=2)
    product.ready(witness=QUICK, seconds=180)
    assert changed(product, before) == 1
    whole(product.end_load())


def changed(product: Product, before: dict[str, str]) -> int:
    """How many pods are others than before."""
    after = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    return sum(uid != after.get(name) for name, uid in before.items())


def test_a_paused_upgrade_goes_on_where_it_was(product: Product, kubernetes: Kubernetes) -> None:
    product.ready()
    try:
        new = {"version": NEXT_VERSION, "image": kubernetes.image("server", NEXT_VERSION)}
    except host.Cannot as error:
        pytest.skip(str(error))
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    product.start_load()
    product.apply(product.cluster("locks", **new))
    host.wait_until("the first pod", 60, lambda: changed(product, before) == 1)
    product.apply(product.cluster("locks", **new, paused=True))
    product.wait("locks", "Paused", lambda s: condition(s, "Paused") == "True")
    with pytest.raises(host.Failed, match="not within"):
        host.wait_until("a second pod", 30, lambda: changed(product, before) > 1, every=2)
    product.ready(seconds=180, **new, paused=False)
    assert changed(product, before) == 3
    # Back again: free, as no level is behind it that the older one doesn't know.
    product.ready(seconds=180)
    assert product.status("locks")["version"] != NEXT_VERSION
    whole(product.end_load())


def test_85_volumes_grow_and_no_pod_restarts(product: Product) -> None:
    product.ready()
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    product.start_load()
    product.ready(storage={"size": "2Gi"})

    def grown() -> bool:
        sizes = [one["status"]["capacity"]["storage"] for one in product.get("pvc")["items"]]
        sets = product.get("statefulset")["items"]  # none for a moment: the old one's template can't be changed
        asked = [one["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] for one in sets]
        return sizes == ["2Gi"] * 3 and asked == ["2Gi"]

    host.wait_until("larger volumes", 90, grown, every=1)
    product.wait("locks", "Ready", is_ready)
    assert changed(product, before) == 0
    whole(product.end_load())
    with pytest.raises(host.Failed, match="storage"):
        product.apply(product.cluster("locks", storage={"size": "1Gi"}))


def test_85_volumes_grow_by_themselves_before_one_is_full(bed: Bed, product: Product) -> None:
    """Volumes of the bed share its disk: one is put on a file system of its own, with 0.5 to 0.75 GiB free."""
    storage = {"size": "1Gi", "autoGrow": {"max": "2Gi"}}
    product.ready(storage=storage)
    product.apply(product.cluster("locks", storage=storage, hibernate=True))
    host.wait_until("no pod", 120, lambda: not product.pods())
    volume = json.loads(bed.kubectl("get", "pv", volume_of(product, "locks-1"), "-o", "json"))
    node, path = node_of(volume), volume["spec"]["local"]["path"]
    bed.shell(node, "sh", "-c", SMALL.format(path=path))
    try:
        product.ready(storage=storage, seconds=180)
        product.wait("locks", "the new size", lambda s: s["volumeSize"] == "2Gi", 90)
        product.wait("locks", "Ready", is_ready)
        assert len(product.notes("VolumesGrow")) == 1
        asked = [one["spec"]["resources"]["requests"]["storage"] for one in product.get("pvc")["items"]]
        assert asked == ["2Gi"] * 3
    finally:
        bed.shell(node, "umount", "--lazy", path)


def volume_of(product: Product, pod: str) -> str:
    return str(product.get("pvc", f"data-{pod}")["spec"]["volumeName"])


def test_5_scaled_out_again_removed_identities_do_not_come_back(product: Product) -> None:
    """Volumes are retained: that of ordinal 3 is a removed member's, and is begun blank."""
    five = {"full": 3, "witness": 2}
    product.ready(members=five, witness=QUICK, seconds=240)
    first = [member_at(product.status("locks"), n) for n in (3, 4)]
    product.ready(witness=QUICK, seconds=240)
    product.ready(members=five, witness=QUICK, seconds=300)
    second = [member_at(product.status("locks"), n) for n in (3, 4)]
    assert min(second) > max(first)
