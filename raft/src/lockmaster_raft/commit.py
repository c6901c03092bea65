"""Moving the commit index (§3.5, §3.6.2).

Laws: it never falls; on a leader only an entry of its own term is a commit point; the leader's own copy counts only
when durable, while the index may run ahead of it when the others make a quorum without it.
"""

from __future__ import annotations

from typing import Final

from lockmaster_raft import promise, side
from lockmaster_raft.core import Core
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.messages import Removed
from lockmaster_raft.ready import LEADER
from lockmaster_raft.roles import sync_progress
from lockmaster_raft.snapshot import drop_overtaken_fetch


def advance(core: Core) -> bool:
    """Leader: commit what a quorum holds durably; True if the index rose."""
    matches: dict[NodeId, int] = {p.member_id: p.match for p in core.progress.values()}
    matches[core.node_id] = core.log.durable_index
    index = core.commit_value(matches)
    if index <= core.commit_index or core.log.term(index) != core.term:
        return False
    left = core.log.last_index - index
    while len(core.pending_sizes) > left:
        core.pending_bytes -= core.pending_sizes.popleft()
    set_commit(core, Index(index))
    core.latency.committed(index, core.now)
    # Entries that follow tell the commit index themselves: a round of its own goes out after the last of them.
    core.commit_flush_at = core.now + core.config.heartbeat_interval_ns // 10
    return True


def set_commit(core: Core, index: Index) -> None:
    """Raise the commit index (never lower it) and take a newly committed configuration into the books."""
    old = core.commit_index
    if index <= old:
        return
    core.commit_index = index
    if core.fetch is not None:
        drop_overtaken_fetch(core)
    if old < core.log.levels.index:
        promise.settle(core)
    if old < core.log.configuration_index:
        at, configuration = core.log.configuration_at(index)
        if at > old:
            core.committed_configuration = configuration
            side.settle(core)
            _committed(core)


REMOVED_TOLD_MAX: Final = 10
"""How often a leader tells a member of its removal, once per heartbeat: the word may be lost on the way."""


def tell_departed(core: Core) -> None:
    """Leader: tell members whose removal is committed; bounded, for they may be gone for good."""
    for member_id in sorted(m for m, (at, _) in core.departing.items() if at <= core.commit_index):
        at, count = core.departing[member_id]
        core.departing[member_id] = (at, count + 1)
        if count + 1 >= REMOVED_TOLD_MAX:
            del core.departing[member_id]
        core.send(Removed(core.header(member_id), core.committed_configuration.epoch), after=core.after())


def _committed(core: Core) -> None:
    """Tell removed members, begin with new ones, learn of the own removal."""
    configuration = core.committed_configuration
    if core.role is LEADER:
        tell_departed(core)
        sync_progress(core)
    minted = core.node_id < configuration.next_member_id  # a joiner replays configurations from before its time
    if minted and configuration.member(core.node_id) is None and core.configuration.member(core.node_id) is None:
        core.removed = True
