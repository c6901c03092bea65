"""Where logs may start beside a witness (I6, I7): what this leader has proved, and what it lets others do.

Theory of operation. {x, W} must always be able to rebuild everything, for every full voter x and witness W: so W's log
starts at most one beyond what x holds. Only the current term's leader can prove what x holds (its acks of this term);
it tells each witness the lowest proof of *all* full voters, the down ones included, with every heartbeat: Coverage.

A witness takes no snapshot, so whoever leads must be able to feed it by log or to give it an anchor. Hence a full
member beside a witness starts its log only where every full voter was proved to be (an anchor there is good for ever,
for it is committed) or no further than every witness has come: `bound_for_full`, told to full members as their
Coverage. (Without it a group of 3 + 1 whose witness had lagged lost one replica for good and stood still for ever,
though a majority was there: nobody had the log that the witness needed, and nobody could prove an anchor in the new
term. Simulator seed 303.) That is why an anchor may also be given at the leader's own base (`offer_anchor`).

Laws: `told_max` is the most that this leader let anybody truncate to or offered as a snapshot in its term; what
earlier leaders told lies below term_start, for they told only what was committed. So max(term_start, told_max) bounds
every truncation beside witnesses, and a CONFIG that makes x a full voter needs proved(x) at or above it.
"""

from __future__ import annotations

from typing import Final

from lockmaster_raft.core import Core
from lockmaster_raft.errors import NotReady
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.membership import Configuration, Member, MemberPhase
from lockmaster_raft.messages import Coverage, InstallAnchor
from lockmaster_raft.progress import Progress


def proved(core: Core, member_id: NodeId) -> int:
    """What this leader has proved in its term that the member holds durably; 0: unknown."""
    if member_id == core.node_id:
        return core.log.durable_index
    p = core.progress.get(member_id)
    return p.match if p is not None else 0


def full_deciders(configuration: Configuration) -> list[Member]:
    """Full voters, DEMOTING ones and those of the outgoing side included: they may all need a witness's log."""
    ids = configuration.deciders
    return [m for m in configuration.members if m.is_full and m.member_id in ids]


def coverage(core: Core) -> Index:
    """I6: the lowest proof of all full voters, in force or committed, and no more than is committed."""
    lowest: int = core.commit_index
    for configuration in (core.configuration, core.committed_configuration):
        for member in full_deciders(configuration):
            lowest = min(lowest, proved(core, member.member_id))
    return Index(lowest)


def bound_for_full(core: Core) -> Index:
    """How far a full member may truncate beside witnesses: everybody full is past it, or every witness has it."""
    lowest: int = core.commit_index
    for configuration in (core.configuration, core.committed_configuration):
        ids = configuration.deciders
        for member in configuration.members:
            if member.member_id in ids and (not member.is_full or member.phase is MemberPhase.DEMOTING):
                lowest = min(lowest, proved(core, member.member_id))
    return Index(max(lowest, coverage(core)))


def tell_coverage(core: Core) -> None:
    """With every heartbeat, beside witnesses, to everybody of level 2. A caretaker lets nobody truncate (I4)."""
    if not core.guarded or not core.full_here or not core.own_term_committed:
        return
    for_witness, for_full = coverage(core), bound_for_full(core)
    for p in core.progress.values():
        if not promised(core, p):
            continue
        told = for_full
        if core.is_witness(p.member_id):
            told = for_witness
            p.covered = max(p.covered, told)
        core.told_max = max(core.told_max, told)
        core.send(Coverage(core.header(p.member_id), told))


def promised(core: Core, p: Progress) -> bool:
    """Whether no binary below level 2 can be running there: it would have no decoder for that level's messages.

    A witness's directory is of level 2 from its making, a voter has promised. A full learner may have been rolled back
    since it joined, until the level is in its log: an older binary refuses that one (raft.md §6).
    """
    if core.is_witness(p.member_id) or p.member_id in core.voters or p.member_id in core.outgoing:
        return True
    return p.match >= max(1, core.committed_levels.index)


def floor(core: Core, p: Progress) -> int:
    """Up to where this witness's log may be gone."""
    known = p.log_first - 1 if p.log_first else core.term_start
    return max(known, p.covered)


def highest_start(core: Core) -> int:
    """Up to where anybody's log may be gone, full members that truncated freely before there was a witness included."""
    highest = max(core.term_start, core.told_max, core.log.base.index)
    for member in full_deciders(core.configuration):
        p = core.progress.get(member.member_id)
        if p is not None:
            # Who has not appended the configuration in force may not know yet that it must hold its log.
            known = p.log_first and p.match >= core.log.configuration_index
            highest = max(highest, p.log_first - 1 if known else core.commit_index)
    return highest


def why_not_covered(core: Core, after: Configuration) -> NotReady | None:
    """I6 as a precondition: every new pair of a full voter and a witness must be able to rebuild everything."""
    before = core.configuration
    old_full = {m.member_id for m in full_deciders(before)}
    old_witnesses = {m.member_id for m in before.members if not m.is_full and m.member_id in before.deciders}
    for witness in after.members:
        if witness.is_full:
            continue
        p = core.progress.get(witness.member_id)
        if p is None:
            return NotReady(f"nothing is known of the log of member {witness.member_id}")
        # A witness that learns matters to new full voters; once it votes, to all of them.
        is_old = witness.member_id in old_witnesses or witness.member_id not in after.deciders
        need = max(floor(core, p), core.term_start, core.told_max) if is_old else highest_start(core)
        for full in full_deciders(after):
            if full.member_id in old_full and is_old:
                continue
            have = proved(core, full.member_id)
            if have < need:
                return NotReady(f"member {full.member_id} holds the log up to {have}, the logs may start after {need}")
    return None


ANCHOR_AT_BASE_VOTERS_MAX: Final = 6
"""Most voters with which any base is one that every full voter is past (see `offer_anchor`)."""


def offer_anchor(core: Core, p: Progress) -> None:
    """A witness that needs more than this log holds starts anew where every full voter is past (I7).

    Proved in this term; or, for a witness that votes already, where this log starts: every full voter was proved to be
    past that when it was truncated, or every witness had it, which a witness that votes since had, too (`fit_to_vote`).
    A log that starts at a snapshot instead: its index was committed by a quorum with neither the member that had to
    fetch it nor a witness that lacks it, and of up to six voters that is every other full one. With more, a member that
    does not know (any more) how its log came to start there gives no such anchor.
    """
    p.offered_at = core.now
    if not core.holds_state:  # I4
        return
    at, own = coverage(core), core.log.base.index
    member = core.committed_configuration.member(p.member_id)
    votes = member is not None and member.voter and not member.is_full
    if votes and (core.base_proved or len(core.configuration.deciders) <= ANCHOR_AT_BASE_VOTERS_MAX):
        at = max(at, own)
    if at < own:
        slowest = min(full_deciders(core.configuration), key=lambda m: proved(core, m.member_id))
        have = proved(core, slowest.member_id)
        text = f"witness {p.member_id} needs an anchor at {own}, member {slowest.member_id} is at {have}"
        core.alarm("witness_blocked", text)
        return
    p.offered_index = at
    p.offered_max = max(p.offered_max, at)
    p.covered = max(p.covered, at)
    core.told_max = max(core.told_max, at)
    index, configuration = core.log.configuration_at(at)
    where = (at, core.log.term_at(at), configuration, index, core.log.levels_at(at))
    core.send(InstallAnchor(core.header(p.member_id), p.epoch, *where))
