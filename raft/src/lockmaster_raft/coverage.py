"""Where a witness's log may start (I6, I7): what this leader has proved, and what it may let witnesses do.

Theory of operation. {x, W} must always be able to rebuild everything, for every full voter x and witness W: so W's log
starts at most one beyond what x holds. Only the current term's leader can prove what x holds (its acks of this term);
it tells each witness the lowest proof of *all* full voters, the down ones included, with every heartbeat: Coverage.

Laws: p.covered is the most that this leader ever told a witness in its term; what earlier leaders told lies below
term_start, for they told only what was committed. So `floor` bounds every truncation that a witness may have done or
may still do, and a CONFIG that makes x a full voter needs proved(x) >= floor(w) for every witness w.
"""

from __future__ import annotations

from lockmaster_raft.core import Core
from lockmaster_raft.errors import NotReady
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.membership import Configuration, Member
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


def tell_coverage(core: Core) -> None:
    """With every round, to every witness. A caretaker lets nobody truncate (I4)."""
    if not core.witness_level or not core.full_here or not core.own_term_committed:
        return
    told: Index | None = None
    for p in core.progress.values():
        if core.is_witness(p.member_id):
            told = coverage(core) if told is None else told
            p.covered = max(p.covered, told)
            core.send(Coverage(core.header(p.member_id), told))


def floor(core: Core, p: Progress) -> int:
    """Up to where this witness's log may be gone."""
    known = p.log_first - 1 if p.log_first else core.term_start
    return max(known, p.covered)


def why_not_covered(core: Core, after: Configuration) -> NotReady | None:
    """I6 as a precondition: every new pair of a full voter and a witness must be able to rebuild everything."""
    before = core.configuration
    old_full = {m.member_id for m in full_deciders(before)}
    old_witnesses = {m.member_id for m in before.members if not m.is_full}
    for witness in after.members:
        if witness.is_full:
            continue
        p = core.progress.get(witness.member_id)
        if p is None:
            return NotReady(f"nothing is known of the log of member {witness.member_id}")
        for full in full_deciders(after):
            if full.member_id in old_full and witness.member_id in old_witnesses:
                continue
            have, need = proved(core, full.member_id), floor(core, p)
            if have < need:
                text = (
                    f"member {full.member_id} holds the log up to {have}, witness {witness.member_id} from {need + 1}"
                )
                return NotReady(text)
    return None


def offer_anchor(core: Core, p: Progress) -> None:
    """A witness that needs more than this log holds starts anew where every full voter is past (I7)."""
    p.offered_at = core.now
    at = coverage(core)
    if core.is_caretaker or not core.own_term_committed:
        return
    if at < core.log.base.index:
        slowest = min(full_deciders(core.configuration), key=lambda m: proved(core, m.member_id))
        have = proved(core, slowest.member_id)
        text = (
            f"witness {p.member_id} needs an anchor at {core.log.base.index}, member {slowest.member_id} is at {have}"
        )
        core.alarm("witness_blocked", text)
        return
    p.offered_index = at
    p.covered = max(p.covered, at)
    index, configuration = core.log.configuration_at(at)
    where = (at, core.log.term_at(at), configuration, index, core.log.levels_at(at))
    core.send(InstallAnchor(core.header(p.member_id), p.epoch, *where))
