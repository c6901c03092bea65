"""Ending another's session: on the leader, and only where every member can read the entry (level 2, raft.md §6)."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from lockmaster.errors import InvalidRequest, LockmasterError, NotLeader, PreconditionFailed
from lockmaster.server.runtime import Engine
from lockmaster.statemachine.commands import Command, EndSession, Result, ResultStatus

_log = logging.getLogger(__name__)
LEVEL: Final = 2
"""The level from which on the log may hold EndSession: a binary of level 1 stops at a kind that it doesn't know."""


async def end_session(engine: Engine, operation: EndSession) -> bool:
    """Whether it was still there. Once this returns it is over, and told to those that lost a lock with it.

    NotLeader, Overloaded, Unavailable, PreconditionFailed (level 1, or of another pod): not done. Indeterminate:
    perhaps done; asking again does no harm.
    """
    if not engine.is_leader:
        raise NotLeader(engine.leader_address())
    node = engine.node
    # Both: what is committed, and what the log says already (a DEACTIVATE that is under way).
    if min(node.levels.active, node.levels_at(node.last_index).active) < LEVEL:
        raise PreconditionFailed(
            f"ending a session needs level {LEVEL} (lockmaster gate status); until then its TTL decides"
        )
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def done(result: Result | LockmasterError) -> None:
        engine.sessions_ending -= 1
        if ended.done():
            return
        if isinstance(result, LockmasterError):
            ended.set_exception(result)
        elif result.status is ResultStatus.COMPARE_FAILED:
            ended.set_exception(PreconditionFailed("the session belongs to another pod, or to none"))
        elif result.status is not ResultStatus.OK:
            ended.set_exception(InvalidRequest("reason", "is not one that a command may carry"))
        else:
            ended.set_result(result.extra == 1)

    engine.sessions_ending += 1
    # Reserved: ending a session frees what it holds, so it must get through an overload like a release does.
    engine.propose(Command(operation), done, reserved=True)
    found = await ended
    if found:
        _log.info("session %d ended by %s: %s", operation.session_id, operation.principal or "?", operation.reason)
    return found
