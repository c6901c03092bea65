"""SIGSTOP past the session TTL: the leader's silence is not the clients' fault (service.md §1, Time)."""

from __future__ import annotations

import asyncio

from lockmaster import AsyncClient
from lockmaster.cli.local_cluster import LocalCluster

from .workload import Load, check

TTL = 5.0
PAUSE = 8.0


async def test_leader_paused_past_the_ttl_expires_no_session_that_kept_alive(cluster: LocalCluster) -> None:
    async with AsyncClient(cluster.endpoints, insecure=True, ttl=TTL) as client:
        held = await client.lock("kept", timeout=10).acquire()
        load = Load(cluster.endpoints, workers=3, ttl=TTL)
        await load.start()
        leader = await asyncio.to_thread(cluster.leader)
        assert leader is not None
        cluster.pause(leader)
        try:
            await load.progress(5, 30.0)
            await asyncio.sleep(PAUSE)
        finally:
            cluster.resume(leader)
        await load.progress(5, 30.0)
        record = await load.stop()
        await check(client, record)
        assert record.sessions_lost == 0
        status = await client.locks.inspect("kept")
        assert status.holder is not None
        assert status.holder.token == held.fencing_token
        await held.release()


async def test_leader_paused_with_another_member_down_expires_no_session(cluster: LocalCluster) -> None:
    async with AsyncClient(cluster.endpoints, insecure=True, ttl=TTL, operation_timeout=60.0) as client:
        held = await client.lock("kept", timeout=10).acquire()
        leader = await asyncio.to_thread(cluster.leader)
        assert leader is not None
        down = next(member for member in cluster.members if member is not leader)
        await asyncio.to_thread(cluster.kill, down)
        cluster.pause(leader)
        try:
            await asyncio.sleep(PAUSE)
        finally:
            cluster.resume(leader)
        status = await client.locks.inspect("kept")
        assert status.holder is not None
        assert status.holder.token == held.fencing_token
        # The lock passes on only once it is released: nobody else got it meanwhile.
        assert status.last_token == held.fencing_token
