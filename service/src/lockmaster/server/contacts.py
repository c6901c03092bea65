"""Whom this member dials. Pure.

A member is dialled for the first time only once the configuration that names it is committed: a blank directory takes
its id from whoever dials it, and an id from an entry that is later rolled back would be minted again for another
directory. A member that leaves is dialled until its removal is committed, and a while longer so that it can be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import Configuration

FAREWELL: Final = 10.0
"""Seconds for which a removed member is still dialled, to be told so."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a member is dialled, and which data directory must be behind it."""

    address: str
    incarnation: bytes


def contacts_of(
    committed: Configuration, latest: Configuration, before: Mapping[NodeId, Contact]
) -> dict[NodeId, Contact]:
    """Members of the committed configuration, with the latest address of those that were dialled before."""
    found = {m.member_id: Contact(m.peer_address, m.incarnation) for m in committed.members}
    for m in latest.members:
        known = before.get(m.member_id) or found.get(m.member_id)
        if known is not None and known.incarnation == m.incarnation:
            found[m.member_id] = Contact(m.peer_address, m.incarnation)
    return found
