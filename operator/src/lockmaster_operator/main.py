"""The entry point `lockmaster-operator`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from importlib import metadata

from lockmaster_operator.host.settings import SettingsError, described, load

EXIT_USAGE = 64


def parser() -> argparse.ArgumentParser:
    """Options: none but --help and --version; what can be set is in the environment."""
    found = argparse.ArgumentParser(
        prog="lockmaster-operator",
        description="Looks after LockClusters. Runs in a pod, or with the current kubeconfig.",
        epilog="environment:\n" + described(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--version", action="version", version=metadata.version("lockmaster-operator"))
    return found


def main() -> None:
    """Runs until asked to stop. Exit codes: 0 asked to, 1 the Lease was lost, 2 a watch ended, 64 a wrong setting."""
    parser().parse_args()
    try:
        settings = load()
    except SettingsError as error:
        print(f"lockmaster-operator: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr
    )
    if settings.log_level != "debug":
        logging.getLogger("kopf").setLevel(logging.WARNING)  # a line for every event
    from lockmaster_operator.host.app import serve

    sys.exit(asyncio.run(serve(settings, os._exit)))
