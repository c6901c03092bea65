"""More rows of reference/operators.md §5 on a real Kubernetes, each named for its row (`make e2e-all`)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .bed import host
from .kubernetes import Kubernetes
from .product import SYSTEM, Product, condition, is_ready, message, roles
from .test_more_scenarios import changed, whole
from .test_scenarios import NEXT_VERSION, QUICK, SHAPE, follower, kill

pytestmark = pytest.mark.e2e
FIVE = {"full": 3, "witness": 2}
OPERATOR_ROLE = "e2e-lockmaster-operator"


@pytest.fixture
def second(product: Product, kubernetes: Kubernetes) -> Iterator[Product]:
    """Another namespace beside the test's own."""
    one = Product(kubernetes, f"{product.namespace}-2")
    one.begin()
    yield one
    one.end()


def test_13_a_namespace_deleted_with_all_in_it_does_not_get_stuck(product: Product) -> None:
    """Cluster, load, a backup that waits for its claim: no finalizer of ours is left behind."""
    product.ready()
    backup = {"clusterRef": {"name": "locks"}, "store": {"pvc": {"claimName": "none"}}}
    product.apply(
        {"apiVersion": "lockmaster.dev/v1alpha1", "kind": "LockBackup", "metadata": {"name": "b"}, "spec": backup}
    )
    product.start_load()
    product.end(wait=True)  # raises where it takes longer than 100 s
    assert product.kubernetes.kubectl("get", "namespace", product.namespace, "--ignore-not-found") == ""


def test_22_two_clusters_in_a_namespace_and_one_of_the_same_name_elsewhere_keep_apart(
    product: Product, second: Product
) -> None:
    """Own identities, own pods behind each selector; one whose image is missing delays nobody."""
    product.apply(product.cluster("stuck", image=product.server_image + "-missing"))
    ids = {product.ready()["clusterId"], product.ready("other")["clusterId"], second.ready()["clusterId"]}
    assert len(ids) == 3
    product.wait("stuck", "Degraded", lambda s: condition(s, "Degraded") == "True", 90)
    mine = {name for name in product.pods() if name.startswith("locks-")}
    for budget in product.get("poddisruptionbudgets")["items"]:
        chosen = ",".join(f"{key}={value}" for key, value in budget["spec"]["selector"]["matchLabels"].items())
        names = {one["metadata"]["name"] for one in product.get("pods", "-l", chosen)["items"]}
        assert {name.rsplit("-", 1)[0] for name in names} == {budget["metadata"]["name"]}
    others = {name: pod["metadata"]["uid"] for name, pod in product.pods().items() if name not in mine}
    elsewhere = {name: pod["metadata"]["uid"] for name, pod in second.pods().items()}
    product.kubectl("delete", "lockcluster", "locks")
    host.wait_until("its pods are gone", 90, lambda: not mine & set(product.pods()))
    assert changed(product, others) == changed(second, elsewhere) == 0
    assert is_ready(product.status("other"))
    assert is_ready(second.status("locks"))


def test_37_two_of_five_are_killed_at_once_and_both_come_back(product: Product, kubernetes: Kubernetes) -> None:
    product.ready(members=FIVE, witness=QUICK, seconds=240)
    pod, _ = follower(product)
    witness = next(row["ordinal"] for row in product.status("locks")["members"] if row["role"] == "Witness")
    product.start_load()
    for name in (pod, f"locks-{witness}"):
        kill(kubernetes, product.namespace, name)
        product.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
    product.wait("locks", "not Ready", lambda s: not is_ready(s), 60)
    product.wait("locks", "Ready", lambda s: is_ready(s) and len(roles(s)) == 5, 180)
    assert sorted(roles(product.status("locks"))) == ["Full/Steady"] * 3 + ["Witness/Steady"] * 2
    whole(product.end_load())


def test_50_members_for_which_there_is_no_room_are_told_and_no_voter_is_added(
    product: Product, kubernetes: Kubernetes
) -> None:
    product.ready(witness=QUICK)
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    product.start_load()
    nodes = kubernetes.nodes()
    kubernetes.kubectl("cordon", *nodes)
    try:
        product.apply(product.cluster("locks", members=FIVE, witness=QUICK))
        product.wait("locks", "Unschedulable", lambda s: "Unschedulable" in json.dumps(s.get("conditions")), 90)
        status = product.status("locks")
        # Ordinal 2 is to be full in this shape: its witness may be on its way there. Nobody else has come.
        assert [row["ordinal"] for row in status["members"]] == [0, 1, 2]
        assert condition(status, "QuorumAvailable") == "True"
        assert "locks-3" in message(status, "Degraded") + message(status, "Ready")
    finally:
        kubernetes.kubectl("uncordon", *nodes)
    product.ready(members=FIVE, witness=QUICK, seconds=240)
    assert changed(product, before) == 0
    whole(product.end_load())


def test_61_an_upgrade_and_a_scale_in_by_one_edit_are_done_one_after_the_other(
    product: Product, kubernetes: Kubernetes
) -> None:
    try:
        new = {"version": NEXT_VERSION, "image": kubernetes.image("server", NEXT_VERSION)}
    except host.Cannot as error:
        pytest.skip(str(error))
    product.ready(members=FIVE, witness=QUICK, seconds=240)
    product.start_load()
    status = product.ready(witness=QUICK, seconds=400, **new)
    assert (roles(status), status["version"]) == (SHAPE, NEXT_VERSION)
    whole(product.end_load())


def test_74_a_right_that_is_taken_away_is_named_and_what_it_held_up_goes_on_once_it_is_back(
    product: Product, second: Product, kubernetes: Kubernetes
) -> None:
    """The operator may no longer make budgets: log and event name it, members stay; given back, the budget comes."""
    product.ready()
    second.ready()
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    role = json.loads(kubernetes.kubectl("get", "clusterrole", OPERATOR_ROLE, "-o", "json"))
    less = [
        {**rule, "verbs": ["get", "list", "watch"]} if "poddisruptionbudgets" in rule.get("resources", ()) else rule
        for rule in role["rules"]
    ]
    patch = ("patch", "clusterrole", OPERATOR_ROLE, "--type=merge", "-p")
    budgets, refused = "poddisruptionbudgets", "ApiServerRefused"
    kubernetes.kubectl(*patch, json.dumps({"rules": less}))
    try:
        product.kubectl("delete", "poddisruptionbudget", "locks")
        # The log alone is not enough: it may name them for another test's cluster.
        host.wait_until("the event", 60, lambda: any(budgets in note for note in product.notes(refused)), every=2)
        log = ("-n", SYSTEM, "logs", f"deployment/{OPERATOR_ROLE}", "--since=60s")
        host.wait_until("the log to name it", 30, lambda: budgets in kubernetes.kubectl(*log), every=2)
        assert changed(product, before) == 0
        second.ready(witness=QUICK)  # another cluster's change is made meanwhile
    finally:
        kubernetes.kubectl(*patch, json.dumps({"rules": role["rules"]}))
    host.wait_until("the budget", 120, lambda: bool(product.get("poddisruptionbudgets")["items"]), every=2)
    product.wait("locks", "Ready", is_ready)
    assert changed(product, before) == 0
