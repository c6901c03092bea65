"""Administration: genesis, joining, leaving, handing over. Every change of members is an entry like any other."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final

from lockmaster_raft import events
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import MEMBERS_MAX, Configuration, Levels, Member

from lockmaster import errors as public
from lockmaster.server.peers.address import split_address

if TYPE_CHECKING:
    from lockmaster.server.runtime import Engine

NAME_BYTES_MAX: Final = 253
ADDRESS_BYTES_MAX: Final = 261
ADMIN_TIMEOUT: Final = 30.0
"""Seconds after which an administrative call gives up waiting: its entry may still be applied."""


class MemberCalls:
    """The engine's administrative coroutines."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def genesis(self, full_min: int) -> tuple[bytes, NodeId]:
        """Write the first state of a new cluster into this blank directory, synced. The node does not run yet."""
        if not 1 <= full_min <= MEMBERS_MAX:
            raise public.InvalidRequest("full_min", f"must be 1 to {MEMBERS_MAX}")
        engine = self._engine
        cluster_id, member_id = secrets.token_bytes(16), NodeId(1)
        me = Member(
            member_id,
            engine.settings.name,
            engine.peer_address,
            engine.settings.advertise_client,
            engine.incarnation,
            voter=True,
        )
        configuration = Configuration(1, (me,), NodeId(2), full_min)
        revision = int(time.time()) << 20  # the one use of the wall clock (service.md §1)
        engine.directory.genesis(
            cluster_id=cluster_id,
            member_id=member_id,
            configuration=configuration,
            levels=Levels(),
            revision=revision,
        )
        return cluster_id, member_id

    async def add(
        self,
        name: str,
        peer_address: str,
        client_address: str,
        incarnation: bytes,
        learner: bool = False,
        expected_epoch: int | None = None,
    ) -> int:
        """Its member id, once the change is committed. Idempotent by incarnation."""
        _check_text("name", name, NAME_BYTES_MAX)
        for field, address in (("peer_address", peer_address), ("client_address", client_address)):
            _check_text(field, address, ADDRESS_BYTES_MAX)
            try:
                split_address(address)
            except ValueError as error:
                raise public.InvalidRequest(field, str(error)) from error
        if len(incarnation) != 16:
            raise public.InvalidRequest("incarnation", "must be the 16 bytes of the blank member's status")
        return await self._wait(
            self._engine.administer(
                lambda proposal_id: events.AddMember(
                    proposal_id, name, peer_address, client_address, incarnation, not learner, expected_epoch
                )
            )
        )

    async def remove(self, member_id: int, expected_epoch: int | None) -> None:
        """Returns once the removal is committed."""
        await self._wait(
            self._engine.administer(
                lambda proposal_id: events.RemoveMember(proposal_id, NodeId(member_id), expected_epoch)
            )
        )

    async def transfer(self, target: int) -> int:
        """Hand over; the new leader's id as far as known."""
        await self._wait(
            self._engine.administer(lambda proposal_id: events.TransferLeadership(proposal_id, NodeId(target)))
        )
        return self._engine.leader_id

    async def _wait(self, future: asyncio.Future[int]) -> int:
        try:
            return await asyncio.wait_for(future, ADMIN_TIMEOUT)
        except TimeoutError as error:
            raise public.Indeterminate("not committed in time: it may still be") from error


def _check_text(field: str, value: str, bytes_max: int) -> None:
    if not value or len(value.encode()) > bytes_max:
        raise public.InvalidRequest(field, f"must be 1 to {bytes_max} bytes")
