"""reliability.md layer 4 for the whole directory: journal, guard and state crash together, every combination is booted.

RocksDB is the model of recording_database.py: after a crash it stands at any batch boundary from the last flush on. So
genesis, storing ahead of a flush, BASE after a flush and snapshot install are crashed at every operation, and booted
with each (journal, guard, state) that the disk may then hold.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lockmaster.storage.recording import Crash, RecordingFiles

from . import directory_model as dm
from . import journal_model as jm

OPERATIONS_MAX = 1000
STATES_PER_CRASH_MAX = 256
"""Above it an even sample of a crash's states is booted (a prime stride), its first and last among them."""


def _run(files: RecordingFiles, name: str, removes_last: bool) -> tuple[dm.Promise, bool]:
    witness = name in dm.WITNESS_SCENARIOS
    promise = dm.Promise(witness=witness, states=("none",) if witness else ("own",))
    actor = dm.Actor(files, promise, removes_last)
    try:
        directory = actor.open()
        for step in dm.SCENARIOS[name]:
            step(actor, directory)
        directory.close()
    except Crash:
        return actor.promise, False
    return actor.promise, True


def _crashes(name: str) -> Iterator[tuple[int, RecordingFiles, dm.Promise]]:
    for removes_last in (False, True) if name in dm.INSTALL_SCENARIOS else (False,):
        for crash_at in range(1, OPERATIONS_MAX):
            files = RecordingFiles(crash_at=crash_at)
            promise, ended = _run(files, name, removes_last)
            if ended:
                break
            yield crash_at, files, promise
        else:
            raise AssertionError("the scenario has more operations than expected")


def _sample(states: list[dict[str, bytes]]) -> list[dict[str, bytes]]:
    if len(states) <= STATES_PER_CRASH_MAX:
        return states
    stride = len(states) // STATES_PER_CRASH_MAX + 1
    return [*states[::stride], states[-1]]


@pytest.mark.parametrize("name", list(dm.SCENARIOS))
def test_every_combination_of_journal_guard_and_state_boots_and_holds_what_was_acknowledged(name: str) -> None:
    crashes = states = sampled = 0
    heights: set[tuple[int, int, int]] = set()
    for crash_at, files, promise in _crashes(name):
        crashes += 1
        found = list(files.crash_images())
        sampled += len(found) > STATES_PER_CRASH_MAX
        for image in _sample(found):
            states += 1
            try:
                directory = dm.check_boot(RecordingFiles.of(image), promise)
            except Exception as error:
                error.add_note(f"{name}: crash at operation {crash_at}, names {sorted(image)}")
                raise
            applied = directory.store.applied_stored if directory.store is not None else 0
            heights.add((directory.journal.base.index, applied, directory.journal.last_index))
    print(f"{name}: {crashes} crashes, {states} states ({sampled} sampled), {len(heights)} (base, applied, last)")
    assert states > 400
    assert len(heights) > 5


@pytest.mark.parametrize("name", list(dm.SCENARIOS))
def test_a_second_crash_during_the_boot_after_the_first_changes_nothing(name: str) -> None:
    checked = 0
    for crash_at, files, promise in _crashes(name):
        images = list(files.crash_images())
        image = images[(crash_at * 7) % len(images)]
        for second in range(1, 100, 1 + crash_at % 3):
            again = RecordingFiles.of(image, crash_at=second)
            try:
                dm.check_boot(again, promise)
            except Crash:
                for state in list(again.crash_images())[: 1 + STATES_PER_CRASH_MAX // 32]:
                    checked += 1
                    dm.check_boot(RecordingFiles.of(state), promise)
                continue
            break
    assert checked > 300


def test_the_state_is_never_ahead_of_the_own_log() -> None:
    """service.md §5: a batch never goes beyond what this member's own log has durable."""
    files = RecordingFiles()
    actor = dm.Actor(files, dm.Promise())
    directory = actor.open()
    actor.found(directory)
    pending = directory.begin(jm.persist(jm.entry(2, 1)))
    actor.apply(directory, 2, 2, 1)
    assert directory.state.applied_stored == 1
    assert directory.state.cut() == 2  # closed, as by a snapshot or a full generation: it must wait all the same
    assert not directory.state.store(directory.journal.durable_index)
    assert directory.state.applied_stored == 1
    directory.state.release()
    pending.run()
    directory.finish(pending)
    assert not directory.state.store(directory.journal.durable_index)
    assert directory.state.applied_stored == 2


def test_the_state_does_not_take_an_entry_whose_predecessor_at_that_index_is_what_the_disk_has() -> None:
    """Seed 7050: a hung write held the new entry and its term; a boot found the state ahead of both and refused."""
    files = RecordingFiles()
    actor = dm.Actor(files, dm.Promise())
    directory = actor.open()
    actor.found(directory)
    first = directory.begin(jm.persist(jm.entry(2, 1)))
    first.run()
    directory.finish(first)
    pending = directory.begin(jm.persist(jm.entry(2, 2), hard=(2, 1), truncate=2))
    actor.apply(directory, 2, 2, 2)
    assert directory.state.cut() == 2
    assert not directory.state.store(directory.journal.durable_index)
    assert directory.state.applied_stored == 1
    pending.run()
    directory.finish(pending)
    assert not directory.state.store(directory.journal.durable_index)
    assert directory.state.applied_stored == 2
