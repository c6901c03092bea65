"""Processes as /proc shows them, and on other systems as far as signals do."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def is_there(pid: int) -> bool:
    """It has not ended; whoever inherits it may be slow to reap it."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


def snapshot_children(parent: int) -> list[tuple[str, int]]:
    """(`make` or `build`, process id) of a member's snapshot children. Linux."""
    found = []
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            for child in path.read_text().split():
                command = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
                if "lockmaster.storage.snapshot_child" in command:
                    found.append((command[-4], int(child)))
    return found
