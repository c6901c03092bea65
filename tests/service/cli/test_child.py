"""`run`'s laws: the child ends with the lock, signals go on to it, its code is ours."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from lockmaster.cli.child import Ended, exit_code, start_failure, supervise

NEVER_SECONDS = 60.0


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return None


async def test_child_gets_the_environment_and_its_code_is_returned() -> None:
    code = "import os, sys; sys.exit(int(os.environ['LOCKMASTER_FENCING_TOKEN']))"
    ended = await supervise([sys.executable, "-c", code], {"LOCKMASTER_FENCING_TOKEN": "42"}, never(), 1.0)
    assert ended == Ended(42, False)


async def test_child_gets_sigterm_when_the_lock_is_lost() -> None:
    ended = await supervise(["sleep", str(NEVER_SECONDS)], {}, at_once(), NEVER_SECONDS)
    assert ended == Ended(128 + signal.SIGTERM, True)


async def test_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap '' TERM; : > {ready}; while :; do sleep 0.05; done"

    async def once_ready() -> None:
        while not ready.exists():
            await asyncio.sleep(0)

    ended = await supervise(["sh", "-c", script], {}, once_ready(), 0.1)
    assert ended == Ended(128 + signal.SIGKILL, True)


async def test_signal_to_us_goes_on_to_the_child(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'exit 7' USR1; : > {ready}; while :; do sleep 0.02; done"
    running = asyncio.create_task(supervise(["sh", "-c", script], {}, never(), 1.0))
    while not ready.exists():
        await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert await running == Ended(7, False)


async def test_cancellation_stops_the_child(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    running = asyncio.create_task(supervise(["sh", "-c", f"echo $$ > {marker}; sleep 60"], {}, never(), 1.0))
    while not marker.exists() or not marker.read_text().strip():
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


async def test_command_that_is_not_there_is_127_and_one_that_cannot_run_126(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        await supervise([str(tmp_path / "none")], {}, never(), 1.0)
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(PermissionError) as refused:
        await supervise([str(plain)], {}, never(), 1.0)
    assert (start_failure(missing.value), start_failure(refused.value)) == (127, 126)


def test_exit_code_of_a_signalled_child_is_a_shells() -> None:
    assert [exit_code(code) for code in (0, 3, -9, -15)] == [0, 3, 137, 143]
