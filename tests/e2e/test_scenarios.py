"""The scenarios of `make e2e` on one operator, each under load: a lock held throughout, puts and short locks.

Rows of reference/operators.md §5 are named. A pod stays away because its node takes no pods and its volume is there and
nowhere else: on the bed volumes are local.
"""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest

from .bed import host
from .bed.cluster import Bed
from .kubernetes import Kubernetes, OnBed
from .load import Seen, percentile
from .product import SYSTEM, Product, condition, is_ready, member_at, roles
from .report import Report

pytestmark = pytest.mark.e2e
PROMOTE_AFTER_S = 10
QUICK = {"promoteAfter": f"{PROMOTE_AFTER_S}s", "coolDown": "5s"}
SHAPE = ["Full/Steady", "Full/Steady", "Witness/Steady"]
NEXT_VERSION = "0.3.0"


def judge(report: Report, name: str, seen: Seen) -> None:
    """Into the report; then what every scenario promises."""
    report.operations(len(seen.puts), len(seen.lost), len(seen.failures))
    report.note(name, f"{len(seen.puts):,} writes, {seen.locks:,} locks, longest gap {seen.worst() * 1e3:.0f} ms")
    assert seen.lost == ()
    assert seen.failures == ()
    assert seen.held


def follower(product: Product) -> tuple[str, str]:
    """Pod and node of a full member that doesn't lead."""
    rows = product.status("locks")["members"]
    pod = next(f"locks-{row['ordinal']}" for row in rows if row["role"] == "Full" and not row["leader"])
    return pod, product.get("pod", pod)["spec"]["nodeName"]


def kill(kubernetes: Kubernetes, namespace: str, pod: str) -> None:
    """SIGKILL, where that can be: even a forced delete first runs the pre-stop hook, which hands the lead over."""
    if isinstance(kubernetes, OnBed):
        kubernetes.bed.kill_container(namespace, pod, "lockmaster")


@pytest.mark.scenario("promotion")
def test_26_a_witness_is_promoted_while_writes_go_on_and_the_shape_comes_back(
    product: Product, kubernetes: Kubernetes, report: Report
) -> None:
    """The leader's pod goes: an election, then the promotion."""
    product.ready(witness=QUICK)
    pod = product.status("locks")["leader"]
    node = product.get("pod", pod)["spec"]["nodeName"]
    product.start_load()
    kubernetes.kubectl("cordon", node)
    try:
        gone = time.time()
        kill(kubernetes, product.namespace, pod)
        product.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        promoted = product.wait("locks", "promotion", lambda s: "Full/Steady" in roles(s)[2:], 60)
        assert product.status("locks")["quorumMargin"] == 0
        assert product.get("pdb", "locks")["spec"]["maxUnavailable"] == 0
    finally:
        kubernetes.kubectl("uncordon", node)
    restored = product.wait("locks", "the shape", lambda s: roles(s) == SHAPE, 90)
    product.wait("locks", "Ready", is_ready)
    seen = product.end_load()
    report.figure("promotion: writes pause", f"{seen.worst(gone, gone + promoted):.2f} s")
    report.figure("promotion: witness promoted", f"{promoted:.1f} s")
    report.note("promotion", f"shape back {restored:.1f} s after the pod")
    judge(report, "promotion", seen)


@pytest.mark.scenario("rolling upgrade")
def test_52_an_upgrade_takes_followers_first_and_the_leader_last(
    product: Product, kubernetes: Kubernetes, report: Report
) -> None:
    """N to N+1; the leader's restart comes after a transfer, so no step costs more than that."""
    product.ready()
    try:
        image = kubernetes.image("server", NEXT_VERSION)
    except host.Cannot as error:
        pytest.skip(str(error))
    leader, before = product.status("locks")["leader"], product.pods()
    product.start_load()
    product.apply(product.cluster("locks", version=NEXT_VERSION, image=image))
    took = product.wait("locks", "the upgrade", lambda s: s["version"] == NEXT_VERSION and is_ready(s), 240)
    seen, after = product.end_load(), product.pods()
    assert all(after[name]["metadata"]["uid"] != pod["metadata"]["uid"] for name, pod in before.items())
    made = sorted((started(pod), name) for name, pod in after.items())
    assert made[-1][1] == leader
    begins = [at - 3 for at, _ in made]
    gaps = [seen.gaps(begin, end) for begin, end in zip(begins, [*begins[1:], float("inf")])]
    worst = max(percentile(step, 0.99) for step in gaps)
    report.figure("upgrade: write gap p99 of the worst step", f"{worst * 1e3:.0f} ms")
    shown = [f"{percentile(step, 0.99) * 1e3:.0f}/{max(step) * 1e3:.0f}" for step in gaps]
    steps = ", ".join(f"{name} {text}" for (_, name), text in zip(made, shown))
    report.note("rolling upgrade", f"{took:.0f} s; gap p99/longest in ms: {steps}")
    judge(report, "rolling upgrade", seen)


def started(pod: dict[str, object]) -> float:
    """When the pod object was made, seconds since 1970."""
    metadata = pod["metadata"]
    assert isinstance(metadata, dict)
    return datetime.fromisoformat(metadata["creationTimestamp"].replace("Z", "+00:00")).timestamp()


@pytest.mark.scenario("scale 2+1, 3+2, 2+1")
def test_4_scale_out_and_in_again(product: Product, report: Report) -> None:
    """One member at a time; ids of removed members never come back."""
    product.ready(witness=QUICK)
    product.start_load()
    began = time.monotonic()
    product.ready(members={"full": 3, "witness": 2}, witness=QUICK, seconds=240)
    out = time.monotonic() - began
    rows = product.status("locks")["members"]
    assert roles(product.status("locks")) == ["Full/Steady"] * 3 + ["Witness/Steady"] * 2
    began = time.monotonic()
    product.ready(witness=QUICK, seconds=240)
    assert roles(product.status("locks")) == SHAPE
    seen = product.end_load()
    host.wait_until("pods gone", 60, lambda: sorted(product.pods()) == ["locks-0", "locks-1", "locks-2"])
    assert max(row["memberId"] for row in rows) == 5
    report.note("scale 2+1, 3+2, 2+1", f"out {out:.0f} s, in {time.monotonic() - began:.0f} s")
    judge(report, "scale 2+1, 3+2, 2+1", seen)


@pytest.mark.scenario("drain")
def test_46_a_drain_hands_over_and_a_second_one_waits(product: Product, kubernetes: Kubernetes, report: Report) -> None:
    """The leader's node is drained: a hand-over, not an election; a second eviction is refused while it is away."""
    status = product.ready()
    nodes = {name: pod["spec"]["nodeName"] for name, pod in product.pods().items()}
    first = nodes[status["leader"]]
    other = next(node for node in nodes.values() if node != first)
    product.start_load()
    members = "--pod-selector=app.kubernetes.io/component=member"
    drain = ("drain", "--ignore-daemonsets", "--delete-emptydir-data", members)
    try:
        began = time.time()
        kubernetes.kubectl(*drain, first, "--timeout=60s", seconds=70)
        drained = time.time() - began
        with pytest.raises(host.Failed, match=r"(?i)disruption budget|timed out|timeout"):
            kubernetes.kubectl(*drain, other, "--timeout=8s")
    finally:
        kubernetes.kubectl("uncordon", first, other)
    product.wait("locks", "Ready", is_ready)
    seen = product.end_load()
    report.note("drain", f"drained in {drained:.1f} s, a second drain waited")
    judge(report, "drain", seen)


@pytest.mark.scenario("node loss")
def test_47_a_node_loses_power_and_comes_back(mended: Bed, product: Product, report: Report) -> None:
    """Not the operator's node nor the load's: what is tested is the members. Full member and volume come back."""
    product.ready(witness=QUICK)
    safe = product.operator_node()
    pods = {f"locks-{row['ordinal']}" for row in product.status("locks")["members"] if row["role"] == "Full"}
    places = {product.get("pod", pod)["spec"]["nodeName"]: pod for pod in sorted(pods)}
    node = next(name for name in places if name != safe)
    product.start_load(safe)
    mended.power_off(node)
    promoted = product.wait("locks", "promotion", lambda s: roles(s)[2:] == ["Full/Steady"], 90)
    mended.power_on(node)
    mended.wait_node(node, ready=True)
    restored = product.wait("locks", "the shape", lambda s: roles(s) == SHAPE, 120)
    product.wait("locks", "Ready", is_ready)
    seen = product.end_load()
    report.note("node loss", f"promoted {promoted:.1f} s after the cut, shape back {restored:.1f} s after the boot")
    judge(report, "node loss", seen)


@pytest.mark.scenario("operator and API server")
def test_68_the_operator_is_killed_and_the_api_server_goes_away(mended: Bed, product: Product, report: Report) -> None:
    """The members don't notice; afterwards the operator follows the spec as before."""
    product.ready()
    product.start_load()
    pods = json.loads(mended.kubectl("-n", SYSTEM, "get", "pods", "-o", "json"))["items"]
    mended.kill_container(SYSTEM, pods[0]["metadata"]["name"], "operator")
    mended.stop("kube-apiserver")
    time.sleep(15)
    mended.start("kube-apiserver")
    mended.wait_ready()
    before = product.pods()
    product.apply(product.cluster("locks", paused=True))
    followed = product.wait("locks", "Paused", lambda status: condition(status, "Paused") == "True")
    product.apply(product.cluster("locks", paused=False))
    product.wait("locks", "Ready", lambda status: condition(status, "Paused") == "False" and is_ready(status))
    seen = product.end_load()
    uids = {name: pod["metadata"]["uid"] for name, pod in before.items()}
    assert {name: pod["metadata"]["uid"] for name, pod in product.pods().items()} == uids
    report.note("operator and API server", f"15 s of outage, spec followed {followed:.1f} s after it")
    judge(report, "operator and API server", seen)


@pytest.mark.scenario("replaced volume")
def test_35_a_deleted_claim_is_replaced_in_place_under_a_new_id(product: Product, report: Report) -> None:
    """Claim and pod of a full member are deleted by somebody: same ordinal, new id, one joint change."""
    product.ready()
    pod, _ = follower(product)
    ordinal = int(pod.rpartition("-")[2])
    old = member_at(product.status("locks"), ordinal)
    product.start_load()
    product.kubectl("delete", "pvc", f"data-{pod}", "--wait=false")
    product.kubectl("delete", "pod", pod)
    took = product.wait("locks", "a new member", lambda s: member_at(s, ordinal) > 3 and roles(s) == SHAPE, 120)
    product.wait("locks", "Ready", is_ready)
    seen = product.end_load()
    assert old not in [row["memberId"] for row in product.status("locks")["members"]]
    report.note("replaced volume", f"{took:.0f} s")
    judge(report, "replaced volume", seen)
