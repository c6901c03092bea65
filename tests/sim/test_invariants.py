"""Invariants that healthy clusters and known mutants hardly ever touch: each must see what it is there for."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.events import Wake
from lockmaster_raft.ids import Index, Nanos, PersistSeq, Term
from lockmaster_raft.ready import Persist, Role
from lockmaster_raft.testing.application import Outcome, SessionOpened, SessionOver, SessionRenewed, load_application
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.host import Host
from lockmaster_raft.testing.invariants.base import Violation
from lockmaster_raft.testing.invariants.s7_sessions import SessionLife

SESSION, TTL = 7, 5 * SECOND


def expire_after_a_pause(unread_for: int) -> None:
    """Session 7 expires in time by an entry of a leader with whom its keepalive has lain unread for so long."""
    cluster = Cluster(1, load_application("register"))
    life = SessionLife(cluster.checker)
    opened, expire = (
        make_entry(Index(i), Term(2), EntryKind.DATA, Nanos(at), b"") for i, at in ((5, 0), (6, TTL + SECOND))
    )
    life.first_applied(opened, Outcome(observed=[SessionOpened(SESSION, TTL)]))
    cluster.scheduler.now = 2 * TTL
    host = Host(cluster, 1)
    host.unread[SESSION] = cluster.scheduler.now - unread_for
    ready = SimpleNamespace(persist=Persist(PersistSeq(1), entries=(expire,)))
    life.stepped(host, cast("Any", SimpleNamespace(role=Role.LEADER)), Wake(), cast("Any", ready))
    life.first_applied(expire, Outcome(observed=[SessionOver(SESSION, expired=True)]))


def test_s7_no_session_expires_while_its_keepalive_lies_unread_with_a_leader_that_was_paused() -> None:
    with pytest.raises(Violation, match="keepalive lies unread"):
        expire_after_a_pause(SECOND)


def test_s7_a_keepalive_that_came_within_two_heartbeats_accuses_nobody() -> None:
    expire_after_a_pause(Cluster(1, load_application("register")).mix.config.heartbeat_interval_ns)


def entry_at(index: int, stamp: int) -> Entry:
    return make_entry(Index(index), Term(2), EntryKind.DATA, Nanos(stamp), b"")


def renewed_and_expired(appended: int, committed: int, expired: int, stamp: int = TTL + SECOND) -> None:
    """Session 7 opens and is renewed by an entry appended then and committed later, and expires (true times)."""
    cluster = Cluster(1, load_application("register"))
    life, host = SessionLife(cluster.checker), Host(cluster, 1)
    node = cast("Any", SimpleNamespace(role=Role.LEADER))
    renewal, expire = entry_at(5, SECOND), entry_at(6, stamp)
    for entry, at in ((renewal, appended), (expire, expired)):
        cluster.scheduler.now = at
        ready = SimpleNamespace(persist=Persist(PersistSeq(entry.index), entries=(entry,)))
        life.stepped(host, node, Wake(), cast("Any", ready))
    cluster.scheduler.now = committed
    life.first_applied(renewal, Outcome(observed=[SessionOpened(SESSION, TTL), SessionRenewed(SESSION)]))
    cluster.scheduler.now = max(committed, expired)
    life.first_applied(expire, Outcome(observed=[SessionOver(SESSION, expired=True)]))


def test_s7_a_renewal_counts_from_its_append_however_long_its_commit_takes() -> None:
    renewed_and_expired(appended=SECOND, committed=TTL, expired=TTL + SECOND)


def test_s7_an_expiry_too_early_in_true_time_is_found_though_the_stamps_look_well() -> None:
    with pytest.raises(Violation, match="after renewal"):
        renewed_and_expired(appended=SECOND, committed=SECOND, expired=SECOND + TTL // 2)


def test_s7_cluster_time_must_not_fall() -> None:
    with pytest.raises(Violation, match="cluster time falls"):
        renewed_and_expired(appended=SECOND, committed=SECOND, expired=2 * TTL, stamp=SECOND // 2)
