"""Row 59: a snapshot is switched in only where it is newer than what is committed there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.ready import InstallPieces
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.host import Host


class NewerSnapshot(Invariant):
    """When the node asks its host to install; it applies nothing between that and the report."""

    rule = "newer snapshot"

    def seldom(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Compare the snapshot's index with the commit index."""
        for piece in ready.pieces:
            if isinstance(piece, InstallPieces) and piece.snapshot.last_index <= node.commit_index:
                text = f"snapshot at {piece.snapshot.last_index}, commit index {node.commit_index}"
                self.fail(f"host {host.number}, term {node.term} installs a {text}")
