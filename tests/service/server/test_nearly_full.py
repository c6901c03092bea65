"""A nearly full disk of the leader: what frees room is admitted, from whoever comes; the rest is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lockmaster import AsyncClient, Overloaded
from lockmaster.server.app import Server
from lockmaster.server.batching import admitted_when_full
from lockmaster.statemachine.commands import Command, OpenSession
from lockmaster.storage.directory import DataDirectory

MIB = 1 << 20


async def test_a_client_that_comes_on_a_nearly_full_disk_can_free_room(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody deletes without a session: `lockmaster config delete` ran into its timeout, for none could be opened."""
    keeper, alarms = server.engine.keeper, server.engine.alarms
    space = SimpleNamespace(free_bytes=300 * MIB, low=True)
    async with AsyncClient(server.bound_address) as before:
        await before.config("n").put("k", b"v")
        held = await before.lock("x").acquire()
        monkeypatch.setattr(DataDirectory, "space", space)
        keeper.report()
        assert alarms["disk_nearly_full"].startswith("300 MiB free")
        async with AsyncClient(server.bound_address) as fresh:
            assert await fresh.config("n").delete("k")
        async with AsyncClient(server.bound_address, operation_timeout=4.0) as patient:
            with pytest.raises(Overloaded, match="disk is nearly full"):
                await patient.config("n").put("k", b"v")
        await held.release()
        space.free_bytes = 2 * MIB
        keeper.report()
        assert alarms["disk_nearly_full"].startswith("2 MiB free")
        opening = Command(OpenSession(b"n", 10**10, "", "", 0))
        assert not admitted_when_full(opening, False, space.free_bytes)
        space.low = False
        keeper.report()
        assert "disk_nearly_full" not in alarms
        await before.config("n").put("k", b"v")
