"""Children that do a member's long work on its data directory; none outlives it.

A child that did would write by path into what the next process of the member makes at the same place.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Final

from lockmaster.storage.errors import EXIT_CORRUPT, CorruptLog, StorageFailed

PR_SET_PDEATHSIG: Final = 1
LOOK_SECONDS: Final = 0.1


def run_child(module: str, *arguments: str, data: bytes = b"") -> None:
    """Run `python -m module PID ARGUMENTS`, this process's id and `data` on its input, to its end. Blocks: in a thread.

    Raises CorruptLog if the child's exit code says so, StorageFailed for every other one but 0, with its last line.
    """
    command = [sys.executable, "-m", module, str(os.getpid()), *arguments]
    result = subprocess.run(command, check=False, input=data, capture_output=True)
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        what = f"{arguments[-1]}: the snapshot child ended with {result.returncode}: {lines[-1] if lines else ''}"
        raise CorruptLog(what) if result.returncode == EXIT_CORRUPT else StorageFailed(what)


def end_with_parent(parent: int) -> None:
    """In the child, first of all: be killed when the parent (a process id) ends, however it does.

    Linux kills it at once (PDEATHSIG; the thread that made it waits for it, so that is the parent's end); elsewhere a
    thread looks.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        _end()  # it ended before the kernel was asked


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
