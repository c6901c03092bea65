"""The entry point `lockmaster`. Loads the commands inside `main`, so that Ctrl-C while they load is no traceback."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line and exits with its code."""
    # What gRPC's core would print on standard error is said by our own one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from lockmaster.cli.application import invoke

        code = invoke(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    main()
