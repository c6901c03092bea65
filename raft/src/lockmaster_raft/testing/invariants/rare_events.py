"""No rule: counts the rare events that a run should meet (raft.md §7), so that coverage can be printed and asserted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from lockmaster_raft.entry import CONFIG
from lockmaster_raft.membership import MemberPhase, MemberRole, decode_configuration
from lockmaster_raft.messages import Coverage, FetchRangeReply, InstallAnchor, Message
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant
from lockmaster_raft.testing.invariants.i4_caretaker import is_witness_leader

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.membership import Configuration, Member
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready, Send
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host

RARE: Final = (
    "caretaker elected",
    "caretaker handed over",
    "caretaker applied its own P4",
    "DEMOTING voter elected",
    "P1 appended",
    "P4 appended",
    "D1 appended",
    "D2 appended",
    "promotion aborted at fetching",
    "promotion aborted at opening",
    "promotion aborted at replaying",
    "promotion aborted at finishing",
    "promotion aborted at ready",
    "promotion aborted unseen",
    "demotion aborted",
    "crashed at fetching",
    "crashed at opening",
    "crashed at replaying",
    "crashed at finishing",
    "crashed at ready",
    "booted with a side state",
    "joint entered",
    "joint left",
    "anchor sent",
    "witness truncation held back by I6",
    "witness moved its log's start",
    "configuration rolled back in a role change",
    "alarm:witness_log",
    "torn frame cut at boot",
    "torn guard slot mended at boot",
    "stopped: EIO at a write",
    "stopped: ENOSPC at a write",
    "stopped: EIO at a read",
    "stopped: EIO in the state store",
    "stopped: corrupt entry read",
    "stopped: corrupt block read",
    "stopped: own chunk damaged",
    "stopped: scrub found damage",
    "damaged chunk thrown away",
    "no start on a full disk",
    "refused on a nearly full disk",
    "refused to start: amnesia",
    "refused to start: corrupt journal",
    "refused to start: corrupt state",
    "refused member replaced",
    "fault:slow_sync",
    "disk:hang",
    "quorum healed alone",
    "range served by a follower",
    "range served by a witness",
    "ranges_resumed",
    "ranges_fallen_back",
    "fetches_resumed",
    "fetches_of_several_sources",
    "gate 1 committed",
    "gate 2 committed",
    "gate 3 committed",
    "gate 4 committed",
    "gate fence refused",
    "gate activate refused",
    "binary refused to boot",
)
"""Every one must happen: `make sim` counts them, CI's list of seeds meets each."""
HELD_BACK_ENTRIES: Final = 20
SEEDS_PER_EVENT_MAX: Final = 250
"""A long run that meets an event less than once in so many seeds fails (20 per 5,000, reliability.md)."""
SEEDS_JUDGED_MIN: Final = 1000
"""Shorter runs are not judged by it."""


def too_rare(seeds: int, counts: Counter[str]) -> list[str]:
    """The events that a run of so many seeds met too seldom."""
    if seeds < SEEDS_JUDGED_MIN:
        return []
    return [event for event in RARE if counts[event] < seeds // SEEDS_PER_EVENT_MAX]


class RareEvents(Invariant):
    """Counts; never fails."""

    rule = "coverage"
    messages: tuple[type[Message], ...] = (Coverage, FetchRangeReply, InstallAnchor)

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._caretakers: dict[int, int] = {}
        self._epochs: dict[int, int] = {}

    def crashing(self, host: Host, node: Node) -> None:
        """Where is a promotion cut?"""
        if node.promotion is not None:
            self.checker.cluster.count(f"crashed at {node.promotion[1]}")
        self.checker.cluster.counts.update(node.fetch_counts)

    def finished(self) -> None:
        """What fetches did in the boots that go on; those of the others were counted when they ended."""
        for host in self.checker.cluster.hosts:
            if host.node is not None:
                self.checker.cluster.counts.update(host.node.fetch_counts)

    def led(self, host: Host, node: Node) -> None:
        """Who leads?"""
        own = node.own_member
        if is_witness_leader(host, node):
            self.checker.cluster.count("caretaker elected")
            self._caretakers[host.number] = node.term
        elif own is not None and own.phase is MemberPhase.DEMOTING:
            self.checker.cluster.count("DEMOTING voter elected")
        if any(term == node.term - 1 and number != host.number for number, term in self._caretakers.items()):
            self.checker.cluster.count("caretaker handed over")

    def commits(self, host: Host, node: Node, old: int, new: int) -> None:
        """A caretaker becomes an ordinary leader by its own P4."""
        if self._caretakers.get(host.number) == node.term and node.role is LEADER and node.serves_state:
            del self._caretakers[host.number]
            self.checker.cluster.count("caretaker applied its own P4")

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Role changes by the leader's CONFIG entries; roll-backs by the epoch in force."""
        epoch = node.configuration.epoch
        if epoch < self._epochs.get(host.number, 0) and node.configuration.changing != node.own_member:
            self.checker.cluster.count("configuration rolled back in a role change")
        self._epochs[host.number] = epoch
        if ready.persist is None or node.role is not LEADER:
            return
        for entry in ready.persist.entries:
            if entry.kind is CONFIG and entry.term == node.term:
                before = node.configuration_at(entry.index - 1)[1]  # type: ignore[arg-type]
                self._change(before, decode_configuration(entry.payload))

    def _change(self, before: Configuration, after: Configuration) -> None:
        count = self.checker.cluster.count
        if after.outgoing and not before.outgoing:
            count("joint entered")
        elif before.outgoing and not after.outgoing:
            count("joint left")
            here = {m.member_id for m in after.members}
            gone = {m.member_id for m in before.members} - here
            if any(host.refused and host.member_id in gone for host in self.checker.cluster.hosts):
                count("refused member replaced")
        old, new = before.changing, after.changing
        if old is None and new is not None:
            count("P1 appended" if new.phase is MemberPhase.PROMOTING else "D1 appended")
        elif old is not None and new is None:
            self._ended(old, after.member(old.member_id))

    def _ended(self, old: Member, now: Member | None) -> None:
        count = self.checker.cluster.count
        role = now.role if now is not None else None
        if old.phase is MemberPhase.DEMOTING:
            count("D2 appended" if role is MemberRole.WITNESS else "demotion aborted")
        elif role is MemberRole.FULL:
            count("P4 appended")
        else:
            count(f"promotion aborted {self._stage_of(old)}")

    def _stage_of(self, member: Member) -> str:
        host = self.checker.cluster.hosts[int.from_bytes(member.incarnation, "big") - 1]
        running = host.node.promotion if host.node is not None else None
        return f"at {running[1]}" if running is not None else "unseen"

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """What a leader lets witnesses do."""
        message = send.message
        if isinstance(message, Coverage):
            if message.index + HELD_BACK_ENTRIES < node.commit_index:
                self.checker.cluster.count("witness truncation held back by I6")
        elif isinstance(message, FetchRangeReply) and message.entries and node.role is not LEADER:
            kind = "follower" if host.state is not None else "witness"
            self.checker.cluster.count(f"range served by a {kind}")
        elif isinstance(message, InstallAnchor):
            self.checker.cluster.count("anchor sent")
