"""Wrong words of `kubectl lockmaster`: exit code 2, one line with option and limit, before a kubeconfig is read."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from lockmaster.kubectl.commands import invoke, plugin

NAME = "1 to 253 small letters, digits and -"
EPOCH = "0<=x<=9223372036854775807"

WRONG = [
    (["fly"], ["'fly'"]),
    (["--nonsense"], ["--nonsense"]),
    (["status", "--fly"], ["--fly"]),
    (["status", "a", "b"], ["(b)"]),
    (["status", "Locks"], ["'[CLUSTER]'", "'Locks'", NAME]),
    (["status", "-o", "yaml"], ["'-o'", "'table', 'json'"]),
    (["status", "-n", "a/b"], ["'-n'", "'a/b'", "1 to 63 small letters"]),
    (["status", "a..b"], ["CLUSTER", "'a..b'", NAME]),
    (["promote", "locks", "1", "--idempotency-key", "\udcff"], ["--idempotency-key", "no UTF-8"]),
    (["status", "--call-timeout", "0"], ["--call-timeout", "0.1<=x<=3600"]),
    (["status", "--call-timeout", "nan"], ["--call-timeout", "0.1<=x<=3600"]),
    (["status", "--call-timeout"], ["--call-timeout", "requires an argument"]),
    (["members"], ["CLUSTER"]),
    (["pause"], ["CLUSTER"]),
    (["pause", ""], ["CLUSTER", NAME]),
    (["resume", "x" * 254], ["CLUSTER", "254 characters", NAME]),
    (["restart", "-x"], ["-x"]),
    (["promote", "locks"], ["MEMBER"]),
    (["promote", "locks", "0"], ["MEMBER", "1 to 2^63-1"]),
    (["promote", "locks", "9" * 5000], ["MEMBER", "1 to 2^63-1"]),
    (["promote", "locks", "2", "--wait", "-1"], ["--wait", "0<=x<=86400"]),
    (["promote", "locks", "2", "--wait", "nan"], ["--wait", "0<=x<=86400"]),
    (["promote", "locks", "2", "--expected-epoch", "-1"], ["--expected-epoch", EPOCH]),
    (["promote", "locks", "2", "--expected-epoch", str(1 << 70)], ["--expected-epoch", EPOCH]),
    (["promote", "locks", "2", "--idempotency-key", "k" * 129], ["--idempotency-key", "at most 128"]),
    (["transfer", "locks", str(1 << 63)], ["MEMBER", "1 to 2^63-1"]),
    (["gate", "locks", "open"], ["open", "'fence', 'activate', 'cancel', 'deactivate'"]),
    (["gate", "locks", "fence"], ["gate fence", "LEVEL"]),
    (["gate", "locks", "status", "2"], ["gate status", "LEVEL"]),
    (["gate", "locks", "fence", "1"], ["LEVEL", "2<=x<=65535"]),
    (["gate", "locks", "fence", str(1 << 70)], ["LEVEL", "2<=x<=65535"]),
    (["gate", "locks", "fence", "two"], ["LEVEL", "'two'"]),
    (["gate", "locks", "fence", "2", "--expected-epoch", "-1"], ["--expected-epoch", EPOCH]),
    (["gate", "locks", "--expected-epoch", "5"], ["gate status", "--expected-epoch"]),
    (["backup", "locks"], ["--file", "--claim", "exactly one"]),
    (["backup", "locks", "--file", "a", "--claim", "b"], ["--file", "--claim", "exactly one"]),
    (["backup", "locks", "--claim", "B"], ["--claim", "'B'", NAME]),
    (["backup", "locks", "--claim", "b", "--name", "x" * 201], ["--name", "1 to 200"]),
    (["backup", "locks", "--file", "a", "--name", "b"], ["--name", "--claim"]),
    (["logs", "locks", "--tail", "-1"], ["--tail", "0<=x<=10000"]),
    (["logs", "locks", "--tail", "many"], ["--tail", "'many'"]),
    (["logs", "locks", "--since", "0"], ["--since", "1<=x<=604800"]),
    (["logs", "locks", "-o", "json"], ["-o"]),
    (["report"], ["CLUSTER"]),
    (["report", "locks", "--file"], ["--file", "requires an argument"]),
]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The one line that it said."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    code = invoke(arguments)
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert (code, said.out, len(lines)) == (2, "", 1), said
    assert "no kubeconfig" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(("arguments", "parts"), WRONG, ids=[" ".join(words)[:60] for words, _ in WRONG])
def test_wrong_words_are_one_line_with_option_and_limit(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refused(arguments, capsys, monkeypatch)
    assert [part for part in parts if part not in line] == [], line


def test_every_command_has_wrong_words_here() -> None:
    assert {words[0] for words, _ in WRONG} >= set(plugin.commands)


def test_every_number_has_both_ends() -> None:
    for name, command in plugin.commands.items():
        for parameter in command.params:
            kind = parameter.type
            if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
                assert isinstance(kind, click.IntRange | click.FloatRange), f"{name}: {parameter.name}"
                assert None not in (kind.min, kind.max), f"{name}: {parameter.name}"


FOLDERS = [
    ("nowhere/out", "there is no folder"),
    ("file/out", "is no folder"),
    ("folder", "is a directory"),
]


@pytest.mark.parametrize(("path", "why"), FOLDERS)
def test_a_file_that_can_not_be_is_told_by_backup_and_report_in_the_same_words_before_anything(
    path: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    given = str(tmp_path / path)
    lines = [refused([name, "locks", "--file", given], capsys, monkeypatch) for name in ("backup", "report")]
    for line in lines:
        assert "'--file'" in line
        assert str(Path(given).parent) in line
        assert why in line
    assert lines[0].replace("lockmaster backup", "lockmaster report") == lines[1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o500)
    line = refused(["report", "locks", "--file", str(tmp_path / "out")], capsys, monkeypatch)
    assert "you may not write" in line
