"""Backup under load -> a new cluster with all of it; a survivor -> a new cluster. Tokens only ever go up (S6)."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path

import grpc
from lockmaster import AsyncClient
from lockmaster.api import session_pb2, session_pb2_grpc
from lockmaster.cli.local_cluster import LocalCluster, Member

from .founding import done, next_cluster, place, run
from .workload import NAMESPACE, Load, Record, check

DELAY = 3.0
HELD = "held-through-it-all"
WAIT = 60.0


def sessions_of(member: Member) -> session_pb2.ListSessionsResponse:
    """Who lives, as one member knows it."""
    with grpc.insecure_channel(member.client_address) as channel:
        answer: session_pb2.ListSessionsResponse = session_pb2_grpc.SessionsStub(channel).List(
            session_pb2.ListSessionsRequest(), timeout=10
        )
        return answer


def assert_over(member: Member, session_id: int) -> None:
    """The old cluster's session is no session here."""
    with grpc.insecure_channel(member.client_address) as channel:
        request = session_pb2.KeepAliveRequest(session_ids=[session_id])
        answer = session_pb2_grpc.SessionsStub(channel).KeepAlive(request, timeout=10)
    assert list(answer.expired) == [session_id]


async def start_from(new: LocalCluster, facts: dict[str, int]) -> float:
    """Start the founded member, then the others; when its first entry can have been applied at the earliest."""
    started = time.monotonic()
    await asyncio.to_thread(new.start, timeout=WAIT)
    assert not sessions_of(new.members[0]).sessions
    assert facts["sessions_ended"] > 0
    return started


async def assert_delayed_then_granted(client: AsyncClient, started: float, old_tokens: list[int]) -> None:
    """The lock that was held is free after its lock-delay, and every token is above all old ones."""
    lock = client.lock(HELD, timeout=WAIT)
    early = await lock.try_acquire()
    if early is not None:
        assert time.monotonic() - started >= DELAY, "granted within its lock-delay"
        await early.release()
    async with lock as held:
        assert time.monotonic() - started >= DELAY
        assert held.fencing_token > max(old_tokens)
    assert time.monotonic() - started < DELAY + WAIT / 2


def tokens(record: Record) -> list[int]:
    """Every token and revision that the old cluster gave out."""
    return [hold.token for hold in record.holds] + [write.revision for write in record.acknowledged]


async def test_a_backup_under_load_becomes_a_new_cluster(cluster: LocalCluster, tmp_path: Path) -> None:
    archive = tmp_path / "state.backup"
    async with AsyncClient(cluster.endpoints, insecure=True, lock_delay=DELAY, ttl=60.0) as holder:
        held = await holder.lock(HELD, timeout=WAIT).acquire()
        await holder.config("big").put("value", bytes(900_000))
        load = Load(cluster.endpoints)
        await load.start()
        leader = await asyncio.to_thread(cluster.leader)
        follower = next(member for member in cluster.members if member is not leader)
        before = len(load.record.acknowledged)
        command = ("backup", archive, "-e", follower.client_address, "-o", "json")
        told = json.loads(done(await asyncio.to_thread(run, *command)).stdout)
        await load.progress(30, WAIT)  # what comes after the backup is not in it, but its tokens must never come again
        record = await load.stop()
        revision = told["revision"]
        assert revision >= max(write.revision for write in record.acknowledged[:before])
        keys = sorted({write.key for write in record.writes})
        then = {key: await holder.config(NAMESPACE).get(key, at_revision=revision) for key in keys}
        await asyncio.to_thread(cluster.stop)
    new = next_cluster(tmp_path / "new")
    with new:
        first = new.members[0]
        facts = json.loads(done(run("restore", archive, *place(first), "-o", "json")).stdout)
        assert facts["cluster_id"] != told["cluster_id"]
        assert facts["locks_released"] >= 1
        started = await start_from(new, facts)
        async with AsyncClient(new.endpoints, insecure=True) as client:
            await assert_delayed_then_granted(client, started, [*tokens(record), held.fencing_token])
            for key, item in then.items():
                found = await client.config(NAMESPACE).get(key)
                assert (item and (item.value, item.revision)) == (found and (found.value, found.revision)), key
            big = await client.config("big").get("value")
            assert big is not None
            assert len(big.value) == 900_000
            assert await client.config(NAMESPACE).put("new", b"x") > max(tokens(record))
        for member in new.members:
            status = await asyncio.to_thread(new.status, member, 10.0)
            assert status is not None
            assert status.cluster_id.hex() == facts["cluster_id"]
        assert_over(first, held.session_id)


async def test_a_survivor_becomes_a_new_cluster_after_two_of_three_directories_are_gone(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async with AsyncClient(cluster.endpoints, insecure=True, lock_delay=DELAY, ttl=60.0) as holder:
        held = await holder.lock(HELD, timeout=WAIT).acquire()
        load = Load(cluster.endpoints)
        await load.start()
        await load.progress(60, WAIT)
        record = await load.stop()
        leader = await asyncio.to_thread(cluster.leader)
        assert leader is not None
        survivor = next(member for member in cluster.members if member is not leader)
        last = await asyncio.to_thread(cluster.status, leader, 10.0)
        assert last is not None
        await asyncio.to_thread(cluster.wait_until_caught_up, survivor, last.commit_index, WAIT)
        for member in cluster.members:
            await asyncio.to_thread(cluster.kill, member)
    for member in cluster.members:
        if member is not survivor:
            shutil.rmtree(member.directory)
    new = next_cluster(tmp_path / "new")
    with new:
        first = new.members[0]
        command = ("recover", "--survivor", survivor.directory, *place(first))
        asked = run(*command, stdin="no\n")
        assert asked.returncode == 4, asked.stderr
        assert not first.directory.exists()
        cluster_id = last.cluster_id.hex()
        for word in (f"cluster {cluster_id}", "its log ends with entry", "What may be lost", survivor.name):
            assert word in asked.stdout, asked.stdout
        asked = run(*command, "-o", "json", stdin="no\n")
        assert (asked.returncode, asked.stdout) == (4, "")
        assert "What may be lost" in asked.stderr
        facts = json.loads(done(run(*command, "-o", "json", "--confirm", cluster_id[:8])).stdout)
        assert facts["old_index"] >= last.commit_index
        had, lost = facts["survivor"], facts["may_be_lost"]
        assert (had["cluster_id"], had["name"], had["voter"]) == (cluster_id, survivor.name, True)
        assert sorted([had["name"], *(other["name"] for other in had["others"])]) == [m.name for m in cluster.members]
        assert (lost["after_index"], lost["after_term"]) == (facts["old_index"], had["last_term"])
        assert had["last_index"] == facts["old_index"] >= had["applied_index"]
        assert "acknowledged after this entry" in lost["what"]
        started = await start_from(new, facts)
        async with AsyncClient(new.endpoints, insecure=True) as client:
            await assert_delayed_then_granted(client, started, [*tokens(record), held.fencing_token])
            await check(client, record)
