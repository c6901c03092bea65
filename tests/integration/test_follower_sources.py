"""A member that comes back far behind gets the log from another member, not from the leader (raft.md §3)."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from lockmaster import AsyncClient
from lockmaster.cli.local_cluster import LocalCluster, Member
from lockmaster.cli.ports import free_ports

WAIT = 60.0
WRITES = 500
VALUE = b"v" * (48 << 10)
LOG_BYTES = WRITES * len(VALUE)
"""What it lacks: 24 MB, three times fetch_bytes_min."""


@pytest.fixture(params=["full", "witness"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalCluster]:
    """Two full members and the one that shall be the source; each tells its counters."""
    roles = ("full", "full", request.param)
    arguments = ("--profile", "fast", "--promote-after-s", "3600")
    with LocalCluster(tmp_path, roles=roles, arguments=arguments) as three:
        for member, port in zip(three.members, free_ports(3), strict=True):
            member.arguments = ("--metrics-listen", f"127.0.0.1:{port}")
        three.start(timeout=WAIT)
        yield three


def counter(member: Member, kind: str) -> int:
    """What this member has counted of that kind; 0 if it never happened."""
    with urllib.request.urlopen(f"http://{member.arguments[1]}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    hit = re.search(rf'^lockmaster_events\S*{{[^}}]*kind="{kind}"[^}}]*}} (\S+)$', page, re.MULTILINE)
    return int(float(hit[1])) if hit is not None else 0


def id_of(cluster: LocalCluster, member: Member) -> int:
    status = cluster.status(member)
    assert status is not None
    return int(status.member_id)


async def test_the_leader_sends_next_to_nothing_to_a_member_that_lacks_much(cluster: LocalCluster) -> None:
    leader = cluster.leader()
    assert leader is not None
    behind = next(m for m in cluster.full if m is not leader)
    source = next(m for m in cluster.members if m not in (leader, behind))
    behind_id = id_of(cluster, behind)
    cluster.kill(behind)
    async with AsyncClient(cluster.endpoints, insecure=True) as client:
        for number in range(WRITES):
            await client.config("n").put(f"k{number % 50}", VALUE + b"%d" % number)
    time.sleep(1.5)  # the page shows the counters of the last second
    before = [counter(m, f"peer_bytes_to_{behind_id}") for m in (leader, source)]
    cluster.start_member(behind)
    seen = cluster.status(leader)
    assert seen is not None
    cluster.wait_until_caught_up(behind, seen.commit_index, WAIT)
    time.sleep(1.5)
    after = [counter(m, f"peer_bytes_to_{behind_id}") for m in (leader, source)]
    by_leader, by_source = (now - then for now, then in zip(after, before, strict=True))
    assert by_source >= LOG_BYTES * 9 // 10
    assert by_leader <= (by_leader + by_source) * 5 // 100, f"{by_leader} bytes of {by_leader + by_source}"
    assert counter(behind, "range_entries_fetched") >= WRITES * 9 // 10
    assert counter(leader, "ranges_fallen_back") == 0
    print(f"leader {by_leader} bytes, source {by_source} bytes")
