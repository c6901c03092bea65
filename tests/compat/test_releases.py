"""Released builds, as their wheels, in one cluster with this one: rolling upgrade and back, under load."""

from __future__ import annotations

from lockmaster.cli.local_cluster import LocalCluster

from tests.integration.workload import Load, ended_well

from .rolling import THIS, restart


async def test_a_rolling_upgrade_and_its_way_back_lose_nothing(cluster: LocalCluster, release: dict[str, str]) -> None:
    load = Load(cluster.endpoints)
    await load.start()
    for environment in (THIS, release):
        for member in cluster.members:
            await load.progress(10, 30.0)
            await restart(cluster, member, environment)
    await load.progress(10, 30.0)
    record = await ended_well(load, cluster.endpoints)
    assert record.sessions_lost == 0
