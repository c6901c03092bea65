"""Released builds as wheels: unpacked, and put in a member's place and taken away again while the cluster runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Final

from lockmaster.cli.local_cluster import LocalCluster, Member

WHEELS = Path(__file__).parent / "wheels"
RELEASES = sorted(path.name for path in WHEELS.iterdir())
THIS: Final[dict[str, str]] = {}
"""The environment of a member that runs this tree."""
WAIT: Final = 60.0


def unpack(release: str, place: Path) -> dict[str, str]:
    """Both wheels of a release before everything else on the path: the environment of a process that is to be of it."""
    wheels = sorted((WHEELS / release).glob("*.whl"))
    assert [wheel.name.partition("-")[0] for wheel in wheels] == ["lockmaster", "lockmaster_raft"]
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(place)
    environment = {"PYTHONPATH": str(place)}
    code = "import lockmaster as a, lockmaster_raft as b, importlib.metadata as m\n"
    code += "print(a.__file__, b.__file__, m.version('lockmaster'))"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    *files, version = said.stdout.split()
    assert [file.startswith(str(place)) for file in files] == [True, True]
    assert version == release
    return environment


def start_as(cluster: LocalCluster, member: Member, environment: dict[str, str]) -> None:
    """kill -9, if it runs, and a start with the other build."""
    cluster.kill(member)
    member.environment.clear()
    member.environment.update(environment)
    cluster.start_member(member)


async def restart(cluster: LocalCluster, member: Member, environment: dict[str, str]) -> None:
    """The member runs the other build, has what is committed, and the cluster is whole again."""

    def act() -> None:
        start_as(cluster, member, environment)
        while cluster.status(member) is None:  # else what the leader knows of it may be from before the kill
            assert member.running, member.last_words()
        leading = None
        while leading is None:  # ends: wait_until_whole has a timeout
            leading = cluster.status(cluster.wait_until_whole(WAIT))
        cluster.wait_until_caught_up(member, leading.commit_index, WAIT)

    await asyncio.to_thread(act)


def promised(member: Member) -> int:
    """The level below which no binary opens this member's directory, as its FORMAT says."""
    text = (member.directory / "FORMAT").read_text().rpartition(" ")[0]
    level: int = json.loads(text)["min_binary_level"]
    return level


def wait_for_promises(members: list[Member], level: int) -> None:
    """Waits until every one of these has promised exactly this level. AssertionError says what they have."""
    deadline = time.monotonic() + WAIT
    while (found := {member.name: promised(member) for member in members}) != dict.fromkeys(found, level):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def wait_for_words(member: Member, *words: str) -> None:
    """Waits until a line of its log has all of these words. AssertionError quotes the last one."""
    path, deadline = member.directory.with_suffix(".log"), time.monotonic() + WAIT
    while not any(all(word in line for word in words) for line in path.read_text(errors="replace").splitlines()):
        assert time.monotonic() < deadline, member.last_words()
        time.sleep(0.05)


def refuses_its_directory(cluster: LocalCluster, member: Member, environment: dict[str, str]) -> str:
    """That build, put in the member's place, ends with exit code 66; its last line."""
    start_as(cluster, member, environment)
    assert member.process is not None
    assert member.process.wait(WAIT) == 66
    return member.last_words()
