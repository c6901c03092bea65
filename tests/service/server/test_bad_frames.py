"""Issue 4, Bad input, from the bytes on: what a peer sends is refused and counted by reason, or handled."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import socket
import struct
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster.framing import Malformed
from lockmaster.server.app import Server, dev_settings
from lockmaster.server.peers import codec
from lockmaster.server.peers.codec import Peering
from lockmaster.server.peers.inbound import Acceptor, InboundConnection
from lockmaster_raft import events
from lockmaster_raft import messages as m
from lockmaster_raft.config import RaftConfig
from lockmaster_raft.entry import Entry, EntryKind, entry_crc32, make_entry
from lockmaster_raft.errors import InvariantViolation, LevelUnsupported
from lockmaster_raft.ids import INDEX_MAX, Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import Configuration, Levels, Member
from lockmaster_raft.node import Node
from lockmaster_raft.ready import Base, HardState, Ready, Role
from lockmaster_raft.storage import BootState
from lockmaster_raft.testing.memory_store import MemoryStore

from .test_peer_codec import CLUSTER, EVERY_MESSAGE, PEERING

MEMBERS = tuple(
    Member(NodeId(n), f"m{n}", f"127.0.0.1:{n}", f"127.0.0.1:{n + 9}", bytes([n]) * 16, voter=True) for n in (1, 2, 3)
)
FRAMES = [b"".join(codec.encode(message))[4:] for message in EVERY_MESSAGE]
NUMBERS = (0, 1, 2, 3, 7, 2**33, 2**48 + 9, 2**61, INDEX_MAX, INDEX_MAX + 1, 2**64 - 1)
REASONS = {"shape", "range", "length", "kind", "checksum"}


class Host:
    """Member 2 of three, its disk at once durable; whatever it sends is made into frames."""

    def __init__(self) -> None:
        base = Base(Index(1), Term(1), Configuration(1, MEMBERS, NodeId(4)), Index(1), Levels(2, 2))
        log = [make_entry(Index(i), Term(1), EntryKind.DATA, Nanos(0), b"x") for i in (2, 3)]
        self.store, self.now, self.random = MemoryStore(base, log), 10**9, random.Random(5)
        boot = BootState(HardState(Term(6), NodeId(0)), self.store, Index(1), 2)
        config, now = RaftConfig(), Nanos(self.now)
        self.node = Node(node_id=NodeId(2), cluster_id=CLUSTER, config=config, boot=boot, now=now, draw=1)
        self.step(events.Wake())

    def step(self, event: events.Event, after_ns: int = 1000) -> Ready:
        self.now += after_ns
        ready = self.node.step(event, Nanos(self.now), self.random.getrandbits(64))
        for send in ready.send:
            assert codec.encode(send.message)
        if ready.persist is not None:
            self.store.persist(ready.persist)
            self.step(events.Persisted(PersistSeq(ready.persist.seq)))
        if ready.apply:
            self.step(events.Applied(ready.apply[-1].index))
        return ready

    def lead(self) -> None:
        """By the votes of member 1."""
        ready = self.step(events.Wake(), 5 * 10**9)
        ask = next(s.message for s in ready.send if isinstance(s.message, m.PreVote))
        to_me = m.Header(CLUSTER, NodeId(1), NodeId(2), Term(6), 1, 2)
        behind = (True, "", Index(1), Term(1))
        self.step(events.Receive(m.PreVoteReply(to_me, ask.next_term, ask.round_id, *behind)))
        in_term = dataclasses.replace(to_me, term=Term(7))
        self.step(events.Receive(m.RequestVoteReply(in_term, *behind)))
        assert self.node.role is Role.LEADER


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A frame of some kind with a few numbers or bytes of it replaced, or cut, or with more behind it."""
    frame = bytearray(draw(st.sampled_from(FRAMES)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(frame) - 1)))
        if draw(st.booleans()):
            number = struct.pack(">Q", draw(st.sampled_from(NUMBERS)))
            frame[at : at + 8] = number[: len(frame) - at]
        else:
            frame[at] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        del frame[draw(st.integers(0, len(frame))) :]
    if draw(st.integers(0, 9)) == 0:
        frame += draw(st.binary(max_size=9))
    return bytes(frame)


@settings(max_examples=300, deadline=None)
@given(leads=st.booleans(), frames=st.lists(mutated(), min_size=1, max_size=8))
def test_mutated_frames_are_refused_by_reason_or_handled(leads: bool, frames: list[bytes]) -> None:
    host = Host()
    if leads:
        host.lead()
    for frame in frames:
        try:
            message = codec.decode(frame, PEERING)
        except Malformed as error:
            if error.reason in REASONS:
                continue
            raise
        except LevelUnsupported:
            return  # an entry of another binary: the member stops (raft.md §6)
        try:
            host.step(events.Receive(message))
        except LevelUnsupported:
            return
        except InvariantViolation as error:
            if "both lead term" in str(error):
                return  # two leaders of one term: it stops, by design
            raise
        assert host.node.commit_index <= host.node.last_index < 2**49
        assert host.node.term < 2**36
    host.step(events.Wake(), 10**9)


class Counting:
    """The hub of accepted connections, as far as a refused frame needs it."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}

    def deliver(self, message: m.Message) -> None:
        raise AssertionError(f"it was not refused: {message}")


def refused(frame: bytes) -> dict[str, int]:
    """What is counted when an accepted connection gets this frame."""
    owner = Counting()
    connection = InboundConnection(Acceptor(owner))  # type: ignore[arg-type]  # no more of it is asked
    connection._peering = Peering(CLUSTER, NodeId(1), NodeId(2))
    connection._cutter.frame_bytes_max = 1000
    connection.data_received(struct.pack(">I", len(frame)) + frame)
    assert connection.closed
    return owner.counters


def entry_with(**changes: int) -> bytes:
    entry = make_entry(Index(4), Term(7), EntryKind.DATA, Nanos(5), b"payload")
    odd = dataclasses.replace(entry, **changes)  # type: ignore[arg-type]  # numbers only
    return b"".join(codec.encode(m.AppendEntries(PEERED, 1, 2, Index(3), Term(4), (odd,), Index(3))))[4:]


PEERED = m.Header(CLUSTER, NodeId(1), NodeId(2), Term(7), 1, 1)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (FRAMES[0][:-1], "shape"),
        (FRAMES[0] + b"x", "shape"),
        (FRAMES[0][:-9] + b"\xff" * 9, "range"),
        (b"x" * 1001, "length"),
        (b"\x63" + FRAMES[0][1:], "kind"),
        (entry_with(crc32=1), "checksum"),
    ],
    ids=["cut", "longer", "range", "length", "kind", "checksum"],
)
def test_a_refused_frame_is_counted_by_what_is_wrong_with_it(frame: bytes, reason: str) -> None:
    assert refused(frame) == {"peer_frames_refused": 1, f"peer_frames_refused_{reason}": 1}


def test_an_entry_whose_checksum_holds_is_as_its_sender_made_it() -> None:
    crc = entry_crc32(Index(4), Term(7), EntryKind.DATA, Nanos(6), b"payload")
    message = codec.decode(entry_with(leader_time=6, crc32=crc), PEERING)
    assert isinstance(message, m.AppendEntries)
    assert message.entries == (Entry(Index(4), Term(7), EntryKind.DATA, Nanos(6), b"payload", crc),)


async def test_refusals_of_the_core_are_in_the_status_and_in_the_metrics_by_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    running = Server(dev_settings(tmp_path / "data").model_copy(update={"metrics_listen": address}))
    await running.start()
    try:
        engine = running.engine
        header = m.Header(engine.cluster_id, NodeId(9), NodeId(1), Term(2**60), 1, 2)
        engine.deliver(m.ReadIndex(header, 4))
        running.telemetry.refresh()
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{address}/metrics").read().decode())
        assert engine.status().refusals == {"term from the far future": 1}
    finally:
        await running.stop()
    assert 'lockmaster_raft_refusals_total{lockmaster_reason="term from the far future"' in page
