"""Membership (§4), transfer (§3.10), back pressure and snapshots: rows 34-52, 58."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.errors import (
    ChangeRefused,
    CorruptLog,
    EntryTooLarge,
    NotLeader,
    NotReady,
    Overloaded,
    ProposalRefused,
)
from lockmaster_raft.events import (
    AddMember,
    ChangeMember,
    Event,
    Propose,
    RemoveMember,
    StorageReport,
    TransferLeadership,
)
from lockmaster_raft.ids import NO_NODE, Index, NodeId, Term
from lockmaster_raft.membership import MemberRole
from lockmaster_raft.messages import AppendEntries, FetchPiece, FetchPieceReply, InstallSnapshot, Removed, TimeoutNow
from lockmaster_raft.ready import Appended, Refused, Resolved, Role

from .rig import BLANK, Cluster, Rig, append, base, config_entry, configuration, entries, header, member
from .test_elections import elect
from .test_log_replication import ack, leading, to
from .test_reads import three


def error_of(rig: Rig, event: Event) -> ProposalRefused:
    (answer,) = rig.step(event).proposals
    assert isinstance(answer, Refused)
    return answer.error


def add(number: int) -> AddMember:
    return AddMember(50 + number, f"m{number}", f"m{number}:1", f"m{number}:2", bytes([number]) * 16)


def grown(count: int, config: RaftConfig | None = None) -> Cluster:
    """Genesis of one, the others joined as learners and promoted: how every cluster forms."""
    cluster = Cluster(config)
    cluster.run(SECOND)
    for number in range(2, count + 1):
        cluster.step(1, add(number))
        cluster.run(SECOND // 20)
        cluster.boot(number)
        cluster.run(3 * SECOND)
    return cluster


def test_genesis_grows_to_three_by_learners_that_are_promoted() -> None:
    cluster = grown(3)
    assert all(n.configuration.voter_ids == (1, 2, 3) for n in cluster.nodes.values())
    assert cluster.alarms == []


def test_writes_are_admitted_once_two_full_members_vote() -> None:
    """I8."""
    cluster = Cluster()
    cluster.run(SECOND)
    cluster.step(1, Propose(1, b"early"))
    refused = cluster.proposals[-1]
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, NotReady)
    assert not cluster.nodes[1].admits_writes
    cluster.step(1, add(2))
    cluster.run(SECOND // 20)
    cluster.boot(2)
    cluster.run(3 * SECOND)
    assert cluster.nodes[1].admits_writes


def test_4_1_no_change_before_an_own_term_commit() -> None:
    """Row 38: two changes could have disjoint quorums."""
    rig = Rig()
    elect(rig)
    assert isinstance(error_of(rig, RemoveMember(1, NodeId(3))), NotReady)


def test_i10_one_uncommitted_change_at_a_time() -> None:
    rig = leading()
    assert isinstance(rig.step(add(4)).proposals[0], Appended)
    assert isinstance(error_of(rig, add(5)), NotReady)


def test_changes_are_compare_and_set_on_the_epoch() -> None:
    rig = leading()
    assert isinstance(error_of(rig, replace(add(4), expected_epoch=7)), ChangeRefused)
    assert isinstance(rig.step(replace(add(4), expected_epoch=1)).proposals[0], Appended)


def test_add_member_is_idempotent_by_incarnation() -> None:
    rig = leading()
    (first,) = rig.step(add(4)).proposals
    (again,) = rig.step(add(4)).proposals
    assert first == again
    assert isinstance(first, Appended)
    assert first.member_id == 4
    (known,) = rig.step(add(2)).proposals
    assert known == Resolved(52, NodeId(2))


def test_ids_are_never_reused() -> None:
    """I12."""
    cluster = grown(3)
    cluster.step(1, RemoveMember(1, NodeId(3)))
    cluster.run(SECOND)
    cluster.step(1, add(9))
    assert isinstance(cluster.proposals[-1], Appended)
    assert cluster.proposals[-1].member_id == 4


@pytest.mark.parametrize(
    "event",
    [
        replace(add(4), incarnation=b"short"),
        replace(add(4), name=""),
        replace(add(4), name="m2"),
        replace(add(4), peer_address="x" * 262),
        RemoveMember(1, NodeId(9)),
        ChangeMember(1, replace(member(2), incarnation=b"z" * 16)),
        ChangeMember(1, replace(member(2), role=MemberRole.WITNESS)),
        ChangeMember(1, member(9)),
    ],
)
def test_impossible_changes_are_refused(event: Event) -> None:
    assert isinstance(error_of(leading(), event), ChangeRefused)


def test_i8_no_command_goes_below_two_full_voters() -> None:
    cluster = grown(2)
    cluster.step(1, RemoveMember(1, NodeId(2)))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, ChangeRefused)


def test_no_change_that_leaves_no_live_quorum() -> None:
    cluster = grown(3)
    cluster.down.add(3)
    cluster.run(SECOND)
    cluster.step(1, RemoveMember(1, NodeId(2)))
    assert isinstance(cluster.proposals[-1], Refused)
    cluster.step(1, RemoveMember(2, NodeId(3)))  # row 52: repair with one member down is not blocked
    assert isinstance(cluster.proposals[-1], Appended)
    cluster.run(SECOND)
    assert cluster.nodes[2].committed_configuration.voter_ids == (1, 2)


def test_4_2_1_a_learner_that_is_not_caught_up_does_not_vote() -> None:
    cluster = grown(3)
    cluster.step(1, add(4))
    cluster.run(3 * SECOND)  # nobody boots it
    assert cluster.nodes[1].configuration.voter_ids == (1, 2, 3)
    cluster.step(1, ChangeMember(1, replace(member(4), promote_when_caught_up=True)))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, NotReady)


def test_4_1_a_configuration_is_in_force_when_appended() -> None:
    rig = Rig(term=2)
    conf = configuration((1, 2, 3)).without_member(NodeId(3))
    rig.receive(append(2, 2, (1, 1), [config_entry(2, 2, conf)]))
    assert rig.node.configuration == conf
    assert rig.node.committed_configuration.epoch == 1


def test_truncation_rolls_back_every_configuration_it_removes() -> None:
    """Rows 39 and 40: single-level undo is not enough."""
    rig = Rig(term=2)
    second, third = configuration((1, 2, 3, 4), epoch=2), configuration((1, 2, 3, 4, 5), epoch=3)
    rig.receive(append(2, 2, (1, 1), [config_entry(2, 2, second), config_entry(3, 2, third)]))
    assert rig.node.configuration == third
    rig.receive(append(3, 3, (1, 1), entries(2, 3)))
    assert rig.node.configuration.epoch == 1
    assert rig.node.configuration_index == 1


def test_configurations_survive_a_restart() -> None:
    conf = configuration((1, 2, 3, 4), epoch=2)
    rig = Rig(log=[config_entry(2, 1, conf), *entries(3, 1)])
    assert rig.node.configuration == conf
    assert rig.node.committed_configuration.epoch == 1


def test_a_learner_becomes_a_follower_by_its_promotion_and_back() -> None:
    rig = Rig(conf=configuration((2, 3), (1,)), term=2)
    rig.receive(append(2, 2, (1, 1), [config_entry(2, 2, configuration((1, 2, 3), epoch=2))]))
    assert rig.ready.role_changed is not None
    assert rig.ready.role_changed.role is Role.FOLLOWER
    ready = rig.receive(append(3, 3, (1, 1), entries(2, 3)))
    assert ready.role_changed is not None
    assert ready.role_changed.role is Role.LEARNER


def test_a_removed_member_hears_of_it() -> None:
    cluster = grown(3)
    cluster.step(1, RemoveMember(1, NodeId(3)))
    cluster.run(SECOND)
    assert cluster.nodes[3].role is Role.REMOVED
    assert any(isinstance(s.message, Removed) and s.to == 3 for s in cluster.sends)


def test_4_2_2_a_leader_that_removes_itself_hands_over() -> None:
    cluster = grown(3)
    cluster.step(1, RemoveMember(1, NodeId(1)))
    cluster.run(SECOND // 2)
    assert cluster.nodes[1].role is Role.REMOVED
    assert cluster.leader in (2, 3)


def test_4_2_2_a_leader_that_removes_itself_does_not_count_its_own_copy() -> None:
    """Row 34: of {2, 3} both must have it."""
    rig = leading()
    rig.step(RemoveMember(1, NodeId(1)))
    request = to(rig, 2)[0]
    rig.synced()
    rig.receive(ack(2, 2, request))
    assert (rig.node.commit_index, rig.node.last_index) == (2, 3)


def test_a_leader_that_is_demoted_hands_over() -> None:
    cluster = grown(3)
    own = cluster.nodes[1].configuration.member(NodeId(1))
    assert own is not None
    cluster.step(1, ChangeMember(1, replace(own, voter=False, promote_when_caught_up=False)))
    cluster.run(SECOND)
    assert cluster.nodes[1].role is Role.LEARNER
    assert cluster.leader in (2, 3)


# --- transfer -----------------------------------------------------------------------------------------------------


def test_3_10_a_transfer_takes_less_than_200_ms() -> None:
    cluster = grown(3)
    at = cluster.now
    cluster.step(1, TransferLeadership(7, NodeId(2)))
    cluster.run(SECOND // 5)
    assert cluster.nodes[2].admits_writes
    assert cluster.proposals[-1] == Resolved(7, NodeId(2))
    assert cluster.now - at <= SECOND // 5


def test_3_10_nothing_is_proposed_during_a_transfer() -> None:
    cluster = grown(3)
    cluster.cut = lambda sender, receiver, message: isinstance(message, TimeoutNow)
    cluster.step(1, TransferLeadership(7, NodeId(2)))
    cluster.step(1, Propose(8, b"x"))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, NotReady)


def test_3_10_a_transfer_is_bounded_by_one_election_timeout() -> None:
    cluster = grown(3)
    cluster.cut = lambda sender, receiver, message: isinstance(message, TimeoutNow)
    cluster.step(1, TransferLeadership(7, NodeId(2)))
    cluster.run(cluster.config.election_timeout_ns + 1)
    answer = cluster.proposals[-1]
    assert isinstance(answer, Refused)
    assert answer.proposal_id == 7
    assert cluster.nodes[1].admits_writes


def test_3_10_a_repeat_that_names_the_term_does_not_hand_back() -> None:
    cluster = grown(3)
    term = cluster.nodes[1].term
    for target, leader in ((NO_NODE, 2), (NO_NODE, 2), (NodeId(2), 2)):
        cluster.step(cluster.leader, TransferLeadership(7, target, term))
        cluster.run(SECOND)
        assert cluster.leader == leader
        assert cluster.proposals[-1] == Resolved(7, NodeId(2))
    for target, expected in ((NodeId(1), term), (NO_NODE, term + 9)):
        cluster.step(2, TransferLeadership(8, target, expected))
        answer = cluster.proposals[-1]
        assert isinstance(answer, Refused)
        assert isinstance(answer.error, ChangeRefused)
        assert f"member 2 leads in term {cluster.nodes[2].term}, not in term {expected}" in str(answer.error)


def test_3_10_only_to_a_full_voter_that_is_there() -> None:
    cluster = grown(3)
    cluster.down.add(3)
    cluster.run(2 * SECOND)
    for target in (3, 9):
        cluster.step(1, TransferLeadership(7, NodeId(target)))
        assert isinstance(cluster.proposals[-1], Refused)
    cluster.step(1, TransferLeadership(7))
    cluster.run(SECOND // 5)
    assert cluster.leader == 2


# --- back pressure ------------------------------------------------------------------------------------------------


def test_a_full_window_answers_overloaded_and_reserved_slots_stay_open() -> None:
    rig = leading(RaftConfig(pending_entries_max=3, reserved_entries=2))
    for number in range(3):
        assert isinstance(rig.step(Propose(number, b"x")).proposals[0], Appended)
    assert isinstance(error_of(rig, Propose(4, b"x")), Overloaded)
    assert isinstance(rig.step(Propose(5, b"keepalive", reserved=True)).proposals[0], Appended)
    assert isinstance(rig.step(add(4)).proposals[0], Appended)
    assert isinstance(error_of(rig, Propose(6, b"keepalive", reserved=True)), Overloaded)


def test_pending_bytes_are_bounded_and_freed_by_commits() -> None:
    rig = leading(RaftConfig(pending_bytes_max=1000))
    rig.step(Propose(1, b"x" * 800))
    request = to(rig, 2)[0]
    assert isinstance(error_of(rig, Propose(2, b"x" * 400)), Overloaded)
    rig.synced()
    rig.receive(ack(2, 2, request))
    assert isinstance(rig.step(Propose(2, b"x" * 400)).proposals[0], Appended)


def test_an_entry_beyond_the_limit_is_refused_for_good() -> None:
    assert isinstance(error_of(leading(RaftConfig(entry_bytes_max=10)), Propose(1, b"x" * 11)), EntryTooLarge)


def test_a_follower_names_the_leader() -> None:
    rig = Rig(term=2)
    rig.receive(append(2, 2, (1, 1)))
    error = error_of(rig, Propose(1, b"x"))
    assert isinstance(error, NotLeader)
    assert error.leader_hint == 2


def test_a_leader_whose_disk_is_behind_stops_admitting() -> None:
    rig = leading(RaftConfig(unsynced_bytes_max=500))
    rig.step(Propose(1, b"x" * 800))
    request = to(rig, 2)[0]
    rig.receive(ack(2, 2, request))
    assert isinstance(rig.step(Propose(2, b"x")).proposals[0], Appended)  # nothing is committed beyond the disk
    rig.receive(replace(ack(3, 2, request), request_id=1, match_index=Index(2)))  # its probe, with the NOOP on board
    rig.receive(ack(3, 2, to(rig, 3)[0]))
    assert rig.node.commit_index == 3
    assert isinstance(error_of(rig, Propose(3, b"x")), Overloaded)


# --- snapshots and the log's start --------------------------------------------------------------------------------

SMALL = RaftConfig(retained_entries_min=8)


def report(cluster: Cluster) -> None:
    for number in sorted(cluster.nodes):
        applied = cluster.nodes[number].applied
        if number not in cluster.down:
            cluster.step(number, StorageReport(min(applied, cluster.nodes[number].durable_index), 1 << 30, 0))


def fill(cluster: Cluster, count: int, payload: bytes = b"x" * 100) -> None:
    leader = cluster.leader
    for number in range(count):
        cluster.step(leader, Propose(number, payload))
    cluster.run(SECOND // 10)


def test_the_base_moves_up_to_flushed_state_and_keeps_what_members_need() -> None:
    cluster = grown(3, SMALL)
    cluster.down.add(3)
    fill(cluster, 100)
    report(cluster)
    cluster.run(SECOND // 10)
    leader = cluster.nodes[1]
    match = leader.progress_view()[NodeId(3)].match_index
    assert leader.log_first <= match + 1
    assert cluster.nodes[2].log_first > match + 1  # a follower knows of no one else's need


def test_the_byte_budget_binds_what_is_kept_for_a_slow_member() -> None:
    cluster = grown(3, replace(SMALL, log_bytes_max=20_000))
    cluster.down.add(3)
    fill(cluster, 400)
    report(cluster)
    cluster.run(SECOND)
    leader = cluster.nodes[1]
    assert leader.log_first > leader.progress_view()[NodeId(3)].match_index + 1
    cluster.down.clear()
    cluster.boot(3, cluster.stores[3].base, cluster.stores[3].log)
    cluster.run(3 * SECOND)
    assert cluster.nodes[3].commit_index == leader.commit_index
    assert any(isinstance(s.message, InstallSnapshot) for s in cluster.sends)
    assert cluster.nodes[3].configuration == leader.configuration


def test_a_snapshot_carries_the_configuration_of_its_index() -> None:
    """Row 42: not an uncommitted one above it."""
    cluster = grown(3)
    offers = [s.message for s in cluster.sends if isinstance(s.message, InstallSnapshot)]
    assert offers
    for offer in offers:
        assert offer.configuration_index <= offer.last_index


def test_heartbeats_and_commits_go_on_while_a_member_fetches() -> None:
    cluster = grown(3)
    cluster.step(1, add(4))
    cluster.run(SECOND // 20)
    cluster.cut = lambda sender, receiver, message: receiver == 4 and not isinstance(message, (AppendEntries,))
    cluster.boot(4, BLANK)
    fill(cluster, 10)
    assert cluster.nodes[1].commit_index == cluster.nodes[1].last_index
    cluster.cut = lambda sender, receiver, message: False
    cluster.run(5 * SECOND)
    assert cluster.nodes[4].commit_index == cluster.nodes[1].commit_index
    assert cluster.nodes[1].configuration.voter_ids == (1, 2, 3, 4)


def test_boot_refuses_a_term_below_the_log_and_a_state_outside_of_it() -> None:
    with pytest.raises(CorruptLog):
        Rig(log=entries(2, 5), term=4)
    with pytest.raises(CorruptLog):
        Rig(start=base(configuration(), index=10, term=1), applied=5)
    with pytest.raises(CorruptLog):
        Rig(log=entries(2, 1), applied=9)


def test_committed_entries_are_applied_again_after_a_restart() -> None:
    """Row 36: from the durably applied index, in order, each once."""
    rig = Rig(log=entries(2, 1, 1, 1), applied=2)
    rig.receive(append(2, 1, (4, 1), commit=4))
    assert [e.index for e in rig.ready.apply] == [3, 4]


def test_three_hundred_writes_reach_everyone_in_order() -> None:
    cluster = three()
    fill(cluster, 300)
    cluster.run(SECOND)
    logs = list(cluster.applied.values())
    assert logs[0] == logs[1] == logs[2]
    assert [e.index for e in logs[0]] == list(range(2, len(logs[0]) + 2))
    assert Term(0) < logs[0][0].term
    assert Index(2) == logs[0][0].index


def test_a_removed_learner_hears_of_it_though_the_first_word_is_lost() -> None:
    cluster = grown(3)
    cluster.step(1, replace(add(4), promote_when_caught_up=False))
    cluster.run(SECOND // 20)
    cluster.boot(4)
    cluster.run(SECOND)
    lost = [2]

    def cut(sender: int, receiver: int, message: object) -> bool:
        lost[0] -= isinstance(message, Removed)
        return receiver == 4 and lost[0] >= 0

    cluster.cut = cut
    cluster.step(1, RemoveMember(1, NodeId(4)))
    cluster.run(2 * SECOND)
    assert cluster.nodes[4].role is Role.REMOVED
    told = [s for s in cluster.sends if isinstance(s.message, Removed)]
    assert len(told) == 10


def test_i12_nothing_is_sent_to_a_member_whose_addition_is_not_committed() -> None:
    """Rolled back, its id would be minted again for another directory."""
    rig = leading()
    rig.step(add(4))
    rig.tick(rig.config.heartbeat_interval_ns)
    request = to(rig, 2)[0]  # sent again: a heartbeat's time is long for an answer
    assert {s.to for s in rig.ready.send} <= {2, 3}
    assert set(rig.node.progress_view()) == {2, 3}
    rig.synced()
    rig.receive(ack(2, 2, request))
    assert rig.node.commit_index == 3
    assert set(rig.node.progress_view()) == {2, 3, 4}


def test_s2_an_answer_about_a_piece_tells_no_term_before_it_is_durable() -> None:
    """Found by seed 100003: it told a term whose write was still on its way."""
    rig = Rig(term=2)
    ready = rig.receive(append(2, 3, (1, 1)))
    assert ready.persist is not None
    rig.receive(FetchPiece(header(3, 3), Index(9), 0, b"d" * 32))
    assert rig.send_of(FetchPieceReply).after == ready.persist.seq
