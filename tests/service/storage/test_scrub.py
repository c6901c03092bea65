"""The scrub finds what changed on the disk, names the file, and reads no faster than it may."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lockmaster.storage.directory import DataDirectory
from lockmaster.storage.errors import EXIT_CORRUPT, CorruptLog, StorageFailed
from lockmaster.storage.files import RealFiles
from lockmaster.storage.rocks import Database
from lockmaster.storage.scrub import Pace, scrub_segments, scrub_state
from lockmaster_raft.ids import Index

from . import test_directory as td

FLIPS_PER_FILE = 60
FAST = 1 << 40


@pytest.fixture
def filled(tmp_path: Path) -> DataDirectory:
    """A directory with several segments and large values, all stored; closed by the test."""
    directory = td._found(tmp_path / "d")
    td._fill(directory, 2, 300)
    while directory.state.store(Index(299)):
        pass
    return directory


def _told(scrub: Callable[[], object]) -> str:
    try:
        scrub()
    except StorageFailed as error:
        return str(error)
    return ""


def test_what_was_written_is_found_as_it_was(filled: DataDirectory, tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "d" / "snapshots" / "scrub")
    filled.checkpoint(checkpoint)
    segments = filled.journal.closed_segments()
    assert len(segments) > 2
    pace = Pace(FAST)
    assert scrub_segments(RealFiles(), segments, pace) == len(segments)
    assert pace.total >= sum(end for _, _, end in segments)
    assert scrub_state(Database(checkpoint, read_only=True), pace) > 70
    command = [sys.executable, "-m", "lockmaster.storage.scrub", str(os.getpid()), checkpoint, str(FAST)]
    found = subprocess.run(command, input=json.dumps(segments), capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["segments"] == len(segments)
    filled.close()


def test_a_flipped_bit_in_a_segment_at_rest_is_found_and_named(filled: DataDirectory) -> None:
    draw = random.Random(5)
    for path, number, end in filled.journal.closed_segments():
        original = Path(path).read_bytes()
        for _ in range(FLIPS_PER_FILE):
            at = draw.randrange(end)
            flipped = bytearray(original)
            flipped[at] ^= 1 << draw.randrange(8)
            Path(path).write_bytes(flipped)
            told = _told(lambda: scrub_segments(RealFiles(), [(path, number, end)], Pace(FAST)))  # noqa: B023 - called here
            # Only the zeros that fill up a frame's last sector are no part of anything.
            assert Path(path).name in told or (not told and original[at] == 0), f"{path} at {at}: {told}"
        Path(path).write_bytes(original)
    filled.close()


def test_a_flipped_bit_in_the_state_at_rest_is_found_and_named(filled: DataDirectory, tmp_path: Path) -> None:
    checkpoint = tmp_path / "d" / "snapshots" / "scrub"
    filled.checkpoint(str(checkpoint))
    filled.close()
    draw = random.Random(6)
    found = 0
    for table in sorted(checkpoint.glob("*.sst")):
        original = table.read_bytes()
        table.unlink()  # a hard link: the member's own file stays as it is
        for _ in range(FLIPS_PER_FILE):
            flipped = bytearray(original)
            flipped[draw.randrange(len(original))] ^= 1 << draw.randrange(8)
            table.write_bytes(flipped)
            told = _told(lambda: scrub_state(Database(str(checkpoint), read_only=True), Pace(FAST)))
            found += bool(told)
            assert not told or str(checkpoint) in told
        table.write_bytes(original)
    assert found > FLIPS_PER_FILE * 0.9, "what is left are bits that no reader uses (properties, padding)"


def test_a_record_that_differs_from_the_stored_hash_is_found(filled: DataDirectory, tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "d" / "snapshots" / "scrub")
    filled.checkpoint(checkpoint)
    filled.close()
    database = Database(checkpoint)
    key, value = next(database.scan(b"\x01", b"\xff"))
    database.write([(key, value[:-1] + bytes([value[-1] ^ 1]))])
    database.flush()
    database.close()
    with pytest.raises(CorruptLog, match="hash"):
        scrub_state(Database(checkpoint, read_only=True), Pace(FAST))


def test_a_segment_deleted_meanwhile_is_left_out_and_damage_ends_the_process(
    filled: DataDirectory, tmp_path: Path
) -> None:
    checkpoint = str(tmp_path / "d" / "snapshots" / "scrub")
    filled.checkpoint(checkpoint)
    segments = filled.journal.closed_segments()
    filled.close()
    gone, damaged = Path(segments[0][0]), Path(segments[1][0])
    gone.unlink()
    assert scrub_segments(RealFiles(), segments, Pace(FAST)) == len(segments) - 1
    content = bytearray(damaged.read_bytes())
    content[600] ^= 4
    damaged.write_bytes(content)
    command = [sys.executable, "-m", "lockmaster.storage.scrub", str(os.getpid()), checkpoint, str(FAST)]
    ended = subprocess.run(command, input=json.dumps(segments), capture_output=True, text=True, check=False)
    assert ended.returncode == EXIT_CORRUPT
    assert ended.stderr.count("\n") == 1
    assert damaged.name in ended.stderr


def test_the_pace_holds_a_reader_to_its_rate() -> None:
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(1 << 20, clock=lambda: now[0], sleep=sleep)
    for _ in range(1024):
        pace.read(4096)
        now[0] += 0.001
    assert now[0] == pytest.approx(4.0, abs=0.3)
    assert max(slept) < 0.5
