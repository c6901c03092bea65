"""`kubectl lockmaster` as a process: kubeconfig, an API server over HTTP with port-forwards, a member over mTLS."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import tarfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from aiohttp import WSMsgType, web
from lockmaster.api import admin_pb2, admin_pb2_grpc
from lockmaster_operator.desired.certificates import CertificateWanted, Purpose
from lockmaster_operator.host.issuing import Pems, issue

from .fake_api import FakeApi, Fault, Json

NOW = int(time.time())
SECONDS = 40
POD_LABELS = {"app.kubernetes.io/name": "lockmaster", "app.kubernetes.io/instance": "locks"}
SECRET_WORD = "hunter2"


class Member(admin_pb2_grpc.AdminServicer):
    """A member that leads, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.listed = 0

    def Status(self, request: Any, context: Any) -> admin_pb2.StatusResponse:
        return admin_pb2.StatusResponse(
            name="locks-0", member_id=1, role="leader", version="0.2.0", leader={"address": "x:7420"}
        )

    def ListMembers(self, request: Any, context: Any) -> admin_pb2.ListMembersResponse:
        self.listed += 1
        told = "locks-0.locks-peers.ns.svc.cluster.local:7420"
        rows = [
            admin_pb2.MemberInfo(
                member_id=1, name="locks-0", voter=True, leader=True, member_role="full", client_address=told
            ),
            admin_pb2.MemberInfo(member_id=3, name="locks-2", voter=True, member_role="witness", phase="steady"),
        ]
        return admin_pb2.ListMembersResponse(members=rows, configuration_epoch=17)

    def PromoteMember(self, request: Any, context: Any) -> admin_pb2.PromoteMemberResponse:
        self.asked.append(request)
        return admin_pb2.PromoteMemberResponse()


class Api(FakeApi):
    """With port-forwards to one port of this machine, and logs."""

    def __init__(self) -> None:
        super().__init__()
        self.member = Member()
        self.port = 0
        self.logs: dict[str, str] = {}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/portforward"):
            return await self._forward(request)
        if request.path.endswith("/log"):
            pod = request.path.split("/")[-2]
            if pod not in self.logs:
                return self._refuse(403, "no")
            return web.Response(text=self.logs[pod])
        return await super()._answer(request)

    async def _forward(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        port = int(request.query["ports"]).to_bytes(2, "little")
        for channel in (b"\0", b"\1"):
            await socket.send_bytes(channel + port)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def back() -> None:
            while data := await reader.read(1 << 16):
                await socket.send_bytes(b"\0" + data)
            await socket.close()

        task = asyncio.create_task(back())
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data[:1] == b"\0":
                writer.write(message.data[1:])
        writer.close()
        await task
        return socket


def certificates() -> tuple[Pems, Pems]:
    """The member's and the operator's, of one authority."""
    authority = issue(CertificateWanted(Purpose.CLIENT_AUTHORITY, "ca", "ca"), None, NOW)
    names = ("localhost", "127.0.0.1")
    member = CertificateWanted(Purpose.CLIENT, "s", "member", names, server=True, issuer_secret="ca")
    operator = CertificateWanted(Purpose.OPERATOR, "o", "operator", client=True, issuer_secret="ca")
    return issue(member, authority, NOW), issue(operator, authority, NOW)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    served, shown = certificates()
    found = Api()
    server = grpc.server(ThreadPoolExecutor(4))
    admin_pb2_grpc.add_AdminServicer_to_server(found.member, server)
    credentials = grpc.ssl_server_credentials(
        [(served[2].encode(), served[1].encode())], served[0].encode(), require_client_auth=True
    )
    found.port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    await found.start()
    condition = {"type": "Ready", "status": "True", "reason": "AsSpecified", "message": "3 members"}
    found.put(
        {
            "kind": "LockCluster",
            "metadata": {"name": "locks", "namespace": "ns"},
            "spec": {"version": "0.2.0"},
            "status": {"conditions": [condition], "leader": "locks-0", "fullCopies": 2, "quorumMargin": 1},
        }
    )
    env = [{"name": "PASSWORD", "value": SECRET_WORD}, {"name": "LOCKMASTER_NAME", "value": "locks-0"}]
    for pod in ("locks-0",):
        found.put(
            {
                "kind": "Pod",
                "metadata": {"name": pod, "namespace": "ns", "labels": POD_LABELS},
                "spec": {"containers": [{"name": "lockmaster", "env": env}]},
                "status": {"phase": "Running"},
            }
        )
    names = ("ca.crt", "tls.crt", "tls.key")
    data = {name: base64.b64encode(pem.encode()).decode() for name, pem in zip(names, shown)}
    found.put({"kind": "Secret", "metadata": {"name": "locks-operator-tls", "namespace": "ns"}, "data": data})
    yield found
    await found.stop()
    server.stop(0).wait()


@pytest.fixture
def home(tmp_path: Path, api: Api) -> Path:
    """A folder with a kubeconfig whose context's namespace is ns."""
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": api.url}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "home", "context": {"cluster": "here", "user": "me", "namespace": "ns"}}],
        "current-context": "home",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(text))
    return tmp_path


async def run(home: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of one command line."""
    environment = {**os.environ, "KUBECONFIG": str(home / "config"), "HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lockmaster.kubectl.main", *arguments,
        cwd=home, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    return process.returncode or 0, out.decode(), err.decode()


async def test_status_shows_conditions_and_what_the_members_say_through_a_forward(home: Path) -> None:
    code, out, err = await run(home, "status", "locks", "-o", "json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["conditions"][0]["reason"] == "AsSpecified"
    assert [(row["name"], row["role"]) for row in told["members"]] == [("locks-0", "leader")]


async def test_status_without_a_name_lists_the_namespace(home: Path) -> None:
    code, out, _ = await run(home, "status")
    assert code == 0
    assert "locks-0" in out


async def test_promote_names_the_epoch_it_has_seen_and_a_key(home: Path, api: Api) -> None:
    code, _, err = await run(home, "promote", "locks", "locks-2")
    assert code == 0, err
    (asked,) = api.member.asked
    assert (asked.member_id, asked.expected_epoch) == (3, 17)
    assert len(asked.idempotency_key) == 32


async def test_members_are_the_ordinary_listing(home: Path) -> None:
    code, out, err = await run(home, "members", "locks", "-o", "json")
    assert code == 0, err
    assert [row["name"] for row in json.loads(out)] == ["locks-0", "locks-2"]


async def test_what_the_leader_says_is_not_written_over_by_another_member(home: Path, api: Api) -> None:
    """The address that members tell of the leader is dialled through its pod's forward, or known as asked already."""
    pod: Json = api.objects["Pod", "ns", "locks-0"]
    api.put({**pod, "metadata": {"name": "locks-1", "namespace": "ns", "labels": POD_LABELS}})
    code, _, err = await run(home, "members", "locks")
    assert code == 0, err
    assert api.member.listed == 1


async def test_pause_and_resume_set_the_field(home: Path, api: Api) -> None:
    for command, paused in (("pause", True), ("resume", False)):
        code, _, err = await run(home, command, "locks")
        assert code == 0, err
        assert api.objects["LockCluster", "ns", "locks"]["spec"]["paused"] is paused


async def test_restart_moves_the_template_and_nothing_else(home: Path, api: Api) -> None:
    code, out, err = await run(home, "restart", "locks", "-o", "json")
    assert code == 0, err
    spec = api.objects["LockCluster", "ns", "locks"]["spec"]
    asked_at = json.loads(out)["restarted_at"]
    assert spec["podTemplate"] == {"annotations": {"lockmaster.dev/restarted-at": asked_at}}
    assert [one for one in api.writes() if one[0] != "PATCH"] == []


async def test_an_unknown_cluster_is_answered_with_those_there_are(home: Path) -> None:
    code, _, err = await run(home, "pause", "lokcs")
    assert code == 3
    assert "no LockCluster lokcs in namespace ns: there are locks" in err


async def test_a_missing_right_is_named_by_verb_and_resource(home: Path, api: Api) -> None:
    api.faults.append(Fault("GET", "Secret", 403))
    code, _, err = await run(home, "members", "locks")
    assert code == 77
    assert "you may not get secrets locks-operator-tls in namespace ns (context home)" in err


@pytest.mark.parametrize("arguments", [("--context", "away"), ("-n", "empty")])
async def test_a_wrong_context_or_namespace_says_what_there_is(home: Path, arguments: tuple[str, str]) -> None:
    code, _, err = await run(home, "pause", "locks", *arguments)
    if arguments[0] == "--context":
        assert (code, "there are home" in err) == (2, True)
    else:
        assert (code, "there is none; choose the namespace by -n" in err) == (3, True)


async def test_no_kubeconfig_is_one_line(home: Path) -> None:
    (home / "config").unlink()
    code, _, err = await run(home, "status")
    assert code == 2
    assert "no kubeconfig" in err
    assert len(err.splitlines()) == 1


async def test_an_api_server_that_is_away_is_unavailable(home: Path, api: Api) -> None:
    await api.stop()
    code, _, err = await run(home, "status")
    assert code == 69
    assert "does not answer" in err
    assert len(err.splitlines()) == 1


async def test_logs_of_all_members_are_one_by_time(home: Path, api: Api) -> None:
    pod: Json = api.objects["Pod", "ns", "locks-0"]
    api.put({**pod, "metadata": {"name": "locks-1", "namespace": "ns", "labels": POD_LABELS}})
    api.logs = {
        "locks-0": "2026-11-26T10:00:01Z one\n2026-11-26T10:00:03Z three\n",
        "locks-1": "2026-11-26T10:00:02Z two\n",
    }
    code, out, err = await run(home, "logs", "locks")
    assert code == 0, err
    assert out.splitlines() == ["locks-0  one", "locks-1  two", "locks-0  three"]


async def test_a_report_has_states_and_logs_and_no_secret(home: Path, api: Api) -> None:
    api.logs = {"locks-0": "2026-11-26T10:00:01Z one\n"}
    code, _, err = await run(home, "report", "locks", "--file", "r.tar.gz")
    assert (code, err) == (0, "")
    with tarfile.open(home / "r.tar.gz") as bundle:
        parts = {entry.name: bundle.extractfile(entry).read().decode() for entry in bundle}  # type: ignore[union-attr]
    assert "leader" in parts["members.json"]
    assert parts["logs/locks-0.log"] == "2026-11-26T10:00:01Z one"
    whole = "".join(parts.values())
    assert SECRET_WORD not in whole
    assert "PRIVATE KEY" not in whole
    assert "LOCKMASTER_NAME" in whole


async def test_a_report_says_what_it_could_not_read(home: Path, api: Api) -> None:
    api.faults.append(Fault("GET", "PodDisruptionBudget", 403))
    code, _, err = await run(home, "report", "locks", "--file", "r.tar.gz")
    assert code == 0
    assert "you may not list poddisruptionbudgets" in err


async def test_a_file_in_no_folder_ends_it_before_the_api_server_is_asked(home: Path, api: Api) -> None:
    for command in ("backup", "report"):
        code, _, err = await run(home, command, "locks", "--file", "nowhere/out")
        assert (code, len(err.splitlines())) == (2, 1)
        assert "'--file': there is no folder nowhere" in err
    assert api.requests == []


async def test_a_report_that_can_not_be_written_is_74_as_a_backup_is(home: Path) -> None:
    (home / "full").symlink_to("/dev/full")
    code, _, err = await run(home, "report", "locks", "--file", "full")
    assert (code, len(err.splitlines())) == (74, 1), err
    assert "No space left" in err
