"""Changes under an idempotency key, answered once more as they were the first time.

Theory of operation. A call under a key runs in a task of its own, so that it goes on when its caller is gone: the
answer is for the repeat. A repeat awaits that task. The keys are this member's own and in memory: what another leader
did is told by the configuration there, and by the expected epoch (admin.proto).

Laws.
1. One request runs under a key at a time; the same key with another request is refused.
2. What failed is forgotten: a refusal has done nothing, and what became of an unknown end only the log says.
3. len(calls) <= REPEATS_MAX; one that runs is never forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from lockmaster.errors import InvalidRequest, Overloaded

REPEATS_MAX: Final = 1024
"""Most keys remembered; the oldest answer makes room."""


@dataclass(frozen=True, slots=True)
class _Call:
    asked: tuple[str, bytes]
    """The request: its message's name and its bytes."""
    task: asyncio.Future[Message]


class Repeats:
    """What ran, or runs, under which key."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}

    async def once(self, key: str, request: Message, run: Callable[[], Awaitable[Message]]) -> Message:
        """The answer of `run`, or of the call that ran under this key before. An empty key is none.

        Raises what `run` raises; InvalidRequest if the key was used for another request; Overloaded if all are in use.
        """
        if not key:
            return await run()
        asked = (request.DESCRIPTOR.full_name, request.SerializeToString(deterministic=True))
        call = self._calls.get(key)
        if call is None:
            self._make_room()
            call = _Call(asked, asyncio.ensure_future(run()))
            self._calls[key] = call
            call.task.add_done_callback(lambda task: self._ended(key, task))
        elif call.asked != asked:
            raise InvalidRequest("idempotency_key", "was used for another request")
        return await asyncio.shield(call.task)

    def _ended(self, key: str, task: asyncio.Future[Message]) -> None:
        if task.cancelled() or task.exception() is not None:
            del self._calls[key]

    def _make_room(self) -> None:
        if len(self._calls) < REPEATS_MAX:
            return
        for key, call in self._calls.items():
            if call.task.done():
                del self._calls[key]
                return
        raise Overloaded(f"{REPEATS_MAX} changes run")
