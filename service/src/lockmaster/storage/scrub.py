"""The scrub: re-reads the journal and the state at rest and checks every checksum, in a process of its own.

Run as `python -m lockmaster.storage.scrub PARENT CHECKPOINT BYTES_PER_SECOND` (PARENT: the member's process, with which
it ends) with a JSON list of [path, segment number, end] on stdin. It reads from the disk and not from the page cache
(as far as the kernel drops pages on request), no faster than the rate, at a low priority. Of the journal it checks
every frame, its place in the chain and each entry's own checksum; of the state every block, by reading all records, and
that their hash is the state hash stored with them. Found damage ends it with the exit code of the storage error and one
line that names the file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final

from lockmaster.statemachine.view import record_hash
from lockmaster.storage.child import end_with_parent
from lockmaster.storage.errors import CorruptLog, StorageFailed, exit_code
from lockmaster.storage.files import Files, RealFiles
from lockmaster.storage.records import LARGE_PREFIX, META_KEY, TABLES_FIRST, Meta, resolve
from lockmaster.storage.rocks import Database, StateDatabase
from lockmaster.storage.segment import Opened, next_frame, read_segment, records_at

NICENESS: Final = 19
PACE_BYTES: Final = 256 << 10
"""Bytes between two looks at the clock."""

ClosedSegment = tuple[str, int, int]
"""(path, segment number, offset after its last frame)."""


class Pace:
    """Holds whoever reads to a rate."""

    def __init__(
        self,
        bytes_per_second: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.total = 0
        self._rate = bytes_per_second
        self._clock, self._sleep = clock, sleep
        self._started = clock()
        self._looked_at = 0

    def read(self, size: int) -> None:
        """So much was read: sleep until the rate allows it."""
        self.total += size
        if self.total - self._looked_at < PACE_BYTES:
            return
        self._looked_at = self.total
        ahead = self.total / self._rate - (self._clock() - self._started)
        if ahead > 0:
            self._sleep(ahead)


def scrub_segments(files: Files, segments: Iterable[ClosedSegment], pace: Pace) -> int:
    """Check these segments up to their ends; how many. One deleted meanwhile is left out. Raises CorruptLog."""
    count = 0
    for path, number, end in segments:
        drop_cached(path)
        try:
            opened = read_segment(files, path, number)
        except StorageFailed:
            if files.exists(path):
                raise
            continue  # under a newer BASE by now
        if not isinstance(opened, Opened):
            raise CorruptLog(f"{path}: offset 0: the segment's opening is damaged")
        _check_frames(opened, end, pace)
        count += 1
    return count


def _check_frames(opened: Opened, end: int, pace: Pace) -> None:
    pace.read(opened.end)
    at, crc, number = opened.end, opened.crc, opened.header.first_number
    while at < end:  # ends: `at` rises
        frame = next_frame(opened, at, number, crc)
        if frame is None:
            raise CorruptLog(f"{opened.path}: offset {at}: frame {number} is damaged")
        records_at(opened.path, at, frame)
        pace.read(frame.size)
        at, crc, number = at + frame.size, frame.crc, number + 1


def scrub_state(database: StateDatabase, pace: Pace) -> int:
    """Read every record and compare their hash with the one stored; how many. Raises StorageFailed, CorruptLog."""
    raw = database.get(META_KEY)
    if raw is None:
        raise CorruptLog(f"{database.path}: has no meta record")
    meta, total, count = Meta.decode(raw), 0, 0
    for full_key, stored in database.scan(TABLES_FIRST, LARGE_PREFIX):
        value = resolve(database.get, full_key, stored)
        total += record_hash(full_key, value)
        count += 1
        pace.read(len(full_key) + len(value))
    if total % 2**64 != meta.state_hash:
        raise CorruptLog(f"{database.path}: the hash of the records is not the state hash of index {meta.applied}")
    return count


def drop_cached(path: str) -> None:
    """Ask the kernel to read this file from the disk next time; a file that is not there is no matter."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> int:
    """One pass. Prints what was read as one line of JSON; exit code 0, or that of the storage error."""
    parent, checkpoint, rate = arguments
    end_with_parent(int(parent))
    os.nice(NICENESS)
    segments: list[ClosedSegment] = [(path, number, end) for path, number, end in json.load(sys.stdin)]
    pace = Pace(int(rate))
    try:
        names = RealFiles().list_dir(checkpoint)
        for name in names:
            drop_cached(f"{checkpoint}/{name}")
        checked = scrub_segments(RealFiles(), segments, pace)
        # No file at all: a witness has no state. A copy of RocksDB always has some.
        records = scrub_state(Database(checkpoint, read_only=True), pace) if names else 0
    except StorageFailed as error:
        print(error, file=sys.stderr)
        return exit_code(error)
    print(json.dumps({"segments": checked, "records": records, "bytes": pace.total}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
