"""I14: full replicas at equal applied index have equal state hash; who differs is told, and who is wrong stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from lockmaster.server.exit_codes import ExitCode
from lockmaster.server.integrity import in_the_minority
from lockmaster.storage.state import HASH_GRID

from tests.service.server.test_engine_processes import Cluster, _three


@pytest.mark.parametrize(
    ("mine", "theirs", "full_count", "wrong"),
    [
        (1, [2, 2], 3, True),
        (1, [1, 2], 3, False),
        (1, [2], 3, False),  # the third was not heard of: one against one
        (1, [2], 2, False),
        (1, [2, 3], 3, False),  # all three differ: nobody can tell
        (1, [2, 2, 2], 5, True),
        (1, [2, 2], 5, False),
        (1, [2, 2, 1, 1], 5, False),
    ],
)
def test_i14_only_a_member_against_a_majority_is_the_wrong_one(
    mine: int, theirs: list[int], full_count: int, wrong: bool
) -> None:
    assert in_the_minority(mine, theirs, full_count) is wrong


async def test_i14_equal_replicas_find_equal_hashes_and_a_diverged_one_stops_itself(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        leader = await _three(cluster)
        await leader.ask(f"step {HASH_GRID + 50}")
        async with asyncio.timeout(30):
            while (await leader.ask("scrub"))["compared"] < 2:
                await asyncio.sleep(0.2)
        assert (await leader.ask("status"))["alarms"] == []
        wrong = next(member for member in cluster.members if member is not leader)
        await wrong.ask("diverge")
        await leader.ask(f"step {HASH_GRID}")
        assert wrong.process is not None
        async with asyncio.timeout(30):
            assert await wrong.process.wait() == ExitCode.CORRUPT
            while not (alarms := (await leader.ask("status"))["alarms"]):
                await asyncio.sleep(0.2)
        assert "state_diverged" in alarms[0]
        log = (tmp_path / f"{wrong.name}.log").read_text()
        assert log.count("exit code 71") == 1
        assert "Traceback" not in log
        await leader.ask("put k v")
        assert (await leader.ask("get k"))["value"] == "v", "the others go on"
    finally:
        for member in cluster.members:
            await member.kill()
