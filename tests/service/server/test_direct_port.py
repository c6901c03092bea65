"""The session port: verdicts, bounds, ends, trust; and the SDK's way back to gRPC where it can't be reached."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from lockmaster import AsyncClient, direct
from lockmaster.client import direct as dialling
from lockmaster.direct import STREAM_END, DirectStream, Verdict
from lockmaster.framing import Malformed
from lockmaster.server import direct_port
from lockmaster.server.app import Server
from lockmaster.server.callers import Caller
from lockmaster.server.direct_port import AcceptedStream, DirectPort

WAIT = 10.0


class End(DirectStream):
    """A client's end that sends what the test says."""

    def __init__(self, first: bytes) -> None:
        super().__init__(direct.ANSWER_BYTES_MAX)
        self.first = first
        self.verdict: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(self.first)

    def greet(self, frame: bytes) -> None:
        self.verdict.set_result(direct.decode_welcome(frame))
        self.open()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()


class Port:
    """A session port whose streams `serve` serves."""

    def __init__(self) -> None:
        self.full = False
        self.serve: Callable[[Any, Caller], Any] = self.echo
        self.principals: list[str] = []
        self.port = DirectPort(self._serve, lambda: self.full)

    async def _serve(self, stream: AcceptedStream, caller: Caller) -> None:
        self.principals.append(caller.principal)
        await self.serve(stream, caller)

    @staticmethod
    async def echo(stream: AcceptedStream, caller: Caller) -> None:
        while (data := await stream.read()) is not STREAM_END:
            await stream.write(data)

    async def connect(self, first: bytes | None = None) -> End:
        end = End(direct.encode_hello(self.port.key) if first is None else first)
        await asyncio.get_running_loop().create_connection(lambda: end, "127.0.0.1", self.port.number)
        return end


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    made = Port()
    await made.port.listen("127.0.0.1:0", None)
    yield made
    async with asyncio.timeout(WAIT):
        await made.port.close()


async def test_frames_go_both_ways_in_order(port: Port) -> None:
    end = await port.connect()
    async with asyncio.timeout(WAIT):
        assert await end.verdict == Verdict.ACCEPTED
        sizes = (0, 1, 60, direct.JOIN_BYTES_MAX, direct.JOIN_BYTES_MAX + 1, 3 << 20)
        for number, size in enumerate(sizes):
            await end.write(bytes([number]) * size)
        for number, size in enumerate(sizes):
            assert await end.read() == bytes([number]) * size
    end.cancel()


async def test_a_wrong_key_version_or_a_full_member_is_told_and_closed(port: Port) -> None:
    key = port.port.key
    for first, verdict in (
        (direct.encode_hello(bytes(16)), Verdict.WRONG_KEY),
        (direct.encode_hello(key, version=2), Verdict.WRONG_VERSION),
    ):
        end = await port.connect(first)
        async with asyncio.timeout(WAIT):
            assert await end.verdict == verdict
            await end.gone.wait()
    port.full = True
    end = await port.connect()
    async with asyncio.timeout(WAIT):
        assert await end.verdict == Verdict.BUSY
        await end.gone.wait()
    assert port.principals == []


@pytest.mark.parametrize(
    "first",
    [
        struct.pack(">I", 65) + b"x" * 65,
        struct.pack(">I", 22) + b"GET / HTTP/1.1\r\nHost: x",
        struct.pack(">I", 2) + b"LK",
        struct.pack(">I", 0),
    ],
    ids=["too long", "not a hello", "too short", "empty"],
)
async def test_what_is_no_hello_ends_the_connection(port: Port, first: bytes) -> None:
    end = await port.connect(first)
    async with asyncio.timeout(WAIT):
        await end.gone.wait()
    assert port.principals == []


async def test_a_hello_may_come_in_pieces_and_data_at_once_behind_it(port: Port) -> None:
    hello = direct.encode_hello(port.port.key)
    end = await port.connect(hello[:1])
    async with asyncio.timeout(WAIT):
        assert end.transport is not None
        for piece in (hello[1:9], hello[9:] + struct.pack(">IB", 3, direct.DATA) + b"a", b"b"):
            await asyncio.sleep(0.02)
            end.transport.write(piece)
        assert await end.read() == b"ab"
    end.cancel()


async def test_an_unknown_kind_or_a_frame_beyond_the_maximum_ends_the_connection(port: Port) -> None:
    for frame in (struct.pack(">IB", 1, 7), struct.pack(">I", 0), struct.pack(">I", direct.REQUEST_BYTES_MAX + 1)):
        end = await port.connect()
        async with asyncio.timeout(WAIT):
            await end.verdict
            assert end.transport is not None
            end.transport.write(frame)
            await end.gone.wait()


async def test_an_abort_tells_the_client_why(port: Port) -> None:
    async def refuse(stream: AcceptedStream, caller: Caller) -> None:
        await stream.write(b"last")
        await stream.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "10 streams are open on this member")

    port.serve = refuse
    end = await port.connect()
    async with asyncio.timeout(WAIT):
        assert await end.read() == b"last"
        with pytest.raises(ConnectionError, match="10 streams are open"):
            await end.read()
        with pytest.raises(ConnectionError):
            await end.write(b"x")


async def test_a_client_that_goes_ends_what_serves_it(port: Port) -> None:
    cancelled = asyncio.Event()

    async def wait(stream: AcceptedStream, caller: Caller) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    port.serve = wait
    end = await port.connect()
    async with asyncio.timeout(WAIT):
        await end.verdict
        end.cancel()
        await cancelled.wait()


async def test_a_client_that_does_not_read_holds_the_writer_back(port: Port) -> None:
    written = 0

    async def flood(stream: AcceptedStream, caller: Caller) -> None:
        nonlocal written
        while True:
            await stream.write(bytes(64 << 10))
            written += 64 << 10

    port.serve = flood
    end = await port.connect()
    async with asyncio.timeout(WAIT):
        await end.verdict
        before = -1
        while before != written:  # until nothing moves any more
            before = written
            await asyncio.sleep(0.3)
        assert direct.READ_AHEAD_BYTES < written < 64 << 20  # sockets' buffers are the kernel's affair
        received, stalled_at = 0, written
        while received <= stalled_at:
            received += len(await end.read())
    end.cancel()


async def test_who_says_nothing_is_closed_and_too_many_of_them_are(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_port, "HALF_OPEN_MAX", 2)
    silent = [await port.connect(b"") for _ in range(2)]
    async with asyncio.timeout(WAIT):
        while len(port.port.half_open) < 2:
            await asyncio.sleep(0)
        await (await port.connect(b"")).gone.wait()
    assert not any(each.gone.is_set() for each in silent)
    monkeypatch.setattr(direct_port, "HANDSHAKE_SECONDS", 0.05)
    for each in silent:
        each.cancel()
    async with asyncio.timeout(WAIT):
        while port.port.half_open:
            await asyncio.sleep(0)
        await (await port.connect(b"")).gone.wait()


async def test_the_welcome_of_something_else_is_malformed() -> None:
    with pytest.raises(Malformed):
        direct.decode_welcome(b"HTTP/1.1 400")


# -- the SDK over it


def stream_of(client: AsyncClient) -> Any:
    assert client._connection is not None
    return client._connection._stream_call


async def test_the_sdk_takes_it_and_finds_it_again(server: Server) -> None:
    async with AsyncClient(server.bound_address) as client:
        await client.config("n").put("k", b"1")
        assert isinstance(stream_of(client), DirectStream)
        stream_of(client).cancel()
        await client.config("n").put("k", b"2")
        assert isinstance(stream_of(client), DirectStream)


async def test_a_port_that_another_process_has_now_is_not_taken_for_the_members(server: Server) -> None:
    async with AsyncClient(server.bound_address) as client:
        await client.config("n").put("k", b"1")
        server.direct.key = bytes(16)  # as after a restart
        stream_of(client).cancel()
        await client.config("n").put("k", b"2")
        assert isinstance(stream_of(client), DirectStream)  # asked for the new key


@pytest.mark.parametrize("how", ["closed", "silent", "none", "earlier release"])
async def test_where_it_cannot_be_reached_grpc_is_used(
    server: Server, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "DIAL_SECONDS_MAX", 0.3)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if how == "silent":
            other.listen()
        if how == "earlier release":
            monkeypatch.setattr(dialling, "DIRECT_METHOD", "/lockmaster.v1.Sessions/Unheard")
        server.direct.number = 0 if how == "none" else other.getsockname()[1]
        async with asyncio.timeout(WAIT), AsyncClient(server.bound_address) as client:
            await client.config("n").put("k", b"1")
            assert not isinstance(stream_of(client), DirectStream)
            assert await client.config("n").get("k") is not None


async def test_a_listening_context_hands_over_to_the_newest_without_a_name_in_the_hello() -> None:
    """`newest` relies on the callback being called for a client that dials an address, which sends no name."""
    asked = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda connection, name, own: asked.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    trust = ssl.create_default_context()
    client = trust.wrap_bio(client_in, client_out, server_hostname="127.0.0.1")
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(client_out.read())
    with pytest.raises(ssl.SSLError):  # there is no certificate; by then the callback was called
        server.do_handshake()
    assert asked == [None]
