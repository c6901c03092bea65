"""A real member re-reads its disk: clean passes are lines in its log, damage at rest ends it with exit code 71."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from lockmaster import AsyncClient
from lockmaster.cli.local_cluster import LocalCluster
from lockmaster.server.exit_codes import ExitCode


def _damage_journal(directory: Path) -> Path:
    segment = min((directory / "journal").glob("*.seg"))
    with segment.open("r+b") as file:
        at = file.read().index(b"LMFR") + 40  # within the first frame's records
        byte = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 16]), at)
    return segment


def _damage_state(directory: Path) -> Path:
    table = min((directory / "state-1").glob("*.sst"))
    with table.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, 20)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 16]), 20)
    return table


@pytest.mark.parametrize("damage", [_damage_journal, _damage_state], ids=["journal", "state"])
async def test_damage_at_rest_is_found_by_the_scrub_and_stops_the_member(tmp_path: Path, damage: object) -> None:
    with LocalCluster(tmp_path, size=1, arguments=("--profile", "fast", "--full-min", "1")) as cluster:
        member = cluster.members[0]
        member.environment["LOCKMASTER_SCRUB_INTERVAL_S"] = "2"
        cluster.start()
        async with AsyncClient(cluster.endpoints, insecure=True) as client:
            for number in range(50):
                await client.config("n").put(f"k{number}", b"v" * 1000)
        log = member.directory.with_suffix(".log")
        async with asyncio.timeout(30):
            while log.read_text().count("all of it as it was written") < 2:
                await asyncio.sleep(0.1)
        assert callable(damage)
        damaged: Path = damage(member.directory)
        assert member.process is not None
        assert await asyncio.to_thread(member.process.wait, 30.0) == ExitCode.CORRUPT
        assert "Traceback" not in log.read_text()
        assert damaged.name in member.last_words()
