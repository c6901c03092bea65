"""The log starts only after what is committed and, in the state directory, flushed (service.md §5, BASE)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.ready import DropState
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.host import Host


class BaseIsCommitted(Invariant):
    """Looks at each BASE when it is asked for."""

    rule = "I6 base"

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Committed, by the right entry, flushed."""
        if ready.persist is None or ready.persist.base is None:
            return
        base = ready.persist.base
        self.checker.cluster.count("bases written")
        known = self.checker.committed.get(base.index)
        if base.index > node.commit_index or known is None or known[0] != base.term:
            self.fail(f"host {host.number} writes BASE ({base.index}, {base.term}), committed there: {known}")
        dropped = any(isinstance(action, DropState) for action in ready.state)
        if host.state is not None and not dropped and base.index > host.state.flushed_meta.index:
            self.fail(f"host {host.number} writes BASE {base.index}, flushed is {host.state.flushed_meta.index}")
