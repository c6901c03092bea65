"""Quorum arithmetic against the definition: properties, majority and joint (§4.3)."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster_raft.ids import NodeId
from lockmaster_raft.quorum import commit_value, has_quorum, is_lost, is_reduced, majority, majority_value, quorum_value

ids = st.sets(st.integers(1, 9).map(NodeId), max_size=7)
answers = st.dictionaries(st.integers(1, 9).map(NodeId), st.integers(0, 20))


def quorums(voters: set[NodeId]) -> list[set[NodeId]]:
    """The dumb twin: every smallest majority, by enumeration."""
    ordered = sorted(voters)
    return [set(c) for c in combinations(ordered, len(ordered) // 2 + 1)]


def test_majorities() -> None:
    assert [majority(n) for n in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]


@given(voters=ids, outgoing=ids, granted=ids)
def test_has_quorum_is_the_definition(voters: set[NodeId], outgoing: set[NodeId], granted: set[NodeId]) -> None:
    twin = bool(voters) and any(q <= granted for q in quorums(voters))
    if outgoing:
        twin = twin and any(q <= granted for q in quorums(outgoing))
    assert has_quorum(sorted(voters), sorted(outgoing), granted) == twin


@given(voters=ids.filter(bool), outgoing=ids, values=answers)
def test_quorum_value_is_the_largest_that_a_quorum_reaches(
    voters: set[NodeId], outgoing: set[NodeId], values: dict[NodeId, int]
) -> None:
    def reached(value: int) -> bool:
        reaching = {NodeId(v) for v in range(1, 10) if values.get(NodeId(v), 0) >= value}
        return has_quorum(sorted(voters), sorted(outgoing), reaching)

    value = quorum_value(sorted(voters), sorted(outgoing), values)
    assert reached(value)
    assert not reached(value + 1)


@given(voters=ids.filter(bool), one=ids, other=ids)
def test_two_quorums_intersect(voters: set[NodeId], one: set[NodeId], other: set[NodeId]) -> None:
    ordered = sorted(voters)
    if has_quorum(ordered, (), one) and has_quorum(ordered, (), other):
        assert one & other & voters


@given(voters=ids.filter(bool), refused=ids)
def test_lost_means_that_no_quorum_can_come_any_more(voters: set[NodeId], refused: set[NodeId]) -> None:
    ordered = sorted(voters)
    assert is_lost(ordered, (), refused) == (not has_quorum(ordered, (), voters - refused))


@given(voters=ids.filter(bool), change=st.integers(1, 9).map(NodeId))
def test_i11_quorums_of_single_step_changes_intersect(voters: set[NodeId], change: NodeId) -> None:
    after = voters ^ {change}
    for one in quorums(voters):
        for other in quorums(after) if after else []:
            assert one & other


def test_nobody_is_a_quorum_of_an_empty_configuration() -> None:
    assert not has_quorum((), (), {NodeId(1)})


@settings(deadline=None)  # the machine may be busy
@given(voters=ids, outgoing=ids, refused=ids)
def test_4_3_lost_means_the_same_in_a_joint_change(
    voters: set[NodeId], outgoing: set[NodeId], refused: set[NodeId]
) -> None:
    old = sorted(outgoing)
    assert is_lost(sorted(voters), old, refused) == (not has_quorum(sorted(voters), old, (voters | outgoing) - refused))


def test_no_voters_at_all_reach_nothing() -> None:
    assert majority_value(()) == 0
    assert quorum_value((), (), {NodeId(1): 5}) == 0


def test_even_sizes_from_four_on_may_have_a_reduced_commit_quorum() -> None:
    assert [n for n in range(33) if is_reduced(n)] == list(range(4, 33, 2))


@settings(deadline=None)  # the machine may be busy
@given(matches=st.lists(st.integers(0, 20), min_size=1, max_size=12), outgoing=ids)
def test_the_reduced_commit_value_is_the_largest_that_half_of_an_even_number_reaches(
    matches: list[int], outgoing: set[NodeId]
) -> None:
    values = {NodeId(at): match for at, match in enumerate(matches, 1)}
    found, count = commit_value(list(values), sorted(outgoing), values), len(values)
    if outgoing or count < 4 or count % 2:
        assert found == quorum_value(list(values), sorted(outgoing), values)
        return
    assert sum(match >= found for match in matches) >= count // 2
    assert sum(match > found for match in matches) < count // 2


@pytest.mark.parametrize("count", [4, 6, 8])
def test_half_of_an_even_number_commits_and_one_fewer_does_not(count: int) -> None:
    voters = [NodeId(v) for v in range(1, count + 1)]
    half = dict.fromkeys(voters[: count // 2], 7)
    assert commit_value(voters, (), half) == 7
    assert commit_value(voters, (), dict.fromkeys(voters[: count // 2 - 1], 7)) == 0  # who has not answered counts as 0
    assert commit_value(voters, voters[:3], half) == 0  # never in a joint change
