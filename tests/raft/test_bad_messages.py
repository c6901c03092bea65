"""Issue 4, Bad input: an impossible message is refused with a counted reason, in every role, and crashes nobody."""

from __future__ import annotations

import ast
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import lockmaster_raft
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import EntryKind, make_entry
from lockmaster_raft.errors import InvariantViolation, LevelUnsupported
from lockmaster_raft.events import Applied, RequestRead, StorageReport
from lockmaster_raft.gates import Gate, GateOperation, encode_gate
from lockmaster_raft.ids import INDEX_MAX, Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Levels
from lockmaster_raft.messages import (
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallAnchor,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteReply,
    Removed,
    RequestVoteReply,
    WitnessReport,
)
from lockmaster_raft.validate import EPOCH_AHEAD_MAX, INDEX_AHEAD_MAX, TERM_AHEAD_MAX, TIME_AHEAD_MAX

from .absurd import EVERY_KIND, ODD_CONFIGURATIONS, in_range, messages, number, of_kind
from .coherent import WAITS, Talk
from .rig import BLANK, Rig, append, config_entry, configuration, entries, header
from .shapes import add
from .test_log_replication import leading
from .test_promotion import promoting
from .test_snapshot_fetch import fetching


def follower() -> Rig:
    return Rig(log=entries(2, 1, 1), term=2)


def campaigning() -> Rig:
    rig = Rig(log=entries(2, 1), term=2)
    rig.tick(5 * SECOND)
    return rig


def reading() -> Rig:
    rig = leading()
    rig.step(RequestRead(7))
    return rig


def changing() -> Rig:
    rig = leading()
    rig.step(add(4))
    return rig


def witness() -> Rig:
    return Rig(conf=configuration(witnesses=(1,)), log=entries(2, 1, 1), term=2, has_state=False)


def caretaker() -> Rig:
    rig = witness()
    rig.tick(5 * SECOND)
    ask = rig.sent(PreVote)[0]
    behind = (ask.round_id, True, "", Index(1), Term(1))
    for voter in (2, 3):
        rig.receive(PreVoteReply(header(voter, 2), ask.next_term, *behind))
    rig.synced()
    rig.receive(RequestVoteReply(header(2, 3), True, "", Index(1), Term(1)))
    assert rig.node.is_caretaker
    return rig


def removed() -> Rig:
    rig = Rig()
    rig.receive(Removed(header(2, 1), 2))
    return rig


ROLES: dict[str, Callable[[], Rig]] = {
    "follower": follower,
    "pre-candidate": campaigning,
    "leader": leading,
    "leader that reads": reading,
    "leader that changes members": changing,
    "learner": lambda: Rig(conf=configuration((2, 3), (1,)), log=entries(2, 1), term=2),
    "witness": witness,
    "caretaker": caretaker,
    "promoting witness": promoting,
    "fetching a snapshot": fetching,
    "blank": lambda: Rig(start=BLANK, term=0),
    "removed": removed,
}


def meet(rig: Rig, message: Message, talk: Talk | None = None) -> bool:
    """Receive it and go on as a host does (as `talk` has it); False when the node must stop by design."""
    if message.header.receiver == 1:
        message = dataclasses.replace(message, header=dataclasses.replace(message.header, receiver=rig.node.node_id))
    term, commit, last = rig.node.term, rig.node.commit_index, rig.node.last_index
    count = sum(rig.node.refusals.values())
    try:
        ready = rig.receive(message, after_ns=1000)
    except LevelUnsupported:
        return False  # raft.md §6: what this binary does not know stops it, it never skips
    except InvariantViolation as error:
        if "both lead term" in str(error):
            return False  # the law itself is broken, and what either of the two has committed may be lost
        raise
    assert rig.node.term >= term
    assert commit <= rig.node.commit_index <= rig.node.last_index
    assert all(s.message.header.term <= rig.node.term for s in ready.send)
    if rig.node.term > term + 2**32 or rig.node.last_index > last + 2**48:
        raise AssertionError("believed something from the far future")
    if not (0 < message.header.term <= INDEX_MAX and 0 < message.header.sender <= INDEX_MAX):
        assert sum(rig.node.refusals.values()) == count + 1
        assert ready.persist is None
    if ready.apply and rig.node._core.machine:
        rig.step(Applied(ready.apply[-1].index))
    for event in talk.host(ready) if talk is not None else ():
        rig.step(event)
    if rig.node._core.persist_seq > rig.node._core.persisted_seq:
        rig.synced()
    return True


@pytest.mark.parametrize("role", ROLES)
@settings(max_examples=45, deadline=None)
@given(incoming=st.lists(messages(number), min_size=1, max_size=6))
def test_no_message_breaks_a_law_or_crashes_in_any_role(role: str, incoming: list[Message]) -> None:
    rig = ROLES[role]()
    for message in incoming:
        if not meet(rig, message):
            return
    rig.step(StorageReport(Index(0), 1 << 30, 0))
    for _ in range(3):
        rig.tick(SECOND)


@pytest.mark.parametrize("role", ROLES)
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_sequence_that_fits_the_node_breaks_a_law_or_crashes_it(role: str, seed: int) -> None:
    """Each message is made from the node's state (coherent.py), and the host does what it is told meanwhile."""
    rng = random.Random(seed)
    rig = ROLES[role]()
    talk = Talk(rig, rng)
    for _ in range(rng.randint(5, 40)):
        if rng.random() < 0.1:
            rig.tick(rng.choice(WAITS))
        elif not meet(rig, talk.message(), talk):
            return


# --- single rules -------------------------------------------------------------------------------------------------


def refused(rig: Rig, message: Message, reason: str) -> None:
    """It changes nothing, and is counted under this reason."""
    before = (rig.node.term, rig.node.commit_index, rig.node.last_index, rig.node.configuration, rig.node.role)
    rig.receive(message)
    assert rig.node.refusals == {reason: 1}
    assert (rig.node.term, rig.node.commit_index, rig.node.last_index, rig.node.configuration, rig.node.role) == before
    assert rig.ready.persist is None


@pytest.mark.parametrize("kind", EVERY_KIND)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_term_from_the_far_future_is_refused_whatever_brings_it(kind: type[Message], data: st.DataObject) -> None:
    """Whoever took it over would go on from there, until the numbers are used up."""
    message = data.draw(of_kind(kind, in_range))
    refused(follower(), dataclasses.replace(message, header=header(2, 3 + TERM_AHEAD_MAX)), "term from the far future")


def test_a_term_as_far_ahead_as_may_be_is_taken() -> None:
    rig = follower()
    rig.receive(append(2, 2 + TERM_AHEAD_MAX, (3, 1)))
    assert rig.node.term == 2 + TERM_AHEAD_MAX


def test_a_stamp_from_the_far_future_is_refused() -> None:
    late = make_entry(Index(4), Term(2), EntryKind.DATA, Nanos(TIME_AHEAD_MAX + 1), b"x")
    refused(follower(), append(2, 2, (3, 1), (late,)), "entry time out of range")
    beat = Heartbeat(header(2, 2), 1, Nanos(0), Index(1), Nanos(TIME_AHEAD_MAX + 1), 1)
    refused(follower(), beat, "number out of range")


@pytest.mark.parametrize("odd", range(len(ODD_CONFIGURATIONS)))
def test_a_configuration_that_no_leader_made_is_refused(odd: int) -> None:
    """It would be in force when appended (§4.1)."""
    conf = ODD_CONFIGURATIONS[odd]
    refused(follower(), append(2, 2, (3, 1), (config_entry(4, 2, conf),)), "configuration entry malformed")
    place = (1, Index(9), Term(1), conf, Index(1), Levels())
    offer = InstallSnapshot(header(2, 2), *place, (b"d" * 32,), 9, (NodeId(2),))
    refused(follower(), offer, "snapshot configuration malformed")
    refused(witness(), InstallAnchor(header(2, 2), *place), "number out of range")


def test_bytes_that_are_no_configuration_are_refused() -> None:
    garbage = make_entry(Index(4), Term(2), EntryKind.CONFIG, Nanos(0), b"garbage")
    rig = follower()
    refused(rig, append(2, 2, (3, 1), (garbage,)), "configuration entry malformed")
    assert rig.only(AppendEntriesReply).reason == "configuration entry malformed"


def test_a_gate_entry_that_no_leader_could_have_appended_there_is_refused() -> None:
    """The fold would stop the node (gates.py); the entry was on its way only, and is refused with its message."""
    rig = follower()
    payload = encode_gate(Gate(GateOperation.ACTIVATE, 2, Index(3)))
    gate = make_entry(Index(4), Term(2), EntryKind.GATE, Nanos(0), payload)
    rig.receive(append(2, 2, (3, 1), (gate,)))
    assert rig.node.refusals == {"gate entry that follows nothing": 1}
    assert rig.node.last_index == 3
    assert not rig.only(AppendEntriesReply).success


@pytest.mark.parametrize("index", [INDEX_MAX, 4 + INDEX_AHEAD_MAX])
def test_a_snapshot_and_an_anchor_from_the_far_future_are_refused(index: int) -> None:
    """The log would begin there, and its indexes overflow."""
    place = (1, Index(index), Term(1), configuration(), Index(1), Levels())
    offer = InstallSnapshot(header(2, 2), *place, (b"d" * 32,), 9, (NodeId(2),))
    refused(follower(), offer, "index from the far future")
    refused(witness(), InstallAnchor(header(2, 2), *place), "index from the far future")


def test_a_removal_of_a_far_epoch_is_refused() -> None:
    refused(follower(), Removed(header(2, 2), 2 + EPOCH_AHEAD_MAX), "configuration epoch from the far future")


def heartbeat_reply(rig: Rig, *, commit: int = 1, applied: int = 1, sticky_ns: int = SECOND) -> HeartbeatReply:
    beat = rig.sent(Heartbeat)[0]
    numbers = (Index(commit + 1), Index(commit), Index(applied), sticky_ns)
    return HeartbeatReply(header(2, 2), beat.round_id, beat.sent_at, *numbers)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"sticky_ns": INDEX_MAX}, "number out of range"),
        ({"applied": 2}, "number out of range"),
        ({"commit": 99, "applied": 1}, "heartbeat reply beyond the leader's log"),
    ],
)
def test_what_no_member_can_have_is_not_believed_of_it(told: dict[str, int], reason: str) -> None:
    """A promise of years would be a lease of years; what it claims to have applied decides over demotions."""
    rig = leading()
    rig.tick(rig.config.heartbeat_interval_ns)
    refused(rig, heartbeat_reply(rig, **told), reason)
    assert rig.node.progress_view()[NodeId(2)].applied == 1


def test_a_promise_longer_than_the_own_election_timeout_makes_no_longer_lease() -> None:
    rig = leading()
    rig.tick(rig.config.heartbeat_interval_ns)
    rig.receive(heartbeat_reply(rig, sticky_ns=60 * SECOND))
    rig.step(RequestRead(1, by_lease=True))
    assert [r.request_id for r in rig.ready.reads] == [1]
    rig.step(RequestRead(2, by_lease=True), SECOND)
    assert [r.index for r in rig.ready.reads] in ([], [None])


def test_a_report_beyond_the_leaders_log_is_refused() -> None:
    """A side state that claims to be further than the log would end a promotion (P4) that is not done."""
    report = WitnessReport(header(2, 2), Index(1), 0, 1, 1, Index(0), 2, Index(99))
    refused(leading(), report, "witness report beyond the leader's log")


def test_reasons_are_a_fixed_set() -> None:
    """They are labels of a metric: none may carry text or numbers of a message."""
    root = Path(lockmaster_raft.__file__).parent
    calls = [
        call.args[0]
        for path in sorted(root.glob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "refuse"
    ]
    assert len(calls) > 20
    assert all(isinstance(a, ast.Constant) or (isinstance(a, ast.Name) and a.id in ("reason", "why")) for a in calls)
