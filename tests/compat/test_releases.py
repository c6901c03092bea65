"""Released builds, as their wheels, in one cluster with this one: rolling upgrade and back, under load."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from lockmaster import AsyncClient
from lockmaster.cli.local_cluster import LocalCluster, Member

from tests.integration.workload import Load, check

WHEELS = Path(__file__).parent / "wheels"
RELEASES = sorted(path.name for path in WHEELS.iterdir())


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """What a process needs in its environment to be of this release: both wheels unpacked before everything else."""
    unpacked = tmp_path / "release"
    wheels = sorted((WHEELS / request.param).glob("*.whl"))
    assert [wheel.name.partition("-")[0] for wheel in wheels] == ["lockmaster", "lockmaster_raft"]
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(unpacked)
    environment = {"PYTHONPATH": str(unpacked)}
    code = "import lockmaster as a, lockmaster_raft as b, importlib.metadata as m\n"
    code += "print(a.__file__, b.__file__, m.version('lockmaster'))"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    *files, version = said.stdout.split()
    assert [file.startswith(str(unpacked)) for file in files] == [True, True]
    assert version == request.param
    return environment


@pytest.fixture
def cluster(release: dict[str, str], tmp_path: Path) -> Iterator[LocalCluster]:
    """Three members of the release, whole."""
    with LocalCluster(tmp_path, arguments=("--profile", "fast")) as three:
        for member in three.members:
            member.environment.update(release)
        three.start()
        yield three


async def _restart(cluster: LocalCluster, member: Member, environment: dict[str, str]) -> None:
    await asyncio.to_thread(cluster.kill, member)
    member.environment.clear()
    member.environment.update(environment)
    await asyncio.to_thread(cluster.start_member, member)
    await asyncio.to_thread(cluster.wait_until_whole, 30.0)


async def test_a_rolling_upgrade_and_its_way_back_lose_nothing(cluster: LocalCluster, release: dict[str, str]) -> None:
    load = Load(cluster.endpoints)
    await load.start()
    for environment in ({}, release):
        for member in cluster.members:
            await load.progress(10, 30.0)
            await _restart(cluster, member, environment)
    await load.progress(10, 30.0)
    record = await load.stop()
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        await check(client, record)
    assert record.errors == []
    assert record.sessions_lost == 0
