"""Login by ServiceAccount token (service.md §7): what the API server's word means; every RPC, every credential."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.protobuf import message_factory
from lockmaster import TLS, AsyncClient
from lockmaster.api import session_pb2
from lockmaster.errors import PermissionDenied, PreconditionFailed
from lockmaster.server.app import Server
from lockmaster.server.login_policy import KEPT_SECONDS_MAX, Principal, Reason, Refusal, looks_wrong, policy
from lockmaster.server.settings import Settings
from lockmaster.server.token_review import (
    KEPT_MAX,
    REFUSALS_KEPT_MAX,
    REVIEWS_MAX,
    SILENCE_SECONDS,
    WAITERS_MAX,
    WAITING_MAX,
    Logins,
    Unanswered,
)
from lockmaster.server.unary import ROWS, SERVICES

from tests.service.server.conftest import until_it_admits_writes
from tests.service.server.test_tls import Authority

AUDIENCE = "locks"
ACCOUNT = "system:serviceaccount:shop:worker"
UID = "4d6b0c2e-0000-4000-8000-000000000001"
BOUND = f"{ACCOUNT};pod=worker-1;uid={UID}"
WAIT = 20


def token_of(mark: str = "good", *, aud: Any = (AUDIENCE,), exp: float = 4e9) -> str:
    claims = {"aud": list(aud) if isinstance(aud, tuple) else aud, "exp": exp, "mark": mark}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2lnbmF0dXJl"


def review_of(**changes: Any) -> dict[str, Any]:
    extra = {
        "authentication.kubernetes.io/pod-name": ["worker-1"],
        "authentication.kubernetes.io/pod-uid": [UID],
    }
    status: dict[str, Any] = {
        "authenticated": True,
        "audiences": [AUDIENCE],
        "user": {"username": ACCOUNT, "extra": extra},
    }
    return {"status": {**status, **changes}}


# -- the policy


def test_a_good_review_gives_account_and_pod_for_a_minute() -> None:
    assert policy(review_of(), token_of(), AUDIENCE, 1000.0) == Principal(BOUND, 1000.0 + KEPT_SECONDS_MAX)


def test_a_token_that_ends_sooner_is_believed_for_less() -> None:
    assert policy(review_of(), token_of(exp=1010), AUDIENCE, 1000.0) == Principal(BOUND, 1010.0)


@pytest.mark.parametrize("extra", [None, {}, {"authentication.kubernetes.io/node-name": ["node-1"]}, {"x": 1}])
def test_a_token_without_a_pod_is_the_account_alone(extra: Any) -> None:
    review = review_of(user={"username": ACCOUNT, "extra": extra})
    assert policy(review, token_of(), AUDIENCE, 0.0) == Principal(ACCOUNT, KEPT_SECONDS_MAX)


def of_pod(pod: str, uid: str = UID, account: str = ACCOUNT) -> dict[str, Any]:
    extra = {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [uid]}
    return review_of(user={"username": account, "extra": extra})


@pytest.mark.parametrize(("pod", "uid"), [("a;uid=b", UID), ("A", UID), ("a", "b;c")])
def test_a_pod_that_is_no_name_is_refused_and_not_taken_for_the_account(pod: str, uid: str) -> None:
    answer = policy(of_pod(pod, uid), token_of(), AUDIENCE, 0.0)
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.REFUSED


@pytest.mark.parametrize("pod", [None, [], "worker-1", [7], ["worker-1", "worker-2"]])
@pytest.mark.parametrize("uid", [None, [], UID, [UID]])
def test_half_a_pod_is_refused_and_not_taken_for_the_account(pod: Any, uid: Any) -> None:
    said = {"authentication.kubernetes.io/pod-name": pod, "authentication.kubernetes.io/pod-uid": uid}
    review = review_of(
        user={"username": ACCOUNT, "extra": {key: value for key, value in said.items() if value is not None}}
    )
    answer = policy(review, token_of(), AUDIENCE, 0.0)
    assert isinstance(answer, Refusal) == (pod is not None or uid is not None)


def test_a_principal_that_no_session_could_have_is_refused_with_the_limit() -> None:
    assert isinstance(policy(of_pod("a" * 253), token_of(), AUDIENCE, 0.0), Principal)
    account = "system:serviceaccount:shop:" + "b" * 200
    whole = len(f"{account};pod=;uid={UID}")
    fits = policy(of_pod("a" * (512 - whole), account=account), token_of(), AUDIENCE, 0.0)
    assert isinstance(fits, Principal)
    assert len(fits.name) == 512
    answer = policy(of_pod("a" * (513 - whole), account=account), token_of(), AUDIENCE, 0.0)
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.TOO_LONG
    assert "513 bytes; at most 512" in answer.text


@pytest.mark.parametrize(
    ("review", "reason"),
    [
        ({}, Reason.REFUSED),
        ({"status": None}, Reason.REFUSED),
        ({"status": []}, Reason.REFUSED),
        (review_of(authenticated=False), Reason.REFUSED),
        (review_of(authenticated="true"), Reason.REFUSED),
        (review_of(error="expired"), Reason.REFUSED),
        (review_of(audiences=None), Reason.AUDIENCE),
        (review_of(audiences=[]), Reason.AUDIENCE),
        (review_of(audiences=["other"]), Reason.AUDIENCE),
        (review_of(audiences=AUDIENCE), Reason.AUDIENCE),
        (review_of(user=None), Reason.NOT_A_SERVICE_ACCOUNT),
        (review_of(user={"username": "kubernetes-admin"}), Reason.NOT_A_SERVICE_ACCOUNT),
        (review_of(user={"username": ACCOUNT + ";pod=a;uid=b"}), Reason.NOT_A_SERVICE_ACCOUNT),
        (review_of(user={"username": "system:serviceaccount::x"}), Reason.NOT_A_SERVICE_ACCOUNT),
    ],
)
def test_whatever_is_missing_or_malformed_means_no(review: Mapping[str, Any], reason: Reason) -> None:
    answer = policy(review, token_of(), AUDIENCE, 0.0)
    assert isinstance(answer, Refusal)
    assert answer.reason is reason


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", Reason.MISSING),
        ("password", Reason.MALFORMED),
        ("a.b", Reason.MALFORMED),
        ("a.b.c\n", Reason.MALFORMED),
        ("a.b.c.d", Reason.MALFORMED),
        ("a.b." + "c" * 9000, Reason.MALFORMED),
        ("a.b.c", Reason.AUDIENCE),
        (token_of(aud=("https://kubernetes.default.svc",)), Reason.AUDIENCE),
        (token_of(aud=f"{AUDIENCE}2"), Reason.AUDIENCE),
        (token_of(aud=None), Reason.AUDIENCE),
        (token_of(exp=939.0), Reason.REFUSED),
        (token_of(exp=10**400), None),  # for the API server to refuse
        (token_of(exp=float("nan")), None),
        (token_of(exp=941.0), None),  # by another clock it may be good yet
        (token_of(), None),
        (token_of(aud=AUDIENCE), None),
    ],
)
def test_the_api_server_is_not_asked_about_what_it_would_refuse(token: str, reason: Reason | None) -> None:
    answer = looks_wrong(token, AUDIENCE, 1000.0)
    assert (answer.reason if answer is not None else None) is reason
    assert answer is None or not token or token not in answer.text


# -- the host's bounds


class Asked:
    """A Review that answers by the token's mark, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.running = self.running_max = 0
        self.hold: asyncio.Event | None = None
        self.down = False

    async def __call__(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        assert question["spec"]["audiences"] == [AUDIENCE]
        self.count += 1
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            if self.hold is not None:
                await self.hold.wait()
            if self.down:
                raise Unanswered("connection refused")
            return review_of()
        finally:
            self.running -= 1


async def test_an_answer_is_kept_for_a_minute_and_no_longer() -> None:
    asked, now = Asked(), 0.0
    logins = Logins(asked, AUDIENCE, lambda: now)
    await logins.login(token_of())
    now = KEPT_SECONDS_MAX - 1
    await logins.login(token_of())
    assert asked.count == 1
    now = KEPT_SECONDS_MAX
    await logins.login(token_of())
    assert asked.count == 2
    await logins.login(token_of(), anew=True)
    assert asked.count == 3


async def test_a_clock_that_was_put_back_keeps_no_answer_longer() -> None:
    asked, now, steady = Asked(), 7_200.0, 0.0
    logins = Logins(asked, AUDIENCE, lambda: now, lambda: steady)
    await logins.login(token_of())
    now, steady = 3_600.0, KEPT_SECONDS_MAX
    await logins.login(token_of())
    assert asked.count == 2


async def test_without_an_answer_nobody_gets_in_and_nothing_is_remembered(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    asked.down = True
    logins = Logins(asked, AUDIENCE)
    answer = await logins.login(token_of())
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.UNANSWERED
    assert logins.refused == {"unanswered": 1}
    asked.down = False
    assert isinstance(await logins.login(token_of()), Principal)
    assert token_of() not in caplog.text


async def test_questions_are_bounded_and_one_token_is_asked_about_once() -> None:
    asked = Asked()
    asked.hold = asyncio.Event()
    logins = Logins(asked, AUDIENCE)
    same = [asyncio.create_task(logins.login(token_of())) for _ in range(5)]
    many = [asyncio.create_task(logins.login(token_of(str(n)))) for n in range(REVIEWS_MAX + WAITING_MAX + 9)]
    async with asyncio.timeout(WAIT):
        done, _ = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
        refused = {task.result() for task in done}
        assert {answer.reason for answer in refused if isinstance(answer, Refusal)} == {Reason.BUSY}
        asked.hold.set()
        answers = await asyncio.gather(*same, *many)
    assert asked.running_max == REVIEWS_MAX
    assert asked.count == REVIEWS_MAX + WAITING_MAX
    assert sum(isinstance(answer, Refusal) for answer in answers) == 10


def junk(question: Mapping[str, Any]) -> bool:
    claims = question["spec"]["token"].split(".")[1]
    return "junk" in json.loads(base64.urlsafe_b64decode(claims + "=="))["mark"]


async def test_strangers_tokens_neither_drive_out_good_ones_nor_keep_their_owners_out() -> None:
    hold, asked = asyncio.Event(), list[str]()

    async def review(question: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(question["spec"]["token"])
        if not junk(question):
            return review_of()
        await hold.wait()
        return review_of(authenticated=False)

    steady = 0.0
    logins = Logins(review, AUDIENCE, lambda: 0.0, lambda: steady)
    assert isinstance(await logins.login(token_of()), Principal)
    flood = [asyncio.create_task(logins.login(token_of(f"junk {n}"))) for n in range(REVIEWS_MAX + WAITING_MAX)]
    await asyncio.sleep(0)
    assert (await logins.login(token_of("new"))).reason is Reason.BUSY  # type: ignore[union-attr]
    steady = KEPT_SECONDS_MAX  # what was kept about the good one is over
    async with asyncio.timeout(WAIT):
        assert isinstance(await logins.login(token_of()), Principal)
        hold.set()
        await asyncio.gather(*flood)
        for number in range(KEPT_MAX):
            await logins.login(token_of(f"junk again {number}"))
    asked.clear()
    assert isinstance(await logins.login(token_of()), Principal)
    assert asked == []


async def test_refusals_kept_and_callers_that_wait_for_one_answer_are_bounded() -> None:
    asked, hold = 0, asyncio.Event()

    async def review(question: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal asked
        asked += 1
        await hold.wait()
        return review_of(authenticated=False)

    logins = Logins(review, AUDIENCE, lambda: 0.0, lambda: 0.0)
    same = [asyncio.create_task(logins.login(token_of())) for _ in range(WAITERS_MAX + 3)]
    await asyncio.sleep(0)
    hold.set()
    reasons = [answer.reason for answer in await asyncio.gather(*same) if isinstance(answer, Refusal)]
    assert (reasons.count(Reason.REFUSED), reasons.count(Reason.BUSY)) == (WAITERS_MAX, 3)
    for number in range(REFUSALS_KEPT_MAX):
        await logins.login(token_of(str(number)))
    await logins.login(token_of("1"))
    assert asked == 1 + REFUSALS_KEPT_MAX
    await logins.login(token_of())  # the oldest made room
    assert asked == 2 + REFUSALS_KEPT_MAX


async def test_an_api_server_that_is_away_is_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    asked, steady = Asked(), 0.0
    asked.down = True
    logins = Logins(asked, AUDIENCE, lambda: 0.0, lambda: steady)
    for _ in range(50):
        await logins.login(token_of())
    steady = SILENCE_SECONDS
    await logins.login(token_of())
    assert [record.getMessage() for record in caplog.records] == [
        "the API server does not answer a TokenReview: connection refused",
        "the API server does not answer a TokenReview: connection refused (49 more like it were not logged)",
    ]


async def test_the_answers_kept_are_bounded() -> None:
    asked = Asked()
    logins = Logins(asked, AUDIENCE)
    for number in range(KEPT_MAX + 1):
        await logins.login(token_of(str(number)))
    await logins.login(token_of("0"))  # the oldest made room
    assert asked.count == KEPT_MAX + 2


# -- every RPC with every credential


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller shows, and whether plain RPCs (`served`) and administration (`administers`) are open to it."""

    name: str
    port: str
    files: str = ""
    token: str = ""
    served: bool = False
    administers: bool = False


CREDENTIALS = (
    Credential("nothing", "login"),
    Credential("nothing on the client port", "client"),
    Credential("garbage", "login", token="password"),
    Credential("wrong audience", "login", token=token_of("wrong", aud=("api",))),
    Credential("expired token", "login", token=token_of("expired")),
    Credential("user's token", "login", token=token_of("user")),
    Credential("token on the client port", "client", token=token_of()),
    Credential("good token", "login", token=token_of(), served=True),
    Credential("named account", "login", token=token_of("admin"), served=True, administers=True),
    Credential("client certificate", "client", files="client", served=True),
    Credential("administrator's certificate", "client", files="admin", served=True, administers=True),
    Credential("peer certificate", "client", files="peer"),
    Credential("certificate that names an account", "client", files="posing"),
)
OPEN_ADMIN = {"lockmaster.v1.Admin.Status", "lockmaster.v1.Admin.ListMembers"}
PLAIN, ADMIN = "plain", "admin"
MATRIX = {
    **dict.fromkeys(
        (
            *(f"lockmaster.v1.Sessions.{name}" for name in ("Connect", "Open", "KeepAlive", "Close", "List", "Direct")),
            *(f"lockmaster.v1.Locks.{name}" for name in ("Acquire", "Release", "Cancel", "Inspect", "List")),
            "lockmaster.v1.Locks.ForceRelease",
            *(f"lockmaster.v1.Config.{name}" for name in ("Put", "Get", "Range", "Delete", "History", "Watch")),
            "lockmaster.v1.Admin.Status",
            "lockmaster.v1.Admin.ListMembers",
        ),
        PLAIN,
    ),
    **dict.fromkeys(
        (
            f"lockmaster.v1.Admin.{name}"
            for name in (
                *("Bootstrap", "AddMember", "RemoveMember", "ReplaceMember", "PromoteMember", "DemoteMember"),
                *("AbortRoleChange", "SetReducedCommit", "ChangeGate", "TransferLeadership", "EndSession"),
                *("MakeSnapshot", "ListSnapshots", "VerifySnapshot", "Backup"),
            )
        ),
        ADMIN,
    ),
}
"""What each RPC asks of its caller; one without a row fails `test_every_rpc_has_a_row`."""


def test_every_rpc_has_a_row() -> None:
    assert set(MATRIX) == set(ROWS)


async def fake_api_server(authority: Authority, unused: Path) -> tuple[web.AppRunner, str, list[str]]:
    """Reviews tokens by their mark, over TLS, as the API server does."""
    asked: list[str] = []

    async def review(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer own-token"
        question = await request.json()
        mark = json.loads(base64.urlsafe_b64decode(question["spec"]["token"].split(".")[1] + "=="))["mark"]
        asked.append(mark)
        answers = {
            "good": review_of(),
            "again": review_of(),
            "expired": review_of(authenticated=False, error="token has expired"),
            "user": review_of(user={"username": "somebody"}),
            "admin": review_of(user={"username": "system:serviceaccount:ops:admin"}),
        }
        return web.json_response(answers[mark], status=201)

    app = web.Application()
    app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", review)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("api-server"))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    return runner, f"https://127.0.0.1:{port}", asked


class Place:
    """A member with a login port, the authorities, and an API server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority, self.peers = Authority(path, "ca"), Authority(path, "peer-ca")
        # For clients alone: with the host of a member's address in it, a certificate is a member's.
        usage = (ExtendedKeyUsageOID.CLIENT_AUTH,)
        self.files = {name: self.authority.issue(name, usage=usage) for name in ("client", "admin")}
        self.files["posing"] = self.authority.issue("posing", usage=usage, dns="system:serviceaccount:ops:admin")
        self.files["peer"] = self.peers.issue("peer")
        self.account = path / "account"
        self.account.mkdir()
        (self.account / "token").write_text("own-token\n")
        (self.account / "ca.crt").write_bytes(self.authority.path.read_bytes())
        self.server: Server
        self.asked: list[str]

    async def start(self) -> None:
        self.runner, url, self.asked = await fake_api_server(self.authority, self.path)
        cert, key = self.authority.issue("server")
        peer_cert, peer_key = self.peers.issue("member")
        self.server = Server(
            Settings(
                data_dir=self.path / "data",
                name="secure",
                listen_client="127.0.0.1:0",
                listen_peer="127.0.0.1:0",
                listen_login="127.0.0.1:0",
                login_audience=AUDIENCE,
                login_api_server=url,
                login_account=self.account,
                admins=("admin", "system:serviceaccount:ops:admin"),
                client_tls_cert=cert,
                client_tls_key=key,
                client_tls_ca=self.authority.path,
                peer_tls_cert=peer_cert,
                peer_tls_key=peer_key,
                peer_tls_ca=self.peers.path,
                bootstrap=True,
                full_min=1,
                profile="fast",
            )
        )
        await self.server.start()
        await until_it_admits_writes(self.server)

    async def stop(self) -> None:
        await self.server.stop()
        await self.runner.cleanup()

    def channel(self, credential: Credential) -> grpc.aio.Channel:
        roots = self.authority.path.read_bytes()
        key = cert = None
        if credential.files:
            cert, key = (path.read_bytes() for path in self.files[credential.files])
        address = self.server.login_address if credential.port == "login" else self.server.bound_address
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots, key, cert))

    def tls(self, token: str) -> TLS:
        path = self.path / "token"
        path.write_text(token + "\n")
        return TLS(ca=self.authority.path, token=path)


async def outcome(channel: grpc.aio.Channel, method: Any, token: str) -> grpc.StatusCode:
    """How a call with an empty request ends (a stream: its first answer)."""
    for _ in range(5):
        code = await once(channel, method, token)
        if method.name != "Connect" or code is not grpc.StatusCode.INTERNAL:
            break  # a write that meets the end of its stream: grpc.aio puts this in the place of the server's word
    return code


async def once(channel: grpc.aio.Channel, method: Any, token: str) -> grpc.StatusCode:
    """One such call."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    opened: Any = channel
    request = message_factory.GetMessageClass(method.input_type)()
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        if method.name == "Connect":
            call = opened.stream_stream(path)(timeout=WAIT, metadata=metadata)
            ask = session_pb2.ClientFrame(requests=[session_pb2.Request(id=1)])
            await call.write(ask.SerializeToString())
            await call.read()
            call.cancel()
        elif method.name in ("Watch", "Backup"):
            pages = opened.unary_stream(path, lambda message: message.SerializeToString())
            await pages(request, timeout=WAIT, metadata=metadata).read()
        else:
            unary = opened.unary_unary(path, lambda message: message.SerializeToString())
            await unary(request, timeout=WAIT, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


LOCKED_OUT = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


async def test_every_rpc_with_every_credential(place: Place) -> None:
    methods = [method for service in SERVICES for method in service.methods]
    for credential in CREDENTIALS:
        async with place.channel(credential) as channel:
            for method in methods:
                code = await outcome(channel, method, credential.token)
                told = f"{method.full_name} with {credential.name}: {code}"
                if credential.port == "client" and credential.files in ("", "peer"):
                    assert code is grpc.StatusCode.UNAVAILABLE, told  # no handshake
                elif not credential.served:
                    assert code is grpc.StatusCode.UNAUTHENTICATED, told
                elif MATRIX[method.full_name] == ADMIN and not credential.administers:
                    assert code is grpc.StatusCode.PERMISSION_DENIED, told
                else:
                    assert code not in LOCKED_OUT, told
                    assert code is not grpc.StatusCode.UNAVAILABLE, told
    assert place.asked.count("good") == 1  # kept
    assert "wrong" not in place.asked
    assert place.server.callers.logins is not None
    assert {"missing", "malformed", "audience", "refused", "not_a_service_account"} == set(
        place.server.callers.logins.refused
    )


async def test_a_pod_takes_a_lock_by_its_token_over_a_direct_stream(place: Place, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    token = token_of()
    async with (
        asyncio.timeout(WAIT),
        AsyncClient(place.server.login_address, tls=place.tls(token)) as client,
        client.lock("orders"),
    ):
        found = (await client.admin.sessions(pod_bound=True)).sessions
        assert [(s.principal, s.pod, s.pod_uid, s.pod_namespace) for s in found] == [(ACCOUNT, "worker-1", UID, "shop")]
        assert place.server.counts()[2] == 1
        with pytest.raises(PermissionDenied):
            await client.admin.end_session(client.session_id, UID, "mine")
    assert token not in caplog.text


async def test_the_session_port_wants_a_ticket_of_whoever_shows_no_certificate(place: Place) -> None:
    port = place.server.direct
    roots = ssl.create_default_context(cafile=str(place.authority.path))
    for key, good in ((port.key, False), (os.urandom(16), False)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.number, ssl=roots)
        writer.write(b"\x00\x00\x00\x16LKMS\x00\x01" + key)
        async with asyncio.timeout(WAIT):
            welcome = await reader.readexactly(11)
        assert (welcome[-1] == 0) is good
        writer.close()


async def test_ending_a_session_needs_the_right_pod_and_is_told_to_the_holder(place: Place) -> None:
    cert, key = place.files["admin"]
    admin_tls = TLS(place.authority.path, cert, key)
    async with (
        asyncio.timeout(WAIT),
        AsyncClient(place.server.bound_address, tls=admin_tls) as admin,
        AsyncClient(place.server.login_address, tls=place.tls(token_of()), ttl=60, lock_delay=0) as pod,
    ):
        lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        held = await pod.lock("orders", on_lost=lost.set_result).acquire()
        with pytest.raises(PreconditionFailed, match="another pod"):
            await admin.admin.end_session(pod.session_id, "another-uid", "pod gone")
        assert not lost.done()
        held.ensure()
        assert (await admin.admin.end_session(pod.session_id, UID, "pod gone", idempotency_key="k")).ended
        assert "the session expired" in str(await lost)  # long before its TTL
        again = await admin.lock("orders", timeout=5).acquire()
        assert again.fencing_token > held.fencing_token
        await again.release()
