"""I3, I7, I14, S11: each sees what it is there for, and nothing where all is well."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.loads import Load
from lockmaster_raft.membership import Configuration, Member, MemberPhase, MemberRole
from lockmaster_raft.messages import AppendEntriesReply, Header, Message, PreVote, PreVoteReply, RequestVote
from lockmaster_raft.messages import RequestVoteReply as VoteReply
from lockmaster_raft.testing.application import Outcome, load_application
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.invariants.base import Violation
from lockmaster_raft.testing.invariants.i3_witness_votes import WitnessVotes
from lockmaster_raft.testing.invariants.i7_fresh_witness import FreshWitness
from lockmaster_raft.testing.invariants.i14_state_hash import EqualStates
from lockmaster_raft.testing.invariants.s11_bounds import ENTRIES_UNCUT_MAX, EVERY, Bounds

FULL, WITNESS = NodeId(1), NodeId(3)


def member(number: NodeId) -> Member:
    role = MemberRole.WITNESS if number == WITNESS else MemberRole.FULL
    return Member(number, f"m{number}", "p:1", "c:1", bytes([number]) * 16, True, role, MemberPhase.STEADY)


CONFIGURATION = Configuration(1, tuple(member(NodeId(n)) for n in (1, 2, 3)), NodeId(4))


def cluster() -> Cluster:
    return Cluster(1, load_application("register"))


def node(number: NodeId, **more: Any) -> Any:
    return SimpleNamespace(own_member=member(number), configuration=CONFIGURATION, **more)


def header(sender: NodeId, receiver: NodeId) -> Header:
    return Header(bytes(16), sender, receiver, Term(5), 1, 2)


def said(rule: WitnessVotes, number: NodeId, to: NodeId, message: Message) -> None:
    host = SimpleNamespace(number=number, state=None)
    rule.transmitting(cast("Any", host), node(number), cast("Any", SimpleNamespace(to=to, message=message)))


@pytest.mark.parametrize("mine", [9, 8, 7])
@pytest.mark.parametrize("before", [False, True])
def test_i3_a_full_replica_votes_for_a_witness_only_if_its_log_is_newer(mine: int, *, before: bool) -> None:
    rule, at = WitnessVotes(cluster().checker), (Index(8), Term(4))
    asked: Message = RequestVote(header(WITNESS, FULL), *at)
    answer: Message = VoteReply(header(FULL, WITNESS), True, "", Index(mine), Term(4))
    if before:
        asked = PreVote(header(WITNESS, FULL), Term(5), *at, 1)
        answer = PreVoteReply(header(FULL, WITNESS), Term(5), 1, True, "", Index(mine), Term(4))
    said(rule, WITNESS, FULL, asked)
    if mine < 8:
        said(rule, FULL, WITNESS, answer)
        return
    with pytest.raises(Violation, match="votes for witness 3"):
        said(rule, FULL, WITNESS, answer)


def test_i3_no_transfer_makes_a_witness_campaign() -> None:
    with pytest.raises(Violation, match="campaigns on a transfer"):
        said(
            WitnessVotes(cluster().checker), WITNESS, FULL, RequestVote(header(WITNESS, FULL), Index(8), Term(4), True)
        )


@pytest.mark.parametrize("first", [1, 2])
def test_i7_a_blank_witness_says_nothing_that_counts(first: int) -> None:
    rule, host = FreshWitness(cluster().checker), cast("Any", SimpleNamespace(number=3, state=None))
    ack = AppendEntriesReply(
        header(WITNESS, FULL), 1, 1, True, Index(4), Index(4), Index(4), Index(1), Index(0), Term(0), Index(0), 0
    )
    vote = VoteReply(header(WITNESS, FULL), True, "", Index(0), Term(0))
    for message in (ack, vote):
        send = cast("Any", SimpleNamespace(to=FULL, message=message))
        if first > 1:
            rule.transmitting(host, node(WITNESS, log_first=first), send)
            continue
        with pytest.raises(Violation, match="blank witness 3"):
            rule.transmitting(host, node(WITNESS, log_first=first), send)


def entry(index: int) -> Entry:
    return make_entry(Index(index), Term(2), EntryKind.DATA, Nanos(0), b"")


def test_i14_two_states_after_one_entry_are_found() -> None:
    rule = EqualStates(cluster().checker)
    one, same, other = (
        cast("Any", SimpleNamespace(number=n, replica=SimpleNamespace(state_hash=lambda value=value: value)))
        for n, value in ((1, 7), (2, 7), (3, 8))
    )
    rule.applied(one, entry(5), Outcome())
    rule.applied(same, entry(5), Outcome())
    with pytest.raises(Violation, match="host 3 has another state at 5"):
        rule.applied(other, entry(5), Outcome())


def test_s11_a_load_above_its_maximum_is_found() -> None:
    rule, host = Bounds(cluster().checker), cast("Any", SimpleNamespace(number=2))
    well, ill = (cast("Any", SimpleNamespace(loads=lambda held=held: (Load("reads", held, 4),))) for held in (4, 5))
    for _ in range(2 * EVERY - 1):
        rule.commits(host, well, 1, 2)
    with pytest.raises(Violation, match="host 2: reads: 5, at most 4"):
        rule.commits(host, ill, 1, 2)


@pytest.mark.parametrize("more", [0, 1])
def test_s11_a_log_that_is_not_cut_after_healing_is_found(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cluster()
    rule, keep = Bounds(made.checker), made.mix.config.retained_entries_min
    last = keep + keep // 8 + ENTRIES_UNCUT_MAX + more
    for number in (1, 9):  # 9 was removed: nobody tells it to cut anything
        ends = last if number == 1 else last + 100
        node = SimpleNamespace(log_first=1, commit_index=ends, configuration=CONFIGURATION)
        host = SimpleNamespace(number=number, member_id=number, lost=False, node=node, state=None)
        made.hosts.append(cast("Any", host))
    monkeypatch.setattr(made, "leader", lambda: made.hosts[0])
    assert rule.content() == (not more)
    if more:
        with pytest.raises(Violation, match="the log of host 1 has"):
            rule.finished()
