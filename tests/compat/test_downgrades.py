"""The way back to a release of level 1 (raft.md §6): before FENCE, after it by CANCEL, after ACTIVATE by DEACTIVATE.

Real processes of the released wheels beside this tree's, under load; every acknowledged write is checked at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator

import pytest
from lockmaster.cli.exit_codes import CONFLICT
from lockmaster.cli.local_cluster import LocalCluster, Member

from tests.integration.founding import done, refused, run
from tests.integration.workload import Load, ended_well

from .rolling import (
    THIS,
    WAIT,
    promised,
    refuses_its_directory,
    restart,
    start_as,
    wait_for_promises,
    wait_for_words,
)


@contextlib.asynccontextmanager
async def under_load(cluster: LocalCluster) -> AsyncIterator[Load]:
    """A load on the cluster's first members; at the end nothing acknowledged is lost, no call failed, no session."""
    load = Load(cluster.endpoints)
    await load.start()
    yield load
    await load.progress(20, WAIT)
    record = await ended_well(load, cluster.endpoints)
    assert record.sessions_lost == 0


async def roll(cluster: LocalCluster, load: Load, environment: dict[str, str]) -> None:
    """Every member that does not run this build already, one after the other."""
    for member in cluster.members:
        if member.environment != environment:
            await load.progress(5, WAIT)
            await restart(cluster, member, environment)


async def gate(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A `lockmaster gate` command."""
    return await asyncio.to_thread(run, "gate", *arguments, "-e", cluster.endpoints)


async def accepted(cluster: LocalCluster, *arguments: str) -> None:
    """The gate command, until what it waits for has been reported."""
    deadline = time.monotonic() + WAIT
    answer = await gate(cluster, *arguments)
    while answer.returncode == CONFLICT and time.monotonic() < deadline:
        answer = await gate(cluster, *arguments)
    done(answer)


def joiner(cluster: LocalCluster, environment: dict[str, str]) -> Member:
    """A blank member of that build that asks the cluster to add it."""
    member = cluster.add()
    start_as(cluster, member, environment)
    return member


async def test_before_the_fence_a_member_goes_back_at_any_time_and_the_fence_waits_for_it(
    cluster: LocalCluster, release: dict[str, str]
) -> None:
    first, second, third = cluster.members
    async with under_load(cluster) as load:
        for member in (first, second):
            await restart(cluster, member, THIS)
        why = "FENCE(2) needs level 2 of every member"
        refused(await gate(cluster, "fence", "2"), CONFLICT, why, f"({third.name}) knows up to 1")
        await restart(cluster, third, THIS)
        await restart(cluster, first, release)
        refused(await gate(cluster, "fence", "2"), CONFLICT, why, f"({first.name}) knows up to 1")
        assert [promised(member) for member in cluster.members] == [1, 1, 1]
        await roll(cluster, load, release)


async def test_after_the_fence_a_cancel_opens_the_way_back_and_the_cluster_to_joiners(
    cluster: LocalCluster, release: dict[str, str]
) -> None:
    first = cluster.members[0]
    async with under_load(cluster) as load:
        await roll(cluster, load, THIS)
        await accepted(cluster, "fence", "2")
        await asyncio.to_thread(wait_for_promises, cluster.members, 2)
        said = await asyncio.to_thread(refuses_its_directory, cluster, first, release)
        assert "needs a binary of level 2" in said
        assert "gate cancel" in said
        await restart(cluster, first, THIS)
        late = await asyncio.to_thread(joiner, cluster, release)
        why = f"{late.name} knows levels up to 1: a FENCE for level 2 stands at index"
        await asyncio.to_thread(wait_for_words, late, why)
        done(await gate(cluster, "cancel", "2"))
        await asyncio.to_thread(wait_for_promises, cluster.members[:3], 1)
        await asyncio.to_thread(cluster.wait_until_whole, WAIT)  # the joiner went on asking
        assert late.environment == release
        await roll(cluster, load, release)


@pytest.mark.parametrize("way", ["removed", "promoted"])
async def test_after_activate_the_way_back_is_open_once_no_witness_is_left(
    cluster: LocalCluster, release: dict[str, str], way: str
) -> None:
    """`promoted`: what was a witness goes back too, with the state that it built beside its log."""
    first = cluster.members[0]
    async with under_load(cluster) as load:
        await roll(cluster, load, THIS)
        await accepted(cluster, "fence", "2")
        await accepted(cluster, "activate", "2")
        late = await asyncio.to_thread(joiner, cluster, release)
        await asyncio.to_thread(wait_for_words, late, f"{late.name} knows levels up to 1: the log needs level 2")
        await asyncio.to_thread(cluster.kill, late)
        cluster.members.remove(late)
        witness = cluster.add("witness")
        await asyncio.to_thread(cluster.start_member, witness)
        listed = await asyncio.to_thread(cluster.wait_for_roles, {witness.name: "witness"}, WAIT)
        number = next(member.member_id for member in listed.members if member.name == witness.name)
        why = f"level 2 is in use: member {number} ({witness.name}) is a witness"
        refused(await gate(cluster, "deactivate", "2"), CONFLICT, why)

        change = ("remove", witness.name, "--yes") if way == "removed" else ("promote", witness.name, "--wait", WAIT)
        done(await asyncio.to_thread(run, "members", *change, "-e", cluster.endpoints))
        if way == "removed":
            await asyncio.to_thread(cluster.kill, witness)
            cluster.members.remove(witness)
        witness.role = "full"
        done(await gate(cluster, "deactivate", "2"))
        said = await asyncio.to_thread(refuses_its_directory, cluster, first, release)
        assert "needs a binary of level 2" in said
        await restart(cluster, first, THIS)
        for member in cluster.members:
            done(await asyncio.to_thread(run, "snapshot", "make", "-e", member.client_address))
        await asyncio.to_thread(wait_for_promises, cluster.members, 1)
        await roll(cluster, load, release)
        for member in cluster.members:
            status = await asyncio.to_thread(cluster.status, member)
            assert status is not None
            assert status.applied_index > 0
