"""Opening a stream to the first of several addresses that is there (RFC 8305, "happy eyeballs").

An address that leads nowhere answers nothing: each attempt is joined by the next one after a moment, and at once when
it has failed. The first that is open wins; the others are cancelled, and one that got open none the less is closed:
nothing was sent on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

ATTEMPTS_MAX: Final = 3
"""Most attempts at a time."""
SETTLE_SECONDS: Final = 0.1
"""So long the winner waits until the others are over; one that ends later is closed then."""


async def first_open(
    addresses: Sequence[str], attempt: Callable[[str], Awaitable[Any]], stagger: float
) -> tuple[str, Any] | None:
    """The address of the first stream that is open, and the stream; None where every attempt has failed.

    `attempt` gives a stream (something with `cancel`), or None where it failed; whatever else it raises ends all.
    `stagger`: seconds until an attempt is joined by the one at the next address.
    """
    underway: dict[asyncio.Task[Any], str] = {}
    won: tuple[str, Any] | None = None
    try:
        won = await _first(deque(addresses), attempt, stagger, underway)
    finally:
        try:
            await _end(underway)
        except BaseException:
            if won is not None:
                won[1].cancel()
            raise
    return won


async def _first(
    waiting: deque[str],
    attempt: Callable[[str], Awaitable[Any]],
    stagger: float,
    underway: dict[asyncio.Task[Any], str],
) -> tuple[str, Any] | None:
    """Leaves the attempts that are not over in `underway`."""
    while waiting or underway:
        if waiting and len(underway) < ATTEMPTS_MAX:
            address = waiting.popleft()
            underway[asyncio.ensure_future(attempt(address))] = address
        more = waiting and len(underway) < ATTEMPTS_MAX
        done, _ = await asyncio.wait(underway, timeout=stagger if more else None, return_when=asyncio.FIRST_COMPLETED)
        for task in [each for each in underway if each in done]:
            stream = None if task.cancelled() else task.result()
            address = underway.pop(task)
            if stream is not None:
                return address, stream
    return None


async def _end(underway: dict[asyncio.Task[Any], str]) -> None:
    for task in underway:
        task.cancel()
        task.add_done_callback(_close_late)
    if underway:
        await asyncio.wait(underway, timeout=SETTLE_SECONDS)


def _close_late(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is None and task.result() is not None:
        task.result().cancel()
