"""`python -m lockmaster.cli.tethered ARGUMENTS`: the command line in a process that does not outlive who started it.

Standard input is a pipe whose other end the starter keeps: when the starter ends, however it does, the pipe is closed
and this process kills itself, with nothing said and nothing flushed: as the starter ended. On Linux, and where the
starter's main thread made it, the kernel does the same (PDEATHSIG), also while this process is stopped by SIGSTOP; the
kernel takes the end of the *thread* that made it for the end of its parent, so other threads can't ask for that.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

FROM_MAIN_THREAD = "LOCKMASTER_TETHERED_TO"
"""Environment: the starter's process id, given where its main thread starts this process."""
PR_SET_PDEATHSIG = 1


def tether() -> None:
    """Ties this process to the one at the other end of standard input. Call it first."""
    parent = os.environ.pop(FROM_MAIN_THREAD, "")
    if parent and sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):
            _end()  # it ended before the kernel was asked
    threading.Thread(target=_watch, name="tether", daemon=True).start()


def _watch() -> None:
    while os.read(0, 4096):
        pass
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    tether()
    from lockmaster.cli.main import main

    main()
