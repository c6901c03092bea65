"""The synchronous twin: the same promises from threads."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lockmaster import Client, LockLost, LockTimeout, NotHeld, Unavailable
from lockmaster.client.sync_parts import Portal

GENERATOR = Path(__file__).resolve().parents[3] / "service" / "generate_sync.py"


async def in_thread(cluster: Any, body: Callable[[Client], object]) -> None:
    def run() -> None:
        with Client(cluster.endpoints) as client:
            body(client)

    await asyncio.to_thread(run)


def test_generated_client_is_up_to_date() -> None:
    subprocess.run([sys.executable, str(GENERATOR), "--check"], check=True)


async def test_with_holds_the_lock(cluster: Any) -> None:
    def body(client: Client) -> None:
        with client.lock("x", timeout=5) as held:
            held.ensure(min_remaining=1.0)
            assert cluster.model.holders["x"][1] == held.fencing_token
        assert "x" not in cluster.model.holders

    await in_thread(cluster, body)


async def test_lock_behaves_like_a_threading_lock(cluster: Any) -> None:
    def body(client: Client) -> None:
        lock, other = client.lock("x"), client.lock("x")
        assert lock.acquire()
        assert lock.locked()
        assert not other.acquire(blocking=False)
        assert not other.acquire(timeout=0.01)
        lock.release()
        assert not lock.locked()
        with pytest.raises(RuntimeError):
            lock.release()
        with pytest.raises(NotHeld):
            lock.release()

    await in_thread(cluster, body)


async def test_with_raises_when_the_wait_is_over(cluster: Any) -> None:
    def body(client: Client) -> None:
        with client.lock("x"), pytest.raises(LockTimeout), client.lock("x", timeout=0.01):
            pytest.fail("the body ran unheld")

    await in_thread(cluster, body)


async def test_threads_exclude_each_other(cluster: Any) -> None:
    inside: list[int] = []

    def body(client: Client) -> None:
        def work(number: int) -> None:
            with client.lock("x"):
                inside.append(number)
                assert len(inside) == 1
                inside.remove(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    await in_thread(cluster, body)


async def test_a_lost_lock_is_told_and_joins_the_body_error(cluster: Any) -> None:
    def body(client: Client) -> None:
        with pytest.raises(ExceptionGroup) as caught, client.lock("x") as held:  # noqa: PT012 (the body is the subject)
            client.locks.force_release("x", "test")
            assert held.lost.wait(5)
            raise ZeroDivisionError
        assert [type(each) for each in caught.value.exceptions] == [ZeroDivisionError, LockLost]

    await in_thread(cluster, body)


async def test_decorator(cluster: Any) -> None:
    def body(client: Client) -> None:
        @client.locked("nightly")
        def report(number: int) -> int:
            assert "nightly" in cluster.model.holders
            return number + 1

        assert report(1) == 2

    await in_thread(cluster, body)


async def test_config_and_watch(cluster: Any) -> None:
    def body(client: Client) -> None:
        config = client.config("a")
        with config.watch() as watch:
            config.put("k", "1")
            config.update("k", lambda value: (value or b"") + b"2")
            assert [next(watch).item.text, next(watch).item.text] == ["1", "12"]

    await in_thread(cluster, body)


async def test_a_closed_client_says_so(cluster: Any) -> None:
    def run() -> None:
        client = Client(cluster.endpoints)
        client.config("a").range()
        client.close()
        client.close()
        with pytest.raises(Unavailable):
            client.config("a").range()

    await asyncio.to_thread(run)


def test_closing_leaves_no_task_pending_whoever_still_waits(caplog: pytest.LogCaptureFixture) -> None:
    portal = Portal()
    waiting = threading.Event()
    ended: list[BaseException] = []

    async def wait() -> None:
        waiting.set()
        await asyncio.Event().wait()

    def reader() -> None:
        try:
            portal.run(wait())
        except Unavailable as error:
            ended.append(error)

    thread = threading.Thread(target=reader, daemon=True)
    thread.start()
    assert waiting.wait(5)
    portal.close()
    thread.join(5)
    gc.collect()
    assert not thread.is_alive()
    assert [str(error) for error in ended] == ["the client was closed"]
    assert "Task was destroyed" not in caplog.text
