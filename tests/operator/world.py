"""A simulated Kubernetes with a simulated engine: applies the plan's steps, with the checks that both really make.

The engine's refusals are those of lockmaster_raft (members.py, role_changes.py, gates.py): compare-and-set on the
epoch, one change at a time, two full voters, full voters the majority beside witnesses, a live quorum. Every step is
held against the laws of the plan: `Violation` names the one that was broken.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

from lockmaster_operator.desired.names import TEMPLATE_LABEL, Cluster, Settings, host_of
from lockmaster_operator.models.lock_cluster import LockClusterSpec
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus
from lockmaster_operator.models.part import amount_of
from lockmaster_operator.observed import (
    AuthoritySeen,
    CertificateSeen,
    ClaimSeen,
    EngineSeen,
    MemberReport,
    MemberSeen,
    Observed,
    PodSeen,
)
from lockmaster_operator.plan import Plan, plan, steps
from lockmaster_operator.plan.versions import level_of
from lockmaster_operator.plan.view import majority

START_S = 3
"""A pod takes so long to run."""
CATCH_UP_S = 4
"""A member lacks entries for so long after it came back."""
CHANGE_S = 6
"""A role change takes so long."""


class Violation(AssertionError):
    """A step broke a law of the plan."""


class Refused(Exception):
    """The API server or the engine does not take the step now."""


@dataclass
class Volume:
    uid: str
    incarnation: str
    witness: bool
    cluster_id: str = ""
    member_id: int = 0
    node_gone: bool = False
    damaged: bool = False
    size: str = "10Gi"
    capacity: str = "10Gi"
    """What it has; `size` is what its claim asks for."""
    grows: bool = True
    """Its storage does what is asked for."""
    used: int = 0
    """Bytes; 0: its member does not tell."""
    nearly_full: bool = False


@dataclass
class Pod:
    uid: str
    template: str
    version: str
    started: int
    stopped_until: int = 0
    by_operator: bool = False
    restarts: int = 0
    labels: tuple[str, bool] = ("full", False)


@dataclass
class Member:
    member_id: int
    name: str
    ordinal: int
    incarnation: str
    witness: bool
    voter: bool
    auto: bool
    phase: str = "steady"
    phase_until: int = 0
    heard: int = 0
    """Since when it has been live without a gap; 0: it is not."""


@dataclass
class World:
    spec: LockClusterSpec
    now: int = 1_700_000_000
    generation: int = 1
    uid: str = "uid-1"
    status: LockClusterStatus = field(default_factory=LockClusterStatus)
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    pods: dict[int, Pod] = field(default_factory=dict)
    volumes: dict[int, Volume] = field(default_factory=dict)
    members: dict[int, Member] = field(default_factory=dict)
    certificates: dict[str, CertificateSeen] = field(default_factory=dict)
    authorities: dict[str, AuthoritySeen] = field(default_factory=dict)
    """All that were ever made, by PEM."""
    cluster_id: str = ""
    epoch: int = 0
    next_id: int = 1
    joint: tuple[int, int, int] | None = None
    """(old id, new id, until)."""
    level: int = 0
    fence: int = 0
    gate_epoch: int = 0
    leader_id: int = 0
    term: int = 0
    bad_images: set[str] = field(default_factory=set)
    found_level: int = 2
    told_floor: int | None = None
    """What members say of the level that their logs need; None: what is so."""
    cut_off: bool = False
    """The operator reaches no pod."""
    drawn: int = 0
    writes: int = 0
    log: list[str] = field(default_factory=list)

    # --- what there is -----------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        return Cluster("locks", "infra", self.uid, self.generation, self.spec)

    def draw(self, kind: str) -> str:
        self.drawn += 1
        return f"{kind}-{self.drawn}"

    def runs(self, ordinal: int) -> bool:
        pod, volume = self.pods.get(ordinal), self.volumes.get(ordinal)
        if pod is None or volume is None or volume.node_gone or volume.damaged:
            return False
        return pod.version not in self.bad_images and self.now >= max(pod.started + START_S, pod.stopped_until)

    def live(self, member: Member) -> bool:
        volume = self.volumes.get(member.ordinal)
        return self.runs(member.ordinal) and volume is not None and volume.incarnation == member.incarnation

    def caught_up(self, member: Member) -> bool:
        return self.live(member) and self.now - member.heard >= CATCH_UP_S and member.heard > 0

    def voters(self) -> list[Member]:
        return [m for m in self.members.values() if m.voter]

    def margin_of(self, ids: set[int]) -> int:
        live = sum(self.live(m) for m in self.members.values() if m.member_id in ids)
        return live - majority(len(ids))

    def margin(self) -> int:
        ids = {m.member_id for m in self.voters()}
        found = self.margin_of(ids)
        if self.joint is not None:
            found = min(found, self.margin_of((ids - {self.joint[1]}) | {self.joint[0]}))
        return found

    def full_voters(self) -> list[Member]:
        return [m for m in self.voters() if not m.witness and m.phase != "demoting"]

    def change_open(self) -> bool:
        return self.joint is not None or any(m.phase != "steady" for m in self.members.values())

    # --- time --------------------------------------------------------------------------------------------------------

    def advance(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self._controllers()
            self._engine()

    def _controllers(self) -> None:
        live = self.objects.get(("StatefulSet", "locks"))
        if live is None:
            return
        live["status"] = {"observedGeneration": live["metadata"]["generation"]}
        wanted = live["spec"]["replicas"]
        for ordinal in [n for n in self.pods if n >= wanted]:
            del self.pods[ordinal]
        template = live["spec"]["template"]
        image = template["spec"]["containers"][0]["image"]
        roles = self.objects.get(("ConfigMap", "locks-members"), {}).get("data", {})
        for ordinal in range(wanted):
            if ordinal not in self.volumes:
                witness = roles.get(f"role-{ordinal}") == "witness"
                self.volumes[ordinal] = Volume(self.draw("pvc"), self.draw("dir"), witness)
            if ordinal not in self.pods:
                label = template["metadata"]["labels"][TEMPLATE_LABEL]
                self.pods[ordinal] = Pod(self.draw("pod"), label, image.rsplit(":", 1)[1], self.now)

    def _engine(self) -> None:
        for member in self.members.values():
            member.heard = (member.heard or self.now) if self.live(member) else 0
        leader = self.members.get(self.leader_id)
        if leader is None or not self._may_lead(leader):
            self.elect(min((m.member_id for m in self.voters() if self._may_lead(m)), default=0))
        if not self.leader_id:
            return
        self._finish_changes()
        for member in sorted(self.members.values(), key=lambda m: m.member_id):
            joins = not member.voter and member.auto and member.phase == "steady" and self.caught_up(member)
            if joins and not self.change_open() and self._legal([*self.voters(), member]):
                member.voter = True
                self.epoch += 1
                return

    def elect(self, member_id: int) -> None:
        """Another leads, or nobody (0) for now."""
        if member_id != self.leader_id:
            self.leader_id, self.term = member_id, self.term + 1

    def _may_lead(self, member: Member) -> bool:
        leads = member.voter and not member.witness and member.phase == "steady" and self.margin() >= 0
        return leads and (self.caught_up(member) or (len(self.members) == 1 and self.live(member)))

    def _finish_changes(self) -> None:
        for member in self.members.values():
            if member.phase == "steady" or self.now < member.phase_until:
                continue
            if not self.live(member):
                if self.now - member.phase_until > 10 * CHANGE_S:
                    member.phase, self.epoch = "steady", self.epoch + 1
                continue
            member.witness = member.phase == "demoting"
            member.phase, self.epoch = "steady", self.epoch + 1
        if self.joint is not None and self.now >= self.joint[2]:
            old, _, _ = self.joint
            del self.members[old]
            self.joint, self.epoch = None, self.epoch + 1

    def _legal(self, after: list[Member]) -> bool:
        full = sum(1 for m in after if not m.witness and m.phase != "demoting")
        floor = min(2, len(self.full_voters()))
        if full < floor or (full < len(after) and full < majority(len(after))):
            return False
        return sum(self.live(m) for m in after) >= majority(len(after))

    # --- what the operator sees --------------------------------------------------------------------------------------

    def observe(self) -> Observed:
        return Observed(
            status=LockClusterStatus.model_validate_json(self.status.model_dump_json(by_alias=True)),
            objects=copy.deepcopy(self.objects),
            pods=tuple(self._pod_seen(n) for n in sorted(self.pods)),
            claims=tuple(self._claim_seen(n, v) for n, v in sorted(self.volumes.items())),
            engine=None if self.cut_off or not self.leader_id else self._engine_seen(),
            certificates=tuple(self.certificates.values()),
        )

    def _claim_seen(self, ordinal: int, volume: Volume) -> ClaimSeen:
        return ClaimSeen(ordinal, volume.uid, volume.size, volume.capacity, node_gone=volume.node_gone)

    def _pod_seen(self, ordinal: int) -> PodSeen:
        pod, volume, runs = self.pods[ordinal], self.volumes[ordinal], self.runs(ordinal)
        report = None
        if runs and not self.cut_off:
            report = MemberReport(
                volume.cluster_id,
                volume.member_id,
                volume.incarnation,
                pod.version,
                level_of(pod.version),
                self._is_witness(volume),
                self.leader_id,
                level_floor=self._floor_of(pod),
                free_bytes=int(amount_of(volume.capacity) or 0) - volume.used if volume.used else 0,
                alarms=("disk_behind", "disk_nearly_full") if volume.nearly_full else (),
            )
        ready = runs and any(self.live(m) and self.leader_id for m in self.members.values() if m.ordinal == ordinal)
        failed = pod.version in self.bad_images or volume.damaged
        return PodSeen(
            ordinal,
            pod.uid,
            pod.template,
            ready,
            runs,
            exit_code=71 if volume.damaged else None,
            restarts=5 if volume.damaged else pod.restarts,
            pending_reason="ImagePullBackOff" if failed and not volume.damaged else "",
            role_label=pod.labels[0],
            leads_label=pod.labels[1],
            report=report,
        )

    def _floor_of(self, pod: Pod) -> int:
        """A binary of level 1 does not say; the log is cut as soon as it may be."""
        if level_of(pod.version) < 2:
            return 0
        return max(1, self.level, self.fence) if self.told_floor is None else self.told_floor

    def _is_witness(self, volume: Volume) -> bool:
        member = self.members.get(volume.member_id)
        return member.witness if member is not None and volume.cluster_id else volume.witness

    def _engine_seen(self) -> EngineSeen:
        rows = []
        for m in self.members.values():
            leaving = self.joint is not None and m.member_id == self.joint[0]
            knows = level_of(self.pods[m.ordinal].version) if self.live(m) else 0
            rows.append(
                MemberSeen(
                    m.member_id,
                    m.name,
                    f"{host_of(self.cluster, Settings(), m.ordinal)}:7421",
                    m.voter and not leaving,
                    m.witness,
                    m.incarnation,
                    "leaving" if leaving else m.phase,
                    m.member_id == self.leader_id,
                    0 if self.caught_up(m) else 100_000,
                    self.live(m),
                    knows,
                    self.gate_epoch if self.fence > self.level and self.caught_up(m) else 0,
                )
            )
        return EngineSeen(self.cluster_id, self.epoch, self.term, tuple(rows), self.level, self.fence, self.gate_epoch)

    # --- one pass of the operator ------------------------------------------------------------------------------------

    def look(self) -> Plan:
        return plan(self.cluster, self.observe(), self.now, Settings())

    def do(self, planned: Plan, *, steps_max: int = 1_000) -> list[str]:
        """Writes the status and carries out the first steps; the operator is killed after `steps_max` of them."""
        if sum(step.disruptive for step in planned.steps) > 1 or any(s.disruptive for s in planned.steps[:-1]):
            raise Violation("more than one disruptive step in a plan, or not the last one")
        if planned.status != self.status:
            self.status = planned.status
            self.writes += 1
        done = []
        for step in planned.steps[:steps_max]:
            try:
                self.carry_out(step)
                done.append(type(step).__name__)
                self.log.append(f"{self.now}: {step if step.disruptive else type(step).__name__}")
            except Refused as why:
                done.append(f"refused {type(step).__name__}: {why}")
                self.log.append(f"{self.now}: refused {step}: {why}")
        return done

    def carry_out(self, step: steps.Step) -> None:
        from . import carrying

        carrying.carry_out(self, step)

    def change(self, **parts: Any) -> None:
        """A person edits the spec."""
        whole = {**self.spec.model_dump(by_alias=True), **parts}
        self.spec = LockClusterSpec.model_validate(whole)
        self.generation += 1

    def run(self, seconds: int, *, pause: int = 2) -> None:
        """The operator works for so long."""
        until = self.now + seconds
        while self.now < until:
            self.do(self.look())
            self.advance(pause)

    def settle(self, seconds_max: int = 4_000) -> int:
        """Runs until the plan has nothing to do and says Ready; how long that took. Violation if it does not come."""
        began = self.now
        while self.now - began < seconds_max:
            planned = self.look()
            if not planned.steps and self.truth(planned.status, "Ready") == "True" and planned.status == self.status:
                return self.now - began
            self.do(planned)
            self.advance(2)
        told = "; ".join(f"{c.type}={c.status.value} {c.reason} {c.message}" for c in self.status.conditions)
        raise Violation(f"not settled within {seconds_max} s: {told}\n" + "\n".join(self.log[-30:]))

    @staticmethod
    def truth(status: LockClusterStatus, kind: str) -> str:
        return next((c.status.value for c in status.conditions if c.type == kind), "")

    def reason(self, kind: str) -> str:
        return next((c.reason for c in self.status.conditions if c.type == kind), "")

    def message(self, kind: str) -> str:
        return next((c.message for c in self.status.conditions if c.type == kind), "")

    def shape(self) -> dict[int, str]:
        """Ordinal -> F, W, or what the member is doing."""
        return {
            m.ordinal: ("W" if m.witness else "F") if m.voter and m.phase == "steady" else m.phase
            for m in sorted(self.members.values(), key=lambda m: m.ordinal)
        }

    # --- trouble -----------------------------------------------------------------------------------------------------

    def stop_pod(self, ordinal: int, seconds: int) -> None:
        """Its process is gone for so long; the volume stays."""
        if ordinal in self.pods:
            self.pods[ordinal].stopped_until = self.now + seconds

    def lose_volume(self, ordinal: int) -> None:
        """Claim and pod are deleted by somebody: both come back blank."""
        self.volumes.pop(ordinal, None)
        self.pods.pop(ordinal, None)

    def lose_node(self, ordinal: int) -> None:
        """The node with the local volume is gone for good."""
        if ordinal in self.volumes:
            self.volumes[ordinal].node_gone = True

    def damage(self, ordinal: int) -> None:
        """The data on it is damaged: the member ends with exit code 71 whenever it starts."""
        if ordinal in self.volumes:
            self.volumes[ordinal].damaged = True

    def recreate(self) -> None:
        """The LockCluster is deleted and made anew: volumes stay, status is empty."""
        self.uid, self.generation = self.draw("uid"), 1
        self.status = LockClusterStatus()
        self.objects.clear()
        self.pods.clear()


def world(full: int = 2, witness: int = 1, *, version: str = "0.2.0", **parts: Any) -> World:
    """A world in which nothing has been made yet."""
    spec = {"version": version, "members": {"full": full, "witness": witness}, **parts}
    found = World(LockClusterSpec.model_validate(spec))
    found.found_level = level_of(version)
    return found


def settled(full: int = 2, witness: int = 1, **parts: Any) -> World:
    """A world whose cluster is there, as specified, for a while."""
    found = world(full, witness, **parts)
    found.settle()
    found.run(120)
    return found


def with_status(found: Observed, **changes: Any) -> Observed:
    return replace(found, status=found.status.model_copy(update=changes))
