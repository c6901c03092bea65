"""Who is in the cluster: members, their roles, and the configuration that CONFIG entries carry."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from lockmaster_raft.errors import CorruptLog
from lockmaster_raft.ids import NO_INDEX, Index, NodeId


class MemberRole(IntEnum):
    """What a member stores. WITNESS needs level 2 and is refused below it (I13)."""

    FULL = 1
    """Log and state machine; may lead and serve."""
    WITNESS = 2
    """Full log, no state; votes and acks, serves nothing."""


class MemberPhase(IntEnum):
    """Where a member stands in a role change; STEADY outside of one."""

    STEADY = 0
    PROMOTING = 1
    """A witness that builds a state beside its log (P1 … P4); it votes and acks as before."""
    DEMOTING = 2
    """A full voter that becomes a witness (D1 … D2); it keeps its state and has no full member's privileges."""
    LEAVING = 3
    """No voter of the new configuration of a joint change: removed by the step that leaves it (§4.3)."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a configuration. A member that is not a voter is a learner."""

    member_id: NodeId
    name: str
    """Human name, unique in the configuration, ≤ 253 bytes of UTF-8."""
    peer_address: str
    """host:port of the peer port, ≤ 261 bytes."""
    client_address: str
    """host:port of the client port, ≤ 261 bytes."""
    incarnation: bytes
    """16 random bytes made with the data directory: AddMember with the same ones is idempotent."""
    voter: bool
    role: MemberRole = MemberRole.FULL
    phase: MemberPhase = MemberPhase.STEADY
    promote_when_caught_up: bool = True
    """A learner that the leader makes a voter by itself once it passes the caught-up test (§4.2.1)."""

    @property
    def is_full(self) -> bool:
        """Whether its role is FULL, whatever its phase."""
        return self.role is MemberRole.FULL


@dataclass(frozen=True, slots=True)
class Configuration:
    """A cluster configuration. `members` is sorted by id; `outgoing` is empty outside of a joint change (§4.3)."""

    epoch: int
    """Rises by one with every CONFIG entry; changes are compare-and-set on it."""
    members: tuple[Member, ...]
    next_member_id: NodeId
    """The id the leader mints next: ids only ever rise, so none is reused (I12)."""
    full_min: int = 2
    """Fewest full voters before client writes are admitted (I8); 1 only for a development cluster."""
    outgoing: tuple[NodeId, ...] = ()
    """Voter ids of the old configuration during a joint change; both majorities decide then."""
    reduced_commit: bool = False
    """Half of an even number of ≥ 4 voters commits (n/2 + 1 elect); only without witnesses (raft.md §5)."""

    def member(self, member_id: NodeId) -> Member | None:
        """The member with this id, or None."""
        for member in self.members:
            if member.member_id == member_id:
                return member
        return None

    @property
    def voter_ids(self) -> tuple[NodeId, ...]:
        """Ids of the voters, ascending."""
        return tuple(m.member_id for m in self.members if m.voter)

    @property
    def full_voter_count(self) -> int:
        """How many voters hold the state machine and are to keep it (a DEMOTING one is not counted: I8)."""
        return sum(1 for m in self.members if m.voter and m.is_full and m.phase is not MemberPhase.DEMOTING)

    @property
    def deciders(self) -> tuple[NodeId, ...]:
        """Ids of all whose vote or ack counts, `outgoing` included, ascending."""
        return tuple(sorted({*self.voter_ids, *self.outgoing})) if self.outgoing else self.voter_ids

    @property
    def changing(self) -> Member | None:
        """The one member in a role change, or None: at most one is PROMOTING or DEMOTING."""
        return next((member for member in self.members if _changes(member)), None)

    def with_member(self, member: Member) -> Configuration:
        """This configuration with `member` added or replaced, the epoch raised by one."""
        others = [m for m in self.members if m.member_id != member.member_id]
        members = tuple(sorted([*others, member], key=lambda m: m.member_id))
        next_id = NodeId(max(self.next_member_id, member.member_id + 1))
        return replace(self, epoch=self.epoch + 1, members=members, next_member_id=next_id)

    def without_member(self, member_id: NodeId) -> Configuration:
        """This configuration without that member, the epoch raised by one."""
        members = tuple(m for m in self.members if m.member_id != member_id)
        return replace(self, epoch=self.epoch + 1, members=members)


def role_changed(before: Configuration, after: Configuration) -> bool:
    """Whether a member of both has another role or is in another phase of a role change."""
    if before is after or (before.changing == after.changing and before.members == after.members):
        return False
    olds = {m.member_id: m for m in before.members}
    pairs = [(olds[m.member_id], m) for m in after.members if m.member_id in olds]
    return any(
        old.role is not new.role or ((_changes(old) or _changes(new)) and old.phase is not new.phase)
        for old, new in pairs
    )


def change_aborted(before: Configuration, after: Configuration) -> bool:
    """Whether the role change that ran came to nothing: its member is what it was."""
    changing = before.changing
    member = after.member(changing.member_id) if changing is not None else None
    if changing is None or member is None:
        return False
    return member.role is changing.role and member.phase is MemberPhase.STEADY


def _changes(member: Member) -> bool:
    return member.phase in (MemberPhase.PROMOTING, MemberPhase.DEMOTING)


@dataclass(frozen=True, slots=True)
class Levels:
    """The gate state (gates.py): `active` is the level that features are legal at, `fence` what joiners must know."""

    active: int = 1
    fence: int = 1
    """Equal to `active` outside of a fence, above it while one stands."""
    index: Index = NO_INDEX
    """Index of the GATE entry that made it so, 0 since genesis: the gate's epoch, that requests are compared with."""


LEVEL_MIN: Final = 1
"""Lowest feature level this build can run at."""
LEVEL_MAX: Final = 2
"""Highest feature level this build knows."""
WITNESS_LEVEL: Final = 2
"""The level of witness roles, joint changes and the reduced commit quorum: none of them in force below it (I13)."""

_HEAD: Final = struct.Struct(">QQHHH")
_MEMBER: Final = struct.Struct(">Q16sBBBBHHH")
_REDUCED_COMMIT: Final = 0x8000
"""Bit of the field full_min: set only from level 2 on, so that every payload of level 1 is what 0.1.0 wrote."""
MEMBERS_MAX: Final = 32
"""Most members (voters and learners) of a configuration."""


def encode_configuration(configuration: Configuration) -> bytes:
    """The payload of a CONFIG entry."""
    c = configuration
    full_min = c.full_min | (_REDUCED_COMMIT if c.reduced_commit else 0)
    parts = [_HEAD.pack(c.epoch, c.next_member_id, full_min, len(c.members), len(c.outgoing))]
    for m in c.members:
        name, peer, client = m.name.encode(), m.peer_address.encode(), m.client_address.encode()
        flags = (m.member_id, m.incarnation, m.voter, m.role, m.phase, m.promote_when_caught_up)
        parts.append(_MEMBER.pack(*flags, len(name), len(peer), len(client)))
        parts += [name, peer, client]
    parts += [struct.pack(">Q", node_id) for node_id in c.outgoing]
    return b"".join(parts)


def decode_configuration(payload: bytes) -> Configuration:
    """The configuration in a CONFIG entry's payload; CorruptLog if it is anything else."""
    try:
        return _decode(payload)
    except (struct.error, ValueError) as error:
        raise CorruptLog(f"configuration payload of {len(payload)} bytes does not decode: {error}") from error


def _decode(payload: bytes) -> Configuration:
    epoch, next_id, full_min, member_count, outgoing_count = _HEAD.unpack_from(payload)
    if member_count > MEMBERS_MAX or outgoing_count > MEMBERS_MAX:
        raise ValueError(f"more than {MEMBERS_MAX} members")
    at, members = _HEAD.size, []
    for _ in range(member_count):
        node_id, incarnation, voter, role, phase, auto, *lengths = _MEMBER.unpack_from(payload, at)
        at += _MEMBER.size
        texts = []
        for length in lengths:
            if at + length > len(payload):
                raise ValueError("text beyond the end")
            texts.append(payload[at : at + length].decode())
            at += length
        where = (NodeId(node_id), texts[0], texts[1], texts[2], incarnation)
        members.append(Member(*where, bool(voter), MemberRole(role), MemberPhase(phase), bool(auto)))
    outgoing = struct.unpack_from(f">{outgoing_count}Q", payload, at)
    if at + 8 * outgoing_count != len(payload):
        raise ValueError("bytes left over")
    ids = tuple(map(NodeId, outgoing))
    reduced = bool(full_min & _REDUCED_COMMIT)
    return Configuration(epoch, tuple(members), NodeId(next_id), full_min & ~_REDUCED_COMMIT, ids, reduced)
