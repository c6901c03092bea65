"""Role changes, coverage, commits at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from lockmaster_raft.commit import advance
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.coverage import coverage, floor, highest_start
from lockmaster_raft.errors import NotReady
from lockmaster_raft.events import AddMember, ChangeMember, DemoteMember, PromoteMember, Propose, RemoveMember
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.membership import MemberRole
from lockmaster_raft.messages import AppendEntries, Coverage, Message, PreVote, Removed, TimeoutNow
from lockmaster_raft.ready import Appended, Refused
from lockmaster_raft.role_changes import drive, observe
from lockmaster_raft.role_policy import RolePolicy

from .rig import Cluster, Rig, append, config_entry, configuration, header, member
from .shapes import CALM, asked_for_nothing, join, shaped, standing, until, write
from .test_log_replication import ack, leading, to
from .test_promotion import DEMOTING, FULL, PROMOTING, WITNESS, asked, promoted

# --- role changes ----------------------------------------------------------------------------------------------------


def test_a_promotion_is_aborted_as_soon_as_its_witness_is_silent_for_promote_after() -> None:
    """Long before its own time is over: a promotion that hangs on a dead member keeps every other change out."""
    roles = RolePolicy(promote_after_ns=5 * SECOND, change_timeout_ns=600 * SECOND)
    cluster = shaped(config=replace(CALM, role_policy=roles))
    assert asked(cluster, PromoteMember(5, NodeId(3))) is None
    cluster.down.add(3)
    cluster.run(4 * SECOND)
    assert standing(cluster, 3) == PROMOTING
    cluster.run(2 * SECOND)
    assert standing(cluster, 3) == WITNESS
    (why,) = [a.text for _, a in cluster.alarms if a.code == "promotion_aborted"]
    said = re.fullmatch(r"promotion of member 3: it is silent for (\d+) ns", why)
    assert said is not None
    assert 5 * SECOND <= int(said[1]) < 5 * SECOND + 2 * cluster.config.heartbeat_interval_ns


def led_by_a_demoting_voter() -> Cluster:
    """Member 3 is DEMOTING and leads by the word of 2, which never hears that it should take over."""
    cluster = promoted()
    assert asked(cluster, DemoteMember(6, NodeId(3))) is None
    cluster.down.add(1)
    cluster.cut = lambda sender, receiver, message: (
        isinstance(message, TimeoutNow) or (isinstance(message, PreVote) and sender == 2)
    )
    until(cluster, lambda: cluster.leaders() == [3])
    until(cluster, lambda: cluster.nodes[3].commit_index == cluster.nodes[3].last_index)
    return cluster


def test_i9_a_demoting_voter_that_leads_and_finds_nobody_to_hand_over_to_ends_its_demotion() -> None:
    """Who could have taken over is gone, who is there lacks the log: then the group has no other leader."""
    cluster = led_by_a_demoting_voter()
    began, node = cluster.now, cluster.nodes[3]

    def lacking(sender: int, receiver: int, message: Message) -> bool:
        return isinstance(message, PreVote | TimeoutNow) or (receiver == 1 and isinstance(message, AppendEntries))

    cluster.cut = lacking
    cluster.down = {2}
    cluster.step(1, asked_for_nothing())
    assert standing(cluster, 3, at=3) == DEMOTING
    until(cluster, lambda: node.configuration.changing is None, 4)
    assert cluster.now - began >= cluster.config.election_timeout_ns
    cluster.cut = lambda sender, receiver, message: False
    until(cluster, lambda: node.admits_writes)
    assert cluster.leader == 3
    assert standing(cluster, 3) == FULL


@pytest.mark.parametrize(("behind", "caught_up"), [(0, True), (3, True), (4, False), (19, False)])
@pytest.mark.parametrize("what", ["match", "applied"])
def test_the_policy_sees_a_full_member_as_caught_up_that_holds_and_has_applied_all_but_a_few(
    what: str, behind: int, caught_up: bool
) -> None:
    cluster = shaped(config=replace(CALM, role_gap_entries_max=3))
    write(cluster, 20)
    cluster.run(SECOND)
    core = cluster.nodes[1]._core
    assert core.progress[NodeId(2)].match == core.progress[NodeId(2)].applied == core.commit_index
    setattr(core.progress[NodeId(2)], what, core.commit_index - behind)
    assert {s.member_id: s.caught_up for s in observe(core).members} == {1: True, 2: caught_up, 3: True}


def test_the_policy_asks_of_a_witness_that_it_holds_the_log_for_it_applies_nothing() -> None:
    cluster = shaped(config=replace(CALM, role_gap_entries_max=3))
    write(cluster, 20)
    core = cluster.nodes[1]._core
    core.progress[NodeId(3)].applied = Index(0)
    assert observe(core).members[2].caught_up


@pytest.mark.parametrize(("missed", "voters"), [(1, (1, 2, 3, 4)), (2, (1, 2, 3))])
def test_a_voter_is_set_aside_once_it_missed_two_confirmed_rounds_however_long_it_is_silent(
    missed: int, voters: tuple[int, ...]
) -> None:
    """The time alone may have been this leader's own: it was stopped, or cut off itself."""
    cluster = shaped(4, 0)
    core = cluster.nodes[1]._core
    silent = core.progress[NodeId(4)]
    silent.contact = core.now - core.config.role_policy.shape_after_ns
    silent.acked_round = core.confirmed_round - missed
    drive(core)
    assert core.configuration.voter_ids == voters


# --- coverage (I6) ---------------------------------------------------------------------------------------------------


def test_i6_a_full_voter_whose_removal_is_not_committed_counts_and_nothing_of_it_is_proved_any_more() -> None:
    """The removal may be rolled back, and it is no longer asked how far it is."""
    cluster = shaped(3, 1)
    write(cluster, 10)
    core = cluster.nodes[1]._core
    cluster.cut = lambda sender, receiver, message: receiver == 1
    assert asked(cluster, RemoveMember(6, NodeId(3))) is None
    assert core.log.configuration_index > core.commit_index
    assert coverage(core) == 0
    cluster.cut = lambda sender, receiver, message: False
    cluster.run(SECOND)
    assert core.log.configuration_index <= core.commit_index
    assert coverage(core) == core.commit_index


def test_a_full_member_may_truncate_what_every_witness_has_while_a_witness_keeps_what_a_full_voter_lacks() -> None:
    cluster = shaped(3, 1)
    cluster.crash(3)
    held = cluster.nodes[3].last_index
    last = write(cluster, 20)
    cluster.run(SECOND)
    told = {s.to: s.message.index for s in cluster.sends if isinstance(s.message, Coverage)}
    assert told[NodeId(4)] <= held < last - 10
    assert told[NodeId(2)] == last


@pytest.mark.parametrize(("log_first", "covered", "gone"), [(8, 0, 7), (9, 0, 8), (8, 7, 7), (8, 20, 20)])
def test_i6_a_witness_s_log_is_gone_up_to_the_entry_before_its_first_or_as_far_as_it_was_let(
    log_first: int, covered: int, gone: int
) -> None:
    core = shaped().nodes[1]._core
    seen = core.progress[NodeId(3)]
    seen.log_first, seen.covered = Index(log_first), covered
    assert floor(core, seen) == gone


@pytest.mark.parametrize(("past", "known"), [(3, True), (0, True), (-1, False)])
def test_i6_a_full_voter_s_word_on_where_its_log_begins_holds_from_the_configuration_in_force_on(
    past: int, known: bool
) -> None:
    """Before it knows of the witness it cuts its log freely, as far as anything is committed."""
    cluster = shaped(3, 1)
    write(cluster, 20)
    core = cluster.nodes[1]._core
    core.told_max = 0  # nobody was told of coverage yet
    seen = core.progress[NodeId(2)]
    seen.log_first, seen.match = Index(9), Index(core.log.configuration_index + past)
    assert core.term_start < 8
    assert highest_start(core) == (8 if known else core.commit_index)
    seen.log_first = Index(0)
    assert highest_start(core) == core.commit_index


def test_i6_a_witness_votes_only_when_every_full_voter_is_past_where_any_log_may_begin() -> None:
    """Of a full voter that is down and the new witness alone the log could not be rebuilt."""
    cluster = shaped(3, 0)
    cluster.crash(3)
    held = cluster.nodes[3].last_index
    write(cluster, 10)
    join(cluster, 4, MemberRole.WITNESS, promote=False)
    learner = cluster.nodes[1].configuration.member(NodeId(4))
    assert learner is not None
    error = asked(cluster, ChangeMember(7, replace(learner, voter=True)))
    assert isinstance(error, NotReady)
    assert str(error).startswith(f"member 3 holds the log up to {held}, the logs may start after ")
    cluster.restart(3)
    cluster.run(2 * SECOND)
    assert asked(cluster, ChangeMember(7, replace(learner, voter=True))) is None


# --- commits ---------------------------------------------------------------------------------------------------------


def test_what_a_commit_frees_of_the_pending_bytes_is_that_of_the_committed_entries_alone() -> None:
    rig = leading(RaftConfig(pending_bytes_max=1000))
    requests = []
    for number in range(4):
        assert isinstance(rig.step(Propose(number, b"x" * 200)).proposals[0], Appended)
        requests += to(rig, 2)
    assert [e.index for m in requests for e in m.entries] == [3, 4, 5, 6]
    rig.synced()
    rig.receive(ack(2, 2, requests[0]))
    assert (rig.node.commit_index, rig.node.last_index) == (3, 6)
    assert isinstance(rig.step(Propose(5, b"x" * 200)).proposals[0], Appended)
    assert isinstance(rig.step(Propose(6, b"x" * 200)).proposals[0], Refused)


def test_a_quorum_that_holds_less_than_is_committed_commits_nothing() -> None:
    """Member 3 is down and 4, a voter since, lacks the last entries: 1 and 2 alone are no quorum any more."""
    cluster = shaped(3, 0)
    join(cluster, 4, promote=False)
    learner = cluster.nodes[1].configuration.member(NodeId(4))
    assert learner is not None
    cluster.crash(3)
    cluster.cut = lambda sender, receiver, message: receiver == 4 and isinstance(message, AppendEntries)
    last = write(cluster, 5)
    assert asked(cluster, ChangeMember(7, replace(learner, voter=True))) is None
    core = cluster.nodes[1]._core
    assert core.commit_index == last > core.progress[NodeId(4)].match
    assert not advance(core)
    assert core.commit_index == last


def test_a_removed_member_is_told_at_the_commit_and_then_once_with_every_heartbeat() -> None:
    """Another commit says nothing new of it, though another change is under way by then."""
    rig = leading()
    rig.step(RemoveMember(6, NodeId(3)))
    (removal,) = to(rig, 2)
    rig.synced()
    rig.receive(ack(2, 2, removal))
    assert len(rig.sent(Removed)) == 1
    rig.step(Propose(7, b"x"))
    (data,) = to(rig, 2)
    assert isinstance(rig.step(AddMember(8, "m4", "m4:1", "m4:2", b"4" * 16)).proposals[0], Appended)
    rig.synced()
    rig.receive(ack(2, 2, data))
    assert rig.node.commit_index == data.entries[-1].index
    assert rig.sent(Removed) == []
    rig.tick(rig.config.heartbeat_interval_ns)
    assert len(rig.sent(Removed)) == 1


def test_a_joiner_that_replays_configurations_from_before_its_time_was_not_removed_by_them() -> None:
    """Its id was not minted yet; without it, it is removed only later."""
    steps = [configuration((1, 2, 3))]
    for number in (4, 5, 6):
        steps.append(steps[-1].with_member(member(number, voter=False)))
    steps.append(steps[-1].without_member(NodeId(6)))
    log = [config_entry(index, 2, conf) for index, conf in enumerate(steps[1:], 2)]
    rig = Rig(conf=steps[0], node_id=6, term=2)
    removed = []
    for commit in range(2, 6):
        request = append(2, 2, (commit - 1, 2 if commit > 2 else 1), [log[commit - 2]], commit, commit)
        rig.receive(replace(request, header=header(2, 2, 6)))
        assert rig.node.commit_index == commit
        removed.append(rig.node.is_removed)
    assert removed == [False, False, False, True]
