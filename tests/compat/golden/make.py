"""Writes the golden log of the command format: entries, and the state hash after each of them.

`python tests/compat/golden/make.py` writes statemachine-1.jsonl beside it. A release never changes a golden file that
an earlier one shipped: a change here means that a replica of this build and one of the last would diverge.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from lockmaster.statemachine.apply import EntryHeader, StateMachine
from lockmaster.statemachine.codec import command_digest, encode_batch
from lockmaster.statemachine.commands import (
    Acquire,
    CancelAcquire,
    CloseSession,
    Command,
    Compact,
    Dedup,
    Delete,
    ForceRelease,
    KeepAlive,
    OpenSession,
    Operation,
    Put,
    Release,
)
from lockmaster.statemachine.memory import DictView
from lockmaster_raft.entry import EntryKind

GOLDEN = Path(__file__).with_name("statemachine-1.jsonl")
ENTRIES_COUNT = 400
SECOND = 1_000_000_000
START = {"index": 1, "term": 1, "revision": 1_000_000}


class Maker:
    """Draws commands that fit the state: most take effect, some are refused."""

    def __init__(self) -> None:
        self.random = random.Random(3)
        self.view = DictView()
        StateMachine.initialise(self.view, **START)
        self.machine = StateMachine(self.view)
        self.now = 0
        self.seqs: dict[int, int] = {}

    def once(self, session: int, operation: Operation) -> Command:
        seq = self.seqs[session] = self.seqs.get(session, 0) + self.random.choice([0, 1, 1, 1, 1]) or 1
        return Command(operation, Dedup(session, seq, max(1, seq - 20), command_digest(operation)))

    def command(self) -> Command:
        draw = self.random
        sessions = [info.session_id for info in self.machine.list_sessions(limit=1_000)[0]]
        if len(sessions) < 3:
            return Command(OpenSession(draw.randbytes(16), draw.choice([10, 30]) * SECOND, "p", "pod-é", SECOND))
        session, name = draw.choice(sessions), draw.choice(["a", "b", "orders/42"])
        key, lock = draw.choice(["k", "k/1", "ключ"]), self.machine.inspect_lock(name)
        condition = draw.choice([None, None, 0, self.machine.revision])
        guard = (name, lock.token) if draw.random() < 0.2 else ("", 0)
        owner = session if draw.random() < 0.2 else 0
        kind = draw.randrange(12)
        operations: list[Operation] = [
            Acquire(name, draw.random() < 0.8, draw.choice([0, SECOND // 10, SECOND])),
            Release(lock.session_id or session, name, lock.token),
            CancelAcquire(session, name, self.seqs.get(session, 0) + draw.choice([0, 2])),
            ForceRelease(name, 0, "stuck", "ops"),
            Put("ns", key, draw.randbytes(5), condition, *guard, "me", "why", owner),
            Delete("ns", key, condition, *guard, "me", ""),
        ]
        if kind == 0:
            return Command(KeepAlive(tuple(sessions[:2])))
        if kind == 1 and draw.random() < 0.2:
            return Command(CloseSession(session))
        if kind == 2:
            return Command(Compact(draw.choice(["ns", ""]), self.machine.revision - 5))
        operation = draw.choice([*operations, operations[0], operations[1], operations[4]])
        if type(operation) is Release:
            session = operation.session_id
        return self.once(session, operation)

    def entry(self) -> tuple[EntryKind, list[Command]]:
        self.now += self.random.choice([0, SECOND // 10, SECOND])
        if self.random.random() < 0.03:
            return EntryKind.NOOP, []
        commands = [self.command() for _ in range(self.random.randrange(1, 5))]
        due = self.machine.expiry.due(self.now, 100) if self.random.random() < 0.5 else None
        if due is not None:
            commands.append(Command(due))
        return EntryKind.DATA, commands


def make() -> list[dict[str, object]]:
    """The rows of the golden file."""
    maker = Maker()
    rows: list[dict[str, object]] = [dict(START)]
    for index in range(2, 2 + ENTRIES_COUNT):
        kind, commands = maker.entry()
        applied = maker.machine.apply(EntryHeader(index, 1, kind, maker.now), commands)
        rows.append(
            {
                "index": index,
                "kind": int(kind),
                "time": maker.now,
                "payload": encode_batch(commands).hex() if kind is EntryKind.DATA else "",
                "status": [int(result.status) for result in applied.results],
                "hash": f"{maker.view.hash:016x}",
            }
        )
    return rows


if __name__ == "__main__":
    GOLDEN.write_text("".join(json.dumps(row) + "\n" for row in make()))
    print(f"{GOLDEN.name}: {ENTRIES_COUNT} entries")
