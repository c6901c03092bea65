"""The trivial application: registers with exactly-once writes. For when the service isn't installed."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from lockmaster_raft.config import SECOND
from lockmaster_raft.entry import Entry, EntryKind
from lockmaster_raft.testing.application import Executed, KeyWritten, Observation, Outcome
from lockmaster_raft.testing.clients import Client, plain_policy
from lockmaster_raft.testing.frontend import Answer
from lockmaster_raft.testing.network import CLIENT_FIRST
from lockmaster_raft.testing.swarm import Mix

if TYPE_CHECKING:
    from lockmaster_raft.testing.cluster import Cluster

KEYS: Final = 8


class RegisterReplica:
    """key -> value; d/client -> [seq, answer]."""

    def __init__(self, contents: dict[bytes, bytes]) -> None:
        self._contents = contents
        self._writes: dict[bytes, bytes | None] = {}
        self._hash = sum(crc32(key + b"=" + value) for key, value in contents.items())

    @property
    def revision(self) -> int:
        """Counts writes."""
        return int(self._contents.get(b"r", b"0"))

    @property
    def cluster_time(self) -> int:
        """The latest stamp."""
        return int(self._contents.get(b"t", b"0"))

    def _put(self, key: bytes, value: bytes) -> None:
        old = self._contents.get(key)
        if old is not None:
            self._hash -= crc32(key + b"=" + old)
        self._hash += crc32(key + b"=" + value)
        self._contents[key] = value
        self._writes[key] = value

    def apply(self, entry: Entry) -> Outcome:
        """Execute each write once."""
        if entry.leader_time > self.cluster_time:
            self._put(b"t", b"%d" % entry.leader_time)
        if entry.kind is not EntryKind.DATA:
            return Outcome()
        results: list[object] = []
        observed: list[Observation] = []
        for client, seq, key, value in json.loads(entry.payload):
            mark = b"d/%d" % client
            last, answer = json.loads(self._contents.get(mark, b"[0, 0]"))
            if seq > last:
                answer = self.revision + 1
                self._put(b"r", b"%d" % answer)
                self._put(b"k/" + key.encode(), value.encode())
                self._put(mark, json.dumps([seq, answer]).encode())
                observed += [Executed(client, seq), KeyWritten(key, answer, value.encode())]
            results.append(answer)
        return Outcome(results, observed)

    def seal(self) -> Mapping[bytes, bytes | None]:
        """Writes since the last seal."""
        writes, self._writes = self._writes, {}
        return writes

    def contents(self) -> dict[bytes, bytes]:
        """A copy."""
        return dict(self._contents)

    def state_hash(self) -> int:
        """Additive, so incremental."""
        return self._hash

    def query(self, query: object) -> object:
        """The value of a key."""
        return self._contents.get(b"k/" + str(query).encode())


class NoDuties:
    """A leader of registers proposes nothing by itself."""

    def turn(self, now: int, term: int, leading: bool, own_term_committed: bool) -> None:
        """Nothing."""

    def keep_alive(self, session: int) -> None:
        """Nothing."""

    def due(self, now: int, cluster_time: int, replica: Any) -> Sequence[object]:
        """Nothing."""
        return ()

    def next_deadline(self, now: int) -> int:
        """Never."""
        return now + 3600 * SECOND


class RegisterApplication:
    """The application."""

    name = "register"
    probe: object = "x0"

    def genesis(self) -> dict[bytes, bytes]:
        """Empty."""
        return {}

    def replica(self, contents: dict[bytes, bytes], applied: int, term: int) -> RegisterReplica:
        """On these contents."""
        return RegisterReplica(contents)

    def encode(self, commands: Sequence[object]) -> bytes:
        """JSON."""
        return json.dumps(commands).encode()

    def duties(self, mix: Mix) -> NoDuties:
        """None."""
        return NoDuties()

    def start(self, cluster: Cluster, draw: random.Random) -> None:
        """Clients that write and read one after the other."""
        for number in range(3 * cluster.mix.clients):
            own = random.Random(draw.getrandbits(64))
            client = Client(cluster, CLIENT_FIRST + number, own, plain_policy)
            cluster.clients.append(client)
            cluster.scheduler.after(own.randint(0, SECOND), _Writer(client).next)


class _Writer:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._seq = 0

    def next(self) -> None:
        """One operation, then another."""
        client = self._client
        key = f"x{client.draw.randrange(KEYS)}"
        if client.draw.random() < 0.3:
            client.read(key, self._done_read, 5 * SECOND)
            return
        self._seq += 1
        self._write(self._seq, (client.number, self._seq, key, f"{client.number}.{self._seq}"))

    def _write(self, seq: int, command: object) -> None:
        def done(answer: Answer | None) -> None:
            if answer is None:
                self._write(seq, command)
                return
            self._client.cluster.checker.acknowledged(self._client.number, seq, answer)
            self._finish()

        self._client.write(command, done, reserved=False, repeatable=True, patience=10 * SECOND)

    def _done_read(self, answer: Answer | None) -> None:
        if answer is None:
            self._pause()
        else:
            self._finish()

    def _finish(self) -> None:
        self._client.succeeded()
        self._pause()

    def _pause(self) -> None:
        cluster = self._client.cluster
        interval = cluster.operation_interval_ns(len(cluster.clients))
        cluster.scheduler.after(int(interval * 2 * self._client.draw.random()), self.next)
