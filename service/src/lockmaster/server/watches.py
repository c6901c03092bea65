"""Watches: config changes from any revision, whole revisions only, in order, no gap, no duplicate.

Theory of operation. A watch is pulled: `take` gives the next page, `wake` is called when there is one. Its `position`
is the revision up to which everything has been given. It is in one of three modes:

- LIVE: changes of each applied entry are put into its buffer. A buffer that reaches its bound is thrown away and the
  watch goes back to SCAN: a slow reader holds no memory and loses nothing.
- SCAN: each page is read from history, from position + 1 on. When a scan reaches the end at revision R, the watch is
  LIVE from R: query and switch happen in one turn of the loop, and live changes at or below `position` are ignored,
  so no change falls between them and none comes twice.
- RESET: history at position + 1 is gone. Pages of the whole range, pinned at the revision R of that moment, are given
  as coalesced PUTs; then SCAN from R. If compaction overtakes R meanwhile, the reset starts again at a newer R.

Laws. position only rises, except that a RESET that starts again restarts its pages. A page never splits a revision.
A page's `revision` is the position after it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Final, TypeVar

from lockmaster.api import config_pb2
from lockmaster.errors import Compacted, InvalidRequest, QuotaExceeded
from lockmaster.server.reads import item_size
from lockmaster.server.runtime import Engine
from lockmaster.server.translate import write_change, write_item
from lockmaster.statemachine.apply import StateMachine
from lockmaster.statemachine.commands import ConfigChanged, KeyValue

BUFFER_EVENTS_MAX: Final = 1_000
BUFFER_BYTES_MAX: Final = 1 << 20
PAGE_EVENTS: Final = 256
PAGE_BYTES: Final = 1 << 20
"""A page ends after the revision that takes it over this."""
STEP_ITEMS: Final = 64
SCAN_SLICE_NS: Final = 3_000_000
"""Longest time of the loop that reading one page from history takes (plus the one step that passes it)."""
K = TypeVar("K")
PROGRESS_ROUNDS: Final = 10
"""An idle watch gets a progress mark once in so many ticks of the hub (one a second)."""


class Mode(Enum):
    """Where a watch's next page comes from."""

    NEW = 0
    LIVE = 1
    SCAN = 2
    RESET = 3
    CANCELLED = 4


class SharedChange:
    """A live change, made into its message once for all watches that get it."""

    __slots__ = ("_plain", "_with_previous", "item", "previous", "size")

    def __init__(self, item: KeyValue, previous: KeyValue | None) -> None:
        self.item = item
        self.previous = previous
        self.size = item_size(item) + (item_size(previous) if previous is not None else 0)
        self._plain: config_pb2.Change | None = None
        self._with_previous: config_pb2.Change | None = None

    def message(self, *, previous: bool) -> config_pb2.Change:
        """The change, with what was there before if wanted. Not to be changed."""
        made = self._with_previous if previous else self._plain
        if made is None:
            made = config_pb2.Change()
            write_change(made, self.item, self.previous if previous else None)
            if previous:
                self._with_previous = made
            else:
                self._plain = made
        return made


class Watch:
    """One watch; made, started and cancelled by its hub."""

    __slots__ = (
        "_after", "_buffer", "_buffer_bytes", "_engine", "_hub", "_previous", "_progress_due", "_reset_revision",
        "key", "mode", "namespace", "position", "prefix", "wake", "watch_id",
    )  # fmt: skip

    def __init__(
        self, hub: WatchHub, engine: Engine, request: config_pb2.WatchRequest, wake: Callable[[], None]
    ) -> None:
        self._hub = hub
        self._engine = engine
        self.watch_id = request.watch_id
        self.namespace = request.namespace
        self.key = request.key
        self.prefix = request.prefix
        self._previous = request.previous
        self.wake = wake
        self.position = request.from_revision - 1
        self.mode = Mode.NEW
        self._buffer: deque[SharedChange] = deque()
        self._buffer_bytes = 0
        self._after = ""
        self._reset_revision = 0
        self._progress_due = False

    # -- told by the hub

    def start(self) -> None:
        """Begin at the requested revision, or at the present one. Raises InvalidRequest if that is in the future."""
        revision = self._engine.machine.revision
        if self.position < 0:
            self.position = revision
            self.mode = Mode.LIVE
        elif self.position > revision:
            raise InvalidRequest("from_revision", f"is in the future: the revision is {revision}")
        elif self.position == revision:
            self.mode = Mode.LIVE
        else:
            self.mode = Mode.SCAN
            self.wake()

    def push(self, change: SharedChange) -> None:
        """A live change of the watched range. All changes of one entry are pushed in one turn of the loop."""
        if self.mode is not Mode.LIVE or change.item.mod_revision <= self.position:
            return
        if len(self._buffer) >= BUFFER_EVENTS_MAX or self._buffer_bytes + change.size > BUFFER_BYTES_MAX:
            if self._buffer:
                self._clear()
                self.mode = Mode.SCAN
                return
        self._buffer.append(change)
        self._buffer_bytes += change.size
        if len(self._buffer) == 1:
            self.wake()

    def rescan(self) -> None:
        """Go on from history: changes may have gone by unseen."""
        if self.mode is Mode.LIVE:
            self._clear()
            self.mode = Mode.SCAN
            self.wake()

    def progress(self) -> None:
        """Give a progress mark if nothing else is there to give."""
        if self.mode is Mode.LIVE and not self._buffer and self.position < self._hub.revision:
            self._progress_due = True
            self.wake()

    # -- pulled by the reader

    @property
    def has_more(self) -> bool:
        """Whether `take` would give another page."""
        return self.mode in (Mode.SCAN, Mode.RESET) or bool(self._buffer)

    def take(self) -> config_pb2.WatchEvents | None:
        """The next page, or None if there is nothing to give now."""
        if self.mode is Mode.LIVE:
            return self._take_live()
        if self.mode is Mode.SCAN:
            try:
                return self._take_scan()
            except Compacted:
                self._begin_reset()
        if self.mode is Mode.RESET:
            return self._take_reset()
        return None

    def _take_live(self) -> config_pb2.WatchEvents | None:
        buffer = self._buffer
        if not buffer and not self._progress_due:
            return None
        page = config_pb2.WatchEvents(watch_id=self.watch_id)
        taken = size = last = 0
        while buffer:
            change = buffer[0]
            revision = change.item.mod_revision
            if revision != last and (taken >= PAGE_EVENTS or size >= PAGE_BYTES):
                break
            buffer.popleft()
            self._buffer_bytes -= change.size
            page.changes.append(change.message(previous=self._previous))
            taken += 1
            size += change.size
            last = revision
        self.position = last if buffer else max(last, self._hub.revision, self.position)
        self._progress_due = False
        page.revision = self.position
        return page

    def _take_scan(self) -> config_pb2.WatchEvents | None:
        machine = self._engine.machine
        page = config_pb2.WatchEvents(watch_id=self.watch_id)
        size = 0
        stop = time.perf_counter_ns() + SCAN_SLICE_NS
        while True:
            found = machine.changes(self.namespace, self.key, self.position + 1, STEP_ITEMS, prefix=self.prefix)
            for change in found.changes:
                write_change(page.changes.add(), change.item, change.previous if self._previous else None)
                size += item_size(change.item)
            # All changes up to found.revision are in: a revision is one key's, so no page can split one.
            self.position = max(self.position, found.revision)
            if not found.more:
                self._clear()
                self.mode = Mode.LIVE
                break
            if len(page.changes) >= PAGE_EVENTS or size >= PAGE_BYTES or time.perf_counter_ns() > stop:
                break  # a page without changes is a progress mark
        page.revision = self.position
        return page

    def _begin_reset(self) -> None:
        self._clear()
        self.mode = Mode.RESET
        self._after = ""
        self._reset_revision = self._engine.machine.revision

    def _take_reset(self) -> config_pb2.WatchEvents:
        try:
            items, more = self._pinned_page()
        except Compacted:
            self._begin_reset()
            items, more = self._pinned_page()
        page = config_pb2.WatchEvents(watch_id=self.watch_id, reset_revision=self._reset_revision)
        for item in items:
            change = page.changes.add()
            change.kind = config_pb2.Change.KIND_PUT
            change.coalesced = True
            write_item(change.item, item)
        if not more:
            page.reset_last = True
            page.revision = self._reset_revision
            self.position = self._reset_revision
            self.mode = Mode.SCAN
        return page

    def _pinned_page(self) -> tuple[list[KeyValue], bool]:
        machine = self._engine.machine
        if not self.prefix:
            item = machine.get(self.namespace, self.key, self._reset_revision)
            return ([item] if item is not None and not item.deleted else []), False
        found = machine.range(self.namespace, self.key, self._after, STEP_ITEMS, self._reset_revision)
        self._after = found.after or self._after
        return found.items, found.more

    def _clear(self) -> None:
        self._buffer.clear()
        self._buffer_bytes = 0
        self._progress_due = False

    def cancelled(self) -> None:
        """Gives nothing any more."""
        self._clear()
        self.mode = Mode.CANCELLED


class WatchHub:
    """All watches of this member, found by what they watch."""

    def __init__(self, engine: Engine, watches_max: int) -> None:
        self._engine = engine
        self._watches_max = watches_max
        self._by_key: dict[tuple[str, str], dict[Watch, None]] = {}
        self._by_namespace: dict[str, dict[Watch, None]] = {}
        """Prefix watches."""
        self._all: dict[Watch, None] = {}
        self._rounds: Iterator[Watch] = iter(())
        self._machine: StateMachine | None = None
        """The one whose changes live watches have followed; another one means that a snapshot was installed."""
        self.revision = 0
        """Revision after the last entry whose changes were handed out."""

    def __len__(self) -> int:
        return len(self._all)

    def make(self, request: config_pb2.WatchRequest, wake: Callable[[], None]) -> Watch:
        """A watch that waits for `start`. Raises QuotaExceeded at the stated maximum."""
        if len(self._all) >= self._watches_max:
            raise QuotaExceeded(f"{self._watches_max} watches are open on this member; try another one")
        watch = Watch(self, self._engine, request, wake)
        self._all[watch] = None
        return watch

    def start(self, watch: Watch) -> None:
        """Begin to deliver; after a read barrier, so that a revision above the present one is in the future."""
        self._follow_installs()
        watch.start()
        if watch.prefix:
            self._by_namespace.setdefault(watch.namespace, {})[watch] = None
        else:
            self._by_key.setdefault((watch.namespace, watch.key), {})[watch] = None

    def cancel(self, watch: Watch) -> None:
        """Forget it; no error if it is forgotten already."""
        if watch not in self._all:
            return
        del self._all[watch]
        watch.cancelled()
        if watch.prefix:
            _discard(self._by_namespace, watch.namespace, watch)
        else:
            _discard(self._by_key, (watch.namespace, watch.key), watch)

    def listen(self, changes: Sequence[ConfigChanged], revision: int) -> None:
        """The changes of one applied entry and the revision after it."""
        self._follow_installs()
        self.revision = max(self.revision, revision)
        for changed in changes:
            item = changed.item
            exact = self._by_key.get((item.namespace, item.key))
            ranges = self._by_namespace.get(item.namespace)
            if exact is None and ranges is None:
                continue
            shared = SharedChange(item, changed.previous)
            for watch in exact or ():
                watch.push(shared)
            for watch in ranges or ():
                if item.key.startswith(watch.key):
                    watch.push(shared)

    def _follow_installs(self) -> None:
        """A snapshot that was installed brought changes that nobody was told of: live watches read them up."""
        machine = self._engine.machine
        if machine is not self._machine:
            if self._machine is not None:
                for watch in self._all:
                    watch.rescan()
            self._machine = machine

    def refused(self) -> None:
        """This member serves no state any more: every reader finds out why when it looks."""
        for watch in self._all:
            watch.rescan()

    def tick(self) -> None:
        """Once a second: progress marks for the next tenth of the watches."""
        if not self._all:
            return
        self._follow_installs()
        for _ in range(-(-len(self._all) // PROGRESS_ROUNDS)):
            watch = next(self._rounds, None)
            if watch is None:
                self._rounds = iter(list(self._all))
                return
            watch.progress()


def _discard(index: dict[K, dict[Watch, None]], key: K, watch: Watch) -> None:
    watches = index.get(key)
    if watches is not None:
        watches.pop(watch, None)
        if not watches:
            del index[key]
