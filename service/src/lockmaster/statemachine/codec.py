"""Commands to bytes and back: the payload of a DATA entry.

    batch   = u8 version (1), u32 count, command * count
    command = u8 kind, u8 has_dedup, [u64 session_id, u64 seq, u64 first_incomplete, 8 bytes digest], u32 size, body

All integers are big-endian. `decode_batch` gives commands or raises InvalidEntry, whatever the bytes are, and what it
accepts encodes to the same bytes again. It checks form only; `apply` refuses what has form but breaks a limit.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from lockmaster.statemachine.command_table import BY_BYTE, BY_TYPE
from lockmaster.statemachine.commands import Command, Dedup, Operation
from lockmaster.statemachine.faults import InvalidEntry
from lockmaster.statemachine.limits import DIGEST_BYTES
from lockmaster.statemachine.wire import Reader

__all__ = ["InvalidEntry", "command_digest", "decode_batch", "encode_batch", "encode_command", "join_commands"]

FORMAT_VERSION: Final = 1
_BATCH: Final = struct.Struct(">BI")
_HEAD: Final = struct.Struct(">BB")
_DEDUP: Final = struct.Struct(">BBQQQ8sI")
_PLAIN: Final = struct.Struct(">BBI")


def encode_command(command: Command) -> bytes:
    """One command's bytes. Raises InvalidEntry for a number out of its field's range, text that is not Unicode."""
    kind = BY_TYPE[type(command.operation)]
    dedup = command.dedup
    try:
        body = kind.encode(command.operation)
        if dedup is None:
            return _PLAIN.pack(kind.kind, 0, len(body)) + body
        if len(dedup.digest) != DIGEST_BYTES:
            raise InvalidEntry(f"digest of {len(dedup.digest)} bytes")
        head = _DEDUP.pack(kind.kind, 1, dedup.session_id, dedup.seq, dedup.first_incomplete, dedup.digest, len(body))
    except (struct.error, UnicodeEncodeError) as error:
        raise InvalidEntry(f"{kind.kind.name} can't be encoded: {error}") from error
    return head + body


def join_commands(encoded: Sequence[bytes]) -> bytes:
    """The payload made of commands that encode_command has encoded."""
    return _BATCH.pack(FORMAT_VERSION, len(encoded)) + b"".join(encoded)


def encode_batch(commands: Sequence[Command]) -> bytes:
    """The payload of one DATA entry."""
    return join_commands([encode_command(command) for command in commands])


def decode_batch(payload: bytes) -> list[Command]:
    """The commands of a DATA entry's payload. Raises InvalidEntry on anything that encode_batch doesn't make."""
    try:
        version, count = _BATCH.unpack_from(payload)
        if version != FORMAT_VERSION:
            raise InvalidEntry(f"batch format {version}")
        commands: list[Command] = []
        reader = Reader(payload, _BATCH.size)
        for _ in range(count):
            commands.append(_decode_command(payload, reader))
    except struct.error as error:
        raise InvalidEntry(f"short batch: {error}") from error
    reader.finish()
    return commands


def _decode_command(payload: bytes, reader: Reader) -> Command:
    start = reader.offset
    code, has_dedup = _HEAD.unpack_from(payload, start)
    kind = BY_BYTE.get(code)
    if kind is None:
        raise InvalidEntry(f"unknown command kind {code} at {start}")
    dedup = None
    if has_dedup == 1:
        _, _, session_id, seq, first_incomplete, digest, size = _DEDUP.unpack_from(payload, start)
        dedup = Dedup(session_id, seq, first_incomplete, digest)
        reader.offset = start + _DEDUP.size
    elif has_dedup == 0:
        size = _PLAIN.unpack_from(payload, start)[2]
        reader.offset = start + _PLAIN.size
    else:
        raise InvalidEntry(f"header flag {has_dedup} at {start}")
    stop = reader.offset + size
    operation: Operation = kind.decode(reader)
    if reader.offset != stop:
        raise InvalidEntry(f"{kind.kind.name} at {start} says {size} bytes and ends at {reader.offset}, not {stop}")
    return Command(operation, dedup)


def command_digest(operation: Operation) -> bytes:
    """8 bytes of BLAKE2b over kind and body: the digest of the Dedup header."""
    kind = BY_TYPE[type(operation)]
    return blake2b(bytes((kind.kind,)) + kind.encode(operation), digest_size=DIGEST_BYTES).digest()
