"""The witness gate (operator.md §4, raft.md §6): opened by stages, and only with every member's report.

(1) all members run a version that knows the level, (2) every member has reported it for STABILIZATION_S, (3) FENCE,
then ACTIVATE once every member holds that very FENCE durably, (4) only then a witness joins or a full member becomes
one. Until FENCE an older binary may come back; until ACTIVATE after a CANCEL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lockmaster_operator.models.lock_cluster import WitnessMode
from lockmaster_operator.models.lock_cluster_status import GateEvidence
from lockmaster_operator.models.timestamps import seconds_at, timestamp_of
from lockmaster_operator.plan.steps import ChangeGate, GateOperation
from lockmaster_operator.plan.versions import level_of
from lockmaster_operator.plan.view import MemberView, View

WITNESS_LEVEL: Final = 2
STABILIZATION_S: Final = 60
"""How long every member must have reported the level, unchanged, before FENCE."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Where the witness gate stands."""

    open: bool
    reason: str
    message: str
    step: ChangeGate | None = None


def evidence(view: View) -> tuple[GateEvidence, ...]:
    """Every member's report, with since when it says so; kept only while the gate waits for reports."""
    if view.engine is None or view.engine.level_active >= WITNESS_LEVEL or not view.cluster.spec.members.witness:
        return ()
    before = {row.member_id: row for row in view.status.gate.evidence}
    return tuple(_row(member, before.get(member.member_id), view.now) for member in view.members)


def _row(member: MemberView, before: GateEvidence | None, now: int) -> GateEvidence:
    report = member.pod.report if member.pod is not None else None
    version = report.version if report is not None else (before.version if before is not None else "")
    same = before is not None and before.level == member.seen.level_max and before.version == version
    since = before.since if before is not None and same else timestamp_of(now)
    return GateEvidence(
        member_id=member.member_id,
        level=member.seen.level_max,
        version=version,
        fence_index=member.seen.fence_index,
        since=since,
    )


def gate(view: View) -> Gate:
    """Whether witnesses are allowed, why not, and the next step towards it."""
    spec, engine = view.cluster.spec, view.engine
    if engine is None:
        level = view.status.gate.level
        return Gate(level >= WITNESS_LEVEL, "Active" if level >= WITNESS_LEVEL else "NotKnown", "no member leads now")
    if engine.level_active >= WITNESS_LEVEL:
        return Gate(True, "Active", f"level {engine.level_active} is active")
    if not spec.members.witness:
        return Gate(False, "NotAskedFor", "members.witness is 0; with a witness the level would be activated")
    if level_of(spec.version) < WITNESS_LEVEL:
        return Gate(False, "VersionTooOld", f"version {spec.version} knows no witnesses; set a newer spec.version")
    low = [member for member in view.members if member.seen.level_max < WITNESS_LEVEL]
    if low:
        return Gate(False, "WaitingForMembers", f"level {WITNESS_LEVEL} is not reported by {_named(view, low)}")
    if spec.witness.mode is WitnessMode.DISABLED:
        return Gate(False, "Disabled", "witness.mode is Disabled: ask by lockmaster gate fence 2, then activate 2")
    if view.unsettled:
        return Gate(False, "WaitingForMembers", f"not now: {view.unsettled}")
    return _stage(view, engine.level_fence, engine.gate_epoch)


def _stage(view: View, fence: int, gate_epoch: int) -> Gate:
    if fence < WITNESS_LEVEL:
        since = max((seconds_at(row.since) for row in evidence(view)), default=view.now)
        if view.now - since < STABILIZATION_S:
            words = f"every member reports level {WITNESS_LEVEL}; FENCE follows after {STABILIZATION_S} s of it"
            return Gate(False, "Stabilizing", words)
        step = ChangeGate(GateOperation.FENCE, WITNESS_LEVEL, gate_epoch, "every member reports the level")
        return Gate(False, "Fencing", f"FENCE of level {WITNESS_LEVEL} is asked for", step)
    open_ = [member for member in view.members if member.seen.fence_index != gate_epoch]
    if open_:
        return Gate(False, "Fencing", f"FENCE stands; not yet durable at {_named(view, open_)}")
    step = ChangeGate(GateOperation.ACTIVATE, WITNESS_LEVEL, gate_epoch, "every member holds the FENCE durably")
    return Gate(False, "Activating", f"ACTIVATE of level {WITNESS_LEVEL} is asked for", step)


def _named(view: View, members: list[MemberView]) -> str:
    """Members with pod, version and level."""
    words = []
    for member in members:
        report = member.pod.report if member.pod is not None else None
        version = f" at {report.version}" if report is not None else ""
        words.append(f"member {member.member_id} ({view.cluster.name}-{member.ordinal}{version})")
    return ", ".join(words)
