"""Nothing that is out of range is believed: refused with a counted reason. Absurd messages of every kind, in every
role: test_bad_messages.py.
"""

from __future__ import annotations

import dataclasses

import pytest
from lockmaster_raft.ids import INDEX_MAX
from lockmaster_raft.messages import AppendEntries

from .rig import Rig, append, entries


@pytest.mark.parametrize(
    "message",
    [
        append(2, 2, (-1, 1)),
        append(2, 2, (1, 3)),
        append(2, 2, (1, 1), entries(3, 2)),
        append(2, 2, (1, 1), entries(2, 3)),
        append(2, 2, (1, 1), entries(2, 2, 1)),
        append(2, 2, (INDEX_MAX, 1), entries(INDEX_MAX + 1, 2)),
        append(2, 2, (1, 1), commit=INDEX_MAX + 1),
        append(2, INDEX_MAX + 1, (1, 1)),
        append(2, 0, (1, 1)),
        append(0, 2, (1, 1)),
        append(1, 2, (1, 1)),
    ],
)
def test_a_malformed_append_changes_nothing(message: AppendEntries) -> None:
    rig = Rig(term=2)
    rig.receive(message)
    assert rig.node.last_index == 1
    assert rig.node.term == 2
    assert sum(rig.node.refusals.values()) == 1


def test_another_clusters_message_is_refused() -> None:
    rig = Rig(term=2)
    message = append(2, 2, (1, 1))
    rig.receive(dataclasses.replace(message, header=dataclasses.replace(message.header, cluster_id=b"y" * 16)))
    assert rig.node.refusals == {"not for this member": 1}
    assert rig.ready.send == ()


def test_a_member_without_a_common_level_is_refused() -> None:
    rig = Rig(term=2)
    message = append(2, 2, (1, 1))
    rig.receive(dataclasses.replace(message, header=dataclasses.replace(message.header, level_min=9, level_max=9)))
    assert rig.node.refusals == {"no common level": 1}
