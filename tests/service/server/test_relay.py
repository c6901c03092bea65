"""Relaying to many leaders: room for a new one is never made under a call."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from lockmaster.api import config_pb2
from lockmaster.errors import Indeterminate, Unavailable
from lockmaster.server.relay import CHANNELS_MAX, Relay

PUT = "/lockmaster.v1.Config/Put"


class Caller:
    """As much of a server's context as a relayed call asks for."""

    def time_remaining(self) -> float:
        return 5.0


async def relayed(relay: Relay, address: str) -> Any:
    context: Any = Caller()
    return await relay.call(PUT, config_pb2.PutRequest(key="k"), config_pb2.PutResponse, address, "", context)


async def test_a_new_leader_address_ends_no_call_in_flight() -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def put(request: config_pb2.PutRequest, context: Any) -> config_pb2.PutResponse:
        arrived.set()
        await answer.wait()
        return config_pb2.PutResponse(revision=7)

    handler = grpc.unary_unary_rpc_method_handler(
        put,
        request_deserializer=config_pb2.PutRequest.FromString,
        response_serializer=config_pb2.PutResponse.SerializeToString,
    )
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lockmaster.v1.Config", {"Put": handler}),))
    leader = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    relay = Relay(None)
    try:
        waiting = asyncio.create_task(relayed(relay, leader))
        await arrived.wait()
        for port in range(1, CHANNELS_MAX + 2):
            with pytest.raises((Unavailable, Indeterminate)):
                await relayed(relay, f"127.0.0.1:{port}")
        answer.set()
        assert (await waiting).revision == 7
    finally:
        await relay.close()
        await server.stop(0)
