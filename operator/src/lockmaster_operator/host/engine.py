"""The members of one LockCluster by the client's admin API, over mTLS: their own words, and one change at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from lockmaster import AsyncClient, LockmasterError, Unavailable
from lockmaster.api import admin_pb2

from lockmaster_operator.desired.names import PEER_PORT
from lockmaster_operator.host.issuing import Pems
from lockmaster_operator.host.pem_files import PemFiles
from lockmaster_operator.observed import PODS_MAX, EngineSeen, MemberReport, MemberSeen
from lockmaster_operator.plan import steps

STATUS_SECONDS: Final = 3.0
"""How long a member may take to answer a question. One that does not answer is one of which nothing is known."""
CLIENTS_MAX: Final = 4096
"""Most clusters with open connections."""
FULL_MIN: Final = 2
"""Fewest full voters before a new cluster admits writes."""
ALARMS_MAX: Final = 32
"""Most alarms of a member that are looked at."""
_GATE: Final = {
    steps.GateOperation.FENCE: admin_pb2.GATE_OPERATION_FENCE,
    steps.GateOperation.ACTIVATE: admin_pb2.GATE_OPERATION_ACTIVATE,
    steps.GateOperation.CANCEL: admin_pb2.GATE_OPERATION_CANCEL,
    steps.GateOperation.DEACTIVATE: admin_pb2.GATE_OPERATION_DEACTIVATE,
}
Answers = tuple[dict[int, MemberReport], EngineSeen | None]


class Engine(Protocol):
    """What the host asks of the members of a cluster."""

    async def look(self, uid: str, addresses: Mapping[int, str], tls: Pems) -> Answers:
        """What each member says of itself, by ordinal, and the cluster by its leader's word."""

    async def perform(
        self, uid: str, addresses: Mapping[int, str], tls: Pems, step: steps.EngineStep, key: str
    ) -> None:
        """Ask for one change; a repeat of `key` is answered as the first. Raises LockmasterError, TimeoutError."""

    async def forget(self, uid: str) -> None:
        """Close what is open towards a cluster."""


class _Open:
    """A client and the files of its certificate."""

    def __init__(self, addresses: tuple[str, ...], pems: Pems) -> None:
        self.addresses = addresses
        self.pems = pems
        self._files = PemFiles(pems)
        self.client = self._files.client(addresses, STATUS_SECONDS, "operator")

    async def close(self) -> None:
        await self.client.close()
        self._files.remove()


class MembersEngine:
    """Real members. For one event loop; `close` at the end."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    async def _client(self, uid: str, addresses: Mapping[int, str], tls: Pems) -> AsyncClient:
        """An open client of these very addresses and certificates. Raises Unavailable if those are none."""
        wanted = tuple(addresses[n] for n in sorted(addresses))
        there = self._open.get(uid)
        if there is not None and (there.addresses, there.pems) == (wanted, tls):
            return there.client
        await self.forget(uid)
        while len(self._open) >= CLIENTS_MAX:
            await self.forget(next(iter(self._open)))
        self._open[uid] = made = _Open(wanted, tls)
        return made.client

    async def look(self, uid: str, addresses: Mapping[int, str], tls: Pems) -> Answers:
        """All members are asked side by side; the leader of the highest term is asked for the configuration."""
        if not addresses:
            return {}, None
        try:
            client = await self._client(uid, addresses, tls)
        except Unavailable:
            return {}, None  # the plan issues another certificate
        ordinals = sorted(addresses)
        answers = await asyncio.gather(*(_status(client, addresses[n]) for n in ordinals))
        said = {n: answer for n, answer in zip(ordinals, answers) if answer is not None}
        leaders = sorted((n for n in said if said[n].role == "leader"), key=lambda n: said[n].term)
        reports = {n: report_of(answer) for n, answer in said.items()}
        if not leaders:
            return reports, None
        try:
            listed = await client.admin.members(addresses[leaders[-1]])
        except (LockmasterError, TimeoutError):
            return reports, None
        return reports, engine_of(listed, said[leaders[-1]])

    async def perform(
        self, uid: str, addresses: Mapping[int, str], tls: Pems, step: steps.EngineStep, key: str
    ) -> None:
        """One change, with what it was decided from and its key. Raises LockmasterError, TimeoutError."""
        admin = (await self._client(uid, addresses, tls)).admin
        match step:
            case steps.Bootstrap():  # its key is the cluster's id
                there = addresses[step.ordinal]
                await admin.bootstrap(FULL_MIN, endpoint=there, cluster_id=bytes.fromhex(step.cluster_id))
            case steps.AddMember():
                host = addresses[step.ordinal].rpartition(":")[0]
                witness = admin_pb2.MEMBER_ROLE_WITNESS if step.witness else admin_pb2.MEMBER_ROLE_FULL
                await admin.add_member(
                    step.name,
                    f"{host}:{PEER_PORT}",
                    addresses[step.ordinal],
                    bytes.fromhex(step.incarnation),
                    learner=step.learner,
                    member_role=witness,
                    level_max=step.level_max,
                    expected_epoch=step.expected_epoch,
                    idempotency_key=key,
                )
            case steps.RemoveMember():
                await admin.remove_member(step.member_id, expected_epoch=step.expected_epoch, idempotency_key=key)
            case steps.ReplaceMember():
                await admin.replace_member(
                    step.old_id, step.new_id, expected_epoch=step.expected_epoch, idempotency_key=key
                )
            case steps.PromoteMember():
                await admin.promote_member(step.member_id, expected_epoch=step.expected_epoch, idempotency_key=key)
            case steps.DemoteMember():
                await admin.demote_member(step.member_id, expected_epoch=step.expected_epoch, idempotency_key=key)
            case steps.TransferLeadership():
                await admin.transfer(step.target, expected_term=step.expected_term, idempotency_key=key)
            case steps.ChangeGate():
                await admin.change_gate(
                    _GATE[step.operation], step.level, expected_epoch=step.expected_epoch, idempotency_key=key
                )

    async def forget(self, uid: str) -> None:
        """Close the connections to a cluster, and remove its certificate's files."""
        there = self._open.pop(uid, None)
        if there is not None:
            await there.close()

    async def close(self) -> None:
        """Close all."""
        for uid in list(self._open):
            await self.forget(uid)


async def _status(client: AsyncClient, address: str) -> admin_pb2.StatusResponse | None:
    try:
        return await client.admin.status(address)
    except (LockmasterError, TimeoutError, OSError):
        return None


def report_of(said: admin_pb2.StatusResponse) -> MemberReport:
    """A member's Status as the plan takes it."""
    return MemberReport(
        cluster_id=said.cluster_id.hex(),
        member_id=said.member_id,
        incarnation=said.incarnation.hex(),
        version=said.version,
        level_max=said.level_max,
        level_floor=said.level_floor,
        witness=said.member_role == "witness",
        leader_id=said.leader.member_id,
        free_bytes=said.free_bytes,
        copy_bytes=said.copy_bytes,
        alarms=tuple(sorted({alarm.partition(":")[0] for alarm in said.alarms[:ALARMS_MAX]})),
    )


def engine_of(listed: admin_pb2.ListMembersResponse, said: admin_pb2.StatusResponse) -> EngineSeen:
    """The leader's ListMembers as the plan takes it, and its Status, in which it says that it leads."""
    members = tuple(
        MemberSeen(
            member_id=row.member_id,
            name=row.name,
            peer_address=row.peer_address,
            voter=row.voter,
            witness=row.member_role == "witness",
            incarnation=row.incarnation.hex(),
            phase=row.phase,
            leader=row.leader,
            lag_entries=row.lag_entries,
            reachable=row.reachable,
            level_max=row.level_max,
            fence_index=row.fence_index,
        )
        for row in listed.members[:PODS_MAX]
    )
    return EngineSeen(
        cluster_id=listed.cluster_id.hex(),
        epoch=listed.configuration_epoch,
        term=said.term,
        members=members,
        level_active=listed.level_active,
        level_fence=listed.level_fence,
        gate_epoch=listed.gate_epoch,
        pods_mark=said.pods_mark if said.HasField("pods_mark") else None,
    )
