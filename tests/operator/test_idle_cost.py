"""What makes an idle pass cheap changes nothing that a pass decides: remembered certificates, the queue, the proxy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from lockmaster_operator.desired.certificates import CertificateWanted, Purpose
from lockmaster_operator.desired.compare import differs
from lockmaster_operator.host import issuing
from lockmaster_operator.host.issuing import Held, issue, seen
from lockmaster_operator.host.kube import KEEPALIVE_S, client_of, quick
from lockmaster_operator.host.queue import STALE_MAX, Queue

NOW = 1_800_000_000
AUTHORITY = CertificateWanted(Purpose.CLIENT_AUTHORITY, "ca", "locks client-ca")
LEAF = CertificateWanted(Purpose.CLIENT, "leaf", "locks", ("a.example",), server=True, issuer_secret="ca")


def held() -> dict[str, Held]:
    authority = issue(AUTHORITY, None, NOW)
    return {"ca": Held(authority, NOW), "leaf": Held(issue(LEAF, authority, NOW), NOW)}


def test_a_changed_secret_is_seen_at_once_and_the_old_one_again_when_it_is_back() -> None:
    there = held()
    before = seen((AUTHORITY, LEAF), there)
    assert seen((AUTHORITY, LEAF), dict(there)) is before
    ca, certificate, key = there["leaf"].pems
    other_key = issue(LEAF, there["ca"].pems, NOW)[2]
    changed = {
        "key": Held((ca, certificate, other_key), NOW),
        "certificate": Held(issue(LEAF, there["ca"].pems, NOW + 5), NOW),
        "ca.crt": Held((ca + issue(AUTHORITY, None, NOW + 5)[1], certificate, key), NOW),
        "since": Held(there["leaf"].pems, NOW + 5),
        "no certificate": Held((ca, "x", key), NOW),
    }
    found = {what: seen((AUTHORITY, LEAF), {**there, "leaf": one})[1] for what, one in changed.items()}
    assert found["key"].issuer == ""
    assert found["certificate"].not_after == before[1].not_after + 5
    assert len(found["ca.crt"].authorities) == 2
    assert found["since"] == replace(before[1], since=NOW + 5)
    assert found["no certificate"].not_after == 0
    assert [one.secret for one in seen((AUTHORITY, LEAF), {"leaf": there["leaf"]})] == ["leaf"]
    assert seen((AUTHORITY, LEAF), there) == before


def test_what_is_remembered_of_secrets_has_a_maximum_and_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "SEEN_MAX", 3)
    there = held()
    first = seen((AUTHORITY, LEAF), there)
    for since in range(5):
        seen((AUTHORITY, LEAF), {"leaf": replace(there["leaf"], since=since)})
        assert seen((AUTHORITY, LEAF), there) is first  # used again and again, so it stays
    assert len(issuing._SEEN) == 3
    assert "PRIVATE KEY" not in repr(issuing._SEEN)


async def test_each_of_many_workers_gets_its_key_when_it_is_due_and_nobody_gets_one_twice() -> None:
    draw, one, taken = random.Random(7), Queue[tuple[str, str]](), list[tuple[str, str]]()
    busy: set[tuple[str, str]] = set()

    async def work() -> None:
        while True:
            key = await one.take()
            assert key not in busy
            busy.add(key)
            taken.append(key)
            await asyncio.sleep(0.001 * draw.random())
            busy.discard(key)
            if draw.random() < 0.2:
                one._due.setdefault(key, one._clock())  # added meanwhile
            one.done(key, None)

    workers = [asyncio.create_task(work()) for _ in range(8)]
    keys = [("ns", f"locks-{n}") for n in range(50)]
    for n in range(1_000):
        one.add(draw.choice(keys), 0.05 * draw.random())
        if n % 20 == 0:
            await asyncio.sleep(0.002)
        assert len(one._heap) <= STALE_MAX * len(keys)
    for key in keys:
        one.add(key, 0.0)
    async with asyncio.timeout(20):
        while len(one):
            await asyncio.sleep(0.01)
    assert set(taken) == set(keys)
    assert not any(worker.done() for worker in workers)
    for worker in workers:
        worker.cancel()


async def test_a_worker_that_ends_while_it_waits_leaves_its_turn_to_another() -> None:
    one: Queue[tuple[str, str]] = Queue()
    first, second = (asyncio.create_task(one.take()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    one.add(("ns", "a"), 0.0)
    async with asyncio.timeout(20):
        assert await second == ("ns", "a")


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://there:1"}, "http://there:1"),
        ({"HTTPS_PROXY": "http://there:1", "NO_PROXY": "api.example"}, None),
        ({"HTTP_PROXY": "http://there:1"}, None),
    ],
)
async def test_the_proxy_of_the_environment_is_used_and_no_request_asks_for_it_again(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], proxy: str | None
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = quick(Configuration(host="https://api.example:6443"))
    assert found.proxy == proxy
    given = Configuration(host="https://api.example:6443")
    given.proxy = "http://of-the-kubeconfig:1"
    assert quick(given).proxy == "http://of-the-kubeconfig:1"
    client = client_of(found)
    session = client.rest_client._create_pool_manager()
    assert not session.trust_env
    assert session.connector is not None
    assert session.connector._keepalive_timeout == KEEPALIVE_S
    await session.close()
    await client.close()


@pytest.mark.parametrize(
    ("desired", "live", "different"),
    [
        ({"a": {"b": [1, "x", True, None]}}, {"a": {"b": [1, "x", True, None], "c": 1}, "d": 2}, False),
        (MappingProxyType({"a": (1, 2)}), {"a": [1, 2]}, False),
        ({"a": [1, 2]}, MappingProxyType({"a": (1, 3)}), True),
        ({"a": ""}, {}, False),
        ({"a": 0, "b": False}, {}, False),
        ({"a": "x"}, {}, True),
        ({"a": {}}, {}, False),
        ({"a": {"b": 1}}, {"a": "text"}, True),
        ({"a": "text"}, {"a": {"b": 1}}, True),
        ({"a": []}, {}, False),
        ({"requests": {"cpu": "1000m"}}, {"requests": {"cpu": 1}}, False),
        ({"requests": {"cpu": "1000m"}}, {"requests": {"cpu": "2"}}, True),
        ({"sizeLimit": "1Ki"}, {"sizeLimit": "1024"}, False),
        ({"other": "1Ki"}, {"other": "1024"}, True),
        ({"limits": {"cpu": "1"}}, {"limits": {}}, True),
    ],
)
def test_what_counts_as_different_from_what_is_desired(desired: Any, live: Any, different: bool) -> None:
    assert differs(desired, live) is different
