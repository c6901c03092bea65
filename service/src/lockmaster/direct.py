"""Direct session streams: the frames of Sessions.Connect over a TCP or TLS connection of their own, without gRPC.

Theory of operation. gRPC hands each message through three threads and as many wake-ups on either side, which is a
fifth of what a lone lock operation costs (docs/decisions/0006). So a member also listens on a session port. Clients
learn its number and a key from `Sessions.Direct` on the client port, whose certificates and trust both ports share,
and go on over gRPC wherever the session port cannot be reached.

The wire, after TLS: frames of {length u32 of what follows, bytes}, big-endian. The client's first is a hello {magic
"LKMS", version u16, key 16 bytes}, the member's first a welcome {magic, version u16, verdict u8}. Every later frame is
{kind u8, body}: DATA carries a serialized ClientFrame or ServerFrame; END, from the member only, {gRPC status code u8,
UTF-8 text} says why the stream ends.

Laws.
1. The key is drawn anew by each process: a port that another process was given meanwhile is never taken for the
   member's (verdict WRONG_KEY).
2. Each side holds at most READ_AHEAD_BYTES unread plus one frame, and stops reading beyond; `write` returns only when
   the transport has room again.
3. A frame beyond its maximum (64 bytes before the handshake is over) or of an unknown kind ends the connection.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from enum import IntEnum
from typing import Any, Final, cast

import grpc

from lockmaster.framing import LENGTH, FrameCutter, Malformed
from lockmaster.sockets import keep_alive

MAGIC: Final = b"LKMS"
VERSION: Final = 1
KEY_BYTES: Final = 16
HANDSHAKE_BYTES_MAX: Final = 64
"""Most bytes of a frame before the handshake is over."""
REQUEST_BYTES_MAX: Final = 8 << 20
"""Most bytes of a frame from a client: as much as one gRPC message may have."""
ANSWER_BYTES_MAX: Final = 16 << 20
"""Most bytes of a frame from a member."""
READ_AHEAD_BYTES: Final = 1 << 20
END_TEXT_BYTES_MAX: Final = 512
DATA: Final = 0
END: Final = 1
JOIN_BYTES_MAX: Final = 16 << 10
"""Frames up to this size are joined with their head: one write instead of two."""
STREAM_END: Final[Any] = grpc.aio.EOF  # type: ignore[attr-defined]  # missing in the stubs
"""What `read` answers at the end: the same as gRPC's, so that a reader need not know which stream it has."""

_HELLO: Final = struct.Struct(">4sH16s")
_WELCOME: Final = struct.Struct(">4sHB")
_HEAD: Final = struct.Struct(">IB")


class Verdict(IntEnum):
    """What a member says to a hello; the numbers are wire format."""

    ACCEPTED = 0
    WRONG_VERSION = 1
    WRONG_KEY = 2
    BUSY = 3


def encode_hello(key: bytes, version: int = VERSION) -> bytes:
    """A hello with its length."""
    return LENGTH.pack(_HELLO.size) + _HELLO.pack(MAGIC, version, key)


def judge_hello(frame: bytes, key: bytes) -> Verdict:
    """May this connection be used? Malformed if the frame is no hello at all."""
    if len(frame) < _HELLO.size or not frame.startswith(MAGIC):
        raise Malformed("not a hello")
    _, version, theirs = _HELLO.unpack_from(frame)
    if version != VERSION:
        return Verdict.WRONG_VERSION
    return Verdict.ACCEPTED if theirs == key else Verdict.WRONG_KEY


def hello_key(frame: bytes) -> bytes:
    """The key that a hello shows; the caller has judged that it is one."""
    key: bytes = _HELLO.unpack_from(frame)[2]
    return key


def encode_welcome(verdict: Verdict) -> bytes:
    """A welcome with its length."""
    return LENGTH.pack(_WELCOME.size) + _WELCOME.pack(MAGIC, VERSION, verdict)


def decode_welcome(frame: bytes) -> int:
    """The verdict (one of a later version may be unknown here); Malformed if the frame is no welcome."""
    if len(frame) < _WELCOME.size or not frame.startswith(MAGIC):
        raise Malformed("not a welcome")
    _, _, verdict = _WELCOME.unpack_from(frame)
    return int(verdict)


def encode_end(code: int, text: str) -> bytes:
    """An END with its length; a longer text is cut."""
    said = text.encode()[:END_TEXT_BYTES_MAX]
    return _HEAD.pack(2 + len(said), END) + bytes((code,)) + said


class DirectStream(asyncio.Protocol):
    """One end of a connection: frames out by `write`, in by `read`. For the loop's thread only.

    A subclass takes the first frame in `greet` and calls `open` once the handshake is over.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.transport: asyncio.Transport | None = None
        self.failure = ""
        """Why the connection ended, where the other side or the protocol said so."""
        self._cutter = FrameCutter(frame_bytes_max)
        self._early = b""
        """What arrived before the handshake was over."""
        self._greeted = False
        self._frames: deque[bytes] = deque()
        self._unread = 0
        self._held_back = False
        self._ended = False
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    # -- for the subclass

    def greet(self, frame: bytes) -> None:
        """Takes the first frame of the other side. Raises Malformed."""
        raise NotImplementedError

    def open(self) -> None:
        """The handshake is over: DATA and END from here on."""
        self._greeted = True

    # -- for whoever has the stream

    async def read(self) -> Any:
        """The body of the next DATA frame; STREAM_END once the other side has ended the stream. One reader at a time.

        Raises ConnectionError where the end was an END or a breach of the protocol.
        """
        if not self._frames and not self._ended:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self._frames:
            if self.failure:
                raise ConnectionError(self.failure)
            return STREAM_END
        frame = self._frames.popleft()
        self._unread -= len(frame)
        if self._held_back and self._unread <= READ_AHEAD_BYTES // 2 and self.transport is not None:
            self._held_back = False
            self.transport.resume_reading()
        return frame

    async def write(self, data: bytes) -> None:
        """Sends a DATA frame; returns when there is room for the next. Raises ConnectionError at the end."""
        transport = self.transport
        if self._ended or transport is None:
            raise ConnectionResetError(self.failure or "the connection is closed")
        head = _HEAD.pack(1 + len(data), DATA)
        if len(data) <= JOIN_BYTES_MAX:
            transport.write(head + data)
        else:
            transport.writelines((head, data))
        if self._room is not None:
            await self._room

    def cancel(self) -> None:
        """Ends the stream from this side, now."""
        self._end("")
        if self.transport is not None:
            self.transport.abort()

    # -- for the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is up, TLS included."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it
        keep_alive(transport)

    def data_received(self, data: bytes) -> None:
        """Cuts, hands over; anything malformed ends the connection."""
        if self._ended:
            return
        try:
            if not self._greeted:
                data = self._handshake(data)
            for frame in self._cutter.feed(data) if self._greeted else ():
                self._take(frame)
        except Malformed as error:
            self.break_off(str(error))
            return
        if self._unread > READ_AHEAD_BYTES and not self._held_back and self.transport is not None:
            self._held_back = True
            self.transport.pause_reading()

    def _handshake(self, data: bytes) -> bytes:
        """Greets once the first frame is whole; what came after it."""
        data = self._early = self._early + data
        if len(data) < LENGTH.size:
            return b""
        (size,) = LENGTH.unpack_from(data)
        if size > HANDSHAKE_BYTES_MAX:
            raise Malformed(f"frame of {size} bytes before the handshake is over, limit {HANDSHAKE_BYTES_MAX}")
        stop = LENGTH.size + size
        if len(data) < stop:
            return b""
        self._early = b""
        self.greet(data[LENGTH.size : stop])
        return data[stop:]

    def _take(self, frame: bytes) -> None:
        kind = frame[0] if frame else -1
        if kind == DATA:
            self._frames.append(frame[1:])
            self._unread += len(frame) - 1
            self._wake()
        elif kind == END and len(frame) >= 2:
            self._end(frame[2:].decode("utf-8", "replace") or grpc_code_name(frame[1]))
        else:
            raise Malformed(f"frame of kind {kind}")

    def break_off(self, why: str) -> None:
        """Ends the connection for a breach of the protocol."""
        self._end(why)
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> None:
        """The other side sends no more: what it sent is still read."""
        self._end("")

    def pause_writing(self) -> None:
        """The transport is full."""
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It has room again."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end("" if exc is None else str(exc) or type(exc).__name__)
        self.resume_writing()

    def _end(self, why: str) -> None:
        if not self._ended:
            self._ended = True
            self.failure = why
            self._wake()

    def _wake(self) -> None:
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)


def grpc_code_name(code: int) -> str:
    """RESOURCE_EXHAUSTED for 8."""
    return next((each.name for each in grpc.StatusCode if each.value[0] == code), f"status {code}")
