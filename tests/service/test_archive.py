"""archive.py: every byte of a backup is under a hash, damage names its part, and nothing half-made has the name."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from lockmaster import archive
from lockmaster.archive import ArchiveDamaged, ArchiveParser, ArchiveWriter, Head, Manifest, NotAnArchive

CHUNK = 100
MANIFEST = Manifest("ab" * 16, 1_800_000_000, 7, 3, 1 << 50, 2, "a", "0.2.0")


def make(sizes: tuple[int, ...] = (CHUNK, CHUNK, 37)) -> tuple[bytes, list[bytes]]:
    """(an archive, its chunks)."""
    draw = random.Random(5)
    chunks = [draw.randbytes(size) for size in sizes]
    head = Head(MANIFEST, b"base", tuple(map(archive.digest, chunks)), CHUNK, sum(sizes))
    return head.encode() + b"".join(chunks), chunks


def parse(data: bytes, step: int = 64) -> tuple[Head, list[bytes]]:
    """All of it, fed in pieces."""
    parser = ArchiveParser("x.backup")
    found = [chunk for at in range(0, len(data), step) for chunk in parser.feed(data[at : at + step])]
    return parser.finish(), found


@pytest.mark.parametrize("step", [1, 7, 64, 1 << 20])
def test_what_was_written_is_read_in_pieces_of_any_size(step: int) -> None:
    data, chunks = make()
    head, found = parse(data, step)
    assert (head.manifest, head.base, head.bytes_total) == (MANIFEST, b"base", 237)
    assert found == chunks


def test_every_flipped_bit_is_found_and_its_part_named() -> None:
    data, _ = make()
    head_end = len(data) - 237
    named: dict[str, int] = {}
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises((ArchiveDamaged, NotAnArchive), match=r"^x\.backup: ") as caught:
                parse(bytes(flipped))
            text = str(caught.value)
            if at >= head_end:
                part = f"chunk {(at - head_end) // CHUNK + 1} of 3"
                assert part in text, (at, bit)
            elif at < 8:
                part = "is not a Lockmaster backup"
                assert part in text
            elif at < 10:
                part = "format"
                assert part in text
            else:
                part = "head"
                assert "its head" in text, (at, bit, text)
            named[part] = named.get(part, 0) + 1
    assert set(named) == {"is not a Lockmaster backup", "format", "head", *(f"chunk {n} of 3" for n in (1, 2, 3))}


def test_a_cut_anywhere_is_found_and_its_place_named() -> None:
    data, _ = make()
    head_end = len(data) - 237
    for size in range(len(data)):
        with pytest.raises(ArchiveDamaged, match="is cut off within ") as caught:
            parse(data[:size])
        place = "its head" if size < head_end else f"chunk {(size - head_end) // CHUNK + 1} of 3"
        assert str(caught.value).endswith(place)


def test_bytes_after_the_end_are_refused() -> None:
    data, _ = make()
    with pytest.raises(ArchiveDamaged, match="bytes follow its last chunk"):
        parse(data + b"\0")
    with pytest.raises(ArchiveDamaged, match="bytes follow its last chunk"):
        parse(data + b"\0", 1)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (Head(MANIFEST, b"", (bytes(32),) * 2, CHUNK, CHUNK), "lengths"),
        (Head(MANIFEST, b"", (bytes(32),), 1 << 30, 5), "lengths"),
        (Head(MANIFEST, b"", (), CHUNK, 0), "lengths"),
        (Head(MANIFEST, bytes(archive.BASE_BYTES_MAX + 1), (bytes(32),), CHUNK, 5), "lengths"),
    ],
)
def test_lengths_out_of_their_range_are_refused_before_anything_is_kept(head: Head, why: str) -> None:
    with pytest.raises(ArchiveDamaged, match=why):
        parse(head.encode())


def test_a_manifest_with_a_wrong_field_is_refused() -> None:
    wrong = Head(Manifest(5, 1, 1, 1, 1, 1, "a", "b"), b"", (bytes(32),), CHUNK, 5)  # type: ignore[arg-type]
    with pytest.raises(ArchiveDamaged, match="cluster_id is no str"):
        parse(wrong.encode())


def test_random_bytes_are_never_taken_for_an_archive() -> None:
    draw = random.Random(1)
    for _ in range(300):
        data = draw.choice((b"", archive.MAGIC, archive.MAGIC + b"\0\1")) + draw.randbytes(draw.randrange(0, 400))
        with pytest.raises((ArchiveDamaged, NotAnArchive)):
            parse(data)


# -- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.backup"


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_file_has_its_name_only_when_it_is_whole(path: Path) -> None:
    data, chunks = make()
    with ArchiveWriter(path) as writer:
        writer.write(data[:-1])
        assert names(path) == ["x.backup.partial"]
        writer.write(data[-1:])
        writer.finish()
    assert names(path) == ["x.backup"]
    assert list(archive.read_chunks(path)) == chunks
    assert archive.read_head(path) == archive.verify(path)


def receive(path: Path, data: bytes) -> None:
    with ArchiveWriter(path) as writer:
        writer.write(data)
        writer.finish()


def _broken(data: bytes) -> Iterator[bytes]:
    yield data[:-1]
    yield data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :]


def test_what_comes_damaged_or_cut_off_leaves_no_file(path: Path) -> None:
    data, _ = make()
    for broken in _broken(data):
        with pytest.raises(ArchiveDamaged):
            receive(path, broken)
        assert names(path) == []


def test_a_file_that_is_there_is_never_replaced(path: Path) -> None:
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="never replaces"), ArchiveWriter(path):
        pass
    assert path.read_bytes() == b"mine"
    path.unlink()
    path.with_name("x.backup.partial").touch()
    with pytest.raises(FileExistsError, match="did not end"), ArchiveWriter(path):
        pass


def test_progress_ends_with_all_of_it(path: Path) -> None:
    data, _ = make()
    path.write_bytes(data)
    seen: list[tuple[int, int]] = []
    archive.verify(path, lambda done, total: seen.append((done, total)))
    assert seen == [(100, 237), (200, 237), (237, 237)]


def test_memory_is_bounded_by_a_chunk_whatever_the_size(path: Path) -> None:
    chunk = os.urandom(1 << 20)
    count = 64
    head = Head(MANIFEST, b"", (archive.digest(chunk),) * count, len(chunk), count * len(chunk))
    parser = ArchiveParser("x")
    for piece in (head.encode(), *[chunk[:700_000], chunk[700_000:]] * count):
        for _ in parser.feed(piece):
            pass
        assert len(parser._buffer) < 2 * len(chunk)
    parser.finish()
