"""Three Engines in three processes on real directories: elect, commit, survive kill -9, join by snapshot."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from lockmaster.cli.ports import free_ports

PROGRAM = Path(__file__).with_name("engine_process.py")


class Member:
    """One engine process."""

    def __init__(self, directory: Path, name: str, profile: str) -> None:
        self.directory, self.name, self.profile = directory / name, name, profile
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with (self.directory.parent / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(PROGRAM),
                str(self.directory),
                self.address,
                self.name,
                self.profile,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert await self._line() == {"started": True}

    async def _line(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise AssertionError((self.directory.parent / f"{self.name}.log").read_text()[-3000:])
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ask(self, text: str) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        return await self._line()

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()

    async def quit(self) -> int:
        assert self.process is not None
        await self.process.communicate(b"quit\n")
        assert self.process.returncode is not None
        return self.process.returncode


class Cluster:
    """Members by name."""

    def __init__(self, directory: Path, profile: str = "fast") -> None:
        self.directory, self.profile = directory, profile
        self.members: list[Member] = []

    async def add(self) -> Member:
        member = Member(self.directory, f"m{len(self.members) + 1}", self.profile)
        self.members.append(member)
        await member.start()
        return member

    async def join(self, leader: Member) -> Member:
        member = await self.add()
        status = await member.ask("status")
        assert status["role"] == "blank"

        async def added() -> bool:  # Unavailable while the change before is not committed: a joiner asks again
            answer = await leader.ask(f"add {member.name} {member.address} {status['incarnation']}")
            return "member_id" in answer

        await until(added)
        return member

    async def leader(self) -> Member:
        async def find() -> Member | None:
            for member in self.members:
                if member.process is not None and member.process.returncode is None:
                    if (await member.ask("status"))["admits"]:
                        return member
            return None

        found = await until(find)
        assert isinstance(found, Member)
        return found


async def until(question: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    async with asyncio.timeout(seconds):
        while not (answer := await question()):
            await asyncio.sleep(0.02)
        return answer


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        for member in made.members:
            await member.kill()


async def _three(cluster: Cluster) -> Member:
    first = await cluster.add()
    assert (await first.ask("bootstrap 2"))["member_id"] == 1
    await until(lambda: _leads(first))
    for _ in range(2):
        await cluster.join(first)

    async def all_vote() -> bool:
        return len((await first.ask("status"))["voters"]) == 3

    await until(all_vote)
    return first


async def _leads(member: Member) -> bool:
    return bool((await member.ask("status"))["role"] == "leader")


async def test_three_members_form_commit_and_survive_kill_9_of_the_leader(cluster: Cluster) -> None:
    first = await _three(cluster)
    assert (await first.ask("put k v1"))["status"] == "OK"
    session = (await first.ask("open"))["session"]
    granted = await first.ask(f"acquire {session} 1 lock")
    assert granted["status"] == "OK"
    await first.kill()
    second = await cluster.leader()
    assert (await second.ask("get k"))["value"] == "v1"
    assert await second.ask(f"acquire {session} 1 lock") == granted
    assert (await second.ask("put k v2"))["status"] == "OK"
    await first.start()

    async def first_reads() -> bool:
        return (await first.ask("get k")).get("value") == "v2"

    await until(first_reads)


async def test_all_members_killed_at_once_lose_nothing_acknowledged(cluster: Cluster) -> None:
    first = await _three(cluster)
    for number in range(20):
        assert (await first.ask(f"put k{number} {number}"))["status"] == "OK"
    await asyncio.gather(*[member.kill() for member in cluster.members])
    await asyncio.gather(*[member.start() for member in cluster.members])
    leader = await cluster.leader()
    for number in range(20):
        assert (await leader.ask(f"get k{number}"))["value"] == str(number)


async def test_a_clean_stop_and_start_keeps_the_state(cluster: Cluster) -> None:
    first = await cluster.add()
    await first.ask("bootstrap 1")
    await until(lambda: _leads(first))
    assert (await first.ask("put k v"))["status"] == "OK"
    assert await first.quit() == 0
    await first.start()
    await until(lambda: _leads(first))
    assert (await first.ask("get k"))["value"] == "v"


async def test_leadership_moves_on_request(cluster: Cluster) -> None:
    first = await _three(cluster)

    async def transferred() -> bool:
        return "leader" in await first.ask("transfer")

    await until(transferred)
    leader = await cluster.leader()
    assert leader is not first
    assert (await first.ask("put k v"))["error"] == "NotLeader"


async def test_a_member_joins_by_snapshot_of_several_chunks(cluster: Cluster) -> None:
    first = await cluster.add()
    await first.ask("bootstrap 1")
    await until(lambda: _leads(first))
    assert (await first.ask("fill 300 10000"))["done"] == 300
    assert await first.ask("snapshot") == {}
    assert (await first.ask("put after snapshot"))["status"] == "OK"
    second = await cluster.join(first)

    async def same() -> bool:
        one, two = await first.ask("status"), await second.ask("status")
        return bool(one["applied"] == two["applied"] and one["hash"] == two["hash"] != 0)

    await until(same)
    assert (await second.ask("get fill/299"))["value"] == "x" * 10000
    assert (await second.ask("get after"))["value"] == "snapshot"
    await second.kill()
    await second.start()
    await until(same)
