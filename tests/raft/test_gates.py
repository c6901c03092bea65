"""Level gates (raft.md §6): FENCE, ACTIVATE, CANCEL, DEACTIVATE; who may do what, and what a restart makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.errors import ChangeRefused, CorruptLog, LevelUnsupported, NotLeader, NotReady
from lockmaster_raft.events import (
    AddMember,
    ChangeMember,
    Event,
    ProposeGate,
    StorageReport,
    TransferLeadership,
)
from lockmaster_raft.gates import (
    LEVEL_LIMIT,
    Gate,
    GateOperation,
    MemberLevels,
    already,
    decode_gate,
    encode_gate,
    fold,
    promise_bounds,
    why_level_in_use,
    why_not,
)
from lockmaster_raft.gating import note_report
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Levels, MemberRole
from lockmaster_raft.messages import (
    Heartbeat,
    HeartbeatReply,
    InstallAnchor,
    InstallSnapshot,
)
from lockmaster_raft.progress import Progress
from lockmaster_raft.ready import Appended, Refused, Resolved

from .rig import BOOT_NONCE, Cluster, Rig, append, base, configuration, entries, header, member
from .test_log_replication import leading

FENCE, ACTIVATE = GateOperation.FENCE, GateOperation.ACTIVATE
CANCEL, DEACTIVATE = GateOperation.CANCEL, GateOperation.DEACTIVATE
AT_1, FENCED, AT_2 = Levels(1, 1), Levels(1, 2, Index(5)), Levels(2, 2, Index(9))


def gate_entry(index: int, operation: GateOperation, level: int = 2, fence: int = 0, term: int = 2) -> Entry:
    payload = encode_gate(Gate(operation, level, Index(fence)))
    return make_entry(Index(index), Term(term), EntryKind.GATE, Nanos(0), payload)


# --- pure: the fold -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "index", "gate", "after"),
    [
        (AT_1, 5, Gate(FENCE, 2), FENCED),
        (AT_1, 5, Gate(FENCE, 7), Levels(1, 7, Index(5))),
        (FENCED, 9, Gate(ACTIVATE, 2, Index(5)), AT_2),
        (FENCED, 9, Gate(CANCEL, 2, Index(5)), Levels(1, 1, Index(9))),
        (AT_2, 12, Gate(DEACTIVATE, 2), Levels(1, 1, Index(12))),
        (AT_2, 12, Gate(FENCE, 3), Levels(2, 3, Index(12))),
    ],
)
def test_fold(before: Levels, index: int, gate: Gate, after: Levels) -> None:
    assert fold(before, Index(index), gate) == after
    assert decode_gate(encode_gate(gate)) == gate


@pytest.mark.parametrize(
    ("before", "index", "gate"),
    [
        (AT_1, 5, Gate(FENCE, 1)),
        (AT_1, 5, Gate(FENCE, 2, Index(3))),
        (FENCED, 9, Gate(FENCE, 3)),
        (FENCED, 9, Gate(ACTIVATE, 2, Index(4))),  # names the FENCE before a CANCEL
        (FENCED, 9, Gate(ACTIVATE, 3, Index(5))),
        (FENCED, 9, Gate(CANCEL, 2, Index(4))),
        (FENCED, 5, Gate(CANCEL, 2, Index(5))),
        (FENCED, 9, Gate(DEACTIVATE, 1)),
        (AT_1, 9, Gate(CANCEL, 2)),
        (AT_1, 9, Gate(ACTIVATE, 1)),
        (AT_1, 9, Gate(DEACTIVATE, 1)),
        (AT_2, 12, Gate(DEACTIVATE, 3)),
    ],
)
def test_an_entry_that_no_leader_could_have_appended_stops_the_node(before: Levels, index: int, gate: Gate) -> None:
    with pytest.raises(CorruptLog, match="does not follow"):
        fold(before, Index(index), gate)


@pytest.mark.parametrize("payload", [b"", b"x", b"\x09" + bytes(10), bytes(11), bytes(12)])
def test_an_unknown_operation_stops_the_node(payload: bytes) -> None:
    with pytest.raises(LevelUnsupported):
        decode_gate(payload)


@pytest.mark.parametrize(
    ("history", "commit", "bounds"),
    [
        ([(0, AT_1)], 3, (1, 1)),
        ([(0, AT_1), (5, FENCED)], 4, (1, 2)),  # reported in an earlier boot, perhaps: keep it
        ([(0, AT_1), (5, FENCED)], 5, (2, 2)),
        ([(0, AT_1), (5, FENCED), (9, Levels(1, 1, Index(9)))], 9, (1, 1)),
        ([(0, AT_1), (5, FENCED), (9, Levels(1, 1, Index(9)))], 8, (2, 2)),
        ([(0, AT_1), (5, FENCED), (9, Levels(1, 1, Index(9))), (12, Levels(1, 2, Index(12)))], 10, (1, 2)),
        ([(0, AT_1), (5, FENCED), (9, AT_2), (12, Levels(1, 1, Index(12)))], 12, (2, 2)),  # an ACTIVATE is in the log
        ([(12, Levels(1, 1, Index(12)))], 12, (1, 1)),
    ],
)
def test_what_the_guard_file_must_say(
    history: list[tuple[Index, Levels]], commit: int, bounds: tuple[int, int]
) -> None:
    assert promise_bounds(history, commit) == bounds


# --- pure: preconditions --------------------------------------------------------------------------------------------


def rows(*told: tuple[int, int, int]) -> tuple[MemberLevels, ...]:
    """Members 1, 2, … with (level_min, level_max, fence_index)."""
    return tuple(MemberLevels(NodeId(n), f"m{n}", low, high, Index(i)) for n, (low, high, i) in enumerate(told, 1))


@pytest.mark.parametrize(
    ("operation", "level", "levels", "members", "why"),
    [
        (FENCE, 2, AT_1, rows((1, 2, 0), (1, 3, 0)), ""),
        (FENCE, 2, AT_1, rows((1, 2, 0), (1, 1, 0)), "member 2 (m2) knows up to 1"),
        (FENCE, 2, AT_1, rows((0, 0, 0), (1, 2, 0)), "member 1 (m1) has not reported in this term"),
        (FENCE, 1, AT_1, rows((1, 2, 0)), "a gate's level is 2 to 65535, not 1"),
        (FENCE, LEVEL_LIMIT + 1, AT_1, rows((1, 2, 0)), "a gate's level is"),
        (FENCE, 2, AT_2, rows((1, 2, 0)), "level 2 is active already"),
        (FENCE, 3, FENCED, rows((1, 3, 0)), "a FENCE for level 2 stands at index 5: activate or cancel it first"),
        (ACTIVATE, 2, FENCED, rows((1, 2, 5), (1, 2, 5)), ""),
        (ACTIVATE, 2, FENCED, rows((1, 2, 5), (1, 2, 4)), "member 2 (m2) knows up to 2 and reports index 4"),
        (ACTIVATE, 2, FENCED, rows((1, 2, 5), (0, 0, 0)), "member 2 (m2) has not reported in this term"),
        (ACTIVATE, 3, FENCED, rows((1, 3, 5)), "no FENCE for level 3 stands; a FENCE for level 2 stands at index 5"),
        (ACTIVATE, 2, AT_1, rows((1, 2, 0)), "no FENCE for level 2 stands"),
        (CANCEL, 2, FENCED, rows((0, 0, 0)), ""),
        (CANCEL, 2, AT_2, rows((1, 2, 0)), "level 2 is active: CANCEL(2) comes too late"),
        (DEACTIVATE, 2, AT_2, rows((1, 2, 0), (1, 2, 0)), ""),
        (DEACTIVATE, 2, AT_2, rows((1, 2, 0), (2, 3, 0)), "member 2 (m2) needs 2 or above"),
        (DEACTIVATE, 2, AT_2, rows((1, 2, 0), (0, 0, 0)), "member 2 (m2) has not reported in this term"),
        (DEACTIVATE, 3, AT_2, rows((1, 2, 0)), "the active level is 2, not 3"),
    ],
)
def test_preconditions_name_the_member_and_the_number(
    operation: GateOperation, level: int, levels: Levels, members: Sequence[MemberLevels], why: str
) -> None:
    said = why_not(operation, level, levels, members, configuration())
    assert (why in said) if why else said == ""


def test_i13_deactivate_is_refused_while_a_witness_is_there() -> None:
    conf = configuration().with_member(replace(member(3), role=MemberRole.WITNESS))
    assert why_level_in_use(2, conf) == "member 3 (m3) is a witness"
    assert why_level_in_use(3, conf) == ""
    said = why_not(DEACTIVATE, 2, AT_2, rows((1, 2, 0), (1, 2, 0), (1, 2, 0)), conf)
    assert said == "level 2 is in use: member 3 (m3) is a witness"
    joint = replace(configuration(), outgoing=(NodeId(1), NodeId(4)))
    assert why_level_in_use(2, joint) == "the joint change from voters [1, 4] is not left yet"
    assert why_level_in_use(2, replace(configuration(), reduced_commit=True)) == "the reduced commit quorum is on"
    assert why_level_in_use(2, configuration()) == ""


@pytest.mark.parametrize(
    ("operation", "level", "levels", "so"),
    [
        (FENCE, 2, FENCED, True),
        (FENCE, 2, AT_2, False),
        (ACTIVATE, 2, AT_2, True),
        (ACTIVATE, 2, FENCED, False),
        (CANCEL, 2, AT_1, True),
        (CANCEL, 2, FENCED, False),
        (CANCEL, 2, AT_2, False),
        (DEACTIVATE, 2, AT_1, True),
        (DEACTIVATE, 2, AT_2, False),
    ],
)
def test_a_repeated_request_changes_nothing(operation: GateOperation, level: int, levels: Levels, so: bool) -> None:
    assert already(operation, level, levels) is so


# --- reports --------------------------------------------------------------------------------------------------------


def report(round_id: int, nonce: int, level_max: int = 2, fence: int = 0) -> HeartbeatReply:
    head = replace(header(2, 2), level_max=level_max)
    return HeartbeatReply(head, round_id, Nanos(0), Index(1), Index(1), Index(1), 0, Index(fence), nonce)


def told(*reports: HeartbeatReply) -> tuple[int, int]:
    p = Progress(NodeId(2), 2, Nanos(0), 1)
    for m in reports:
        note_report(p, m)
    return p.level_max, p.fence_index


def test_an_answer_of_an_older_round_counts_no_more() -> None:
    """A binary that was rolled back since: its old boot's answer comes last."""
    assert told(report(4, 1, level_max=2, fence=7), report(5, 2, level_max=1)) == (1, 0)
    assert told(report(5, 2, level_max=1), report(4, 1, level_max=2, fence=7)) == (1, 0)


def test_of_two_boots_that_answer_one_round_neither_counts() -> None:
    assert told(report(5, 1, fence=7), report(5, 2, level_max=1)) == (0, 0)
    assert told(report(5, 2, level_max=1), report(5, 1, fence=7), report(5, 1, fence=7)) == (0, 0)
    assert told(report(5, 2), report(5, 1), report(6, 1, fence=7)) == (2, 7)


def test_a_duplicate_of_one_boot_takes_nothing_back() -> None:
    assert told(report(5, 1, fence=7), report(5, 1, fence=0)) == (2, 7)


# --- a follower -----------------------------------------------------------------------------------------------------


def test_a_fence_is_promised_when_committed_and_reported_when_durable() -> None:
    rig = Rig(term=2, level_max=2)
    rig.receive(append(2, 2, (1, 1), [gate_entry(2, FENCE)]))
    assert rig.node.promised_level == 1
    rig.synced()
    ready = rig.receive(append(2, 2, (2, 2), (), commit=2, request_id=2))
    assert ready.persist is not None
    assert ready.persist.level == 2
    assert all(send.after == ready.persist.seq for send in ready.send)
    rig.receive(heartbeat(3))
    answer = rig.only(HeartbeatReply)
    assert (answer.fence_index, answer.boot_nonce) == (2, BOOT_NONCE)
    assert rig.send_of(HeartbeatReply).after == ready.persist.seq


def heartbeat(round_id: int) -> Heartbeat:
    return Heartbeat(header(2, 2), round_id, Nanos(5), Index(2), Nanos(0), 1)


def test_a_cancel_gives_the_promise_back() -> None:
    rig = Rig(term=2, level_max=2)
    ready = rig.receive(append(2, 2, (1, 1), [gate_entry(2, FENCE), gate_entry(3, CANCEL, fence=2)], commit=2))
    assert ready.persist is not None
    assert ready.persist.level == 2
    ready = rig.receive(append(2, 2, (3, 2), (), commit=3, request_id=2))
    assert ready.persist is not None
    assert ready.persist.level == 1
    assert rig.node.levels == Levels(1, 1, Index(3))
    assert rig.node.levels_at(Index(2)) == Levels(1, 2, Index(2))
    assert rig.node.levels_at(Index(1)) == AT_1


def test_a_promise_reported_before_a_restart_is_kept_while_its_fence_is_in_the_log() -> None:
    """The commit index starts below the FENCE again: a binary rolled back now would break what was reported."""
    log = [*entries(2, 2), gate_entry(3, FENCE), gate_entry(4, CANCEL, fence=3), gate_entry(5, FENCE)]
    rig = Rig(term=2, log=log, level_max=2, level=2)
    assert rig.ready.persist is None
    assert rig.node.promised_level == 2
    rig.receive(append(2, 2, (5, 2), (), commit=4))
    assert rig.node.promised_level == 2


def test_a_level_left_over_from_a_crash_is_given_back_at_boot() -> None:
    log = [gate_entry(2, FENCE), gate_entry(3, CANCEL, fence=2)]
    rig = Rig(term=2, log=log, level_max=2, level=2, applied=3)
    assert rig.ready.persist is not None
    assert rig.ready.persist.level == 1


def test_fence_and_activate_are_rolled_back_with_the_log() -> None:
    rig = Rig(term=2, level_max=2)
    rig.receive(append(2, 2, (1, 1), [gate_entry(2, FENCE), gate_entry(3, CANCEL, fence=2), gate_entry(4, FENCE)]))
    rig.receive(append(3, 3, (1, 1), entries(2, 3)))
    assert rig.node.levels_at(Index(9)) == AT_1
    rig.receive(append(3, 3, (2, 3), [gate_entry(3, FENCE, term=3)], commit=3))
    assert rig.node.levels == Levels(1, 2, Index(3))


# --- a binary of level 1 --------------------------------------------------------------------------------------------


def test_a_level_1_binary_gets_past_fence_and_cancel() -> None:
    """Rolled back after the CANCEL: it replays both."""
    log = [gate_entry(2, FENCE), gate_entry(3, CANCEL, fence=2), *entries(4, 2)]
    rig = Rig(term=2, log=log, level_max=1)
    rig.receive(append(2, 2, (4, 2), (), commit=4))
    assert rig.node.levels == Levels(1, 1, Index(3))
    assert rig.node.promised_level == 1
    fresh = Rig(term=2, level_max=1)
    fresh.receive(append(2, 2, (1, 1), log, commit=4))
    assert fresh.node.levels == Levels(1, 1, Index(3))


def test_a_level_1_binary_promises_nothing_to_a_fence_above_it() -> None:
    """It was rolled back before the FENCE was appended: it runs, reports nothing, and says so."""
    rig = Rig(term=2, level_max=1)
    ready = rig.receive(append(2, 2, (1, 1), [gate_entry(2, FENCE)], commit=2))
    assert [alarm.code for alarm in ready.alarms] == ["fence_above"]
    assert "level 2 stands at index 2; this binary knows up to 1" in ready.alarms[0].text
    assert ready.persist is not None
    assert ready.persist.level is None
    rig.receive(heartbeat(3))
    assert rig.only(HeartbeatReply).fence_index == 0


def test_a_level_1_binary_stops_at_an_activate_above_it() -> None:
    log = [gate_entry(2, FENCE), gate_entry(3, ACTIVATE, fence=2)]
    rig = Rig(term=2, level_max=1)
    with pytest.raises(LevelUnsupported, match="entry 3: level 2 is active; this binary knows up to 1"):
        rig.receive(append(2, 2, (1, 1), log))
    with pytest.raises(LevelUnsupported, match="entry 3"):
        Rig(term=2, log=log, level_max=1)


def test_a_level_1_binary_refuses_a_guard_file_a_base_and_a_snapshot_above_it() -> None:
    with pytest.raises(LevelUnsupported, match="promised level 2; this binary knows up to 1"):
        Rig(level=2, level_max=1)
    with pytest.raises(LevelUnsupported, match="base 12"):
        Rig(start=replace(base(configuration(), 12), levels=AT_2), term=2, level_max=1)
    rig = Rig(term=2, level_max=1)
    offer = InstallSnapshot(
        header(2, 2), 1, Index(20), Term(2), configuration(), Index(1), AT_2, (b"d" * 32,), 9, (NodeId(2),)
    )
    with pytest.raises(LevelUnsupported, match="snapshot at index 20"):
        rig.receive(offer)
    anchor = InstallAnchor(header(2, 2), 1, Index(20), Term(2), configuration(), Index(1), AT_2)
    with pytest.raises(LevelUnsupported, match="anchor at index 20"):
        rig.receive(anchor)


# --- a cluster ------------------------------------------------------------------------------------------------------


def add(number: int, level_max: int = 1) -> AddMember:
    where = (f"m{number}", f"m{number}:1", f"m{number}:2", bytes([number]) * 16)
    return AddMember(50 + number, *where, level_max=level_max)


def grown(*level_max: int, config: RaftConfig | None = None) -> Cluster:
    """Members 1, 2, … with binaries of these levels; member 1 leads."""
    cluster = Cluster(config, blank=True)
    cluster.level_max = dict(enumerate(level_max, 1))
    cluster.boot(1, base(configuration((1,))))
    cluster.run(SECOND)
    for number in range(2, len(level_max) + 1):
        cluster.step(1, add(number, level_max[number - 1]))
        cluster.run(SECOND // 20)
        cluster.boot(number)
        cluster.run(3 * SECOND)
    assert cluster.leader == 1
    return cluster


def ask(
    cluster: Cluster, operation: GateOperation, level: int = 2, epoch: int | None = None
) -> Appended | Refused | Resolved:
    """Ask the leader and let it commit."""
    cluster.proposals.clear()
    cluster.step(cluster.leader, ProposeGate(9, operation, level, epoch))
    (answer,) = cluster.proposals
    cluster.run(SECOND // 2)
    return answer


def refusal(answer: Appended | Refused | Resolved) -> str:
    assert isinstance(answer, Refused), answer
    assert isinstance(answer.error, ChangeRefused)
    return str(answer.error)


def test_fence_and_activate_on_every_member() -> None:
    cluster = grown(2, 2, 2)
    fence = ask(cluster, FENCE)
    assert isinstance(fence, Appended)
    assert cluster.level == {1: 2, 2: 2, 3: 2}
    activate = ask(cluster, ACTIVATE)
    assert isinstance(activate, Appended)
    assert {node.levels for node in cluster.nodes.values()} == {Levels(2, 2, activate.index)}
    assert isinstance(ask(cluster, ACTIVATE), Resolved)
    assert isinstance(ask(cluster, DEACTIVATE), Appended)
    assert {node.levels.active for node in cluster.nodes.values()} == {1}
    assert cluster.level == {1: 2, 2: 2, 3: 2}  # the ACTIVATE is still in the log: an older binary can't replay it


def test_fence_names_the_member_that_is_too_old_and_the_one_that_is_silent() -> None:
    cluster = grown(2, 2, 1)
    assert "member 3 (m3) knows up to 1" in refusal(ask(cluster, FENCE))
    cluster = grown(2, 2, 2)
    cluster.down.add(3)
    cluster.step(1, TransferLeadership(1, NodeId(2)))
    cluster.run(SECOND)
    assert cluster.leader == 2
    assert "member 3 (m3) has not reported in this term" in refusal(ask(cluster, FENCE))


def test_activate_waits_for_the_report_of_the_member_that_is_down() -> None:
    cluster = grown(2, 2, 2)
    cluster.down.add(3)
    fence = ask(cluster, FENCE)
    assert isinstance(fence, Appended)
    why = refusal(ask(cluster, ACTIVATE))
    assert f"the FENCE at index {fence.index}: member 3 (m3) knows up to 2 and reports index 0" in why
    cluster.down.clear()
    cluster.boot(3, cluster.stores[3].base, cluster.stores[3].log)
    cluster.run(2 * SECOND)
    assert isinstance(ask(cluster, ACTIVATE), Appended)


def test_reports_from_before_a_cancel_never_count() -> None:
    cluster = grown(2, 2, 2)
    first = ask(cluster, FENCE)
    assert isinstance(ask(cluster, CANCEL), Appended)
    assert cluster.level == {1: 1, 2: 1, 3: 1}
    assert isinstance(ask(cluster, CANCEL), Resolved)
    cluster.down.add(3)
    second = ask(cluster, FENCE)
    assert isinstance(first, Appended)
    assert isinstance(second, Appended)
    cluster.nodes[1]._core.progress[NodeId(3)].fence_index = first.index  # as a delayed answer would leave it
    assert f"member 3 (m3) knows up to 2 and reports index {first.index}" in refusal(ask(cluster, ACTIVATE))


def test_a_binary_is_rolled_back_after_a_cancel_and_not_before() -> None:
    cluster = grown(2, 2, 2)
    ask(cluster, FENCE)
    cluster.level_max[3] = 1
    with pytest.raises(LevelUnsupported, match="promised level 2"):
        cluster.boot(3, cluster.stores[3].base, cluster.stores[3].log)
    ask(cluster, CANCEL)
    cluster.boot(3, cluster.stores[3].base, cluster.stores[3].log)
    cluster.run(2 * SECOND)
    assert cluster.nodes[3].commit_index == cluster.nodes[1].commit_index
    assert "member 3 (m3) knows up to 1" in refusal(ask(cluster, FENCE))


def test_joins_below_the_fence_are_refused() -> None:
    cluster = grown(2, 2)
    fence = ask(cluster, FENCE)
    assert isinstance(fence, Appended)
    cluster.proposals.clear()
    cluster.step(1, add(3))
    why = f"m3 knows levels up to 1: a FENCE for level 2 stands at index {fence.index}"
    assert refusal(cluster.proposals[0]) == why
    ask(cluster, ACTIVATE)
    cluster.proposals.clear()
    cluster.step(1, add(3))
    assert refusal(cluster.proposals[0]) == "m3 knows levels up to 1: the log needs level 2"
    cluster.step(1, replace(add(4, 4), level_min=3))
    assert refusal(cluster.proposals[1]) == "m4 needs level 3 or above; level 2 is active"
    cluster.step(1, add(3, 2))
    assert isinstance(cluster.proposals[2], Appended)


def test_a_joiner_learns_the_level_from_the_snapshot_and_promises_it() -> None:
    cluster = grown(2, 2, config=RaftConfig(retained_entries_min=1, log_bytes_max=1))
    ask(cluster, FENCE)
    activate = ask(cluster, ACTIVATE)
    assert isinstance(activate, Appended)
    for number in (1, 2):
        node = cluster.nodes[number]
        cluster.step(number, StorageReport(node.applied, 1 << 30, 0))
    assert cluster.nodes[1].log_first > activate.index
    cluster.level_max[3] = 2
    cluster.step(1, add(3, 2))
    cluster.run(SECOND // 20)
    cluster.boot(3)
    cluster.run(4 * SECOND)
    assert cluster.nodes[3].levels == Levels(2, 2, activate.index)
    assert cluster.level[3] == 2


def test_a_level_is_given_back_when_the_log_no_longer_holds_its_activate() -> None:
    cluster = grown(2, 2, config=RaftConfig(retained_entries_min=1, log_bytes_max=1))
    ask(cluster, FENCE)
    ask(cluster, ACTIVATE)
    ask(cluster, DEACTIVATE)
    assert cluster.level == {1: 2, 2: 2}
    for number in (1, 2):
        cluster.step(number, StorageReport(cluster.nodes[number].applied, 1 << 30, 0))
    assert cluster.level == {1: 1, 2: 1}


def test_what_a_deactivate_ended_does_not_stay_in_the_log_for_slow_members_sake() -> None:
    """With the product's 10,000 retained entries a quiet cluster kept older binaries out for days."""
    cluster = grown(2, 2, config=RaftConfig())
    ask(cluster, FENCE)
    ask(cluster, ACTIVATE)
    begins = {number: node.log_first for number, node in cluster.nodes.items()}
    for number in (1, 2):
        cluster.step(number, StorageReport(cluster.nodes[number].applied, 1 << 30, 0))
    assert {number: node.log_first for number, node in cluster.nodes.items()} == begins
    ended = ask(cluster, DEACTIVATE)
    assert isinstance(ended, Appended)
    cluster.run(SECOND)
    for number in (1, 2):
        cluster.step(number, StorageReport(cluster.nodes[number].applied, 1 << 30, 0))
    assert {node.log_first for node in cluster.nodes.values()} == {ended.index + 1}
    assert cluster.level == {1: 1, 2: 1}


def test_i10_one_uncommitted_entry_among_config_and_gate() -> None:
    rig = leading()
    for number in (2, 3):
        rig.node._core.progress[NodeId(number)].level_max = 2
    (first,) = rig.step(ProposeGate(1, FENCE, 2)).proposals
    assert isinstance(first, Appended)
    (again,) = rig.step(ProposeGate(2, FENCE, 2)).proposals
    assert again == Appended(2, first.index, first.term)
    (cancel,) = rig.step(ProposeGate(3, CANCEL, 2)).proposals
    assert isinstance(cancel, Refused)
    assert str(cancel.error) == f"the gate entry at index {first.index} is not committed yet"
    (change,) = rig.step(ChangeMember(4, replace(member(3), name="other"))).proposals
    assert isinstance(change, Refused)
    assert isinstance(change.error, NotReady)


def test_a_gate_is_not_appended_beside_an_uncommitted_configuration() -> None:
    rig = leading()
    rig.step(ChangeMember(1, replace(member(3), name="other")))
    (answer,) = rig.step(ProposeGate(2, CANCEL, 3)).proposals
    assert answer == Resolved(2)
    (answer,) = rig.step(ProposeGate(3, FENCE, 2)).proposals
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, NotReady)


def test_a_request_is_compared_with_the_gates_epoch() -> None:
    cluster = grown(2, 2)
    assert refusal(ask(cluster, FENCE, epoch=3)) == "the gate's epoch is 0, not 3"
    fence = ask(cluster, FENCE, epoch=0)
    assert isinstance(fence, Appended)
    assert refusal(ask(cluster, ACTIVATE, epoch=0)) == f"the gate's epoch is {fence.index}, not 0"
    assert isinstance(ask(cluster, ACTIVATE, epoch=fence.index), Appended)


def test_only_a_leader_takes_a_gate() -> None:
    rig = Rig(term=2)
    (answer,) = rig.step(ProposeGate(1, FENCE, 2)).proposals
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, NotLeader)


def admin(cluster: Cluster, event: Event) -> Appended | Refused | Resolved:
    """What the leader says at once; nothing commits."""
    cluster.proposals.clear()
    cluster.step(cluster.leader, event)
    (answer,) = cluster.proposals
    return answer
