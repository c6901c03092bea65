"""One flipped bit anywhere in journal or guard: refused with the file's name, or the same log and answers."""

from __future__ import annotations

import os

from lockmaster.storage.errors import StorageFailed
from lockmaster.storage.recording import Image, RecordingFiles

from . import journal_model as jm

EVERY_BYTE = bool(os.environ.get("LOCKMASTER_SWEEP"))
"""Zeros past a segment's end are sampled unless this is set; every byte that was written is always flipped."""
ZEROS_STRIDE = 61


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


def _sweep(suffix: str) -> tuple[int, int]:
    image, model = _populated()
    refused = equal = 0
    unnamed: list[str] = []
    for name, data in image.items():
        if not name.endswith(suffix):
            continue
        for at in range(len(data)):
            sector = data[at - at % 512 : at - at % 512 + 512]
            if not any(sector) and at % ZEROS_STRIDE and not EVERY_BYTE:
                continue
            flipped = bytearray(data)
            flipped[at] ^= 1 << (at * 5 + at // 8) % 8
            files = RecordingFiles.of({**image, name: bytes(flipped)})
            try:
                found = jm.held(*jm.boot(files, nonce=9))
            except StorageFailed as error:
                if os.path.basename(name) not in str(error):
                    unnamed.append(f"{name} at {at}: {error}")
                refused += 1
                continue
            assert found == model, f"{name}: bit flip at offset {at} changed what was read"
            equal += 1
    assert unnamed == []
    return refused, equal


def test_every_flip_in_a_segment_is_named_or_harmless() -> None:
    refused, equal = _sweep(".seg")
    assert refused > 5000
    assert equal > 0


def test_every_flip_in_the_guard_file_is_harmless_or_named() -> None:
    refused, equal = _sweep("/guard")
    assert refused == 0, "either slot alone carries the same hard state"
    assert equal > 1000
