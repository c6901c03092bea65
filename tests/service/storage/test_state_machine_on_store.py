"""The real state machine on StateStore and on DictView: equal answers, events, records and hash, across reopening."""

from __future__ import annotations

import random
from pathlib import Path

from lockmaster.statemachine.apply import Applied, EntryHeader, StateMachine
from lockmaster.statemachine.codec import decode_batch, encode_batch
from lockmaster.statemachine.commands import Command
from lockmaster.statemachine.records import ALL_TABLES
from lockmaster.storage.rocks import Database
from lockmaster.storage.state import StateStore
from lockmaster.testing.machine import SECOND, TTL, Machine
from lockmaster_raft.entry import EntryKind
from lockmaster_raft.ids import Index, Term


class Pair(Machine):
    """Every entry goes to both; the store lags, stores and is reopened at times."""

    def __init__(self, path: str, seed: int) -> None:
        super().__init__()
        self.path = path
        self.draw = random.Random(seed)
        self.store = StateStore(Database(path), cache_weight_max=1 << 14)
        StateMachine.initialise(self.store, index=1, term=1, revision=1_000)
        self.store.sealed(Index(1), Term(1))
        self.other = StateMachine(self.store)
        self.log: list[tuple[EntryHeader, bytes]] = []

    def entry(self, *commands: Command, kind: EntryKind = EntryKind.DATA) -> Applied:
        header = EntryHeader(self.state.applied + 1, 1, kind, self.now)
        applied = super().entry(*commands, kind=kind)
        self.log.append((header, encode_batch(commands)))
        other = self.other.apply(header, decode_batch(self.log[-1][1]))
        assert (other.results, other.events) == (applied.results, applied.events)
        self.store.sealed(Index(header.index), Term(1))
        if self.draw.random() < 0.2:
            self.store.cut()
            self.store.release()
        if self.draw.random() < 0.3:
            self.store.store(Index(header.index - self.draw.randrange(2)))
        if self.draw.random() < 0.02 and self.store.applied_stored:
            self.reopen()
        return applied

    def reopen(self) -> None:
        self.store.close()
        self.store = StateStore(Database(self.path), cache_weight_max=1 << 14)
        if not self.store.applied_stored:
            StateMachine.initialise(self.store, index=1, term=1, revision=1_000)
            self.store.sealed(Index(1), Term(1))
        self.other = StateMachine(self.store)
        for header, payload in self.log[self.other.applied - 1 :]:
            self.other.apply(header, decode_batch(payload))
            self.store.sealed(Index(header.index), Term(1))


def _turn(pair: Pair, sessions: list[int], held: list[tuple[int, int, str]]) -> None:
    draw = pair.draw
    match draw.randrange(8):
        case 0:
            sessions.append(pair.open(str(len(sessions)), draw.choice([TTL, 3 * TTL]), draw.choice([0, SECOND])))
        case 1 | 2 | 3 if sessions:
            session, name = draw.choice(sessions), draw.choice(["a", "b", "c"])
            answer = pair.acquire(session, name, wait=draw.random() < 0.8)
            held.append((session, answer.revision, name))
        case 4 if held:
            session, token, name = held.pop(draw.randrange(len(held)))
            pair.release(session, token, name)
        case 5:
            pair.put(draw.choice(["x", "y", "z/1"]), draw.randbytes(draw.choice([10, 3000, 100_000])))
        case 6:
            pair.delete(draw.choice(["x", "y"]))
        case _:
            pair.now += draw.choice([SECOND, 4 * SECOND])
            if sessions:
                pair.renew(draw.choice(sessions))
            pair.expire_due()


def test_s10_equal_answers_and_hash_on_the_store_and_on_dicts(tmp_path: Path) -> None:
    for seed in range(4):
        pair = Pair(str(tmp_path / str(seed)), seed)
        sessions: list[int] = []
        held: list[tuple[int, int, str]] = []
        for _ in range(200):
            _turn(pair, sessions, held)
        pair.store.cut()
        assert pair.store.hash == pair.view.hash
        for table in ALL_TABLES:
            stored = [(key, table.encode_value(value)) for key, value in pair.store.scan(table, b"", None)]
            twin = [(key, table.encode_value(value)) for key, value in pair.view.scan(table, b"", None)]
            assert stored == twin, table.name
        pair.store.close()
