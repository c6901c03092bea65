"""The Admin service: what an operator asks of this member and of the cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from importlib.metadata import version
from typing import Final

from lockmaster_raft.gates import GateOperation
from lockmaster_raft.membership import MemberRole

from lockmaster.api import admin_pb2
from lockmaster.server.backups import Backups
from lockmaster.server.ending import end_session
from lockmaster.server.repeats import Repeats
from lockmaster.server.runtime import Engine
from lockmaster.server.status import MemberStatus, StatusSnapshot
from lockmaster.statemachine.commands import EndSession
from lockmaster.storage.snapshot import Snapshot

_Expecting = (
    admin_pb2.AddMemberRequest
    | admin_pb2.RemoveMemberRequest
    | admin_pb2.ReplaceMemberRequest
    | admin_pb2.PromoteMemberRequest
    | admin_pb2.DemoteMemberRequest
    | admin_pb2.AbortRoleChangeRequest
    | admin_pb2.SetReducedCommitRequest
    | admin_pb2.ChangeGateRequest
)
LEADER_KNOWN_S: Final = 2.0
"""After leadership left this member: how long the next leader may take to make itself known."""


class AdminCalls:
    """One coroutine per RPC; each raises the errors of the Engine's method."""

    def __init__(self, engine: Engine, counts: Callable[[], tuple[int, int, int]]) -> None:
        self._engine = engine
        self._backups = Backups(engine)
        self.repeats = Repeats()
        self._counts = counts
        """(sessions, watches, streams) of this member."""
        self._version = version("lockmaster")

    async def status(self, request: admin_pb2.StatusRequest) -> admin_pb2.StatusResponse:
        """This member now."""
        now = self._engine.status()
        sessions, watches, streams = self._counts()
        answer = admin_pb2.StatusResponse(
            cluster_id=now.cluster_id,
            member_id=now.member_id,
            name=now.name,
            role=now.role,
            member_role=now.member_role,
            phase=now.phase,
            serves_state=now.serves_state,
            caretaker=now.caretaker,
            promotion=now.promotion,
            log_bytes_max=now.log_bytes_max,
            term=now.term,
            commit_index=now.commit_index,
            applied_index=now.applied_index,
            last_index=now.last_index,
            log_first_index=now.log_first_index,
            revision=now.revision,
            state_hash=now.state_hash,
            durable_index=now.durable_index,
            flushed_index=now.flushed_index,
            free_bytes=now.free_bytes,
            log_bytes=now.log_bytes,
            copy_bytes=now.copy_bytes,
            version=self._version,
            level_active=now.level_active,
            level_max=now.level_max,
            level_floor=now.level_floor,
            level_fence=now.level_fence,
            gate_epoch=now.gate_epoch,
            pods_mark=now.pods_mark,
            incarnation=now.incarnation,
            alarms=now.alarms,
            sessions=sessions,
            watches=watches,
            streams=streams,
            uptime_ms=now.uptime_ms,
            peer_address=now.peer_address,
            client_address=now.client_address,
        )
        answer.leader.member_id = now.leader_id
        answer.leader.address = now.leader_address
        return answer

    async def bootstrap(self, request: admin_pb2.BootstrapRequest) -> admin_pb2.BootstrapResponse:
        """Genesis on a blank member."""
        cluster_id, member_id = await self._engine.bootstrap(
            request.full_min, cluster_id=request.cluster_id, level=request.level
        )
        return admin_pb2.BootstrapResponse(cluster_id=cluster_id, member_id=member_id)

    async def list_members(self, request: admin_pb2.ListMembersRequest) -> admin_pb2.ListMembersResponse:
        """The configuration as this member knows it; progress where it leads."""
        now = self._engine.status()
        answer = admin_pb2.ListMembersResponse(
            configuration_epoch=now.configuration_epoch,
            commit_index=now.commit_index,
            cluster_id=now.cluster_id,
            level_active=now.level_active,
            level_fence=now.level_fence,
            gate_epoch=now.gate_epoch,
            reduced_commit=now.reduced_commit,
            term=now.term,
        )
        for member in now.members:
            _write_member(answer.members.add(), member, now)
        return answer

    async def add_member(self, request: admin_pb2.AddMemberRequest) -> admin_pb2.AddMemberResponse:
        """A blank incarnation becomes a learner, then a voter."""
        member_id = await self._engine.add_member(
            request.name,
            request.peer_address,
            request.client_address,
            request.incarnation,
            learner=request.learner,
            role=MemberRole(request.member_role or MemberRole.FULL),  # the proto's numbers are the log's
            expected_epoch=_expected(request),
            level_min=request.level_min or 1,
            level_max=request.level_max or 1,
        )
        return admin_pb2.AddMemberResponse(member_id=member_id, cluster_id=self._engine.status().cluster_id)

    async def remove_member(self, request: admin_pb2.RemoveMemberRequest) -> admin_pb2.RemoveMemberResponse:
        """Returns once the removal is committed."""
        await self._engine.remove_member(request.member_id, expected_epoch=_expected(request))
        return admin_pb2.RemoveMemberResponse()

    async def replace_member(self, request: admin_pb2.ReplaceMemberRequest) -> admin_pb2.ReplaceMemberResponse:
        """Returns once the joint step is committed."""
        await self._engine.replace_member(request.old_id, request.new_id, expected_epoch=_expected(request))
        return admin_pb2.ReplaceMemberResponse(configuration_epoch=self._epoch())

    async def promote_member(self, request: admin_pb2.PromoteMemberRequest) -> admin_pb2.PromoteMemberResponse:
        """Returns once P1 is committed."""
        await self._engine.promote_member(request.member_id, expected_epoch=_expected(request))
        return admin_pb2.PromoteMemberResponse(configuration_epoch=self._epoch())

    async def demote_member(self, request: admin_pb2.DemoteMemberRequest) -> admin_pb2.DemoteMemberResponse:
        """Returns once D1 is committed."""
        await self._engine.demote_member(request.member_id, expected_epoch=_expected(request))
        return admin_pb2.DemoteMemberResponse(configuration_epoch=self._epoch())

    async def abort_role_change(self, request: admin_pb2.AbortRoleChangeRequest) -> admin_pb2.AbortRoleChangeResponse:
        """Returns once the abort is committed, at once where nothing runs any more."""
        role = await self._engine.abort_role_change(request.member_id, expected_epoch=_expected(request))
        return admin_pb2.AbortRoleChangeResponse(configuration_epoch=self._epoch(), member_role=role.name.lower())

    async def set_reduced_commit(
        self, request: admin_pb2.SetReducedCommitRequest
    ) -> admin_pb2.SetReducedCommitResponse:
        """Returns once the change is committed."""
        await self._engine.set_reduced_commit(request.enabled, expected_epoch=_expected(request))
        return admin_pb2.SetReducedCommitResponse(configuration_epoch=self._epoch())

    def _epoch(self) -> int:
        return self._engine.node.committed_configuration.epoch

    async def change_gate(self, request: admin_pb2.ChangeGateRequest) -> admin_pb2.ChangeGateResponse:
        """Returns once the gate entry is committed, with the gate state then."""
        operation = GateOperation(request.operation)  # the proto's numbers are the log's; admission refused others
        await self._engine.change_gate(operation, request.level, expected_epoch=_expected(request))
        now = self._engine.status()
        return admin_pb2.ChangeGateResponse(
            level_active=now.level_active, level_fence=now.level_fence, gate_epoch=now.gate_epoch
        )

    async def transfer_leadership(
        self, request: admin_pb2.TransferLeadershipRequest
    ) -> admin_pb2.TransferLeadershipResponse:
        """Returns once another member leads."""
        expected = request.expected_term if request.HasField("expected_term") else None
        leader_id = await self._engine.transfer(request.target, expected_term=expected) or await self._known_leader()
        return admin_pb2.TransferLeadershipResponse(leader_id=leader_id)

    async def make_snapshot(self, request: admin_pb2.MakeSnapshotRequest) -> admin_pb2.MakeSnapshotResponse:
        """Returns once a snapshot at or above the index can be served."""
        snapshot, made = await self._backups.make(request.index_min)
        return admin_pb2.MakeSnapshotResponse(snapshot=_info(snapshot), made=made)

    async def list_snapshots(self, request: admin_pb2.ListSnapshotsRequest) -> admin_pb2.ListSnapshotsResponse:
        """The one that this member can serve, if any."""
        own = self._backups.own
        return admin_pb2.ListSnapshotsResponse(snapshots=[] if own is None else [_info(own)])

    async def verify_snapshot(self, request: admin_pb2.VerifySnapshotRequest) -> admin_pb2.VerifySnapshotResponse:
        """Returns once every chunk was found good."""
        return admin_pb2.VerifySnapshotResponse(snapshot=_info(await self._backups.verify(request.index)))

    async def backup(self) -> AsyncGenerator[admin_pb2.BackupPiece]:
        """A backup archive of everything applied here now."""
        async with contextlib.aclosing(self._backups.stream()) as pieces:
            async for data, total in pieces:
                yield admin_pb2.BackupPiece(data=data, bytes_total=total)

    async def end_session(self, request: admin_pb2.EndSessionRequest, principal: str) -> admin_pb2.EndSessionResponse:
        """Returns once the session is over; `principal` asked for it."""
        operation = EndSession(request.session_id, request.pod_uid, request.reason, principal)
        return admin_pb2.EndSessionResponse(ended=await end_session(self._engine, operation))

    async def _known_leader(self) -> int:
        """The leader's id once it has made itself known; 0 if it has not within LEADER_KNOWN_S."""
        known = asyncio.Event()
        unsubscribe = self._engine.subscribe_role(lambda leading, address: known.set())
        try:
            async with asyncio.timeout(LEADER_KNOWN_S):
                while not self._engine.leader_id:
                    known.clear()
                    await known.wait()
        except TimeoutError:
            pass
        finally:
            unsubscribe()
        return self._engine.leader_id


def _info(snapshot: Snapshot) -> admin_pb2.SnapshotInfo:
    base, chunks = snapshot.base, len(snapshot.digests)
    return admin_pb2.SnapshotInfo(index=base.index, term=base.term, chunks=chunks, bytes_total=snapshot.bytes_total)


def _expected(request: _Expecting) -> int | None:
    """The epoch that the caller expects, if it said one."""
    return request.expected_epoch if request.HasField("expected_epoch") else None


def _write_member(target: admin_pb2.MemberInfo, member: MemberStatus, now: StatusSnapshot) -> None:
    target.member_id = member.member_id
    target.name = member.name
    target.peer_address = member.peer_address
    target.client_address = member.client_address
    target.voter = member.voter
    target.member_role = member.role
    target.phase = member.phase
    target.leader = member.leader
    target.match_index = member.match_index
    target.lag_entries = member.lag_entries
    target.reachable = member.reachable or member.member_id == now.member_id
    target.level_min = member.level_min
    target.level_max = member.level_max
    target.fence_index = member.fence_index
    target.incarnation = member.incarnation
