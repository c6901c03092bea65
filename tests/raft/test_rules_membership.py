"""Configurations at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.errors import CorruptLog
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import (
    MEMBERS_MAX,
    Configuration,
    MemberPhase,
    MemberRole,
    decode_configuration,
    encode_configuration,
)

from .rig import configuration


@pytest.mark.parametrize(("members", "outgoing"), [(MEMBERS_MAX, 3), (3, MEMBERS_MAX)])
def test_a_configuration_of_the_most_members_decodes_and_one_more_does_not(members: int, outgoing: int) -> None:
    def sized(count: int, old: int) -> bytes:
        conf = configuration(range(1, count + 1))
        return encode_configuration(replace(conf, outgoing=tuple(NodeId(v) for v in range(1, old + 1))))

    known = decode_configuration(sized(members, outgoing))
    assert (len(known.members), len(known.outgoing)) == (members, outgoing)
    with pytest.raises(CorruptLog, match=f"more than {MEMBERS_MAX} members"):
        decode_configuration(sized(members + (members == MEMBERS_MAX), outgoing + (outgoing == MEMBERS_MAX)))


def test_roles_and_phases_have_the_numbers_of_the_log_s_format() -> None:
    """0.1.0 and every later binary read them (raft.md §6: a change of what apply does is a new level)."""
    assert {role.name: role.value for role in MemberRole} == {"FULL": 1, "WITNESS": 2}
    assert {phase.name: phase.value for phase in MemberPhase} == {
        "STEADY": 0,
        "PROMOTING": 1,
        "DEMOTING": 2,
        "LEAVING": 3,
    }


def test_i8_a_configuration_asks_for_two_full_voters_unless_it_says_otherwise() -> None:
    assert Configuration(1, (), NodeId(1)).full_min == 2
