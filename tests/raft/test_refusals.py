"""Issue 4, Bad input: a change refused by a precondition names the member and the number that stands in the way.

What the gates say: test_gates.py (test_preconditions_name_the_member_and_the_number).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.errors import ChangeRefused, NotReady
from lockmaster_raft.events import (
    AbortRoleChange,
    ChangeMember,
    DemoteMember,
    Event,
    PromoteMember,
    RemoveMember,
    SetReducedCommit,
    StorageReport,
    SwapMember,
    TransferLeadership,
)
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.membership import MEMBERS_MAX, MemberRole
from lockmaster_raft.ready import Refused

from .rig import Cluster, member
from .shapes import add, join, report, shaped, write

W = MemberRole.WITNESS


def two_one() -> Cluster:
    """1 leads, 2 is full, 3 a witness."""
    cluster = shaped(2, 1)
    report(cluster)
    return cluster


def silent(number: int, seconds: int = 2, build: Callable[[], Cluster] = two_one) -> Cluster:
    cluster = build()
    cluster.down.add(number)
    cluster.run(seconds * SECOND)
    return cluster


def learner(*, there: bool = True) -> Cluster:
    """2 + 1 and member 4, a learner that waits; not there: nobody has started it."""
    cluster = two_one()
    if there:
        join(cluster, 4, promote=False)
    else:
        cluster.step(1, add(4, promote=False))
        cluster.run(SECOND)
    return cluster


def reduced() -> Cluster:
    cluster = shaped(4, 0)
    cluster.step(1, SetReducedCommit(1, enabled=True))
    cluster.run(SECOND)
    return cluster


def large() -> Cluster:
    """Member 3 has no room for a state of 100 bytes."""
    cluster = two_one()
    cluster.step(3, StorageReport(Index(0), 150, 0))
    cluster.run(SECOND)
    cluster.step(1, StorageReport(cluster.nodes[1].applied, 1 << 40, 0, 100))
    return cluster


def behind(number: int) -> Cluster:
    """The member answers heartbeats and gets no entries: three behind, where one is allowed."""
    cluster = shaped(2, 1, RaftConfig(role_gap_entries_max=1))
    report(cluster)
    cluster.cut = lambda sender, receiver, message: receiver == number and hasattr(message, "entries")
    write(cluster, 3)
    return cluster


def far_behind(number: int) -> Cluster:
    """The same, ten behind where a batch holds two."""
    cluster = shaped(2, 1, RaftConfig(batch_entries_max=2))
    cluster.cut = lambda sender, receiver, message: receiver == number and hasattr(message, "entries")
    write(cluster, 10)
    return cluster


CASES: list[tuple[Callable[[], Cluster], Event, type[Exception], str]] = [
    (two_one, RemoveMember(1, NodeId(2)), ChangeRefused, "1 full voters would be left, fewer than 2: [1]"),
    (two_one, DemoteMember(1, NodeId(2)), ChangeRefused, "1 full voters would be left, fewer than 2: [1]"),
    (two_one, DemoteMember(1, NodeId(1)), ChangeRefused, "member 1 leads: transfer leadership first"),
    (two_one, DemoteMember(1, NodeId(3)), ChangeRefused, "member 3 is not a full voter"),
    (two_one, PromoteMember(1, NodeId(2)), ChangeRefused, "member 2 is not a witness that votes"),
    (two_one, PromoteMember(1, NodeId(3), 99), ChangeRefused, "the configuration epoch is 5, not 99"),
    (two_one, AbortRoleChange(1, NodeId(3)), ChangeRefused, "member 3 is in no role change"),
    (two_one, RemoveMember(1, NodeId(9)), ChangeRefused, "member 9 is not in the configuration"),
    (two_one, SwapMember(1, NodeId(9), NodeId(2)), ChangeRefused, "member 9 is not a voter"),
    (two_one, SwapMember(1, NodeId(1), NodeId(2)), ChangeRefused, "member 1 leads: transfer leadership first"),
    (two_one, SwapMember(1, NodeId(2), NodeId(9)), ChangeRefused, "member 9 is not a learner of the role FULL"),
    (two_one, TransferLeadership(1, NodeId(3)), ChangeRefused, "member 3 is not a full voter"),
    (
        two_one,
        SetReducedCommit(1, enabled=True),
        ChangeRefused,
        "the reduced commit quorum is refused beside a witness: [3]",
    ),
    (two_one, replace(add(4), name="m2"), ChangeRefused, "member 2 is already named 'm2'"),
    (two_one, replace(add(4), name="n" * 254), ChangeRefused, "a member's name has 1 to 253 bytes, not 254"),
    (
        two_one,
        replace(add(4), peer_address="a" * 262),
        ChangeRefused,
        "an address of m4 has 1 to 261 bytes, not 262 and 4",
    ),
    (two_one, replace(add(4), incarnation=b"short"), ChangeRefused, "an incarnation is 16 bytes, not 5"),
    (two_one, replace(add(4), level_max=1), ChangeRefused, "m4 knows levels up to 1: the log needs level 2"),
    (two_one, replace(add(4), level_min=9, level_max=9), ChangeRefused, "m4 needs level 9 or above; level 2 is active"),
    (
        lambda: learner(there=False),
        ChangeMember(1, replace(member(4), promote_when_caught_up=False)),
        NotReady,
        "member 4 is not caught up: 0 of 7",
    ),
    (lambda: learner(there=False), SwapMember(1, NodeId(2), NodeId(4)), NotReady, "member 4 is not caught up: 0 of 7"),
    (large, PromoteMember(1, NodeId(3)), NotReady, "member 3 has 150 bytes free, a promotion needs 200"),
    (lambda: silent(3), PromoteMember(1, NodeId(3)), NotReady, "member 3 did not answer for 2028 ms"),
    (
        lambda: behind(3),
        PromoteMember(1, NodeId(3)),
        NotReady,
        "member 3 is 3 entries behind the commit index, more than 1",
    ),
    (
        lambda: silent(2),
        TransferLeadership(1),
        NotReady,
        "no other full voter is caught up: member 2 did not answer for 2028 ms",
    ),
    (lambda: silent(2), TransferLeadership(1, NodeId(2)), NotReady, "member 2 did not answer for 2028 ms"),
    (lambda: far_behind(2), TransferLeadership(1, NodeId(2)), NotReady, "member 2 has the log up to 6 of 16"),
    (
        lambda: silent(3, build=lambda: shaped(3, 0)),
        RemoveMember(1, NodeId(2)),
        ChangeRefused,
        "the voters left would have no live quorum: [3] are silent",
    ),
    (
        reduced,
        replace(add(5, W), name="w"),
        ChangeRefused,
        "w would be a witness: the reduced commit quorum of [1, 2, 3, 4] allows none",
    ),
    (
        reduced,
        DemoteMember(1, NodeId(2)),
        ChangeRefused,
        "member 2 would be a witness: the reduced commit quorum of [1, 2, 3, 4] allows none",
    ),
]


@pytest.mark.parametrize(("build", "event", "kind", "text"), CASES, ids=[f"{c[3]}" for c in CASES])
def test_a_refusal_names_the_member_and_the_number(
    build: Callable[[], Cluster], event: Event, kind: type[Exception], text: str
) -> None:
    cluster = build()
    cluster.proposals.clear()
    cluster.step(1, event)
    (answer,) = cluster.proposals
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, kind)
    found = str(answer.error)
    assert found == text


def test_a_change_that_runs_is_named_to_whoever_wants_another() -> None:
    cluster = two_one()
    cluster.step(1, PromoteMember(1, NodeId(3)))
    cluster.proposals.clear()
    at = cluster.nodes[1].last_index
    cluster.step(1, RemoveMember(2, NodeId(3)))
    cluster.cut = lambda sender, receiver, message: receiver == 3 and sender == 1 and hasattr(message, "chunk_digests")
    cluster.run(SECOND // 5)
    cluster.step(1, RemoveMember(3, NodeId(3)))
    first, second = [p for p in cluster.proposals if isinstance(p, Refused)]
    assert str(first.error) == f"the configuration change at index {at} is not committed yet"
    assert str(second.error) == "member 3 is PROMOTING: complete or abort that first"


def test_the_most_members_there_may_be() -> None:
    cluster = two_one()
    for number in range(4, MEMBERS_MAX + 2):
        cluster.step(1, add(number, promote=False))
        cluster.run(SECOND // 50)
    (answer,) = [p for p in cluster.proposals if isinstance(p, Refused)]
    assert str(answer.error) == f"the configuration has {MEMBERS_MAX} members, the most there may be"
