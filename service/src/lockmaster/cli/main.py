"""The entry point `lockmaster`. Loads the commands inside `main`, so that Ctrl-C while they load is no traceback."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """Runs the command line and exits with its code."""
    # An exception would surface as whatever the import that it hits makes of it.
    signal.signal(signal.SIGINT, _quit)
    # What gRPC's core would print on standard error is said by our own one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from lockmaster.cli.application import invoke

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = invoke(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    signal.signal(signal.SIGINT, _quit)
    sys.exit(code)


def _quit(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
