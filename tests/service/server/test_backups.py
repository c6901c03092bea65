"""Backups of a running member: consistent, held while they are sent, verified on both sides. Bootstrap, once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster import AsyncClient
from lockmaster.api import admin_pb2, admin_pb2_grpc, status_pb2
from lockmaster.archive import ArchiveParser, Head
from lockmaster.server.app import Server, dev_settings
from lockmaster.server.backups import BACKUPS_MAX
from lockmaster.server.relay import FAILURE_KEY
from lockmaster.storage.frame import decode_base_body
from lockmaster.storage.snapshot import CHUNK_BYTES, chunk_name, read_stream


def failure_of(error: grpc.aio.AioRpcError) -> status_pb2.Failure:
    trailing: dict[str, Any] = dict(error.trailing_metadata() or ())  # type: ignore[arg-type]
    return status_pb2.Failure.FromString(trailing[FAILURE_KEY])


async def take(channel: grpc.aio.Channel) -> tuple[Head, list[bytes]]:
    """A whole backup, its pieces verified."""
    parser, chunks = ArchiveParser("x"), list[bytes]()
    size = 0
    async for piece in admin_pb2_grpc.AdminStub(channel).Backup(admin_pb2.BackupRequest(), timeout=30):
        chunks += parser.feed(piece.data)
        size += len(piece.data)
        assert len(piece.data) <= CHUNK_BYTES
        total = piece.bytes_total
    assert size == total
    return parser.finish(), chunks


async def fill(server: Server, count: int) -> int:
    """`count` values of 300 KiB; the last one's revision."""
    async with AsyncClient(server.bound_address, insecure=True) as client:
        for number in range(count):
            revision = await client.config("bulk").put(f"k{number}", os.urandom(300 << 10))
    return revision


def held(server: Server) -> list[str]:
    return [p.name for p in Path(server.settings.data_dir, "snapshots").iterdir() if p.name.startswith("held-")]


async def test_what_was_acknowledged_before_is_in_it(server: Server, channel: grpc.aio.Channel) -> None:
    revision = await fill(server, 5)
    head, chunks = await take(channel)
    assert head.manifest.revision >= revision
    assert (head.manifest.cluster_id, head.manifest.member) == (server.engine.cluster_id.hex(), "dev")
    base = decode_base_body(head.base)
    assert (base.index, base.term) == (head.manifest.index, head.manifest.term)
    meta, records = read_stream(iter(chunks), head.bytes_total, base)
    assert meta.applied == base.index
    assert sum(len(value) > 300 << 10 for _, value in records) == 5
    assert len(chunks) > 1
    assert held(server) == []


async def test_it_is_the_state_of_one_moment_though_writes_and_snapshots_go_on(
    server: Server, channel: grpc.aio.Channel
) -> None:
    await fill(server, 6)
    pieces = admin_pb2_grpc.AdminStub(channel).Backup(admin_pb2.BackupRequest(), timeout=30)
    parser, chunks = ArchiveParser("x"), list[bytes]()
    async for piece in pieces:
        chunks += parser.feed(piece.data)
        if len(chunks) == 1:
            await fill(server, 1)
            await server.engine.make_snapshot()  # replaces the one that is being sent
    head = parser.finish()
    _, records = read_stream(iter(chunks), head.bytes_total, decode_base_body(head.base))
    assert sum(len(value) > 300 << 10 for _, value in records) == 6


async def test_one_that_is_broken_off_holds_nothing(server: Server, channel: grpc.aio.Channel) -> None:
    await fill(server, 30)  # more than gRPC buffers, so the server has not ended
    pieces = admin_pb2_grpc.AdminStub(channel).Backup(admin_pb2.BackupRequest(), timeout=30)
    await pieces.read()
    assert len(held(server)) == 1
    pieces.cancel()
    async with asyncio.timeout(10):
        while held(server):
            await asyncio.sleep(0.01)
    await take(channel)


async def test_more_than_the_maximum_at_once_is_overloaded(server: Server, channel: grpc.aio.Channel) -> None:
    await fill(server, 30)
    stub = admin_pb2_grpc.AdminStub(channel)
    running = [stub.Backup(admin_pb2.BackupRequest(), timeout=30) for _ in range(BACKUPS_MAX)]
    for call in running:
        await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Backup(admin_pb2.BackupRequest(), timeout=30).read()
    assert failure_of(caught.value).status == status_pb2.STATUS_OVERLOADED
    for call in running:
        call.cancel()


async def test_it_needs_a_deadline(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin_pb2_grpc.AdminStub(channel).Backup(admin_pb2.BackupRequest()).read()
    assert failure_of(caught.value).field == "deadline"


async def test_a_damaged_chunk_is_named_and_the_next_snapshot_is_made_anew(
    server: Server, channel: grpc.aio.Channel
) -> None:
    await fill(server, 8)
    stub = admin_pb2_grpc.AdminStub(channel)
    made = await stub.MakeSnapshot(admin_pb2.MakeSnapshotRequest(), timeout=30)
    path = Path(server.settings.data_dir, "snapshots", f"{made.snapshot.index:020d}", chunk_name(1))
    data = bytearray(path.read_bytes())
    data[1000] ^= 4
    path.write_bytes(data)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.VerifySnapshot(admin_pb2.VerifySnapshotRequest(), timeout=30)
    failure = failure_of(caught.value)
    assert failure.status == status_pb2.STATUS_PRECONDITION_FAILED
    assert f"chunk 2 of {made.snapshot.chunks}" in failure.message
    await take(channel)
    await stub.VerifySnapshot(admin_pb2.VerifySnapshotRequest(), timeout=30)


async def test_what_a_killed_process_held_is_removed_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "data" / "snapshots" / "held-3"
    settings = dev_settings(tmp_path / "data")
    first = Server(settings)
    await first.start()
    await first.stop()
    left.mkdir(parents=True)
    again = Server(settings)
    await again.start()
    assert not left.exists()
    await again.stop()


# -- Bootstrap


async def test_bootstrap_is_once_and_its_repetition_answers_again(tmp_path: Path) -> None:
    blank = Server(dev_settings(tmp_path / "data").model_copy(update={"bootstrap": False}))
    await blank.start()
    async with grpc.aio.insecure_channel(blank.bound_address) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.MakeSnapshot(admin_pb2.MakeSnapshotRequest(), timeout=5)
        assert failure_of(caught.value).status == status_pb2.STATUS_PRECONDITION_FAILED
        request = admin_pb2.BootstrapRequest(full_min=1, cluster_id=bytes(range(16)))
        answer = await stub.Bootstrap(request, timeout=5)
        assert (answer.cluster_id, answer.member_id) == (bytes(range(16)), 1)
        assert await stub.Bootstrap(request, timeout=5) == answer
        for other in (b"", bytes(16)):
            request.cluster_id = other
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Bootstrap(request, timeout=5)
            assert "not blank" in failure_of(caught.value).message
    await blank.stop()


async def test_p20_a_blank_member_has_nothing_to_make_a_snapshot_of(tmp_path: Path) -> None:
    """MicroRaft's rows P19 and P20."""
    blank = Server(dev_settings(tmp_path / "blank").model_copy(update={"bootstrap": False, "name": "blank"}))
    await blank.start()
    try:
        async with grpc.aio.insecure_channel(blank.bound_address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await admin_pb2_grpc.AdminStub(channel).MakeSnapshot(admin_pb2.MakeSnapshotRequest(), timeout=10)
    finally:
        await blank.stop()
    failure = failure_of(caught.value)
    assert failure.status == status_pb2.STATUS_PRECONDITION_FAILED
    assert failure.message.startswith("this member has no state to make a snapshot of")
