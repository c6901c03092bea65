"""Certificates in files: the user's alone, and gone with the client, or where they could not be written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from lockmaster_operator.host.pem_files import PemFiles

PEMS = ("ca", "cert", "key")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_files_are_the_user_s_alone_until_they_are_removed(place: Path) -> None:
    files = PemFiles(PEMS)
    assert tuple(Path(str(path)).read_text() for path in (files.tls.ca, files.tls.cert, files.tls.key)) == PEMS
    (directory,) = place.iterdir()
    assert directory.stat().st_mode & 0o077 == 0
    files.remove()
    assert list(place.iterdir()) == []


def test_nothing_is_left_where_they_could_not_be_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        PemFiles(PEMS)
    assert list(place.iterdir()) == []
