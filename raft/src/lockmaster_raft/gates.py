"""Level gates: features that need every member (raft.md §6). Pure: entries in, the gate state at an index out.

Theory of operation. A level L becomes usable in three steps. FENCE(L) is appended only when every member, the down
ones too, has said in this term that its binary knows L; from then on no member that doesn't may join. Each member
that knows L writes it to its guard file and FORMAT, durably, and reports so, naming the FENCE's index. ACTIVATE(L) is
appended when all have; from its index on L's features are legal. CANCEL(L) takes a FENCE back until then; DEACTIVATE
lowers the active level when nothing of it is in use.

Laws.
1. The gate state is a fold over the GATE entries, by index: equal on every member at an equal index, and what a BASE
   or a snapshot carries is the fold at its own index.
2. `fence == active` outside of a fence; `fence > active` while one stands, and then `index` is that FENCE's index.
3. ACTIVATE and CANCEL name the FENCE they end: a report or a request from before a CANCEL fits nothing after it.
4. A binary passes a FENCE(L) and a CANCEL(L) with L above its own maximum (it may have been rolled back after the
   CANCEL) and promises nothing; an ACTIVATE(L) above it, or an operation it does not know, stops it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from lockmaster_raft.errors import CorruptLog, LevelUnsupported
from lockmaster_raft.ids import NO_INDEX, Index, NodeId
from lockmaster_raft.membership import WITNESS_LEVEL, Configuration, Levels, MemberPhase, MemberRole

LEVEL_LIMIT: Final = 0xFFFF
"""Highest level there can be: message headers carry levels in 16 bits."""

_GATE: Final = struct.Struct(">BHQ")

History = Sequence[tuple[Index, Levels]]
"""(index, gate state from there on), ascending; the first is the log's base, the others its GATE entries."""


class GateOperation(IntEnum):
    """What a GATE entry does; the numbers are log format."""

    FENCE = 1
    ACTIVATE = 2
    CANCEL = 3
    DEACTIVATE = 4


@dataclass(frozen=True, slots=True)
class Gate:
    """The payload of a GATE entry. `fence_index` is that of the FENCE which ACTIVATE and CANCEL end, else 0."""

    operation: GateOperation
    level: int
    fence_index: Index = NO_INDEX


@dataclass(frozen=True, slots=True)
class MemberLevels:
    """What a leader knows of one member's levels; all 0 until the member has answered it in its term."""

    member_id: NodeId
    name: str
    level_min: int
    level_max: int
    fence_index: Index
    """Index of the standing FENCE whose level is durable in this member's guard file, or 0."""


def encode_gate(gate: Gate) -> bytes:
    """The payload of a GATE entry: operation 1 byte, level 2, FENCE's index 8, big-endian."""
    return _GATE.pack(gate.operation, gate.level, gate.fence_index)


def decode_gate(payload: bytes) -> Gate:
    """The gate in a GATE entry's payload. Raises LevelUnsupported for an operation that this binary does not know."""
    if not payload or len(payload) != _GATE.size:
        raise LevelUnsupported(f"a gate entry of {len(payload)} bytes; this binary reads {_GATE.size}")
    operation, level, fence_index = _GATE.unpack(payload)
    if operation not in set(GateOperation):
        raise LevelUnsupported(f"gate operation {operation} is not known to this binary: start a newer one")
    return Gate(GateOperation(operation), level, Index(fence_index))


def fold(levels: Levels, index: Index, gate: Gate) -> Levels:
    """The gate state from `index` on. Raises CorruptLog for an entry that no leader could have appended there."""
    standing = levels.fence > levels.active
    fits: bool
    match gate.operation:
        case GateOperation.FENCE:
            fits = not standing and gate.level > levels.active and not gate.fence_index
            after = Levels(levels.active, gate.level, index)
        case GateOperation.ACTIVATE:
            fits = standing and (gate.level, gate.fence_index) == (levels.fence, levels.index)
            after = Levels(gate.level, gate.level, index)
        case GateOperation.CANCEL:
            fits = standing and (gate.level, gate.fence_index) == (levels.fence, levels.index)
            after = Levels(levels.active, levels.active, index)
        case GateOperation.DEACTIVATE:
            fits = not standing and gate.level == levels.active > 1 and not gate.fence_index
            after = Levels(gate.level - 1, gate.level - 1, index)
    if not fits or index <= levels.index:
        raise CorruptLog(f"entry {index}: {gate.operation.name}({gate.level}) does not follow {levels}")
    return after


def check_supported(levels: Levels, level_min: int, level_max: int, where: str) -> None:
    """Raises LevelUnsupported if a binary of these levels may not run with this gate state (law 4)."""
    if levels.active > level_max:
        raise LevelUnsupported(
            f"{where}: level {levels.active} is active; this binary knows up to {level_max}: start a newer one"
        )
    if levels.active < level_min:
        raise LevelUnsupported(
            f"{where}: level {levels.active} is active; this binary needs {level_min} or above: start an older one"
        )


def promise_bounds(history: History, commit: int) -> tuple[int, int]:
    """(due, keep): the guard file must say `due` or more; it may be lowered down to `keep`, never below.

    `due` counts every level that was active anywhere in the log (an older binary could not replay it) and the FENCE
    that stands at `commit`. `keep` adds the fences above `commit`: after a restart the commit index may be below a
    FENCE that this member has reported before, and that report still counts.
    """
    committed = [levels for at, levels in history if at <= commit]  # the base is
    due = max(committed[-1].fence, max(levels.active for _, levels in history))
    return due, max([due, *(levels.fence for at, levels in history if at > commit)])


def deactivated_at(history: History, commit: int) -> int:
    """Index of the last committed DEACTIVATE in the log, or 0: up to there it keeps older binaries out."""
    pairs = zip(history[1:], history, strict=False)
    return max((at for (at, now), (_, before) in pairs if at <= commit and now.active < before.active), default=0)


def why_level_in_use(level: int, configuration: Configuration) -> str:
    """What of `level`'s own features is in use, or "": the condition of DEACTIVATE(level). Pure."""
    if level == WITNESS_LEVEL:
        for member in configuration.members:
            if member.role is MemberRole.WITNESS or member.phase is not MemberPhase.STEADY:
                what = "is a witness" if member.role is MemberRole.WITNESS else f"is {member.phase.name}"
                return f"member {member.member_id} ({member.name}) {what}"
        if configuration.outgoing:
            return f"the joint change from voters {list(configuration.outgoing)} is not left yet"
        if configuration.reduced_commit:
            return "the reduced commit quorum is on"
    return ""


def already(operation: GateOperation, level: int, levels: Levels) -> bool:
    """Whether this gate state is what the request wants: a repeated request changes nothing and succeeds."""
    match operation:
        case GateOperation.FENCE:
            return levels.fence > levels.active and levels.fence == level
        case GateOperation.ACTIVATE:
            return levels.active == level
        case GateOperation.CANCEL:
            return levels.fence == levels.active < level
        case GateOperation.DEACTIVATE:
            return levels.fence == levels.active == level - 1


def why_not(
    operation: GateOperation,
    level: int,
    levels: Levels,
    members: Sequence[MemberLevels],
    configuration: Configuration,
) -> str:
    """Why a leader may not append this now, or "". Names the members in the way, and their numbers."""
    standing = levels.fence > levels.active
    fence = f"a FENCE for level {levels.fence} stands at index {levels.index}"
    if not 1 < level <= LEVEL_LIMIT:
        return f"a gate's level is 2 to {LEVEL_LIMIT}, not {level}"
    if operation in (GateOperation.FENCE, GateOperation.DEACTIVATE) and standing:
        return f"{fence}: activate or cancel it first"
    if operation is GateOperation.FENCE:
        if level <= levels.active:
            return f"level {levels.active} is active already"
        low = [_knows(m) for m in members if m.level_max < level]
        return f"FENCE({level}) needs level {level} of every member: {'; '.join(low)}" if low else ""
    if operation is GateOperation.DEACTIVATE:
        if level != levels.active:
            return f"the active level is {levels.active}, not {level}"
        high = [_needs(m) for m in members if not 0 < m.level_min < level]
        if high:
            return f"DEACTIVATE({level}) needs every member to run below it: {'; '.join(high)}"
        used = why_level_in_use(level, configuration)
        return f"level {level} is in use: {used}" if used else ""
    if level <= levels.active:
        return f"level {levels.active} is active: {operation.name}({level}) comes too late"
    if not standing or level != levels.fence:
        return f"no FENCE for level {level} stands" + (f"; {fence}" if standing else "")
    if operation is GateOperation.CANCEL:
        return ""
    late = [_promised(m) for m in members if m.fence_index != levels.index]
    needs = f"ACTIVATE({level}) needs the report of every member on the FENCE at index {levels.index}"
    return f"{needs}: {'; '.join(late)}" if late else ""


def _who(m: MemberLevels) -> str:
    return f"member {m.member_id} ({m.name})"


def _knows(m: MemberLevels) -> str:
    return f"{_who(m)} knows up to {m.level_max}" if m.level_max else f"{_who(m)} has not reported in this term"


def _needs(m: MemberLevels) -> str:
    return f"{_who(m)} needs {m.level_min} or above" if m.level_min else f"{_who(m)} has not reported in this term"


def _promised(m: MemberLevels) -> str:
    return f"{_knows(m)} and reports index {m.fence_index}" if m.level_max else _knows(m)
