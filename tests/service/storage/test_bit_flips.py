"""One flipped bit anywhere on the disk: refused with the file's name, or the same log, state and answers.

By default one bit of every byte that was written in journal, guard, FORMAT and STATE, of every 61st of the zeros after
them, and of every 997th byte of a snapshot. LOCKMASTER_SWEEP=1 (a quarter of an hour): all eight bits of every written
byte, one of each zero, every 101st byte of a snapshot.
RocksDB's files are sampled in test_scrub.py and test_state.py. Each test prints what it covered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lockmaster.storage.errors import StorageFailed
from lockmaster.storage.recording import Image, RecordingFiles
from lockmaster.storage.snapshot import make_snapshot, open_snapshot

from . import directory_model as dm
from . import journal_model as jm
from . import test_directory as td

FULL = bool(os.environ.get("LOCKMASTER_SWEEP"))
SCOPE = "all bits of every written byte" if FULL else "one bit of every written byte, zeros sampled"
ZEROS_STRIDE = 1 if FULL else 61
SNAPSHOT_STRIDE = 101 if FULL else 997


def _populated() -> tuple[Image, jm.Model]:
    files = RecordingFiles()
    jm.make(files)
    model = jm.Model()
    for nonce, writes in enumerate((jm.WORKLOAD[:9], jm.WORKLOAD[9:15]), start=1):
        guard, journal = jm.boot(files, nonce)
        for write in writes:
            pending = journal.begin(write)
            pending.run()
            journal.finish(pending)
            model = model.after(write)
        journal.close()
        guard.close()
    return files.image(), model


def _flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(len(data)):
        written = any(data[at - at % 512 : at - at % 512 + 512])
        if not written and at % ZEROS_STRIDE:
            continue
        for bit in range(8) if FULL and written else ((at * 5 + at // 8) % 8,):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            yield at, bytes(flipped)


def _sweep(image: Image, suffix: str, check: Callable[[RecordingFiles], None]) -> tuple[int, int]:
    refused = equal = 0
    unnamed: list[str] = []
    for name, data in image.items():
        if not name.endswith(suffix):
            continue
        for at, flipped in _flips(data):
            try:
                check(RecordingFiles.of({**image, name: flipped}))
            except StorageFailed as error:
                if os.path.basename(name) not in str(error):
                    unnamed.append(f"{name} at {at}: {error}")
                refused += 1
            except AssertionError as error:
                error.add_note(f"{name}: bit flip at offset {at} changed what was read")
                raise
            else:
                equal += 1
    assert unnamed == []
    print(f"{suffix}: {refused + equal} flips ({SCOPE}): {refused} refused by name, {equal} read as they were")
    return refused, equal


def _journal_and_guard(model: jm.Model) -> Callable[[RecordingFiles], None]:
    def check(files: RecordingFiles) -> None:
        assert jm.held(*jm.boot(files, nonce=9)) == model

    return check


def test_flips_of_every_written_byte_of_the_segments_are_named_or_harmless() -> None:
    image, model = _populated()
    refused, equal = _sweep(image, ".seg", _journal_and_guard(model))
    assert refused > 5000
    assert equal > 0


def test_flips_of_every_written_byte_of_the_guard_file_are_harmless() -> None:
    image, model = _populated()
    refused, equal = _sweep(image, "/guard", _journal_and_guard(model))
    assert refused == 0, "either slot alone carries the same hard state"
    assert equal > 1000


def _boots(promise: dm.Promise) -> Callable[[RecordingFiles], None]:
    def check(files: RecordingFiles) -> None:
        dm.check_boot(files, promise)

    return check


@pytest.mark.parametrize("name", ["/FORMAT", "/STATE"])
def test_flips_of_every_byte_of_the_small_files_are_named(name: str) -> None:
    files, promise = RecordingFiles(), dm.Promise()
    actor = dm.Actor(files, promise)
    directory = actor.open()
    for step in next(iter(dm.SCENARIOS.values())):
        step(actor, directory)
    directory.close()
    refused, equal = _sweep(files.image(), name, _boots(promise))
    assert refused > 10
    assert equal == 0


def test_flips_of_sampled_bytes_of_a_snapshot_are_named(tmp_path: Path) -> None:
    directory = td._found(tmp_path / "d")
    td._fill(directory, 2, 60)
    snapshot = make_snapshot(directory, td._cut(directory))
    directory.close()
    flips = 0
    for file in sorted(Path(snapshot.path).iterdir()):
        data = file.read_bytes()
        for at in range(0, len(data), 1 if file.name == "manifest" else SNAPSHOT_STRIDE):
            flips += 1
            with file.open("r+b") as opened:
                os.pwrite(opened.fileno(), bytes([data[at] ^ 1 << at % 8]), at)
            try:
                found = open_snapshot(snapshot.path)
                for number in range(len(found.digests)):
                    found.read_chunk(number)
            except StorageFailed as error:
                named = file.name in str(error)
            else:
                named = False
            with file.open("r+b") as opened:
                os.pwrite(opened.fileno(), data[at : at + 1], at)
            assert named, f"{file}: the flip at {at} was not found, or not named"
    print(f"snapshot: {flips} flips (every byte of the manifest, every {SNAPSHOT_STRIDE}th of the chunks): all named")
    assert flips > 500
