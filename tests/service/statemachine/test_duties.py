"""service.md §1: what a leader proposes by itself, and when it must not."""

from __future__ import annotations

import pytest
from lockmaster.statemachine.commands import Command, Expire, KeepAlive
from lockmaster.statemachine.duties import NEVER, LeaderDuties
from lockmaster.testing.machine import TTL, Machine

ELECTION = 1_000
HEARTBEAT = 100
TICK = 250


def leader() -> LeaderDuties:
    duties = LeaderDuties(ELECTION, HEARTBEAT, TICK)
    duties.leading(2, 0)
    return duties


def run(duties: LeaderDuties, m: Machine, start: int, stop: int) -> list[tuple[int, Command]]:
    """Turns every heartbeat with cluster time far beyond every deadline; (time, command) of all proposals."""
    found = []
    for now in range(start, stop, HEARTBEAT):
        found += [(now, command) for command in duties.due(now, 2 * TTL, m.state.expiry)]
    return found


def machine() -> tuple[Machine, Expire]:
    m = Machine()
    s = m.open()
    return m, Expire((s,), (), ())


def test_keepalives_of_a_tick_are_one_command_in_ascending_order() -> None:
    duties, m = leader(), Machine()
    for session in (3, 1, 2, 1):
        duties.keep_alive(session)
    assert duties.due(TICK, 0, m.state.expiry) == [Command(KeepAlive((1, 2, 3)))]
    assert duties.due(2 * TICK, 0, m.state.expiry) == []


def test_keepalives_wait_for_their_tick() -> None:
    duties, m = leader(), Machine()
    duties.keep_alive(1)
    duties.due(TICK, 0, m.state.expiry)
    duties.keep_alive(2)
    assert duties.due(2 * TICK - 1, 0, m.state.expiry) == []
    assert duties.next_deadline(2 * TICK - 1) == 2 * TICK


def test_no_expiry_before_the_first_own_term_commit() -> None:
    duties, (m, _) = leader(), machine()
    assert run(duties, m, 0, 10 * ELECTION) == []


def test_no_expiry_for_an_election_timeout_after_the_first_own_term_commit() -> None:
    duties, (m, expire) = leader(), machine()
    duties.own_term_committed(0)
    assert run(duties, m, 0, ELECTION + 1) == [(ELECTION, Command(expire))]


def test_no_expiry_for_an_election_timeout_after_a_gap_in_the_loop() -> None:
    duties, (m, expire) = leader(), machine()
    duties.own_term_committed(0)
    duties.turn(0)
    gap_end = 5 * ELECTION
    assert run(duties, m, gap_end, gap_end + ELECTION + 1) == [(gap_end + ELECTION, Command(expire))]


def test_a_gap_of_two_heartbeats_is_none() -> None:
    duties, (m, expire) = leader(), machine()
    duties.own_term_committed(0)
    for now in range(0, ELECTION, 2 * HEARTBEAT):
        assert duties.due(now, 2 * TTL, m.state.expiry) == []
    assert duties.due(ELECTION, 2 * TTL, m.state.expiry) == [Command(expire)]


def test_one_expire_is_on_its_way_at_a_time_and_a_lost_one_is_made_again() -> None:
    duties, (m, _) = leader(), machine()
    duties.own_term_committed(0)
    assert [now for now, _ in run(duties, m, 0, 3 * ELECTION)] == [ELECTION, 2 * ELECTION]


def test_after_an_applied_expire_the_next_goes_at_once() -> None:
    duties, (m, expire) = leader(), machine()
    duties.own_term_committed(0)
    run(duties, m, 0, ELECTION + 1)
    m.now = 2 * TTL
    m.do(expire)
    assert duties.due(ELECTION + 1, 2 * TTL, m.state.expiry) == []
    m.now = 0
    m.open("b")
    assert len(duties.due(ELECTION + 2, 4 * TTL, m.state.expiry)) == 1


def test_expires_that_take_long_to_commit_do_not_pile_up() -> None:
    """Seed 131: 3 s to commit; each that was applied let another go, and at each timeout one more, for minutes."""
    duties, (m, expire) = leader(), machine()
    duties.own_term_committed(0)
    assert [now for now, _ in run(duties, m, 0, 16 * ELECTION)] == [n * ELECTION for n in (1, 2, 4, 8)]
    m.open("b")  # an Expire proposed now would name it too
    assert [now for now, _ in run(duties, m, 16 * ELECTION, 17 * ELECTION)] == [16 * ELECTION]
    m.do(expire)  # one of the early four is applied at last: the latest is still on its way
    assert run(duties, m, 17 * ELECTION, 24 * ELECTION) == []


def test_who_does_not_lead_proposes_nothing() -> None:
    duties, (m, _) = leader(), machine()
    duties.own_term_committed(0)
    duties.keep_alive(1)
    duties.stopped()
    assert run(duties, m, 0, 3 * ELECTION) == []
    assert duties.next_deadline(0) == NEVER


@pytest.mark.parametrize("remaining", [10, 10_000])
def test_the_next_deadline_is_the_next_expiry_or_a_tick(remaining: int) -> None:
    duties, (m, _) = leader(), machine()
    duties.own_term_committed(0)
    for now in range(0, ELECTION + 1, HEARTBEAT):
        duties.due(now, TTL - remaining, m.state.expiry)
    assert duties.next_deadline(ELECTION) == ELECTION + min(remaining, TICK)
