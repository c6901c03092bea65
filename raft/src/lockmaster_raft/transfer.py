"""Leadership transfer (§3.10): to a caught-up full voter, bounded by one election timeout.

While it runs nothing is proposed, so the target needs only what is in the log; TimeoutNow leaves once it has that.
"""

from __future__ import annotations

from lockmaster_raft import lease
from lockmaster_raft.config import MILLISECOND
from lockmaster_raft.core import Core, Transfer
from lockmaster_raft.errors import ChangeRefused, NotLeader, NotReady, ProposalRefused
from lockmaster_raft.events import TransferLeadership
from lockmaster_raft.ids import NO_NODE, NodeId
from lockmaster_raft.messages import TimeoutNow
from lockmaster_raft.progress import REPLICATE, Progress
from lockmaster_raft.ready import LEADER, Refused, Resolved


def on_transfer(core: Core, e: TransferLeadership) -> None:
    """Begin a transfer, or say why not. Ends in Resolved when leadership left this node, Refused at the deadline."""
    error = _why_not(core, e.target)
    if error is not None:
        core.proposals.append(Refused(e.proposal_id, error))
        return
    if e.expected_term is not None and e.expected_term != core.term:
        core.proposals.append(_of_another_term(core, e))
        return
    target = e.target or best_target(core)
    if target == core.node_id:
        core.proposals.append(Resolved(e.proposal_id, target))
        return
    if target == NO_NODE:
        core.proposals.append(Refused(e.proposal_id, NotReady(_nobody(core))))
        return
    begin(core, e.proposal_id, target)


def _of_another_term(core: Core, e: TransferLeadership) -> Resolved | Refused:
    """The leadership that was to be handed over is: to this node. Somebody else was to have it: then say so."""
    if e.expected_term is not None and e.expected_term < core.term and e.target in (NO_NODE, core.node_id):
        return Resolved(e.proposal_id, core.node_id)
    why = f"member {core.node_id} leads in term {core.term}, not in term {e.expected_term}"
    return Refused(e.proposal_id, ChangeRefused(why))


def _nobody(core: Core) -> str:
    """Why there is no target: the other full voters, and what each lacks."""
    others = [_lack(core, p) for p in core.progress.values() if core.is_full_voter(p.member_id)]
    return f"no other full voter is caught up: {'; '.join(others) if others else 'there is none'}"


def _lack(core: Core, p: Progress) -> str:
    silent_ns = core.now - p.contact
    if silent_ns >= core.config.election_timeout_ns:
        return f"member {p.member_id} did not answer for {silent_ns // MILLISECOND} ms"
    return f"member {p.member_id} has the log up to {p.match} of {core.log.last_index}"


def begin(core: Core, proposal_id: int | None, target: NodeId) -> None:
    """Stop admitting and hand over to `target`."""
    core.transfer = Transfer(proposal_id, target, core.now + core.config.election_timeout_ns)
    pursue(core)


def _why_not(core: Core, target: NodeId) -> ProposalRefused | None:
    if core.role is not LEADER:
        return NotLeader(core.leader_id)
    if not core.own_term_committed:
        return NotReady("no entry of this leader's term is committed yet")
    if core.transfer is not None:
        return NotReady(f"a transfer to member {core.transfer.target} is running")
    if target in (NO_NODE, core.node_id):
        return None
    if not core.is_full_voter(target):
        return ChangeRefused(f"member {target} is not a full voter")
    p = core.progress.get(target)
    if p is None:
        return NotReady(f"member {target} is not known to this leader yet: 0 of {core.log.last_index}")
    return None if is_caught_up(core, p) else NotReady(_lack(core, p))


def is_caught_up(core: Core, p: Progress) -> bool:
    """Streaming, heard of within an election timeout, and behind by no more than one pipeline window of entries."""
    config = core.config
    near = core.log.last_index - p.match <= config.batch_entries_max
    return p.state is REPLICATE and near and core.now - p.contact < config.election_timeout_ns


def best_target(core: Core) -> NodeId:
    """The caught-up full voter with the longest match, the lowest id among equals; 0 when there is none."""
    fit = [p for p in core.progress.values() if core.is_full_voter(p.member_id) and is_caught_up(core, p)]
    return min(fit, key=lambda p: (-p.match, p.member_id)).member_id if fit else NO_NODE


def pursue(core: Core) -> None:
    """Send TimeoutNow once the target has the whole log, and again each heartbeat until it takes over."""
    transfer = core.transfer
    if transfer is None:
        return
    p = core.progress.get(transfer.target)
    again = transfer.told_at and core.now - transfer.told_at < core.config.heartbeat_interval_ns
    if p is not None and p.match == core.log.last_index and not again:
        transfer.told_at = core.now
        lease.bar(core)
        core.send(TimeoutNow(core.header(transfer.target)), after=core.after())


def expire(core: Core) -> None:
    """The target did not take over within one election timeout: this leader goes on."""
    transfer = core.transfer
    if transfer is None or core.now < transfer.deadline:
        return
    core.transfer = None
    if transfer.proposal_id is not None:
        error = NotReady(f"member {transfer.target} did not take over within one election timeout")
        core.proposals.append(Refused(transfer.proposal_id, error))
