"""A change of authority by the host, over real HTTP, and under a real member and a real client that never restart."""

from __future__ import annotations

import base64
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from lockmaster import TLS, AsyncClient, Unavailable
from lockmaster.client import connection
from lockmaster.direct import DirectStream
from lockmaster.server import tls as server_tls
from lockmaster.server.app import Server, dev_settings
from lockmaster_operator.desired.certificates import SINCE_ANNOTATION, SYNC_S, CertificateWanted, Purpose
from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.host.execute import Executor, StepRefused
from lockmaster_operator.host.issuing import Pems, issue, pems_of
from lockmaster_operator.host.observe import Look, look
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.models.timestamps import seconds_at
from lockmaster_operator.plan import read_cluster, steps

from .fake_api import FakeApi, Fault
from .test_host import KEY, World, api, kube, world

__all__ = ["api", "kube", "world"]

LEAVES = ("locks-client-tls", "locks-operator-tls")


# --- the host --------------------------------------------------------------------------------------------------------


def pems(api: FakeApi, secret: str) -> Pems:
    return pems_of(api.objects["Secret", "ns", secret])


async def looked(world: World) -> tuple[Cluster, Look]:
    stored = world.api.objects["LockCluster", "ns", "locks"]
    cluster = read_cluster(stored)
    assert not isinstance(cluster, str)
    return cluster, await look(world.kube, world.members, cluster, stored, Settings(), True)


async def test_a_new_authority_is_told_to_members_and_clients_a_day_before_it_is_used(world: World) -> None:
    await world.run()
    before = {secret: pems(world.api, secret) for secret in LEAVES}
    old = world.api.objects.pop(("Secret", "ns", "locks-client-ca"))
    old_pem = pems_of(old)[1]
    world.api.faults.append(Fault("PATCH", "Secret", 503, count=2))
    for _ in range(2):
        with pytest.raises(PassFailed):
            await world.run(1)
    await world.run(4)
    new_pem = pems(world.api, "locks-client-ca")[1]
    for secret in LEAVES:
        assert pems(world.api, secret) == (new_pem + old_pem, *before[secret][1:])
    assert (await looked(world))[1].observed.client_authority == new_pem + old_pem
    metadata = world.api.objects["Secret", "ns", LEAVES[-1]]["metadata"]
    world.now = seconds_at(metadata["annotations"][SINCE_ANNOTATION]) + SYNC_S - 1
    quiet = len(world.api.writes())
    await world.passes.make(KEY)
    assert [row for row in world.api.writes()[quiet:] if row[1] == "Secret"] == []
    world.now += 1
    await world.run(1)
    for secret in LEAVES:
        ca, certificate, _ = pems(world.api, secret)
        assert (ca, certificate != before[secret][1]) == (new_pem + old_pem, True)
    assert world.api.objects["Secret", "ns", LEAVES[-1]]["metadata"]["annotations"] == metadata["annotations"]


async def test_a_leaf_is_not_signed_by_another_authority_than_the_plan_saw(world: World) -> None:
    await world.run()
    cluster, seen = await looked(world)
    one = Executor(world.kube, world.members, cluster, seen, world.now)
    wanted = CertificateWanted(Purpose.CLIENT, LEAVES[0], "x", issuer_secret="locks-client-ca")
    before = pems(world.api, LEAVES[0])
    with pytest.raises(StepRefused, match="the authority in Secret locks-client-ca is another by now"):
        await one.carry_out(steps.IssueCertificate(wanted, "that of before", "", 1))
    world.api.objects["Secret", "ns", "locks-client-ca"]["data"]["tls.crt"] = base64.b64encode(b"x").decode()
    with pytest.raises(StepRefused, match=r"tls\.crt is no certificate in PEM"):
        await one.carry_out(steps.IssueCertificate(wanted, "that of before", "", 1))
    assert pems(world.api, LEAVES[0]) == before
    del world.api.objects["Secret", "ns", LEAVES[0]]
    with pytest.raises(StepRefused, match=f"Secret {LEAVES[0]} is gone, or another's"):
        await one.carry_out(steps.SpreadAuthorities(wanted, "", 1))


# --- members and clients that live through it ------------------------------------------------------------------------


class Mounted:
    """A Secret's volume: its files are those of one stage after the other."""

    def __init__(self, directory: Path, stages: list[Pems]) -> None:
        directory.mkdir()
        self.stages = stages
        self.ca, self.cert, self.key = (directory / name for name in ("ca.crt", "tls.crt", "tls.key"))
        self.show(0)

    def show(self, stage: int) -> None:
        for path, pem in zip((self.ca, self.cert, self.key), self.stages[stage]):
            fresh = path.with_suffix(".new")
            fresh.write_text(pem)
            fresh.rename(path)

    @property
    def tls(self) -> TLS:
        return TLS(self.ca, self.cert, self.key)


def stages_of(old: Pems, new: Pems, *wanted: CertificateWanted) -> list[list[Pems]]:
    """Per certificate what its Secret holds, in order: one authority, both, the new one's leaf, the new one alone."""
    now, both = int(time.time()), new[1] + old[1]
    found = []
    for one in wanted:
        first, second = issue(one, old, now), issue(one, new, now)
        found.append([first, (both, *first[1:]), (both, *second[1:]), second])
    return found


LAGS = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (3, 3)]
"""Whose volume has come to which stage: a member's, a client's (another member's)."""


def authorities(purpose: Purpose) -> tuple[Pems, Pems]:
    """Two of the same name, as the operator makes them."""
    wanted = CertificateWanted(purpose, "ca", f"locks {purpose.value}", lifetime_s=9 * 86_400)
    return issue(wanted, None, int(time.time())), issue(wanted, None, int(time.time()))


def leaf(purpose: Purpose, *names: str, server: bool = True) -> CertificateWanted:
    return CertificateWanted(purpose, "leaf", purpose.value, names, server=server, client=True, issuer_secret="ca")


async def test_a_member_and_a_client_live_through_every_stage_and_a_lock_is_held_throughout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TLS_CHECK_SECONDS", 0.0)
    here = leaf(Purpose.CLIENT, "localhost", "127.0.0.1"), leaf(Purpose.OPERATOR, server=False)
    stages = stages_of(*authorities(Purpose.CLIENT_AUTHORITY), *here)
    member, mine = Mounted(tmp_path / "member", stages[0]), Mounted(tmp_path / "client", stages[1])
    files = {"client_tls_ca": member.ca, "client_tls_cert": member.cert, "client_tls_key": member.key}
    server = Server(dev_settings(tmp_path / "dev").model_copy(update=files))
    await server.start()
    try:
        async with AsyncClient(server.bound_address, tls=mine.tls) as lasting:
            held = await lasting.lock("x", timeout=20).acquire()
            for of_member, of_client in LAGS:
                member.show(of_member)
                mine.show(of_client)
                async with AsyncClient(server.bound_address, tls=mine.tls) as fresh:
                    await fresh.config("n").put("k", b"1")
                    assert isinstance(_stream(fresh), DirectStream), (of_member, of_client)
                    assert (await fresh.admin.status()).role == "leader"
                await lasting.config("n").put("k", b"2")
            assert held.valid
            await held.release()
        member.show(2)
        mine.show(0)
        async with AsyncClient(server.bound_address, tls=mine.tls, operation_timeout=0.3) as two_behind:
            with pytest.raises(Unavailable):
                await two_behind.config("n").get("k")
    finally:
        await server.stop()


def _stream(client: AsyncClient) -> Any:
    assert client._connection is not None
    return client._connection._stream_call


def test_members_of_neighbouring_stages_shake_hands_both_ways(tmp_path: Path) -> None:
    stages = stages_of(*authorities(Purpose.PEER_AUTHORITY), leaf(Purpose.PEER, "localhost"))[0]
    two = [Mounted(tmp_path / name, stages) for name in "ab"]
    listening, dialling = (_peer_tls(tmp_path, one) for one in two)
    for of_one, of_other in LAGS:
        two[0].show(of_one)
        two[1].show(of_other)
        shake_hands(listening.server_context(), dialling.client_context())
    two[0].show(2)
    two[1].show(0)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(listening.server_context(), dialling.client_context())


def _peer_tls(directory: Path, files: Mounted) -> Any:
    changes = {"peer_tls_ca": files.ca, "peer_tls_cert": files.cert, "peer_tls_key": files.key}
    return server_tls.peer_tls(dev_settings(directory).model_copy(update=changes), lambda member_id: ())


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """In memory. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = 0
    for turn in range(12):
        try:
            ends[turn % 2].do_handshake()
            done |= 1 << turn % 2
        except ssl.SSLWantReadError:
            continue
    assert done == 3
