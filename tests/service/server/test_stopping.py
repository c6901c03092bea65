"""A member that is asked to stop ends, with exit code 0, whatever comes late or hangs on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from lockmaster.api import config_pb2, status_pb2
from lockmaster.errors import Indeterminate, LockmasterError, Unavailable
from lockmaster.server import operations
from lockmaster.server.app import Server, dev_settings
from lockmaster.server.events import RevisionWaiters
from lockmaster.server.operations import Operations, Origin
from lockmaster.server.runtime import Engine
from lockmaster.server.status import EngineSettings
from lockmaster.server.tasks import end_task
from lockmaster.server.translate import Response
from lockmaster.statemachine.commands import Command, Put, Result
from lockmaster.storage.snapshot import SnapshotWriter
from lockmaster_raft.config import RaftConfig

from tests.service.storage.test_child import no_more_processes


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


async def test_a_stopping_member_makes_no_snapshot_any_more(tmp_path: Path) -> None:
    exits: list[int] = []
    engine = await _started(tmp_path / "d", exits)
    assert engine.snapshots is not None
    stopping = asyncio.create_task(engine.stop())
    while not engine.stopping:
        await asyncio.sleep(0)
    made = engine.snapshots.make()
    await asyncio.gather(stopping, made)
    assert (exits, engine.snapshots.made) == ([], 0)


async def test_work_that_can_wait_is_put_off_where_no_process_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exits: list[int] = []
    engine = await _started(tmp_path / "d", exits, scrub_interval_s=0.2)
    with monkeypatch.context() as limited:
        limited.setattr("lockmaster.storage.child.subprocess.Popen", no_more_processes)
        await engine.make_snapshot()
        assert engine.alarms.pop("child_not_started")
        await _until(lambda: "child_not_started" in engine.alarms)  # by the scrub
    assert exits == []
    await _until(lambda: engine.integrity is not None and engine.integrity.scrubs > 0)
    await engine.make_snapshot()
    assert exits == []
    assert "child_not_started" not in engine.alarms
    assert engine.snapshots is not None
    assert engine.snapshots.made == 1
    await engine.stop()


async def _until(come: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not come():
            await asyncio.sleep(0.01)


async def _promote(full: list[Server], member_id: int) -> None:
    """Refused until the witness is well known to the leader: asked again and again."""
    async with asyncio.timeout(60):
        while True:
            with suppress(LockmasterError, StopIteration):
                return await next(one.engine for one in full if one.engine.is_leader).promote_member(member_id)
            await asyncio.sleep(0.1)


async def test_a_witness_that_stops_in_its_promotion_begins_no_more_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last chunk, stored while it stopped, had the state built by threads that were closed: exit code 70."""
    loop, storing = asyncio.get_running_loop(), asyncio.Event()
    original, members, exits = SnapshotWriter.store_chunk, list[Server](), list[int]()

    def slow(writer: SnapshotWriter, number: int, data: bytes) -> None:
        loop.call_soon_threadsafe(storing.set)
        time.sleep(0.4)
        original(writer, number, data)

    try:
        for name in ("a", "b", "w"):
            joins = {"bootstrap": False, "join": (members[0].bound_address,)} if members else {}
            role = {"role": "witness"} if name == "w" else {}
            members.append(Server(dev_settings(tmp_path / name).model_copy(update={"name": name, **joins, **role})))
            await members[-1].start()
            await _until(lambda: sum(one.voter for one in members[0].engine.status().members) == len(members))
        *full, witness = members
        monkeypatch.setattr(witness.engine, "_exit_process", exits.append)
        monkeypatch.setattr(SnapshotWriter, "store_chunk", slow)
        await _promote(full, witness.engine.member_id)
        await asyncio.wait_for(storing.wait(), 60)
        await witness.stop()
        assert exits == []
    finally:
        await asyncio.gather(*(one.stop() for one in members))
