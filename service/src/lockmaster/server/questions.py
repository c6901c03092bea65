"""What may be asked of an engine at any time: its parts and its place in the cluster. Nothing here changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.ids import NO_NODE
from lockmaster_raft.membership import MemberPhase

from lockmaster import errors as public
from lockmaster.errors import LockmasterError
from lockmaster.server import reporting

if TYPE_CHECKING:
    from lockmaster_raft.node import Node

    from lockmaster.server.applying import Applier
    from lockmaster.server.integrity import Integrity
    from lockmaster.server.meters import Meters
    from lockmaster.server.peers.hub import PeerHub
    from lockmaster.server.persisting import Persister
    from lockmaster.server.promotion import PromotionHost
    from lockmaster.server.snapshots import SnapshotHost
    from lockmaster.server.state_keeper import StateKeeper
    from lockmaster.server.status import EngineSettings, StatusSnapshot
    from lockmaster.statemachine.apply import StateMachine
    from lockmaster.storage.directory import DataDirectory

_BLANK = "this member is blank: it waits to be joined to a cluster"


class Questions:
    """The engine's parts, and the read-only half of its interface."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.alarms: dict[str, str] = {}
        self.counters: dict[str, int] = {}
        self.started_at = 0
        self.meters: Meters | None = None
        """Histograms of the data path, to be set before the start; None: nothing is measured."""
        self._leading = False
        self._directory: DataDirectory | None = None
        self._node: Node | None = None
        self._applier: Applier | None = None
        self._hub: PeerHub | None = None
        self._persister: Persister | None = None
        self._keeper: StateKeeper | None = None
        self.integrity: Integrity | None = None
        """The scrub and the exchange of state hashes; None on a blank member."""
        self._snapshots: SnapshotHost | None = None
        self._promotion: PromotionHost | None = None

    @property
    def directory(self) -> DataDirectory:
        """The open data directory."""
        if self._directory is None:
            raise public.Unavailable("this member has not started")
        return self._directory

    @property
    def node(self) -> Node:
        """The node, to be read only. Unavailable on a blank member."""
        if self._node is None:
            raise public.Unavailable(_BLANK)
        return self._node

    @property
    def applier(self) -> Applier:
        """What applies entries. Unavailable on a blank member."""
        if self._applier is None:
            raise public.Unavailable(_BLANK)
        return self._applier

    @property
    def keeper(self) -> StateKeeper:
        """What stores applied state. Unavailable on a blank member."""
        if self._keeper is None:
            raise public.Unavailable(_BLANK)
        return self._keeper

    @property
    def snapshots(self) -> SnapshotHost | None:
        """What makes and serves snapshots; None on a blank member."""
        return self._snapshots

    @property
    def machine(self) -> StateMachine:
        """The state machine, for queries only.

        Unavailable until this member has a state, NotLeader (with the leader's address) on one that serves none.
        """
        applier = self._applier
        if applier is not None and not applier.serving:
            raise self.refusal()
        machine = self._machine
        if machine is None:
            raise public.Unavailable("this member has no state yet")
        return machine

    @property
    def _machine(self) -> StateMachine | None:
        """The state machine, served or not; None without a state."""
        return None if self._applier is None else self._applier.machine

    def refusal(self) -> LockmasterError:
        """Why a client is not served here: it is a witness, or on its way to be one or to be none any more."""
        node = self._node
        own = node.own_member if node is not None else None
        phase = "" if own is None or own.phase is MemberPhase.STEADY else f" ({own.phase.name.lower()})"
        role = "" if own is None else own.role.name.lower()
        text = f"member {self.member_id} is a {role or 'learner'}{phase}: it serves no clients"
        return public.NotLeader(self.leader_address(), text)

    @property
    def serves_state(self) -> bool:
        """It has a state, and may serve it to clients."""
        applier = self._applier
        return applier is not None and applier.serving and applier.machine is not None

    @property
    def is_witness(self) -> bool:
        """A member without a state to serve by its role: no client is served here, and none relayed."""
        return self._applier is not None and not self._applier.serving

    @property
    def is_blank(self) -> bool:
        """No identity yet."""
        return self._node is None

    @property
    def is_leader(self) -> bool:
        """It leads, as far as it knows."""
        return self._leading

    @property
    def leading(self) -> bool:
        """The same as is_leader."""
        return self._leading

    @property
    def ready(self) -> bool:
        """It can be asked: it leads with an own-term commit, or follows a known leader, and has a state to serve."""
        if self._node is None or not self.serves_state:
            return False
        return self._node.own_term_committed if self._leading else self._node.leader_id != NO_NODE

    @property
    def ready_for_role(self) -> bool:
        """It does what its role asks: a full member can be asked; a witness has a log and a known leader."""
        if self._node is None:
            return False
        if self.is_witness:
            return self._node.leader_id != NO_NODE and self.directory.journal.base.index > 0
        return self.ready

    @property
    def admits_writes(self) -> bool:
        """It leads and takes client writes now."""
        return self._leading and self._node is not None and self._node.admits_writes

    @property
    def role(self) -> str:
        """blank, learner, follower, witness, pre-candidate, candidate, leader, removed."""
        return "blank" if self._node is None else self._node.role.value

    @property
    def term(self) -> int:
        """The current term, 0 when blank."""
        return 0 if self._node is None else self._node.term

    @property
    def leader_id(self) -> int:
        """The leader's member id as far as known, else 0."""
        return NO_NODE if self._node is None else self._node.leader_id

    @property
    def revision(self) -> int:
        """The state's revision, 0 without a state."""
        machine = self._machine
        return 0 if machine is None else machine.revision

    @property
    def pods_mark(self) -> int | None:
        """As StateMachine's; None without a state."""
        machine = self._machine
        return None if machine is None else machine.pods_mark

    @property
    def applied_index(self) -> int:
        """Last applied index."""
        return 0 if self._applier is None else self._applier.applied

    @property
    def cluster_id(self) -> bytes:
        """16 bytes, or b"" when blank."""
        return (self._directory.identity.cluster_id or b"") if self._directory is not None else b""

    @property
    def member_id(self) -> int:
        """This member's id, or 0 when blank."""
        return self._directory.identity.member_id if self._directory is not None else 0

    @property
    def incarnation(self) -> bytes:
        """16 bytes: this data directory's."""
        return self.directory.identity.incarnation

    @property
    def peer_address(self) -> str:
        """host:port that other members dial."""
        return self._hub.address if self._hub is not None else self.settings.advertise_peer

    @property
    def sync_average_ns(self) -> int:
        """Running average of a durable write, 0 before the first."""
        return self._persister.average_ns if self._persister is not None else 0

    @property
    def disk_syncs(self) -> tuple[int, int]:
        """(durable writes, those of them done inline) since the start."""
        return (self._persister.syncs, self._persister.syncs_inline) if self._persister is not None else (0, 0)

    @property
    def snapshot_progress(self) -> float:
        """Share of the snapshot being fetched that is stored here, 0.0 to 1.0; 1.0 when none is."""
        return self._snapshots.progress if self._snapshots is not None and self._node is not None else 1.0

    def leader_address(self) -> str:
        """The client address of a leader that serves, or "": a caretaker only hands over."""
        if self._node is None:
            return ""
        member = self._node.configuration.member(self._node.leader_id)
        if member is None or not member.is_full or member.phase is MemberPhase.DEMOTING:
            return ""
        return member.client_address

    def client_addresses(self) -> tuple[str, ...]:
        """Where clients are served: the client addresses of full members that stay such, by member id."""
        members = self._node.configuration.members if self._node is not None else ()
        serving = (each for each in members if each.is_full and each.phase is not MemberPhase.DEMOTING)
        return tuple(each.client_address for each in serving if each.client_address)

    def status(self) -> StatusSnapshot:
        """This member now."""
        return reporting.snapshot(self)
