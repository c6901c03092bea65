"""What the operator says to members: over mTLS, to one that takes everything down and does nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster import Unavailable
from lockmaster.api import admin_pb2, admin_pb2_grpc
from lockmaster.server.admission import IDEMPOTENCY_KEY_BYTES_MAX
from lockmaster_operator.desired.certificates import CertificateWanted, Purpose
from lockmaster_operator.host.engine import MembersEngine
from lockmaster_operator.host.issuing import Pems, issue
from lockmaster_operator.plan import steps
from lockmaster_operator.plan.steps import GateOperation, idempotency_key

AUTHORITY = CertificateWanted(Purpose.CLIENT_AUTHORITY, "ca", "locks ca")
LEAF = CertificateWanted(Purpose.CLIENT, "leaf", "locks", ("127.0.0.1",), server=True, client=True, issuer_secret="ca")
CLUSTER = "ab" * 16
STEPS: tuple[steps.EngineStep, ...] = (
    steps.AddMember(0, "locks-0" * 8, "cd" * 16, False, False, 2, 1 << 40),
    steps.RemoveMember(2, 7, "why"),
    steps.ReplaceMember(2, 4, 7, "why"),
    steps.PromoteMember(3, 7, "why"),
    steps.DemoteMember(3, 7, "why"),
    steps.TransferLeadership(2, 7, "why"),
    steps.ChangeGate(GateOperation.FENCE, 2, 7, "why"),
)


class Member(admin_pb2_grpc.AdminServicer):
    """Leads in term 9; `asked` is every change that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.status = admin_pb2.StatusResponse(role="leader", term=9, cluster_id=bytes.fromhex(CLUSTER), member_id=1)
        for name in (type(step).__name__ for step in STEPS):
            setattr(self, name, self._takes(getattr(admin_pb2, f"{name}Response")))

    def _takes(self, answer: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            self.asked.append(request)
            return answer()

        return call

    async def Status(self, request: Any, context: Any) -> admin_pb2.StatusResponse:
        return self.status

    async def ListMembers(self, request: Any, context: Any) -> admin_pb2.ListMembersResponse:
        """As a member of 0.1 answers: without its term."""
        return admin_pb2.ListMembersResponse(configuration_epoch=7)


class World:
    def __init__(self, member: Member, address: str, pems: Pems) -> None:
        self.member, self.addresses, self.pems, self.engine = member, {0: address}, pems, MembersEngine()

    async def perform(self, step: steps.EngineStep) -> Any:
        """What the member is asked for."""
        await self.engine.perform("uid", self.addresses, self.pems, step, idempotency_key(CLUSTER, step))
        return self.member.asked.pop()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    now = int(time.time())
    ca, cert, key = pems = issue(LEAF, issue(AUTHORITY, None, now), now)
    member, server = Member(), grpc.aio.server()
    admin_pb2_grpc.add_AdminServicer_to_server(member, server)
    pairs = [(key.encode(), cert.encode())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pairs, ca.encode(), True))
    await server.start()
    found = World(member, f"127.0.0.1:{port}", pems)
    yield found
    await found.engine.close()
    await server.stop(0)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
async def test_every_change_names_what_it_was_decided_from_and_its_key(world: World, step: steps.EngineStep) -> None:
    request = await world.perform(step)
    assert request.idempotency_key == idempotency_key(CLUSTER, step)
    if isinstance(step, steps.TransferLeadership):
        assert request.expected_term == step.expected_term
    else:
        assert request.expected_epoch == step.expected_epoch  # type: ignore[union-attr] # all but Bootstrap have one


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_key_is_the_same_for_the_same_step_and_another_after_others(step: steps.EngineStep) -> None:
    part = "expected_term" if isinstance(step, steps.TransferLeadership) else "expected_epoch"
    later: Any = replace(step, **{part: getattr(step, part) + 1})
    key = idempotency_key(CLUSTER, step)
    assert key == idempotency_key(CLUSTER, replace(step))
    assert key not in (idempotency_key(CLUSTER, later), idempotency_key("ef" * 16, step))
    assert len(key.encode()) <= IDEMPOTENCY_KEY_BYTES_MAX


async def test_a_leader_that_cannot_tell_of_pods_sessions_is_not_taken_for_one_that_tells_of_none(world: World) -> None:
    leads = admin_pb2.StatusResponse
    answers = [leads(role="leader"), leads(role="leader", pods_mark=0), leads(role="leader", pods_mark=7)]
    heard = []
    for answer in answers:
        world.member.status = answer
        _, engine = await world.engine.look("uid", world.addresses, world.pems)
        assert engine is not None
        heard.append(engine.pods_mark)
    assert heard == [None, 0, 7]


@pytest.mark.parametrize("bad", ["cert", "key"])
async def test_a_certificate_of_no_use_is_members_that_cannot_be_asked(
    world: World, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan issues another one then; a pass that fails for it never comes to that. No file of it stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ca, cert, key = world.pems
    other = issue(LEAF, issue(AUTHORITY, None, int(time.time())), int(time.time()))
    pems = (ca, "no PEM", key) if bad == "cert" else (ca, cert, other[2])
    assert await world.engine.look("uid", world.addresses, pems) == ({}, None)
    with pytest.raises(Unavailable, match="the operator's certificate is of no use: tls: cert"):
        await world.engine.perform("uid", world.addresses, pems, STEPS[1], "k")
    assert list(tmp_path.glob("lockmaster-operator-*")) == []
    assert (await world.engine.look("uid", world.addresses, world.pems))[1] is not None


async def test_the_term_is_of_the_leaders_own_status(world: World) -> None:
    _, told = await world.engine.look("uid", world.addresses, world.pems)
    assert told is not None
    assert (told.term, told.epoch) == (9, 7)
