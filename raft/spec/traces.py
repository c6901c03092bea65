"""Writes what simulated nodes did as lines of abstract states, for TraceRaft.tla to check.

Theory of operation. A seed of the simulator is run with a checker that also keeps, after every step of a node, the
state that the specification knows: term, role, vote, commit index, log (terms, kinds, configurations). A line is
written when that state differs from the node's last one; the log is told as "the first `keep` entries as before, then
`add`", so a line stays short. README.md gives every field.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import Entry, EntryKind
from lockmaster_raft.events import Event
from lockmaster_raft.membership import Configuration, MemberPhase, MemberRole, decode_configuration
from lockmaster_raft.node import Node
from lockmaster_raft.ready import Base, HardState, Ready, Role
from lockmaster_raft.testing.application import load_application
from lockmaster_raft.testing.checker import Checker, Violation
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.host import Host

Word = list[Any]
"""One log entry of a trace: [term, kind] or [term, "C", configuration]."""
ROLES = {Role.LEADER: "L", Role.CANDIDATE: "C"}
KINDS = {EntryKind.NOOP: "N", EntryKind.DATA: "D", EntryKind.CONFIG: "C", EntryKind.GATE: "G"}
PHASES = {MemberPhase.PROMOTING: "promoting", MemberPhase.DEMOTING: "demoting"}


class TraceFull(Exception):
    """The trace has as many lines as were asked for."""


def abstract_configuration(configuration: Configuration) -> dict[str, Any]:
    """What the specification knows of a configuration: each member's kind, and the outgoing voters of a joint one."""
    members = {}
    for m in configuration.members:
        kind = "witness" if m.role is MemberRole.WITNESS else "full"
        if not m.voter:
            kind = "wlearner" if m.role is MemberRole.WITNESS else "learner"
        if m.phase is MemberPhase.LEAVING:
            kind = "wleaving" if m.role is MemberRole.WITNESS else "leaving"
        members[str(m.member_id)] = PHASES.get(m.phase, kind)
    return {"m": members, "o": [int(v) for v in configuration.outgoing], "reduced": configuration.reduced_commit}


@dataclass(slots=True)
class _Seen:
    """One member as its last line told it."""

    log: list[Word] = field(default_factory=list)
    hard: tuple[int, int, str, int] = (0, 0, "F", 0)
    synced: bool = False
    last_write: int = 0
    """Sequence of this boot's newest Persist."""


class TracingChecker(Checker):
    """The simulator's checker, which also writes the trace."""

    def __init__(self, cluster: Cluster, lines_max: int) -> None:
        super().__init__(cluster)
        self.lines: list[dict[str, Any]] = []
        self._lines_max = lines_max
        self._told: dict[int, _Seen] = {}
        self._entries: dict[tuple[int, int], Word] = {}
        """(index, term) -> the entry: log matching makes it unique."""

    def genesis(self, base: Base) -> None:
        """The base at index 1 counts as a CONFIG entry."""
        super().genesis(base)
        self._entries[(base.index, base.term)] = [base.term, "C", abstract_configuration(base.configuration)]

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """After every step: a line, if the abstract state changed."""
        super().stepped(host, node, event, ready)
        if ready.persist is not None:
            for entry in ready.persist.entries:
                self._entries.setdefault((entry.index, entry.term), _word(entry))
            self._told[host.member_id].last_write = ready.persist.seq
        self._tell(host, node.term, node.voted_for, ROLES.get(node.role, "F"), node.commit_index, type(event))

    def booting(self, host: Host, hard: HardState) -> None:
        """A host starts from its disks; what it has not written is gone."""
        super().booting(host, hard)
        seen = self._told.setdefault(host.member_id, _Seen())
        seen.last_write = 0
        self._tell(host, hard.term, hard.voted_for, "F", host.boot_index, None)

    def _log(self, host: Host) -> list[Word]:
        shadow = self.shadow[host.number]
        known = [self._entries[(i, self.committed[i][0])] for i in range(1, shadow.base.index + 1)]
        return known + [self._entries[(e.index, e.term)] for e in shadow.log]

    def _tell(self, host: Host, term: int, voted: int, role: str, commit: int, event: type[Event] | None) -> None:
        seen = self._told[host.member_id]
        synced = host.disk is not None and seen.last_write <= host.disk.durable_seq
        log = self._log(host)
        keep = 0
        while keep < min(len(log), len(seen.log)) and log[keep] is seen.log[keep]:
            keep += 1
        hard = (int(term), int(voted), role, int(commit))
        same = hard == seen.hard and keep == len(log) == len(seen.log)
        if same and synced == seen.synced and event is not None:
            return
        line = {"node": int(host.member_id), "event": "Boot" if event is None else event.__name__, "term": hard[0]}
        line |= {"voted": hard[1], "role": role, "commit": hard[3], "synced": synced, "keep": keep, "add": log[keep:]}
        seen.log, seen.hard, seen.synced = log, hard, synced
        self.lines.append(line)
        if len(self.lines) >= self._lines_max:
            raise TraceFull


def _word(entry: Entry) -> Word:
    if entry.kind is EntryKind.CONFIG:
        return [int(entry.term), "C", abstract_configuration(decode_configuration(entry.payload))]
    return [int(entry.term), KINDS[entry.kind]]


def sample(seed: int, lines_max: int) -> list[dict[str, Any]]:
    """The first `lines_max` lines of a seed, with few client operations and many faults, so that they hold elections.

    Raises Violation if the simulator itself finds something wrong before.
    """
    cluster = Cluster(seed, load_application("register"))
    mix = cluster.mix
    cluster.mix = replace(mix, operation_interval_ns=4 * SECOND, fault_interval_ns=SECOND, clients=3)
    checker = TracingChecker(cluster, lines_max)
    cluster.checker = checker
    result = cluster.run()
    if result.failure and "TraceFull" not in result.failure and "too little" not in result.failure:
        raise Violation("trace", f"seed {seed}: {result.failure}")
    return checker.lines


def dump(lines: list[dict[str, Any]]) -> str:
    """The trace as JSON lines."""
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
