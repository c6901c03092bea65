"""Administration: genesis, joining, leaving, handing over. Every change of members is an entry like any other."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Final

from lockmaster_raft import errors as raft_errors
from lockmaster_raft import events
from lockmaster_raft.gates import GateOperation
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import LEVEL_MAX, MEMBERS_MAX, Configuration, Levels, Member

from lockmaster import errors as public
from lockmaster.addresses import ADDRESS_BYTES_MAX, split_address
from lockmaster.errors import LockmasterError
from lockmaster.server.peers.handshake import INCARNATION_BYTES
from lockmaster.server.peers.hub import Me
from lockmaster.server.questions import Questions
from lockmaster.server.status import EngineSettings
from lockmaster.server.waiting import AdminCalls
from lockmaster.statemachine.refounding import revision_floor

NAME_BYTES_MAX: Final = 253
ADMIN_TIMEOUT: Final = 30.0
"""Seconds after which an administrative call gives up waiting: its entry may still be applied."""


class Administration(Questions):
    """The administrative half of the engine; what it needs of the other half is abstract here."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._admin = AdminCalls()
        self._proposal_id = 0

    def step(self, event: events.Event) -> None:
        """Step the node and do what it asks."""
        raise NotImplementedError

    def _build_node(self) -> None:
        raise NotImplementedError

    async def bootstrap(self, full_min: int = 2, *, cluster_id: bytes = b"", level: int = 0) -> tuple[bytes, int]:
        """Genesis on a blank member: (cluster id, member id). PreconditionFailed if it is not blank.

        `cluster_id` b"" draws one; repeated with the id of the cluster that this member founded it answers again.
        `level` is active from the beginning; 0: the highest that this binary knows, so that a witness can join.
        """
        identity = self.directory.identity
        if cluster_id and (identity.cluster_id, identity.member_id) == (cluster_id, 1):
            return cluster_id, 1
        if self._node is not None or identity.member_id:
            raise public.PreconditionFailed("this member is not blank: it belongs to a cluster already")
        if not 1 <= full_min <= MEMBERS_MAX:
            raise public.InvalidRequest("full_min", f"must be 1 to {MEMBERS_MAX}")
        level = level or min(LEVEL_MAX, self.settings.level_max)  # raft.md §2: the witness level, from the start
        cluster_id, member_id = cluster_id or secrets.token_bytes(16), NodeId(1)
        names = (self.settings.name, self.peer_address, self.settings.advertise_client)
        configuration = Configuration(
            1, (Member(member_id, *names, self.incarnation, voter=True),), NodeId(2), full_min
        )
        self.directory.genesis(
            cluster_id=cluster_id,
            member_id=member_id,
            configuration=configuration,
            levels=Levels(level, level),
            revision=revision_floor(int(time.time())),  # the one use of the wall clock (service.md §1)
        )
        if self._hub is not None:
            self._hub.me = Me(cluster_id, member_id, self.incarnation)
        self._build_node()
        return cluster_id, member_id

    async def add_member(
        self,
        name: str,
        peer_address: str,
        client_address: str,
        incarnation: bytes,
        *,
        learner: bool = False,
        expected_epoch: int | None = None,
        level_min: int = 1,
        level_max: int = 1,
    ) -> int:
        """Its member id, once the change is committed. Idempotent by incarnation.

        `level_min` and `level_max` are what its binary can run at: PreconditionFailed below a standing FENCE or the
        active level.
        """
        _check_text("name", name, NAME_BYTES_MAX)
        for field, address in (("peer_address", peer_address), ("client_address", client_address)):
            _check_text(field, address, ADDRESS_BYTES_MAX)
            try:
                split_address(address)
            except ValueError as error:
                raise public.InvalidRequest(field, str(error)) from error
        if len(incarnation) != INCARNATION_BYTES:
            raise public.InvalidRequest("incarnation", "must be the 16 bytes of the blank member's status")
        where = (name, peer_address, client_address, incarnation, not learner, expected_epoch, level_min, level_max)
        return await self._administer(lambda proposal_id: events.AddMember(proposal_id, *where))

    async def remove_member(self, member_id: int, *, expected_epoch: int | None = None) -> None:
        """Returns once the removal is committed."""
        member = NodeId(member_id)
        await self._administer(lambda proposal_id: events.RemoveMember(proposal_id, member, expected_epoch))

    async def transfer(self, target: int = 0) -> int:
        """Hand leadership over (0: to the best caught-up voter); the new leader's id as far as known."""
        await self._administer(lambda proposal_id: events.TransferLeadership(proposal_id, NodeId(target)))
        return self.leader_id

    async def change_gate(self, operation: GateOperation, level: int, *, expected_epoch: int | None = None) -> None:
        """Returns once the FENCE, ACTIVATE, CANCEL or DEACTIVATE of this level is committed, or was so already.

        PreconditionFailed names the member in the way and its number (raft.md §6).
        """
        await self._administer(lambda proposal_id: events.ProposeGate(proposal_id, operation, level, expected_epoch))

    async def make_snapshot(self) -> None:
        """Make a snapshot of this member's state now; returns once it can be served."""
        if self._snapshots is None:
            raise public.Unavailable("this member has no state yet")
        await asyncio.shield(self._snapshots.make())

    async def _administer(self, make: Callable[[int], events.Event]) -> int:
        """Step an administrative proposal and wait until its entry is applied."""
        if not self._leading:
            raise self._not_leader()
        self._proposal_id += 1
        call = self._admin.add(self._proposal_id)
        self.step(make(self._proposal_id))
        try:
            return await asyncio.wait_for(call.future, ADMIN_TIMEOUT)
        except TimeoutError as error:
            raise public.Indeterminate("not committed in time: it may still be") from error

    def _not_leader(self) -> LockmasterError:
        if self._node is None:
            return public.Unavailable("this member is blank: it waits to be joined to a cluster")
        return public.NotLeader(self.leader_address())

    def _translate(self, error: raft_errors.ProposalRefused) -> LockmasterError:
        """The core's refusal as the error a caller meets."""
        if isinstance(error, raft_errors.NotLeader):
            return self._not_leader()
        if isinstance(error, raft_errors.Overloaded):
            return public.Overloaded(str(error), error.retry_after_ns / 1e9)
        if isinstance(error, raft_errors.ChangeRefused):
            return public.PreconditionFailed(str(error))
        return public.Unavailable(str(error))


def _check_text(field: str, value: str, bytes_max: int) -> None:
    if not value or len(value.encode()) > bytes_max:
        raise public.InvalidRequest(field, f"must be 1 to {bytes_max} bytes")
