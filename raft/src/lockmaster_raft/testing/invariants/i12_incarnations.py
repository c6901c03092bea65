"""I12: a member id is one data directory for ever, and never comes back with an empty disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.ready import HardState
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class Incarnations(Invariant):
    """member id -> host; host -> where its log began at the last boot."""

    rule = "I12 incarnations"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._hosts: dict[int, int] = {}
        self._bases: dict[int, int] = {}

    def booting(self, host: Host, hard: HardState) -> None:
        """One id, one directory; its log's start never moves back; a lost machine stays lost."""
        if self._hosts.setdefault(host.member_id, host.number) != host.number:
            self.fail(f"hosts {self._hosts[host.member_id]} and {host.number} are both member {host.member_id}")
        base = host.disk.store.base.index if host.disk is not None else 0
        if base < self._bases.get(host.number, 0):
            self.fail(f"host {host.number} boots with its log from {base}, it was from {self._bases[host.number]}")
        self._bases[host.number] = base
        if host.lost:
            self.fail(f"host {host.number} is lost and boots")
