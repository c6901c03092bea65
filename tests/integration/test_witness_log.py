"""A witness's log above its byte budget (raft.md §4), and one witness in another's place: real processes, under load.

A full member that is killed holds the witness's log back (I6). What a megabyte of it more leads to is the policy's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from lockmaster import AsyncClient, Indeterminate, Overloaded, Unavailable
from lockmaster.api import admin_pb2
from lockmaster.cli.local_cluster import LocalCluster, Member

from .founding import done, run
from .workload import Load, ended_well

SHAPE = ("full", "full", "witness")
CALM = ("--profile", "fast", "--promote-after-s", "3600", "--restore-after-s", "1", "--role-cool-down-s", "0")
WAIT = 60.0
BLOCKED = 300.0
"""More than a test may keep writes waiting on a slow machine: waits of up to WAIT one after the other."""
BUDGET = 1 << 20
PIECE = 64 << 10


@asynccontextmanager
async def pressed(directory: Path, policy: str) -> AsyncIterator[tuple[LocalCluster, Member, Load]]:
    """A 2+1 cluster under load with a budget of 1 MiB for the witness's log; the full member that doesn't lead is down.

    At the end nothing acknowledged is lost, no call of the load failed and no session ended.
    """
    arguments = (*CALM, "--witness-log-mib", str(BUDGET >> 20), "--witness-log-policy", policy)
    with LocalCluster(directory, roles=SHAPE, arguments=arguments) as cluster:
        await asyncio.to_thread(cluster.start, timeout=WAIT)
        load = Load(cluster.endpoints, workers=2, put_seconds=BLOCKED, lock_seconds=BLOCKED)
        await load.start()
        leader = await asyncio.to_thread(cluster.wait_until_whole, WAIT)
        victim = next(member for member in cluster.full if member is not leader)
        await asyncio.to_thread(cluster.kill, victim)
        yield cluster, victim, load
        await load.progress(20, WAIT)
        record = await ended_well(load, cluster.endpoints)
        assert record.sessions_lost == 0


async def fill(cluster: LocalCluster, total: int) -> None:
    """So many bytes more in the log, in values of PIECE bytes. Raises what a put raises."""
    async with AsyncClient(cluster.endpoints, insecure=True, operation_timeout=5.0) as client:
        for number in range(total // PIECE):
            await client.config("fill").put("k", bytes([number % 256]) * PIECE)


async def status_when(
    cluster: LocalCluster, member: Member, wanted: Callable[[admin_pb2.StatusResponse], bool]
) -> admin_pb2.StatusResponse:
    """The member's status once it is as wanted. AssertionError shows the last one."""
    deadline = time.monotonic() + WAIT
    while True:
        status = await asyncio.to_thread(cluster.status, member)
        if status is not None and wanted(status):
            return status
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.05)


def above(status: admin_pb2.StatusResponse) -> bool:
    assert status.log_bytes_max == BUDGET
    return status.log_bytes > BUDGET


def cut(past: int) -> Callable[[admin_pb2.StatusResponse], bool]:
    """Whether the log begins beyond `past`. (Its bytes on the disk say little: segments of 32 MiB go whole.)"""
    return lambda status: status.log_first_index > past


def alarms_of(status: admin_pb2.StatusResponse, code: str) -> list[str]:
    return [alarm for alarm in status.alarms if alarm.startswith(f"{code}:")]


async def leader_status(cluster: LocalCluster) -> admin_pb2.StatusResponse:
    """What the leader says of itself, once there is one."""
    deadline = time.monotonic() + WAIT
    while True:
        leader = await asyncio.to_thread(cluster.leader)
        status = None if leader is None else await asyncio.to_thread(cluster.status, leader)
        if status is not None and status.role == "leader":
            return status
        assert time.monotonic() < deadline, "nobody leads"
        await asyncio.sleep(0.05)


async def blocked(attempt: Callable[[], Awaitable[object]]) -> None:
    """Attempts until it is refused for the witness's sake.

    A time-out of a slow machine is none, nor is what a new leader admits before it hears of the witness's log.
    """
    deadline = time.monotonic() + WAIT
    while True:
        try:
            await attempt()
        except Overloaded as refusal:
            if "witness" in str(refusal):
                return
        except (Indeterminate, Unavailable):
            pass
        assert time.monotonic() < deadline, "it is admitted"


async def quiet(load: Load) -> int:
    """How many writes were acknowledged once those that were on their way have been: none has been for 2 s."""
    deadline, count = time.monotonic() + WAIT, -1
    while count != len(load.record.acknowledged):
        assert time.monotonic() < deadline, "writes go on"
        count = len(load.record.acknowledged)
        await asyncio.sleep(2.0)
    return count


async def bring_back(cluster: LocalCluster, victim: Member) -> None:
    """The full member runs again and has all that was committed until now."""
    reached = await leader_status(cluster)
    await asyncio.to_thread(cluster.start_member, victim)
    await asyncio.to_thread(cluster.wait_until_caught_up, victim, reached.commit_index, WAIT)


async def test_alarm_the_log_grows_above_its_budget_and_what_the_full_member_lacks_stays(tmp_path: Path) -> None:
    async with pressed(tmp_path, "alarm") as (cluster, victim, load):
        witness = cluster.witnesses[0]
        survivor = next(member for member in cluster.full if member is not victim)
        await fill(cluster, 2 * BUDGET)
        seen = await status_when(cluster, witness, above)
        assert (seen.member_role, seen.phase) == ("witness", "steady")
        leading = await status_when(cluster, survivor, lambda status: bool(alarms_of(status, "witness_log")))
        (alarm,) = alarms_of(leading, "witness_log")
        listed = await asyncio.to_thread(cluster.members_seen_by, survivor)
        assert listed is not None
        number = next(member.member_id for member in listed.members if member.name == victim.name)
        _, told, rest = alarm.partition(f"full voter {number} is proved up to ")
        assert told
        proved = int(rest.split()[0])
        await load.progress(20, WAIT)  # by now it has cut what it may
        seen = await status_when(cluster, witness, above)
        await fill(cluster, BUDGET)
        await load.progress(20, WAIT)
        held_back = await asyncio.to_thread(cluster.status, witness)
        assert held_back is not None
        assert held_back.log_first_index == seen.log_first_index  # I6
        if proved:  # a leader elected since knows nothing yet of one that is down
            assert held_back.log_first_index <= proved + 1
        installed = victim.directory.with_suffix(".log").read_text().count("installed")
        await bring_back(cluster, victim)
        log = victim.directory.with_suffix(".log").read_text()
        assert log.count("installed") == installed  # no snapshot: the logs had all that it lacked
        await status_when(cluster, witness, cut(seen.log_first_index))


async def test_block_writes_wait_and_locks_live_on_until_the_full_member_is_back(tmp_path: Path) -> None:
    async with pressed(tmp_path, "block") as (cluster, victim, load):
        witness = cluster.witnesses[0]
        async with AsyncClient(cluster.endpoints, insecure=True, ttl=10.0, operation_timeout=2.0) as client:
            held = await client.lock("held-through-it-all", timeout=10).acquire()
            free = await client.lock("to-be-released", timeout=10).acquire()
            await blocked(lambda: fill(cluster, 64 * BUDGET))
            seen = await status_when(cluster, witness, above)
            await blocked(lambda: client.config("fill").put("k", b"1"))
            count, leading = await quiet(load), await leader_status(cluster)
            assert await client.config("fill").get("k") is not None  # reads go on
            await free.release()  # what keeps the cluster alive too
            await asyncio.sleep(12.0)  # longer than the session's life: it is kept by keepalives, which are reserved
            assert held.valid
            if (await leader_status(cluster)).term == leading.term:  # a new leader has yet to hear of the pressure
                assert len(load.record.acknowledged) == count, (leading, await leader_status(cluster))
            await bring_back(cluster, victim)
            await status_when(cluster, witness, cut(seen.log_first_index))
            await load.progress(20, WAIT)
            assert held.valid
            await held.release()


async def test_promote_the_witness_gets_a_state_and_the_shape_is_restored_for_good(tmp_path: Path) -> None:
    """Back in shape it is not promoted anew by what was in its log before it could cut that."""
    async with pressed(tmp_path, "promote") as (cluster, victim, load):
        witness = cluster.witnesses[0]
        survivor = next(member for member in cluster.full if member is not victim)
        await fill(cluster, 2 * BUDGET)
        promoted = {survivor.name: "full", witness.name: "full"}
        await asyncio.to_thread(cluster.wait_for_roles, promoted, WAIT)
        first = (await status_when(cluster, witness, lambda status: status.serves_state)).log_first_index
        log = survivor.directory.with_suffix(".log").read_text()
        assert "alarm witness_log" in log
        assert "is above its budget" in log
        await fill(cluster, BUDGET)
        await bring_back(cluster, victim)
        wanted = {member.name: member.role for member in cluster.members}
        listed = await asyncio.to_thread(cluster.wait_for_roles, wanted, WAIT)
        await status_when(cluster, witness, cut(first))
        await load.progress(50, WAIT)
        later = await asyncio.to_thread(cluster.wait_for_roles, wanted, WAIT)
        assert later.configuration_epoch == listed.configuration_epoch


@pytest.mark.parametrize("old_one", ["runs", "is lost"])
async def test_another_witness_takes_the_place_by_one_joint_change(tmp_path: Path, old_one: str) -> None:
    """Blank, under an id never used, while writes flow; then the new pair goes on without the other full member."""
    with LocalCluster(tmp_path, roles=SHAPE, arguments=CALM) as cluster:
        await asyncio.to_thread(cluster.start, timeout=WAIT)
        old, wanted = cluster.witnesses[0], {member.name: member.role for member in cluster.members}
        ids = {m.name: m.member_id for m in cluster.wait_for_roles(wanted, WAIT).members}
        load = Load(cluster.endpoints)
        await load.start()
        leader = await asyncio.to_thread(cluster.wait_until_whole, WAIT)
        if old_one == "is lost":
            await asyncio.to_thread(cluster.kill, old)
        new = cluster.add("witness", arguments=("--learner",))
        await asyncio.to_thread(cluster.start_member, new)
        swap = ("members", "replace", old.name, new.name, "--yes", "--wait", WAIT, "-e", leader.client_address)
        deadline = time.monotonic() + WAIT
        while (swapped := await asyncio.to_thread(run, *swap)).returncode and time.monotonic() < deadline:
            why = (
                swapped.stderr
            )  # until it has joined and caught up, and every full member is known to be where logs start
            waited = ("is not caught up", "no member is named", "the logs may start after")
            assert any(text in why for text in waited), why
        done(swapped)
        listed = await asyncio.to_thread(cluster.wait_for_roles, {new.name: "witness"}, WAIT)
        full_ids = {member.name: ids[member.name] for member in cluster.full}
        assert {member.name: member.member_id for member in listed.members} == {**full_ids, new.name: 4}
        if old_one == "runs":
            told = await status_when(cluster, old, lambda status: status.role == "removed")
            assert told.member_id == ids[old.name]
        victim = next(member for member in cluster.full if member is not leader)
        await asyncio.to_thread(cluster.kill, victim)
        await load.progress(50, WAIT)
        await asyncio.to_thread(cluster.start_member, victim)
        record = await ended_well(load, leader.client_address)
        assert record.sessions_lost == 0
