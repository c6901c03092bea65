"""What the provisioner decides from claims, volumes and classes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from .provisioner import PROVISIONER, SELECTED_NODE, Create, Grow, Remove, decide, size_bytes

CLASS = {"metadata": {"name": "bed"}, "provisioner": PROVISIONER, "reclaimPolicy": "Delete"}
FOREIGN = {"metadata": {"name": "fast"}, "provisioner": "example.dev/x", "reclaimPolicy": "Delete"}


def claim(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "metadata": {"name": "data-0", "namespace": "a", "uid": "u1", "annotations": {SELECTED_NODE: "n2"}},
        "spec": {
            "storageClassName": "bed",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
        "status": {"phase": "Pending"},
    }
    for path, value in changes.items():
        part, _, key = path.partition("_")
        found[part][key] = value
    return found


def volume_of(owner: dict[str, Any]) -> dict[str, Any]:
    (action,) = decide([owner], [], [CLASS], "/v")
    assert isinstance(action, Create)
    return copy.deepcopy(action.volume)


def test_a_claim_whose_pod_is_scheduled_gets_a_volume_on_that_node_only() -> None:
    (action,) = decide([claim()], [], [CLASS, FOREIGN], "/v")
    assert isinstance(action, Create)
    assert action.node == "n2"
    spec = action.volume["spec"]
    assert spec["local"] == {"path": "/v/pvc-u1"}
    assert spec["claimRef"]["uid"] == "u1"
    assert spec["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["n2"]


def test_a_claim_waits_for_its_pod() -> None:
    waiting = claim()
    del waiting["metadata"]["annotations"][SELECTED_NODE]
    assert decide([waiting], [], [CLASS], "/v") == []


def test_claims_of_another_class_or_of_none_are_left_alone() -> None:
    without = claim()
    del without["spec"]["storageClassName"]
    assert decide([claim(spec_storageClassName="fast"), without], [], [CLASS, FOREIGN], "/v") == []


def test_a_claim_that_has_its_volume_gets_no_second_one() -> None:
    assert decide([claim()], [volume_of(claim())], [CLASS], "/v") == []


def test_a_released_volume_goes_with_its_directory() -> None:
    volume = volume_of(claim())
    volume["status"] = {"phase": "Released"}
    assert decide([], [volume], [CLASS], "/v") == [Remove("n2", "pvc-u1")]


def test_a_released_volume_that_is_retained_or_foreign_stays() -> None:
    retained = volume_of(claim())
    retained["status"] = {"phase": "Released"}
    foreign = copy.deepcopy(retained)
    retained["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
    foreign["metadata"]["annotations"] = {}
    assert decide([], [retained, foreign], [CLASS], "/v") == []


def test_a_claim_that_asks_for_more_grows_and_never_shrinks() -> None:
    volume = volume_of(claim())
    bound = claim(status_phase="Bound", status_capacity={"storage": "1Gi"})
    bound["spec"]["resources"]["requests"]["storage"] = "1536Mi"
    assert decide([bound], [volume], [CLASS], "/v") == [Grow("pvc-u1", "a", "data-0", "1536Mi")]
    bound["spec"]["resources"]["requests"]["storage"] = "512Mi"
    assert decide([bound], [volume], [CLASS], "/v") == []


@pytest.mark.parametrize(
    ("quantity", "size"), [("1Gi", 1 << 30), ("1.5Gi", 3 << 29), ("500M", 500_000_000), ("42", 42), ("2k", 2000)]
)
def test_quantities(quantity: str, size: int) -> None:
    assert size_bytes(quantity) == size
