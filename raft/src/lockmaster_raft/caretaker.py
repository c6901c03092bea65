"""A leader without a full member's privileges (I4): it appends its NOOP, brings a full replica up and hands over.

A witness that leads proposes nothing, serves nothing, sends no snapshot and truncates nothing. It tries the full
voters that have its last index one after the other, each for an election timeout. While one of them still comes
forward it goes on; without that for CARETAKER_TIMEOUTS it steps down and alarms. A DEMOTING voter that was elected
hands over in the same way, and aborts its demotion where nobody takes over (I9, role_changes.py).
"""

from __future__ import annotations

from lockmaster_raft import transfer
from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.ids import NO_NODE, NodeId
from lockmaster_raft.progress import Progress
from lockmaster_raft.roles import CARETAKER_TIMEOUTS, become_follower


def hand_over(core: Core) -> None:
    """Begin or pursue the hand-over; after every ack and in every round of a caretaker."""
    if not core.is_caretaker:
        _relieved(core)
        return
    full = [p for p in core.progress.values() if _may_take_over(core, p)]
    best = max((p.match for p in full), default=core.caretaker_best)
    if best > core.caretaker_best:
        core.caretaker_best = best
        core.caretaker_until = core.now + CARETAKER_TIMEOUTS * core.config.election_timeout_ns
    if core.transfer is not None:
        transfer.pursue(core)
        return
    target = _target(core, full)
    if target != NO_NODE:
        core.caretaker_tried.add(target)
        transfer.begin(core, None, target)


def _may_take_over(core: Core, p: Progress) -> bool:
    member = core.configuration.member(p.member_id)
    return member is not None and member.voter and not core.is_witness(p.member_id)


def _target(core: Core, full: list[Progress]) -> NodeId:
    """A live one with the whole log: privileged ones first, then those not tried yet, then the lowest id."""
    timeout = core.config.election_timeout_ns
    there = [p for p in full if p.match == core.log.last_index and core.now - p.contact < timeout]
    if there and all(p.member_id in core.caretaker_tried for p in there):
        core.caretaker_tried.clear()

    def rank(p: Progress) -> tuple[bool, bool, NodeId]:
        return p.member_id in core.caretaker_tried, not core.is_full_voter(p.member_id), p.member_id

    return min(there, key=rank).member_id if there else NO_NODE


def _relieved(core: Core) -> None:
    """Its own P4 (or the abort of its demotion) is committed: an ordinary leader from here on."""
    if core.caretaker_until != NEVER:
        core.caretaker_until = NEVER
        core.caretaker_tried.clear()


def expire(core: Core) -> bool:
    """True if the time is over: this node leads no more."""
    if core.now < core.caretaker_until:
        return False
    if not core.is_caretaker:
        _relieved(core)
        return False
    core.alarm("caretaker_gave_up", f"member {core.node_id} found no full replica to hand term {core.term} to")
    become_follower(core, core.term, NO_NODE)
    return True
