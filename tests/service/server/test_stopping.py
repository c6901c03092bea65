"""A member that is asked to stop ends, with exit code 0, whatever comes late or hangs on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from lockmaster.api import config_pb2, status_pb2
from lockmaster.errors import Indeterminate, LockmasterError, Unavailable
from lockmaster.server import operations
from lockmaster.server.events import RevisionWaiters
from lockmaster.server.operations import Operations, Origin
from lockmaster.server.runtime import Engine
from lockmaster.server.status import EngineSettings
from lockmaster.server.tasks import end_task
from lockmaster.server.translate import Response
from lockmaster.statemachine.commands import Command, Put, Result
from lockmaster_raft.config import RaftConfig


async def _swallow(times: int) -> None:
    swallowed = 0
    while swallowed < times:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            swallowed += 1
    await asyncio.sleep(3600)


async def test_a_task_that_swallows_its_cancellation_is_ended_all_the_same() -> None:
    task = asyncio.create_task(_swallow(1))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await end_task(task)
    assert task.cancelled()


async def test_a_task_that_ends_with_an_error_raises_nothing_where_it_is_ended() -> None:
    async def turn_into_an_error() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise OSError("closed") from None

    task = asyncio.create_task(turn_into_an_error())
    await asyncio.sleep(0)
    assert await end_task(task)


async def test_a_task_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockmaster.server.tasks.CANCEL_INTERVAL_S", 0.001)
    task = asyncio.create_task(_swallow(15))
    await asyncio.sleep(0)
    assert not await end_task(task)
    assert await end_task(task), "its patience is at an end"


async def _started(path: Path, exits: list[int], **scrub: float) -> Engine:
    settings = EngineSettings(path, "one", "127.0.0.1:0", "", "127.0.0.1:1", RaftConfig.fast())
    settings = replace(settings, **scrub)  # type: ignore[arg-type]  # names of its own fields
    engine = Engine(settings, exit_process=exits.append)
    await engine.start()
    await engine.bootstrap(1)
    async with asyncio.timeout(10):
        while not engine.admits_writes:
            await asyncio.sleep(0.01)
    return engine


@pytest.mark.parametrize(("turns", "error"), [(0, Unavailable), (1, Indeterminate)])
async def test_e16_what_became_of_a_write_is_unknown_once_it_was_appended(
    tmp_path: Path, turns: int, error: type[LockmasterError]
) -> None:
    """MicroRaft's rows E14 and E16. What was still queued was certainly not done."""
    engine = await _started(tmp_path / "d", [])
    answers: list[Result | LockmasterError] = []
    engine.propose(Command(Put("n", "k", b"v", None, "", 0, "", "", 0)), answers.append)
    for _ in range(turns):
        await asyncio.sleep(0)
    await engine.stop()
    assert [type(answer) for answer in answers] == [error]
    assert not engine.is_leader


async def test_a_read_deferred_past_the_stop_is_refused_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "READ_SLICE_NS", 0)
    exits: list[int] = []
    engine = await _started(tmp_path / "d", exits)
    handlers = Operations(engine, RevisionWaiters(), 10**9)
    answers = [Response() for _ in range(200)]
    request = config_pb2.GetRequest(namespace="n", key="k")
    request.read.consistency = status_pb2.CONSISTENCY_EVENTUAL
    await engine.stop()
    for answer in answers:
        handlers.get(request, Origin("p"), 0, lambda size, answer=answer: answer)  # type: ignore[misc]
    async with asyncio.timeout(5):
        while not all(answer.HasField("failure") for answer in answers) and not exits:
            await asyncio.sleep(0)
    assert exits == []
    assert {answer.failure.status for answer in answers} == {status_pb2.STATUS_UNAVAILABLE}


@pytest.mark.parametrize("turns", [0, 1, 3, 40])
async def test_a_scrub_that_runs_is_ended_by_the_stop_and_leaves_nothing(tmp_path: Path, turns: int) -> None:
    exits: list[int] = []
    engine = await _started(tmp_path / "d", exits, scrub_interval_s=0.05, scrub_bytes_per_s=1)
    for _ in range(turns):
        await asyncio.sleep(0.02)
    async with asyncio.timeout(10):
        await engine.stop()
    assert exits == []
    assert not (tmp_path / "d" / "snapshots" / "scrub").exists()
