"""A member that stores more slowly than others write: applying waits, its memory does not grow."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from lockmaster.server.applying import OVERLAY_BYTES_MAX, Applier
from lockmaster.server.state_keeper import StateKeeper
from lockmaster.server.waiting import AdminCalls
from lockmaster.statemachine.apply import StateMachine
from lockmaster.statemachine.codec import encode_batch
from lockmaster.statemachine.commands import Command, Put
from lockmaster.storage.directory import DataDirectory
from lockmaster.storage.rocks import Database
from lockmaster.storage.state import StateStore
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.ids import Index, Nanos, Term

VALUE_BYTES = 512 << 10
ENTRIES = 4 * OVERLAY_BYTES_MAX // VALUE_BYTES


def put(number: int) -> Entry:
    command = Command(Put("n", f"k{number}", bytes(VALUE_BYTES), None, "", 0, "", "", 0))
    return make_entry(Index(number + 2), Term(1), EntryKind.DATA, Nanos(number + 1), encode_batch([command]))


class Keeper:
    """Counts how often it is asked to store."""

    def __init__(self) -> None:
        self.asked = 0
        self.schedule = SimpleNamespace(applied=lambda *_: None)

    def soon(self) -> None:
        self.asked += 1

    def applied(self) -> None:
        pass


def test_applying_waits_for_storing_and_goes_on_at_half(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")))
    StateMachine.initialise(store, index=1, term=1, revision=1)
    store.sealed(Index(1), Term(1))
    directory = cast(DataDirectory, SimpleNamespace(state=store, store=store))
    applier, keeper = Applier(directory, StateMachine(store), [], AdminCalls()), Keeper()
    applier.extend([put(number) for number in range(ENTRIES)])
    waits, most = 0, 0
    while applier.waiting:
        while applier.run(cast(StateKeeper, keeper)):
            pass
        most = max(most, store.overlay_bytes)
        if not applier.waiting:
            break
        waits, asked = waits + 1, keeper.asked
        assert applier.behind
        applier.run(cast(StateKeeper, keeper))  # it is asked again before anything is stored
        assert keeper.asked == asked
        while not applier.stored():
            assert store.overlay_bytes > OVERLAY_BYTES_MAX // 2
            assert store.store(store.applied)
    assert waits >= 4
    assert OVERLAY_BYTES_MAX <= most <= OVERLAY_BYTES_MAX + 2 * VALUE_BYTES
    store.close()
