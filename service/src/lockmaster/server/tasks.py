"""Ending a task for certain: wait_for, grpc.aio and a handshake may swallow one cancellation, or make it an error."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

_log = logging.getLogger(__name__)
CANCEL_ATTEMPTS_MAX: Final = 10
CANCEL_INTERVAL_S: Final = 0.2
"""Seconds until a task that went on after its cancellation is cancelled again: 2 s in all, then it is left alone."""


async def end_task(task: asyncio.Task[Any]) -> bool:
    """Cancel a task and wait until it has ended; False, and a line in the log, if it will not within 2 s.

    Raises nothing of the task's: an error that it ends with goes to the log at debug level.
    """
    for _ in range(CANCEL_ATTEMPTS_MAX):
        if task.done():
            break
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_INTERVAL_S)
    else:
        _log.error("task %s did not end; it is left behind", task.get_name())
        return False
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.debug("task %s ended with %s: %s", task.get_name(), type(error).__name__, error)
    return True
