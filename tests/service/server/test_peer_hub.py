"""Peer connections over real loopback sockets: joining, TLS, garbage, oversize, half-open, replacement."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lockmaster.addresses import split_address
from lockmaster.server.contacts import Contact
from lockmaster.server.peers import codec, handshake, inbound, outbound
from lockmaster.server.peers.codec import StateHashes
from lockmaster.server.peers.handshake import Hello, Verdict
from lockmaster.server.peers.hub import Me, PeerHub
from lockmaster.server.status import PeerTls
from lockmaster_raft import messages as m
from lockmaster_raft.entry import EntryKind, entry_crc32, make_entry
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.ready import Channel

CLUSTER = b"c" * 16


class Owner:
    """Records what the hub tells."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[m.Message] = asyncio.Queue()
        self.hashes: asyncio.Queue[StateHashes] = asyncio.Queue()
        self.events: asyncio.Queue[tuple[str, int | str]] = asyncio.Queue()
        self.adopted: list[tuple[bytes, NodeId]] = []
        self.hub: PeerHub | None = None

    def deliver(self, message: m.Message) -> None:
        self.messages.put_nowait(message)

    def told(self, message: StateHashes) -> None:
        self.hashes.put_nowait(message)

    def connected(self, member_id: NodeId) -> None:
        self.events.put_nowait(("up", member_id))

    def disconnected(self, member_id: NodeId) -> None:
        self.events.put_nowait(("down", member_id))

    def fail(self, error: BaseException) -> None:
        self.events.put_nowait(("fail", str(error)))

    def adopt(self, cluster_id: bytes, member_id: NodeId) -> None:
        self.adopted.append((cluster_id, member_id))
        assert self.hub is not None
        self.hub.me = Me(cluster_id, member_id, self.hub.me.incarnation)


def _incarnation(member_id: int) -> bytes:
    return bytes([member_id]) * 16


@asynccontextmanager
async def hub(
    member_id: int, *, blank: bool = False, tls: PeerTls | None = None
) -> AsyncIterator[tuple[PeerHub, Owner]]:
    owner = Owner()
    me = Me(None if blank else CLUSTER, None if blank else NodeId(member_id), _incarnation(member_id))
    made = PeerHub(owner, me, tls, boot=1)
    owner.hub = made
    await made.listen("127.0.0.1:0", "")
    try:
        yield made, owner
    finally:
        await made.close()


def _heartbeat(sender: int, receiver: int, round_id: int = 1) -> m.Message:
    return m.ReadIndex(m.Header(CLUSTER, NodeId(sender), NodeId(receiver), Term(1), 1, 1), round_id)


def _contact(of: PeerHub) -> Contact:
    return Contact(of.address, of.incarnation)


async def test_two_members_talk_both_ways() -> None:
    async with asyncio.timeout(10), hub(1) as (one, owner1), hub(2) as (two, owner2):
        one.set_members({NodeId(2): _contact(two)})
        two.set_members({NodeId(1): _contact(one)})
        assert await owner1.events.get() == ("up", 2)
        assert await owner2.events.get() == ("up", 1)
        one.send(NodeId(2), _heartbeat(1, 2), Channel.CONTROL)
        two.send(NodeId(1), _heartbeat(2, 1), Channel.BULK)
        assert await owner2.messages.get() == _heartbeat(1, 2)
        assert await owner1.messages.get() == _heartbeat(2, 1)


async def test_an_entry_of_an_unknown_kind_is_told_to_the_engine() -> None:
    async with asyncio.timeout(10), hub(1) as (one, owner1), hub(2) as (two, owner2):
        one.set_members({NodeId(2): _contact(two)})
        assert await owner1.events.get() == ("up", 2)
        kind: Any = 9
        crc = entry_crc32(Index(4), Term(1), kind, Nanos(5), b"later")
        later = replace(make_entry(Index(4), Term(1), EntryKind.DATA, Nanos(5), b"later"), kind=kind, crc32=crc)
        head = m.Header(CLUSTER, NodeId(1), NodeId(2), Term(1), 1, 1)
        one.send(NodeId(2), m.AppendEntries(head, 1, 1, Index(3), Term(1), (later,), Index(3)), Channel.BULK)
        why = "entry 4 is of kind 9, which this binary does not know: start a newer one"
        while (told := await owner2.events.get()) != ("fail", why):
            assert told == ("up", 1)


async def test_a_blank_member_is_adopted_and_can_answer() -> None:
    async with asyncio.timeout(10), hub(1) as (one, owner1), hub(2, blank=True) as (two, owner2):
        one.set_members({NodeId(2): _contact(two)})
        assert await owner1.events.get() == ("up", 2)
        assert owner2.adopted == [(CLUSTER, NodeId(2))]
        assert await owner2.events.get() == ("up", 1)
        two.send(NodeId(1), _heartbeat(2, 1), Channel.CONTROL)
        assert await owner1.messages.get() == _heartbeat(2, 1)


async def test_another_incarnation_behind_the_address_is_refused() -> None:
    async with asyncio.timeout(10), hub(1) as (one, _), hub(2) as (two, _):
        one.set_members({NodeId(2): Contact(two.address, b"w" * 16)})
        while not two.counters.get("peer_hello_wrong_incarnation"):
            await asyncio.sleep(0.01)
        assert not one.is_up(NodeId(2))


async def test_a_sender_with_another_incarnation_than_the_configuration_knows_is_refused() -> None:
    async with asyncio.timeout(10), hub(1) as (one, _), hub(2) as (two, _):
        two.set_members({NodeId(1): Contact(one.address, b"w" * 16)})
        one.set_members({NodeId(2): _contact(two)})
        while not two.counters.get("peer_hello_unknown_sender"):
            await asyncio.sleep(0.01)
        assert not one.is_up(NodeId(2))


async def test_a_restarted_member_is_dialled_again() -> None:
    async with asyncio.timeout(10), hub(1) as (one, owner1):
        async with hub(2) as (two, _):
            one.set_members({NodeId(2): _contact(two)})
            assert await owner1.events.get() == ("up", 2)
        assert (await owner1.events.get())[0] == "down"
        async with hub(2) as (again, _):
            one.set_members({NodeId(2): _contact(again)})
            while await owner1.events.get() != ("up", 2):
                pass


async def _raw(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*split_address(address))


def _hello(epoch: int) -> bytes:
    return handshake.encode_hello(
        Hello(Channel.CONTROL, CLUSTER, NodeId(1), NodeId(2), _incarnation(2), _incarnation(1), 1, 1, 1, epoch, "")
    )


async def test_a_member_that_dials_is_dialled_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source asked for a range must not first sit out a backoff that the asker's absence has earned it."""
    monkeypatch.setattr(outbound, "BACKOFF_MIN", 3600.0)
    monkeypatch.setattr(outbound, "BACKOFF_MAX", 3600.0)
    async with hub(1) as (first, first_owner), hub(2) as (second, _):
        vacant = split_address(second.address)
        first.set_members({NodeId(2): Contact(f"{vacant[0]}:1", _incarnation(2))})
        async with asyncio.timeout(5):
            while not first.last_error(NodeId(2)):
                await asyncio.sleep(0.01)
        first.set_members({NodeId(2): Contact(second.address, _incarnation(2))})
        second.set_members({NodeId(1): Contact(first.address, _incarnation(1))})
        async with asyncio.timeout(5):
            assert await first_owner.events.get() == ("up", 2)


async def test_side_messages_arrive_beside_the_core_s_and_unknown_ones_are_ignored() -> None:
    async with asyncio.timeout(10), hub(2) as (two, owner):
        reader, writer = await _raw(two.address)
        writer.write(_hello(1))
        size = struct.unpack(">I", await reader.readexactly(4))[0]
        assert handshake.decode_welcome(await reader.readexactly(size)).verdict is Verdict.ACCEPTED
        header = m.Header(CLUSTER, NodeId(1), NodeId(2), Term(3), 1, 1)
        unknown = struct.pack(">IBQHH", 20, 255, 3, 1, 1) + b"whatever"
        writer.write(unknown[:3] + bytes([len(unknown) - 4]) + unknown[4:])
        writer.writelines(codec.encode(StateHashes(header, ((1024, 2**64 - 1),))))
        writer.writelines(codec.encode(m.ReadIndex(header, 7)))
        assert await owner.hashes.get() == StateHashes(header, ((1024, 2**64 - 1),))
        assert await owner.messages.get() == m.ReadIndex(header, 7)
        assert two.counters["peer_frames_ignored"] == 1
        assert "peer_frames_refused" not in two.counters
        writer.close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 1 << 31), _hello(1)[:-1] + b"xx"])
async def test_garbage_before_the_hello_closes_and_is_counted(garbage: bytes) -> None:
    async with asyncio.timeout(10), hub(2) as (two, _):
        reader, writer = await _raw(two.address)
        writer.write(garbage)
        assert await reader.read() == b""
        assert two.counters["peer_frames_refused"] == 1
        writer.close()


@pytest.mark.parametrize("garbage", [struct.pack(">I", 64 << 20), struct.pack(">I", 3) + b"abc"])
async def test_garbage_after_the_hello_closes_and_is_counted(garbage: bytes) -> None:
    async with asyncio.timeout(10), hub(2) as (two, owner):
        reader, writer = await _raw(two.address)
        writer.write(_hello(1))
        size = struct.unpack(">I", await reader.readexactly(4))[0]
        assert handshake.decode_welcome(await reader.readexactly(size)).verdict is Verdict.ACCEPTED
        writer.write(garbage)
        assert await reader.read() == b""
        assert two.counters["peer_frames_refused"] == 1
        assert owner.messages.empty()
        writer.close()


async def test_a_newer_epoch_replaces_and_an_older_one_is_refused() -> None:
    async with asyncio.timeout(10), hub(2) as (two, _):
        reader5, writer5 = await _raw(two.address)
        writer5.write(_hello(5))
        await reader5.readexactly(27)
        reader4, writer4 = await _raw(two.address)
        writer4.write(_hello(4))
        assert handshake.decode_welcome((await reader4.read())[4:]).verdict is Verdict.STALE_EPOCH
        reader6, writer6 = await _raw(two.address)
        writer6.write(_hello(6))
        assert handshake.decode_welcome((await reader6.readexactly(27))[4:]).verdict is Verdict.ACCEPTED
        assert await reader5.read() == b""
        for writer in (writer4, writer5, writer6):
            writer.close()


async def test_half_open_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "HALF_OPEN_MAX", 2)
    monkeypatch.setattr(inbound, "HELLO_TIMEOUT", 0.2)
    async with asyncio.timeout(10), hub(2) as (two, _):
        first, second, third = [await _raw(two.address) for _ in range(3)]
        assert await third[0].read() == b""
        assert await first[0].read() == b""
        assert await second[0].read() == b""
        assert two.counters == {"peer_half_open_refused": 1, "peer_hello_timeouts": 2}
        for _, writer in (first, second, third):
            writer.close()


def _certificates(directory: Path) -> PeerTls:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "member")])
    now = datetime.datetime.now(datetime.UTC)
    san = x509.SubjectAlternativeName([x509.DNSName("member-1"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(san, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = directory / "cert.pem", directory / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )

    def context(purpose: ssl.Purpose) -> ssl.SSLContext:
        made = ssl.create_default_context(purpose, cafile=str(cert_path))
        made.load_cert_chain(cert_path, key_path)
        made.verify_mode = ssl.CERT_REQUIRED
        return made

    return PeerTls(
        lambda: context(ssl.Purpose.CLIENT_AUTH),
        lambda: context(ssl.Purpose.SERVER_AUTH),
        lambda member_id, certificate: member_id in (1, 2) and "member-1" in str(certificate.get("subjectAltName")),
    )


async def test_tls_members_talk_and_the_certificate_hook_decides(tmp_path: Path) -> None:
    tls = _certificates(tmp_path)
    async with asyncio.timeout(20), hub(1, tls=tls) as (one, owner1), hub(2, tls=tls) as (two, owner2):
        one.set_members({NodeId(2): _contact(two)})
        assert await owner1.events.get() == ("up", 2)
        large = m.FetchPieceReply(
            m.Header(CLUSTER, NodeId(1), NodeId(2), Term(1), 1, 1), Index(1), 0, True, b"x" * (1 << 20)
        )
        one.send(NodeId(2), large, Channel.BULK)
        assert await owner2.messages.get() == large
        async with hub(3, tls=tls) as (three, _):
            one.set_members({NodeId(2): _contact(two), NodeId(3): _contact(three)})
            while not one.counters.get("peer_bad_certificate"):
                await asyncio.sleep(0.01)
            assert not one.is_up(NodeId(3))


@pytest.mark.parametrize(
    "scenario",
    [
        test_two_members_talk_both_ways,
        test_a_blank_member_is_adopted_and_can_answer,
        test_a_newer_epoch_replaces_and_an_older_one_is_refused,
        test_a_restarted_member_is_dialled_again,
    ],
)
def test_the_same_holds_under_uvloop(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    uvloop.run(scenario())


def test_tls_holds_under_uvloop(tmp_path: Path) -> None:
    uvloop.run(test_tls_members_talk_and_the_certificate_hook_decides(tmp_path))
