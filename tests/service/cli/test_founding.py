"""`backup`, `restore`, `recover`: what they say, where no cluster is needed for it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from lockmaster.cli.backups import archive_explained
from lockmaster.cli.exit_codes import STORAGE_FAILED
from lockmaster.cli.refusals import Refused


def test_an_error_without_a_file_names_the_archive() -> None:
    """A write's and an fsync's error name none."""
    with (
        pytest.raises(Refused, match=r"^/backups/one: No space left on device$") as caught,
        archive_explained(Path("/backups/one")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.code == STORAGE_FAILED
    with pytest.raises(Refused, match=r"^other: No such file"), archive_explained(Path("/backups/one")):
        raise OSError(errno.ENOENT, "No such file", "other")
