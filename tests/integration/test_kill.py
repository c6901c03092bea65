"""kill -9 under load: no acknowledged write lost, nothing executed twice, one holder per token (reliability.md)."""

from __future__ import annotations

import asyncio

from lockmaster import AsyncClient
from lockmaster.cli.local_cluster import LocalCluster

from .workload import Load, ended_well


async def test_kill_9_of_each_member_in_turn_under_load(cluster: LocalCluster) -> None:
    load = Load(cluster.endpoints)
    await load.start()
    for member in cluster.members:
        await load.progress(10, 30.0)
        await asyncio.to_thread(cluster.kill, member)
        await load.progress(10, 30.0)
        await asyncio.to_thread(cluster.start_member, member)
        await asyncio.to_thread(cluster.wait_until_whole, 30.0)
    await load.progress(10, 30.0)
    record = await ended_well(load, cluster.endpoints)
    assert record.sessions_lost == 0
    assert len(record.holds) > 20
    assert len(record.reads) > 20


async def test_kill_9_of_all_members_at_once_under_load(cluster: LocalCluster) -> None:
    load = Load(cluster.endpoints)
    await load.start()
    await load.progress(50, 30.0)
    for member in cluster.members:
        cluster.kill(member)
    for member in cluster.members:
        await asyncio.to_thread(cluster.start_member, member)
    await asyncio.to_thread(cluster.wait_until_whole, 30.0)
    await load.progress(20, 60.0)
    await ended_well(load, cluster.endpoints)


async def test_a_lock_outlives_its_leader_under_the_same_token(cluster: LocalCluster) -> None:
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        held = await client.lock("survivor", timeout=10).acquire()
        leader = await asyncio.to_thread(cluster.leader)
        assert leader is not None
        await asyncio.to_thread(cluster.kill, leader)
        status = await client.locks.inspect("survivor")
        assert status.holder is not None
        assert status.holder.token == held.fencing_token
        assert held.valid
        await held.release()
        again = await client.lock("survivor", timeout=10).acquire()
        assert again.fencing_token > held.fencing_token
        await again.release()
