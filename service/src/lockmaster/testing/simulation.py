"""The service in the simulator: the real state machine, leader duties and client policy on simulated hosts.

Found by lockmaster_raft.testing through the entry point group `lockmaster_raft.simulated_application`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lockmaster_raft.entry import DATA, Entry
from lockmaster_raft.testing.application import Outcome
from lockmaster_raft.testing.clients import Client
from lockmaster_raft.testing.invariants.base import Violation
from lockmaster_raft.testing.network import CLIENT_FIRST

from lockmaster.errors import Compacted, Indeterminate, LockmasterError, NotLeader, Overloaded, Unavailable
from lockmaster.statemachine.apply import Applied, StateMachine
from lockmaster.statemachine.codec import decode_batch, encode_batch
from lockmaster.statemachine.commands import Command, SessionEnded
from lockmaster.statemachine.duties import LeaderDuties
from lockmaster.statemachine.memory import DictView
from lockmaster.statemachine.view import Table, record_hash
from lockmaster.testing.simulation_clients import ServiceClient
from lockmaster.testing.simulation_observe import observe

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster
    from lockmaster_raft.testing.swarm import Mix

K = TypeVar("K")
V = TypeVar("V")
GENESIS_REVISION: Final = 1_800_000_000 << 20


class SealingView(DictView):
    """A DictView that knows what was written since the last seal, and keeps encoded records and their hash."""

    def __init__(self, contents: dict[bytes, bytes]) -> None:
        self._dirty: dict[tuple[Table[Any, Any], Any], None] = {}
        self.encoded: dict[bytes, bytes] = {}
        super().__init__(contents.items())
        self._dirty.clear()
        self.encoded = dict(contents)
        self._hashes = {key: record_hash(key, value) for key, value in contents.items()}
        self.hash_sum = sum(self._hashes.values())

    def put(self, table: Table[K, V], key: K, value: V) -> None:
        """See DictView."""
        rows = self._rows[table]
        if key not in rows.records:
            rows.added[key] = None
        rows.records[key] = value
        self._dirty[(table, key)] = None

    def delete(self, table: Table[K, V], key: K) -> None:
        """See DictView."""
        super().delete(table, key)
        self._dirty[(table, key)] = None

    def seal(self) -> dict[bytes, bytes | None]:
        """Encoded writes since the last seal; the hash follows."""
        writes: dict[bytes, bytes | None] = {}
        rows, hashes, encoded = self._rows, self._hashes, self.encoded
        for table, key in self._dirty:
            name = table.prefix + table.encode_key(key)
            record = rows[table].records.get(key)
            self.hash_sum -= hashes.get(name, 0)
            if record is None:
                writes[name] = None
                encoded.pop(name, None)
                hashes.pop(name, None)
            else:
                writes[name] = encoded[name] = value = table.encode_value(record)
                hashes[name] = fresh = record_hash(name, value)
                self.hash_sum += fresh
        self._dirty.clear()
        return writes


class ServiceReplica:
    """The real StateMachine on a SealingView."""

    def __init__(self, contents: dict[bytes, bytes]) -> None:
        self._view = SealingView(contents)
        self.machine = StateMachine(self._view)

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self.machine.revision

    @property
    def cluster_time(self) -> int:
        """Cluster time of the last applied entry."""
        return self.machine.cluster_time

    def apply(self, entry: Entry) -> Outcome:
        """Decode from bytes, as every replica but the leader does, and apply."""
        commands = decode_batch(entry.payload) if entry.kind is DATA else []
        before = self.machine.revision
        applied: Applied = self.machine.apply(entry, commands)
        self._nothing_left(applied)
        return observe(entry.kind, commands, applied, before)

    def _nothing_left(self, applied: Applied) -> None:
        """S8: the dead hold neither lock nor place."""
        dead = [event.session_id for event in applied.events if isinstance(event, SessionEnded)]
        if dead:
            for session in dead:
                left = self.machine.session_locks(session)
                if left.held or left.waiting:
                    raise Violation("S8 FIFO", f"dead session {session} has {left}")
            for lock in self.machine.list_locks()[0]:
                full = self.machine.inspect_lock(lock.name)
                if full.session_id in dead or any(waiter.session_id in dead for waiter in full.queue):
                    raise Violation("S8 FIFO", f"{lock.name} still knows one of the dead sessions {dead}")

    def seal(self) -> Mapping[bytes, bytes | None]:
        """Encoded writes since the last seal."""
        return self._view.seal()

    def contents(self) -> dict[bytes, bytes]:
        """A copy of all encoded records."""
        return dict(self._view.encoded)

    def state_hash(self) -> int:
        """Sum of record hashes modulo 2**64."""
        return self._view.hash_sum % 2**64

    def query(self, query: object) -> object:
        """("get", namespace, key) or ("changes", namespace, prefix, from revision)."""
        match query:
            case ("get", str(namespace), str(key)):
                return self.machine.get(namespace, key)
            case ("changes", str(namespace), str(prefix), int(start)):
                try:
                    return self.machine.changes(namespace, prefix, start, 50, prefix=True)
                except Compacted as error:
                    return error
            case ("lock", str(name)):
                return self.machine.inspect_lock(name)
            case _:
                raise LookupError(f"no such query: {query!r}")


class ServiceDuties:
    """The real LeaderDuties, told of role changes."""

    def __init__(self, mix: Mix) -> None:
        self._duties = LeaderDuties(mix.config.election_timeout_ns, mix.config.heartbeat_interval_ns)
        self._term = 0
        self._leading = False
        self._committed = False

    def turn(self, now: int, term: int, leading: bool, own_term_committed: bool) -> None:
        """A turn of the loop."""
        if leading and (not self._leading or term != self._term):
            self._duties.leading(term, now)
            self._committed = False
        elif self._leading and not leading:
            self._duties.stopped()
        self._term, self._leading = term, leading
        if own_term_committed and not self._committed:
            self._committed = True
            self._duties.own_term_committed(now)
        self._duties.turn(now)

    def keep_alive(self, session: int) -> None:
        """Join the next batch."""
        self._duties.keep_alive(session)

    def due(self, now: int, cluster_time: int, replica: Any) -> Sequence[object]:
        """Keepalives and expiry to propose now."""
        return self._duties.due(now, cluster_time, replica.machine.expiry)

    def next_deadline(self, now: int) -> int:
        """When to look again."""
        return self._duties.next_deadline(now)


def decide(
    error: str, attempt: int, hint: int, left: float, draw: float, repeatable: bool
) -> tuple[float, int | None] | None:
    """What the real client policy says, in the simulator's words (addresses are host numbers)."""
    from lockmaster.client.policy import Retry, Where, policy

    errors: dict[str, LockmasterError] = {
        "not_leader": NotLeader(str(hint) if hint else ""),
        "overloaded": Overloaded("simulated"),
        "unavailable": Unavailable("simulated"),
        "indeterminate": Indeterminate("simulated"),
    }
    decision = policy(errors[error], attempt, left, draw=draw, repeatable=repeatable)
    if not isinstance(decision, Retry):
        return None
    if isinstance(decision.to, Where):
        return decision.delay, (0 if decision.to is Where.SAME else None)
    return decision.delay, int(decision.to)


class ServiceApplication:
    """The application."""

    name = "service"
    probe: object = ("get", "n", "x")

    def genesis(self) -> dict[bytes, bytes]:
        """An empty state at (1, 1)."""
        view = DictView()
        StateMachine.initialise(view, index=1, term=1, revision=GENESIS_REVISION)
        return dict(view.dump())

    def replica(self, contents: dict[bytes, bytes], applied: int, term: int) -> ServiceReplica:
        """A replica on these contents; they say themselves where they stand."""
        replica = ServiceReplica(contents)
        if replica.machine.applied != applied:
            raise LookupError(f"contents stand at {replica.machine.applied}, not at {applied}")
        return replica

    def encode(self, commands: Sequence[object]) -> bytes:
        """One DATA entry's payload."""
        return encode_batch([command for command in commands if isinstance(command, Command)])

    def duties(self, mix: Mix) -> ServiceDuties:
        """A host's leader duties."""
        return ServiceDuties(mix)

    def start(self, cluster: Cluster, draw: random.Random) -> None:
        """Client processes with sessions."""
        for number in range(cluster.mix.clients):
            own = random.Random(draw.getrandbits(64))
            client = Client(cluster, CLIENT_FIRST + number, own, decide)
            cluster.clients.append(client)
            cluster.scheduler.after(own.randint(0, 1_000_000_000), ServiceClient(client).start)


application = ServiceApplication
"""What the entry point names: call it for an application."""
