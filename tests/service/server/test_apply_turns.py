"""What the node hands out for what was just applied waits for the loop's next turn; what fails ends the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lockmaster.server.runtime import Engine
from lockmaster.server.status import EXIT_INVARIANT
from lockmaster.storage.errors import StorageFailed

ENTRIES = 5_000


def applying(run: Callable[[], bool], codes: list[int]) -> Any:
    """An engine that applies by `run`, with nothing else."""
    engine: Any = Engine.__new__(Engine)
    engine._applier = SimpleNamespace(machine=object(), waiting=1, applied=0, run=lambda keeper: run())
    engine._node, engine._keeper = object(), object()
    engine._loop, engine._reads = asyncio.get_running_loop(), SimpleNamespace(applied=lambda _: ())
    engine._dead = engine._apply_due = engine._applying = engine._apply_scheduled = engine.stopping = False
    engine._exit_process = codes.append
    return engine


@pytest.mark.parametrize("by", ["the node", "the applier"])
async def test_a_long_log_is_applied_turn_by_turn_and_not_one_call_inside_the_other(by: str) -> None:
    """A member that replayed 25,000 entries ran out of stack, could not even say so, and neither ended nor went on."""
    codes, ended = list[int](), asyncio.Event()

    def run() -> bool:
        engine._applier.applied += 1
        if engine._applier.applied == ENTRIES:
            ended.set()
        return by == "the applier" and engine._applier.applied < ENTRIES

    def step(event: Any) -> None:
        engine._apply_due = by == "the node" and engine._applier.applied < ENTRIES
        if engine._apply_due:
            engine._apply_guarded()

    engine = applying(run, codes)
    engine._step = step
    engine._apply_guarded()
    await asyncio.wait_for(ended.wait(), 30)
    assert codes == []
    assert engine._applier.applied == ENTRIES


@pytest.mark.parametrize("error", [ValueError("a bug"), StorageFailed("a disk")])
async def test_a_member_that_fails_exits_though_it_cannot_be_logged(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(logging.getLogger("lockmaster.server"), "handlers", [Broken()])
    codes = list[int]()
    engine = applying(lambda: False, codes)
    engine.fail(error)
    engine.fail(error)
    assert codes == [74 if isinstance(error, StorageFailed) else EXIT_INVARIANT]
    assert "which could not be logged: RecursionError" in capfd.readouterr().err
