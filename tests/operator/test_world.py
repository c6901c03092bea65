"""Whole stories in the simulated world: what the plan leads to, one story per rule of operator.md."""

from __future__ import annotations

import pytest
from lockmaster_operator.plan import steps

from .world import Violation, World, settled, world

SHAPES = [(2, 1), (3, 0), (3, 2), (5, 0), (4, 1)]


def shape_of(full: int, witness: int) -> dict[int, str]:
    return {n: "F" if n < full else "W" for n in range(full + witness)}


def kinds(found: World, since: int = 0) -> list[str]:
    """Kinds of the disruptive steps that were taken, in order."""
    lines = [line.split(": ", 1)[1] for line in found.log[since:]]
    return [line.split("(")[0] for line in lines if "(" in line and not line.startswith("refused")]


def ids(found: World) -> dict[int, int]:
    return {m.ordinal: m.member_id for m in found.members.values()}


@pytest.mark.parametrize(("full", "witness"), SHAPES)
def test_a_new_cluster_forms(full: int, witness: int) -> None:
    found = world(full, witness)
    assert found.settle() <= 120
    assert found.shape() == shape_of(full, witness)
    assert found.status.full_copies == full
    assert found.status.quorum_margin == (full + witness - 1) // 2


@pytest.mark.parametrize("there", SHAPES)
@pytest.mark.parametrize("wanted", SHAPES)
def test_every_shape_is_reached_from_every_other(there: tuple[int, int], wanted: tuple[int, int]) -> None:
    found = settled(*there)
    found.change(members={"full": wanted[0], "witness": wanted[1]})
    found.settle()
    assert found.shape() == shape_of(*wanted)
    assert sorted(found.pods) == list(range(sum(wanted)))


def test_a_shape_that_changes_while_it_is_being_reached_is_left_for_the_last_one() -> None:
    found = settled(3, 0)
    for full, witness in ((5, 0), (3, 2), (2, 1), (5, 0), (3, 0)):
        found.change(members={"full": full, "witness": witness})
        found.run(25)
    found.settle()
    assert found.shape() == shape_of(3, 0)


def test_scaled_in_and_out_again_a_reused_volume_is_begun_blank_under_a_new_id() -> None:
    found = settled(5, 0)
    before = ids(found)
    found.change(members={"full": 3, "witness": 0})
    found.settle()
    assert found.volumes[4].member_id == before[4]
    found.change(members={"full": 5, "witness": 0})
    found.settle()
    assert "WipeMember" in kinds(found)
    assert min(ids(found)[3], ids(found)[4]) > max(before.values())


def test_a_full_member_that_is_down_for_less_than_promote_after_changes_nothing() -> None:
    found = settled()
    before = len(found.log)
    found.stop_pod(1, 55)
    found.run(90)
    assert kinds(found, before) == []
    assert found.shape() == shape_of(2, 1)


def test_a_witness_is_promoted_and_the_shape_restored_when_the_full_member_is_back() -> None:
    found = settled()
    before = len(found.log)
    found.stop_pod(1, 900)
    found.run(40)
    assert found.reason("Degraded") == "MemberUnreachable"
    assert (found.status.full_copies, found.status.quorum_margin) == (1, 0)
    budget = found.objects[("PodDisruptionBudget", "locks")]["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (0, "AlwaysAllow")
    found.run(60)
    assert kinds(found, before) == ["PromoteMember"]
    assert found.shape() == {0: "F", 1: "F", 2: "F"}
    assert (found.status.full_copies, found.status.quorum_margin) == (2, 0)
    found.run(1_000)
    found.settle()
    assert kinds(found, before) == ["PromoteMember", "DemoteMember"]
    assert found.shape() == shape_of(2, 1)
    assert found.objects[("PodDisruptionBudget", "locks")]["spec"]["maxUnavailable"] == 1


def test_the_promoted_one_hands_over_before_it_steps_back() -> None:
    found = settled()
    found.stop_pod(1, 300)
    found.run(120)
    found.stop_pod(0, 10)
    found.run(500)
    found.settle()
    assert found.shape() == shape_of(2, 1)


def test_while_nobody_leads_it_looks_again_soon_for_no_event_tells_of_the_new_leader() -> None:
    """Seen on the bed: 30 s until the next look after a leader was killed, so the leader's backstop was faster."""
    found = settled()
    assert found.look().requeue_after_s > 10
    for ordinal in (1, 2):
        found.stop_pod(ordinal, 60)
    found.advance(1)
    found.do(found.look())
    assert found.reason("QuorumAvailable") == "NoLeader"
    assert found.look().requeue_after_s <= 2
    found.change(hibernate=True)
    found.run(60)
    assert found.look().requeue_after_s > 10


def test_a_nearly_full_disk_degrades_and_under_the_leader_it_is_not_ready() -> None:
    found = settled()
    found.volumes[1].nearly_full = True
    found.run(60)
    assert (found.reason("Degraded"), found.reason("Ready")) == ("DiskNearlyFull", "AsSpecified")
    found.volumes[0].nearly_full = True
    found.run(60)
    assert (found.reason("Degraded"), found.reason("Ready")) == ("DiskNearlyFull", "DiskNearlyFull")
    assert found.truth(found.status, "Ready") == "False"
    writes = found.writes
    found.run(60)
    assert found.writes == writes
    for volume in found.volumes.values():
        volume.nearly_full = False
    found.settle()
    assert found.reason("Degraded") == "AsIntended"


def test_flapping_brings_at_most_one_role_change_per_cool_down() -> None:
    found = settled()
    before = len(found.log)
    for _ in range(20):
        found.stop_pod(1, 70)
        found.run(85)
    changes = kinds(found, before)
    assert set(changes) <= {"PromoteMember", "DemoteMember"}
    assert len(changes) <= 1 + (20 * 85) // 600


def test_with_mode_disabled_nobody_is_promoted() -> None:
    found = settled()
    found.change(witness={"mode": "Disabled"})
    found.settle()
    before = len(found.log)
    found.stop_pod(1, 500)
    found.run(400)
    assert kinds(found, before) == []


def test_a_lost_volume_is_replaced_in_place_with_a_new_id_by_one_joint_change() -> None:
    found = settled()
    old = ids(found)[1]
    before = len(found.log)
    found.lose_volume(1)
    found.settle()
    assert kinds(found, before) == ["AddMember", "ReplaceMember"]
    assert found.shape() == shape_of(2, 1)
    assert ids(found)[1] > max(old, 3)


def test_a_lost_witness_is_replaced_and_no_role_changes() -> None:
    found = settled()
    before = len(found.log)
    found.lose_volume(2)
    found.settle()
    assert kinds(found, before) == ["AddMember", "ReplaceMember"]
    assert found.shape() == shape_of(2, 1)


def test_a_node_that_is_gone_with_its_volume_is_given_up_after_promote_after() -> None:
    found = settled()
    before = len(found.log)
    found.lose_node(1)
    found.run(50)
    assert kinds(found, before) == []
    found.settle()
    assert kinds(found, before)[:1] == ["ReplaceVolume"]
    assert "ReplaceMember" in kinds(found, before)
    assert found.shape() == shape_of(2, 1)


def test_damaged_data_is_replaced_in_place() -> None:
    found = settled(3, 0)
    before = len(found.log)
    found.damage(2)
    found.settle()
    assert kinds(found, before) == ["ReplaceVolume", "AddMember", "ReplaceMember"]


def test_damaged_data_is_left_alone_while_the_quorum_does_not_stand() -> None:
    found = settled(3, 0)
    before = len(found.log)
    for ordinal in (1, 2):
        found.damage(ordinal)
    found.run(600)
    assert kinds(found, before) == []
    assert found.reason("QuorumAvailable") == "QuorumLost"


def test_a_majority_lost_for_good_is_left_to_a_person() -> None:
    found = settled()
    before = len(found.log)
    found.lose_volume(1)
    found.lose_volume(2)
    found.run(1_000)
    assert kinds(found, before) == []
    assert found.reason("QuorumAvailable") == "QuorumLost"
    assert found.truth(found.status, "Ready") == "False"


def test_an_operator_that_reaches_nobody_changes_nothing_and_says_unknown() -> None:
    found = settled()
    before, budget = len(found.log), found.objects[("PodDisruptionBudget", "locks")]["spec"]
    found.cut_off = True
    found.run(1_000)
    assert found.log[before:] == []
    assert found.truth(found.status, "QuorumAvailable") == "Unknown"
    assert found.objects[("PodDisruptionBudget", "locks")]["spec"] == budget


def test_an_idle_cluster_is_not_written_to() -> None:
    found = settled()
    writes = found.writes
    found.run(3_600, pause=30)
    assert found.writes == writes


def test_a_roll_takes_followers_first_and_the_leader_last_after_a_transfer() -> None:
    found = settled()
    assert found.leader_id == 1
    before = len(found.log)
    found.change(resources={"requests": {"cpu": "500m"}})
    found.settle()
    rolled = [line for line in found.log[before:] if "DeletePod" in line or "Transfer" in line]
    assert [line.split("ordinal=")[1][0] if "ordinal" in line else "T" for line in rolled] == ["2", "1", "T", "0"]


def test_an_upgrade_goes_through_and_is_done_once() -> None:
    found = settled()
    found.change(version="0.3.0")
    found.settle()
    assert {pod.version for pod in found.pods.values()} == {"0.3.0"}
    assert found.status.version == "0.3.0"


def test_an_upgrade_that_is_paused_goes_on_where_it_was_and_one_that_is_taken_back_turns_round() -> None:
    found = settled()
    found.change(version="0.3.0")
    while sum(pod.version == "0.3.0" for pod in found.pods.values()) == 0:
        found.run(2)
    found.change(paused=True)
    before = len(found.log)
    found.run(200)
    assert found.log[before:] == []
    assert sum(pod.version == "0.3.0" for pod in found.pods.values()) == 1
    found.change(paused=False, version="0.2.0")
    found.settle()
    assert kinds(found, before).count("DeletePod") == 1
    assert {pod.version for pod in found.pods.values()} == {"0.2.0"}
    found.change(version="0.3.0")
    found.settle()
    assert {pod.version for pod in found.pods.values()} == {"0.3.0"}


def test_an_upgrade_stops_after_one_pod_whose_image_does_not_start_and_heals_with_the_old_one() -> None:
    found = settled()
    found.bad_images.add("0.3.0")
    before = len(found.log)
    found.change(version="0.3.0")
    found.run(300)
    assert kinds(found, before).count("DeletePod") == 1
    assert found.reason("Degraded") in ("MemberUnreachable", "PodFailing")
    found.change(version="0.2.0")
    found.settle()
    assert found.shape() == shape_of(2, 1)
    assert {pod.version for pod in found.pods.values()} == {"0.2.0"}


def test_a_bad_image_at_the_very_start_is_healed_by_a_good_one() -> None:
    found = world(version="0.3.0")
    found.bad_images.add("0.3.0")
    found.run(60)
    found.change(version="0.2.0")
    found.settle()
    assert found.shape() == shape_of(2, 1)


def test_an_upgrade_that_skips_a_version_is_not_started() -> None:
    found = settled()
    before = len(found.log)
    found.change(version="0.4.0")
    found.run(300)
    assert kinds(found, before) == []
    assert found.reason("UpgradeBlocked") == "VersionSkipped"
    image = found.objects[("StatefulSet", "locks")]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.endswith(":0.2.0")


def test_an_upgrade_waits_for_the_maintenance_window() -> None:
    found = settled(maintenanceWindow={"start": "00:00", "duration": "1h"})
    assert found.now % 86_400 > 3_600
    before = len(found.log)
    found.change(version="0.3.0")
    found.run(600)
    assert kinds(found, before) == []
    assert found.reason("UpgradeBlocked") == "Waiting"
    found.advance(86_400 - found.now % 86_400)
    found.settle()
    assert found.status.version == "0.3.0"


def old_cluster() -> World:
    """Three full members of 0.1.0, where there are no witnesses."""
    return settled(3, 0, version="0.1.0")


def test_the_witness_gate_opens_by_stages_after_the_upgrade_and_only_then_a_witness_comes() -> None:
    found = old_cluster()
    assert found.level == 1
    found.change(members={"full": 2, "witness": 1})
    found.run(200)
    assert found.shape() == shape_of(3, 0)
    assert found.reason("WitnessGate") == "VersionTooOld"
    before = len(found.log)
    found.change(version="0.2.0")
    found.settle()
    assert found.shape() == shape_of(2, 1)
    steps_taken = kinds(found, before)
    assert steps_taken.count("ChangeGate") == 2
    first = steps_taken.index("ChangeGate")
    assert "DeletePod" not in steps_taken[first:]
    assert steps_taken[-1] == "DemoteMember"


def test_the_gate_stays_closed_while_one_member_does_not_report_and_names_it() -> None:
    found = old_cluster()
    found.change(version="0.2.0")
    found.settle()
    found.change(members={"full": 2, "witness": 1})
    found.run(10)
    found.stop_pod(2, 400)
    found.run(300)
    assert (found.level, found.fence) == (1, 1)
    told = next(c for c in found.status.conditions if c.type == "WitnessGate")
    assert told.reason == "WaitingForMembers"
    assert "locks-2" in told.message
    assert {row.member_id: row.level for row in found.status.gate.evidence} == {1: 2, 2: 2, 3: 0}


def test_the_gate_is_not_opened_before_the_stabilization_time() -> None:
    found = old_cluster()
    found.change(version="0.2.0")
    found.settle()
    found.change(members={"full": 2, "witness": 1})
    found.run(58)
    assert found.fence == 1
    found.run(20)
    assert found.fence == 2


def test_a_rollback_before_the_fence_is_free() -> None:
    found = old_cluster()
    found.change(version="0.2.0")
    found.settle()
    found.change(version="0.1.0")
    found.settle()
    assert {pod.version for pod in found.pods.values()} == {"0.1.0"}


def test_a_rollback_before_any_fence_is_in_nobodys_way() -> None:
    """Members of 0.1.0 do not say what their logs need: their own binary has opened them."""
    found = old_cluster()
    found.change(version="0.2.0")
    found.settle()
    before = len(found.log)
    found.change(version="0.1.0")
    while {pod.version for pod in found.pods.values()} != {"0.1.0"}:
        found.run(2)
        assert found.reason("UpgradeBlocked") != "LogHoldsLevel"
    found.settle()
    assert "ChangeGate" not in kinds(found, before)


@pytest.mark.parametrize(
    ("floor", "words"),
    [
        (2, "the logs of locks-0, locks-1, locks-2 still need a newer binary than level 1"),
        (0, "locks-0, locks-1, locks-2 can't tell what the log needs: too old a version for that"),
    ],
)
def test_a_rollback_waits_while_a_log_needs_the_newer_binary_or_a_member_can_not_tell(floor: int, words: str) -> None:
    found = old_cluster()
    found.change(version="0.2.0")
    found.settle()
    found.told_floor = floor
    found.change(version="0.1.0")
    found.run(120)
    assert (found.reason("UpgradeBlocked"), found.message("UpgradeBlocked")) == ("LogHoldsLevel", words)
    assert {pod.version for pod in found.pods.values()} == {"0.2.0"}
    found.told_floor = None
    found.settle()
    assert {pod.version for pod in found.pods.values()} == {"0.1.0"}


def test_a_rollback_while_the_fence_stands_cancels_it_first() -> None:
    found = old_cluster()
    found.change(version="0.2.0")
    found.settle()
    found.change(members={"full": 2, "witness": 1})
    while found.fence == 1:
        found.run(1, pause=1)
    found.change(version="0.1.0", members={"full": 3, "witness": 0})
    found.settle()
    assert found.fence == 1
    assert {pod.version for pod in found.pods.values()} == {"0.1.0"}


def test_a_rollback_behind_the_gate_is_refused_with_the_way_out_and_works_once_no_witness_is_left() -> None:
    found = old_cluster()
    found.change(version="0.2.0")
    found.settle()
    found.change(members={"full": 2, "witness": 1})
    found.settle()
    before = len(found.log)
    found.change(version="0.1.0")
    found.run(300)
    assert kinds(found, before) == []
    told = next(c for c in found.status.conditions if c.type == "UpgradeBlocked")
    assert (told.reason, "set members.witness to 0" in told.message) == ("WitnessActive", True)
    found.change(members={"full": 3, "witness": 0})
    found.settle()
    assert found.level == 1
    assert {pod.version for pod in found.pods.values()} == {"0.1.0"}


def test_a_lost_volume_below_the_level_of_joint_changes_is_removed_first() -> None:
    found = old_cluster()
    before = len(found.log)
    found.lose_volume(2)
    found.settle()
    assert kinds(found, before) == ["RemoveMember", "AddMember"]


def test_a_lockcluster_made_anew_takes_the_volumes_over() -> None:
    found = settled()
    before, cluster_id = ids(found), found.cluster_id
    found.recreate()
    found.settle()
    assert (ids(found), found.status.cluster_id) == (before, cluster_id)
    assert kinds(found).count("Bootstrap") == 1


def test_nothing_is_founded_while_one_volume_has_not_answered() -> None:
    found = settled()
    found.recreate()
    found.bad_images.add("0.2.0")
    found.run(30)
    assert found.reason("Ready") == "WaitingForPods"
    assert kinds(found).count("Bootstrap") == 1


def test_volumes_of_another_cluster_are_left_alone() -> None:
    found = world()
    found.run(4)
    found.volumes[1].cluster_id, found.volumes[1].member_id = "f" * 32, 2
    found.volumes[2].cluster_id, found.volumes[2].member_id = "e" * 32, 3
    found.run(120)
    assert kinds(found) == []
    assert found.reason("Ready") == "ForeignVolumes"


def test_hibernation_takes_all_pods_and_gives_the_same_members_back() -> None:
    found = settled(3, 2)
    before = ids(found)
    found.change(hibernate=True)
    found.run(60)
    assert found.pods == {}
    assert found.reason("Progressing") == "Hibernated"
    assert found.truth(found.status, "QuorumAvailable") == "Unknown"
    found.change(hibernate=False)
    found.settle()
    assert ids(found) == before


def test_paused_changes_nothing_and_says_so() -> None:
    found = settled()
    before = len(found.log)
    found.change(paused=True, version="0.3.0")
    found.stop_pod(1, 300)
    found.run(200)
    assert found.log[before:] == []
    assert found.truth(found.status, "Paused") == "True"
    assert found.truth(found.status, "Ready") == "False"


def test_replicas_that_somebody_lowered_by_hand_are_put_back() -> None:
    found = settled(3, 0)
    found.objects[("StatefulSet", "locks")]["spec"]["replicas"] = 2
    found.run(20)
    found.settle()
    assert sorted(found.pods) == [0, 1, 2]


def test_an_object_of_somebody_else_is_not_taken_over() -> None:
    found = world()
    theirs = {"kind": "Service", "metadata": {"name": "locks", "generation": 1, "uid": "x"}, "spec": {"a": 1}}
    found.objects[("Service", "locks")] = theirs
    found.run(60)
    assert found.objects[("Service", "locks")] is theirs
    assert found.reason("Degraded") == "NameTaken"


def test_the_client_service_selects_full_members_and_the_leader_service_the_leader() -> None:
    found = settled()
    labels = {n: pod.labels for n, pod in found.pods.items()}
    assert labels == {0: ("full", True), 1: ("full", False), 2: ("witness", False)}


def story(found: World) -> World:
    """Much of what a cluster goes through."""
    found.settle()
    found.change(members={"full": 3, "witness": 2})
    found.settle()
    found.change(version="0.3.0")
    found.settle()
    found.lose_volume(1)
    found.settle()
    found.change(members={"full": 2, "witness": 1})
    found.settle()
    return found


@pytest.mark.parametrize("every", [2, 3, 5])
def test_an_operator_that_is_killed_again_and_again_comes_to_the_same(every: int) -> None:
    """Killed in every n-th pass: before its step, and in the next such pass after it but before anything else."""
    found = world()
    count = 0
    whole = found.do

    def killed(planned: object, *, steps_max: int = 1_000) -> list[str]:
        nonlocal count
        count += 1
        assert hasattr(planned, "steps")
        limit = steps_max if count % every else (count // every) % (len(planned.steps) + 1)
        return whole(planned, steps_max=limit)  # type: ignore[arg-type] # the plan goes through as it is

    found.do = killed  # type: ignore[method-assign] # the operator of this world is one that is killed
    assert story(found).shape() == shape_of(2, 1)


def test_a_late_step_of_an_old_operator_is_refused_by_its_epoch() -> None:
    found = settled()
    found.stop_pod(1, 900)
    while not isinstance((planned := found.look()).disruptive, steps.PromoteMember):
        found.do(planned)
        found.advance(2)
    late = planned
    found.do(planned)
    found.run(30)
    assert any("refused" in line for line in found.do(late))


def test_a_late_transfer_of_an_old_operator_takes_nothing_from_a_later_leader() -> None:
    found = settled()
    found.change(resources={"requests": {"cpu": "500m"}})
    while not isinstance((late := found.look()).disruptive, steps.TransferLeadership):
        found.do(late)
        found.advance(2)
    found.do(late)
    found.settle()
    found.elect(1)
    assert found.do(late)[-1].startswith("refused TransferLeadership")
    assert found.leader_id == 1


def test_the_world_notices_a_broken_law() -> None:
    found = settled()
    pod = found.pods[1]
    found.stop_pod(2, 60)
    found.advance(1)
    with pytest.raises(Violation, match="at margin 0"):
        found.carry_out(steps.DeletePod(1, pod.uid, "nothing"))
