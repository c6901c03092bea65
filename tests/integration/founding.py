"""The command line against data directories and running members, for the tests of backup, restore and recovery."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from lockmaster.cli.local_cluster import LocalCluster, Member

SECONDS = 120


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One `lockmaster` command."""
    command = [sys.executable, "-m", "lockmaster.cli.main", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False)


def place(member: Member) -> list[str]:
    """The options that make a data directory this member's."""
    addresses = ("--advertise-client", member.client_address, "--advertise-peer", member.peer_address)
    return ["--data-dir", str(member.directory), "--name", member.name, *addresses]


def done(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """It succeeded."""
    assert result.returncode == 0, result.stderr
    return result


def refused(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It ended with this code and one line that has these words."""
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0], lines[0]


def contents(path: Path) -> dict[str, bytes]:
    """Every file under a path, but RocksDB's own logs."""
    found = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("LOG"))
    return {str(p.relative_to(path)): p.read_bytes() for p in found}


def next_cluster(directory: Path, *, size: int = 3, more: Iterable[str] = ()) -> LocalCluster:
    """Members for a cluster that is yet to be founded, in a directory of their own."""
    directory.mkdir()
    return LocalCluster(directory, size=size, arguments=("--profile", "fast", *more))
