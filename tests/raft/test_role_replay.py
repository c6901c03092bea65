"""A boot commits its log anew: role changes that are over pass again, without the state that they had (raft.md §4)."""

from __future__ import annotations

import pytest
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index
from lockmaster_raft.membership import MemberPhase, MemberRole
from lockmaster_raft.ready import DropState

from .rig import Rig, base, config_entry, entries, member
from .test_promotion import P1, P4, led, opened

D1 = P4.with_member(member(3, phase=MemberPhase.DEMOTING))
D2 = D1.with_member(member(3, role=MemberRole.WITNESS))


def witness_again() -> Rig:
    """Member 3 after a crash: its log begins at P1 (index 4) and holds P4, D1 and D2; its state was deleted for D2."""
    changes = [config_entry(9, 1, P4), config_entry(10, 1, D1), config_entry(11, 1, D2)]
    start = base(P1, 4, level=2)
    return Rig(start=start, log=[*entries(5, 1, 1, 1, 1), *changes], node_id=3, term=2, has_state=False)


def test_a_promotion_that_is_over_passes_a_second_time_without_its_state() -> None:
    """Found by seed 273 of the service: the leader's word on the commit index came between P4 and D2."""
    rig = witness_again()
    for commit in (8, 9, 10):
        led(rig, (11, 1), commit=commit)
        assert not rig.node.serves_state
        assert not rig.ready.state
    led(rig, (11, 1), commit=11)
    assert rig.ready.state == (DropState(),)
    assert rig.node.promotion is None
    assert rig.node.own_member == D2.member(rig.node.node_id)
    assert not rig.node.serves_state
    assert rig.node.applied == 11


def test_what_was_begun_for_it_meanwhile_is_dropped_with_d2() -> None:
    rig = witness_again()
    opened(rig)
    led(rig, (11, 1), commit=9)
    assert rig.node.promotion == (2, "opening")
    led(rig, (11, 1), commit=11)
    assert rig.ready.state == (DropState(),)
    assert rig.node.fetching is None


def test_p4_without_a_state_is_a_bug_where_the_log_ends_with_it() -> None:
    log = [*entries(5, 1, 1, 1, 1), config_entry(9, 1, P4)]
    rig = Rig(start=base(P1, 4, level=2), log=log, node_id=3, term=2, has_state=False)
    with pytest.raises(InvariantViolation, match="member 3 is full, its side state is only fetching"):
        led(rig, (9, 1), commit=Index(9))
