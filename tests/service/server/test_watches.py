"""The watch hub against a dumb twin: whatever is written, read, compacted and however slowly, no gap, no duplicate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster.api import config_pb2
from lockmaster.errors import InvalidRequest, QuotaExceeded
from lockmaster.server import watches
from lockmaster.server.watches import Mode, Watch, WatchHub
from lockmaster.statemachine.commands import Command, Compact, ConfigChanged, Delete, Put

PUT = config_pb2.Change.KIND_PUT
KEYS = ("a", "ab", "b", "abc")


def put(key: str, value: bytes = b"v", namespace: str = "n") -> Command:
    return Command(Put(namespace, key, value, None, "", 0, "", "", 0))


def delete(key: str) -> Command:
    return Command(Delete("n", key, None, "", 0, "", ""))


class Setup:
    """Engine and hub, connected as the server connects them."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.hub = WatchHub(engine, 100)
        engine.subscribe(self._listen)

    def _listen(self, events: Any, revision: int) -> None:
        self.hub.listen([event for event in events if isinstance(event, ConfigChanged)], revision)

    def watch(self, **fields: Any) -> Reader:
        return Reader(self, config_pb2.WatchRequest(**{"namespace": "n", "watch_id": 1, **fields}))


class Reader:
    """A client that keeps what a watch tells it, and checks each page."""

    def __init__(self, setup: Setup, request: config_pb2.WatchRequest) -> None:
        self.request = request
        self.told: list[tuple[int, int, str, bytes]] = []
        self.state: dict[str, bytes] = {}
        self.resets = 0
        self.wakes = 0
        self._in_reset = 0
        self.watch: Watch = setup.hub.make(request, self._wake)
        setup.hub.start(self.watch)
        self.position = self.watch.position

    def _wake(self) -> None:
        self.wakes += 1

    def take(self) -> bool:
        page = self.watch.take()
        if page is None:
            return False
        if page.reset_revision:
            self._take_reset(page)
            return True
        revisions = [change.item.mod_revision for change in page.changes]
        assert revisions == sorted(revisions)
        assert all(self.position < revision <= page.revision for revision in revisions)
        assert page.revision >= self.position
        self.position = page.revision
        for change in page.changes:
            item = change.item
            self.told.append((item.mod_revision, change.kind, item.key, item.value))
            if change.kind == PUT:
                self.state[item.key] = item.value
            else:
                self.state.pop(item.key, None)
        return True

    def _take_reset(self, page: config_pb2.WatchEvents) -> None:
        if page.reset_revision != self._in_reset:
            self._in_reset = page.reset_revision
            self.resets += 1
            self.state.clear()
        for change in page.changes:
            assert change.coalesced
            self.state[change.item.key] = change.item.value
        if page.reset_last:
            self.position = page.revision
            self._in_reset = 0

    def drain(self) -> None:
        for _ in range(10_000):
            if not self.take():
                return
        raise AssertionError("the watch never runs dry")


@pytest.fixture
def setup(engine: Any) -> Setup:
    return Setup(engine)


STEP = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.binary(max_size=3)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS), st.just(b"")),
    st.tuples(st.just("other"), st.sampled_from(KEYS), st.just(b"")),
    st.tuples(st.just("take"), st.just(""), st.just(b"")),
    st.tuples(st.just("batch"), st.sampled_from(KEYS), st.binary(max_size=3)),
    st.tuples(st.just("tick"), st.just(""), st.just(b"")),
)


@settings(max_examples=150, deadline=None)
@given(
    before=st.lists(st.sampled_from(KEYS), max_size=6),
    back=st.integers(0, 6),
    steps=st.lists(STEP, max_size=40),
    key=st.sampled_from(KEYS),
    prefix=st.booleans(),
    buffer_max=st.integers(1, 4),
    page=st.integers(1, 3),
)
def test_every_change_of_the_range_is_told_once_in_order(
    make_engine: Callable[[], Any],
    before: list[str],
    back: int,
    steps: list[tuple[str, str, bytes]],
    key: str,
    prefix: bool,
    buffer_max: int,
    page: int,
) -> None:
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr(watches, "BUFFER_EVENTS_MAX", buffer_max)
        bounds.setattr(watches, "PAGE_EVENTS", page)
        bounds.setattr(watches, "STEP_ITEMS", page)
        setup = Setup(make_engine())
        engine = setup.engine
        twin: list[tuple[int, int, str, bytes]] = []

        def note(events: Any, revision: int) -> None:
            for event in events:
                item = event.item
                kind = config_pb2.Change.KIND_DELETE if item.deleted else PUT
                if item.namespace == "n" and (item.key.startswith(key) if prefix else item.key == key):
                    twin.append((item.mod_revision, kind, item.key, item.value))

        engine.subscribe(note)
        for written in before:
            engine.apply(put(written))
        start = max(engine.revision - back, 1)
        reader = setup.watch(key=key, prefix=prefix, from_revision=start + 1)
        for kind, name, value in steps:
            if kind == "put":
                engine.apply(put(name, value))
            elif kind == "delete":
                engine.apply(delete(name))
            elif kind == "other":
                engine.apply(put(name, value, "elsewhere"))
            elif kind == "batch":
                engine.apply(put(name, value), put("ab"), delete(name))
            elif kind == "tick":
                setup.hub.tick()
            else:
                reader.take()
        reader.drain()
        assert reader.told == [change for change in twin if change[0] > start]
        assert reader.resets == 0


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.one_of(STEP, st.tuples(st.just("compact"), st.just(""), st.just(b""))), min_size=1, max_size=40),
    prefix=st.booleans(),
    page=st.integers(1, 3),
)
def test_with_compaction_the_reader_still_ends_at_the_state(
    make_engine: Callable[[], Any], steps: list[tuple[str, str, bytes]], prefix: bool, page: int
) -> None:
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr(watches, "BUFFER_EVENTS_MAX", 2)
        bounds.setattr(watches, "PAGE_EVENTS", page)
        bounds.setattr(watches, "STEP_ITEMS", page)
        setup = Setup(make_engine())
        engine = setup.engine
        reader = setup.watch(key="a", prefix=prefix, from_revision=engine.revision + 1)
        for kind, name, value in steps:
            if kind == "put":
                engine.apply(put(name, value))
            elif kind == "delete":
                engine.apply(delete(name))
            elif kind == "batch":
                engine.apply(put(name, value), put("ab"), put(name))
            elif kind == "compact":
                engine.apply(Command(Compact("n", engine.revision)))
            elif kind == "take":
                reader.take()
        reader.drain()
        wanted = {
            item.key: item.value for item in engine.machine.range("n", "a", "", 1000).items if prefix or item.key == "a"
        }
        assert reader.state == wanted


def test_a_compacted_start_is_answered_with_a_reset(setup: Setup) -> None:
    first = setup.engine.revision
    for number in range(5):
        setup.engine.apply(put(f"k{number}"))
    setup.engine.apply(put("k0", b"new"))
    setup.engine.apply(Command(Compact("n", setup.engine.revision)))
    reader = setup.watch(prefix=True, from_revision=first + 1)
    reader.drain()
    assert reader.resets == 1
    assert reader.state == {"k0": b"new", "k1": b"v", "k2": b"v", "k3": b"v", "k4": b"v"}
    setup.engine.apply(put("k9"))
    reader.drain()
    assert reader.state["k9"] == b"v"


def test_a_slow_reader_holds_no_more_than_its_bound(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "BUFFER_EVENTS_MAX", 10)
    reader = setup.watch(prefix=True)
    for number in range(100):
        setup.engine.apply(put("k", b"%d" % number))
        assert len(reader.watch._buffer) <= 10
    assert reader.watch.mode is Mode.SCAN
    reader.drain()
    assert [value for _, _, _, value in reader.told] == [b"%d" % number for number in range(100)]
    assert not reader.watch.has_more


def test_an_idle_watch_gets_progress_marks(setup: Setup) -> None:
    reader = setup.watch(key="a")
    setup.engine.apply(put("b"))
    assert not reader.take()
    for _ in range(2 * watches.PROGRESS_ROUNDS):
        setup.hub.tick()
    assert reader.take()
    assert reader.position == setup.engine.revision
    assert reader.told == []


def test_previous_values_are_given_where_asked_for(setup: Setup) -> None:
    setup.engine.apply(put("a", b"1"))
    live = setup.watch(key="a", previous=True)
    setup.engine.apply(put("a", b"2"))
    page = live.watch.take()
    assert page is not None
    assert page.changes[0].previous.value == b"1"
    scanned = setup.watch(key="a", previous=True, from_revision=live.position).watch.take()
    assert scanned is not None
    assert [change.previous.value for change in scanned.changes] == [b"", b"1"]


def test_a_revision_in_the_future_is_refused(setup: Setup) -> None:
    setup.watch(key="a", from_revision=setup.engine.revision + 1)
    with pytest.raises(InvalidRequest, match="future"):
        setup.watch(key="a", from_revision=setup.engine.revision + 2)


def test_an_installed_snapshot_leaves_no_gap(setup: Setup, make_engine: Callable[[], Any]) -> None:
    reader = setup.watch(prefix=True)
    ahead = make_engine()
    for number in range(3):
        ahead.apply(put(f"k{number}"))
    setup.engine.machine = ahead.machine
    setup.engine.apply(put("k9"))
    reader.drain()
    assert [key for _, _, key, _ in reader.told] == ["k0", "k1", "k2", "k9"]


def test_a_cancelled_watch_is_forgotten_and_silent(setup: Setup) -> None:
    reader = setup.watch(key="a")
    setup.hub.cancel(reader.watch)
    setup.hub.cancel(reader.watch)
    setup.engine.apply(put("a"))
    assert not reader.take()
    assert len(setup.hub) == 0


def test_the_number_of_watches_is_bounded(engine: Any) -> None:
    hub = WatchHub(engine, 1)
    hub.make(config_pb2.WatchRequest(namespace="n", key="k"), lambda: None)
    with pytest.raises(QuotaExceeded):
        hub.make(config_pb2.WatchRequest(namespace="n", key="k"), lambda: None)


def test_a_change_that_a_scan_has_told_is_not_told_again_when_its_listener_comes_later(setup: Setup) -> None:
    first = setup.engine.revision
    heard: list[tuple[Any, int]] = []
    setup.engine.listeners[:] = [lambda events, revision: heard.append((events, revision))]
    setup.engine.apply(put("a"))
    reader = setup.watch(key="a", from_revision=first + 1)
    reader.drain()
    for events, revision in heard:
        setup.hub.listen(events, revision)
    reader.drain()
    assert len(reader.told) == 1
