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

from lockmaster.storage.errors import EXIT_CORRUPT, EXIT_STORAGE_FAILED, ChildNotStarted, CorruptLog, StorageFailed

PR_SET_PDEATHSIG: Final = 1
LOOK_SECONDS: Final = 0.1


def start_child(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """`python -m module PID ARGUMENTS`, PID this process's id; its input, output and errors in pipes.

    Raises ChildNotStarted.

    What a terminal or a supervisor tells the whole group does not reach it: the member is told, too, and needs what its
    child makes until it ends; then the child ends with it.
    """
    command, pipe = [sys.executable, "-P", "-m", module, str(os.getpid()), *arguments], subprocess.PIPE
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)  # inherits the mask
    except OSError as error:
        raise ChildNotStarted(f"no process can be started for {module}: {error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_child(module: str, *arguments: str, data: bytes = b"") -> None:
    """`start_child` with `data` on its input, to its end. Blocks: call it in a thread.

    Raises ChildNotStarted; CorruptLog or StorageFailed as its exit code says, with its last line, StorageFailed if it
    was killed; RuntimeError with all that it said for a bug of its own.
    """
    with start_child(module, *arguments) as child:
        said = child.communicate(data)[1].decode(errors="replace").strip()
    if child.returncode == 0:
        return
    what = f"{arguments[-1]}: the snapshot child ended with {child.returncode}: "
    if child.returncode == EXIT_CORRUPT:
        raise CorruptLog(what + last_line(said))
    if child.returncode == EXIT_STORAGE_FAILED or child.returncode < 0:
        raise StorageFailed(what + last_line(said))
    raise RuntimeError(what + said)


def last_line(text: str) -> str:
    """Of what a child said."""
    return text.splitlines()[-1] if text else "it said nothing"


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
