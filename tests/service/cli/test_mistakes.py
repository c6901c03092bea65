"""service.md §9: every mistake is one line on standard error and exit code 2; nothing is a traceback."""

from __future__ import annotations

import inspect
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from lockmaster import errors
from lockmaster.cli import exit_codes
from lockmaster.cli.application import cli, invoke

MISTAKES = [
    ["nonsense"],
    ["--nonsense"],
    ["status", "--endpoints", "nowhere:"],
    ["status", "--endpoints", "host:0"],
    ["status", "--endpoints", ","],
    ["status", "--ca", "/does/not/exist"],
    ["status", "--cert", "pyproject.toml"],
    ["status", "-o", "yaml"],
    ["run", "--lock", "x"],
    ["run", "--", "true"],
    ["run", "--lock", "x", "--ttl", "0", "--", "true"],
    ["run", "--lock", "x", "--timeout", "-1", "--", "true"],
    ["lock", "inspect"],
    ["gate", "fence"],
    ["gate", "fence", "1"],
    ["gate", "activate", "two"],
    ["gate", "cancel", "2", "--expected-epoch", "-1"],
    ["lock", "force-release", "x", "--reason", "y"],
    ["gate", "cancel", "2", "--expected-epoch", str(1 << 70)],
    ["snapshot", "make", "--index-min", str(1 << 70)],
    ["members", "abort", "1", "--expected-epoch", str(1 << 70)],
    ["members", "nonsense"],
    ["members", "-o", "yaml"],
    ["members", "promote"],
    ["members", "promote", "0"],
    ["members", "demote", "1", "--wait", "-1"],
    ["members", "remove", "1"],
    ["members", "replace", "1", "2"],
    ["members", "abort", "1", "--expected-epoch", "-1"],
    ["members", "reduced-commit"],
    ["members", "reduced-commit", "yes"],
    ["serve", "--data-dir", "unused", "--name", "a", "--insecure", "--role", "observer"],
    ["serve", "--data-dir", "unused", "--name", "a", "--insecure", "--role", "witness", "--bootstrap"],
    ["serve", "--data-dir", "unused", "--name", "a", "--insecure", "--promote-after-s", "0"],
    ["serve", "--data-dir", "unused", "--name", "a", "--insecure", "--roles", "nobody"],
    ["config", "get", "n", "k", "--consistency", "strong"],
    ["config", "get", "n", "k", "--consistency", "bounded"],
    ["config", "get", "n", "k", "--consistency", "bounded:0"],
    ["config", "get", "n", "k", "--consistency", "bounded:x"],
    ["config", "get", "n", "k", "--consistency", "linearizable:1"],
    ["lock", "inspect", "x", "--consistency", "eventual:-1"],
    ["lock", "list", "--consistency", "eventual:"],
    ["config", "put", "namespace", "key"],
    ["config", "put", "namespace", "key", "value", "--if-revision", "-1"],
    ["config", "put", "namespace", "key", "--file", "/does/not/exist"],
    ["config", "watch"],
    ["config", "edit", "namespace", "key"],
    ["bench", "nonsense"],
    ["bench", "--clients", "0"],
    ["bench", "--seconds", "x"],
    ["serve"],
    ["serve", "--data-dir", "unused", "--name", "a"],
    ["serve", "--data-dir", "unused", "--name", "a", "--insecure", "--metrics-listen", "nowhere"],
    ["serve", "--data-dir", "unused", "--name", "a", "--insecure", "--listen-client", "0.0.0.0:7420"],
    ["serve", "--data-dir", "unused", "--name", "a", "--insecure", "--listen-client", "nowhere"],
    ["serve", "--data-dir", "unused", "--name", "a", "--insecure", "--bootstrap", "--join", "127.0.0.1:1"],
    ["dev", "--listen", "0.0.0.0:7420"],
    ["members", "add", "nonsense"],
    ["members", "add", "127.0.0.1:65536"],
    ["members", "promote", "0"],
    ["members", "promote", str(1 << 63)],
    ["members", "transfer", "--expected-term", "0"],
    ["members", "transfer", "--idempotency-key", "k" * 129],
    ["members", "promote", "3", "--idempotency-key", "k" * 129],
    ["members", "promote", "3", "--expected-epoch", "-1"],
    ["members", "add", "127.0.0.1:1", "--wait", "86401"],
    ["gate", "fence", "1"],
    ["gate", "fence", "65536"],
    ["gate", "activate", "2", "--idempotency-key", "k" * 129],
    ["snapshot", "make", "--index-min", "-1"],
    ["snapshot", "make", "--idempotency-key", "k" * 129],
    ["snapshot", "make", "--timeout", "0"],
    ["backup"],
    ["restore"],
    ["recover"],
]


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for variable in ("EDITOR", "VISUAL"):
        monkeypatch.delenv(variable, raising=False)
    code = invoke(arguments)
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert (code, said.out) == (2, "")
    assert len(lines) == 1
    assert lines[0].startswith("lockmaster: ")


REACHING = [
    ["lock", "inspect", "x"],
    ["lock", "acquire", "x"],
    ["config", "get", "a", "b"],
    ["config", "watch", "a"],
    ["members"],
    ["members", "list"],
    ["members", "promote", "1"],
    ["members", "transfer"],
    ["status"],
    ["bench", "locks"],
]


@pytest.mark.parametrize("arguments", REACHING, ids=" ".join)
def test_unreachable_cluster_is_exit_code_69_and_names_the_next_step(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = invoke([*arguments, "-e", "127.0.0.1:1", "--call-timeout", "0.3"])
    said = capsys.readouterr()
    assert code == exit_codes.UNAVAILABLE
    assert "lockmaster status" in said.err or "logs say why" in said.err


def test_run_without_a_cluster_ends_before_it_waits(capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["run", "--lock", "x", "-e", "127.0.0.1:1", "--call-timeout", "0.3", "--", "true"])
    assert (code, len(capsys.readouterr().err.splitlines())) == (exit_codes.UNAVAILABLE, 1)


@pytest.mark.parametrize("arguments", [["members"], ["status"], ["lock", "list"], ["config", "put", "a", "b", "c"]])
def test_a_port_that_never_answers_is_exit_code_69(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = invoke([*arguments, "-e", f"127.0.0.1:{silent.getsockname()[1]}", "--call-timeout", "0.3"])
    assert code == exit_codes.UNAVAILABLE
    assert "Traceback" not in capsys.readouterr().err


def test_a_setting_is_named_by_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["serve", "--name", "a", "--insecure"])
    assert capsys.readouterr().err.startswith("lockmaster: --data-dir is missing")
    invoke(["serve", "--name", "a", "--data-dir", "unused", "--insecure", "--full-min", "99"])
    assert capsys.readouterr().err.startswith("lockmaster: --full-min: Input should be")


def test_plaintext_and_its_certificate_are_named_as_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["serve", "--name", "a", "--data-dir", "unused"])
    said = capsys.readouterr().err
    for word in ("--client-tls-cert or LOCKMASTER_CLIENT_TLS_CERT", "--insecure or LOCKMASTER_INSECURE"):
        assert word in said


def test_a_file_is_no_data_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    code = invoke(["serve", "--name", "a", "--data-dir", str(file), "--insecure"])
    assert code == exit_codes.USAGE
    assert capsys.readouterr().err.startswith(f"lockmaster: --data-dir: {file} is a file, not a directory")


def test_a_member_does_not_replace_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["members", "replace", "2", "2", "--yes", "-e", "127.0.0.1:1"])
    assert (code, "OLD and NEW are the same member, 2" in capsys.readouterr().err) == (exit_codes.USAGE, True)


INTERRUPTED_WHILE_LOADING = """
import os, signal, sys
from lockmaster.cli.main import main

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            os.kill(os.getpid(), signal.SIGINT)

assert "grpc" not in sys.modules
sys.meta_path.insert(0, Interrupt())
main()
"""


def test_ctrl_c_while_the_commands_load_says_nothing() -> None:
    command = [sys.executable, "-c", INTERRUPTED_WHILE_LOADING, "status"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (exit_codes.INTERRUPTED, "", "")


@pytest.mark.parametrize("arguments", [["--help"], ["status", "-e", "127.0.0.1:1", "-o", "json"]])
def test_a_closed_pipe_ends_quietly(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lockmaster.cli.main", *arguments]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (exit_codes.OK, "")


def test_every_command_has_help() -> None:
    bare = [name for name, command in walk(cli) if not getattr(command, "help", "")]
    assert bare == []


def walk(group: object, prefix: str = "") -> list[tuple[str, object]]:
    found = []
    for name, command in getattr(group, "commands", {}).items():
        found.append((f"{prefix}{name}", command))
        if hasattr(command, "commands"):
            found += walk(command, f"{prefix}{name} ")
    return found


def test_every_command_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
    assert [name for name, _ in walk(cli) if f"`{name.split()[0]}" not in text] == []


def test_every_error_has_an_exit_code_that_the_docs_name() -> None:
    text = (Path(__file__).parents[3] / "docs" / "exit-codes.md").read_text()
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    missing = [code for code in codes if str(code) not in text]
    assert missing == []


def test_definite_errors_differ_from_unknown_outcome() -> None:
    assert exit_codes.exit_code_of(errors.Indeterminate("x")) == exit_codes.UNKNOWN_OUTCOME
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind is not errors.Indeterminate]
    assert errors.LockmasterError in kinds
    assert exit_codes.exit_code_of(errors.LockBusy("x")) == exit_codes.LOCK_TIMEOUT
    assert exit_codes.exit_code_of(errors.CompareFailed(7)) == exit_codes.CONFLICT
    assert exit_codes.exit_code_of(errors.InvalidRequest("name", "empty")) == exit_codes.USAGE
