"""Passing a unary mutation on to the leader, one hop, for callers that cannot follow a hint (ingress, port-forward).

The caller's deadline goes along; its principal goes in metadata, which the leader believes only from a member's own
certificate or where nobody has an identity. A relayed call is never relayed again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from lockmaster.api import status_pb2
from lockmaster.errors import Indeterminate, InvalidRequest, NotLeader, Unavailable

RELAYED_KEY: Final = "lockmaster-relayed-for-bin"
FAILURE_KEY: Final = "lockmaster-failure-bin"
CHANNELS_MAX: Final = 16
"""Channels kept for later calls; one that makes room goes on until its last call has ended."""
MESSAGE_BYTES_MAX: Final = 8 << 20
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 30_000),
)


@dataclass(slots=True)
class _Road:
    """A channel to one address. Closed once it is retired and `calls` is 0, never under a call."""

    channel: grpc.aio.Channel
    credentials: grpc.ChannelCredentials | None
    calls: int = 0
    retired: bool = False


class Relay:
    """Channels to leaders, made when first needed, and anew once `credentials` gives others: one keeps its own."""

    def __init__(self, credentials: Callable[[], grpc.ChannelCredentials | None]) -> None:
        self._credentials = credentials
        # By address, the one used longest ago first; len <= CHANNELS_MAX.
        self._roads: dict[str, _Road] = {}

    async def call(
        self,
        path: str,
        request: Message,
        response_class: type[Message],
        address: str,
        principal: str,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Message:
        """The leader's answer. Its failure is passed on as it is; a lost connection is Indeterminate."""
        remaining = context.time_remaining()
        if remaining is None:
            raise InvalidRequest("deadline", "is missing; a write needs one")
        try:
            async with self._channel(address) as channel:
                call = channel.unary_unary(path, type(request).SerializeToString, response_class.FromString)
                answer: Message = await call(request, timeout=remaining, metadata=((RELAYED_KEY, principal.encode()),))
                return answer
        except grpc.aio.AioRpcError as error:
            trailing = trailing_of(error)
            failure = failure_in(trailing)
            if failure is None:
                raise self._without_details(error, address) from None
            if failure.status == status_pb2.STATUS_NOT_LEADER:
                raise NotLeader(failure.leader.address) from None
            kept = tuple((key, value) for key, value in trailing.items() if key.endswith("-bin"))
            await context.abort(error.code(), error.details() or "", kept)
            raise RuntimeError("context.abort returned") from None

    @staticmethod
    def _without_details(error: grpc.aio.AioRpcError, address: str) -> Exception:
        # A connection that was never made carried nothing; every other end may have come after the write.
        details = (error.debug_error_string() or "") + (error.details() or "")
        if error.code() is grpc.StatusCode.UNAVAILABLE and "onnect" in details and "refused" in details:
            return Unavailable(f"the leader at {address} cannot be reached from here")
        return Indeterminate(f"the leader at {address} did not answer: {error.code().name}")

    @asynccontextmanager
    async def _channel(self, address: str) -> AsyncIterator[grpc.aio.Channel]:
        """The channel to an address, for one call. Makes room by retiring the one used longest ago."""
        credentials = self._credentials()
        if address in self._roads and self._roads[address].credentials is not credentials:
            await self._retire(address)
        road = self._roads.pop(address, None) or _Road(open_channel(address, credentials), credentials)
        self._roads[address] = road
        road.calls += 1
        try:
            if len(self._roads) > CHANNELS_MAX:
                await self._retire(next(iter(self._roads)))
            yield road.channel
        finally:
            road.calls -= 1
            if road.retired and not road.calls:
                await road.channel.close(None)

    async def _retire(self, address: str) -> None:
        road = self._roads.pop(address)
        road.retired = True
        if not road.calls:
            await road.channel.close(None)

    async def close(self) -> None:
        """Close all channels, once the calls on them have ended."""
        for address in list(self._roads):
            await self._retire(address)


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel to another member's client port."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def trailing_of(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    """The trailing metadata of a failed call."""
    pairs: Any = error.trailing_metadata() or ()
    return dict(pairs)


def failure_in(trailing: dict[str, str | bytes]) -> status_pb2.Failure | None:
    """The Failure in trailing metadata, if a member of ours sent one."""
    data = trailing.get(FAILURE_KEY)
    if data is None:
        return None
    return status_pb2.Failure.FromString(data if isinstance(data, bytes) else data.encode())
