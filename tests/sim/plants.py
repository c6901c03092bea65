"""Planted violations: histories made by hand, each of which breaks one rule of the simulator.

A plant is a function that shows a rule a broken history; the rule must raise. `BY_RULE` has those of the invariants,
`ELSEWHERE` those of the checks that stand in other files of the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, TypeVar

from lockmaster_raft.entry import CONFIG, DATA, GATE, NOOP, Entry, EntryKind, make_entry
from lockmaster_raft.events import Wake
from lockmaster_raft.ids import Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import (
    LEVEL_MAX,
    Configuration,
    Levels,
    Member,
    MemberPhase,
    MemberRole,
    encode_configuration,
)
from lockmaster_raft.messages import Header, Message
from lockmaster_raft.ready import LEADER, Base, HardState, Persist
from lockmaster_raft.testing.application import Observation, Outcome, load_application
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.frontend import Answer
from lockmaster_raft.testing.invariants.base import Invariant
from lockmaster_raft.testing.memory_store import MemoryStore

Rule = TypeVar("Rule", bound=Invariant)
BY_RULE: Final[list[tuple[str, type[Invariant], Callable[[], None]]]] = []
ELSEWHERE: Final[list[tuple[str, Callable[[], None]]]] = []
TERM: Final = 5
"""The term in which nodes lead here."""

__all__ = ["CONFIG", "DATA", "GATE", "NOOP", "World"]


class World:
    """A cluster without hosts, and what rules look at, made by hand."""

    def __init__(self, seed: int = 1, application: str = "register") -> None:
        self.cluster: Any = Cluster(seed, load_application(application))
        self.checker: Any = self.cluster.checker

    def host(self, number: int = 1, **more: Any) -> Any:
        """A running host of the cluster, as far as rules look at one."""
        usual: dict[str, Any] = {
            "number": number,
            "member_id": NodeId(number),
            "incarnation": number.to_bytes(16, "big"),
            "state": None,
            "replica": None,
            "disk": None,
            "node": None,
            "lost": False,
            "running": True,
            "removed": False,
            "paused_until": 0,
            "level_max": LEVEL_MAX,
            "unread": {},
            "meta": SimpleNamespace(index=0),
        }
        host = SimpleNamespace(**{**usual, **more})
        self.cluster.hosts.append(host)
        return host

    def committed(self, *terms: int) -> None:
        """Entries 2, 3 … of these terms are committed."""
        for index, term in enumerate(terms, start=2):
            self.checker.committed[index] = (term, term)
            self.checker.commit_top = index

    def log(self, host: Any, *entries: Entry, at: int = 1) -> None:
        """What the host's Readies have asked for so far."""
        self.checker.shadow[host.number] = MemoryStore(base(at), list(entries))
        self.checker.commit_before[host.number] = at

    def step(self, rule: Invariant, host: Any, node: Any, event: Any = None, **ready: Any) -> None:
        """One step whose Ready has this."""
        rule.stepped(host, node, event or Wake(), said(**ready))

    def seldom(self, rule: Invariant, host: Any, node: Any, event: Any = None, **ready: Any) -> None:
        """One step whose Ready has alarms, pieces or reads."""
        rule.seldom(host, node, event or Wake(), said(**ready))


def plant(kind: type[Rule], seed: int = 1) -> Callable[[Callable[[World, Rule], None]], Callable[[World, Rule], None]]:
    """Registers a history that breaks the rule `kind`."""

    def register(history: Callable[[World, Rule], None]) -> Callable[[World, Rule], None]:
        def run() -> None:
            world = World(seed)
            rule = kind(world.checker)
            looks = rule.transmitting

            def transmitting(host: Any, node: Any, send: Any) -> None:
                assert not rule.messages or type(send.message) in rule.messages, "the checker would not show it this"
                looks(host, node, send)

            rule.transmitting = transmitting  # type: ignore[method-assign] # the checker's filter, for this rule
            history(world, rule)

        BY_RULE.append((history.__name__, kind, run))
        return history

    return register


def elsewhere(history: Callable[[], None]) -> Callable[[], None]:
    """Registers a history that breaks a rule which is checked outside of the invariants."""
    ELSEWHERE.append((history.__name__, history))
    return history


def said(**ready: Any) -> Any:
    """A Ready."""
    nothing: tuple[Any, ...] = ()
    usual = dict.fromkeys(("alarms", "proposals", "reads", "send", "pieces", "state"), nothing)
    return SimpleNamespace(**{"persist": None, **usual, **ready})


def member(number: int, role: MemberRole = MemberRole.FULL, **more: Any) -> Member:
    """A voter, if nothing else is said."""
    voter, phase = more.get("voter", True), more.get("phase", MemberPhase.STEADY)
    name, incarnation = f"m{number}", number.to_bytes(16, "big")
    return Member(NodeId(number), name, f"p:{number}", f"c:{number}", incarnation, voter, role, phase)


def witness(number: int, **more: Any) -> Member:
    """A witness that votes."""
    return member(number, MemberRole.WITNESS, **more)


def group(*members: Member, **more: Any) -> Configuration:
    """A configuration of these; numbers stand for full voters."""
    return Configuration(more.pop("epoch", 1), tuple(members), NodeId(9), **more)


THREE: Final = group(member(1), member(2), member(3))
TWO_AND_WITNESS: Final = group(member(1), member(2), witness(3))


def node(own: int = 1, of: Configuration = THREE, before: Configuration | None = None, **more: Any) -> Any:
    """The leader `own` of TERM; `before`: the configuration that was in force before this step."""
    usual: dict[str, Any] = {
        "role": LEADER,
        "term": TERM,
        "commit_index": 1,
        "last_index": 1,
        "log_first": 2,
        "configuration": of,
        "committed_configuration": before or of,
        "own_member": of.member(NodeId(own)),
        "configuration_at": lambda index: (0, before or of),
        "levels": Levels(LEVEL_MAX, LEVEL_MAX),
    }
    return SimpleNamespace(**{**usual, **more})


def entry(index: int, term: int = TERM, kind: EntryKind = DATA, payload: bytes = b"", stamp: int = 0) -> Entry:
    """One entry."""
    return make_entry(Index(index), Term(term), kind, Nanos(stamp), payload)


def change(index: int, to: Configuration, term: int = TERM) -> Entry:
    """A CONFIG entry."""
    return entry(index, term, CONFIG, encode_configuration(to))


def base(index: int, term: int = 1, of: Configuration = THREE, levels: Levels | None = None) -> Base:
    """Where a log starts."""
    return Base(Index(index), Term(term), of, Index(1), levels or Levels(LEVEL_MAX, LEVEL_MAX))


def write(*entries: Entry, start: Base | None = None, truncate: int = 0) -> Persist:
    """What a Ready asks the disk for."""
    return Persist(PersistSeq(1), None, Index(truncate) if truncate else None, entries, start)


def disk(*entries: Entry, at: int = 1, term: int = TERM, vote: int = 0, **more: Any) -> Any:
    """A disk on which all of this is durable."""
    hard = HardState(Term(term), NodeId(vote))
    usual = {"store": MemoryStore(base(at), list(entries)), "surely_hard_state": hard, "failed": False}
    return SimpleNamespace(**{**usual, "surely_level": LEVEL_MAX, "level": LEVEL_MAX, **more})


def header(sender: int = 1, to: int = 2, term: int = TERM) -> Header:
    """Of a message."""
    return Header(bytes(16), NodeId(sender), NodeId(to), Term(term), 1, LEVEL_MAX)


def send(message: Message, to: int = 2) -> Any:
    """A message that leaves."""
    return SimpleNamespace(to=NodeId(to), message=message)


def answer(index: int) -> Answer:
    """What a client hears of an entry or a read."""
    return Answer("", index=index, applied_on=1)


def did(*observed: Observation) -> Outcome:
    """What applying an entry did."""
    return Outcome(observed=list(observed))
