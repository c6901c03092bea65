"""What an application gives the simulator: replicas, leader duties, a client workload; and how it is found.

An application is loaded from the entry point group `lockmaster_raft.simulated_application`; without one (or by name
"register") the trivial one of this package runs. Replicas tell what entries did in the neutral observations below, so
that invariants about sessions, locks and keys are written once and know no application.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, Protocol

from lockmaster_raft.entry import Entry
from lockmaster_raft.record import record
from lockmaster_raft.testing.swarm import Mix

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster

GROUP: Final = "lockmaster_raft.simulated_application"


@record
class Executed:
    """A command with this exactly-once id really executed (not: was answered from its record)."""

    session: int
    seq: int


@record
class SessionOpened:
    """A session lives from now on."""

    session: int
    ttl_ns: int


@record
class SessionRenewed:
    """A keepalive of this session was applied."""

    session: int


@record
class SessionOver:
    """A session ended, `expired` or by its owner."""

    session: int
    expired: bool


@record
class Lifted:
    """A new leader's NOOP was applied: deadlines were lifted."""


@record
class Queued:
    """An acquire took its place in the queue."""

    lock: str
    session: int
    seq: int


@record
class Granted:
    """A session holds the lock under this token."""

    lock: str
    session: int
    seq: int
    token: int


@record
class Freed:
    """A hold ended."""

    lock: str
    session: int
    token: int


@record
class LeftQueue:
    """A waiter left without the lock."""

    lock: str
    session: int
    seq: int


@record
class KeyWritten:
    """A key was written or deleted at this revision; `value` None is a deletion."""

    key: str
    revision: int
    value: bytes | None


Observation = (
    Executed | SessionOpened | SessionRenewed | SessionOver | Lifted | Queued | Granted | Freed | LeftQueue | KeyWritten
)


@dataclass(slots=True)
class Outcome:
    """What applying one entry gave: a result per command, and observations in order."""

    results: Sequence[object] = ()
    observed: list[Observation] = field(default_factory=list)
    renewed: Sequence[int] = ()
    """Sessions renewed by keepalives."""
    over: Sequence[int] = ()
    """Sessions that a keepalive found dead or that ended."""


class Replica(Protocol):
    """One member's state machine in memory, on contents that the simulated disk gave it."""

    @property
    def revision(self) -> int:
        """The state's revision: never falls at rising applied index."""

    @property
    def cluster_time(self) -> int:
        """The latest stamp of the entries that made this state; part of its contents."""

    def apply(self, entry: Entry) -> Outcome:
        """Apply one committed entry; entries come in order without gaps."""

    def seal(self) -> Mapping[bytes, bytes | None]:
        """Encoded writes since the last seal."""

    def contents(self) -> dict[bytes, bytes]:
        """All encoded records: what a snapshot holds."""

    def state_hash(self) -> int:
        """A hash of the contents; equal on all replicas at equal applied index."""

    def query(self, query: object) -> object:
        """Answer a read from the state as it is."""


class Duties(Protocol):
    """What a leader proposes by itself."""

    def turn(self, now: int, term: int, leading: bool, own_term_committed: bool) -> None:
        """Called at every turn of the host's loop."""

    def keep_alive(self, session: int) -> None:
        """Renew this session with the next batch."""

    def due(self, now: int, cluster_time: int, replica: Any) -> Sequence[object]:
        """Commands to propose now as one reserved entry."""

    def next_deadline(self, now: int) -> int:
        """When to look again (local time)."""


class Application(Protocol):
    """A whole application: everything the simulator needs."""

    name: str
    probe: object
    """A query that every replica answers, with whatever value."""

    def genesis(self) -> dict[bytes, bytes]:
        """Contents at index 1."""

    def replica(self, contents: dict[bytes, bytes], applied: int, term: int) -> Replica:
        """A replica on these contents (owned by it from now on)."""

    def encode(self, commands: Sequence[object]) -> bytes:
        """The payload of one DATA entry."""

    def duties(self, mix: Mix) -> Duties:
        """A new host's leader duties."""

    def start(self, cluster: Cluster, draw: random.Random) -> None:
        """Start the clients."""


def load_application(name: str | None = None) -> Application:
    """The application of this name, or the installed one, or the trivial one."""
    from lockmaster_raft.testing.register import RegisterApplication

    if name == "register":
        return RegisterApplication()
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name is not None and name not in found:
        raise LookupError(f"no application {name!r}; installed: {sorted(found)}")
    if not found:
        return RegisterApplication()
    point = found[name] if name is not None else found[min(found)]
    loaded: Application = point.load()()
    return loaded
