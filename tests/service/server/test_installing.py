"""Who waits for what a snapshot brings hears of its installation, not of the next entry only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from lockmaster.api import config_pb2
from lockmaster.errors import LockmasterError
from lockmaster.server.applying import Applier, Listener
from lockmaster.server.events import EventHub, RevisionWaiters
from lockmaster.server.waiting import AdminCalls
from lockmaster.server.watches import WatchHub
from lockmaster.statemachine.commands import Command, Put
from lockmaster.storage.directory import DataDirectory


def ahead(make_engine: Callable[[], Any]) -> Any:
    """An engine with a key that the others lack."""
    engine = make_engine()
    engine.apply(Command(Put("n", "k", b"v", None, "", 0, "", "", 0)))
    return engine


def applier(engine: Any, listener: Listener) -> Applier:
    """It applies nothing in these tests, so it touches no directory."""
    return Applier(cast(DataDirectory, None), engine.machine, [listener], AdminCalls())


async def test_q33_a_read_that_waits_for_a_revision_is_let_go_by_the_snapshot_that_brings_it(
    engine: Any, make_engine: Callable[[], Any]
) -> None:
    waiters, hub, answers = RevisionWaiters(), EventHub(), list[LockmasterError | None]()
    hub.revision_waiters = waiters
    newer = ahead(make_engine)
    waiters.wait(newer.revision, answers.append, 60)
    waiters.wait(newer.revision + 1, answers.append, 60)
    applier(engine, hub.listen).installed(newer.machine)
    assert answers == [None]
    waiters.reached(newer.revision + 1)


def test_a_watch_is_woken_by_the_snapshot_that_brings_its_change(engine: Any, make_engine: Callable[[], Any]) -> None:
    hub, woken = WatchHub(engine, 1), list[bool]()
    watch = hub.make(config_pb2.WatchRequest(namespace="n", key="k"), lambda: woken.append(True))
    hub.start(watch)
    while watch.take() is not None:
        pass
    woken.clear()
    events = EventHub()
    events.changes = hub.listen
    install = applier(engine, events.listen)
    engine.machine = ahead(make_engine).machine
    install.installed(engine.machine)
    assert woken == [True]
    told = watch.take()
    assert told is not None
    assert [change.item.key for change in told.changes] == ["k"]


def test_a_witness_that_opens_a_side_state_tells_nobody(engine: Any, make_engine: Callable[[], Any]) -> None:
    told: list[int] = []
    install = applier(engine, lambda events, revision: told.append(revision))
    install.serving = False
    install.installed(ahead(make_engine).machine)
    assert told == []
