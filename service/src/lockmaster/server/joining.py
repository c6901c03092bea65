"""How a blank member gets into a cluster: it asks the members it was told of to add it, until one accepts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import grpc
from lockmaster_raft.membership import LEVEL_MIN

from lockmaster.api import admin_pb2, status_pb2
from lockmaster.server.relay import failure_in, open_channel, trailing_of
from lockmaster.server.runtime import Engine
from lockmaster.server.settings import Settings

_log = logging.getLogger(__name__)
MEMBER_ROLES: Final = {"full": admin_pb2.MEMBER_ROLE_FULL, "witness": admin_pb2.MEMBER_ROLE_WITNESS}
CALL_TIMEOUT_S: Final = 10.0
ADOPTED_TIMEOUT_S: Final = 10.0
"""After it was accepted: how long the leader may take to make contact before the (idempotent) call is repeated."""
PAUSE_S: Final = 0.3
PAUSE_MAX_S: Final = 3.0
DEFINITE: Final = frozenset({status_pb2.STATUS_INVALID_REQUEST, status_pb2.STATUS_PERMISSION_DENIED})


class JoinRefused(Exception):
    """The cluster definitely refused this member; the text is one line with its reason."""


async def join(
    engine: Engine, settings: Settings, client_address: str, credentials: Callable[[], grpc.ChannelCredentials | None]
) -> None:
    """Returns once this member is part of the cluster; raises JoinRefused. Cancel it to give up. `credentials` is asked
    at each attempt."""
    request = admin_pb2.AddMemberRequest(
        name=settings.name,
        peer_address=engine.peer_address,
        client_address=client_address,
        incarnation=engine.incarnation,
        learner=settings.learner,
        member_role=MEMBER_ROLES[settings.role],
        level_min=LEVEL_MIN,
        level_max=engine.settings.level_max,
    )
    pause = PAUSE_S
    attempt = 0
    addresses = list(settings.join)
    while engine.is_blank:
        address = addresses[attempt % len(addresses)]
        attempt += 1
        why, hint = await _ask(address, request, credentials())
        if not why:
            _log.info("accepted by the cluster through %s; waiting for its leader", address)
            if await _adopted(engine):
                return
            why = "accepted, but the leader has not made contact: is the peer address reachable from it?"
        _log.log(logging.WARNING if attempt % 10 == 0 else logging.INFO, "join through %s: %s", address, why)
        if hint and hint not in addresses:
            addresses = [*settings.join, hint]
            attempt = len(addresses) - 1
            continue
        if attempt % len(addresses) == 0:
            await asyncio.sleep(pause)
            pause = min(PAUSE_MAX_S, pause * 1.5)


async def _ask(
    address: str, request: admin_pb2.AddMemberRequest, credentials: grpc.ChannelCredentials | None
) -> tuple[str, str]:
    """("", "") when accepted, else why not and where the leader is if that was said."""
    channel = open_channel(address, credentials)
    try:
        call: Any = channel.unary_unary(
            "/lockmaster.v1.Admin/AddMember",
            admin_pb2.AddMemberRequest.SerializeToString,
            admin_pb2.AddMemberResponse.FromString,
        )
        await call(request, timeout=CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        failure = failure_in(trailing_of(error))
        if failure is not None:
            if failure.status in DEFINITE:
                raise JoinRefused(f"{address} refused this member: {failure.message}") from None
            return failure.message, failure.leader.address
        return f"{error.code().name}: {error.details()}", ""
    finally:
        await channel.close(None)
    return "", ""


async def _adopted(engine: Engine) -> bool:
    deadline = asyncio.get_running_loop().time() + ADOPTED_TIMEOUT_S
    while engine.is_blank and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    return not engine.is_blank
