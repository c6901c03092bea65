"""`lockmaster members` against running clusters: what it lists, what it changes, how it refuses (issue 4, point 9)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster.api import config_pb2, config_pb2_grpc
from lockmaster.cli.exit_codes import CONFLICT, NOT_FOUND, USAGE
from lockmaster.cli.local_cluster import LocalCluster, Member

from .founding import done, refused, run

WAIT = 60.0
CALM = ("--profile", "fast", "--promote-after-s", "3600")


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two full members and a witness in which nothing happens by itself; each test leaves it so."""
    place, roles = tmp_path_factory.mktemp("members"), ("full", "full", "witness")
    with LocalCluster(place, roles=roles, arguments=CALM) as cluster:
        cluster.start(timeout=WAIT)
        cluster.wait_for_roles({member.name: member.role for member in cluster.members}, WAIT)
        yield cluster


def listed(cluster: LocalCluster) -> dict[str, Any]:
    """{name: row} of `members list`."""
    rows = json.loads(done(run("members", "list", "-o", "json", "-e", cluster.endpoints)).stdout)
    return {row["name"]: row for row in rows}


def changed(cluster: LocalCluster, *arguments: object) -> dict[str, Any]:
    """What a change that succeeded said."""
    answer: dict[str, Any] = json.loads(done(run("members", *arguments, "-o", "json", "-e", cluster.endpoints)).stdout)
    return answer


def leader_of(cluster: LocalCluster) -> tuple[Member, Member]:
    """The leader, and the other full one of the first two."""
    leader = cluster.wait_until_whole(WAIT)
    return leader, next(member for member in cluster.full[:2] if member is not leader)


def test_list_says_role_phase_lag_and_levels(shape: LocalCluster) -> None:
    rows = listed(shape)
    leader, other = leader_of(shape)
    assert {name: (row["role"], row["phase"]) for name, row in rows.items()} == {
        leader.name: ("full voter", "steady"),
        other.name: ("full voter", "steady"),
        "witness-3": ("witness voter", "steady"),
    }
    assert {(row["level_min"], row["level_max"]) for row in rows.values()} == {(1, 2)}
    assert all(row["reachable"] and row["lag_entries"] <= 1 for row in rows.values())
    shown = done(run("members", "-e", shape.endpoints)).stdout.splitlines()
    assert shown[0].split()[:7] == ["ID", "NAME", "ROLE", "PHASE", "LEADER", "REACHABLE", "BEHIND"]
    assert len(shown) == 4
    status = json.loads(done(run("status", "-o", "json", "-e", shape.endpoints)).stdout)
    witness = next(row for row in status if row["name"] == "witness-3")
    assert (witness["role"], witness["serves_state"], witness["applied_index"]) == ("witness", False, 0)
    assert witness["lag"] <= 1


def test_promote_and_demote_are_repeatable_and_say_when_they_are_done(shape: LocalCluster) -> None:
    epoch = changed(shape, "promote", "witness-3", "--wait", WAIT)["configuration_epoch"]
    assert listed(shape)["witness-3"]["role"] == "full voter"
    again = changed(shape, "promote", "witness-3", "--expected-epoch", epoch - 2)
    assert (again["complete"], again["configuration_epoch"]) == (True, epoch)  # the key of a repeat: who, and what
    demoted = changed(shape, "demote", "witness-3", "--wait", WAIT, "--expected-epoch", epoch)
    assert (demoted["role"], demoted["phase"], demoted["configuration_epoch"]) == ("witness voter", "steady", epoch + 2)


def test_who_watches_a_promoted_witness_is_sent_away_when_it_is_demoted(shape: LocalCluster) -> None:
    witness = shape.witnesses[0]
    changed(shape, "promote", witness.name, "--wait", WAIT)
    leader = shape.wait_until_whole(WAIT)
    with grpc.insecure_channel(witness.client_address) as channel:
        watch = config_pb2_grpc.ConfigStub(channel).Watch(config_pb2.WatchRequest(namespace="n", key="k"), timeout=WAIT)
        put = config_pb2.PutRequest(namespace="n", key="k", value=b"1")
        assert config_pb2_grpc.ConfigStub(channel).Put(put, timeout=10).revision  # through it, by the leader
        seen: list[bytes] = []
        while not seen:  # ends: the watch has a timeout
            seen += [change.item.value for change in next(watch).changes]
        assert seen == [b"1"]
        changed(shape, "demote", witness.name, "--wait", WAIT)
        with pytest.raises(grpc.RpcError) as caught:
            list(watch)  # ends: it has a timeout
    assert "it serves no clients" in str(caught.value)
    assert leader.client_address in str(caught.value)


def test_a_refusal_names_the_member_and_the_number_in_the_way(shape: LocalCluster) -> None:
    reach = ("-e", shape.endpoints)
    leader, other = leader_of(shape)
    ids = {name: row["member_id"] for name, row in listed(shape).items()}
    refused(run("members", "demote", leader.name, *reach), CONFLICT, f"member {ids[leader.name]} leads")
    refused(run("members", "demote", other.name, *reach), CONFLICT, "1 full voters would be left, fewer than 2")
    refused(
        run("members", "remove", other.name, "--yes", *reach), CONFLICT, "1 full voters would be left, fewer than 2"
    )
    refused(run("members", "promote", "99", *reach), CONFLICT, "member 99 is not a witness that votes")
    refused(run("members", "abort", "99", *reach), CONFLICT, "member 99 is in no role change")
    refused(run("members", "replace", other.name, "99", "--yes", *reach), CONFLICT, "member 99 is not a learner")
    refused(run("members", "transfer", "witness-3", *reach), CONFLICT, f"member {ids['witness-3']}")
    stale = run("members", "promote", "witness-3", "--expected-epoch", "1", *reach)
    refused(stale, CONFLICT, "the configuration epoch is", "not 1")
    refused(run("members", "promote", "nobody", *reach), NOT_FOUND, "nobody", "witness-3")
    refused(run("members", "remove", "witness-3", *reach), USAGE, "--yes")
    refused(run("members", "promote", "0", *reach), USAGE, "1 to 2^63-1")
    refused(run("members", "add", other.client_address, *reach), CONFLICT, f"member {ids[other.name]}")


def test_leadership_moves_on_request(shape: LocalCluster) -> None:
    leader, other = leader_of(shape)
    changed(shape, "transfer", other.name)
    deadline = time.monotonic() + WAIT
    while shape.leader() is not other:
        assert time.monotonic() < deadline
    assert leader.running


def test_a_replica_lost_for_good_is_replaced_by_one_joint_change(shape: LocalCluster) -> None:
    leader, lost = leader_of(shape)
    ids = {name: row["member_id"] for name, row in listed(shape).items()}
    new = shape.add(arguments=("--learner",))
    shape.start_member(new)
    shape.kill(lost)
    reach = ("-e", leader.client_address)
    deadline = time.monotonic() + WAIT
    replaced = run("members", "replace", lost.name, new.name, "--yes", "--wait", WAIT, *reach)
    while replaced.returncode and time.monotonic() < deadline:  # until it has joined and caught up
        assert "is not caught up" in replaced.stderr or "no member is named" in replaced.stderr, replaced.stderr
        replaced = run("members", "replace", lost.name, new.name, "--yes", "--wait", WAIT, *reach)
    done(replaced)
    rows = listed(shape)
    assert sorted(rows) == sorted([leader.name, new.name, "witness-3"])
    assert rows[new.name]["role"] == "full voter"
    assert rows[new.name]["member_id"] not in ids.values()
    done(run("members", "replace", ids[lost.name], new.name, "--yes", *reach))  # a repeat
    done(run("members", "remove", ids[lost.name], "--yes", *reach))


def test_members_come_and_go_by_hand(tmp_path: Path) -> None:
    """A blank member that was told of nobody is added from another one, as what its --role says."""
    with LocalCluster(tmp_path, size=2, arguments=CALM) as cluster:
        cluster.start(timeout=WAIT)
        new = cluster.add("witness")
        cluster.start_member(new, join=False)
        while cluster.status(new) is None:  # ends: the test run has a timeout
            assert new.running
        added = changed(cluster, "add", new.client_address, "--wait", WAIT)
        assert (added["name"], added["role"]) == (new.name, "witness voter")
        refused(run("members", "add", new.client_address, "-e", cluster.endpoints), CONFLICT, "is not blank")
        changed(cluster, "remove", new.name, "--yes")
        assert sorted(listed(cluster)) == ["node-1", "node-2"]
