"""What operators ask of members: unary calls, to the leader or to one named member."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster.api import admin_pb2, session_pb2

if TYPE_CHECKING:
    from lockmaster.client.async_client import AsyncClient

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

    async def members(self) -> admin_pb2.ListMembersResponse:
        """The configuration, with each member's progress as the leader knows it."""
        return await self._client.unary(
            SERVICE + "ListMembers", admin_pb2.ListMembersRequest(), admin_pb2.ListMembersResponse
        )

    async def bootstrap(self, full_min: int = 2, *, endpoint: str | None = None) -> admin_pb2.BootstrapResponse:
        """Makes a blank member the first of a new cluster. Raises PreconditionFailed if it is not blank."""
        request = admin_pb2.BootstrapRequest(full_min=full_min)
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
        expected_epoch: int | None = None,
    ) -> admin_pb2.AddMemberResponse:
        """Adds a blank member (its incarnation is in its status); repeating it changes nothing."""
        request = admin_pb2.AddMemberRequest(
            name=name,
            peer_address=peer_address,
            client_address=client_address,
            incarnation=incarnation,
            learner=learner,
            expected_epoch=expected_epoch,
        )
        return await self._client.unary(
            SERVICE + "AddMember", request, admin_pb2.AddMemberResponse, timeout=CHANGE_SECONDS_MAX
        )

    async def remove_member(
        self, member_id: int, *, expected_epoch: int | None = None
    ) -> admin_pb2.RemoveMemberResponse:
        """Takes a member out of the configuration for good."""
        request = admin_pb2.RemoveMemberRequest(member_id=member_id, expected_epoch=expected_epoch)
        return await self._client.unary(
            SERVICE + "RemoveMember", request, admin_pb2.RemoveMemberResponse, timeout=CHANGE_SECONDS_MAX
        )

    async def change_gate(
        self, operation: admin_pb2.GateOperation, level: int, *, expected_epoch: int | None = None
    ) -> admin_pb2.ChangeGateResponse:
        """FENCE, ACTIVATE, CANCEL or DEACTIVATE a level; asking for what is so already changes nothing.

        Raises PreconditionFailed naming the members in the way and their numbers.
        """
        request = admin_pb2.ChangeGateRequest(operation=operation, level=level, expected_epoch=expected_epoch)
        return await self._client.unary(
            SERVICE + "ChangeGate", request, admin_pb2.ChangeGateResponse, timeout=CHANGE_SECONDS_MAX
        )

    async def transfer(self, target: int = 0) -> admin_pb2.TransferLeadershipResponse:
        """Moves the lead to a member (0: the one best caught up). Returns who leads then."""
        request = admin_pb2.TransferLeadershipRequest(target=target)
        return await self._client.unary(
            SERVICE + "TransferLeadership", request, admin_pb2.TransferLeadershipResponse, timeout=CHANGE_SECONDS_MAX
        )

    async def sessions(self, after: int = 0, limit: int = 100) -> session_pb2.ListSessionsResponse:
        """Live sessions by id, a page of at most 1,000."""
        request = session_pb2.ListSessionsRequest(after=after, limit=limit)
        return await self._client.unary("/lockmaster.v1.Sessions/List", request, session_pb2.ListSessionsResponse)
