"""reliability.md layer 4: journal and guard on the recording layer, crashed at every operation, every state booted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lockmaster.storage.errors import StorageFailed
from lockmaster.storage.recording import Crash, Image, RecordingFiles

from . import journal_model as jm


def _blank() -> Image:
    files = RecordingFiles()
    jm.make(files)
    return files.image()


def _run(files: RecordingFiles) -> tuple[list[jm.Model], bool]:
    """(the models that the disk may hold after what happened, whether the workload ended)."""
    possible = [jm.Model()]
    try:
        _, journal = jm.boot(files, nonce=1)
        for write in jm.WORKLOAD:
            acknowledged = possible[-1]
            possible = [acknowledged, acknowledged.hard_only(write), acknowledged.after(write)]
            pending = journal.begin(write)
            pending.run()
            possible = possible[2:]
            journal.finish(pending)
        journal.close()
    except Crash:
        return possible, False
    return possible, True


def _crashes() -> Iterator[tuple[int, RecordingFiles, list[jm.Model]]]:
    blank = _blank()
    for crash_at in range(1, 500):
        files = RecordingFiles.of(blank, crash_at=crash_at)
        possible, ended = _run(files)
        if ended:
            return
        yield crash_at, files, possible
    raise AssertionError("the workload has more operations than expected")


def test_every_crash_state_boots_and_holds_what_was_acknowledged() -> None:
    states = 0
    for crash_at, files, possible in _crashes():
        for image in files.crash_images():
            states += 1
            after = RecordingFiles.of(image)
            guard, journal = jm.boot(after, nonce=2)
            found = jm.held(guard, journal)
            assert found in possible, f"crash at operation {crash_at}: {found} is none of {possible}"
    assert states > 500


def test_a_second_crash_during_the_boot_after_the_first_changes_nothing() -> None:
    checked = 0
    for crash_at, files, possible in _crashes():
        images = list(files.crash_images())
        image = images[(crash_at * 7) % len(images)]
        for second in range(1, 60):
            again = RecordingFiles.of(image, crash_at=second)
            try:
                jm.boot(again, nonce=2)
            except Crash:
                for state in again.crash_images():
                    checked += 1
                    assert jm.held(*jm.boot(RecordingFiles.of(state), nonce=3)) in possible, (crash_at, second)
                continue
            break
    assert checked > 1000


def test_a_frame_written_after_a_torn_one_survives_the_next_boot() -> None:
    for crash_at, files, possible in _crashes():
        images = list(files.crash_images())
        after = RecordingFiles.of(images[(crash_at * 5) % len(images)])
        guard, journal = jm.boot(after, nonce=2)
        found = jm.held(guard, journal)
        write = jm.persist(jm.entry(journal.last_index + 1, 9), hard=(9, 1))
        pending = journal.begin(write)
        pending.run()
        journal.finish(pending)
        again = jm.held(*jm.boot(RecordingFiles.of(after.image()), nonce=3))
        assert again == found.after(write), crash_at
        assert possible


def test_a_failed_write_stops_everything_after_it_and_is_not_retried() -> None:
    blank = _blank()
    boots = RecordingFiles.of(blank)
    jm.boot(boots, nonce=1)
    for fail_at in range(boots.operations + 1, boots.operations + 120):
        files = RecordingFiles.of(blank, fail_at=fail_at)
        _, journal = jm.boot(files, nonce=1)
        try:
            for write in jm.WORKLOAD:
                pending = journal.begin(write)
                pending.run()
                journal.finish(pending)
        except StorageFailed as error:
            if "errno 5" not in str(error):
                raise
            before = files.operations
            with pytest.raises(StorageFailed):
                journal.begin(jm.persist(jm.entry(99, 9)))
            with pytest.raises(StorageFailed):
                pending.run()
            assert files.operations == before
            continue
        break
    else:
        raise AssertionError("the workload has more operations than expected")
