"""One watch, without I/O: where it has got to, what waits to be read, and how a RESET becomes changes.

Laws: every change of the watched range above the start is yielded once, in revision order; after a RESET the changes
that stand for lost history are marked `coalesced`, and a key that vanished meanwhile yields a deletion. `known` is
{key: mod_revision} of everything in the range, so that this can be told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockmaster.api import config_pb2
from lockmaster.errors import LockmasterError

if TYPE_CHECKING:
    from lockmaster.client.session_core import SessionCore

BACKLOG_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Item:
    """One version of a configuration key."""

    namespace: str
    key: str
    value: bytes
    revision: int
    create_revision: int
    version: int
    author: str = ""
    comment: str = ""
    session_id: int = 0

    @property
    def text(self) -> str:
        """The value as UTF-8 text. Raises UnicodeDecodeError."""
        return self.value.decode()


@dataclass(frozen=True, slots=True)
class Change:
    """A key was written or deleted at `revision`. `coalesced`: stands for any number of changes since the last one."""

    kind: str
    """ "put" or "delete"."""
    item: Item
    previous: Item | None = None
    coalesced: bool = False

    @property
    def key(self) -> str:
        """The key that changed."""
        return self.item.key

    @property
    def revision(self) -> int:
        """The revision of the change."""
        return self.item.revision


def item_of(value: config_pb2.KeyValue) -> Item:
    """From the wire."""
    return Item(
        value.namespace,
        value.key,
        value.value,
        value.mod_revision,
        value.create_revision,
        value.version,
        value.author,
        value.comment,
        value.session_id,
    )


def change_of(change: config_pb2.Change, coalesced: bool = False) -> Change:
    """From the wire."""
    kind = "delete" if change.kind == config_pb2.Change.KIND_DELETE else "put"
    previous = item_of(change.previous) if change.HasField("previous") else None
    return Change(kind, item_of(change.item), previous, coalesced or change.coalesced)


class Watching:
    """The state of one watch. `notify` is called when there is something to read."""

    def __init__(
        self,
        namespace: str,
        key: str,
        *,
        prefix: bool,
        delivered: int,
        known: dict[str, int],
        previous: bool,
        notify: Callable[[], None],
        next_id: Callable[[], int],
    ) -> None:
        self.namespace = namespace
        self.key = key
        self.prefix = prefix
        # Everything up to this revision has been queued or lies before the start.
        self.delivered = delivered
        self.known = known
        self.previous = previous
        # At most BACKLOG_MAX and one message.
        self.changes: deque[Change] = deque()
        self.error: LockmasterError | None = None
        self._notify = notify
        self._next_id = next_id
        self._id = 0
        self._page: dict[str, config_pb2.Change] | None = None
        self._page_revision = 0

    def begin(self, core: SessionCore) -> None:
        """Registers the watch under a fresh id and asks for everything after `delivered`."""
        self._id = self._next_id()
        core.watches[self._id] = self
        self.start(core)

    def start(self, core: SessionCore) -> None:
        """Asks for the rest: at the beginning and on every new stream."""
        self._page = None
        request = config_pb2.WatchRequest(
            namespace=self.namespace,
            key=self.key,
            prefix=self.prefix,
            from_revision=self.delivered + 1,
            previous=self.previous,
            watch_id=self._id,
        )
        core.control("watch", request, self._started)

    def end(self, core: SessionCore) -> None:
        """Cancels it."""
        if core.watches.pop(self._id, None) is not None:
            core.control("cancel_watch", config_pb2.CancelWatchRequest(watch_id=self._id), lambda *_: None)

    def resume(self, core: SessionCore) -> None:
        """The reader has read everything: goes on if the watch was stopped for being too far ahead of it."""
        if self._id not in core.watches and self.error is None:
            self.begin(core)

    def _started(self, answer: object, error: LockmasterError | None) -> None:
        if error is not None:
            self.stop(error)

    def stop(self, error: LockmasterError) -> None:
        """It is over; the reader is told after it has read what is queued."""
        self.error = error
        self._notify()

    def deliver(self, core: SessionCore, events: config_pb2.WatchEvents) -> None:
        """Takes one message of the server."""
        if events.reset_revision:
            self._take_page(events)
        else:
            for change in events.changes:
                if change.item.mod_revision > self.delivered:
                    self._take(change_of(change))
            self.delivered = max(self.delivered, events.revision)
        if self.changes:
            self._notify()
        if len(self.changes) >= BACKLOG_MAX:
            # A slow reader costs nobody anything: the server forgets it, and it resumes where it stopped.
            self.end(core)

    def _take(self, change: Change) -> None:
        if change.kind == "delete":
            self.known.pop(change.key, None)
        else:
            self.known[change.key] = change.revision
        self.changes.append(change)

    def _take_page(self, events: config_pb2.WatchEvents) -> None:
        if self._page is None or self._page_revision != events.reset_revision:
            # Also where the server began again at a newer revision: what the older pages told may be gone.
            self._page, self._page_revision = {}, events.reset_revision
        for change in events.changes:
            self._page[change.item.key] = change
        if not events.reset_last:
            return
        page, self._page = self._page, None
        revision = events.reset_revision
        fresh = [
            change_of(change, coalesced=True)
            for key, change in page.items()
            if self.known.get(key) != change.item.mod_revision and change.item.mod_revision > self.delivered
        ]
        for news in sorted(fresh, key=lambda each: each.revision):
            self._take(news)
        for key in sorted(self.known.keys() - page.keys()):
            self._take(Change("delete", Item(self.namespace, key, b"", revision, 0, 0), None, coalesced=True))
        self.delivered = max(self.delivered, revision)
