"""A member whose disk is full stops or stops admitting; nothing acknowledged is lost and the others go on."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lockmaster import AsyncClient
from lockmaster.cli.local_cluster import LocalCluster

from .workload import Load, check

SIZE = "384m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a stated size, where this process may mount one."""
    place = tmp_path / "node-3"  # the member's data directory is the mount point, as with a volume
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root; test_disk_faults.py has ENOSPC by its shim")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a tmpfs; test_disk_faults.py has ENOSPC by its shim")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_follower_with_a_full_disk_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    with LocalCluster(tmp_path, arguments=("--profile", "fast")) as cluster:
        victim = cluster.members[2]
        assert victim.directory == small_disk
        cluster.start()
        load = Load(cluster.endpoints)
        await load.start()
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            while True:
                try:
                    file.write(b"x" * 65536)
                    file.flush()
                except OSError:
                    break
        async with AsyncClient(cluster.endpoints, insecure=True) as client:
            for number in range(40):
                await client.config("bulk").put(f"k{number % 4}", os.urandom(1 << 20))
            await load.progress(10, 60.0)
            record = await load.stop()
            await check(client, record)
        filler.unlink()
        if not victim.running:
            assert victim.process is not None
            assert victim.process.returncode not in (0, 1), "a full disk has an exit code of its own"
            await asyncio.to_thread(cluster.start_member, victim)
        await asyncio.to_thread(cluster.wait_until_whole, 60.0)
