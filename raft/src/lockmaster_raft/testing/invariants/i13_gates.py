"""raft.md §6 and I13: gate states equal at an index, no member below an active level, no report that must not count."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from lockmaster_raft.entry import GATE, Entry
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Base, HardState, Ready
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host

_GATE: Final = struct.Struct(">BHQ")
_FENCE, _ACTIVATE, _CANCEL = 1, 2, 3


class Gates(Invariant):
    """A dumb twin of the fold, over the gate entries in the order in which they were first committed."""

    rule = "I13 gates"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._on = checker.cluster.gates.on
        level = checker.cluster.gates.level_genesis
        self._twin: list[tuple[int, int, int]] = [(0, level, level)]
        """(index, active, fence) from there on."""
        self._seen: dict[int, int] = {}
        """Each host's highest commit index ever."""

    def _at(self, index: int) -> tuple[int, int, int]:
        return next(state for state in reversed(self._twin) if state[0] <= index)

    def commits(self, host: Host, node: Node, old: int, new: int) -> None:
        """The first to commit a gate entry extends the twin; all must agree with it."""
        if not self._on:
            return
        self._seen[host.number] = max(self._seen.get(host.number, 0), new)
        shadow = self.checker.shadow[host.number]
        for entry in shadow.log[max(0, old - shadow.base.index) : max(0, new - shadow.base.index)]:
            if entry.kind is GATE:
                if entry.index > self._twin[-1][0]:
                    self._extend(entry)
                self._compare(host, node, entry.index)
        self._compare(host, node, new)

    def _extend(self, entry: Entry) -> None:
        operation, level, _ = _GATE.unpack(entry.payload)
        _, active, _ = self._twin[-1]
        after = {_FENCE: (active, level), _ACTIVATE: (level, level), _CANCEL: (active, active)}
        self._twin.append((entry.index, *after.get(operation, (level - 1, level - 1))))
        self.checker.cluster.count(f"gate {operation} committed")

    def _compare(self, host: Host, node: Node, index: int) -> None:
        levels = node.levels_at(index)  # type: ignore[arg-type]
        found, twin = (levels.index, levels.active, levels.fence), self._at(index)
        if found != twin:
            self.fail(f"host {host.number} has gate state {found} at {index}; it is {twin}")

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """A leader's ACTIVATE stands on promises that are on the disks; a base carries the state at its index."""
        write = ready.persist
        if not self._on or write is None:
            return
        if write.base is not None:
            self._check_base(host, write.base)
        if node.role is LEADER:
            for entry in write.entries:
                if entry.kind is GATE and entry.term == node.term:
                    operation, level, fence = _GATE.unpack(entry.payload)
                    if operation == _ACTIVATE:
                        self._check_promises(host, node, level, fence)

    def _check_base(self, host: Host, base: Base) -> None:
        levels = base.levels
        found, twin = (levels.index, levels.active, levels.fence), self._at(base.index)
        if found != twin:
            self.fail(f"host {host.number} writes base {base.index} with gate state {found}; it is {twin}")

    def _check_promises(self, leader: Host, node: Node, level: int, fence: int) -> None:
        by_incarnation = {host.incarnation: host for host in self.checker.cluster.hosts}
        for member in node.configuration.members:
            host = by_incarnation[member.incarnation]
            promised = host.disk.surely_level if host.disk is not None else 0
            if promised < level:
                text = f"leader {leader.number} activates level {level}; host {host.number} surely promised {promised}"
                self.fail(text)
            if self._seen.get(host.number, 0) < fence:
                text = f"leader {leader.number} activates on FENCE {fence}; host {host.number} never committed it"
                self.fail(text)

    def booting(self, host: Host, hard: HardState) -> None:
        """No binary below what its guard file promises, nor below a level that it has seen active."""
        if not self._on or host.disk is None:
            return
        index, active, _ = self._twin[-1]
        if self._seen.get(host.number, 0) >= max(index, 1) and min(host.disk.level, host.level_max) < active:
            text = f"host {host.number} boots a binary of level {host.level_max} with level {host.disk.level} promised"
            self.fail(f"{text}; level {active} is active since {index}")
