"""The process: one-line errors with their exit codes, restart, telemetry, SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from lockmaster.server.app import Server, StartFailed, dev_settings, in_data_dir
from lockmaster.server.exit_codes import ExitCode
from lockmaster.server.health import STALLED_S
from lockmaster.server.telemetry import JsonFormatter
from lockmaster.storage.errors import StorageFailed


async def failure(settings: object) -> StartFailed:
    with pytest.raises(StartFailed) as caught:
        await Server(settings).start()  # type: ignore[arg-type]  # Settings, of whatever kind
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_port_in_use_is_one_line(server: Server, tmp_path: Path) -> None:
    error = await failure(dev_settings(tmp_path / "other", listen_client=server.bound_address))
    assert error.code is ExitCode.ADDRESS_IN_USE
    assert server.bound_address in str(error)


async def test_a_peer_port_in_use_is_one_line(server: Server, tmp_path: Path) -> None:
    error = await failure(dev_settings(tmp_path / "other", listen_peer=server.engine.peer_address))
    assert error.code is ExitCode.ADDRESS_IN_USE
    assert "listen_peer" in str(error)


async def test_a_directory_in_use_is_one_line(server: Server) -> None:
    error = await failure(dev_settings(server.settings.data_dir))
    assert error.code is ExitCode.BUSY
    assert str(error) == f"data_dir: {server.settings.data_dir}: another process holds this data directory"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: another process holds it", "data_dir: a: another process holds it"),
        ("write a/journal/1 at offset 8: No", "data_dir: write a/journal/1 at offset 8: No"),
        ("list a: No", "data_dir: list a: No"),
        ("nothing is here", "data_dir a: nothing is here"),
    ],
)
def test_the_line_about_a_data_directory_names_it_once(text: str, line: str) -> None:
    assert in_data_dir(Path("a"), StorageFailed(text)) == line


async def test_a_directory_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    error = await failure(dev_settings(tmp_path / "file"))
    assert error.code in (ExitCode.WRONG_DIRECTORY, ExitCode.STORAGE_FAILED)
    assert str(tmp_path / "file") in str(error)


def probes(address: str) -> dict[str, int]:
    """What a kubelet hears."""
    found = {}
    for path in ("/livez", "/readyz"):
        try:
            found[path] = urllib.request.urlopen(f"http://{address}{path}", timeout=5).status
        except urllib.error.HTTPError as error:
            found[path] = error.code
            error.close()
    return found


async def test_a_blank_member_is_alive_and_not_ready_and_a_loop_that_stands_still_is_neither(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    blank = {"metrics_listen": address, "bootstrap": False}
    running = Server(dev_settings(tmp_path / "data").model_copy(update=blank))
    await running.start()
    try:
        assert await asyncio.to_thread(probes, address) == {"/livez": 200, "/readyz": 503}
        assert running.health.alive(running.health.updated + STALLED_S - 0.1)
        assert not running.health.alive(running.health.updated + STALLED_S)
    finally:
        await running.stop()


async def test_metrics_are_served_and_name_no_key(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    settings = dev_settings(tmp_path / "data").model_copy(update={"metrics_listen": address})
    running = Server(settings)
    await running.start()
    try:
        running.telemetry.refresh()
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{address}/metrics").read().decode())
        async with asyncio.timeout(10):
            while not running.health.whole():
                await asyncio.sleep(0.01)
        probed = await asyncio.to_thread(probes, address)
    finally:
        await running.stop()
    assert probed == {"/livez": 200, "/readyz": 200}
    assert "lockmaster_raft_term" in page
    assert 'lockmaster_role="' in page
    assert "lockmaster_sessions" in page


def test_json_log_lines_are_json() -> None:
    record = logging.LogRecord("a", logging.INFO, "f", 1, "says %s", ("hello\nworld",), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "says hello\nworld"


async def test_sigterm_ends_the_process_with_0(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from lockmaster.server.app import serve_dev;"
        "sys.exit(serve_dev(Path(sys.argv[1]), '127.0.0.1:0'))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "data"), stderr=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stderr is not None
    lines: list[str] = []
    async with asyncio.timeout(30):
        while not any("serves clients on" in line for line in lines):
            lines.append((await process.stderr.readline()).decode())
            assert lines[-1], lines
        process.send_signal(signal.SIGTERM)
        rest = (await process.stderr.read()).decode()
        code = await process.wait()
    assert code == ExitCode.OK, rest
    assert "Traceback" not in rest


def test_exit_codes_are_distinct() -> None:
    assert len({code.value for code in ExitCode}) == len(ExitCode.__members__)
