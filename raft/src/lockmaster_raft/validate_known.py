"""What a leader says against what this node knows: its log, its configurations, its promotion.

Theory of operation. validate.py looks at a message alone; here it is held against what is committed here. By Leader
Completeness (§5.4.3) whoever leads a term that is not below ours holds every entry that is committed here, so a message
that has another one in its place comes from no leader. A CONFIG or GATE entry above that follows the one before it in a
way that leaders keep to. Nobody is refused for being unknown, or a learner as far as this node knows: it may lag, and
that member may be a voter, and the leader, by a configuration that only its messages bring.

Laws: nothing here changes anything, and all of it comes before the sender is followed, so a refused message moves
neither term nor leader contact; what is refused no leader of any release could have sent to this node.
"""

from __future__ import annotations

from typing import Final, assert_never

from lockmaster_raft.core import Core, SideStage
from lockmaster_raft.entry import CONFIG, GATE, Entry
from lockmaster_raft.errors import CorruptLog
from lockmaster_raft.gates import check_supported, decode_gate, fold
from lockmaster_raft.ids import NO_NODE, NodeId
from lockmaster_raft.membership import Configuration, decode_configuration
from lockmaster_raft.messages import (
    AppendEntries,
    CatchUp,
    Coverage,
    Header,
    Heartbeat,
    InstallAnchor,
    InstallSnapshot,
    Retain,
    TimeoutNow,
)

FromLeader = AppendEntries | Heartbeat | InstallSnapshot | InstallAnchor | Coverage | CatchUp | Retain | TimeoutNow
CONTRADICTS: Final = "contradicts what is committed"
WITHOUT_STATE: Final = "configuration that makes this member full without its state"
OLD_CONFIGURATION: Final = "configuration older than the committed one"


def why_not_from_leader(core: Core, m: FromLeader) -> str | None:
    """Why no leader of header.term, which is not below ours, can have sent this to this node; or None."""
    why = _why_not_leader(core, m.header)
    if why is not None:
        return why
    match m:
        case AppendEntries():
            return _why_not_append(core, m)
        case InstallSnapshot():
            return _why_not_place(core, m.last_index, m.last_term, m.configuration)
        case InstallAnchor():
            return _why_not_anchor(core, m)
        case CatchUp():
            return CONTRADICTS if _contradicts_range(core, m) else None
        case Heartbeat() | Coverage() | Retain() | TimeoutNow():
            return None
        case _:
            assert_never(m)


# --- who leads ------------------------------------------------------------------------------------------------------


def _why_not_leader(core: Core, header: Header) -> str | None:
    """Why the sender can't lead that term: it was removed for good, or another leads it and one of the two is no voter.

    Two leaders of one term that may both vote are let through: `follower.follow` stops the node, for a law is broken.
    """
    sender = header.sender
    if header.term == core.term and core.leader_id != NO_NODE:
        if sender == core.leader_id or (_may_vote(core, sender) and _may_vote(core, core.leader_id)):
            return None
        return "leader message of no voter"
    committed = core.committed_configuration
    there = committed.member(sender) is not None or core.configuration.member(sender) is not None
    # I12: an id that was minted and is gone never comes back.
    return None if there or sender >= committed.next_member_id else "leader message of a removed member"


def _may_vote(core: Core, member_id: NodeId) -> bool:
    """Whether that member votes by any configuration that the log holds."""
    return any(member_id in configuration.deciders for _, configuration in core.log.configurations)


# --- entries --------------------------------------------------------------------------------------------------------


def _why_not_append(core: Core, m: AppendEntries) -> str | None:
    log, prev = core.log, m.prev_index
    if prev > log.last_index:
        return None
    if prev >= log.base.index and log.term(prev) != m.prev_term:
        return CONTRADICTS if prev <= core.commit_index else None
    return why_not_entries(core, m.entries)


def why_not_entries(core: Core, entries: tuple[Entry, ...]) -> str | None:
    """Why no leader's log has these entries, the first of which joins here; or None.

    Raises LevelUnsupported for a GATE entry that stops this binary (raft.md §6).
    """
    if entries and entries[0].index <= core.commit_index:
        # By Log Matching the last one that is committed here speaks for those before it.
        known = entries[min(core.commit_index, entries[-1].index) - entries[0].index]
        if is_other(core, known.index, known.term):
            return CONTRADICTS
    changes = [e for e in entries if e.kind is CONFIG or e.kind is GATE]
    first = _first_new(core, entries) if changes else None
    if first is None:
        return None
    changes = [e for e in changes if e.index >= first]
    if _contradicts_gates(core, first - 1, changes):
        return "gate entry that follows nothing"
    return _why_not_configurations(core, first - 1, changes)


def _first_new(core: Core, entries: tuple[Entry, ...]) -> int | None:
    """Index of the first entry that `follower.merge` will append: those before it are in the log, and stay."""
    last = core.log.last_index
    later = (e for e in entries if e.index > core.commit_index)
    return next((e.index for e in later if e.index > last or core.log.term(e.index) != e.term), None)


def _contradicts_gates(core: Core, at: int, changes: list[Entry]) -> bool:
    """Whether a GATE entry after `at` is one that no leader could have appended there."""
    levels = core.log.levels_at(at)
    try:
        for entry in changes:
            if entry.kind is GATE:
                levels = fold(levels, entry.index, decode_gate(entry.payload))
                check_supported(levels, core.level_min, core.level_max, f"entry {entry.index}")
    except CorruptLog:
        return True
    return False


def _why_not_configurations(core: Core, at: int, changes: list[Entry]) -> str | None:
    """Why a CONFIG entry after `at` is no change that a leader makes there.

    P4 waits for the side state of its own P1, and what was READY stays so until P4 or the abort is committed, a crash
    included.
    """
    old_at, old = core.log.configuration_at(at)
    for entry in changes:
        if entry.kind is CONFIG:
            new = decode_configuration(entry.payload)
            if not _is_next(old, new):
                return "configuration entry that follows nothing"
            if _is_full_without_state(core, old_at, old, new):
                return WITHOUT_STATE
            old_at, old = entry.index, new
    return None


def _is_next(old: Configuration, new: Configuration) -> bool:
    """In every release a change raises the epoch by one, and who joins gets the one id that it mints (I12)."""
    minted = {m.member_id for m in new.members} - {m.member_id for m in old.members}
    if new.epoch != old.epoch + 1 or not 0 <= new.next_member_id - old.next_member_id <= 1:
        return False
    return all(member_id >= old.next_member_id for member_id in minted)


def _is_full_without_state(core: Core, old_at: int, old: Configuration, new: Configuration) -> bool:
    """Whether `new` makes this member, a witness in `old`, full (P4) while it has no state for that (side.settle)."""
    before, after, side = old.member(core.node_id), new.member(core.node_id), core.side
    if before is None or before.is_full or after is None or not after.is_full:
        return False
    if side is None:
        return not core.machine or old_at > core.commit_index  # else it was adopted before a crash
    return side.stage is not SideStage.READY or side.epoch != old.epoch


# --- places in the log ----------------------------------------------------------------------------------------------


def is_other(core: Core, index: int, term: int) -> bool:
    """Whether another entry is committed at this place, as far as the log still tells."""
    return core.log.base.index <= index <= core.commit_index and core.log.term(index) != term


def _why_not_place(core: Core, index: int, term: int, configuration: Configuration) -> str | None:
    """Why the log has no such entry as a snapshot or an anchor stands at, or not that configuration there."""
    if is_other(core, index, term):
        return CONTRADICTS
    committed = core.committed_configuration
    old = configuration.epoch < committed.epoch or configuration.next_member_id < committed.next_member_id
    return OLD_CONFIGURATION if old and index > core.commit_index else None


def _why_not_anchor(core: Core, m: InstallAnchor) -> str | None:
    why = _why_not_place(core, m.index, m.index_term, m.configuration)
    own = m.configuration.member(core.node_id)
    replaces = m.index > core.commit_index and core.log.term(m.index) != m.index_term
    if why is None and replaces and not core.machine and own is not None and own.is_full:
        return WITHOUT_STATE  # P4 is committed, and the side state for which it waits is not even open
    return why


def _contradicts_range(core: Core, m: CatchUp) -> bool:
    """Whether the log has other entries at anchors that it must have: by Log Matching, one holds all before it."""
    log = core.log
    if any(is_other(core, index, term) for index, term in m.anchors):
        return True
    held = [index for index, term in m.anchors if index >= log.base.index and log.term(index) == term]
    return any(log.term(index) != term for index, term in m.anchors if held and log.base.index <= index < held[-1])
