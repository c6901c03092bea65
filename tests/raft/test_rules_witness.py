"""Witnesses at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import RaftConfig
from lockmaster_raft.events import Receive
from lockmaster_raft.ids import Index, Term
from lockmaster_raft.membership import Configuration, MemberPhase, MemberRole
from lockmaster_raft.messages import InstallAnchor, InstallSnapshotReply, WitnessReport
from lockmaster_raft.ready import Role

from .rig import Cluster, Rig, append, base, config_entry, entries, header, member
from .shapes import shaped, write
from .test_witness import TWO_ONE, cover


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


# --- truncation ------------------------------------------------------------------------------------------------------


def keeping(retained: int, budget: int = 1 << 30, count: int = 400) -> Rig:
    """A witness with a log from 2 to `count`, all of it committed under leader 1 of term 2."""
    config = RaftConfig(retained_entries_min=retained, witness_log_bytes_max=budget)
    log = entries(2, *[1] * (count - 1))
    rig = Rig(start=base(TWO_ONE, level=2), log=log, node_id=3, has_state=False, config=config, term=2)
    rig.receive(replace(append(1, 2, (count, 1), commit=count), header=header(1, 2, 3)))
    return rig


@pytest.mark.parametrize(("covered", "log_first"), [(90, 2), (91, 12)])
def test_without_pressure_a_witness_truncates_by_an_eighth_of_what_it_retains_at_least(
    covered: int, log_first: int
) -> None:
    rig = keeping(80)
    cover(rig, 2, covered)
    assert rig.node.log_first == log_first


def test_a_witness_writes_no_base_where_its_log_begins_already() -> None:
    rig = keeping(1)
    cover(rig, 2, 2)
    assert rig.ready.persist is None or rig.ready.persist.base is None


def test_under_pressure_three_quarters_of_the_budget_are_kept() -> None:
    """To the precision of a mark, 128 entries of 49 bytes."""
    rig = keeping(10_000, 15_000)
    cover(rig, 2, 400)
    assert rig.node.log_first == 257


def with_phase(phase: MemberPhase) -> Configuration:
    return TWO_ONE.with_member(member(3, role=MemberRole.WITNESS, phase=phase))


@pytest.mark.parametrize(
    ("committed", "latest"),
    [(MemberPhase.STEADY, MemberPhase.PROMOTING), (MemberPhase.PROMOTING, MemberPhase.STEADY)],
)
def test_i9_a_witness_whose_promotion_begins_or_ends_uncommitted_truncates_nothing(
    committed: MemberPhase, latest: MemberPhase
) -> None:
    log = [*entries(2, *[1] * 58), config_entry(60, 1, replace(with_phase(latest), epoch=9))]
    config = RaftConfig(retained_entries_min=1)
    rig = Rig(start=base(with_phase(committed), level=2), log=log, node_id=3, has_state=False, config=config, term=2)
    rig.receive(replace(append(1, 2, (60, 1), commit=59), header=header(1, 2, 3)))
    cover(rig, 2, 40)
    assert rig.node.commit_index == 59
    assert rig.node.log_first == 2


# --- anchors ---------------------------------------------------------------------------------------------------------


def anchor(term: int, index: int, configuration: Configuration, receiver: int = 3) -> InstallAnchor:
    levels = base(TWO_ONE, level=2).levels
    return InstallAnchor(header(1, term, receiver), 1, Index(index), Term(1), configuration, Index(1), levels)


def test_i7_a_deposed_leader_s_anchor_is_not_installed_and_says_so() -> None:
    rig = keeping(1, count=60)
    rig.receive(anchor(1, 90, TWO_ONE))
    reply = rig.only(InstallSnapshotReply)
    assert reply == InstallSnapshotReply(reply.header, 1, Index(90), False, 0, Index(60), "stale term")
    assert reply.header.term == 2


def test_an_anchor_that_makes_a_witness_of_a_member_gives_it_the_role() -> None:
    full = TWO_ONE.with_member(member(3))
    rig = Rig(start=base(full, level=2), log=entries(2, 1, 1), node_id=3, term=2)
    before = rig.node.role
    rig.receive(anchor(2, 90, replace(TWO_ONE, epoch=4)))
    assert (before, rig.node.role) == (Role.FOLLOWER, Role.WITNESS)


@pytest.mark.parametrize(("index", "phase"), [(2, MemberPhase.STEADY), (90, MemberPhase.PROMOTING)])
def test_a_member_with_a_state_takes_no_anchor_that_is_old_or_does_not_make_it_a_witness(
    index: int, phase: MemberPhase
) -> None:
    full = TWO_ONE.with_member(member(3))
    rig = Rig(start=base(full, level=2), log=entries(2, 1, 1), node_id=3, term=2)
    rig.receive(replace(append(1, 2, (3, 1), commit=3), header=header(1, 2, 3)))
    rig.receive(anchor(2, index, with_phase(phase)))
    assert not rig.only(InstallSnapshotReply).installed
    assert rig.ready.state == ()
