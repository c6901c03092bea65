"""Planted violations of the rules S1 to S12 (reliability.md), and of what the simulator checks outside of its rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from lockmaster.statemachine.apply import Applied
from lockmaster.statemachine.commands import EndCause, Result, ResultStatus, SessionEnded
from lockmaster.statemachine.queries import SessionLocks
from lockmaster.testing.simulation import ServiceReplica
from lockmaster.testing.simulation_clients import ServiceClient
from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import Entry
from lockmaster_raft.events import Wake
from lockmaster_raft.ids import Index, Nanos, Term
from lockmaster_raft.loads import Load
from lockmaster_raft.membership import LEVEL_MAX
from lockmaster_raft.messages import AppendEntriesReply, HeartbeatReply, Message, RequestVote, RequestVoteReply
from lockmaster_raft.ready import FOLLOWER
from lockmaster_raft.testing.application import (
    Executed,
    Freed,
    Granted,
    KeyWritten,
    Observation,
    Queued,
    SessionOpened,
    SessionOver,
    SessionRenewed,
    load_application,
)
from lockmaster_raft.testing.checker import STEPS_MAX
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.frontend import Answer
from lockmaster_raft.testing.invariants.s1_no_regress import NoRegress
from lockmaster_raft.testing.invariants.s2_effect_order import EffectOrder
from lockmaster_raft.testing.invariants.s3_acknowledged import AcknowledgedStays
from lockmaster_raft.testing.invariants.s4_ages import AgesAndLeases
from lockmaster_raft.testing.invariants.s4_reads import ReadsAreFresh
from lockmaster_raft.testing.invariants.s5_exactly_once import ExactlyOnce
from lockmaster_raft.testing.invariants.s6_tokens import Tokens
from lockmaster_raft.testing.invariants.s7_sessions import SessionLife
from lockmaster_raft.testing.invariants.s8_fifo import Fifo
from lockmaster_raft.testing.invariants.s9_watch import WatchOrder
from lockmaster_raft.testing.invariants.s10_state_hash import StateHash
from lockmaster_raft.testing.invariants.s11_bounds import EVERY, Bounds
from lockmaster_raft.testing.invariants.s12_progress import ELECTIONS_AFTER_HEALING_MAX, Progress
from lockmaster_raft.testing.quorum_first import QuorumFirst
from lockmaster_raft.testing.swarm import draw_mix

from .plants import (
    TERM,
    World,
    answer,
    did,
    disk,
    elsewhere,
    entry,
    header,
    node,
    plant,
    said,
    send,
    write,
)

SESSION, TTL = 7, 5 * SECOND


# --- S1 and S2: what was told is durable, and stays -------------------------------------------------------------------


def vote(to: int = 2, term: int = TERM) -> RequestVoteReply:
    return RequestVoteReply(header(1, to, term), True, "", Index(1), Term(1))


def ack(match: int) -> AppendEntriesReply:
    where = (Index(match), Index(match), Index(1), Index(1), Index(0), Term(0), Index(0))
    return AppendEntriesReply(header(), 1, 1, True, *where, 0)


def told_then_boots(w: World, rule: NoRegress, message: Message, found: Any, *log: Entry) -> None:
    """Host 1 says this, and boots from that disk."""
    host = w.host(1)
    w.log(host, *log)
    rule.transmitting(host, node(), send(message))
    host.disk = found
    rule.booting(host, found.surely_hard_state)


@plant(NoRegress)
def s1_a_host_boots_in_an_earlier_term(w: World, rule: NoRegress) -> None:
    told_then_boots(w, rule, vote(), disk(term=TERM - 1))


@plant(NoRegress)
def s1_a_host_boots_without_its_vote(w: World, rule: NoRegress) -> None:
    told_then_boots(w, rule, vote(2), disk(vote=0))


@plant(NoRegress)
def s1_a_host_boots_without_what_it_acknowledged(w: World, rule: NoRegress) -> None:
    told_then_boots(w, rule, ack(2), disk(), entry(2))


@plant(NoRegress)
def s1_a_host_boots_with_an_older_entry_than_it_acknowledged(w: World, rule: NoRegress) -> None:
    told_then_boots(w, rule, ack(2), disk(entry(2, TERM - 1)), entry(2))


@plant(NoRegress)
def s1_an_acknowledgement_below_a_truncation_still_binds(w: World, rule: NoRegress) -> None:
    host = w.host(1)
    w.log(host, entry(2), entry(3))
    rule.transmitting(host, node(), send(ack(3)))
    w.log(host, entry(2))
    w.step(rule, host, node(), persist=write(truncate=3))
    host.disk = disk()
    rule.booting(host, host.disk.surely_hard_state)


@plant(NoRegress)
def s1_a_host_votes_twice_in_a_term(w: World, rule: NoRegress) -> None:
    for to in (2, 3):
        rule.transmitting(w.host(1), node(), send(vote(to), to))


@plant(NoRegress)
def s1_a_host_asks_for_votes_after_it_gave_its_own_away(w: World, rule: NoRegress) -> None:
    rule.transmitting(w.host(1), node(), send(vote(2), 2))
    rule.transmitting(w.host(1), node(), send(RequestVote(header(1, 3), Index(1), Term(1)), 3))


def leaves(w: World, rule: EffectOrder, message: Message, of: Any, *log: Entry) -> None:
    """Host 1 with this disk and these entries in memory sends the message to 2."""
    host = w.host(1, disk=of)
    w.log(host, *log)
    rule.transmitting(host, node(levels=SimpleNamespace(active=LEVEL_MAX)), send(message))


@plant(EffectOrder)
def s2_a_message_leaves_after_a_failed_write(w: World, rule: EffectOrder) -> None:
    leaves(w, rule, ack(1), disk(failed=True))


@plant(EffectOrder)
def s2_a_term_leaves_before_it_is_durable(w: World, rule: EffectOrder) -> None:
    leaves(w, rule, vote(), disk(term=TERM - 1))


@plant(EffectOrder)
def s2_a_vote_leaves_before_it_is_durable(w: World, rule: EffectOrder) -> None:
    leaves(w, rule, vote(2), disk(vote=0))


@plant(EffectOrder)
def s2_a_candidate_asks_before_its_own_vote_is_durable(w: World, rule: EffectOrder) -> None:
    leaves(w, rule, RequestVote(header(), Index(1), Term(1)), disk(vote=0))


@plant(EffectOrder)
def s2_a_level_is_reported_before_it_is_durable(w: World, rule: EffectOrder) -> None:
    numbers = (Index(1), Index(1), Index(1), 0, Index(4))
    leaves(w, rule, HeartbeatReply(header(), 1, Nanos(0), *numbers), disk(surely_level=LEVEL_MAX))


@plant(EffectOrder)
def s2_an_entry_is_acknowledged_before_it_is_durable(w: World, rule: EffectOrder) -> None:
    leaves(w, rule, ack(2), disk(), entry(2))


@plant(EffectOrder)
def s2_an_entry_is_acknowledged_while_another_is_durable_there(w: World, rule: EffectOrder) -> None:
    leaves(w, rule, ack(2), disk(entry(2, TERM - 1)), entry(2))


# --- S3 to S5: writes and reads ---------------------------------------------------------------------------------------


@plant(AcknowledgedStays)
def s3_what_is_not_committed_is_acknowledged(w: World, rule: AcknowledgedStays) -> None:
    rule.acknowledged(1, 1, answer(2))


@plant(AcknowledgedStays)
def s3_the_last_leader_lacks_what_was_acknowledged(w: World, rule: AcknowledgedStays) -> None:
    w.committed(4)
    rule.acknowledged(1, 1, answer(2))
    w.log(w.host(1, node=node()))
    rule.finished()


@plant(AcknowledgedStays)
def s3_the_last_leader_has_another_entry_there(w: World, rule: AcknowledgedStays) -> None:
    w.committed(4)
    rule.acknowledged(1, 1, answer(2))
    w.log(w.host(1, node=node()), entry(2, TERM))
    rule.finished()


def says_of_itself(w: World, rule: AgesAndLeases, age: int | None, leased: bool) -> None:
    """Host 1 stands at 1; the write at 2 was acknowledged one second ago, another is now."""
    speaks = node(commit_index=1, state_age_ns=lambda now: age, holds_lease=lambda now: leased)
    for index, at in ((2, SECOND), (3, 2 * SECOND)):
        w.cluster.scheduler.now = at
        rule.acknowledged(1, 1, answer(index))
        if index == 2:
            clock = SimpleNamespace(now=lambda: 0)
            w.host(1, node=speaks, replica=object(), clock=clock, meta=SimpleNamespace(index=1))


@plant(AgesAndLeases)
def s4_a_state_is_older_than_its_host_says(w: World, rule: AgesAndLeases) -> None:
    says_of_itself(w, rule, SECOND // 2, leased=False)


@plant(AgesAndLeases, seed=next(s for s in range(1, 99) if not (draw_mix(s).reorder or draw_mix(s).duplication)))
def s4_a_lease_is_held_while_others_acknowledge(w: World, rule: AgesAndLeases) -> None:
    says_of_itself(w, rule, None, leased=True)


@plant(ReadsAreFresh)
def s4_a_read_misses_what_was_acknowledged_before_it(w: World, rule: ReadsAreFresh) -> None:
    rule.served(5, answer(4))


@plant(ExactlyOnce)
def s5_a_command_is_executed_twice(w: World, rule: ExactlyOnce) -> None:
    for index in (2, 3):
        rule.first_applied(entry(index), did(Executed(SESSION, 1)))


@plant(ExactlyOnce)
def s5_a_command_is_executed_twice_by_one_entry(w: World, rule: ExactlyOnce) -> None:
    rule.first_applied(entry(2), did(Executed(SESSION, 1), Executed(SESSION, 1)))


# --- S6 to S9: locks, sessions, keys ----------------------------------------------------------------------------------


def applied(rule: Tokens | Fifo | WatchOrder, *observed: Observation) -> None:
    """One entry after the other did these."""
    for index, one in enumerate(observed, start=2):
        rule.first_applied(entry(index), did(one))


@plant(Tokens)
def s6_two_hold_a_lock(w: World, rule: Tokens) -> None:
    applied(rule, Granted("a", 1, 1, 10), Granted("a", 2, 1, 11))


@plant(Tokens)
def s6_two_hold_a_lock_because_another_token_freed_it(w: World, rule: Tokens) -> None:
    applied(rule, Granted("a", 1, 1, 10), Granted("b", 2, 1, 11), Freed("a", 2, 11), Granted("a", 2, 2, 12))


@plant(Tokens)
def s6_a_token_does_not_rise(w: World, rule: Tokens) -> None:
    applied(rule, Granted("a", 1, 1, 10), Freed("a", 1, 10), Granted("a", 2, 1, 10))


@plant(Tokens)
def s6_two_locks_have_one_token(w: World, rule: Tokens) -> None:
    applied(rule, Granted("a", 1, 1, 10), Granted("b", 2, 1, 10))


@plant(Tokens)
def s6_a_token_that_was_never_given_frees_a_lock(w: World, rule: Tokens) -> None:
    applied(rule, Granted("a", 1, 1, 10), Freed("a", 1, 4))


def expires(w: World, rule: SessionLife, *, at: int, stamp: int, unread: int = 0) -> None:
    """Session 7 opens at 0 and is ended by an entry of this stamp, appended at that true time."""
    opened, expire = entry(2), entry(3, stamp=stamp)
    w.step(rule, w.host(), node(), persist=write(opened))
    rule.first_applied(opened, did(SessionOpened(SESSION, TTL)))
    w.cluster.scheduler.now = at
    w.step(rule, w.host(unread={SESSION: unread} if unread else {}), node(), persist=write(expire))
    rule.first_applied(expire, did(SessionOver(SESSION, expired=True)))


@plant(SessionLife)
def s7_a_session_expires_too_early_in_cluster_time(w: World, rule: SessionLife) -> None:
    expires(w, rule, at=2 * TTL, stamp=TTL - 1)


@plant(SessionLife)
def s7_a_session_expires_too_early_in_true_time(w: World, rule: SessionLife) -> None:
    expires(w, rule, at=TTL // 2, stamp=TTL)


@plant(SessionLife)
def s7_a_session_expires_while_its_keepalive_lies_unread(w: World, rule: SessionLife) -> None:
    expires(w, rule, at=3 * TTL, stamp=TTL, unread=TTL)


@plant(SessionLife)
def s7_cluster_time_falls(w: World, rule: SessionLife) -> None:
    for index, stamp in ((2, 5), (3, 4)):
        rule.first_applied(entry(index, stamp=stamp), did())


@plant(SessionLife)
def s7_a_dead_session_is_renewed(w: World, rule: SessionLife) -> None:
    rule.first_applied(entry(2), did(SessionOpened(SESSION, TTL), SessionOver(SESSION, expired=False)))
    rule.first_applied(entry(3), did(SessionRenewed(SESSION)))


@plant(SessionLife)
def s7_a_silent_session_never_expires(w: World, rule: SessionLife) -> None:
    rule.first_applied(entry(2), did(SessionOpened(SESSION, TTL)))
    w.cluster.scheduler.now = 10 * TTL
    rule.finished()


@plant(Fifo)
def s8_a_later_waiter_is_granted_first(w: World, rule: Fifo) -> None:
    applied(rule, Queued("a", 1, 1), Queued("a", 2, 1), Granted("a", 2, 1, 10))


@plant(Fifo)
def s8_a_dead_session_is_granted_a_lock(w: World, rule: Fifo) -> None:
    applied(rule, SessionOver(1, expired=True), Granted("a", 1, 1, 10))


def leftover(held: list[tuple[str, int, int]], holder: int) -> None:
    """The state machine says after the end of session 7 that it holds these, and that a lock is held by `holder`."""
    lock = SimpleNamespace(name="a", session_id=holder, queue=[])
    replica = ServiceReplica(load_application("service").genesis())
    says = {"session_locks": SessionLocks(held, []), "list_locks": ([lock], None), "inspect_lock": lock}
    liar = {name: lambda asked="", value=value: value for name, value in says.items()}
    replica.machine = cast("Any", SimpleNamespace(**liar))
    replica._nothing_left(Applied([], [SessionEnded(SESSION, EndCause.EXPIRED)]))


@elsewhere
def s8_a_dead_session_still_has_a_lock() -> None:
    leftover([("a", 10, 1)], 0)


@elsewhere
def s8_a_lock_still_knows_a_dead_session() -> None:
    leftover([], SESSION)


@plant(WatchOrder)
def s9_revisions_do_not_rise(w: World, rule: WatchOrder) -> None:
    applied(rule, KeyWritten("n/a", 10, b""), KeyWritten("n/b", 10, b""))


@plant(WatchOrder)
def s9_a_watcher_misses_a_change(w: World, rule: WatchOrder) -> None:
    applied(rule, *(KeyWritten("n/a", revision, b"") for revision in (10, 11, 12)))
    rule.watched("n/", 10, 12, [(12, "n/a")])


@plant(WatchOrder)
def s9_a_watcher_sees_what_it_did_not_ask_for(w: World, rule: WatchOrder) -> None:
    applied(rule, KeyWritten("n/a", 10, b""), KeyWritten("n/dir/a", 11, b""))
    rule.watched("n/dir/", 9, 11, [(10, "n/a"), (11, "n/dir/a")])


# --- S10 to S12: states, bounds, progress -----------------------------------------------------------------------------


def holds(value: int) -> Any:
    return SimpleNamespace(state_hash=lambda: value)


@plant(StateHash)
def s10_a_disk_gives_back_another_state(w: World, rule: StateHash) -> None:
    w.checker.state_hashes[4] = 1
    host = w.host(replica=holds(2), meta=SimpleNamespace(index=4))
    rule.booting(host, disk().surely_hard_state)


@plant(StateHash)
def s10_a_restored_snapshot_is_another_state(w: World, rule: StateHash) -> None:
    w.checker.state_hashes[4] = 1
    rule.installed(w.host(replica=holds(2)), 4)


@plant(StateHash)
def s10_two_snapshots_of_one_index(w: World, rule: StateHash) -> None:
    for chunk in (b"a", b"b"):
        rule.snapshot(w.host(), 4, (chunk,))


@plant(Bounds)
def s11_more_is_held_than_may_be(w: World, rule: Bounds) -> None:
    for _ in range(EVERY):
        rule.commits(w.host(), node(loads=lambda: (Load("reads", 5, 4),)), 1, 2)


@plant(Bounds)
def s11_a_log_is_not_cut(w: World, rule: Bounds) -> None:
    w.host(node=node(commit_index=10**6))
    rule.finished()


@plant(Progress)
def s12_elections_go_on(w: World, rule: Progress) -> None:
    w.checker.healed_at = 1
    for _ in range(ELECTIONS_AFTER_HEALING_MAX + 1):
        rule.led(w.host(), node())


def s12(name: str, commit: int = 9, client: int = 5, leads: bool = True, **of: Any) -> None:
    """Registers: healed at 4 with 1 committed, and then this is missing."""

    def history(w: World, rule: Progress) -> None:
        w.checker.commit_top = 1
        rule.healed()
        w.checker.healed_at, w.checker.commit_top = 4, commit
        w.cluster.clients.append(SimpleNamespace(number=1, last_success=client))
        if leads:
            w.host(1, node=node(**{"commit_index": commit, "is_caretaker": False, **of}))
        w.host(2, node=node(2, role=FOLLOWER, commit_index=9))
        w.host(3, node=node(3, role=FOLLOWER, commit_index=9))
        rule.finished()

    history.__name__ = f"s12_{name}"
    plant(Progress)(history)


s12("nothing_commits", commit=1)
s12("nobody_leads", leads=False)
s12("a_client_is_not_served", client=4)
s12("a_member_stays_behind", commit=90)
s12("a_caretaker_stays", is_caretaker=True)


@elsewhere
def s12_a_cluster_does_not_form() -> None:
    Cluster(3, load_application("register"), replace(draw_mix(3), loss=1.0)).form()


@elsewhere
def s12_a_healed_quorum_commits_nothing() -> None:
    w = World()
    w.cluster.nemesis = SimpleNamespace(heal=lambda but: None)
    for number in (1, 2, 3):
        w.host(number, running=False, node=node(number), law=SimpleNamespace(damaged=False))
    draw = SimpleNamespace(random=lambda: 0.0, shuffle=lambda hosts: None)
    QuorumFirst(w.cluster, cast("Any", draw)).run()


# --- what the checker sees by itself ----------------------------------------------------------------------------------


def steps(w: World, *nodes: Any, entries: tuple[Entry, ...] = ()) -> None:
    """Host 1 boots with these entries and is found like this after one step and the next."""
    host = w.host(disk=disk(*entries))
    w.checker.booting(host, host.disk.surely_hard_state)
    for one in nodes:
        w.checker.stepped(host, one, Wake(), said())


@elsewhere
def s1_a_running_hosts_term_falls() -> None:
    steps(World(), node(role=FOLLOWER), node(role=FOLLOWER, term=TERM - 1))


@elsewhere
def s11_a_cluster_spins() -> None:
    w = World()
    w.checker.steps = STEPS_MAX
    steps(w, *[node(role=FOLLOWER)] * 600)


@elsewhere
def i1_a_commit_index_falls() -> None:
    steps(World(), node(role=FOLLOWER, commit_index=2), node(role=FOLLOWER, commit_index=1), entries=(entry(2),))


@elsewhere
def i1_more_is_committed_than_the_log_has() -> None:
    steps(World(), node(role=FOLLOWER, commit_index=3), entries=(entry(2),))


@elsewhere
def i1_another_entry_is_committed() -> None:
    w = World()
    w.committed(TERM - 1)
    steps(w, node(role=FOLLOWER, commit_index=2), entries=(entry(2),))


# --- what the service's clients see -----------------------------------------------------------------------------------


def told(*results: Result) -> None:
    """A client puts a key, asks twice under one number, and hears this."""
    asked: list[Callable[[Answer], None]] = []
    cluster = SimpleNamespace(checker=SimpleNamespace(acknowledged=lambda *what: None))
    client = SimpleNamespace(
        cluster=cluster,
        number=1,
        draw=SimpleNamespace(choice=lambda choices: choices[0], random=lambda: 0.0),
        write=lambda command, done, **how: asked.append(done),
    )
    of = ServiceClient(cast("Any", client))
    of._put(0)
    for result in results:
        asked.pop(0)(Answer("", result))


@elsewhere
def s5_a_retry_is_answered_otherwise() -> None:
    told(Result(ResultStatus.OK, 5), Result(ResultStatus.OK, 6))


@elsewhere
def s5_a_fresh_number_is_called_stale() -> None:
    told(Result(ResultStatus.STALE))
