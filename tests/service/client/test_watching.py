"""One watch's client half alone: how pages of a RESET become changes."""

from __future__ import annotations

from typing import Any

from lockmaster.api import config_pb2
from lockmaster.client.watching import Watching


class Core:
    """Where a watch registers; nothing is sent."""

    def __init__(self) -> None:
        self.watches: dict[int, Watching] = {}

    def control(self, field: str, message: object, then: object) -> None:
        pass


def page(reset: int, *keys: tuple[str, int], last: bool) -> config_pb2.WatchEvents:
    events = config_pb2.WatchEvents(watch_id=1, reset_revision=reset, reset_last=last)
    for key, revision in keys:
        change = events.changes.add(kind=config_pb2.Change.KIND_PUT, coalesced=True)
        change.item.key, change.item.mod_revision = key, revision
    return events


def test_a_reset_that_begins_again_forgets_its_earlier_pages() -> None:
    """A key that was deleted between the two revisions is in the older pages only: it must not come back."""
    core: Any = Core()
    watching = Watching(
        "app", "", prefix=True, delivered=5, known={"gone": 3}, previous=False, notify=lambda: None, next_id=lambda: 1
    )
    watching.begin(core)
    watching.deliver(core, page(100, ("gone", 90), ("kept", 91), last=False))
    watching.deliver(core, page(200, ("kept", 91), last=False))
    watching.deliver(core, page(200, ("new", 150), last=True))
    told = [(change.kind, change.key, change.revision) for change in watching.changes]
    assert told == [("put", "kept", 91), ("put", "new", 150), ("delete", "gone", 200)]
    assert watching.known == {"kept": 91, "new": 150}
    assert watching.delivered == 200
