"""A witness as a real process (raft.md §4): what it holds, whom it serves, and that full + witness commit.

The promotion is far away here: what holds before it begins. test_promotion.py has the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lockmaster import AsyncClient
from lockmaster.api import config_pb2, config_pb2_grpc
from lockmaster.cli.exit_codes import CONFLICT
from lockmaster.cli.local_cluster import LocalCluster, Member

from .founding import done, place, refused, run
from .workload import Load, ended_well

SHAPE = ("full", "full", "witness")
WAIT = 60.0


@pytest.fixture
def shape(tmp_path: Path) -> Iterator[LocalCluster]:
    """Two full members and a witness, whole; nothing is promoted while a test runs."""
    with LocalCluster(tmp_path, roles=SHAPE, arguments=("--profile", "fast", "--promote-after-s", "3600")) as cluster:
        cluster.start(timeout=WAIT)
        yield cluster


def health_of(member: Member, service: str) -> int:
    with grpc.insecure_channel(member.client_address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        status: int = answer.status
        return status


async def test_a_witness_has_the_log_and_no_state_and_serves_no_client(shape: LocalCluster) -> None:
    witness = shape.witnesses[0]
    async with AsyncClient(witness.client_address, insecure=True) as client:  # it names the leader, which serves
        for number in range(50):
            await client.config("n").put(f"k{number}", b"x" * 100)
        assert await client.config("n").get("k49") is not None
    leader = shape.leader()
    assert leader is not None
    leading = shape.status(leader)
    assert leading is not None
    assert (leading.level_active, leading.level_max) == (2, 2)
    shape.wait_until_caught_up(witness, leading.commit_index, WAIT)
    seen = shape.status(witness)
    assert seen is not None
    assert (seen.role, seen.member_role, seen.phase, seen.serves_state) == ("witness", "witness", "steady", False)
    assert seen.last_index >= leading.commit_index
    assert (seen.applied_index, seen.revision, seen.sessions) == (0, 0, 0)
    assert (witness.directory / "STATE").read_text().startswith("none ")
    assert not [path for path in witness.directory.iterdir() if path.name.startswith(("state-", "side-"))]
    with grpc.insecure_channel(witness.client_address) as channel, pytest.raises(grpc.RpcError) as caught:
        config_pb2_grpc.ConfigStub(channel).Get(config_pb2.GetRequest(namespace="n", key="k1"), timeout=10)
    assert "is a witness: it serves no clients" in str(caught.value)
    serving = health_pb2.HealthCheckResponse.SERVING
    deadline = time.monotonic() + WAIT  # health follows the engine every quarter of a second
    while health_of(witness, "lockmaster.member") != serving and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert health_of(witness, "lockmaster.member") == serving
    assert health_of(witness, "lockmaster.v1.Locks") == health_pb2.HealthCheckResponse.NOT_SERVING
    assert health_of(leader, "lockmaster.v1.Locks") == serving


@pytest.mark.parametrize("which", ["leader", "follower"])
async def test_full_and_witness_go_on_when_the_other_full_member_is_killed(shape: LocalCluster, which: str) -> None:
    load = Load(shape.endpoints)
    await load.start()
    await load.progress(30, 30.0)
    leader = await asyncio.to_thread(shape.leader)
    assert leader is not None
    victim = leader if which == "leader" else next(m for m in shape.full if m is not leader)
    await asyncio.to_thread(shape.kill, victim)
    await load.progress(100, 30.0)
    witness = await asyncio.to_thread(shape.status, shape.witnesses[0])
    assert witness is not None
    assert (witness.member_role, witness.phase) == ("witness", "steady")  # it was these two that committed
    await asyncio.to_thread(shape.start_member, victim)
    await asyncio.to_thread(shape.wait_until_whole, WAIT)
    await load.progress(30, 30.0)
    record = await ended_well(load, shape.endpoints)
    assert record.sessions_lost == 0


async def test_i4_a_caretaker_hands_over_what_only_it_has(shape: LocalCluster) -> None:
    """Leader and witness acknowledge, the leader dies; the full member that comes back has not heard of it."""
    leader = shape.leader()
    assert leader is not None
    behind, witness = next(m for m in shape.full if m is not leader), shape.witnesses[0]
    shape.kill(behind)
    async with AsyncClient(shape.endpoints, insecure=True) as client:
        for number in range(50):
            await client.config("n").put(f"k{number}", b"%d" % number)
    shape.kill(leader)
    shape.start_member(behind)
    async with AsyncClient(behind.client_address, insecure=True, operation_timeout=WAIT) as client:
        for number in range(50):
            item = await client.config("n").get(f"k{number}")
            assert item is not None, f"acknowledged write lost: k{number}"
            assert item.value == b"%d" % number
        await client.config("n").put("after", b"1")
    assert "alarm caretaker" in witness.directory.with_suffix(".log").read_text()
    assert shape.leader() is behind


def test_i13_a_cluster_of_level_1_takes_no_witness_before_the_level_is_active(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, roles=SHAPE, arguments=("--profile", "fast")) as cluster:
        first, second, witness = cluster.members
        done(run("init", *place(first), "--level", "1"))
        for member in (first, second):
            cluster.start_member(member)
        leader = cluster.wait_until_whole(WAIT)
        cluster.start_member(witness)
        while cluster.status(witness) is None:  # ends: the test run has a timeout
            assert witness.running
        said = run("members", "add", witness.client_address, "-e", leader.client_address)
        refused(said, CONFLICT, "need level 2", "runs at level 1")
        listed = cluster.members_seen_by(leader)
        assert listed is not None
        assert listed.level_active == 1
        assert [m.name for m in listed.members] == [first.name, second.name]
        done(run("gate", "fence", "2", "-e", leader.client_address))
        while run("gate", "activate", "2", "-e", leader.client_address).returncode:  # ends: run has a timeout
            pass
        cluster.wait_for_roles({witness.name: "witness"}, WAIT)


def test_a_cluster_does_not_begin_with_a_witness(tmp_path: Path) -> None:
    said = run("serve", "--name", "w", "--data-dir", tmp_path / "w", "--insecure", "--role", "witness", "--bootstrap")
    refused(said, 2, "role", "full member")
    assert not (tmp_path / "w").exists()
