"""Gates over the wire, on real members whose binaries offer level 2: status, FENCE, ACTIVATE, joins, a rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster.api import admin_pb2, status_pb2
from lockmaster.server.app import Server, StartFailed, dev_settings
from lockmaster.server.relay import FAILURE_KEY

FENCE, ACTIVATE = admin_pb2.GATE_OPERATION_FENCE, admin_pb2.GATE_OPERATION_ACTIVATE
CANCEL = admin_pb2.GATE_OPERATION_CANCEL


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.02)


async def ask(server: Server, name: str, request: Any, response: Any) -> Any:
    async with grpc.aio.insecure_channel(server.bound_address) as channel:
        stub: Any = channel.unary_unary(
            f"/lockmaster.v1.Admin/{name}", type(request).SerializeToString, response.FromString
        )
        return await stub(request, timeout=20)


async def change(server: Server, operation: admin_pb2.GateOperation, epoch: int | None = None) -> Any:
    request = admin_pb2.ChangeGateRequest(operation=operation, level=2, expected_epoch=epoch)
    return await ask(server, "ChangeGate", request, admin_pb2.ChangeGateResponse)


async def change_when_reported(server: Server, operation: admin_pb2.GateOperation, epoch: int | None = None) -> Any:
    """The change, once every member has told the (perhaps new) leader what it needs to hear."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await change(server, operation, epoch)
            except grpc.aio.AioRpcError as error:
                if "not reported" not in str(error.details()) and "reports index" not in str(error.details()):
                    raise
                await asyncio.sleep(0.05)


async def why_not(server: Server, operation: admin_pb2.GateOperation, epoch: int | None = None) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await change(server, operation, epoch)
    trailing: dict[str, Any] = dict(caught.value.trailing_metadata() or ())  # type: ignore[arg-type]
    failure = status_pb2.Failure.FromString(trailing[FAILURE_KEY])
    assert failure.status == status_pb2.STATUS_PRECONDITION_FAILED
    return failure.message


async def start(path: Path, level_max: int, first: Server | None = None) -> Server:
    """A member that joins `first`, or the upgraded first one of a cluster that a binary of level 1 has founded."""
    settings = dev_settings(path)
    if first is None:
        founder = Server(settings, level_max=1)
        await founder.start()
        await until(lambda: founder.engine.admits_writes)
        where = (founder.bound_address, founder.engine.peer_address)  # its record names them
        await founder.stop()
        return await restart(path, level_max, *where)
    joining = {"name": path.name, "bootstrap": False, "join": (first.bound_address,)}
    server = Server(settings.model_copy(update=joining), level_max=level_max)
    await server.start()
    return server


async def restart(path: Path, level_max: int, client: str = "127.0.0.1:0", peer: str = "127.0.0.1:0") -> Server:
    settings = dev_settings(path, client, peer).model_copy(update={"bootstrap": False})
    server = Server(settings, level_max=level_max)
    await server.start()
    return server


def all_reported(server: Server, epoch: int) -> bool:
    """As this member, if it leads, hears of the members."""
    return [(m.level_min, m.level_max, m.fence_index) for m in server.engine.status().members] == [(1, 2, epoch)] * 2


async def floor(server: Server) -> int:
    """Lowest level of a binary that can open its directory, by its own word."""
    status = await ask(server, "Status", admin_pb2.StatusRequest(), admin_pb2.StatusResponse)
    return int(status.level_floor)


async def test_a_gate_from_fence_to_activate_and_what_it_refuses(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await start(tmp_path / "first", 2)
        stack.push_async_callback(first.stop)
        await until(lambda: first.engine.admits_writes)
        second = await start(tmp_path / "second", 2, first)
        stack.push_async_callback(second.stop)
        await until(lambda: sum(member.voter for member in first.engine.status().members) == 2)
        fenced = await change_when_reported(second, FENCE, epoch=0)  # relayed if it doesn't lead
        assert (fenced.level_active, fenced.level_fence) == (1, 2)
        assert await change(first, FENCE) == fenced
        assert await why_not(first, CANCEL, epoch=0) == f"the gate's epoch is {fenced.gate_epoch}, not 0"
        late = await start(tmp_path / "late", 1, first)
        stack.push_async_callback(late.stop)
        await until(lambda: any(all_reported(member, fenced.gate_epoch) for member in (first, second)))
        active = await change_when_reported(first, ACTIVATE, epoch=fenced.gate_epoch)
        assert (active.level_active, active.level_fence) == (2, 2)
        await until(lambda: first.engine.status().gate_epoch == active.gate_epoch)
        status = await ask(first, "Status", admin_pb2.StatusRequest(), admin_pb2.StatusResponse)
        listed = await ask(first, "ListMembers", admin_pb2.ListMembersRequest(), admin_pb2.ListMembersResponse)
        assert (listed.level_active, listed.level_fence, listed.gate_epoch) == (2, 2, active.gate_epoch)
        assert (status.level_active, status.level_fence, status.gate_epoch) == (2, 2, active.gate_epoch)
        assert await why_not(first, CANCEL) == "level 2 is active: CANCEL(2) comes too late"
        assert late.engine.is_blank  # its binary knows level 1: no leader adds it


async def test_a_binary_is_rolled_back_after_cancel_and_refused_before(tmp_path: Path) -> None:
    server = await start(tmp_path / "one", 2)
    await until(lambda: server.engine.admits_writes)
    assert await floor(server) == 1
    fenced = await change(server, FENCE)
    await until(lambda: server.engine.directory.identity.level == 2)
    assert await floor(server) == 2
    await server.stop()
    with pytest.raises(StartFailed, match="needs a binary of level 2 or newer; this one knows up to 1") as caught:
        await restart(tmp_path / "one", 1)
    assert caught.value.code == 66
    server = await restart(tmp_path / "one", 2)
    await until(lambda: server.engine.admits_writes)
    assert await floor(server) == 2
    cancelled = await change(server, CANCEL, epoch=fenced.gate_epoch)
    assert (cancelled.level_active, cancelled.level_fence) == (1, 1)
    await until(lambda: server.engine.directory.guard.level_floor == 1)
    assert await floor(server) == 1
    await server.stop()
    server = await restart(tmp_path / "one", 1)
    await until(lambda: server.engine.admits_writes)
    assert await why_not(server, FENCE) == "FENCE(2) needs level 2 of every member: member 1 (dev) knows up to 1"
    assert server.engine.status().gate_epoch == cancelled.gate_epoch
    server.engine.alarms |= {"fence_above": "as a replay of FENCE(2) tells it", "other": "stays"}
    assert server.engine.status().alarms == ("other: stays",)
    await server.stop()


async def test_a_new_cluster_starts_with_the_witness_level_active(tmp_path: Path) -> None:
    """raft.md §2: nobody has to gate what every member knows from the first entry on."""
    server = Server(dev_settings(tmp_path / "new"))
    await server.start()
    await until(lambda: server.engine.admits_writes)
    status = await ask(server, "Status", admin_pb2.StatusRequest(), admin_pb2.StatusResponse)
    assert (status.level_active, status.level_fence, status.gate_epoch) == (2, 2, 0)
    assert server.engine.directory.identity.level == 2
    await server.stop()
    with pytest.raises(StartFailed, match="needs a binary of level 2 or newer; this one knows up to 1"):
        await restart(tmp_path / "new", 1)
