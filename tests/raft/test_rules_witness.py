"""Witnesses at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

import pytest
from lockmaster_raft.events import Receive
from lockmaster_raft.ids import Index
from lockmaster_raft.messages import WitnessReport

from .rig import Cluster, header
from .shapes import shaped, write


def refused(cluster: Cluster, **numbers: int) -> int:
    """How many reports of the witness its leader has refused as impossible, after one with these numbers."""
    node = cluster.nodes[1]
    said = {"log_first": 1, "snapshot_min": 0, "ready_index": 0} | numbers
    first, least, ready = (Index(said[name]) for name in ("log_first", "snapshot_min", "ready_index"))
    cluster.step(1, Receive(WitnessReport(header(3, node.term), first, 100, 1000, 1 << 40, least, 0, ready)))
    return node.refusals.get("witness report beyond the leader's log", 0)


@pytest.mark.parametrize("field", ["log_first", "snapshot_min", "ready_index"])
def test_a_report_within_the_leader_s_log_is_taken_and_one_beyond_it_refused(field: str) -> None:
    """A log that is truncated up to its end begins one entry later."""
    cluster = shaped()
    most = write(cluster, 3) + (field == "log_first")
    assert refused(cluster, **{field: most}) == 0
    assert refused(cluster, **{field: most + 1}) == 1


@pytest.mark.parametrize("gone", [4, 5])
def test_a_witness_within_its_budget_again_is_not_pressed_and_the_other_still_is(gone: int) -> None:
    cluster = shaped(3, 2)
    core = cluster.nodes[1]._core
    for witness in (4, 5):
        pressed_report(cluster, witness, 2000)
    assert core.witness_pressed == (4, 5)
    pressed_report(cluster, gone, 1000)  # exactly the budget is within it
    assert core.witness_pressed == tuple(w for w in (4, 5) if w != gone)


def pressed_report(cluster: Cluster, witness: int, log_bytes: int) -> None:
    """A report of this witness with that much log and a budget of 1000 bytes."""
    head = header(witness, cluster.nodes[1].term)
    zero = Index(0)
    cluster.step(1, Receive(WitnessReport(head, Index(1), log_bytes, 1000, 1 << 40, zero, 0, zero)))
