"""What a client takes from its surroundings where nothing is said in code: files and variables of a real pod."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lockmaster import TLS, AsyncClient, PermissionDenied
from lockmaster.api import session_pb2
from lockmaster.client.surroundings import LABEL_MAX, label_of, reached, trust

from tests.service.server.test_login import UID, WAIT, Place, token_of

EMPTY: dict[str, str] = {"LOCKMASTER_ACCESS_DIR": "/nowhere"}
SERVICE = {"LOCKS_SERVICE_PORT_LOCKMASTER_LOGIN": "7424", "LOCKS_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def access(tmp_path: Path) -> Path:
    """As the kubelet projects it: token, authority, endpoints."""
    made = tmp_path / "access"
    made.mkdir()
    (made / "token").write_text(token_of() + "\n")
    (made / "ca.crt").write_text("authority")
    (made / "endpoints").write_text("locks.infra.svc:7424\n")
    return made


def test_a_pod_with_the_volume_needs_no_settings(access: Path) -> None:
    found = reached(None, None, False, {"LOCKMASTER_ACCESS_DIR": str(access)})
    assert found == (("locks.infra.svc:7424",), TLS(ca=str(access / "ca.crt"), token=str(access / "token")))


def test_what_is_given_wins_over_variables_and_they_over_files(access: Path) -> None:
    surroundings = {"LOCKMASTER_ACCESS_DIR": str(access), **SERVICE}
    named = {**surroundings, "LOCKMASTER_ENDPOINTS": "c:1", "LOCKMASTER_CA": "/ca", "LOCKMASTER_TOKEN_FILE": "/token"}
    assert reached(None, None, False, named) == (("c:1",), TLS(ca="/ca", token="/token"))
    given = TLS("/other", "/cert", "/key")
    assert reached("a:1", given, False, named) == (("a:1",), given)
    assert reached("a:1", None, True, named) == (("a:1",), None)


def test_a_certificate_by_variables_leaves_the_token_alone(access: Path) -> None:
    certificate = {"LOCKMASTER_CERT": "/cert", "LOCKMASTER_KEY": "/key", "LOCKMASTER_ACCESS_DIR": str(access)}
    assert trust(certificate) == TLS(cert="/cert", key="/key")
    with pytest.raises(ValueError, match="both cert and key"):
        trust({"LOCKMASTER_CERT": "/cert"})


def test_members_on_this_machine_are_spoken_to_in_plaintext_unless_a_variable_says_otherwise(access: Path) -> None:
    surroundings = {"LOCKMASTER_ACCESS_DIR": str(access)}
    assert reached("127.0.0.1:1", None, False, surroundings)[1] is None
    asked = reached("127.0.0.1:1", None, False, {**surroundings, "LOCKMASTER_CA": "/ca"})[1]
    assert asked == TLS(ca="/ca", token=str(access / "token"))


def test_the_service_in_the_pod_s_variables_is_found_by_its_port(access: Path) -> None:
    (access / "endpoints").unlink()
    surroundings = {"LOCKMASTER_ACCESS_DIR": str(access), **SERVICE, "WEB_SERVICE_PORT": "80"}
    assert reached(None, None, False, surroundings)[0] == ("locks:7424",)
    several = {**surroundings, "MY_LOCKS_SERVICE_PORT_LOCKMASTER_LOGIN": "7424"}
    with pytest.raises(ValueError, match=r"several clusters \(locks, my-locks\); set LOCKMASTER_ENDPOINTS"):
        reached(None, None, False, several)


def test_without_any_of_it_the_error_names_what_to_set() -> None:
    with pytest.raises(ValueError, match="LOCKMASTER_ENDPOINTS"):
        reached(None, None, False, EMPTY)
    with pytest.raises(ValueError, match="token"):
        reached(None, None, False, {**EMPTY, **SERVICE})


def token_with(claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c2ln"


def test_the_label_names_pod_uid_and_namespace(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(token_with({"kubernetes.io": {"namespace": "shop", "pod": {"name": "worker-1", "uid": UID}}}))
    tls = TLS(token=path)
    assert label_of(tls, {}) == f"worker-1:{os.getpid()} uid={UID} ns=shop"
    downward = {"POD_NAME": "w", "POD_UID": "u", "POD_NAMESPACE": "n"}
    assert label_of(tls, downward) == label_of(None, downward) == f"w:{os.getpid()} uid=u ns=n"
    assert label_of(None, {}) == f"{socket.gethostname()}:{os.getpid()}"
    unreadable: list[object] = [[], {"kubernetes.io": 3}, {"kubernetes.io": {"pod": "x"}}]
    for odd in unreadable:
        path.write_text(token_with(odd))
        assert label_of(tls, {}) == label_of(None, {})
    assert len(label_of(None, {"POD_NAME": "ü" * 300}).encode()) <= LABEL_MAX


# -- with a real member


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A member whose login port this process finds as a pod would."""
    made = Place(tmp_path)
    await made.start()
    access = tmp_path / "access"
    access.mkdir()
    (access / "ca.crt").write_bytes(made.authority.path.read_bytes())
    (access / "endpoints").write_text(made.server.login_address)
    (access / "token").write_text(token_of())
    monkeypatch.setenv("LOCKMASTER_ACCESS_DIR", str(access))
    monkeypatch.setenv("LOCKMASTER_CA", str(access / "ca.crt"))  # it is on this machine: TLS must be asked for
    yield made
    await made.stop()


async def test_a_lock_without_any_argument(place: Place) -> None:
    async with asyncio.timeout(WAIT), AsyncClient() as client, client.lock("orders"):
        (session,) = (await client.admin.sessions(pod_bound=True)).sessions
        assert (session.pod_uid, session.label) == (UID, label_of(None))


async def test_a_token_that_is_renewed_in_place_is_shown_from_then_on(place: Place, tmp_path: Path) -> None:
    async with asyncio.timeout(WAIT), AsyncClient() as client, client.lock("orders") as held:
        new = tmp_path / "access" / "new"
        new.write_text(token_of("again"))
        new.replace(tmp_path / "access" / "token")
        await client.admin.status()
        assert "again" in place.asked
        held.ensure()


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (token_of("wrong", aud=("api",)), "audience 'locks'"),
        (token_of("expired"), "does not accept"),
        ("", "no client certificate and no ServiceAccount token"),
    ],
)
async def test_who_is_not_let_in_is_told_at_once(place: Place, tmp_path: Path, token: str, text: str) -> None:
    (tmp_path / "access" / "token").write_text(token)
    async with asyncio.timeout(WAIT), AsyncClient(operation_timeout=600) as client:
        with pytest.raises(PermissionDenied, match=text):
            await client.lock("orders").acquire()
        with pytest.raises(PermissionDenied, match=text):
            await client.config("billing").get("rate")


async def test_a_renewal_at_a_leader_named_by_its_address_goes_to_its_login_port(place: Place) -> None:
    """Hints name the port for certificates, where a token is not let in."""
    async with asyncio.timeout(WAIT), AsyncClient(ttl=60) as client, client.lock("orders"):
        keepalive = client._keepalive
        assert keepalive is not None
        keepalive._address = place.server.bound_address  # as after NotLeader; its own first renewal is 20 s away
        request = session_pb2.KeepAliveRequest(session_ids=[client.session_id])
        assert not (await asyncio.to_thread(keepalive._call, request)).expired
