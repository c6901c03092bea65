"""Leader leases (§6.4.1), opt-in per read: no round, at the price of trusting clocks to the drift bound ρ.

A voter that acknowledges a heartbeat refuses all votes for `sticky_ns` of its own clock; counted from when the
heartbeat was *sent*, by the leader's clock, less ρ, that is a promise the leader can rely on. The lease lasts as long
as a commit quorum promised, so to the smallest of its counts: every election quorum meets it.

Laws: none without an own-term commit, without a full member's privileges, or during a transfer, for TimeoutNow
overrides stickiness; after an aborted transfer none until its target has acked, in this term, a heartbeat sent later
than the last TimeoutNow on the same ordered channel (it has then either not got it, or not obeyed).
"""

from __future__ import annotations

from lockmaster_raft.core import NEVER, Core
from lockmaster_raft.ids import NO_NODE, Nanos
from lockmaster_raft.messages import HeartbeatReply
from lockmaster_raft.progress import Progress
from lockmaster_raft.ready import LEADER


def note_ack(core: Core, p: Progress, m: HeartbeatReply) -> None:
    """A member acked a heartbeat: its promise, and the end of an aborted transfer's bar."""
    told = min(m.sticky_ns, core.config.election_timeout_ns)
    promise = told - told * core.config.drift_ppm_max // 1_000_000
    p.lease_until = max(p.lease_until, m.sent_at + promise)
    bar = core.lease_bar
    if bar is not None and core.transfer is None and p.member_id == bar[0] and m.sent_at > bar[1]:
        core.lease_bar = None


def bar(core: Core) -> None:
    """TimeoutNow is sent: from now on nobody's stickiness counts."""
    target = core.transfer.target if core.transfer is not None else NO_NODE
    core.lease_bar = (target, core.now)


def holds(core: Core, now: Nanos) -> bool:
    """Whether a read may be served at `now` at the commit index, without a round."""
    if core.role is not LEADER or not core.full_here or not core.own_term_committed:
        return False
    if core.transfer is not None or core.lease_bar is not None:
        return False
    promises = {p.member_id: p.lease_until for p in core.progress.values()}
    promises[core.node_id] = NEVER
    return now < core.commit_value(promises)
