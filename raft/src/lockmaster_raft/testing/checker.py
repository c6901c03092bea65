"""Feeds every invariant after every step, incrementally; keeps the shared picture that they look at.

`shadow` is each host's log as its Readies have asked for it (durable or not); `committed` is the ledger of entries
that any node has called committed; both come from outputs, never from a node's insides.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import Entry
from lockmaster_raft.events import Event
from lockmaster_raft.messages import Message
from lockmaster_raft.ready import LEADER, Base, HardState, Ready, Role, Send
from lockmaster_raft.testing.application import Outcome
from lockmaster_raft.testing.frontend import Answer
from lockmaster_raft.testing.invariants import ALL
from lockmaster_raft.testing.invariants.base import Invariant, Violation
from lockmaster_raft.testing.memory_store import MemoryStore

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.host import Host

__all__ = ["Checker", "Violation"]

_TRACE: Final = struct.Struct(">qBQQQ16s")
STEPS_MAX: Final = 3_000_000
"""A run of more (looked at with each update of the trace's hash) spins."""
_WORDS_MAX: Final = 512
"""Steps noted between two updates of the trace's hash."""
_KINDS: Final[dict[type[Event], bytes]] = {}
"""Event class -> its name as the trace has it."""


def _kind(event: Event) -> bytes:
    _KINDS[type(event)] = kind = type(event).__name__.encode()[:16]
    return kind


class _Seen:
    """What is known of a host's boot after its last step."""

    __slots__ = ("commit", "last_index", "role", "shadow", "term")

    def __init__(self, shadow: MemoryStore, commit: int) -> None:
        self.shadow = shadow
        self.commit = commit
        self.last_index: int = shadow.last_index
        self.role: Role | None = None
        self.term = 0


class Checker:
    """All invariants of one run."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.steps = 0
        self.shadow: dict[int, MemoryStore] = {}
        self.committed: dict[int, tuple[int, int]] = {}
        """index -> (term of the entry, highest term known when it was first called committed)."""
        self.commit_top = 0
        self.applied_top = 0
        self.acknowledged_top = 0
        self.healed_at = 0
        self.state_hashes: dict[int, int] = {}
        """index -> the state's hash after that entry, from whoever applied it first."""
        self.commit_before: dict[int, int] = {}
        """Each host's commit index before the step that is being looked at."""
        self._seen: dict[int, _Seen] = {}
        self._words: list[bytes] = []
        self.all: list[Invariant] = [kind(self) for kind in ALL]

        def having(name: str) -> list[Invariant]:
            return [one for one in self.all if getattr(type(one), name) is not getattr(Invariant, name)]

        self._stepped, self._transmitting = having("stepped"), having("transmitting")
        self._by_message: dict[type[Message], tuple[Invariant, ...]] = {}
        """Message class -> who looks at one that leaves."""
        self._applied, self._first = having("applied"), having("first_applied")
        self._led, self._commits = having("led"), having("commits")
        self._contents = having("content")
        self._seldom = having("seldom")

    def genesis(self, base: Base) -> None:
        """The first base is committed by definition."""
        self.committed[base.index] = (base.term, base.term)
        self.commit_top = self.applied_top = base.index

    def booting(self, host: Host, hard: HardState) -> None:
        """A host starts from its disks."""
        if host.disk is None:
            return
        store = host.disk.store
        self.shadow[host.number] = MemoryStore(store.base, list(store.log))
        self.commit_before[host.number] = store.base.index
        self._seen[host.number] = _Seen(self.shadow[host.number], store.base.index)
        for one in self.all:
            one.booting(host, hard)

    def crashing(self, host: Host, node: Node) -> None:
        """A running host crashes now."""
        for one in self.all:
            one.crashing(host, node)

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """After each step, before anything of its Ready is done."""
        self.steps += 1
        number = host.number
        seen = self._seen[number]
        if ready.persist is not None:
            seen.shadow.persist(ready.persist)
            seen.last_index = seen.shadow.last_index
            for one in self._stepped:
                one.stepped(host, node, event, ready)
        if ready.alarms or ready.pieces or ready.reads:
            for one in self._seldom:
                one.seldom(host, node, event, ready)
        role, term, commit = node.role, node.term, node.commit_index
        kind = _KINDS.get(type(event)) or _kind(event)
        words = self._words
        words.append(_TRACE.pack(self.cluster.scheduler.now, number, term, commit, seen.last_index, kind))
        if len(words) >= _WORDS_MAX:
            self.end_trace()
            if self.steps > STEPS_MAX:
                raise Violation("S11", f"more than {STEPS_MAX} steps: the cluster spins")
        if role is not seen.role or term != seen.term:
            if seen.role is not None and seen.term > term:
                raise Violation("S1 no regress", f"host {number} falls from term {seen.term} to {term}")
            if role is LEADER:
                self.cluster.count("elections won")
                for one in self._led:
                    one.led(host, node)
            seen.role, seen.term = role, term
        if commit != seen.commit:
            self._advance(host, node, seen.commit, commit)
            seen.commit = commit

    def end_trace(self) -> None:
        """Hash what is noted and not hashed yet."""
        self.cluster.trace.update(b"".join(self._words))
        self._words.clear()

    def _advance(self, host: Host, node: Node, old: int, new: int) -> None:
        if new < old:
            raise Violation("I1", f"host {host.number}: commit index fell from {old} to {new}")
        shadow = self.shadow[host.number]
        for index in range(max(old, shadow.base.index) + 1, new + 1):
            term = shadow.term(index)  # type: ignore[arg-type]
            if term is None:
                raise Violation("I1", f"host {host.number} commits {index} beyond its log")
            known = self.committed.get(index)
            if known is None:
                self.committed[index] = (term, node.term)
            elif known[0] != term:
                text = f"host {host.number} commits {index} of term {term}; it was committed with term {known[0]}"
                raise Violation("I1 state machine safety", text)
        self.commit_top = max(self.commit_top, new)
        self.commit_before[host.number] = new
        for one in self._commits:
            one.commits(host, node, old, new)

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """A message leaves now."""
        kind = type(send.message)
        looking = self._by_message.get(kind)
        if looking is None:
            looking = tuple(one for one in self._transmitting if not one.messages or kind in one.messages)
            self._by_message[kind] = looking
        for one in looking:
            one.transmitting(host, node, send)

    def applied(self, host: Host, entry: Entry, outcome: Outcome) -> None:
        """A replica applied an entry."""
        for one in self._applied:
            one.applied(host, entry, outcome)
        if entry.index > self.applied_top:
            self.applied_top = entry.index
            for one in self._first:
                one.first_applied(entry, outcome)

    def snapshot(self, host: Host, index: int, chunks: tuple[bytes, ...]) -> None:
        """A snapshot was made."""
        for one in self.all:
            one.snapshot(host, index, chunks)

    def installed(self, host: Host, index: int) -> None:
        """A snapshot was switched in."""
        for one in self.all:
            one.installed(host, index)

    def dropped(self, host: Host) -> None:
        """A host is about to delete its state."""
        for one in self.all:
            one.dropped(host)

    def acknowledged(self, session: int, seq: int, answer: Answer) -> None:
        """A client heard that its write was done."""
        self.acknowledged_top = max(self.acknowledged_top, answer.index)
        for one in self.all:
            one.acknowledged(session, seq, answer)

    def served(self, floor: int, answer: Answer) -> None:
        """A client got a linearizable read that began when `floor` was acknowledged."""
        for one in self.all:
            one.served(floor, answer)

    def healed(self) -> None:
        """Faults end here."""
        self.healed_at = self.cluster.scheduler.now
        for one in self.all:
            one.healed()

    def content(self) -> bool:
        """All that must come back after healing has come back (looked at often: cheap first)."""
        if self.cluster.scheduler.now < self.healed_at + 2 * SECOND:
            return False
        return all(one.content() for one in self._contents)

    def finished(self) -> None:
        """The end of the run."""
        for one in self.all:
            one.finished()
