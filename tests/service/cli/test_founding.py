"""`backup`, `restore`, `recover`: what they say, where no cluster is needed for it."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
from lockmaster.cli.application import invoke
from lockmaster.cli.backups import archive_explained
from lockmaster.cli.exit_codes import CONFLICT, OK, STORAGE_FAILED, USAGE
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


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> tuple[str, str]:
    """What a command that ends with this code says on standard output and error."""
    assert invoke([str(argument) for argument in arguments]) == code
    answer = capsys.readouterr()
    return answer.out, answer.err


def test_the_next_line_names_all_that_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "new one"
    out, _ = said(capsys, OK, "init", "--data-dir", data, "--name", "b", "--advertise-peer", "b:7421")
    assert f"`lockmaster serve --data-dir '{data}' --name b --advertise-peer b:7421`" in out


def test_the_state_of_the_directory_counts_before_a_missing_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    _, err = said(capsys, USAGE, "init", "--data-dir", data)
    assert err.startswith("lockmaster: --name is missing")
    said(capsys, OK, "init", "--data-dir", data, "--name", "a")
    _, err = said(capsys, CONFLICT, "init", "--data-dir", data)
    assert "is not blank" in err


def test_a_file_is_no_data_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    _, err = said(capsys, STORAGE_FAILED, "init", "--data-dir", file, "--name", "a")
    assert err == f"lockmaster: --data-dir: {file} is a file, not a directory\n"
    assert file.read_bytes() == b"x"


def test_nobody_to_confirm_a_recovery_is_a_mistake_in_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, OK, "init", "--data-dir", tmp_path / "old", "--name", "a", "--cluster-id", "ab" * 16)
    command = ("recover", "--survivor", tmp_path / "old", "--data-dir", tmp_path / "new", "--name", "b")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    _, err = said(capsys, USAGE, *command)
    assert f"lockmaster: not confirmed: give --confirm CLUSTER_ID, the lost cluster's id is {'ab' * 16}" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    _, err = said(capsys, CONFLICT, *command)
    assert "not confirmed" in err
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("abababab\n"))
    out, _ = said(capsys, OK, *command)
    assert "--name b`" in out
