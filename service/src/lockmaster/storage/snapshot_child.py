"""The snapshot child: walks a RocksDB checkpoint and writes its chunks, or makes a RocksDB of fetched ones.

`python -m lockmaster.storage.snapshot_child PARENT make CHECKPOINT SIDE`, `PARENT build CHUNKS SIDE` (the manifest on
standard input). Runs beside the member so that iterating, opening and filling a RocksDB, which hold the interpreter
lock, cost its loop nothing. `make` lowers its own priority and fsyncs every chunk; for what `build` makes the member
waits.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from lockmaster.statemachine.view import record_hash
from lockmaster.storage.child import end_with_parent
from lockmaster.storage.errors import CorruptLog, StorageFailed, exit_code
from lockmaster.storage.files import RealFiles, failed
from lockmaster.storage.records import LARGE_PREFIX, META_KEY, TABLES_FIRST, Meta, resolve
from lockmaster.storage.rocks import Database
from lockmaster.storage.snapshot import (
    CHUNK_BYTES,
    build_state,
    chunk_name,
    decode_manifest,
    encode_stream_head,
    encode_stream_record,
)

NICENESS: Final = 10


def write_chunks(checkpoint: str, side: str) -> int:
    """Write all chunks of the checkpoint's state into `side`; their number. Raises StorageFailed, CorruptLog."""
    database = Database(checkpoint, read_only=True)
    raw = database.get(META_KEY)
    if raw is None:
        raise CorruptLog(f"{checkpoint}: has no meta record")
    meta = Meta.decode(raw)
    buffer, count, total = bytearray(encode_stream_head(meta)), 0, 0
    for full_key, stored in database.scan(TABLES_FIRST, LARGE_PREFIX):
        value = resolve(database.get, full_key, stored)
        total += record_hash(full_key, value)
        buffer += encode_stream_record(full_key, value)
        while len(buffer) >= CHUNK_BYTES:  # ends: the buffer shrinks
            _write_chunk(side, count, bytes(buffer[:CHUNK_BYTES]))
            del buffer[:CHUNK_BYTES]
            count += 1
    if buffer:
        _write_chunk(side, count, bytes(buffer))
        count += 1
    if total % 2**64 != meta.state_hash:
        raise CorruptLog(f"{checkpoint}: the records' hash is not the state hash stored with them")
    return count


def _write_chunk(side: str, number: int, data: bytes) -> None:
    files, path = RealFiles(), f"{side}/{chunk_name(number)}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, data) != len(data):
                raise StorageFailed(f"{path}: short write")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise failed("write", path, error) from error
    if number == 0:
        files.sync_dir(side)


def main(arguments: list[str]) -> int:
    """Exit code 0, or that of the storage error, with one line on stderr."""
    parent, command, source, side = arguments
    end_with_parent(int(parent))
    try:
        if command == "make":
            os.nice(NICENESS)
            write_chunks(source, side)
        else:
            fetched = decode_manifest(source, sys.stdin.buffer.read(), "standard input")
            build_state(Database(side), fetched, RealFiles())
    except StorageFailed as error:
        print(error, file=sys.stderr)
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
