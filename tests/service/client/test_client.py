"""One client as a whole: endpoints, trust, fork, loops, stalls, imports."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from lockmaster import TLS, AsyncClient, ForkedClient, Held, Unavailable, WrongLoop
from lockmaster.client import async_client, connection, session_core
from lockmaster.client.endpoints import check_trust, parse_endpoints
from lockmaster.client.holds import Session
from lockmaster.client.keepalive import Keepalive
from lockmaster.client.patience import Patience


def test_endpoints_come_from_text_list_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_endpoints("a:1, b") == ("a:1", "b:7420")
    assert parse_endpoints(["a:1", "a:1"]) == ("a:1",)
    monkeypatch.setenv("LOCKMASTER_ENDPOINTS", "c:2")
    assert AsyncClient(insecure=True).endpoints == ("c:2",)
    with pytest.raises(ValueError, match="port is not a number"):
        parse_endpoints("a:x")
    with pytest.raises(ValueError, match="LOCKMASTER_ENDPOINTS"):
        parse_endpoints("")


def test_plaintext_beyond_this_machine_must_be_asked_for() -> None:
    check_trust(["127.0.0.1:1", "localhost:1", "[::1]:1"], None, False)
    check_trust(["a:1"], None, True)
    with pytest.raises(ValueError, match="tls"):
        check_trust(["a:1"], None, False)
    with pytest.raises(ValueError, match="exclude"):
        check_trust(["a:1"], TLS(), True)
    with pytest.raises(ValueError, match="both"):
        TLS(cert="c")


def test_tls_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("one")
    tls = TLS(ca=ca)
    before = tls.fingerprint()
    ca.write_text("two")
    assert tls.fingerprint() not in (before, b"")
    ca.unlink()
    assert tls.fingerprint() == b""


async def test_another_loop_is_refused(cluster: Any) -> None:
    async with cluster.client() as client:
        await client.config("a").range()

        async def elsewhere() -> None:
            with pytest.raises(WrongLoop):
                await client.config("a").range()

        await asyncio.to_thread(asyncio.run, elsewhere())


async def test_a_forked_client_is_dead(cluster: Any) -> None:
    client = cluster.client()
    async with client:
        async_client._after_fork_in_child()
        with pytest.raises(ForkedClient):
            await client.lock("x").acquire()
        client.forked = False


def test_a_real_fork_marks_the_child_only() -> None:
    program = (
        "import os, asyncio, lockmaster\n"
        "client = lockmaster.AsyncClient('127.0.0.1:1')\n"
        "sync = lockmaster.Client('127.0.0.1:1')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        sync.config('a').get('k')\n"
        "    except lockmaster.ForkedClient:\n"
        "        os._exit(7 if client.forked else 1)\n"
        "    os._exit(2)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "raise SystemExit(0 if code == 7 and not client.forked else 1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_client_imports_no_server_part() -> None:
    program = (
        "import sys, lockmaster\n"
        "heavy = ('lockmaster.server', 'lockmaster.storage', 'lockmaster.statemachine', 'lockmaster_raft', 'rocksdict',"
        " 'opentelemetry.sdk', 'uvloop')\n"
        "found = [name for name in sys.modules if name.startswith(heavy)]\n"
        "raise SystemExit(str(found) if found else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": ""})


async def test_a_closed_client_refuses_and_frees_its_waiters(cluster: Any) -> None:
    one, other = cluster.client(), cluster.client()
    await one.lock("x").acquire()
    task = asyncio.create_task(other.lock("x").acquire())
    while not cluster.model.queues.get("x"):
        await one.locks.inspect("x")
    await other.close()
    with pytest.raises(Exception, match="closed"):
        await task
    with pytest.raises(Unavailable):
        await other.lock("y").acquire()
    await one.close()
    assert not cluster.model.holders


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("ttl", math.nan, "ttl must be above 0 and at most 86,400 seconds: nan"),
        ("lock_delay", -1, "lock_delay must be 0 or more and at most 60 seconds: -1"),
        ("lock_delay", 61, "lock_delay must be 0 or more and at most 60 seconds: 61"),
        ("operation_timeout", 0, "operation_timeout must be above 0 seconds: 0"),
        ("operation_timeout", "5", "operation_timeout must be a number of seconds, not str: '5'"),
        ("stall_max", -1.5, "stall_max must be above 0 seconds: -1.5"),
        ("label", 5, "label must be a str, not int: 5"),
        ("label", "\ud800", "label has no UTF-8 form"),
    ],
)
def test_an_option_out_of_range_is_told_at_once_with_its_limit(option: str, value: object, said: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        AsyncClient("127.0.0.1:1", **{option: value})  # type: ignore[arg-type]  # wrong on purpose
    assert str(caught.value).startswith(said)


async def test_a_lock_that_cannot_be_asked_for_is_told_at_once(cluster: Any) -> None:
    async with cluster.client() as client:
        for wrong, error, said in (
            ((5,), TypeError, "name must be a str, not int: 5"),
            (("\ud800",), ValueError, "name has no UTF-8 form"),
            (("x", "5"), TypeError, "timeout must be a number of seconds"),
            (("x", math.nan), ValueError, "timeout must be"),
        ):
            with pytest.raises(error, match=said):
                client.lock(*wrong)
        with pytest.raises(TypeError, match="on_lost must be"):
            client.lock("x", on_lost="cancle")
        with pytest.raises(TypeError, match="timeout must be"):
            await client.lock("x").acquire(timeout="5")


async def test_what_cannot_be_encoded_is_its_own_callers_error_and_holds_up_nobody(cluster: Any) -> None:
    """It came back with each frame: every other call of the client failed, and one without a timeout hung for good."""
    async with cluster.client() as client, client.lock("held") as held:
        wrong = client.lock("x")
        wrong.name = 5  # wrong on purpose
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(
                wrong.acquire(), client.lock("y").acquire(), client.config("n").put("k", b"v"), return_exceptions=True
            )
        assert [type(one) for one in outcomes] == [TypeError, Held, int]
        assert held.valid
        await client.lock("z").acquire(timeout=5)
        assert not client.core().session.pending


async def test_a_client_that_holds_a_lock_ticks_as_often_as_ever(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each probe armed one timer more: four ticks a second became four more every five seconds, for good."""
    monkeypatch.setattr(session_core, "PROBE_SECONDS", 0.0)
    ticks, original = list[float](), connection.Connection._tick

    def counted(one: connection.Connection) -> None:
        ticks.append(asyncio.get_running_loop().time())
        original(one)

    monkeypatch.setattr(connection.Connection, "_tick", counted)
    async with cluster.client() as client, client.lock("x"):
        for _ in range(100):
            await asyncio.sleep(0.02)
        most = (ticks[-1] - ticks[0]) / session_core.TICK_SECONDS + 2
        assert 2 < len(ticks) <= most


async def test_a_stalled_loop_is_no_longer_renewed(cluster: Any) -> None:
    """Against a loop that never runs: rounds go by, no renewal is sent."""
    silent = asyncio.new_event_loop()
    rounds = threading.Event()
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5
        if now[0] > 60:
            rounds.set()
        return now[0]

    session = Session(1, 0.03, 0.0)
    keepalive = Keepalive(
        session,
        endpoints=tuple(cluster.endpoints),
        tls=None,
        loop=silent,
        stall_max=0.0,
        patience=Patience(1),
        expired=lambda _: None,
        clock=clock,
    )
    keepalive.start()
    await asyncio.to_thread(rounds.wait, 10)
    keepalive.stop()
    await asyncio.to_thread(keepalive.join, 10.0)
    silent.close()
    assert keepalive.stalled
    assert cluster.model.renewals == 0


def test_validity_counts_from_the_send_time_of_the_renewal() -> None:
    session = Session(1, 15.0, 100.0)
    assert session.valid_until == 114.0
    session.renewed(105.0)
    session.renewed(103.0)
    assert session.valid_until == 119.0


def test_ttl_must_be_positive() -> None:
    with pytest.raises(ValueError, match="ttl"):
        AsyncClient("127.0.0.1:1", ttl=0)
