"""What the node hands out for what was just applied waits for the loop's next turn."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from lockmaster.server.runtime import Engine

ENTRIES = 5_000


async def test_a_long_log_is_applied_turn_by_turn_and_not_one_call_inside_the_other() -> None:
    """A member that replayed 25,000 entries ran out of stack, could not even say so, and neither ended nor went on."""
    codes, ended = list[int](), asyncio.Event()

    class Applier:
        machine, waiting, applied = object(), 1, 0

        def run(self, keeper: Any) -> bool:
            self.applied += 1
            if self.applied == ENTRIES:
                ended.set()
            return False

    engine: Any = Engine.__new__(Engine)
    engine._applier, engine._node, engine._keeper = Applier(), object(), object()
    engine._loop, engine._reads = asyncio.get_running_loop(), SimpleNamespace(applied=lambda _: ())
    engine._dead = engine._apply_due = engine._applying = engine._apply_scheduled = False
    engine._exit_process = codes.append

    def step(event: Any) -> None:
        engine._apply_due = engine._applier.applied < ENTRIES
        if engine._apply_due:
            engine._apply_guarded()

    engine._step = step
    engine._apply_guarded()
    await asyncio.wait_for(ended.wait(), 30)
    assert codes == []
    assert engine._applier.applied == ENTRIES
