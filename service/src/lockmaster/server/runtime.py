"""Engine: the only task that steps the node (see the signatures; the body lands next)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lockmaster.errors import LockmasterError
from lockmaster.server.status import EngineSettings, StatusSnapshot
from lockmaster.statemachine.commands import Command, Event, Result

Done = Callable[[Result | LockmasterError], None]
ReadDone = Callable[[LockmasterError | None], None]
KeepAliveDone = Callable[[tuple[int, ...] | LockmasterError], None]
Listener = Callable[[Sequence[Event], int], None]


class Engine:
    """One member: node, state machine, data directory and peers. All methods are for the loop's thread only."""

    def __init__(self, settings: EngineSettings) -> None: ...

    async def start(self) -> None:
        """Open the directory, listen for peers, start the node if this member has an id. Raises StorageFailed family."""

    async def stop(self) -> None:
        """Hand over leadership if leading, stop, flush, close. Idempotent."""

    # -- the data path
    def propose(self, command: Command, done: Done, *, reserved: bool = False) -> None:
        """Queue a command for the next entry; `done` is called once, never from inside this call."""

    def keep_alive(self, session_ids: Sequence[int], done: KeepAliveDone) -> None:
        """Renew sessions with the next coalesced entry; done(those of them that are expired) after it committed."""

    def read_index(self, done: ReadDone) -> None:
        """done(None) once this member has applied all that was acknowledged before the call."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """listener(events, revision) after each applied entry that had events or results; returns the unsubscribe."""
        raise NotImplementedError

    # -- questions.  machine -> StateMachine (queries only; raises Unavailable on a blank member)
    # is_blank, is_leader, admits_writes, role (str), term, leader_id, revision, applied_index, cluster_id, member_id,
    # incarnation, peer_address -> properties
    def leader_address(self) -> str:
        """The leader's client address, or ""."""
        raise NotImplementedError

    def status(self) -> StatusSnapshot:
        """This member now."""
        raise NotImplementedError

    # -- administration; each raises NotLeader, PreconditionFailed, Unavailable, Indeterminate
    async def bootstrap(self, full_min: int = 2) -> tuple[bytes, int]:
        """Genesis on a blank member: (cluster id, member id). PreconditionFailed if it is not blank."""
        raise NotImplementedError

    async def add_member(
        self,
        name: str,
        peer_address: str,
        client_address: str,
        incarnation: bytes,
        *,
        learner: bool = False,
        expected_epoch: int | None = None,
    ) -> int:
        """Its member id, once the change is committed."""
        raise NotImplementedError

    async def remove_member(self, member_id: int, *, expected_epoch: int | None = None) -> None:
        """Returns once the removal is committed."""

    async def transfer(self, target: int = 0) -> int:
        """Hand leadership over; the new leader's id."""
        raise NotImplementedError
