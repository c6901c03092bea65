"""The command line against a real `lockmaster dev` process: what it prints, its exit codes, and `run`'s laws."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from lockmaster.cli.ports import free_ports

READY_SECONDS = 30.0
COMMAND = [sys.executable, "-m", "lockmaster.cli.main"]


def run(endpoint: str, arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LOCKMASTER_ENDPOINTS": endpoint, **environment}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """host:port of one development member."""
    endpoint = f"127.0.0.1:{free_ports(1)[0]}"
    process = subprocess.Popen([*COMMAND, "dev", "--listen", endpoint], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while run(endpoint, ["status", "--call-timeout", "1"]).returncode and time.monotonic() < deadline:
            pass
        yield endpoint
        process.send_signal(signal.SIGINT)
        assert process.wait(READY_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def start(endpoint: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "LOCKMASTER_ENDPOINTS": endpoint}
    return subprocess.Popen(
        [*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until_held(endpoint: str, name: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if json.loads(run(endpoint, ["lock", "inspect", name, "-o", "json"]).stdout)["holder"]:
            return
    raise AssertionError(f"{name} was not taken")


def test_config_keeps_versions_and_compares(server: str) -> None:
    first = json.loads(run(server, ["config", "put", "app", "k", "one", "-m", "first", "-o", "json"]).stdout)[
        "revision"
    ]
    second = run(server, ["config", "put", "app", "k", "two", "--if-revision", str(first), "-o", "json"])
    assert second.returncode == 0
    stale = run(server, ["config", "put", "app", "k", "three", "--if-revision", str(first)])
    assert (stale.returncode, stale.stdout, len(stale.stderr.splitlines())) == (4, "", 1)
    assert run(server, ["config", "get", "app", "k"]).stdout == "two"
    log = json.loads(run(server, ["config", "log", "app", "k", "-o", "json"]).stdout)
    assert [(row["value"], row["comment"]) for row in log] == [("two", ""), ("one", "first")]
    edited = run(server, ["config", "edit", "app", "k"], EDITOR="sed -i s/two/edited/")
    assert (edited.returncode, run(server, ["config", "get", "app", "k"]).stdout) == (0, "edited")
    assert run(server, ["config", "delete", "app", "k"]).returncode == 0
    assert run(server, ["config", "get", "app", "k"]).returncode == 3


def test_watch_prints_changes_from_a_revision(server: str) -> None:
    revision = json.loads(run(server, ["config", "put", "watched", "a", "1", "-o", "json"]).stdout)["revision"]
    run(server, ["config", "put", "watched", "b", "2"])
    seen = run(server, ["config", "watch", "watched", "--from", str(revision), "-n", "2", "-o", "json"])
    assert [json.loads(line)["key"] for line in seen.stdout.splitlines()] == ["a", "b"]


def test_run_passes_the_fencing_token_and_the_commands_code(server: str) -> None:
    script = "import os, sys; print(os.environ['LOCKMASTER_FENCING_TOKEN']); sys.exit(3)"
    answer = run(server, ["run", "--lock", "job", "--", sys.executable, "-c", script])
    assert answer.returncode == 3
    shown = json.loads(run(server, ["lock", "inspect", "job", "-o", "json"]).stdout)
    assert (shown["holder"], int(answer.stdout) > 0) == ("", True)


def test_run_does_not_start_the_command_without_the_lock(server: str, tmp_path: Path) -> None:
    holder = start(server, ["run", "--lock", "taken", "--", "sleep", "60"])
    try:
        until_held(server, "taken")
        marker = tmp_path / "started"
        refused = run(server, ["run", "--lock", "taken", "--timeout", "0", "--", "touch", str(marker)])
        assert (refused.returncode, marker.exists(), len(refused.stderr.splitlines())) == (124, False, 1)
    finally:
        holder.terminate()
        holder.communicate(timeout=READY_SECONDS)
    assert holder.returncode == 128 + signal.SIGTERM


def test_run_stops_the_command_when_the_lock_is_lost(server: str) -> None:
    process = start(server, ["run", "--lock", "lost", "--", "sleep", "60"])
    until_held(server, "lost")
    assert run(server, ["lock", "force-release", "lost", "--reason", "test", "--yes"]).returncode == 0
    _, errors = process.communicate(timeout=READY_SECONDS)
    assert process.returncode == 125
    assert "Traceback" not in errors


def test_ctrl_c_while_holding_gives_the_lock_back(server: str) -> None:
    process = start(server, ["lock", "acquire", "by-hand"])
    until_held(server, "by-hand")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=READY_SECONDS)
    assert (process.returncode, "Traceback" in errors) == (130, False)
    assert json.loads(run(server, ["lock", "inspect", "by-hand", "-o", "json"]).stdout)["holder"] == ""


def test_sigterm_while_holding_gives_the_lock_back(server: str) -> None:
    process = start(server, ["lock", "acquire", "by-pod"])
    until_held(server, "by-pod")
    process.terminate()
    _, errors = process.communicate(timeout=READY_SECONDS)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    assert json.loads(run(server, ["lock", "inspect", "by-pod", "-o", "json"]).stdout)["holder"] == ""


def test_a_wait_without_an_end_says_who_is_in_the_way(server: str) -> None:
    holder, waiter = start(server, ["lock", "acquire", "busy"]), None
    try:
        until_held(server, "busy")
        waiter = start(server, ["run", "--lock", "busy", "--", "true"])
        assert waiter.stderr is not None
        assert "waiting for lock 'busy', held by lock acquire" in waiter.stderr.readline()
        holder.send_signal(signal.SIGINT)
        holder.communicate(timeout=READY_SECONDS)
        assert waiter.communicate(timeout=READY_SECONDS) == ("", "")
        assert waiter.returncode == 0
    finally:
        for process in filter(None, (holder, waiter)):
            process.kill()
            process.wait()


def test_results_are_json_and_what_is_not_there_is_exit_code_3(server: str) -> None:
    log = run(server, ["config", "log", "nowhere", "k", "-o", "json"])
    assert (log.returncode, json.loads(log.stdout), len(log.stderr.splitlines())) == (3, [], 1)
    gone = run(server, ["config", "delete", "nowhere", "k", "-o", "json"])
    assert (gone.returncode, json.loads(gone.stdout)) == (3, {"deleted": False})
    forced = run(server, ["lock", "force-release", "nobody", "--reason", "test", "--yes", "-o", "json"])
    assert (forced.returncode, json.loads(forced.stdout)) == (0, {"released": False, "token": 0})


def test_refused_starts_write_nothing(server: str, tmp_path: Path) -> None:
    foreign, blank = tmp_path / "foreign", tmp_path / "blank"
    foreign.mkdir()
    (foreign / "notes.txt").touch()
    here = ["--listen-client", "127.0.0.1:0", "--listen-peer", "127.0.0.1:0"]
    member = ["serve", "--name", "a", "--bootstrap", "--insecure", *here, "--data-dir"]
    refused = run(server, [*member, str(foreign)])
    assert (refused.returncode, len(refused.stderr.splitlines())) == (66, 1)
    assert [path.name for path in foreign.iterdir()] == ["notes.txt"]
    refused = run(server, [*member, str(blank), "--metrics-listen", server])
    assert (refused.returncode, len(refused.stderr.splitlines())) == (72, 1)
    assert refused.stderr.startswith(f"lockmaster: metrics_listen: cannot listen on {server}")
    assert not blank.exists()


def test_port_in_use_is_one_line(server: str) -> None:
    second = run(server, ["dev", "--listen", server])
    assert (second.returncode, len(second.stderr.splitlines())) == (72, 1)
    assert second.stderr.startswith(f"lockmaster: listen_client: cannot listen on {server}")


def test_field_out_of_range_is_one_line_and_exit_code_2(server: str) -> None:
    answer = run(server, ["config", "put", "app", "", "x"])
    assert (answer.returncode, answer.stderr.startswith("lockmaster: key: "), len(answer.stderr.splitlines())) == (
        2,
        True,
        1,
    )


def test_members_and_status_are_json(server: str) -> None:
    members = json.loads(run(server, ["members", "-o", "json"]).stdout)
    assert [(row["leader"], row["client_address"]) for row in members] == [(True, server)]
    status = json.loads(run(server, ["status", "-o", "json"]).stdout)
    assert [(row["role"], row["leader"]) for row in status] == [("leader", server)]


def test_bench_prints_one_object(server: str) -> None:
    answer = json.loads(run(server, ["bench", "locks", "-c", "4", "-s", "0.2", "-o", "json"]).stdout)
    assert (answer["workload"], answer["operations"] > 0, answer["errors"]) == ("locks", True, 0)
