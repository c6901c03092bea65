"""The entry point `kubectl-lockmaster`, which kubectl runs as `kubectl lockmaster`."""

from __future__ import annotations

import importlib.util
import os
import sys

MISSING = 2


def main() -> None:
    """Runs the command line and exits with its code (docs/exit-codes.md)."""
    if importlib.util.find_spec("kubernetes") is None:
        print("kubectl-lockmaster: needs Kubernetes' client: pip install 'lockmaster[kubernetes]'", file=sys.stderr)
        sys.exit(MISSING)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from lockmaster.kubectl.commands import invoke

    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
