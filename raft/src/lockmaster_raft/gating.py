"""A leader's side of the gates (raft.md §6): members' reports, and GATE entries behind their preconditions.

Laws: levels and promises count only as reported in this term, and as of the latest round that the member answered;
at most one CONFIG or GATE is uncommitted (I10); a gate request is compared with the gate's epoch.
"""

from __future__ import annotations

from typing import Final

from lockmaster_raft.core import Core
from lockmaster_raft.entry import GATE
from lockmaster_raft.errors import ChangeRefused, ProposalRefused
from lockmaster_raft.events import ProposeGate
from lockmaster_raft.gates import Gate, GateOperation, MemberLevels, already, encode_gate, why_not
from lockmaster_raft.ids import NO_INDEX
from lockmaster_raft.members import why_not_change_now
from lockmaster_raft.messages import HeartbeatReply
from lockmaster_raft.progress import Progress
from lockmaster_raft.promise import fence_report
from lockmaster_raft.ready import LEADER, Appended, Refused, Resolved
from lockmaster_raft.replication import replicate_all

_TWO_BOOTS: Final = -1
"""boot_nonce of a round that two boots have answered: nobody can tell which of them came last."""


def note_report(p: Progress, m: HeartbeatReply) -> None:
    """Take the member's levels from an answer, if none of a later round told them.

    Answers come in any order. One of an older round may be a boot's that is gone (its binary may have been rolled
    back since); of two boots that answered the same round neither counts.
    """
    if m.round_id < p.report_round:
        return
    if m.round_id > p.report_round:
        p.report_round, p.boot_nonce = m.round_id, m.boot_nonce
        p.fence_index = m.fence_index
    elif m.boot_nonce != p.boot_nonce:
        p.boot_nonce, p.fence_index, p.level_min, p.level_max = _TWO_BOOTS, NO_INDEX, 0, 0
        return
    else:
        p.fence_index = max(p.fence_index, m.fence_index)
    p.level_min, p.level_max = m.header.level_min, m.header.level_max


def member_levels(core: Core) -> tuple[MemberLevels, ...]:
    """Every member of the configuration in force; those without a report in this term have zeros."""
    rows = []
    for member in core.configuration.members:
        p = core.progress.get(member.member_id)
        if member.member_id == core.node_id:
            durable = core.level_seq <= core.persisted_seq
            told = (core.level_min, core.level_max, fence_report(core) if durable else NO_INDEX)
        else:
            told = (p.level_min, p.level_max, p.fence_index) if p is not None else (0, 0, NO_INDEX)
        rows.append(MemberLevels(member.member_id, member.name, *told))
    return tuple(rows)


def on_propose_gate(core: Core, e: ProposeGate) -> None:
    """Append the GATE entry, or tell that it is so already, or refuse it naming the member and the number."""
    levels = core.log.levels
    if core.role is LEADER and core.own_term_committed and already(e.operation, e.level, levels):
        if levels.index > core.commit_index:
            core.proposals.append(Appended(e.proposal_id, levels.index, core.log.term_at(levels.index)))
        else:
            core.proposals.append(Resolved(e.proposal_id))
        return
    error = why_not_change_now(core) or _why_not(core, e)
    if error is not None:
        core.proposals.append(Refused(e.proposal_id, error))
        return
    ends = e.operation in (GateOperation.ACTIVATE, GateOperation.CANCEL)
    gate = Gate(e.operation, e.level, levels.index if ends else NO_INDEX)
    entry = core.append_own(GATE, encode_gate(gate))
    core.proposals.append(Appended(e.proposal_id, entry.index, entry.term))
    replicate_all(core)


def _why_not(core: Core, e: ProposeGate) -> ProposalRefused | None:
    levels = core.log.levels
    if e.expected_epoch is not None and e.expected_epoch != levels.index:
        return ChangeRefused(f"the gate's epoch is {levels.index}, not {e.expected_epoch}")
    why = why_not(e.operation, e.level, levels, member_levels(core), core.configuration)
    return ChangeRefused(why) if why else None
