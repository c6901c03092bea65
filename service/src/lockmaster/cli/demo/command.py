"""The command `demo`: makes a directory, runs the story in it, ends every process whatever happens."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import click

from lockmaster.cli.demo.narrator import Narrator
from lockmaster.cli.demo.story import tell
from lockmaster.cli.exit_codes import FAILED, OK
from lockmaster.cli.local_cluster import ClusterFailed, LocalCluster
from lockmaster.cli.output import complain, stdout
from lockmaster.cli.serving import require_server_extra
from lockmaster.errors import LockmasterError

DEMO_SECONDS_MAX = 180.0
SHAPE = ("full", "full", "witness")
HASTE = ("--promote-after-s", "3", "--restore-after-s", "3", "--role-cool-down-s", "0")
"""The times of roles are a minute and more in earnest; nobody wants to watch that."""


@click.command()
@click.option("--keep", type=click.Path(path_type=Path), help="Keep data and logs in this directory.")
def demo(keep: Path | None) -> int:
    """Show and check the main job: two full servers and a witness, one killed while a lock is held and writes flow.

    The witness is promoted in its stead; it comes back, and the shape is restored. Starts three `lockmaster serve`
    processes in a directory of its own, ends them and removes it at the end. About a minute. Exit code 1 if any of its
    claims fails.
    """
    require_server_extra()
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        return run_in(keep)
    with tempfile.TemporaryDirectory(prefix="lockmaster-demo-") as directory:
        return run_in(Path(directory))


def run_in(directory: Path) -> int:
    """Runs the story in `directory`."""
    narrator = Narrator(stdout)
    try:
        with LocalCluster(directory, roles=SHAPE, arguments=HASTE) as cluster:
            asyncio.run(asyncio.wait_for(tell(cluster, narrator), DEMO_SECONDS_MAX))
    except (ClusterFailed, LockmasterError, OSError) as error:
        complain(f"the demo could not go on: {error or type(error).__name__}")
        return FAILED
    return OK if narrator.verdict() else FAILED
