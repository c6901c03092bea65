"""What operators ask of members: unary calls, to the leader or to one named member.

A change is repeated by policy, so every one has an idempotency key: the member that did it answers a repeat as it did
the first time. Give one of your own (1 to 128 bytes) to repeat a call yourself; by default each call draws one.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from lockmaster.api import admin_pb2, session_pb2
from lockmaster.errors import Unavailable

if TYPE_CHECKING:
    from lockmaster.client.async_client import AsyncClient

M = TypeVar("M", bound=Message)
SERVICE = "/lockmaster.v1.Admin/"
CHANGE_SECONDS_MAX = 30.0


class Admin:
    """Status, members and changes of the cluster. Answers are the protocol's own messages (lockmaster.api)."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def status(self, endpoint: str | None = None) -> admin_pb2.StatusResponse:
        """How one member sees itself and the cluster: the named one, else any that answers."""
        return await self._client.unary(
            SERVICE + "Status", admin_pb2.StatusRequest(), admin_pb2.StatusResponse, endpoint=endpoint
        )

    async def members(self, endpoint: str | None = None) -> admin_pb2.ListMembersResponse:
        """The configuration, with each member's progress as the leader knows it: asked at the named member, or any."""
        return await self._client.unary(
            SERVICE + "ListMembers", admin_pb2.ListMembersRequest(), admin_pb2.ListMembersResponse, endpoint=endpoint
        )

    async def bootstrap(
        self, full_min: int = 2, *, endpoint: str | None = None, cluster_id: bytes = b"", level: int = 0
    ) -> admin_pb2.BootstrapResponse:
        """Makes a blank member the first of a new cluster. Raises PreconditionFailed if it is not blank.

        `cluster_id`: the new cluster's, 16 bytes; empty = drawn by the member. With an id the call may be repeated.
        `level`: the feature level from the beginning; 0 = the highest that the member's binary knows.
        """
        request = admin_pb2.BootstrapRequest(full_min=full_min, cluster_id=cluster_id, level=level)
        return await self._client.unary(
            SERVICE + "Bootstrap", request, admin_pb2.BootstrapResponse, endpoint=endpoint, timeout=CHANGE_SECONDS_MAX
        )

    async def add_member(
        self,
        name: str,
        peer_address: str,
        client_address: str,
        incarnation: bytes,
        *,
        learner: bool = False,
        member_role: admin_pb2.MemberRole = admin_pb2.MEMBER_ROLE_FULL,
        level_max: int = 0,
        expected_epoch: int | None = None,
        idempotency_key: str = "",
    ) -> admin_pb2.AddMemberResponse:
        """Adds a blank member; repeating it changes nothing. Its incarnation, role and level are in its status."""
        request = admin_pb2.AddMemberRequest(
            name=name,
            peer_address=peer_address,
            client_address=client_address,
            incarnation=incarnation,
            learner=learner,
            member_role=member_role,
            level_max=level_max,
            expected_epoch=expected_epoch,
        )
        return await self._change("AddMember", request, admin_pb2.AddMemberResponse, idempotency_key)

    async def remove_member(
        self, member_id: int, *, expected_epoch: int | None = None, idempotency_key: str = ""
    ) -> admin_pb2.RemoveMemberResponse:
        """Takes a member out of the configuration for good."""
        request = admin_pb2.RemoveMemberRequest(member_id=member_id, expected_epoch=expected_epoch)
        return await self._change("RemoveMember", request, admin_pb2.RemoveMemberResponse, idempotency_key)

    async def replace_member(
        self, old_id: int, new_id: int, *, expected_epoch: int | None = None, idempotency_key: str = ""
    ) -> admin_pb2.ReplaceMemberResponse:
        """Puts a caught-up learner in a voter's place by one joint change. Returns once that has begun, durably."""
        request = admin_pb2.ReplaceMemberRequest(old_id=old_id, new_id=new_id, expected_epoch=expected_epoch)
        return await self._change("ReplaceMember", request, admin_pb2.ReplaceMemberResponse, idempotency_key)

    async def promote_member(
        self, member_id: int, *, expected_epoch: int | None = None, idempotency_key: str = ""
    ) -> admin_pb2.PromoteMemberResponse:
        """Begins to make a witness a full member; `members` tells how far it is.

        Raises PreconditionFailed naming the member and the number in the way, as all changes here do.
        """
        request = admin_pb2.PromoteMemberRequest(member_id=member_id, expected_epoch=expected_epoch)
        return await self._change("PromoteMember", request, admin_pb2.PromoteMemberResponse, idempotency_key)

    async def demote_member(
        self, member_id: int, *, expected_epoch: int | None = None, idempotency_key: str = ""
    ) -> admin_pb2.DemoteMemberResponse:
        """Begins to make a full member, not the leader, a witness."""
        request = admin_pb2.DemoteMemberRequest(member_id=member_id, expected_epoch=expected_epoch)
        return await self._change("DemoteMember", request, admin_pb2.DemoteMemberResponse, idempotency_key)

    async def abort_role_change(
        self, member_id: int, *, expected_epoch: int | None = None, idempotency_key: str = ""
    ) -> admin_pb2.AbortRoleChangeResponse:
        """Ends a promotion or demotion: the member is what it was before. The answer's member_role says what that is.

        Where neither runs nothing changes: it was aborted before, or had ended.
        """
        request = admin_pb2.AbortRoleChangeRequest(member_id=member_id, expected_epoch=expected_epoch)
        return await self._change("AbortRoleChange", request, admin_pb2.AbortRoleChangeResponse, idempotency_key)

    async def set_reduced_commit(
        self, enabled: bool, *, expected_epoch: int | None = None, idempotency_key: str = ""
    ) -> admin_pb2.SetReducedCommitResponse:
        """Half of an even number of at least four full voters commits, or a majority again."""
        request = admin_pb2.SetReducedCommitRequest(enabled=enabled, expected_epoch=expected_epoch)
        return await self._change("SetReducedCommit", request, admin_pb2.SetReducedCommitResponse, idempotency_key)

    async def _change(self, method: str, request: Any, answer: type[M], idempotency_key: str) -> M:
        request.idempotency_key = idempotency_key or secrets.token_hex(16)
        return await self._client.unary(SERVICE + method, request, answer, timeout=CHANGE_SECONDS_MAX)

    async def change_gate(
        self,
        operation: admin_pb2.GateOperation,
        level: int,
        *,
        expected_epoch: int | None = None,
        idempotency_key: str = "",
    ) -> admin_pb2.ChangeGateResponse:
        """FENCE, ACTIVATE, CANCEL or DEACTIVATE a level; asking for what is so already changes nothing.

        Raises PreconditionFailed naming the members in the way and their numbers.
        """
        request = admin_pb2.ChangeGateRequest(operation=operation, level=level, expected_epoch=expected_epoch)
        return await self._change("ChangeGate", request, admin_pb2.ChangeGateResponse, idempotency_key)

    async def transfer(
        self, target: int = 0, *, expected_term: int | None = None, idempotency_key: str = ""
    ) -> admin_pb2.TransferLeadershipResponse:
        """Moves the lead to a member (0: the one best caught up). Returns who leads then.

        Only the leadership of `expected_term` is moved (default: that of the leader there is now), so a repeat does not
        hand back. Raises PreconditionFailed if a later leader is not the target either; Unavailable without a leader.
        """
        term = expected_term if expected_term is not None else await self._leader_term()
        request = admin_pb2.TransferLeadershipRequest(target=target, expected_term=term)
        answer = admin_pb2.TransferLeadershipResponse
        return await self._change("TransferLeadership", request, answer, idempotency_key)

    async def _leader_term(self) -> int:
        status = await self.status()
        if status.role != "leader" and status.leader.address:
            status = await self.status(status.leader.address)
        if status.role != "leader":
            raise Unavailable("no leader is known")
        return status.term

    async def end_session(
        self, session_id: int, pod_uid: str, reason: str, *, idempotency_key: str = ""
    ) -> admin_pb2.EndSessionResponse:
        """Ends a session whose pod is certainly gone, as if it had expired. `ended` False: it was over already.

        Raises PreconditionFailed where it is of another pod, or the cluster's level is below 2.
        """
        request = admin_pb2.EndSessionRequest(session_id=session_id, pod_uid=pod_uid, reason=reason)
        return await self._change("EndSession", request, admin_pb2.EndSessionResponse, idempotency_key)

    async def sessions(
        self, after: int = 0, limit: int = 100, *, pod_bound: bool = False
    ) -> session_pb2.ListSessionsResponse:
        """Live sessions by id, a page of at most 1,000; go on from its `after` while it says `more`.

        `pod_bound`: only those that were opened with a pod's ServiceAccount token.
        """
        request = session_pb2.ListSessionsRequest(after=after, limit=limit, pod_bound=pod_bound)
        return await self._client.unary("/lockmaster.v1.Sessions/List", request, session_pb2.ListSessionsResponse)
