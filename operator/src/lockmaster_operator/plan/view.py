"""One look, understood: each member with its phase and pod, the quorum's margin, and whether all is settled.

Phases and `since` are what the operator remembers between passes (in status); everything else is derived anew. Law: a
member is Unreachable by its leader's word alone. That the operator cannot reach a pod proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from lockmaster_operator.desired.compare import owned
from lockmaster_operator.desired.names import TEMPLATE_LABEL, Cluster, Settings, ordinal_of
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus, MemberRole, MemberStatus, Phase
from lockmaster_operator.models.timestamps import seconds_at
from lockmaster_operator.observed import ClaimSeen, EngineSeen, MemberSeen, Observed, PodSeen

LAG_STEADY_MAX: Final = 256
"""Entries that a member may lack and be caught up: the core's own bound for a new voter."""
LAG_BEHIND_MIN: Final = 4096
"""A caught-up member counts as Behind from here on: in between nothing changes, or a loaded cluster would flap."""
STABLE_S: Final = 10
"""A cluster must have been settled this long before the operator disturbs it on purpose."""
_CHANGING: Final = {"promoting": Phase.PROMOTING, "demoting": Phase.DEMOTING, "leaving": Phase.LEAVING}


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member of the configuration."""

    seen: MemberSeen
    ordinal: int
    phase: Phase
    since: int
    """Seconds since 1970: since when it is in this phase."""
    pod: PodSeen | None
    """The pod that runs it: None also where another incarnation runs in its place."""
    caught_up: bool

    @property
    def member_id(self) -> int:
        """Its id."""
        return self.seen.member_id

    @property
    def lost(self) -> bool:
        """Its volume is gone or another's."""
        return self.phase is Phase.LOST

    @property
    def silent(self) -> bool:
        """It gives neither votes nor acks."""
        return self.lost or not self.seen.reachable

    @property
    def role(self) -> MemberRole:
        """Full or Witness."""
        return MemberRole.WITNESS if self.seen.witness else MemberRole.FULL


@dataclass(frozen=True)
class View:
    """One look at one cluster, understood."""

    cluster: Cluster
    settings: Settings
    observed: Observed
    now: int

    @property
    def status(self) -> LockClusterStatus:
        """What was remembered."""
        return self.observed.status

    @property
    def held(self) -> bool:
        """No pod may run: a Job founds the cluster, on a volume that a pod would have. Never a cluster with members
        but by a QuorumRecovery."""
        return self.observed.recovering or (self.observed.restore_pending and not self.status.cluster_id)

    @cached_property
    def engine(self) -> EngineSeen | None:
        """The leader's word, if it is of this cluster."""
        engine = self.observed.engine
        known = self.status.cluster_id
        return None if engine is None or (known and engine.cluster_id != known) else engine

    @property
    def cluster_id(self) -> str:
        """By the leader's word; "" without one."""
        return self.engine.cluster_id if self.engine is not None else ""

    @property
    def epoch(self) -> int:
        """Of the configuration; 0 without a leader."""
        return self.engine.epoch if self.engine is not None else 0

    @property
    def term(self) -> int:
        """Of the leader; 0 without one."""
        return self.engine.term if self.engine is not None else 0

    @property
    def level(self) -> int:
        """The active level, as known now or remembered."""
        return self.engine.level_active if self.engine is not None else self.status.gate.level

    @property
    def fence(self) -> int:
        """Above `level` while a FENCE stands, as known now or remembered."""
        return self.engine.level_fence if self.engine is not None else self.status.gate.fence

    @property
    def gate_epoch(self) -> int:
        """Of the gate; 0 without a leader."""
        return self.engine.gate_epoch if self.engine is not None else 0

    @cached_property
    def pods(self) -> dict[int, PodSeen]:
        """By ordinal."""
        return {pod.ordinal: pod for pod in self.observed.pods}

    @cached_property
    def claims(self) -> dict[int, ClaimSeen]:
        """By ordinal."""
        return {claim.ordinal: claim for claim in self.observed.claims}

    @cached_property
    def stateful_set(self) -> Mapping[str, Any] | None:
        """The live StatefulSet, if it is ours."""
        found = self.observed.objects.get(("StatefulSet", self.cluster.name))
        return found if found is not None and owned(self.cluster, found) else None

    @cached_property
    def replicas(self) -> int | None:
        """Of the live StatefulSet."""
        found = (self.stateful_set or {}).get("spec", {}).get("replicas")
        return found if isinstance(found, int) else None

    @cached_property
    def template(self) -> str:
        """Hash of the pod template of the live StatefulSet, once its controller has seen it; else ""."""
        live = self.stateful_set or {}
        if live.get("status", {}).get("observedGeneration", 0) < live.get("metadata", {}).get("generation", 0):
            return ""
        labels = live.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})
        return str(labels.get(TEMPLATE_LABEL, ""))

    @cached_property
    def members(self) -> tuple[MemberView, ...]:
        """The configuration by the leader's word, by id; () without a leader."""
        if self.engine is None:
            return ()
        before = {member.member_id: member for member in self.status.members}
        rows = sorted(self.engine.members, key=lambda m: m.member_id)
        return tuple(self._member(seen, before.get(seen.member_id)) for seen in rows)

    def _member(self, seen: MemberSeen, before: MemberStatus | None) -> MemberView:
        ordinal = ordinal_of(self.cluster, seen.peer_address)
        pod = self.pods.get(ordinal)
        report = pod.report if pod is not None else None
        runs = report is not None and report.incarnation == seen.incarnation
        bound = LAG_BEHIND_MIN if before is not None and before.phase is Phase.STEADY else LAG_STEADY_MAX
        caught_up = seen.reachable and seen.lag_entries <= bound
        phase = self._phase(seen, before, caught_up, self._is_lost(seen, ordinal))
        since = seconds_at(before.since) if before is not None and before.phase is phase else self.now
        other = report is not None and not runs
        return MemberView(seen, ordinal, phase, min(since, self.now), None if other else pod, caught_up)

    def _is_lost(self, seen: MemberSeen, ordinal: int) -> bool:
        """Its volume is gone: the claim's word, or another directory runs in its pod.

        Not so if that directory is another member's or another cluster's: then somebody has mixed up volumes, and
        nothing is known about this member's own.
        """
        claim, pod = self.claims.get(ordinal), self.pods.get(ordinal)
        if claim is not None and claim.lost and not seen.reachable:
            return True
        report = pod.report if pod is not None else None
        if report is None or report.incarnation == seen.incarnation or self.engine is None:
            return False
        if report.blank:
            return True
        owners = [m for m in self.engine.members if report.member_id == m.member_id]
        replaced = any(ordinal_of(self.cluster, m.peer_address) == ordinal for m in owners)
        return report.cluster_id == self.engine.cluster_id and (not owners or replaced)

    @staticmethod
    def _phase(seen: MemberSeen, before: MemberStatus | None, caught_up: bool, lost: bool) -> Phase:
        if lost:
            return Phase.LOST
        if seen.phase in _CHANGING and (seen.reachable or seen.phase == "leaving"):
            return _CHANGING[seen.phase]
        if not seen.voter:
            voted = before is not None and before.phase not in (Phase.JOINING, Phase.LOST)
            return Phase.SET_ASIDE if voted else Phase.JOINING
        if not seen.reachable:
            return Phase.UNREACHABLE
        return Phase.STEADY if caught_up else Phase.BEHIND

    # --- what follows from it ----------------------------------------------------------------------------------------

    @cached_property
    def voters(self) -> tuple[MemberView, ...]:
        """Members that vote."""
        return tuple(member for member in self.members if member.seen.voter)

    @cached_property
    def leader(self) -> MemberView | None:
        """Who leads; None also while a witness does, only to hand over: it changes nothing."""
        for member in self.members:
            if member.seen.leader:
                return None if member.seen.witness else member
        return None

    @property
    def led(self) -> bool:
        """A full member leads: changes can be asked for."""
        return self.engine is not None and self.leader is not None

    @cached_property
    def margin(self) -> int:
        """Voters that may fail now; -1 and less: no quorum. 0 in a joint change: two majorities decide."""
        if not self.voters:
            return -1
        spare = sum(not member.silent for member in self.voters) - majority(len(self.voters))
        return min(spare, 0) if any(member.seen.phase == "leaving" for member in self.members) else spare

    @cached_property
    def full_copies(self) -> int:
        """Full members that are there and caught up."""
        return sum(1 for m in self.members if not m.seen.witness and m.caught_up and not m.silent and m.seen.voter)

    @cached_property
    def change_open(self) -> bool:
        """A member joins, leaves or changes its role."""
        return any(m.seen.phase != "steady" or m.phase is Phase.JOINING for m in self.members)

    @cached_property
    def unsettled(self) -> str:
        """What is not as it should be, in a few stable words; "" when everything is there, caught up and at rest."""
        if self.engine is None:
            return "no member leads"
        if self.leader is None:
            return "a witness leads, to hand over"
        for member in self.members:
            if member.phase is not Phase.STEADY:
                return f"member {member.member_id} is {member.phase.value}"
        for member in self.members:
            pod = self.pods.get(member.ordinal)
            if pod is None or pod.deleting or not pod.ready:
                return f"pod {self.cluster.name}-{member.ordinal} is not ready"
        return ""

    @cached_property
    def settled_for(self) -> int:
        """Seconds that every member has been Steady; -1 while something is not settled."""
        if self.unsettled:
            return -1
        return self.now - max((member.since for member in self.members), default=self.now)

    @property
    def asked(self) -> bool:
        """spec.members is another than the one that was reached last: a person makes the difference, no failure."""
        members, reached = self.cluster.spec.members, self.status.shape
        return reached is not None and (reached.full, reached.witness) != (members.full, members.witness)

    @cached_property
    def highest(self) -> int:
        """The highest ordinal of a member, known now or remembered; -1: no member is known."""
        seen = [member.ordinal for member in self.members]
        remembered = [member.ordinal for member in self.status.members] if self.engine is None else []
        return max([*seen, *remembered], default=-1)

    def at(self, ordinal: int) -> tuple[MemberView, ...]:
        """Members at this ordinal, by id: two while one replaces the other."""
        return tuple(member for member in self.members if member.ordinal == ordinal)

    def wants_witness(self, ordinal: int) -> bool:
        """Whether the spec has a witness at this ordinal."""
        members = self.cluster.spec.members
        return members.full <= ordinal < members.total


def majority(voters: int) -> int:
    """Fewest of so many that decide."""
    return voters // 2 + 1
