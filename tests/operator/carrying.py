"""How the simulated world takes each step: preconditions as Kubernetes and the engine have them, and the laws."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from lockmaster_operator.desired.compare import key_of
from lockmaster_operator.observed import AuthoritySeen, CertificateSeen
from lockmaster_operator.plan import steps
from lockmaster_operator.plan.steps import GateOperation
from lockmaster_operator.plan.versions import level_of
from lockmaster_operator.plan.view import majority

from .world import CHANGE_S, Member, Refused, Violation, Volume, World

if TYPE_CHECKING:
    from collections.abc import Callable


def away(world: World) -> list[int]:
    """Ordinals whose members the operator itself has sent away and that are not back and caught up."""
    return [
        m.ordinal
        for m in world.members.values()
        if (pod := world.pods.get(m.ordinal)) is not None and pod.by_operator and not world.caught_up(m)
    ]


def hold(law: str, kept: bool, world: World) -> None:
    if not kept:
        raise Violation(law + "\n" + "\n".join(world.log[-20:]))


def needs_quiet(world: World, step: object) -> None:
    """Law: never two disruptive steps in flight."""
    hold(f"{step} while a change is open", not world.change_open(), world)
    hold(f"{step} while pods {away(world)} are away", not away(world), world)


def carry_out(world: World, step: steps.Step) -> None:
    """Take one step. Raises Refused or Violation."""
    handlers: dict[type, Callable[[World, steps.Step], None]] = {
        steps.Apply: apply,
        steps.IssueCertificate: issue,
        steps.SpreadAuthorities: spread,
        steps.LabelPod: label,
        steps.ExpandClaim: expand,
        steps.RecreateStatefulSet: recreate_set,
        steps.DeletePod: delete_pod,
        steps.WipeMember: wipe,
        steps.ReplaceVolume: replace_volume,
        steps.Bootstrap: bootstrap,
        steps.AddMember: add,
        steps.RemoveMember: remove,
        steps.ReplaceMember: swap,
        steps.PromoteMember: promote,
        steps.DemoteMember: demote,
        steps.TransferLeadership: transfer,
        steps.ChangeGate: gate,
    }
    handlers[type(step)](world, step)
    if not world.spec.hibernate:
        world._engine()


# --- Kubernetes -----------------------------------------------------------------------------------------------------


def apply(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.Apply)
    world.writes += 1
    body = copy.deepcopy(dict(step.body))
    key = key_of(body)
    before = world.objects.get(key)
    generation = before["metadata"]["generation"] + 1 if before else 1
    body["metadata"] = {**body["metadata"], "generation": generation, "uid": world.draw("o")}
    if before is not None:
        body["metadata"]["uid"] = before["metadata"]["uid"]
        body["status"] = before.get("status", {})
    if key[0] == "StatefulSet":
        if before is not None:
            same = before["spec"]["volumeClaimTemplates"] == body["spec"]["volumeClaimTemplates"]
            hold("claim templates are immutable", same, world)
        needed = {m.ordinal for m in world.members.values() if world.live(m)}
        taken = [n for n in needed if n >= body["spec"]["replicas"]]
        hold(f"replicas take members {taken}", not taken or world.spec.hibernate, world)
    world.objects[key] = body


def issue(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.IssueCertificate)
    wanted = step.wanted
    until = world.now + wanted.lifetime_s
    issuer = step.issuer
    if wanted.issuer_secret:
        there = world.certificates.get(wanted.issuer_secret)
        hold("a leaf before its authority", there is not None and there.issuer == issuer, world)
    else:
        issuer = world.draw("authority") + "\n"
        world.authorities[issuer] = AuthoritySeen(issuer, world.now, until)
    seen = CertificateSeen(wanted.secret, until, wanted.names, issuer)
    world.certificates[wanted.secret] = with_ca(world, seen, issuer + step.beside, step.since)


def spread(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.SpreadAuthorities)
    secret = step.wanted.secret
    world.certificates[secret] = with_ca(world, world.certificates[secret], step.ca, step.since)


def with_ca(world: World, seen: CertificateSeen, ca: str, since: int) -> CertificateSeen:
    found = tuple(one for pem, one in world.authorities.items() if pem in ca)
    return replace(seen, ca=ca, authorities=found, since=since)


def label(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.LabelPod)
    pod = world.pods.get(step.ordinal)
    if pod is None or pod.uid != step.uid:
        raise Refused("another pod")
    pod.labels = (step.role, step.leads)


def expand(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.ExpandClaim)
    volume = world.volumes[step.ordinal]
    volume.size = step.size
    if volume.grows:
        volume.capacity = step.size


def recreate_set(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.RecreateStatefulSet)
    needs_quiet(world, step)
    found = world.objects.get(("StatefulSet", "locks"))
    if found is None or found["metadata"]["uid"] != step.uid:
        raise Refused("another StatefulSet")
    del world.objects[("StatefulSet", "locks")]


def delete_pod(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.DeletePod)
    pod = world.pods.get(step.ordinal)
    if pod is None or pod.uid != step.uid:
        raise Refused("another pod")
    here = [m for m in world.members.values() if m.ordinal == step.ordinal and world.live(m)]
    if here:
        needs_quiet(world, step)
        enough = world.margin() >= 1 or len(world.voters()) <= 2
        hold(f"{step} at margin {world.margin()}", enough, world)
        hold(f"{step} takes the leader", all(m.member_id != world.leader_id for m in here), world)
        behind = [m.member_id for m in world.voters() if not world.caught_up(m)]
        hold(f"{step} while {behind} are not caught up", not behind, world)
    del world.pods[step.ordinal]
    world._controllers()
    if step.ordinal in world.pods:
        world.pods[step.ordinal].by_operator = bool(here)


def wipe(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.WipeMember)
    pod, volume = world.pods.get(step.ordinal), world.volumes.get(step.ordinal)
    if pod is None or volume is None or pod.uid != step.uid or volume.incarnation != step.incarnation:
        raise Refused("another directory")
    hold(f"{step} of a member's volume", volume.member_id not in world.members or not volume.cluster_id, world)
    hold(f"{step} of another cluster's volume", volume.cluster_id in ("", world.cluster_id), world)
    roles = world.objects[("ConfigMap", "locks-members")]["data"]
    witness = roles[f"role-{step.ordinal}"] == "witness"
    world.volumes[step.ordinal] = Volume(volume.uid, world.draw("dir"), witness, size=volume.size)
    pod.started = world.now


def replace_volume(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.ReplaceVolume)
    volume, pod = world.volumes.get(step.ordinal), world.pods.get(step.ordinal)
    if volume is None or volume.uid != step.claim_uid or (pod is not None and pod.uid != step.pod_uid):
        raise Refused("another claim or pod")
    hold(f"{step} of a volume that may come back", volume.node_gone or volume.damaged, world)
    hold(f"{step} without a quorum", world.margin() >= 0, world)
    copies = [m for m in world.full_voters() if world.caught_up(m) and m.ordinal != step.ordinal]
    hold(f"{step} of the last copy", bool(copies), world)
    world.lose_volume(step.ordinal)


# --- the engine -----------------------------------------------------------------------------------------------------


def leads(world: World, epoch: int | None = None) -> None:
    world._engine()
    if not world.leader_id:
        raise Refused("no leader")
    if epoch is not None and epoch != world.epoch:
        raise Refused(f"epoch is {world.epoch}, not {epoch}")
    if epoch is not None and world.change_open():
        raise Refused("another change runs")


def legal(world: World, after: list[Member]) -> None:
    """As why_not_voters of the core."""
    full = sum(1 for m in after if not m.witness)
    if full < min(2, len(world.full_voters())) or (full < len(after) and full < majority(len(after))):
        raise Refused("too few full voters would be left")
    if sum(world.live(m) for m in after) < majority(len(after)):
        raise Refused("the voters left would have no live quorum")


def bootstrap(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.Bootstrap)
    hold("the cluster's id is in status before Bootstrap", world.status.cluster_id == step.cluster_id, world)
    with_data = [n for n, v in world.volumes.items() if v.cluster_id]
    if world.cluster_id == step.cluster_id and world.volumes[step.ordinal].member_id == 1:
        return
    hold(f"founded beside data at {with_data}", not with_data, world)
    if not world.runs(step.ordinal):
        raise Refused("does not answer")
    volume = world.volumes[step.ordinal]
    volume.cluster_id, volume.member_id = step.cluster_id, 1
    world.cluster_id, world.epoch, world.next_id = step.cluster_id, 1, 2
    world.level = world.fence = world.found_level
    world.members = {1: Member(1, f"locks-{step.ordinal}", step.ordinal, volume.incarnation, False, True, True)}


def add(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.AddMember)
    if any(m.incarnation == step.incarnation for m in world.members.values()):
        return
    leads(world, step.expected_epoch)
    hold(f"{step}: the name is taken", all(m.name != step.name for m in world.members.values()), world)
    if step.witness and world.level < 2:
        raise Violation(f"{step} below the witness level")
    if step.level_max < max(world.level, world.fence):
        raise Refused("it knows too low a level")
    volume = world.volumes.get(step.ordinal)
    if volume is None or not world.runs(step.ordinal) or volume.incarnation != step.incarnation:
        raise Refused("it does not answer")
    member_id = world.next_id
    world.next_id += 1
    world.epoch += 1
    volume.cluster_id, volume.member_id = world.cluster_id, member_id
    world.members[member_id] = Member(
        member_id, step.name, step.ordinal, step.incarnation, step.witness, False, not step.learner
    )


def remove(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.RemoveMember)
    leads(world, step.expected_epoch)
    member = world.members[step.member_id]
    if member.voter:
        if world.live(member):
            needs_quiet(world, step)
            hold(f"{step} at margin {world.margin()}", world.margin() >= 1, world)
        legal(world, [m for m in world.voters() if m.member_id != step.member_id])
    hold(f"{step} of the leader", step.member_id != world.leader_id, world)
    del world.members[step.member_id]
    world.epoch += 1


def swap(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.ReplaceMember)
    leads(world, step.expected_epoch)
    old, new = world.members[step.old_id], world.members[step.new_id]
    hold(f"{step} of a member that lives", not world.live(old), world)
    if world.level < 2:
        raise Violation(f"{step} below the level of joint changes")
    if not world.caught_up(new) or old.witness is not new.witness or new.voter:
        raise Refused("not caught up, or another role")
    legal(world, [*(m for m in world.voters() if m.member_id != old.member_id), new])
    new.voter, new.auto = True, True
    world.joint, world.epoch = (old.member_id, new.member_id, world.now + 2), world.epoch + 1


def promote(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.PromoteMember)
    leads(world, step.expected_epoch)
    member = world.members[step.member_id]
    if not member.witness or not member.voter or not world.live(member):
        raise Refused("not a live witness")
    member.phase, member.phase_until, world.epoch = "promoting", world.now + CHANGE_S, world.epoch + 1


def demote(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.DemoteMember)
    leads(world, step.expected_epoch)
    needs_quiet(world, step)
    member = world.members[step.member_id]
    hold(f"{step} of the leader", step.member_id != world.leader_id, world)
    hold(f"{step} with a full member away", all(world.caught_up(m) for m in world.full_voters()), world)
    hold(f"{step} below the witness level", world.level >= 2, world)
    full, voters = len(world.full_voters()) - 1, len(world.voters())
    if full < 2 or full < majority(voters) or member.witness:
        raise Refused("too few full voters would be left")
    member.phase, member.phase_until, world.epoch = "demoting", world.now + CHANGE_S, world.epoch + 1


def transfer(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.TransferLeadership)
    leads(world)
    if step.expected_term != world.term:
        raise Refused(f"the term is {world.term}, not {step.expected_term}")
    needs_quiet(world, step)
    target = world.members.get(step.target)
    if target is None or target.witness or not target.voter or not world.caught_up(target):
        raise Refused("not a caught-up full voter")
    world.elect(step.target)


def gate(world: World, step: steps.Step) -> None:
    assert isinstance(step, steps.ChangeGate)
    leads(world)
    if step.expected_epoch != world.gate_epoch:
        raise Refused("the gate's epoch is another")
    members = world.members.values()
    if step.operation is GateOperation.FENCE:
        for m in members:
            known = level_of(world.pods[m.ordinal].version) if world.live(m) else 0
            hold(f"{step} though member {m.member_id} reports {known}", known >= step.level, world)
        world.fence = step.level
    elif step.operation is GateOperation.ACTIVATE:
        hold(f"{step} without a FENCE", world.fence == step.level > world.level, world)
        hold(f"{step} before every member holds it", all(world.caught_up(m) for m in members), world)
        world.level = step.level
    elif step.operation is GateOperation.CANCEL:
        hold(f"{step} after ACTIVATE", world.level < world.fence, world)
        world.fence = world.level
    else:
        hold(f"{step} beside witnesses", not any(m.witness or m.phase != "steady" for m in members), world)
        world.level = world.fence = step.level - 1
    world.gate_epoch += 10
