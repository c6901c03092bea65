"""Changes of members on real processes: aborted while they run, repeated under their key at another leader; and the
reads that a follower may answer by itself (issue 4, points 4 and 9)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lockmaster import AsyncClient, Bounded, Eventual, LeaderLease, Unavailable
from lockmaster.cli.exit_codes import CONFLICT, UNAVAILABLE, USAGE
from lockmaster.cli.local_cluster import LocalCluster, Member

from .disk_faults import COMPILERS, DiskFaults, Fault, build_shim
from .founding import done, refused, run

WAIT = 60.0
SLOW_SYNC_US = 600_000
SILENCE_MAX = 5.0
"""Longest time in seconds that such a witness may not answer: opening a RocksDB holds the interpreter lock for five
syncs, 3 s of these. A member that made a new one by itself was silent for ten."""
CALM = ("--promote-after-s", "3600")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCluster, DiskFaults | None]]:
    """Two full members and a witness in which nothing happens by itself.

    The witness's disk can be made slow where there is a C compiler.
    """
    place = tmp_path_factory.mktemp("administration")
    shim = build_shim(place)
    with LocalCluster(place, roles=("full", "full", "witness"), arguments=CALM) as cluster:
        faults = DiskFaults.make(shim, place / "faults") if shim is not None else None
        if faults is not None:
            cluster.witnesses[0].environment.update(faults.environment)
        cluster.start(timeout=WAIT)
        cluster.wait_for_roles({member.name: member.role for member in cluster.members}, WAIT)
        yield cluster, faults


@pytest.fixture
def shape(running: tuple[LocalCluster, DiskFaults | None]) -> tuple[LocalCluster, DiskFaults | None]:
    """The same, in shape whatever the test before has left."""
    cluster, witness = running[0], running[0].witnesses[0].name
    changed(cluster, "abort", witness, "--wait", WAIT)
    changed(cluster, "demote", witness, "--wait", WAIT)
    return running


def changed(cluster: LocalCluster, *arguments: object, at: Member | None = None) -> dict[str, Any]:
    """What a change that succeeded said, asked of anybody or first `at` a member."""
    reach = ("-o", "json", "-e", at.client_address if at is not None else cluster.endpoints)
    answer: dict[str, Any] = json.loads(done(run("members", *arguments, *reach)).stdout)
    return answer


def leader_and_follower(cluster: LocalCluster) -> tuple[Member, Member]:
    """Of the first two, once all is well."""
    leader = cluster.wait_until_whole(WAIT)
    return leader, next(member for member in cluster.full if member is not leader)


# ---- changes ---------------------------------------------------------------------------------------------------------


def test_a_promotion_is_aborted_while_it_runs(shape: tuple[LocalCluster, DiskFaults | None]) -> None:
    cluster, faults = shape
    if faults is None:
        pytest.skip(f"an abort while a promotion runs: no C compiler ({', '.join(COMPILERS)}) to build the shim")
    witness = cluster.witnesses[0]
    _, other = leader_and_follower(cluster)
    faults.arm(Fault.SLOW, "/side-", delay_us=2_000_000)
    try:
        begun = changed(cluster, "promote", witness.name)
        assert (begun["complete"], begun["phase"]) == (False, "promoting")
        while getattr(cluster.status(witness), "promotion", "") != "opening":  # ends: the test run has a timeout
            pass
        cluster.pause(witness)  # it can't come to an end before these have been asked, however slow they start
        meanwhile = run("members", "demote", other.name, "-e", cluster.endpoints)
        refused(meanwhile, CONFLICT, f"member {begun['member_id']} is PROMOTING")
        aborted = changed(cluster, "abort", witness.name, "--wait", WAIT)
    finally:
        faults.disarm()
        cluster.resume(witness)
    assert (aborted["complete"], aborted["role"], aborted["phase"]) == (True, "witness voter", "steady")
    assert aborted["configuration_epoch"] == begun["configuration_epoch"] + 1
    cluster.wait_until_whole(WAIT)  # who has just been asleep is refused until it answers
    again = changed(cluster, "abort", witness.name)
    assert (again["complete"], again["configuration_epoch"]) == (True, aborted["configuration_epoch"])
    assert changed(cluster, "promote", witness.name, "--wait", WAIT)["role"] == "full voter"
    assert changed(cluster, "demote", witness.name, "--wait", WAIT)["role"] == "witness voter"


def test_a_witness_whose_disk_is_slow_answers_while_it_makes_its_state(
    shape: tuple[LocalCluster, DiskFaults | None],
) -> None:
    cluster, faults = shape
    if faults is None:
        pytest.skip(f"a slow disk: no C compiler ({', '.join(COMPILERS)}) to build the shim")
    witness = cluster.witnesses[0]
    faults.arm(Fault.SLOW, "/side-", delay_us=SLOW_SYNC_US)
    try:
        assert changed(cluster, "promote", witness.name)["phase"] == "promoting"
        answer = cluster.status(witness, SILENCE_MAX)
        while answer is not None and not (answer.serves_state and not answer.promotion):  # ends: as above
            answer = cluster.status(witness, SILENCE_MAX)
    finally:
        faults.disarm()
    assert answer is not None, "the process stood still"
    assert faults.hits > 15


def test_a_key_is_answered_as_before_by_its_leader_and_by_the_configuration_at_the_next(
    shape: tuple[LocalCluster, DiskFaults | None],
) -> None:
    cluster, _ = shape
    name = cluster.witnesses[0].name
    leader, other = leader_and_follower(cluster)
    epoch = changed(cluster, "abort", name)["configuration_epoch"]  # none runs: tells the epoch
    promote = ("promote", name, "--idempotency-key", "a promotion", "--expected-epoch", epoch)
    assert changed(cluster, *promote, "--wait", WAIT, at=leader)["configuration_epoch"] == epoch + 2
    assert changed(cluster, "demote", name, "--wait", WAIT)["configuration_epoch"] == epoch + 4
    repeated = changed(cluster, *promote, at=leader)  # it did it: it answers once more and does nothing
    assert (repeated["role"], repeated["configuration_epoch"]) == ("witness voter", epoch + 4)
    another = run("members", "demote", name, "--idempotency-key", "a promotion", "-e", leader.client_address)
    refused(another, USAGE, "idempotency_key", "was used for another request")

    changed(cluster, "transfer", other.name)
    assert leader_and_follower(cluster)[0] is other
    # Who leads now knows no such key: the expected epoch is what keeps the change from being made twice.
    unknown = run("members", *promote, "-e", other.client_address)
    refused(unknown, CONFLICT, f"epoch is {epoch + 4}, not {epoch}")
    promote = ("promote", name, "--idempotency-key", "another", "--expected-epoch", epoch + 4)
    changed(cluster, *promote, "--wait", WAIT, at=other)
    changed(cluster, "transfer", leader.name)
    assert leader_and_follower(cluster)[0] is leader
    repeated = changed(cluster, *promote, at=leader)  # what was asked for is so: its configuration tells
    assert (repeated["complete"], repeated["configuration_epoch"]) == (True, epoch + 6)
    changed(cluster, "demote", name, "--wait", WAIT)


def test_half_of_four_commits_on_request_and_never_beside_a_witness(
    shape: tuple[LocalCluster, DiskFaults | None], tmp_path: Path
) -> None:
    beside = run("members", "reduced-commit", "on", "-e", shape[0].endpoints)
    refused(beside, CONFLICT, "the reduced commit quorum is refused beside a witness")
    with LocalCluster(tmp_path, size=4, arguments=CALM) as four:
        four.start(timeout=WAIT)
        four.wait_for_roles({member.name: "full" for member in four.members}, WAIT)
        reach = ("-e", four.endpoints)
        on = json.loads(done(run("members", "reduced-commit", "on", "-o", "json", *reach)).stdout)
        assert on["reduced_commit"] is True
        assert "half of the voters commits" in done(run("members", *reach)).stdout
        again = json.loads(done(run("members", "reduced-commit", "on", "-o", "json", *reach)).stdout)
        assert again == on
        done(run("config", "put", "n", "k", "1", *reach))
        stale = run("members", "reduced-commit", "off", "--expected-epoch", on["configuration_epoch"] - 1, *reach)
        refused(stale, CONFLICT, f"the configuration epoch is {on['configuration_epoch']}")
        assert (
            done(run("members", "reduced-commit", "off", *reach)).stdout.strip() == "a majority of the voters commits"
        )
        assert "half of the voters commits" not in done(run("members", *reach)).stdout


# ---- reads -----------------------------------------------------------------------------------------------------------


async def test_lease_and_bounded_reads_at_a_follower(shape: tuple[LocalCluster, DiskFaults | None]) -> None:
    cluster, _ = shape
    leader, follower = await asyncio.to_thread(leader_and_follower, cluster)
    async with (
        AsyncClient(leader.client_address, insecure=True) as writer,
        AsyncClient(follower.client_address, insecure=True, operation_timeout=3.0) as reader,
    ):
        space = reader.config("n")
        revision = 0
        for number in range(20):
            revision = await writer.config("n").put("k", str(number))
            leased = await space.get("k", consistency=LeaderLease())  # no lease here: by the leader's round, so linear
            exact = await space.get("k", consistency=Eventual(revision))
            assert leased is not None
            assert leased.revision == revision
            assert exact is not None
            assert exact.revision == revision
        await asyncio.sleep(0.1)
        bounded = await space.get("k", consistency=Bounded(0.1))
        assert bounded is not None
        assert bounded.revision == revision

        alone = [member for member in cluster.members if member is not follower]
        for member in alone:
            cluster.pause(member)
        try:
            old = await space.get("k", consistency=Bounded(3_600.0))
            assert old is not None
            assert old.revision == revision
            assert (await space.get("k", consistency=Eventual())) == old
            await asyncio.sleep(0.25)
            for consistency, said in (
                (Bounded(0.2), "the state here may be older than 0.2 s"),
                (Eventual(revision + 1, wait=0.1), f"revision {revision + 1} was not applied here within 0.1 s"),
                (LeaderLease(), None),
            ):
                with pytest.raises(Unavailable, match=said):
                    await space.get("k", consistency=consistency)
            shown = await asyncio.to_thread(read_by_command, follower, "bounded:3600")
            assert done(shown).stdout.strip() == "19"
            refused(await asyncio.to_thread(read_by_command, follower, "bounded:0.2"), UNAVAILABLE, "older than 0.2 s")
        finally:
            for member in alone:
                cluster.resume(member)
    await asyncio.to_thread(leader_and_follower, cluster)


def read_by_command(member: Member, consistency: str) -> Any:
    """`config get` of one member alone."""
    return run("config", "get", "n", "k", "--consistency", consistency, "-e", member.client_address)
