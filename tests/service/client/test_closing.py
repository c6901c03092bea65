"""Calls under which their connection is closed: an error like others, and no cancellation that nobody asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from lockmaster import AsyncClient
from lockmaster.errors import Unavailable


class Silent:
    """A member that takes a call and does not answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.address = ""

    async def answer(self, request: bytes, context: Any) -> bytes:
        self.asked.set()
        await asyncio.sleep(60)
        return b""


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    one = Silent()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers = {"Status": grpc.unary_unary_rpc_method_handler(one.answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lockmaster.v1.Admin", handlers),))
    one.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield one
    await server.stop(0)


async def test_a_call_under_which_the_client_is_closed_is_unavailable(silent: Silent) -> None:
    """gRPC says "cancelled": a loop that awaits it would end as if somebody had cancelled it."""
    client = AsyncClient((silent.address,), insecure=True)
    call = asyncio.create_task(client.admin.status(silent.address))
    await silent.asked.wait()
    await client.close()
    with pytest.raises(Unavailable, match="the connection was closed under the call"):
        await call
    assert not call.cancelled()


async def test_a_caller_that_is_cancelled_stays_so(silent: Silent) -> None:
    async with AsyncClient((silent.address,), insecure=True) as client:
        call = asyncio.create_task(client.admin.status(silent.address))
        await silent.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
