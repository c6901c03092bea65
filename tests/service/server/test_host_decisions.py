"""The host's pure decisions: group commit, inline syncs, flush offsets, who waits for what."""

from __future__ import annotations

import asyncio

import pytest
from lockmaster.errors import Indeterminate, LockmasterError, NotLeader, Overloaded
from lockmaster.server import batching, waiting
from lockmaster.server.batching import BATCH_OPERATIONS_MAX, ProposalQueue, may_form
from lockmaster.server.contacts import contacts_of
from lockmaster.server.persisting import moved_average, sync_inline
from lockmaster.server.storing import FLUSH_COMMANDS, FlushSchedule
from lockmaster.server.waiting import READ_ROUNDS_MAX, AdminCalls, KeepAliveCalls, ReadBarrier
from lockmaster.statemachine.commands import CloseSession, Command
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration, Member

COMMAND = Command(CloseSession(1))


def test_everything_that_waits_becomes_one_batch_in_order() -> None:
    queue = ProposalQueue()
    for number in range(3):
        assert queue.offer(COMMAND, bytes([number]), None, number == 1)
    batch = queue.take()
    assert batch is not None
    assert (batch.encoded, batch.reserved, len(queue), queue.size) == ([b"\0", b"\1", b"\2"], True, 0, 0)
    assert queue.take() is None


def test_a_batch_has_a_limit_in_operations_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = ProposalQueue()
    for _ in range(BATCH_OPERATIONS_MAX + 1):
        queue.offer(COMMAND, b"x", None, False)
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    assert (len(first.commands), len(second.commands)) == (BATCH_OPERATIONS_MAX, 1)
    monkeypatch.setattr(batching, "BATCH_BYTES_MAX", 10)
    for size in (20, 6, 6):
        queue.offer(COMMAND, b"x" * size, None, False)
    sizes = [sum(map(len, batch.encoded)) for batch in iter(queue.take, None)]
    assert sizes == [20, 6, 6]


def test_a_full_queue_still_takes_reserved_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "QUEUE_OPERATIONS_MAX", 1)
    monkeypatch.setattr(batching, "RESERVED_OPERATIONS_MAX", 1)
    queue = ProposalQueue()
    assert queue.offer(COMMAND, b"x", None, False)
    assert not queue.offer(COMMAND, b"x", None, False)
    assert queue.offer(COMMAND, b"x", None, True)
    assert not queue.offer(COMMAND, b"x", None, True)


@pytest.mark.parametrize(
    ("in_flight", "commit", "last", "forms"), [(0, 5, 9, True), (1, 9, 9, True), (1, 8, 9, False), (2, 9, 9, True)]
)
def test_the_next_batch_waits_for_own_disk_or_commit(in_flight: int, commit: int, last: int, forms: bool) -> None:
    assert may_form(in_flight, commit, last) is forms


@pytest.mark.parametrize(
    ("leading", "in_flight", "size", "average_ns", "inline"),
    [
        (False, 0, 1000, 200_000, True),
        (True, 0, 1000, 200_000, False),
        (False, 1, 1000, 200_000, False),
        (False, 0, 1 << 20, 200_000, False),
        (False, 0, 1000, 300_000, False),
    ],
)
def test_only_a_follower_with_a_fast_disk_syncs_inline(
    leading: bool, in_flight: int, size: int, average_ns: int, inline: bool
) -> None:
    assert sync_inline(leading=leading, in_flight=in_flight, size=size, average_ns=average_ns) is inline


def test_the_sync_average_starts_with_its_first_sample() -> None:
    assert moved_average(0, 800) == 800
    assert moved_average(800, 1600) == 900


def test_members_flush_at_different_offsets() -> None:
    schedules = [FlushSchedule(member_id, 0.0) for member_id in (1, 2, 3)]
    for schedule in schedules:
        schedule.applied(FLUSH_COMMANDS // 3 + 1, 0)
    assert [schedule.due(0.0) for schedule in schedules] == [False, True, False]
    schedules[1].begun(0.0)
    assert not schedules[1].due(0.0)


def test_reads_share_a_round_and_wait_for_apply() -> None:
    barrier, answers = ReadBarrier(), []
    for name in ("a", "b"):
        barrier.add(lambda error, name=name: answers.append((name, error)))  # type: ignore[misc]
    request = barrier.ask()
    assert request is not None
    assert barrier.ask() is None
    assert barrier.told(request, 7, applied=6) == ([], False)
    assert barrier.applied(6) == []
    for done in barrier.applied(7):
        done(None)
    assert answers == [("a", None), ("b", None)]
    assert barrier.drain() == []


def test_reads_by_lease_wait_for_no_round_of_others_and_are_bounded_by_themselves() -> None:
    barrier = ReadBarrier()
    for _ in range(READ_ROUNDS_MAX):
        barrier.add(lambda error: None)
        assert barrier.ask() is not None
    barrier.add(lambda error: None)
    assert barrier.ask() is None
    asked = []
    for _ in range(READ_ROUNDS_MAX):
        barrier.add(lambda error: None, by_lease=True)
        asked.append(barrier.ask(by_lease=True))
    assert None not in asked
    barrier.add(lambda error: None, by_lease=True)
    assert barrier.ask(by_lease=True) is None
    assert barrier.told(asked[0] or 0, 1, applied=1)[1] is False
    assert barrier.ask(by_lease=True) is not None
    assert len(barrier.drain()) == 2 * READ_ROUNDS_MAX + 1
    assert barrier.ask() is barrier.ask(by_lease=True) is None


def test_a_read_that_arrives_later_is_never_released_by_an_earlier_round() -> None:
    barrier = ReadBarrier()
    barrier.add(lambda error: None)
    first = barrier.ask()
    barrier.add(lambda error: None)
    second = barrier.ask()
    assert first is not None
    assert second is not None
    assert len(barrier.told(first, None, applied=0)[0]) == 1
    assert len(barrier.told(second, 1, applied=1)[0]) == 1


def test_a_keepalive_of_many_sessions_is_answered_once_with_the_expired_ones() -> None:
    calls, answers = KeepAliveCalls(), list[object]()
    assert calls.add([1, 2, 3], answers.append) is None
    calls.take([1, 3]).renewed([3])
    assert answers == []
    calls.take([2]).renewed([])
    assert answers == [(3,)]


def test_a_failed_keepalive_is_answered_once() -> None:
    calls, answers = KeepAliveCalls(), list[object]()
    calls.add([1, 2], answers.append)
    error = NotLeader()
    batch = calls.take([1])
    batch.fail(error)
    calls.fail(None, error)
    calls.take([1, 2]).renewed([])
    assert answers == [error]


def test_a_keepalive_is_not_answered_by_an_entry_proposed_before_it() -> None:
    """Its client counts validity from the sending: an earlier entry's stamp would be too old for that."""
    calls, answers = KeepAliveCalls(), list[object]()
    calls.add([7], lambda _: answers.append("first"))
    batch = calls.take([7])
    calls.add([7], lambda _: answers.append("second"))
    batch.renewed([])
    assert answers == ["first"]
    calls.take([7]).renewed([])
    assert answers == ["first", "second"]


def test_waiting_keepalives_are_bounded_also_for_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "KEEP_ALIVES_MAX", 2)
    calls = KeepAliveCalls()
    assert calls.add([7], lambda _: None) is None
    assert calls.add([7], lambda _: None) is None
    assert isinstance(calls.add([7], lambda _: None), Overloaded)
    calls.take([7]).renewed([])
    assert calls.add([7], lambda _: None) is None


async def test_an_admin_call_ends_when_its_entry_is_applied() -> None:
    calls = AdminCalls()
    call, again, lost = calls.add(1), calls.add(2), calls.add(3)
    calls.appended(1, 10, 4, 77)
    calls.appended(2, 10, 4, 77)
    calls.appended(3, 11, 4, 78)
    calls.applied(10, 4, Indeterminate())
    calls.applied(11, 5, Indeterminate())
    assert await call.future == 77
    assert await again.future == 77
    with pytest.raises(Indeterminate):
        await lost.future


async def test_admin_calls_are_bounded_and_fail_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "ADMIN_CALLS_MAX", 1)
    calls = AdminCalls()
    call = calls.add(1)
    with pytest.raises(Overloaded):
        calls.add(2)
    error: LockmasterError = NotLeader()
    calls.fail(error)
    with pytest.raises(NotLeader):
        await asyncio.wait_for(call.future, 1)


def _configuration(*members: tuple[int, str]) -> Configuration:
    made = tuple(Member(NodeId(i), f"m{i}", address, "c:1", bytes([i]) * 16, True) for i, address in members)
    return Configuration(1, made, NodeId(9))


def test_a_member_is_first_dialled_when_the_configuration_that_names_it_is_committed() -> None:
    committed, latest = _configuration((1, "a:1")), _configuration((1, "a:1"), (2, "b:1"))
    assert list(contacts_of(committed, latest, {})) == [1]
    assert list(contacts_of(latest, latest, {})) == [1, 2]


def test_a_leaving_member_is_dialled_until_that_is_committed_and_an_address_changes_at_once() -> None:
    committed, latest = _configuration((1, "a:1"), (2, "b:1")), _configuration((1, "a:2"))
    found = contacts_of(committed, latest, contacts_of(committed, committed, {}))
    assert {member_id: contact.address for member_id, contact in found.items()} == {1: "a:2", 2: "b:1"}
