"""The parts of the host by themselves: queue, certificates, settings, metrics."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from lockmaster.api import admin_pb2
from lockmaster_operator.desired.certificates import SECRET_KEYS, SINCE_ANNOTATION, CertificateWanted, Purpose
from lockmaster_operator.host import app, issuing, watching
from lockmaster_operator.host.app import EXIT_LEASE_LOST, RESYNC_AGE_MAX_S, Operator
from lockmaster_operator.host.engine import report_of
from lockmaster_operator.host.issuing import Held, Pems, issue, seen
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.host.minding import KINDS, Minder, both
from lockmaster_operator.host.page import start_page
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.queue import KEYS_MAX, Key, Queue, backoff_s
from lockmaster_operator.host.quiet import Quiet
from lockmaster_operator.host.settings import SettingsError, described, load
from lockmaster_operator.host.watch_ages import WatchAges
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus
from lockmaster_operator.observed import AuthoritySeen, CertificateSeen

NOW = 1_800_000_000
DAY = 86_400
A, B = ("ns", "a"), ("ns", "b")
ID = 32 * "a"


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


def rows(authority: Pems | None, leaf: Pems) -> tuple[CertificateSeen, ...]:
    """What is seen of the two Secrets."""
    held = {"leaf": Held(leaf)} if authority is None else {"ca": Held(authority), "leaf": Held(leaf)}
    return seen((AUTHORITY, LEAF), held)


def test_a_leaf_is_of_its_authority_for_its_time_and_names_and_may_sign_nothing() -> None:
    authority = issue(AUTHORITY, None, NOW)
    leaf = issue(LEAF, authority, NOW)
    own, row = rows(authority, leaf)
    assert (row.not_after, row.names, row.issuer) == (NOW + 90 * DAY, ("locks.ns", "127.0.0.1"), authority[1])
    assert leaf[0] == authority[0]
    certificate = x509.load_pem_x509_certificate(leaf[1].encode())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert own.issuer == authority[1]
    assert own.authorities == (AuthoritySeen(authority[1], NOW - issuing.BEFORE_S, NOW + 3650 * DAY),)


def test_a_leaf_is_of_the_authority_that_signed_it_wherever_that_one_stands_and_of_none_without_its_key() -> None:
    old, new = issue(AUTHORITY, None, NOW), issue(AUTHORITY, None, NOW)
    leaf = issue(LEAF, old, NOW)
    assert rows(new, leaf)[1].issuer == old[1]
    assert rows((new[1] + old[1], new[1], new[2]), (new[1], leaf[1], leaf[2]))[1].issuer == old[1]
    assert rows(new, (new[1], leaf[1], leaf[2]))[1].issuer == ""
    assert rows(old, (leaf[0], leaf[1], new[2]))[1].issuer == ""


def test_a_damaged_authority_is_known_by_its_certificate() -> None:
    authority = issue(AUTHORITY, None, NOW)
    leaf = issue(LEAF, authority, NOW)
    own, row = rows(("", authority[1], "nonsense"), ("", leaf[1], leaf[2]))
    assert (own.issuer, own.authorities[0].pem, row.issuer) == ("", authority[1], authority[1])


def test_what_somebody_else_put_into_ca_crt_is_not_taken_for_an_authority_of_the_operators() -> None:
    authority, other = issue(AUTHORITY, None, NOW), issue(replace(AUTHORITY, common_name="theirs"), None, NOW)
    leaf = issue(LEAF, authority, NOW, other[1])
    row = rows(authority, leaf)[1]
    assert (row.ca, [one.pem for one in row.authorities]) == (authority[1] + other[1], [authority[1]])
    own, row = rows(other, issue(LEAF, other, NOW))
    assert (own.issuer, row.issuer) == (other[1], other[1])  # in the authority's own Secret it is one


def test_an_authority_begins_its_ca_crt_and_others_stand_beside_it() -> None:
    first = issue(AUTHORITY, None, NOW)
    second = issue(AUTHORITY, None, NOW + DAY, first[1])
    leaf = issue(LEAF, second, NOW + DAY, first[1])
    assert second[0] == leaf[0] == second[1] + first[1]


def test_since_when_is_told_by_the_annotation_and_by_nothing_else() -> None:
    secret = {"data": {name: base64.b64encode(b"x").decode() for name in SECRET_KEYS}}
    for told, since in (
        (None, 0),
        ({SINCE_ANNOTATION: "soon"}, 0),
        ({SINCE_ANNOTATION: "2027-01-15T08:00:00Z"}, NOW),
    ):
        held = issuing.held_of({**secret, "metadata": {"annotations": told}})
        assert held == Held(("x", "x", "x"), since)


def test_a_secret_that_holds_no_certificate_counts_as_run_out_and_a_bad_one_is_named() -> None:
    row = rows(None, ("", "nonsense", "nonsense"))[0]
    assert (row.not_after, row.issuer, row.authorities) == (0, "", ())
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
    metrics.tell(A, LockClusterStatus(cluster_id=ID, quorum_margin=1, full_copies=2), hibernated=False)
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
        self.quiet = Quiet()

    async def make(self, key: tuple[str, str]) -> float | None:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    visit = make


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


async def test_who_has_lost_the_lease_works_no_more_while_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its page takes to close."""

    async def idle(*_: Any) -> None:
        await asyncio.Event().wait()

    one, _ = operator()
    monkeypatch.setattr(app, "watch", idle)
    monkeypatch.setattr(Operator, "_resync", idle)
    before = asyncio.all_tasks()
    async with asyncio.timeout(20):
        assert await one._serve(asyncio.Event()) == EXIT_LEASE_LOST  # never held
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before
    assert {task.get_name() for task in left} == {"watches"}  # which the process's end ends
    for task in left:
        task.cancel()


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
    assert b"lockmaster_operator_watch_age_seconds 300.0" in one.page()
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


@pytest.mark.parametrize("floor", [0, 1, 2])
def test_a_member_says_which_binaries_can_open_its_directory(floor: int) -> None:
    assert report_of(admin_pb2.StatusResponse(level_floor=floor)).level_floor == floor


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
