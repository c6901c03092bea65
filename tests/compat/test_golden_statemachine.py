"""The log and state formats of released builds are replayed by this one, entry by entry, to the same hash."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from lockmaster.statemachine.apply import EntryHeader, StateMachine
from lockmaster.statemachine.codec import decode_batch, encode_batch
from lockmaster.statemachine.commands import ResultStatus
from lockmaster.statemachine.memory import DictView
from lockmaster_raft.entry import EntryKind

GOLDEN = sorted((Path(__file__).parent / "golden").glob("statemachine-*.jsonl"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_log_replays_to_the_same_state_hashes(path: Path) -> None:
    start, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    view = DictView()
    StateMachine.initialise(view, **start)
    machine = StateMachine(view)
    for row in rows:
        kind, payload = EntryKind(row["kind"]), bytes.fromhex(row["payload"])
        commands = decode_batch(payload) if kind is EntryKind.DATA else []
        assert kind is not EntryKind.DATA or encode_batch(commands) == payload
        applied = machine.apply(EntryHeader(row["index"], 1, kind, row["time"]), commands)
        assert [int(result.status) for result in applied.results] == row["status"]
        assert f"{view.hash:016x}" == row["hash"], f"state differs after entry {row['index']}"


def test_the_golden_logs_hold_every_kind_and_most_answers() -> None:
    kinds: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    for path in GOLDEN:
        for row in map(json.loads, path.read_text().splitlines()[1:]):
            statuses.update(row["status"])
            if row["payload"]:
                kinds.update(
                    type(command.operation).__name__ for command in decode_batch(bytes.fromhex(row["payload"]))
                )
    assert len(kinds) == 11
    missing = {ResultStatus.STALE, ResultStatus.WINDOW_FULL, ResultStatus.QUOTA_EXCEEDED, ResultStatus.NOT_FOUND}
    missing |= {ResultStatus.INVALID, ResultStatus.PERMISSION_DENIED, ResultStatus.ENDED, ResultStatus.SESSION_EXPIRED}
    missing |= {ResultStatus.TIMED_OUT}
    assert {*ResultStatus} - {*statuses} <= missing


def test_a_state_read_back_from_its_bytes_goes_on_the_same() -> None:
    start, *rows = [json.loads(line) for line in GOLDEN[-1].read_text().splitlines()]
    view = DictView()
    StateMachine.initialise(view, **start)
    for row in rows[:120]:
        view = DictView(view.dump())
        kind = EntryKind(row["kind"])
        commands = decode_batch(bytes.fromhex(row["payload"])) if kind is EntryKind.DATA else []
        StateMachine(view).apply(EntryHeader(row["index"], 1, kind, row["time"]), commands)
        assert f"{view.hash:016x}" == row["hash"]
