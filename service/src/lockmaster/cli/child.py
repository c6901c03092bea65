"""One child process under a lock: signals go on to it, and it is stopped when the lock is lost.

Laws: the child starts only while the lock is held; once the lock is lost it gets SIGTERM, then SIGKILL after `grace`
seconds, and this returns only when it is gone. It runs in its own process group, so that its children go too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from lockmaster.cli import exit_codes

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

EARLY_SIGNALS_MAX = 16


@dataclass(frozen=True, slots=True)
class Ended:
    """How the child ended: its exit code (128 + n for signal n), and whether the lock was lost before."""

    code: int
    lock_lost: bool


class Relay:
    """Passes signals on to a process group; keeps those that come before there is one."""

    def __init__(self) -> None:
        self._group = 0
        self._early: list[signal.Signals] = []  # at most EARLY_SIGNALS_MAX

    def signal(self, number: signal.Signals) -> None:
        """One signal has come."""
        if self._group:
            send(self._group, number)
        elif len(self._early) < EARLY_SIGNALS_MAX:
            self._early.append(number)

    def begin(self, group: int) -> None:
        """The group is there."""
        self._group = group
        for number in self._early:
            send(group, number)


async def supervise(
    command: Sequence[str], extra_environment: Mapping[str, str], lost: Awaitable[object], grace: float
) -> Ended:
    """Runs `command` until it ends, or until `lost` does and the child has been stopped. Raises OSError if it can't
    be started; on cancellation the child is stopped first."""
    environment = {**os.environ, **extra_environment}
    loop = asyncio.get_running_loop()
    relay = Relay()
    for number in FORWARDED:  # before the start: no signal may end us and leave the child behind
        loop.add_signal_handler(number, relay.signal, number)
    try:
        child = await asyncio.create_subprocess_exec(*command, env=environment, process_group=0)
    except BaseException:
        forget_signals(loop)
        close(lost)
        raise
    foreground = take_terminal(child.pid)
    relay.begin(child.pid)
    ended = asyncio.ensure_future(child.wait())
    watcher = asyncio.ensure_future(lost)
    try:
        await asyncio.wait({ended, watcher}, return_when=asyncio.FIRST_COMPLETED)
        lock_lost = not ended.done()
        if lock_lost:
            await stop(child, ended, grace)
        return Ended(exit_code(ended.result()), lock_lost)
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await watcher
        if not ended.done():
            await stop(child, ended, grace)
        forget_signals(loop)
        if foreground:
            give_terminal_back()


def forget_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Signals mean to this process again what they did before."""
    for number in FORWARDED:
        loop.remove_signal_handler(number)


def close(lost: Awaitable[object]) -> None:
    """Ends a coroutine that will not be awaited."""
    if isinstance(lost, Coroutine):
        lost.close()


async def stop(child: asyncio.subprocess.Process, ended: asyncio.Future[int], grace: float) -> None:
    """SIGTERM to the child's group, SIGKILL after `grace` seconds; returns when it is gone."""
    send(child.pid, signal.SIGTERM)
    await asyncio.wait({ended}, timeout=grace)
    if not ended.done():
        send(child.pid, signal.SIGKILL)
        await asyncio.wait({ended})
    send(child.pid, signal.SIGKILL)  # what the child left behind in its group


def send(group: int, number: signal.Signals) -> None:
    """Sends a signal to the child's process group, if it still is."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def exit_code(returncode: int) -> int:
    """A child's code as a shell says it."""
    return 128 - returncode if returncode < 0 else returncode


def start_failure(error: OSError) -> int:
    """The exit code of a command that could not be started."""
    missing = isinstance(error, FileNotFoundError)
    return exit_codes.COMMAND_NOT_FOUND if missing else exit_codes.NOT_EXECUTABLE


def take_terminal(group: int) -> bool:
    """Makes the child's group the terminal's foreground one, so that it can read and gets Ctrl-C. True if it did."""
    if not sys.stdin.isatty():
        return False
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.tcsetpgrp(sys.stdin.fileno(), group)
        send(group, signal.SIGCONT)  # if it read before the terminal was its own
        return True
    return False


def give_terminal_back() -> None:
    """Makes our own group the foreground one again."""
    with contextlib.suppress(OSError):
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
