"""What every invariant may look at. Override what you need; the checker calls only what is overridden on hot paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.events import Event
    from lockmaster_raft.messages import Message
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import HardState, Ready, Send
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.frontend import Answer
    from lockmaster_raft.testing.host import Host


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"[{rule}] {text}")
        self.rule = rule


class Invariant:
    """One rule; raises Violation."""

    rule = ""
    messages: tuple[type[Message], ...] = ()
    """What `transmitting` looks at; none named: at every message."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker

    def fail(self, text: str) -> None:
        """Raise the violation of this rule."""
        raise Violation(self.rule, text)

    def booting(self, host: Host, hard: HardState) -> None:
        """A host is about to start from what its disks hold."""

    def crashing(self, host: Host, node: Node) -> None:
        """A running host is about to lose all that is in its memory."""

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """A step asked for a Persist; the shadow log has it already. (Others change neither term, log nor members.)"""

    def seldom(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """A step with alarms, pieces or answered reads; the commit index before it is in checker.commit_before."""

    def led(self, host: Host, node: Node) -> None:
        """A node became leader of a term."""

    def commits(self, host: Host, node: Node, old: int, new: int) -> None:
        """A node's commit index rose."""

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """A message leaves for the network."""

    def applied(self, host: Host, entry: Entry, outcome: Outcome) -> None:
        """A replica applied an entry."""

    def first_applied(self, entry: Entry, outcome: Outcome) -> None:
        """An entry was applied for the first time anywhere."""

    def snapshot(self, host: Host, index: int, chunks: tuple[bytes, ...]) -> None:
        """A host made a snapshot."""

    def installed(self, host: Host, index: int) -> None:
        """A host switched a snapshot in."""

    def dropped(self, host: Host) -> None:
        """A host is about to delete its state, as a role change asks."""

    def acknowledged(self, session: int, seq: int, answer: Answer) -> None:
        """A client got a write's answer."""

    def served(self, floor: int, answer: Answer) -> None:
        """A client got a linearizable read's answer."""

    def healed(self) -> None:
        """Faults ended."""

    def content(self) -> bool:
        """Whether what this rule demands after healing is there."""
        return True

    def finished(self) -> None:
        """The run ended."""
