"""Relaying to leaders: room for a new one is never made under a call, and certificates are those of now."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster.api import config_pb2
from lockmaster.errors import Indeterminate, Unavailable
from lockmaster.server import tls
from lockmaster.server.relay import CHANNELS_MAX, Relay

from .test_tls import Authority, settings_for

PUT = "/lockmaster.v1.Config/Put"


class Caller:
    """As much of a server's context as a relayed call asks for."""

    def time_remaining(self) -> float:
        return 5.0


async def relayed(relay: Relay, address: str) -> Any:
    context: Any = Caller()
    return await relay.call(PUT, config_pb2.PutRequest(key="k"), config_pb2.PutResponse, address, "", context)


def answering(put: Any) -> grpc.aio.Server:
    """A leader that answers so; it has no port yet."""
    handler = grpc.unary_unary_rpc_method_handler(
        put,
        request_deserializer=config_pb2.PutRequest.FromString,
        response_serializer=config_pb2.PutResponse.SerializeToString,
    )
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lockmaster.v1.Config", {"Put": handler}),))
    return server


async def test_a_new_leader_address_ends_no_call_in_flight() -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def put(request: config_pb2.PutRequest, context: Any) -> config_pb2.PutResponse:
        arrived.set()
        await answer.wait()
        return config_pb2.PutResponse(revision=7)

    server = answering(put)
    leader = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    relay = Relay(lambda: None)
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


async def test_a_leader_is_reached_by_the_certificates_of_now(tmp_path: Path) -> None:
    """A channel keeps those that it was made with: with them it would never get in again."""

    async def put(request: config_pb2.PutRequest, context: Any) -> config_pb2.PutResponse:
        return config_pb2.PutResponse(revision=7)

    async def reached(address: str) -> str:
        credentials = tls.server_credentials(settings)
        assert credentials is not None
        server = answering(put)
        port = server.add_secure_port(address, credentials)
        await server.start()
        try:
            assert (await relayed(relay, f"127.0.0.1:{port}")).revision == 7
        finally:
            await server.stop(None)
        return f"127.0.0.1:{port}"

    authority = Authority(tmp_path, "ca")
    settings = settings_for(tmp_path, authority)
    relay = Relay(tls.member_channel_credentials(settings))
    try:
        leader = await reached("127.0.0.1:0")
        next_authority = Authority(tmp_path, "next-ca")
        next_authority.issue("server")
        authority.path.write_bytes(next_authority.path.read_bytes())
        await reached(leader)
    finally:
        await relay.close()
