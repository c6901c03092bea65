"""Frames of the peer protocol: what goes in comes out, and nothing else does."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lockmaster.framing import FrameCutter, Malformed
from lockmaster.server.peers import codec, handshake
from lockmaster.server.peers.codec import Peering, StateHashes
from lockmaster.server.peers.handshake import Hello, Verdict, Welcome, judge_hello
from lockmaster_raft import messages as m
from lockmaster_raft.entry import Entry, EntryKind, entry_crc32, make_entry
from lockmaster_raft.errors import LevelUnsupported
from lockmaster_raft.ids import INDEX_MAX, Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels, Member
from lockmaster_raft.ready import Channel

CLUSTER = b"c" * 16
PEERING = Peering(CLUSTER, NodeId(1), NodeId(2))
HEADER = m.Header(CLUSTER, NodeId(1), NodeId(2), Term(7), 1, 1)
MEMBER = Member(NodeId(1), "one", "127.0.0.1:7421", "127.0.0.1:7420", b"i" * 16, True)
CONFIGURATION = Configuration(3, (MEMBER,), NodeId(2))


def _entry(index: int, payload: bytes = b"payload") -> Entry:
    return make_entry(Index(index), Term(7), EntryKind.DATA, Nanos(5), payload)


Ix, T, N = Index, Term, Nanos
EVERY_MESSAGE: list[m.Message] = [
    m.PreVote(HEADER, T(8), Ix(4), T(6), 9, True),
    m.PreVoteReply(HEADER, T(8), 9, False, "sticky", Ix(4), T(6)),
    m.RequestVote(HEADER, Ix(4), T(6), True),
    m.RequestVoteReply(HEADER, True, "", Ix(4), T(6)),
    m.AppendEntries(HEADER, 1, 2, Ix(3), T(4), (_entry(4), _entry(5, b"")), Ix(3)),
    m.AppendEntries(HEADER, 1, 2, Ix(3), T(4), (), Ix(3)),
    m.AppendEntriesReply(HEADER, 1, 2, False, Ix(3), Ix(4), Ix(5), Ix(6), Ix(7), T(8), Ix(9), 10, "why"),
    m.Heartbeat(HEADER, 1, N(2), Ix(3), N(4), 5),
    m.HeartbeatReply(HEADER, 1, N(2), Ix(3), Ix(4), Ix(5), 6, Ix(7), INDEX_MAX),
    m.ReadIndex(HEADER, 1),
    m.ReadIndexReply(HEADER, 1, True, Ix(2)),
    m.InstallSnapshot(
        HEADER, 1, Ix(2), T(3), CONFIGURATION, Ix(4), Levels(1, 2, Ix(2)), (b"d" * 32,) * 2, 5, (NodeId(1),)
    ),
    m.InstallSnapshotReply(HEADER, 1, Ix(2), True, 3, Ix(4), "x"),
    m.FetchPiece(HEADER, Ix(1), 2, b"d" * 32),
    m.FetchPieceReply(HEADER, Ix(1), 2, True, b"chunk"),
    m.TimeoutNow(HEADER),
    m.Removed(HEADER, 4),
    m.Coverage(HEADER, Ix(4)),
    m.WitnessReport(HEADER, Ix(1), 2, 3, 4, Ix(5), 6, Ix(7)),
    m.InstallAnchor(HEADER, 1, Ix(9), T(3), CONFIGURATION, Ix(4), Levels(2, 2, Ix(2))),
    m.Retain(HEADER, Ix(5), Ix(6)),
    m.SourceReport(HEADER, Ix(1), Ix(5), T(6), b"d" * 32),
    m.CatchUp(HEADER, 1, ((Ix(1), T(2)), (Ix(5), T(6))), (NodeId(3), NodeId(4))),
    m.CatchUpReply(HEADER, 1, Ix(2), Ix(3), Ix(4), 5, "why"),
    m.FetchRange(HEADER, Ix(1), T(2), Ix(5), T(6)),
    m.FetchRangeReply(HEADER, Ix(3), Ix(9), (_entry(4), _entry(5, b""))),
]
LEVEL_2_KINDS = range(17, 26)
"""Frames that 0.1.0 has no decoder for."""


def test_there_is_a_frame_for_every_message_of_the_core() -> None:
    assert {type(message) for message in EVERY_MESSAGE} == set(get_args(m.Message))


def test_only_messages_of_witnesses_and_of_fetches_are_unknown_to_a_binary_of_level_1() -> None:
    """raft.md §6: everything else keeps the frame that 0.1.0 reads."""
    later = {type(message) for message in EVERY_MESSAGE if _frame(message)[4] in LEVEL_2_KINDS}
    fetches = {m.Retain, m.SourceReport, m.CatchUp, m.CatchUpReply, m.FetchRange, m.FetchRangeReply}
    assert later == {m.Coverage, m.WitnessReport, m.InstallAnchor} | fetches
    assert all(_frame(message)[4] <= 16 for message in EVERY_MESSAGE if type(message) not in later)


def _frame(message: m.Message) -> bytes:
    return b"".join(codec.encode(message))


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: m.Message) -> None:
    frames = FrameCutter(codec.BULK_FRAME_MAX).feed(_frame(message))
    assert [codec.decode(frame, PEERING) for frame in frames] == [message]


def test_payload_bytes_are_not_copied_by_encoding() -> None:
    entry = _entry(4, b"x" * 1000)
    parts = codec.encode(m.AppendEntries(HEADER, 1, 2, Ix(3), T(4), (entry,), Ix(3)))
    assert any(part is entry.payload for part in parts)


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_a_shortened_or_lengthened_frame_is_refused(message: m.Message) -> None:
    body = _frame(message)[4:]
    has_open_end = isinstance(message, m.FetchPieceReply) or hasattr(message, "reason")
    for cut in range(len(body) - (8 if has_open_end else 1)):
        with pytest.raises(Malformed):
            codec.decode(body[:cut], PEERING)
    if not has_open_end:
        with pytest.raises(Malformed):
            codec.decode(body + b"x", PEERING)


def test_an_entry_with_a_flipped_bit_is_refused() -> None:
    body = bytearray(_frame(m.AppendEntries(HEADER, 1, 2, Ix(3), T(4), (_entry(4),), Ix(3)))[4:])
    body[-1] ^= 1
    with pytest.raises(Malformed, match="checksum"):
        codec.decode(bytes(body), PEERING)


def test_an_entry_of_an_unknown_kind_stops_the_member() -> None:
    kind: Any = 9
    crc = entry_crc32(Ix(4), T(4), kind, N(5), b"later")
    later = dataclasses.replace(_entry(4, b"later"), term=T(4), kind=kind, leader_time=N(5), crc32=crc)
    body = _frame(m.AppendEntries(HEADER, 1, 2, Ix(3), T(4), (later,), Ix(3)))[4:]
    with pytest.raises(LevelUnsupported, match="entry 4 is of kind 9"):
        codec.decode(body, PEERING)


def test_a_number_above_the_largest_index_is_refused() -> None:
    body = bytearray(_frame(m.ReadIndex(HEADER, 1))[4:])
    body[-8:] = struct.pack(">Q", INDEX_MAX + 1)
    with pytest.raises(Malformed, match="range"):
        codec.decode(bytes(body), PEERING)


HASHES = StateHashes(HEADER, tuple((1024 * n, 2**64 - n) for n in range(1, codec.HASHES_MAX + 1)))


def test_state_hashes_survive_the_wire_and_use_all_64_bits() -> None:
    body = b"".join(codec.encode(HASHES))[4:]
    assert codec.is_side(body)
    assert codec.decode_side(body, PEERING) == HASHES


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_no_message_of_the_core_is_a_side_message(message: m.Message) -> None:
    assert not codec.is_side(_frame(message)[4:])


def test_a_side_message_of_a_later_release_is_ignored_and_a_broken_one_is_refused() -> None:
    body = b"".join(codec.encode(HASHES))[4:]
    assert codec.decode_side(b"\xff" + body[1:], PEERING) is None
    too_many = b"".join(codec.encode(StateHashes(HEADER, HASHES.hashes * 2)))[4:]
    for broken in (body[:-1], body[:5], too_many, body[:13] + b"\xff" * 16):
        with pytest.raises(Malformed):
            codec.decode_side(broken, PEERING)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_decodes_never_anything_else(body: bytes) -> None:
    with contextlib.suppress(Malformed):
        codec.decode(body, PEERING)
    with contextlib.suppress(Malformed):
        codec.decode_side(body, PEERING)


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(1, 7))
def test_frames_are_cut_alike_however_the_bytes_arrive(bodies: list[bytes], step: int) -> None:
    stream = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    cutter = FrameCutter(64)
    frames = [f for at in range(0, len(stream), step) for f in cutter.feed(stream[at : at + step])]
    assert frames == bodies
    assert cutter.held_size == 0


def test_an_oversize_length_is_refused_before_its_bytes_arrive() -> None:
    with pytest.raises(Malformed, match="limit"):
        FrameCutter(64).feed(struct.pack(">I", 65))


HELLO = Hello(Channel.BULK, CLUSTER, NodeId(1), NodeId(2), b"r" * 16, b"s" * 16, 1, 1, 5, 6, "127.0.0.1:1")


def test_hello_and_welcome_survive_the_wire() -> None:
    assert handshake.decode_hello(handshake.encode_hello(HELLO)[4:]) == HELLO
    welcome = Welcome(Verdict.WRONG_CLUSTER, b"r" * 16)
    assert handshake.decode_welcome(handshake.encode_welcome(welcome)[4:]) == welcome


@pytest.mark.parametrize(
    ("cluster_id", "member_id", "incarnation", "levels", "verdict"),
    [
        (None, None, b"r" * 16, (1, 1), Verdict.ACCEPTED),
        (CLUSTER, NodeId(2), b"r" * 16, (1, 1), Verdict.ACCEPTED),
        (b"x" * 16, NodeId(2), b"r" * 16, (1, 1), Verdict.WRONG_CLUSTER),
        (CLUSTER, NodeId(3), b"r" * 16, (1, 1), Verdict.WRONG_RECEIVER),
        (CLUSTER, NodeId(2), b"w" * 16, (1, 1), Verdict.WRONG_INCARNATION),
        (None, None, b"w" * 16, (1, 1), Verdict.WRONG_INCARNATION),
        (CLUSTER, NodeId(2), b"r" * 16, (2, 3), Verdict.WRONG_LEVEL),
    ],
)
def test_who_may_connect(
    cluster_id: bytes | None, member_id: NodeId | None, incarnation: bytes, levels: tuple[int, int], verdict: Verdict
) -> None:
    judged = judge_hello(
        HELLO,
        cluster_id=cluster_id,
        member_id=member_id,
        incarnation=incarnation,
        level_min=levels[0],
        level_max=levels[1],
    )
    assert judged is verdict
