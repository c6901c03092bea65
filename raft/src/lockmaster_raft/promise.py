"""A member's side of the gates (raft.md §6): what its guard file promises, and what it may report of that.

Law: a report of FENCE i leaves only when the level is durable in the guard file and FORMAT, and the FENCE in the log;
the promise is given back only when the FENCE's end is committed here and no later FENCE is in the log.
"""

from __future__ import annotations

from lockmaster_raft.core import Core
from lockmaster_raft.gates import promise_bounds
from lockmaster_raft.ids import NO_INDEX, Index


def settle(core: Core) -> None:
    """Bring the promise into line with the log: at boot, when a GATE entry commits, when the log's start moves."""
    levels = core.committed_levels = core.log.levels_at(core.commit_index)
    due, keep = promise_bounds(core.log.gates, core.commit_index)
    if due > core.level_max:
        # A FENCE only (an active level above ours has stopped this node): it stands until upgrade or CANCEL.
        core.alarm(
            "fence_above",
            f"a FENCE for level {levels.fence} stands at index {levels.index}; "
            f"this binary knows up to {core.level_max}: upgrade it, or cancel the fence",
        )
        return
    if core.level < due:
        core.promise_level(due)
    elif core.level > keep:
        core.promise_level(keep)


def fence_report(core: Core) -> Index:
    """Index of the standing FENCE whose level is in the guard file once `core.after()` is durable, or 0."""
    levels = core.committed_levels
    if levels.fence > levels.active and core.level >= levels.fence:
        return levels.index
    return NO_INDEX
