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
from lockmaster_raft.membership import (
    LEVEL_MAX,
    MEMBERS_MAX,
    Configuration,
    Levels,
    Member,
    MemberPhase,
    MemberRole,
)

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
        self.sessions_ending = 0
        """EndSession commands that are proposed and not decided."""

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
        if self.directory.store is None:
            raise public.PreconditionFailed("this member was made to be a witness: a cluster begins with a full member")
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
        role: MemberRole = MemberRole.FULL,
        expected_epoch: int | None = None,
        level_min: int = 1,
        level_max: int = 1,
    ) -> int:
        """Its member id, once the change is committed. Idempotent by incarnation.

        A `learner` stays one until it replaces another (replace_member). `level_min` and `level_max` are what its
        binary can run at: PreconditionFailed below a standing FENCE or the active level.
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
        known = (name, peer_address, client_address, incarnation, not learner)
        where = (*known, expected_epoch, level_min, level_max, role)
        return await self._administer(lambda proposal_id: events.AddMember(proposal_id, *where))

    async def remove_member(self, member_id: int, *, expected_epoch: int | None = None) -> None:
        """Returns once the removal is committed; at once for one that was a member and is none any more."""
        member = NodeId(member_id)
        if self._leading and self._was_removed(member):
            return
        await self._administer(lambda proposal_id: events.RemoveMember(proposal_id, member, expected_epoch))

    def _was_removed(self, member_id: NodeId) -> bool:
        """Ids are never reused (I12): what was asked for is so already."""
        committed = self.node.committed_configuration
        return 0 < member_id < committed.next_member_id and committed.member(member_id) is None

    async def replace_member(self, old_id: int, new_id: int, *, expected_epoch: int | None = None) -> None:
        """Put a caught-up learner in a voter's place by one joint change; returns once the joint step is committed.

        The leader leaves it by itself and the old member is removed. Asking again for what is so already is fine.
        """
        old, new = NodeId(old_id), NodeId(new_id)
        if self._leading and self._was_removed(old):
            member = self.node.committed_configuration.member(new)
            if member is not None and member.voter:
                return
        await self._administer(lambda proposal_id: events.SwapMember(proposal_id, old, new, expected_epoch))

    async def promote_member(self, member_id: int, *, expected_epoch: int | None = None) -> None:
        """P1 (raft.md §4): returns once it is committed; P4 or the abort follows by the leader. Idempotent."""
        member = NodeId(member_id)
        if self._leading and self._stands(member, MemberRole.FULL, MemberPhase.PROMOTING):
            return
        await self._administer(lambda proposal_id: events.PromoteMember(proposal_id, member, expected_epoch))

    async def demote_member(self, member_id: int, *, expected_epoch: int | None = None) -> None:
        """D1 (raft.md §4): returns once it is committed; D2 or the abort follows by the leader. Idempotent."""
        member = NodeId(member_id)
        if self._leading and self._stands(member, MemberRole.WITNESS, MemberPhase.DEMOTING):
            return
        await self._administer(lambda proposal_id: events.DemoteMember(proposal_id, member, expected_epoch))

    def _stands(self, member_id: NodeId, role: MemberRole, phase: MemberPhase) -> bool:
        """It is steady in this role, or on the way there, by a configuration that is committed and in force."""
        configuration = self.node.committed_configuration
        member = configuration.member(member_id)
        if member is None or configuration.epoch != self.node.configuration.epoch:
            return False
        return member.phase is phase or (member.voter and member.role is role and member.phase is MemberPhase.STEADY)

    async def abort_role_change(self, member_id: int, *, expected_epoch: int | None = None) -> MemberRole:
        """Returns once the member is again what it was before its promotion or demotion began, and what that is.

        At once where neither runs: the abort was asked for before, or came too late. The role tells which.
        """
        member = NodeId(member_id)
        if not (self._leading and self._is_steady(member)):
            await self._administer(lambda proposal_id: events.AbortRoleChange(proposal_id, member, expected_epoch))
        now = self.node.committed_configuration.member(member)
        if now is None:
            raise public.PreconditionFailed(f"member {member} is none any more")
        return now.role

    def _is_steady(self, member_id: NodeId) -> bool:
        """No change of this member runs, by a configuration that is committed and in force."""
        configuration = self.node.committed_configuration
        member = configuration.member(member_id)
        return (
            member is not None
            and member.phase is MemberPhase.STEADY
            and configuration.epoch == self.node.configuration.epoch
        )

    async def set_reduced_commit(self, enabled: bool, *, expected_epoch: int | None = None) -> None:
        """Half of an even number of at least four full voters commits (raft.md §5), or a majority again. Idempotent."""
        if self._leading and self.node.committed_configuration.reduced_commit is enabled:
            return
        await self._administer(lambda proposal_id: events.SetReducedCommit(proposal_id, enabled, expected_epoch))

    async def transfer(self, target: int = 0, *, expected_term: int | None = None) -> int:
        """Hand leadership over (0: to the best caught-up voter); the new leader's id as far as known.

        With `expected_term` idempotent: a later leadership than that one is not handed over.
        """
        if self._leading and target == self.member_id:
            return target
        member = NodeId(target)
        await self._administer(lambda number: events.TransferLeadership(number, member, expected_term))
        return self.leader_id

    async def change_gate(self, operation: GateOperation, level: int, *, expected_epoch: int | None = None) -> None:
        """Returns once the FENCE, ACTIVATE, CANCEL or DEACTIVATE of this level is committed, or was so already.

        PreconditionFailed names the member in the way and its number (raft.md §6).
        """
        if operation is GateOperation.DEACTIVATE and self.sessions_ending:
            # Their entries must not come behind it in the log: a binary of the level below can't read them.
            raise public.Unavailable("sessions are being ended just now; ask again")
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
        if self.is_witness:
            return self.refusal()
        return public.NotLeader(self.leader_address())

    def _translate(self, error: raft_errors.ProposalRefused, *, administrative: bool = False) -> LockmasterError:
        """The core's refusal as the error a caller meets.

        What is not ready yet is worth another try for a write, and for anything that only waits for a commit; who asked
        for a change of members is told at once which member and which number stand in the way.
        """
        if isinstance(error, raft_errors.NotLeader):
            return self._not_leader()
        if isinstance(error, raft_errors.Overloaded):
            return public.Overloaded(str(error), error.retry_after_ns / 1e9)
        not_ready = administrative and isinstance(error, raft_errors.NotReady)
        if isinstance(error, raft_errors.ChangeRefused) or (not_ready and not isinstance(error, raft_errors.NotYet)):
            return public.PreconditionFailed(str(error))
        return public.Unavailable(str(error))


def _check_text(field: str, value: str, bytes_max: int) -> None:
    if not value or len(value.encode()) > bytes_max:
        raise public.InvalidRequest(field, f"must be 1 to {bytes_max} bytes")
