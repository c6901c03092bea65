"""Configurations at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.errors import CorruptLog
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import MEMBERS_MAX, decode_configuration, encode_configuration

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
