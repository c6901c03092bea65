"""A witness is promoted while a lock is held and writes flow; the shape is restored; every arrow survives kill -9.

Source: raft.md §4, docs/consensus.md. The arrows are cut from within, at the system call, by the shim of
disk_faults.c; where no C compiler is found these are skipped by name.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lockmaster import AsyncClient
from lockmaster.cli.exit_codes import CONFLICT
from lockmaster.cli.local_cluster import LocalCluster, Member
from lockmaster.storage.errors import EXIT_STORAGE_FAILED

from .disk_faults import COMPILERS, DiskFaults, Fault, build_shim
from .founding import done, refused, run
from .processes import is_there, snapshot_children
from .workload import Load, check

SHAPE = ("full", "full", "witness")
QUICK = ("--profile", "fast", "--promote-after-s", "1", "--restore-after-s", "1", "--role-cool-down-s", "0")
WAIT = 60.0
CHILD_ENDS_SECONDS = 2.0
"""For the kernel to end it; by itself it would go on for 3 s and more."""


def in_shape(cluster: LocalCluster) -> dict[str, str]:
    """The roles that the cluster was made for."""
    return {member.name: member.role for member in cluster.members}


def follower_of(cluster: LocalCluster) -> Member:
    """A full member that does not lead, once somebody does."""
    leader = cluster.wait_until_whole(WAIT)
    return next(member for member in cluster.full if member is not leader)


def assert_no_state(witness: Member) -> None:
    """Nothing of a promotion is left."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:  # the drop follows D2's commit, in a thread
        left = [p.name for p in witness.directory.iterdir() if p.name.startswith(("state-", "side-"))]
        left += [p.name for p in (witness.directory / "snapshots").glob("*")]
        if not left and (witness.directory / "STATE").read_text().startswith("none "):
            return
        time.sleep(0.05)
    raise AssertionError(f"{left} are left")


@pytest.mark.parametrize("which", ["leader", "follower"])
async def test_promotion_and_restoration_under_load_with_a_lock_held(tmp_path: Path, which: str) -> None:
    with LocalCluster(tmp_path, roles=SHAPE, arguments=QUICK) as cluster:
        await asyncio.to_thread(cluster.start, timeout=WAIT)
        witness, wanted = cluster.witnesses[0], in_shape(cluster)
        await asyncio.to_thread(cluster.wait_for_roles, wanted, WAIT)
        follower = await asyncio.to_thread(follower_of, cluster)
        victim = follower if which == "follower" else next(m for m in cluster.full if m is not follower)
        survivor = next(m for m in cluster.full if m is not victim)
        async with AsyncClient(cluster.endpoints, insecure=True) as client:
            held = await client.lock("held-through-it-all", timeout=10).acquire()
            load = Load(cluster.endpoints)
            await load.start()
            await load.progress(30, WAIT)
            await asyncio.to_thread(cluster.kill, victim)
            await asyncio.to_thread(cluster.wait_for_roles, {survivor.name: "full", witness.name: "full"}, WAIT)
            await load.progress(50, WAIT)
            promoted = await asyncio.to_thread(cluster.status, witness)
            assert promoted is not None
            assert promoted.serves_state
            assert promoted.applied_index > 0
            await asyncio.to_thread(cluster.start_member, victim)
            await asyncio.to_thread(cluster.wait_for_roles, wanted, WAIT)
            await load.progress(50, WAIT)
            over = await asyncio.to_thread(cluster.status, survivor)
            assert over is not None
            assert not [alarm for alarm in over.alarms if alarm.startswith("role_change")]
            record = await load.stop()
            await check(client, record)
            assert record.errors == []
            assert record.sessions_lost == 0
            status = await client.locks.inspect("held-through-it-all")
            assert status.holder is not None
            assert (status.holder.token, held.valid) == (held.fencing_token, True)
            await held.release()
        assert_no_state(witness)


async def test_the_promoted_one_leads_when_the_last_old_full_member_dies(tmp_path: Path) -> None:
    """What it built of a snapshot and its own log is the whole state."""
    arguments = (*QUICK[:4], "--restore-after-s", "3600")
    with LocalCluster(tmp_path, roles=SHAPE, arguments=arguments) as cluster:
        await asyncio.to_thread(cluster.start, timeout=WAIT)
        first, second, witness = cluster.members
        load = Load(cluster.endpoints)
        await load.start()
        await load.progress(50, WAIT)
        await asyncio.to_thread(cluster.kill, second)
        await asyncio.to_thread(cluster.wait_for_roles, {first.name: "full", witness.name: "full"}, WAIT)
        await load.progress(50, WAIT)
        await asyncio.to_thread(cluster.start_member, second)
        await asyncio.to_thread(cluster.wait_until_whole, WAIT)
        await asyncio.to_thread(cluster.kill, first)
        await asyncio.to_thread(_led_by, cluster, witness)
        await load.progress(50, WAIT)
        record = await load.stop()
        async with AsyncClient(witness.client_address, insecure=True) as client:
            await check(client, record)
        assert await asyncio.to_thread(cluster.leader) is witness
        assert record.errors == []


def _led_by(cluster: LocalCluster, member: Member) -> None:
    deadline = time.monotonic() + WAIT
    while (leader := cluster.leader()) is not member and time.monotonic() < deadline:
        if leader is not None:
            run("members", "transfer", member.name, "-e", leader.client_address)


# ---- every arrow -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrow:
    """Where the witness is killed: before (or after) this call on a path with this fragment, `skip` calls later."""

    name: str
    call: Fault
    fragment: str
    skip: int = 0


P, D = "promotion", "restoration"
ARROWS = [
    (P, Arrow("P2, the first chunk on its way to the disk", Fault.SYNC, "/incoming-")),
    (P, Arrow("P2, a chunk has its name", Fault.RENAMED, "/incoming-")),
    (P, Arrow("P2, the side state is being built", Fault.SYNC, "/side-")),
    (P, Arrow("P3, built, being opened", Fault.RENAMED, "/CURRENT", 1)),
    (P, Arrow("P3, built and open, no sm_ready", Fault.SYNC, "/sm_ready")),
    (P, Arrow("P3, sm_ready has its name", Fault.RENAMED, "/sm_ready")),
    (P, Arrow("P4, before STATE names the side state", Fault.RENAME, "/STATE")),
    (P, Arrow("P4, after it", Fault.RENAMED, "/STATE")),
    (D, Arrow("D2, before sm_ready goes", Fault.UNLINK, "/sm_ready")),
    (D, Arrow("D2, before STATE says none", Fault.RENAME, "/STATE")),
    (D, Arrow("D2, after it", Fault.RENAMED, "/STATE")),
    (D, Arrow("D2, the state half removed", Fault.UNLINK, "/side-", 3)),
]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCluster, DiskFaults]]:
    """A 2+1 cluster whose witness can be killed at a system call; each test leaves it whole and in shape."""
    place = tmp_path_factory.mktemp("cut")
    shim = build_shim(place)
    if shim is None:
        pytest.skip(f"kill -9 at every arrow of a promotion: no C compiler ({', '.join(COMPILERS)}) to build the shim")
    with LocalCluster(place, roles=SHAPE, arguments=QUICK) as cluster:
        faults = DiskFaults.make(shim, place / "faults")
        cluster.witnesses[0].environment.update(faults.environment)
        cluster.start(timeout=WAIT)
        cluster.wait_for_roles(in_shape(cluster), WAIT)
        yield cluster, faults


def _killed_there(faults: DiskFaults, witness: Member) -> None:
    assert witness.process is not None
    assert witness.process.wait(WAIT) == -signal.SIGKILL
    assert faults.hits == 1
    faults.disarm()


@pytest.mark.parametrize(("phase", "arrow"), ARROWS, ids=[arrow.name for _, arrow in ARROWS])
async def test_kill_9_at_every_arrow(cut: tuple[LocalCluster, DiskFaults], phase: str, arrow: Arrow) -> None:
    cluster, faults = cut
    witness = cluster.witnesses[0]

    def act() -> None:
        victim = follower_of(cluster)
        survivor = next(member for member in cluster.full if member is not victim)
        cluster.kill(victim)
        if phase == P:
            faults.arm(arrow.call | Fault.KILL, arrow.fragment, countdown=arrow.skip)
            _killed_there(faults, witness)
            cluster.start_member(witness)
        cluster.wait_for_roles({survivor.name: "full", witness.name: "full"}, WAIT)
        if phase == D:
            faults.arm(arrow.call | Fault.KILL, arrow.fragment, countdown=arrow.skip)
        cluster.start_member(victim)
        if phase == D:
            _killed_there(faults, witness)
            cluster.start_member(witness)
        cluster.wait_for_roles(in_shape(cluster), WAIT)
        assert_no_state(witness)

    load = Load(cluster.endpoints, workers=2, keys=2, ttl=60.0, tag=f"{arrow.name}/")
    await load.start()
    try:
        await asyncio.to_thread(act)
        await load.progress(10, WAIT)
    finally:
        faults.disarm()
    record = await load.stop()
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        await check(client, record)
    assert record.sessions_lost == 0


def building_child(witness: Member) -> int:
    """The process that makes its side state, once there is one."""
    assert witness.process is not None
    while not (building := [child for kind, child in snapshot_children(witness.process.pid) if kind == "build"]):
        pass  # ends: the test run has a timeout
    return building[0]


def promoted_and_restored(cluster: LocalCluster, witness: Member, victim: Member) -> None:
    """The witness takes the place of `victim`, which is down, and gives it back once that is there again."""
    survivor = next(member for member in cluster.full if member is not victim)
    cluster.wait_for_roles({survivor.name: "full", witness.name: "full"}, WAIT)
    cluster.start_member(victim)
    cluster.wait_for_roles(in_shape(cluster), WAIT)
    assert_no_state(witness)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the child in /proc")
@pytest.mark.parametrize("killed", ["member", "child"])
def test_the_child_that_makes_the_side_state_and_its_member_end_together(
    cut: tuple[LocalCluster, DiskFaults], killed: str
) -> None:
    cluster, faults = cut
    witness = cluster.witnesses[0]
    victim = follower_of(cluster)
    faults.arm(Fault.SLOW, "/side-", delay_us=300_000)
    try:
        cluster.kill(victim)
        child = building_child(witness)
        assert witness.process is not None
        os.kill(child if killed == "child" else witness.process.pid, signal.SIGKILL)
        assert witness.process.wait(WAIT) == (EXIT_STORAGE_FAILED if killed == "child" else -signal.SIGKILL)
        gone = time.monotonic() + CHILD_ENDS_SECONDS
        while is_there(child):
            assert time.monotonic() < gone, "the child goes on without its member"
    finally:
        faults.disarm()
    assert killed == "member" or "ended with -9" in witness.last_words()
    cluster.start_member(witness)
    promoted_and_restored(cluster, witness, victim)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the child in /proc")
def test_who_is_asked_to_stop_with_all_its_group_while_its_child_works_stops_as_ever(
    cut: tuple[LocalCluster, DiskFaults],
) -> None:
    cluster, faults = cut
    witness = cluster.witnesses[0]
    victim = follower_of(cluster)
    faults.arm(Fault.SLOW, "/side-", delay_us=300_000)
    try:
        cluster.kill(victim)
        building_child(witness)
        assert witness.process is not None
        os.killpg(witness.process.pid, signal.SIGTERM)
        assert witness.process.wait(WAIT) == 0, witness.last_words()
    finally:
        faults.disarm()
    cluster.start_member(witness)
    promoted_and_restored(cluster, witness, victim)


async def test_the_leader_is_killed_while_the_promotion_runs(cut: tuple[LocalCluster, DiskFaults]) -> None:
    """The promotion's source and the only other voter: with it back, the promotion ends one way or the other."""
    cluster, faults = cut
    witness = cluster.witnesses[0]

    def act() -> None:
        victim = follower_of(cluster)
        leader = next(member for member in cluster.full if member is not victim)
        faults.arm(Fault.SLOW, "/side-", delay_us=300_000)
        cluster.kill(victim)
        while getattr(cluster.status(witness), "promotion", "") != "opening":  # ends: the test run has a timeout
            pass
        cluster.kill(leader)
        cluster.start_member(leader)
        cluster.wait_for_roles({leader.name: "full", witness.name: "full"}, WAIT)
        faults.disarm()
        cluster.start_member(victim)
        cluster.wait_for_roles(in_shape(cluster), WAIT)
        assert_no_state(witness)

    try:
        await asyncio.to_thread(act)
    finally:
        faults.disarm()
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        await client.config("n").put("after", b"1")


# ---- who decides -----------------------------------------------------------------------------------------------------


def test_operated_the_operator_asks_and_the_leader_is_only_the_backstop(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, roles=SHAPE, arguments=(*QUICK, "--roles", "operated")) as cluster:
        cluster.start(timeout=WAIT)
        shape, witness = in_shape(cluster), cluster.witnesses[0]
        victim = follower_of(cluster)
        survivor = next(member for member in cluster.full if member is not victim)
        promoted = {survivor.name: "full", witness.name: "full"}
        reach = ("-e", survivor.client_address)

        killed_at = time.monotonic()
        cluster.kill(victim)
        cluster.wait_for_roles(promoted, WAIT)
        assert time.monotonic() - killed_at >= 3.0  # 3 x promote_after: nobody asked
        cluster.start_member(victim)
        cluster.wait_until_whole(WAIT)
        time.sleep(3.0)  # three times restore_after: the leader does not restore what an operator decides about
        cluster.wait_for_roles(promoted, WAIT)
        done(run("members", "demote", witness.name, "--wait", WAIT, *reach))
        cluster.wait_for_roles(shape, WAIT)

        killed_at = time.monotonic()
        cluster.kill(victim)
        refused(run("members", "promote", witness.name, "--expected-epoch", "1", *reach), CONFLICT, "epoch")
        done(run("members", "promote", witness.name, "--wait", WAIT, *reach))
        asked = time.monotonic() - killed_at
        log = survivor.directory.with_suffix(".log").read_text()
        assert log.count("alarm role_change") == 1, f"the leader acted by itself, {asked:.1f} s after the kill"
