"""The parts of the host by themselves: queue, certificates, settings, metrics."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from lockmaster.api import admin_pb2
from lockmaster_operator.desired.certificates import CertificateWanted, Purpose
from lockmaster_operator.host import issuing, watching
from lockmaster_operator.host.app import RESYNC_AGE_MAX_S, Operator
from lockmaster_operator.host.engine import report_of
from lockmaster_operator.host.issuing import issue, seen
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.host.minding import KINDS, Minder, both
from lockmaster_operator.host.page import start_page
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.queue import KEYS_MAX, Key, Queue, backoff_s
from lockmaster_operator.host.settings import SettingsError, described, load
from lockmaster_operator.host.watch_ages import WatchAges
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus

NOW = 1_800_000_000
DAY = 86_400
A, B = ("ns", "a"), ("ns", "b")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[Queue[Key], Clock]:
    clock = Clock()
    return Queue(clock, draw=lambda: 1.0), clock


async def take(one: Queue[Key]) -> tuple[str, str] | None:
    """What a worker gets without waiting."""
    try:
        async with asyncio.timeout(0.01):
            return await one.take()
    except TimeoutError:
        return None


async def test_a_key_is_taken_once_however_often_it_is_added() -> None:
    one, clock = queue()
    for _ in range(5):
        one.add(A)
    clock.now = 1.0
    assert await take(one) == A
    assert await take(one) is None


async def test_a_key_that_is_added_while_it_is_taken_is_looked_at_again_and_not_before_done() -> None:
    one, clock = queue()
    one.add(A, 0)
    assert await take(one) == A
    one.add(A, 0)
    assert await take(one) is None
    one.done(A, None)
    assert await take(one) == A
    one.done(A, None)
    clock.now = 1000.0
    assert (await take(one), len(one)) == (None, 0)


async def test_the_sooner_of_two_times_counts() -> None:
    one, clock = queue()
    one.add(A, 30)
    one.add(A, 1)
    one.add(A, 60)
    clock.now = 1.0
    assert await take(one) == A


async def test_a_failing_key_backs_off_even_when_events_come_and_others_do_not_wait_for_it() -> None:
    one, clock = queue()
    one.add(A, 0)
    one.add(B, 0.1)
    assert await take(one) == A
    one.add(A, 0)
    assert one.failed(A) == 1.0
    clock.now = 0.5
    assert await take(one) == B
    clock.now = 1.0
    assert await take(one) == A
    assert one.failed(A, retry_after_s=30.0) == 30.0
    clock.now = 31.0
    assert await take(one) == A
    one.done(A, None)
    one.add(A, 0)
    assert (await take(one), one.failed(A)) == (A, 1.0)


def test_back_off_doubles_to_a_minute_with_jitter_of_a_half() -> None:
    assert [backoff_s(n, 1.0) for n in (1, 2, 3, 7, 100)] == [1, 2, 4, 60, 60]
    assert backoff_s(3, 0.0) == 2.0


async def test_there_is_a_most_of_keys() -> None:
    one, _ = queue()
    assert all(one.add(("ns", str(n))) for n in range(KEYS_MAX))
    assert not one.add(("ns", "one too many"))


AUTHORITY = CertificateWanted(Purpose.CLIENT_AUTHORITY, "ca", "locks ca", lifetime_s=3650 * DAY)
LEAF = CertificateWanted(
    Purpose.CLIENT, "leaf", "locks", ("locks.ns", "127.0.0.1"), server=True, client=True, issuer_secret="ca"
)


def test_a_leaf_is_of_its_authority_for_its_time_and_names_and_may_sign_nothing() -> None:
    authority = issue(AUTHORITY, None, NOW)
    leaf = issue(LEAF, authority, NOW)
    row = seen("leaf", leaf, authority)
    assert (row.not_after, row.names, row.trusted) == (NOW + 90 * DAY, ("locks.ns", "127.0.0.1"), True)
    assert leaf[0] == authority[0]
    certificate = x509.load_pem_x509_certificate(leaf[1].encode())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert seen("ca", authority, None).trusted


def test_another_authoritys_leaf_or_another_key_is_not_trusted() -> None:
    authority, other = issue(AUTHORITY, None, NOW), issue(AUTHORITY, None, NOW)
    leaf = issue(LEAF, authority, NOW)
    assert not seen("leaf", leaf, other).trusted
    assert not seen("leaf", (leaf[0], leaf[1], other[2]), authority).trusted


def test_a_new_authority_stands_beside_the_old_one_alone() -> None:
    first = issue(AUTHORITY, None, NOW)
    second = issue(AUTHORITY, None, NOW + DAY, first)
    third = issue(AUTHORITY, None, NOW + 2 * DAY, second)
    assert second[0] == second[1] + first[1]
    assert third[0] == third[1] + second[1]


def test_a_secret_that_holds_no_certificate_counts_as_run_out_and_a_bad_one_is_named() -> None:
    row = seen("leaf", ("", "nonsense", "nonsense"), None)
    assert (row.not_after, row.trusted) == (0, False)
    with pytest.raises(issuing.BadSecret, match=r"Secret x: ca.crt, tls.crt, tls.key must be there"):
        issuing.pems_of({"metadata": {"name": "x"}, "data": {"tls.crt": "%%%"}})


def test_settings_come_from_the_environment_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKMASTER_OPERATOR_NAMESPACES", "a, b,")
    assert load().namespaces == ("a", "b")
    monkeypatch.setenv("LOCKMASTER_OPERATOR_WORKERS", "0")
    with pytest.raises(SettingsError, match=r"^LOCKMASTER_OPERATOR_WORKERS: .*greater than or equal to 1"):
        load()
    assert "LOCKMASTER_OPERATOR_LEASE  [default: lockmaster-operator]" in described()


async def test_kopf_is_told_to_write_nothing_and_has_only_handlers_of_events() -> None:
    settings = watching.settings()
    assert (settings.posting.enabled, settings.peering.standalone, settings.scanning.disabled) == (False, True, True)
    found = watching.registry(lambda key: None, lambda kind, key: None, WatchAges(1))
    assert len(list(found._watching.get_all_handlers())) == 1 + len(watching.OWNED) + len(KINDS)
    # State handlers would leave annotations on objects, daemons and timers finalizers.
    assert not found._changing._handlers
    assert not found._spawning._handlers


def test_metrics_of_a_cluster_go_with_it() -> None:
    metrics = Metrics()
    metrics.tell(A, LockClusterStatus(quorum_margin=1, full_copies=2), hibernated=False)
    assert b'lockmaster_cluster_quorum_margin{cluster="a",namespace="ns"} 1.0' in metrics.page()
    metrics.forget(A)
    assert b'cluster="a"' not in metrics.page()


async def test_every_watched_object_enqueues_the_lock_cluster_that_it_is_or_belongs_to() -> None:
    keys: list[Key] = []
    minded: list[tuple[str, Key]] = []
    found = watching.registry(keys.append, lambda kind, key: minded.append((kind, key)), WatchAges(1))
    for handler in found._watching.get_all_handlers():
        event: Any = {"name": "x", "namespace": "ns", "labels": {"app.kubernetes.io/instance": "locks"}}
        await handler.fn(**event)  # type: ignore[misc]  # kopf's own protocol of its keywords
        await handler.fn(**{**event, "namespace": None})  # type: ignore[misc]
    assert keys == [("ns", "x"), *[("ns", "locks")] * len(watching.OWNED)]
    assert minded == [(kind, ("ns", "x")) for kind in KINDS]


class NoMembers:
    """Members that nobody asks."""

    async def look(self, *_: Any) -> Any:
        raise AssertionError

    async def perform(self, *_: Any) -> None:
        raise AssertionError

    async def forget(self, uid: str) -> None:
        """Nothing is open."""


class Scripted:
    """Passes that end as told."""

    def __init__(self, *ends: float | Exception | None) -> None:
        self.ends = list(ends)

    async def make(self, key: tuple[str, str]) -> float | None:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


def operator(*ends: float | Exception | None) -> tuple[Operator, Clock]:
    kube: Any = None
    one = Operator(load({"identity": "me"}), kube, NoMembers())
    clock, passes = Clock(), Scripted(*ends)
    one.queue = Queue(clock, draw=lambda: 1.0)
    one.passes = passes  # type: ignore[assignment]
    return one, clock


async def test_a_changed_pod_has_its_cluster_s_sessions_looked_at() -> None:
    one, _ = operator()
    one._pods_changed(A)
    async with asyncio.timeout(20):
        assert await one.minder.queue.take() == ("LockCluster", *A)


async def test_login_is_offered_where_there_is_a_binding_to_keep() -> None:
    kube: Any = None
    with_one = Operator(load({"identity": "me", "login_binding": "review"}), kube, NoMembers())
    assert (with_one.passes.settings.logins, operator()[0].sessions.settings.logins) == (True, False)


@pytest.mark.parametrize(
    ("ends", "due"), [((5.0, 30.0), 5.0), ((30.0, 5.0), 5.0), ((None, 5.0), 5.0), ((None, None), None)]
)
async def test_two_passes_over_one_object_are_due_when_the_earlier_one_is(
    ends: tuple[float | None, float | None], due: float | None
) -> None:
    first, second = (Scripted(end) for end in ends)
    assert await both(first.make, second.make)(A) == due


@pytest.mark.parametrize("error", [PassFailed("503", 5.0), TimeoutError(), RuntimeError("a bug")])
async def test_a_pass_that_fails_in_whatever_way_is_made_again_after_a_back_off(error: Exception) -> None:
    one, clock = operator(error, None)
    one.enqueue(A)
    clock.now = 1.0
    await one._one_pass(await one.queue.take())
    wait = getattr(error, "retry_after_s", 1.0)
    clock.now += wait - 0.01
    assert await take(one.queue) is None
    clock.now += 0.01
    key = await take(one.queue)
    assert key == A
    await one._one_pass(key)
    assert len(one.queue) == 0
    page = one.page().decode()
    assert 'lockmaster_operator_reconcile_seconds_count{outcome="failed"} 1.0' in page
    assert 'lockmaster_operator_reconcile_seconds_count{outcome="gone"} 1.0' in page


async def test_the_page_tells_who_waits_for_the_lease_and_whose_watches_run() -> None:
    one, clock = operator()
    one.watches = WatchAges(1, clock)
    assert (one.alive(), one.ready()) == ("", "another operator holds the Lease")
    one.lease.held = True
    assert one.ready() == "the watches have not begun"
    one._watching.set()
    assert one.ready() == ""
    clock.now = RESYNC_AGE_MAX_S
    assert one.alive() == "a watch was not opened for 300 s"
    one._resynced -= RESYNC_AGE_MAX_S
    assert one.alive() == "the API server has not answered for 300 s"
    runner = await start_page("127.0.0.1:0", one.alive, one.ready, one.page)
    try:
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            heard = {path: (await session.get(path)).status for path in ("/livez", "/readyz", "/metrics", "/other")}
    finally:
        await runner.cleanup()
    assert heard == {"/livez": 503, "/readyz": 200, "/metrics": 200, "/other": 404}


def test_a_members_alarms_are_taken_by_code_without_the_numbers_that_change() -> None:
    """A status that holds them would be written again for every MiB."""
    said = admin_pb2.StatusResponse(alarms=["disk_nearly_full: 12 MiB free", "disk_behind: 9 bytes"])
    assert report_of(said).alarms == ("disk_behind", "disk_nearly_full")


def test_a_member_says_its_room_and_what_a_second_copy_needs() -> None:
    said = report_of(admin_pb2.StatusResponse(free_bytes=3, copy_bytes=5))
    assert (said.free_bytes, said.copy_bytes) == (3, 5)


@pytest.mark.parametrize("error", [PassFailed("503", 5.0), TimeoutError(), RuntimeError("a bug")])
async def test_other_kinds_are_minded_in_a_queue_of_their_own_with_the_same_back_off(error: Exception) -> None:
    kube: Any = None
    metrics, clock = Metrics(), Clock()
    minder = Minder(kube, {"ConfigSet": Scripted(error, None).make}, metrics, ())
    minder.queue = Queue(clock, draw=lambda: 1.0)
    minder.enqueue("ConfigSet", A)
    clock.now = 1.0
    await minder.one_pass(await minder.queue.take())
    clock.now += getattr(error, "retry_after_s", 1.0)
    async with asyncio.timeout(1):
        await minder.one_pass(await minder.queue.take())
    assert len(minder.queue) == 0
    page = metrics.page().decode()
    for outcome in ("failed", "gone"):
        assert f'lockmaster_operator_minding_seconds_count{{kind="ConfigSet",outcome="{outcome}"}} 1.0' in page
