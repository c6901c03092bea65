"""A real member whose disk fails: it stops itself with exit code 74 and one line, and nothing acknowledged is lost.

The faults come from an LD_PRELOAD shim, so they need neither root nor a special file system; where no C compiler is
found each test is skipped by name.
"""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lockmaster import AsyncClient, LockmasterError
from lockmaster.cli.local_cluster import LocalCluster, Member
from lockmaster.server.exit_codes import ExitCode

from .disk_faults import COMPILERS, DiskFaults, Fault, build_shim
from .workload import Load, check

EXIT_SECONDS = 20.0


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = build_shim(tmp_path_factory.mktemp("shim"))
    if built is None:
        pytest.skip(f"EIO, ENOSPC and short writes in a real process: no C compiler ({', '.join(COMPILERS)}) to build")
    return built


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, shim: Path) -> Iterator[tuple[LocalCluster, Member, DiskFaults]]:
    """A cluster of one member on a disk that can be made to fail; each test leaves it running and whole."""
    place = tmp_path_factory.mktemp("alone")
    with LocalCluster(place, size=1, arguments=("--profile", "fast", "--full-min", "1")) as cluster:
        member = cluster.members[0]
        faults = DiskFaults.make(shim, place / "faults")
        member.environment.update(faults.environment)
        cluster.start()
        yield cluster, member, faults


async def _ended(member: Member) -> int:
    assert member.process is not None
    return await asyncio.to_thread(member.process.wait, EXIT_SECONDS)


def _said_one_line(member: Member, code: ExitCode, *words: str) -> None:
    assert "Traceback" not in member.directory.with_suffix(".log").read_text()
    last = member.last_words()
    for word in words:
        assert word in last, last
    assert f"exit code {code:d}" in last or last.startswith("lockmaster: "), last


async def _put_until_it_ends(cluster: LocalCluster, member: Member, first: int) -> dict[str, bytes]:
    """Writes one after the other until the member is gone; what was acknowledged."""
    acknowledged: dict[str, bytes] = {}
    async with AsyncClient(cluster.endpoints, insecure=True, operation_timeout=1.0) as client:
        for number in range(first, first + 5000):
            key, value = f"k{number}", b"%d" % number
            try:
                await client.config("n").put(key, value)
            except LockmasterError:
                break
            acknowledged[key] = value
            if not member.running:
                break
    return acknowledged


async def _holds(cluster: LocalCluster, acknowledged: dict[str, bytes]) -> None:
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        for key, value in acknowledged.items():
            item = await client.config("n").get(key)
            assert item is not None, f"acknowledged write lost: {key}"
            assert item.value == value


@pytest.mark.parametrize(
    ("fault", "error", "fragment"),
    [
        (Fault.SYNC, errno.EIO, "/journal/"),
        (Fault.SHORT, errno.EIO, "/journal/"),
        (Fault.WRITE, errno.ENOSPC, "/journal/"),
        (Fault.SYNC, errno.EIO, "/guard"),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if type(value) is int else str(value).strip("/"),
)
async def test_a_failed_write_or_sync_stops_the_member_and_it_comes_back_with_all_it_acknowledged(
    alone: tuple[LocalCluster, Member, DiskFaults], fault: Fault, error: int, fragment: str
) -> None:
    cluster, member, faults = alone
    faults.arm(fault, f"{member.name}{fragment}", error=error, countdown=30)
    acknowledged = await _put_until_it_ends(cluster, member, 0)
    assert await _ended(member) == ExitCode.STORAGE_FAILED
    assert faults.hits > 0
    assert len(acknowledged) > 3
    reason = "short" if fault is Fault.SHORT else f"errno {error}"
    _said_one_line(member, ExitCode.STORAGE_FAILED, fragment.strip("/"), reason)
    faults.disarm()
    cluster.start_member(member)
    await asyncio.to_thread(cluster.wait_until_whole, 30.0)
    await _holds(cluster, acknowledged)


async def test_a_failing_flush_at_the_stop_is_one_line_and_loses_nothing(
    alone: tuple[LocalCluster, Member, DiskFaults],
) -> None:
    cluster, member, faults = alone
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        for number in range(20):
            await client.config("n").put(f"k{number}", b"%d" % number)
    faults.arm(Fault.SYNC | Fault.WRITE, "/state-")
    assert member.process is not None
    member.process.send_signal(signal.SIGTERM)
    assert await _ended(member) == ExitCode.STORAGE_FAILED
    assert faults.hits > 0
    _said_one_line(member, ExitCode.STORAGE_FAILED, "state-")
    faults.disarm()
    cluster.start_member(member)
    await asyncio.to_thread(cluster.wait_until_whole, 30.0)
    await _holds(cluster, {f"k{number}": b"%d" % number for number in range(20)})


@pytest.mark.parametrize("fragment", ["/guard", "/journal/", "/state-"])
async def test_a_failing_read_at_the_start_is_one_line_and_changes_nothing(
    alone: tuple[LocalCluster, Member, DiskFaults], fragment: str
) -> None:
    cluster, member, faults = alone
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        await client.config("n").put("k", b"v")
    cluster.stop()
    faults.arm(Fault.READ, f"{member.name}{fragment}")  # not the module guard.py, say
    cluster.start_member(member)
    assert await _ended(member) == ExitCode.STORAGE_FAILED
    _said_one_line(member, ExitCode.STORAGE_FAILED, fragment.strip("/"))
    faults.disarm()
    cluster.start_member(member)
    await asyncio.to_thread(cluster.wait_until_whole, 30.0)
    await _holds(cluster, {"k": b"v"})


@pytest.mark.parametrize(
    ("leads", "error"), [(True, errno.EIO), (False, errno.ENOSPC)], ids=["EIO at the leader", "ENOSPC at a follower"]
)
async def test_one_of_three_with_a_failing_journal_stops_and_the_others_go_on(
    tmp_path: Path, shim: Path, leads: bool, error: int
) -> None:
    with LocalCluster(tmp_path, arguments=("--profile", "fast")) as cluster:
        switches = {m.name: DiskFaults.make(shim, tmp_path / f"{m.name}.faults") for m in cluster.members}
        for member in cluster.members:
            member.environment.update(switches[member.name].environment)
        cluster.start()
        leader = await asyncio.to_thread(cluster.leader)
        victim = next(member for member in cluster.members if (member is leader) is leads)
        load = Load(cluster.endpoints)
        await load.start()
        switches[victim.name].arm(Fault.SYNC if error == errno.EIO else Fault.WRITE, "/journal/", error=error)
        assert await _ended(victim) == ExitCode.STORAGE_FAILED
        _said_one_line(victim, ExitCode.STORAGE_FAILED, "journal", f"errno {error}")
        await load.progress(20, 30.0)
        switches[victim.name].disarm()
        await asyncio.to_thread(cluster.start_member, victim)
        await asyncio.to_thread(cluster.wait_until_whole, 30.0)
        await load.progress(20, 30.0)
        record = await load.stop()
        async with AsyncClient(cluster.endpoints, insecure=True) as client:
            await check(client, record)
        assert record.sessions_lost == 0


async def test_a_leader_with_a_slow_disk_stays_whole(tmp_path: Path, shim: Path) -> None:
    with LocalCluster(tmp_path, arguments=("--profile", "fast")) as cluster:
        switches = {m.name: DiskFaults.make(shim, tmp_path / f"{m.name}.faults") for m in cluster.members}
        for member in cluster.members:
            member.environment.update(switches[member.name].environment)
        cluster.start()
        leader = await asyncio.to_thread(cluster.leader)
        assert leader is not None
        load = Load(cluster.endpoints)
        await load.start()
        switches[leader.name].arm(Fault.SLOW, "/journal/", delay_us=100_000)
        await load.progress(60, 60.0)
        assert switches[leader.name].hits > 0
        switches[leader.name].disarm()
        record = await load.stop()
        assert all(member.running for member in cluster.members)
        async with AsyncClient(cluster.endpoints, insecure=True) as client:
            await check(client, record)
