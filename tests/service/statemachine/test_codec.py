"""The command format: one encoding per command; any bytes are commands or InvalidEntry."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster.statemachine.codec import InvalidEntry, command_digest, decode_batch, encode_batch
from lockmaster.statemachine.command_table import KINDS
from lockmaster.statemachine.commands import (
    Acquire,
    CancelAcquire,
    CloseSession,
    Command,
    CommandKind,
    Compact,
    Dedup,
    Delete,
    EndSession,
    Expire,
    ForceRelease,
    KeepAlive,
    OpenSession,
    Put,
    Release,
)
from lockmaster.testing.machine import Machine

U64 = st.one_of(st.integers(0, 12), st.integers(1_000, 1_010), st.integers(0, 2**64 - 1))
TEXT = st.one_of(st.sampled_from(["", "L", "M", "ns", "k"]), st.text(max_size=20))
BYTES = st.binary(max_size=40)
REVISION = st.one_of(st.none(), U64)
PAIRS = st.lists(st.tuples(TEXT, U64), max_size=3).map(tuple)

OPERATIONS: dict[CommandKind, st.SearchStrategy[Any]] = {
    CommandKind.OPEN_SESSION: st.builds(OpenSession, st.one_of(BYTES, st.just(bytes(16))), U64, TEXT, TEXT, U64),
    CommandKind.CLOSE_SESSION: st.builds(CloseSession, U64),
    CommandKind.KEEP_ALIVE: st.builds(KeepAlive, st.lists(U64, max_size=3).map(tuple)),
    CommandKind.EXPIRE: st.builds(
        Expire, st.lists(U64, max_size=3).map(tuple), PAIRS, st.lists(TEXT, max_size=3).map(tuple)
    ),
    CommandKind.END_SESSION: st.builds(EndSession, U64, TEXT, TEXT, TEXT),
    CommandKind.ACQUIRE: st.builds(Acquire, TEXT, st.booleans(), U64),
    CommandKind.RELEASE: st.builds(Release, U64, TEXT, U64),
    CommandKind.CANCEL_ACQUIRE: st.builds(CancelAcquire, U64, TEXT, U64),
    CommandKind.FORCE_RELEASE: st.builds(ForceRelease, TEXT, U64, TEXT, TEXT),
    CommandKind.PUT: st.builds(Put, TEXT, TEXT, BYTES, REVISION, TEXT, U64, TEXT, TEXT, U64),
    CommandKind.DELETE: st.builds(Delete, TEXT, TEXT, REVISION, TEXT, U64, TEXT, TEXT),
    CommandKind.COMPACT: st.builds(Compact, TEXT, U64),
}
DEDUP = st.one_of(st.none(), st.builds(Dedup, U64, U64, U64, st.binary(min_size=8, max_size=8)))
COMMANDS = st.lists(st.builds(Command, st.one_of(list(OPERATIONS.values())), DEDUP), max_size=5)


def test_every_kind_has_one_row() -> None:
    assert sorted(kind.kind for kind in KINDS) == sorted(CommandKind)
    assert sorted(OPERATIONS) == sorted(CommandKind)


@settings(max_examples=300, deadline=None)
@given(COMMANDS)
def test_decode_gives_back_what_was_encoded(commands: list[Command]) -> None:
    assert decode_batch(encode_batch(commands)) == commands


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_commands_or_invalid(data: bytes) -> None:
    with contextlib.suppress(InvalidEntry):
        assert encode_batch(decode_batch(data)) == data


@settings(max_examples=500, deadline=None)
@given(COMMANDS, st.data())
def test_damaged_batches_are_commands_or_invalid(commands: list[Command], data: st.DataObject) -> None:
    payload = bytearray(encode_batch(commands))
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] = data.draw(st.integers(0, 255))
    damaged = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    with contextlib.suppress(InvalidEntry):
        assert encode_batch(decode_batch(damaged)) == damaged


@settings(max_examples=300, deadline=None)
@given(st.lists(COMMANDS, max_size=6), st.lists(st.integers(0, 10**12), min_size=6, max_size=6))
def test_apply_never_raises_on_what_decodes(batches: list[list[Command]], stamps: list[int]) -> None:
    m = Machine()
    m.open("a")
    m.open("b")
    for commands, stamp in zip(batches, stamps, strict=False):
        m.now = stamp
        assert len(m.entry(*commands).results) == len(commands)
    assert m.copy().view.hash == m.view.hash


def test_a_cut_batch_is_invalid_at_every_length() -> None:
    payload = encode_batch([Command(Acquire("L", True, 0), Dedup(1, 1, 1, bytes(8))), Command(Compact("ns", 1))])
    for size in range(len(payload)):
        with pytest.raises(InvalidEntry):
            decode_batch(payload[:size])


def test_a_byte_too_many_is_invalid() -> None:
    with pytest.raises(InvalidEntry):
        decode_batch(encode_batch([]) + b"\0")


def test_a_number_out_of_range_is_refused_by_the_encoder() -> None:
    with pytest.raises(InvalidEntry):
        encode_batch([Command(CloseSession(2**64))])


def test_the_digest_tells_kinds_and_bodies_apart() -> None:
    digests = [command_digest(CloseSession(1)), command_digest(CloseSession(2)), command_digest(Compact("", 1))]
    assert len({*digests}) == 3
    assert all(len(digest) == 8 for digest in digests)
