"""Witnesses (raft.md §4): votes (I2, I3), caretakers (I4), coverage (I6), anchors (I7), the log budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.coverage import floor
from lockmaster_raft.entry import EntryKind
from lockmaster_raft.errors import ChangeRefused, CorruptLog, NotReady, Overloaded
from lockmaster_raft.events import Applied, ChangeMember, PromoteMember, Propose, RequestRead, StorageReport
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.members import fit_to_vote
from lockmaster_raft.membership import MemberRole
from lockmaster_raft.messages import (
    AppendEntries,
    Coverage,
    Heartbeat,
    InstallAnchor,
    InstallSnapshot,
    InstallSnapshotReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    WitnessReport,
)
from lockmaster_raft.ready import DropState, Refused, Role
from lockmaster_raft.role_policy import LogPolicy, RolePolicy

from .rig import BLANK, Cluster, Rig, append, base, configuration, entries, header
from .shapes import CALM, SHAPES, add, asked_for_nothing, join, log_of, report, shaped, until, write
from .test_elections import LATER, request_vote

TWO_ONE = configuration((1, 2, 3), witnesses=(3,))
THREE_TWO = configuration((1, 2, 3, 4, 5), witnesses=(4, 5))


def full(conf: object = TWO_ONE) -> Rig:
    """Member 1, full, its log up to (3, 1), long after its boot."""
    rig = Rig(start=base(TWO_ONE if conf is TWO_ONE else THREE_TWO, level=2), log=entries(2, 1, 1))
    rig.tick(LATER)
    return rig


def witness(node_id: int = 3, log: int = 3) -> Rig:
    """Member 3 of 2+1 or 5 of 3+2, a witness with a log up to (log, 1)."""
    start = base(TWO_ONE if node_id == 3 else THREE_TWO, level=2)
    return Rig(start=start, log=entries(2, *[1] * (log - 1)), node_id=node_id, has_state=False)


def to_me(node_id: int, message: object) -> object:
    """The message, addressed to that member."""
    return replace(message, header=replace(message.header, receiver=NodeId(node_id)))  # type: ignore[attr-defined,type-var]


# --- votes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conf", [TWO_ONE, THREE_TWO])
@pytest.mark.parametrize(
    ("last", "granted"),
    [((3, 1), False), ((4, 1), True), ((2, 2), True), ((2, 1), False)],
)
def test_i3_a_full_replica_wants_a_witness_strictly_newer_by_term_then_index(
    conf: object, last: tuple[int, int], *, granted: bool
) -> None:
    rig = full(conf)
    rig.receive(request_vote(3 if conf is TWO_ONE else 4, 2, last))
    assert rig.only(RequestVoteReply).granted is granted


def test_i3_a_full_candidate_with_an_equal_log_gets_the_vote() -> None:
    rig = full()
    rig.receive(request_vote(2, 2, (3, 1)))
    assert rig.only(RequestVoteReply).granted


@pytest.mark.parametrize("node_id", [3, 5])
def test_i2_a_witness_votes_by_the_same_rule_and_durably(node_id: int) -> None:
    rig = witness(node_id)
    rig.tick(LATER)
    ready = rig.receive(to_me(node_id, request_vote(2, 2, (3, 1))))  # type: ignore[arg-type]
    assert rig.only(RequestVoteReply).granted
    assert ready.persist is not None
    assert rig.send_of(RequestVoteReply).after == ready.persist.seq
    behind = witness(node_id)
    behind.tick(LATER)
    behind.receive(to_me(node_id, request_vote(2, 2, (2, 1))))  # type: ignore[arg-type]
    assert not behind.only(RequestVoteReply).granted


@pytest.mark.parametrize("node_id", [3, 5])
def test_i3_a_witness_waits_twice_as_long_as_a_full_replica(node_id: int) -> None:
    rig = witness(node_id)
    timeout = rig.config.election_timeout_ns
    assert 2 * timeout <= rig.ready.next_deadline - rig.now < 4 * timeout
    rig.tick(2 * timeout - 1)
    assert rig.sent(PreVote) == []


def role(rig: Rig) -> Role:
    return rig.node.role


def no(rig: Rig, sender: int, last: tuple[int, int], *, granted: bool = False) -> None:
    ask = rig.sent(PreVote)[0] if rig.sent(PreVote) else None
    round_id = ask.round_id if ask is not None else rig.asked  # type: ignore[attr-defined]
    rig.asked = round_id  # type: ignore[attr-defined]
    reply = PreVoteReply(header(sender, 1), Term(2), round_id, granted, "", Index(last[0]), Term(last[1]))
    rig.receive(to_me(rig.node.node_id, reply))  # type: ignore[arg-type]


def test_i3_a_witness_does_not_campaign_against_a_full_replica_that_is_not_behind() -> None:
    rig = witness(5)
    rig.tick(LATER)
    no(rig, 1, (2, 1), granted=True)
    no(rig, 4, (3, 1), granted=True)
    assert role(rig) is Role.PRE_CANDIDATE  # a quorum, but 2 and 3 have not answered
    no(rig, 2, (3, 1))
    assert rig.node.role is Role.WITNESS


def test_i3_it_waits_half_an_election_timeout_for_silent_full_replicas() -> None:
    rig = witness(5)
    rig.tick(LATER)
    no(rig, 1, (2, 1), granted=True)
    no(rig, 4, (3, 1), granted=True)
    rig.tick(rig.config.election_timeout_ns // 2)
    assert rig.node.role is Role.CANDIDATE


def test_i3_with_every_full_replica_behind_it_campaigns_at_once() -> None:
    rig = witness(3)
    rig.tick(LATER)
    no(rig, 1, (2, 1), granted=True)
    assert role(rig) is Role.PRE_CANDIDATE
    no(rig, 2, (2, 1), granted=True)
    assert rig.node.role is Role.CANDIDATE


# --- what a witness is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_i7_a_fresh_witness_gets_an_anchor_that_every_full_voter_is_past_and_no_snapshot(
    shape: tuple[int, int],
) -> None:
    cluster = shaped(*shape)
    number = sum(shape)
    anchors = [s.message for s in cluster.sends if isinstance(s.message, InstallAnchor)]
    assert {m.header.receiver for m in anchors} == set(range(shape[0] + 1, number + 1))
    assert not any(isinstance(s.message, InstallSnapshot) and s.to > shape[0] for s in cluster.sends)
    assert cluster.nodes[number].role is Role.WITNESS
    assert cluster.nodes[number].commit_index == cluster.nodes[1].commit_index
    assert cluster.applied[number] == []


def test_i7_a_blank_witness_takes_no_snapshot() -> None:
    rig = Rig(start=BLANK, node_id=3, term=0, has_state=False)
    snapshot = InstallSnapshot(
        header(1, 1, 3), 1, Index(5), Term(1), TWO_ONE, Index(1), base(TWO_ONE, level=2).levels, (b"d" * 32,), 5, ()
    )
    rig.receive(snapshot)
    assert not rig.only(InstallSnapshotReply).installed
    assert rig.ready.pieces == ()


def test_a_witness_without_a_state_has_applied_nothing_but_its_base() -> None:
    with pytest.raises(CorruptLog):
        Rig(start=base(TWO_ONE, level=2), log=entries(2, 1, 1), node_id=3, has_state=False, applied=3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_witness_serves_nothing(shape: tuple[int, int]) -> None:
    cluster = shaped(*shape)
    number = sum(shape)
    cluster.step(number, RequestRead(1))
    assert cluster.reads[-1][1].index is None
    assert not cluster.nodes[number].serves_state


def test_i13_no_witness_below_level_2() -> None:
    cluster = Cluster(CALM)
    cluster.run(SECOND)
    cluster.step(1, add(2, MemberRole.WITNESS))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, ChangeRefused)


def test_full_voters_stay_the_majority() -> None:
    """A second witness of two full members would make 2 of 4."""
    cluster = shaped(2, 1)
    join(cluster, 4, MemberRole.WITNESS)
    assert cluster.nodes[1].configuration.voter_ids == (1, 2, 3)


# --- caretakers ----------------------------------------------------------------------------------------------------


def left_to_a_witness(shape: tuple[int, int]) -> tuple[Cluster, int]:
    """WR 3.8, 1: the witnesses and the leader alone hold the last writes; the leader dies, the others come back."""
    cluster = shaped(*shape)
    behind = set(range(2, shape[0] + 1))
    cluster.down |= behind
    last = write(cluster, 5)
    cluster.run(SECOND // 2)
    assert cluster.nodes[1].commit_index == last
    cluster.down.add(1)
    for number in sorted(behind):
        cluster.down.discard(number)
        cluster.step(number, Propose(0, b""))
    return cluster, last


@pytest.mark.parametrize("shape", SHAPES)
def test_i4_a_witness_that_alone_has_the_last_writes_leads_and_hands_over(shape: tuple[int, int]) -> None:
    cluster, last = left_to_a_witness(shape)
    until(cluster, lambda: any(n <= shape[0] for n in cluster.leaders()))
    heir = cluster.leader
    assert log_of(cluster, heir, last) == b"x" * 100
    assert write(cluster) > last
    (caretaker,) = [n for n, a in cluster.alarms if a.code == "caretaker"]
    assert caretaker > shape[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_i4_a_caretaker_appends_its_noop_only_and_refuses_everything(shape: tuple[int, int]) -> None:
    cluster, last = left_to_a_witness(shape)
    cluster.cut = lambda sender, receiver, message: isinstance(message, TimeoutNow)
    until(cluster, lambda: any(cluster.nodes[n].is_caretaker for n in cluster.leaders()))
    cluster.run(SECOND)
    caretaker = cluster.leader
    for event in (Propose(7, b"data"), add(9)):
        cluster.step(caretaker, event)
        answer = cluster.proposals[-1]
        assert isinstance(answer, Refused)
        assert isinstance(answer.error, NotReady)
    cluster.step(caretaker, RequestRead(3))
    assert cluster.reads[-1][1].index is None
    assert not cluster.nodes[caretaker].admits_writes
    kinds = {e.kind for e in cluster.stores[caretaker].log if e.index > last}
    assert kinds == {EntryKind.NOOP}


def test_i4_a_caretaker_steps_down_when_no_full_replica_comes_forward() -> None:
    cluster, _ = left_to_a_witness((2, 1))
    cluster.cut = lambda sender, receiver, message: receiver == 2 and isinstance(message, AppendEntries)
    until(cluster, lambda: any(a.code == "caretaker_gave_up" for _, a in cluster.alarms))
    assert cluster.nodes[3].role is not Role.LEADER


def test_i4_a_caretaker_goes_on_while_a_full_replica_comes_forward() -> None:
    """One entry per request, each taking most of a second: more than four election timeouts in all."""
    cluster, last = left_to_a_witness((2, 1))
    told: list[int] = []

    def slow(sender: int, receiver: int, message: object) -> bool:
        if receiver != 2 or not isinstance(message, AppendEntries) or not message.entries:
            return False
        if told and cluster.now - told[-1] < 2 * SECOND:
            return True
        told.append(cluster.now)
        return False

    cluster.config = replace(cluster.config, batch_entries_max=1)
    cluster.cut = slow
    until(cluster, lambda: cluster.nodes[2].last_index >= last, 120)
    assert not any(a.code == "caretaker_gave_up" for _, a in cluster.alarms)


# --- coverage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_i6_a_down_full_voter_holds_every_witness_s_log(shape: tuple[int, int]) -> None:
    cluster = shaped(*shape)
    number = sum(shape)
    at = write(cluster, 10)
    report(cluster)
    cluster.run(SECOND)
    assert at - 5 < cluster.nodes[number].log_first <= at
    cluster.down.add(2)
    held = cluster.nodes[2].last_index
    write(cluster, 30)
    report(cluster)
    cluster.run(SECOND)
    assert cluster.nodes[number].log_first <= held + 1
    cluster.down.discard(2)
    cluster.step(2, Propose(0, b""))
    cluster.run(3 * SECOND)
    assert cluster.nodes[number].log_first > held + 20


def cover(rig: Rig, term: int, index: int) -> None:
    rig.receive(Coverage(header(1, term, rig.node.node_id), Index(index)))


def followed(node_id: int = 3) -> Rig:
    """A witness with a log up to 60, all committed, under leader 1 of term 2."""
    start = base(TWO_ONE if node_id == 3 else THREE_TWO, level=2)
    config = RaftConfig(retained_entries_min=1)
    rig = Rig(start=start, log=entries(2, *[1] * 59), node_id=node_id, has_state=False, config=config, term=2)
    rig.receive(replace(append(1, 2, (60, 1), commit=60), header=header(1, 2, node_id)))
    return rig


@pytest.mark.parametrize("node_id", [3, 5])
def test_i6_a_witness_truncates_up_to_its_leader_s_proof(node_id: int) -> None:
    rig = followed(node_id)
    assert rig.node.commit_index == 60
    cover(rig, 2, 40)
    assert rig.node.log_first == 40
    assert rig.only(WitnessReport).log_first == 40


def test_a_witness_keeps_its_last_entry_which_tells_the_cluster_s_time() -> None:
    """Also where its budget has no room for one."""
    rig = followed()
    rig.node._core.config = replace(rig.config, witness_log_bytes_max=1)
    cover(rig, 2, 60)
    assert (rig.node.log_first, rig.node.last_index) == (60, 60)


def test_a_witness_without_entries_does_not_campaign_for_it_cannot_tell_the_cluster_s_time() -> None:
    rig = Rig(start=base(TWO_ONE, level=2, index=90, term=1), node_id=3, has_state=False, term=1)
    for _ in range(20):
        rig.tick(rig.config.election_timeout_ns)
        assert rig.sent(PreVote) == []
    assert rig.node.role is not Role.PRE_CANDIDATE


def test_i6_what_an_earlier_term_s_leader_allowed_is_void() -> None:
    """A new leader may have admitted a full voter since; the byte budget does not change that."""
    rig = followed()
    cover(rig, 2, 0)
    rig.node._core.covered = Index(50)  # allowed in term 2, held back until now
    rig.receive(Heartbeat(header(2, 3, 3), 1, rig.now, Index(60), rig.now, 1))  # type: ignore[arg-type]
    rig.synced()
    rig.receive(Coverage(header(2, 3, 3), Index(10)))
    assert rig.node.log_first == 10


def test_i6_a_stale_leader_s_coverage_is_refused() -> None:
    rig = followed()
    cover(rig, 1, 50)
    assert rig.node.log_first == 2
    assert rig.sent(WitnessReport) == []


def test_i6_who_cannot_be_proved_past_the_start_of_a_witness_s_log_does_not_become_a_full_voter() -> None:
    """What the leader allowed the witness in this term counts, though the witness has not reported it yet."""
    cluster = shaped(2, 1)
    join(cluster, 4, promote=False)
    newcomer = cluster.nodes[1].configuration.member(NodeId(4))
    assert newcomer is not None
    seen = cluster.nodes[1]._core.progress[NodeId(3)]
    allowed, seen.covered = seen.covered, cluster.nodes[1].last_index + 1
    cluster.step(1, ChangeMember(7, replace(newcomer, voter=True)))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, NotReady)
    assert "the logs may start after" in str(answer.error)
    seen.covered = allowed
    cluster.step(1, ChangeMember(7, replace(newcomer, voter=True)))
    assert not isinstance(cluster.proposals[-1], Refused)


def test_i6_a_witness_that_has_not_reported_in_this_term_may_have_truncated_up_to_the_term_s_start() -> None:
    core = shaped(2, 1).nodes[1]._core
    seen = core.progress[NodeId(3)]
    seen.log_first, seen.covered = Index(0), 0
    assert floor(core, seen) == core.term_start


def test_a_member_that_became_a_witness_while_away_drops_its_state_for_an_anchor() -> None:
    rig = Rig(start=base(configuration((1, 2, 3)), level=2), log=entries(2, 1, 1), node_id=3, term=2)
    anchor = InstallAnchor(header(1, 2, 3), 1, Index(90), Term(2), TWO_ONE, Index(80), base(TWO_ONE, level=2).levels)
    rig.receive(anchor)
    assert rig.ready.state == (DropState(),)
    assert rig.only(InstallSnapshotReply).installed
    assert (rig.node.log_first, rig.node.commit_index) == (91, 90)


def test_a_full_member_takes_no_anchor() -> None:
    rig = Rig(start=base(TWO_ONE, level=2), log=entries(2, 1, 1), node_id=2, term=2)
    anchor = InstallAnchor(header(1, 2, 2), 1, Index(90), Term(2), TWO_ONE, Index(80), base(TWO_ONE, level=2).levels)
    rig.receive(anchor)
    assert not rig.only(InstallSnapshotReply).installed
    assert rig.ready.state == ()
    assert rig.node.log_first == 2


def test_a_full_member_beside_a_witness_truncates_no_further_than_its_leader_says() -> None:
    """It may have to feed the witness as the next leader, and a witness takes no snapshot (simulator seed 303)."""
    rig = Rig(start=base(TWO_ONE, level=2), log=entries(2, *[1] * 59), node_id=2, term=2, config=CALM)
    rig.receive(replace(append(1, 2, (60, 1), commit=60), header=header(1, 2, 2)))
    rig.step(Applied(Index(60)))
    rig.step(StorageReport(Index(60), 0, 0))
    assert rig.node.log_first == 2
    rig.receive(Coverage(header(1, 2, 2), Index(40)))
    assert rig.sent(WitnessReport) == []
    rig.step(StorageReport(Index(60), 0, 0))
    assert rig.node.log_first == 40


@pytest.mark.parametrize(("fulls", "witnesses", "gone"), [(3, 1, {1}), (5, 2, {1, 2, 7})])
def test_a_witness_that_lagged_joins_again_though_full_voters_are_gone_since_and_the_leader_is_new(
    fulls: int, witnesses: int, gone: set[int]
) -> None:
    """The log's start is an anchor for ever, for however many voters (simulator seeds 303 and 45)."""
    cluster = shaped(fulls, witnesses, replace(CALM, log_bytes_max=500))
    lagging = fulls + 1
    cluster.down.add(lagging)
    write(cluster, 30)
    for _ in range(2):
        report(cluster)
        cluster.run(SECOND)
    assert cluster.nodes[3].log_first > cluster.nodes[lagging].last_index + 1
    cluster.down |= set(cluster.nodes)
    cluster.down.discard(lagging)
    cluster.step(lagging, asked_for_nothing())
    cluster.run(5 * SECOND)
    cluster.down = set(gone)
    for number in set(cluster.nodes) - gone:
        cluster.step(number, asked_for_nothing())
    until(cluster, lambda: bool(cluster.leaders()) and cluster.nodes[cluster.leader].admits_writes)
    assert cluster.nodes[lagging].commit_index > 30


def test_a_log_that_starts_at_a_snapshot_anchors_no_witness_of_seven_voters() -> None:
    """Of seven, a full voter that is away may lack the snapshot's index (I6); since a boot nobody knows better."""
    cluster = shaped(5, 2, replace(CALM, log_bytes_max=500))
    cluster.down.add(6)
    write(cluster, 30)
    for _ in range(2):
        report(cluster)
        cluster.run(SECOND)
    cluster.down |= {1, 2, 7}
    for number in (3, 4, 5):
        cluster.restart(number)
    cluster.down.discard(6)
    cluster.step(6, asked_for_nothing())
    cluster.run(20 * SECOND)
    assert cluster.nodes[6].commit_index < 30
    assert any(a.code == "witness_blocked" for _, a in cluster.alarms)
    cluster.restart(1)
    cluster.restart(2)
    until(cluster, lambda: cluster.nodes[6].commit_index > 30)


def test_a_witness_votes_only_once_it_holds_what_logs_may_have_been_cut_at() -> None:
    cluster = shaped(2, 0)
    write(cluster, 10)
    join(cluster, 3, MemberRole.WITNESS, promote=False)
    core = cluster.nodes[1]._core
    progress = core.progress[NodeId(3)]
    until(cluster, lambda: fit_to_vote(core, progress))
    core.told_max = progress.match + 1
    assert not fit_to_vote(core, progress)
    core.told_max = progress.match
    assert fit_to_vote(core, progress)


# --- the byte budget --------------------------------------------------------------------------------------------------


def pressed(policy: LogPolicy) -> Cluster:
    """2+1 with 2 down and a witness's log above its budget."""
    roles = RolePolicy(log_policy=policy, promote_after_ns=3600 * SECOND)
    cluster = shaped(2, 1, replace(CALM, witness_log_bytes_max=3000, role_policy=roles))
    cluster.down.add(2)
    report(cluster)
    write(cluster, 40)
    cluster.run(SECOND)
    return cluster


def test_the_budget_blocks_all_but_reserved_proposals() -> None:
    cluster = pressed(LogPolicy.BLOCK)
    cluster.step(1, Propose(3, b"more"))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, Overloaded)
    cluster.step(1, Propose(4, b"keepalive", reserved=True))
    assert not isinstance(cluster.proposals[-1], Refused)


def test_a_witness_that_is_promoted_or_gone_blocks_nothing_any_more() -> None:
    cluster = pressed(LogPolicy.BLOCK)
    cluster.down.discard(2)
    cluster.step(2, asked_for_nothing())
    cluster.step(1, PromoteMember(8, NodeId(3)))
    until(cluster, lambda: cluster.nodes[3].serves_state)
    cluster.run(SECOND)
    cluster.step(1, Propose(3, b"more"))
    assert not isinstance(cluster.proposals[-1], Refused)


def test_the_budget_alarms_once_and_names_who_holds_it_back() -> None:
    cluster = pressed(LogPolicy.ALARM)
    (alarm,) = [a for _, a in cluster.alarms if a.code == "witness_log"]
    assert "full voter 2" in alarm.text
    cluster.step(1, Propose(3, b"more"))
    assert not isinstance(cluster.proposals[-1], Refused)


def test_under_the_budget_s_pressure_a_witness_truncates_by_any_amount() -> None:
    """The step that spares BASE writes held it back for ever, and the policy "block" all writers (seed 22)."""
    config = RaftConfig(retained_entries_min=10_000, witness_log_bytes_max=12_000)
    rig = Rig(
        start=base(TWO_ONE, level=2), log=entries(2, *[1] * 399), node_id=3, has_state=False, config=config, term=2
    )
    rig.receive(replace(append(1, 2, (400, 1), commit=400), header=header(1, 2, 3)))
    cover(rig, 2, 400)
    report = rig.only(WitnessReport)
    assert report.log_bytes <= report.log_bytes_max
    assert report.log_first > 1


def test_the_budget_never_truncates_what_a_full_voter_lacks() -> None:
    cluster = pressed(LogPolicy.ALARM)
    assert cluster.nodes[3].log_first <= cluster.nodes[2].last_index + 1


def test_the_budget_promotes_by_default() -> None:
    cluster = pressed(LogPolicy.PROMOTE)
    until(cluster, lambda: cluster.nodes[3].serves_state)


def test_a_vote_request_of_a_witness_never_overrides_stickiness() -> None:
    cluster, _ = left_to_a_witness((2, 1))
    until(cluster, lambda: cluster.leaders() == [2])
    asked = [s.message for s in cluster.sends if isinstance(s.message, RequestVote) and s.message.header.sender == 3]
    assert asked
    assert not any(m.transfer for m in asked)
