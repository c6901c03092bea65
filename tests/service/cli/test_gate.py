"""`lockmaster gate` against a member whose binary offers level 2: what it prints, its exit codes, its refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from lockmaster.cli.application import invoke
from lockmaster.cli.exit_codes import CONFLICT, OK
from lockmaster.server.app import Server, dev_settings


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """host:port of a development member in a thread of its own, once it admits writes."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Server:
        for level_max in (1, 2):  # founded by a binary of level 1, then upgraded
            server = Server(dev_settings(tmp_path / "data"), level_max=level_max)
            await server.start()
            async with asyncio.timeout(20):
                while not server.engine.admits_writes:
                    await asyncio.sleep(0.02)
            if level_max == 1:
                await server.stop()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    yield server.bound_address
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_gate_from_fence_to_deactivate(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = invoke(["gate", *arguments, "-e", endpoint])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    code, out, _ = run("status")
    assert (code, out.splitlines()[0]) == (OK, "level 1 is active (epoch 0)")
    assert out.splitlines()[2].split() == ["1", "dev", "1", "to", "2"]
    code, _, err = run("fence", "3")
    assert code == CONFLICT
    assert "FENCE(3) needs level 3 of every member: member 1 (dev) knows up to 2" in err
    code, _, err = run("activate", "2")
    assert code == CONFLICT
    assert "no FENCE for level 2 stands" in err
    code, out, _ = run("fence", "2", "--expected-epoch", "0", "-o", "json")
    fenced = json.loads(out)
    assert (code, fenced["level_active"], fenced["level_fence"]) == (OK, 1, 2)
    told = fenced | {"members": []}
    while [m["fence_index"] for m in told["members"]] != [fenced["epoch"]]:  # its promise is on its way to the disk
        code, out, _ = run("status", "-o", "json")
        told = json.loads(out)
        assert (code, {key: told[key] for key in fenced}) == (OK, fenced)
    assert told["members"][0]["promised"] == "level 2"
    code, _, err = run("activate", "2", "--expected-epoch", "0")
    assert code == CONFLICT
    assert f"the gate's epoch is {fenced['epoch']}, not 0" in err
    code, out, _ = run("activate", "2")
    assert (code, out.startswith("level 2 is active (epoch ")) == (OK, True)
    code, _, err = run("cancel", "2")
    assert code == CONFLICT
    assert "CANCEL(2) comes too late" in err
    code, out, _ = run("deactivate", "2")
    assert (code, out.startswith("level 1 is active (epoch ")) == (OK, True)
