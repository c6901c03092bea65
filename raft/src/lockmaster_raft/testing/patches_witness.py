"""Mutants of witnesses, promotion, joint changes and leases: the adversarial lists of reference/witness-rifl.md."""

from __future__ import annotations

from typing import Final

from lockmaster_raft.testing.mutants import Edit, Mutant

CORE: Final = "lockmaster_raft/"
TESTS: Final = "pytest -q -x -p no:cacheprovider tests/raft/test_"
"""The rule's own tests are the search."""


def _mutant(name: str, source: str, file: str, find: str, replace: str, directed: str = "") -> Mutant:
    return Mutant(name, source, (Edit(CORE + file, find, replace),), directed)


WITNESS_MUTANTS: Final = (
    _mutant(
        "witness_truncates_at_its_commit_index",
        "I6, WR 3.1",
        "witness.py",
        "    ceiling = min(core.covered, core.commit_index, log.last_index - 1)",
        "    ceiling = min(core.commit_index, log.last_index - 1)",
    ),
    _mutant(
        "coverage_counts_only_full_voters_that_answer",
        "I6",
        "coverage.py",
        "            lowest = min(lowest, proved(core, member.member_id))\n    return Index(lowest)",
        "            lowest = min(lowest, proved(core, member.member_id) or lowest)\n    return Index(lowest)",
    ),
    _mutant(
        "coverage_of_an_earlier_term_still_counts",
        "I6",
        "core.py",
        "            self.covered = Index(0)\n",
        "            pass\n",
        TESTS + "witness.py",
    ),
    _mutant(
        "full_voter_admitted_below_a_witness_s_log",
        "I6",
        "coverage.py",
        "            if have < need:\n",
        "            if have < 0:\n",
        TESTS + "witness.py",
    ),
    _mutant(
        "full_replica_votes_for_an_equal_witness",
        "I3",
        "election.py",
        "        return theirs > ours\n",
        "        return theirs >= ours\n",
        TESTS + "witness.py",
    ),
    _mutant(
        "witness_campaigns_as_soon_as_a_full_replica",
        "I3",
        "core.py",
        "            self.patience = 1 if self.full_here else 2\n",
        "            self.patience = 1\n",
        TESTS + "witness.py",
    ),
    _mutant(
        "witness_never_campaigns",
        "WR 3.1: stuck",
        "core.py",
        "            self.patience = 1 if self.full_here else 2\n",
        "            self.patience = 1 if self.full_here else 0\n",
        TESTS + "witness.py",
    ),
    _mutant(
        "witness_campaigns_against_an_equal_full_replica",
        "I3",
        "election.py",
        "    return member is not None and member.is_full and theirs >= ours\n",
        "    return False\n",
        TESTS + "witness.py",
    ),
    _mutant(
        "caretaker_takes_proposals",
        "I4",
        "core.py",
        "        return self.role is LEADER and not self.full_here\n",
        "        return False\n",
    ),
    _mutant(
        "caretaker_never_gives_up",
        "I4",
        "roles.py",
        "CARETAKER_TIMEOUTS: Final = 4\n",
        "CARETAKER_TIMEOUTS: Final = 4000\n",
        TESTS + "witness.py",
    ),
    _mutant(
        "state_dropped_and_adopted_by_what_is_only_appended",
        "I9, WR 3.5",
        "side.py",
        "    own = core.committed_configuration.member(core.node_id)\n",
        "    own = core.configuration.member(core.node_id)\n",
        TESTS + "promotion.py",
    ),
    _mutant(
        "privileges_start_with_the_append",
        "I9",
        "core.py",
        "committed is not None and _held_back(committed))\n",
        "committed is None)\n",
        TESTS + "promotion.py",
    ),
    _mutant(
        "side_state_of_another_epoch_is_believed",
        "WR 3.5",
        "role_changes.py",
        "p.ready_epoch == core.configuration.epoch",
        "p.ready_epoch > 0",
        TESTS + "promotion.py",
    ),
    _mutant(
        "snapshot_from_before_p1_is_taken",
        "WR 3.5",
        "side.py",
        "    return m.last_index >= max(side.snapshot_min, core.log.base.index)\n",
        "    return True\n",
        TESTS + "promotion.py",
    ),
    _mutant(
        "p4_without_sm_ready",
        "P3",
        "role_changes.py",
        "    if ready and _behind(core, p) is None and",
        "    if _behind(core, p) is None and",
        TESTS + "promotion.py",
    ),
    _mutant(
        "promotion_source_truncates_meanwhile",
        "raft.md §4",
        "snapshot.py",
        "    if not core.full_here or _promotion_runs(core):\n",
        "    if not core.full_here:\n",
        TESTS + "promotion.py",
    ),
    _mutant(
        "full_members_truncate_freely_beside_a_witness",
        "found here, seed 303",
        "snapshot.py",
        "    if core.guarded:\n        ceiling",
        "    if False:\n        ceiling",
        TESTS + "witness.py",
    ),
    _mutant(
        "demoting_leader_keeps_its_state_to_itself",
        "found here, seed 165",
        "snapshot.py",
        "    if not core.holds_state:  # I4\n",
        "    if core.is_caretaker:\n",
        TESTS + "demotion.py",
    ),
    _mutant(
        "log_of_a_former_full_member_is_pressure",
        "raft.md §4",
        "witness.py",
        "        0 if was_full else core.log",
        "        core.log",
        TESTS + "demotion.py",
    ),
    _mutant(
        "joint_change_left_before_it_is_committed",
        "row 46",
        "members.py",
        "    if core.log.configuration_index > core.commit_index:\n",
        "    if core.log.configuration_index > core.commit_index and not core.configuration.outgoing:\n",
    ),
    _mutant(
        "joint_change_decided_by_the_new_voters_alone",
        "§4.3",
        "quorum.py",
        "    return min(new, majority_value([values.get(v, 0) for v in outgoing]))\n",
        "    return new\n",
        TESTS + "promotion.py",
    ),
    _mutant(
        "reduced_commits_while_a_change_is_open",
        "raft.md §5",
        "core.py",
        "        if self.configuration.reduced_commit and self.log.configuration_index <= self.commit_index:\n",
        "        if self.configuration.reduced_commit:\n",
        TESTS + "promotion.py",
    ),
    _mutant(
        "reduced_group_changes_voters_in_one_step",
        "I11",
        "members.py",
        "    if before.reduced_commit and before.voter_ids != after.voter_ids:\n",
        "    if False:\n",
        TESTS + "promotion.py",
    ),
    _mutant(
        "demotion_leaves_one_full_voter",
        "I8",
        "role_changes.py",
        "    least = max(2, configuration.full_min, majority(len(configuration.voter_ids)))\n",
        "    least = 1\n",
        TESTS + "promotion.py",
    ),
    _mutant(
        "lease_counts_from_the_ack",
        "row 80",
        "lease.py",
        "    p.lease_until = max(p.lease_until, m.sent_at + promise)\n",
        "    p.lease_until = max(p.lease_until, core.now + promise)\n",
        TESTS + "reads.py",
    ),
    _mutant(
        "lease_survives_a_transfer",
        "row 82",
        "lease.py",
        "    if core.transfer is not None or core.lease_bar is not None:\n",
        "    if False:\n",
        TESTS + "reads.py",
    ),
    _mutant(
        "lease_without_the_drift_margin",
        "row 80",
        "lease.py",
        "    promise = told - told * core.config.drift_ppm_max // 1_000_000\n",
        "    promise = told\n",
        TESTS + "reads.py",
    ),
    _mutant(
        "age_without_the_drift_margin",
        "raft.md §2",
        "node.py",
        "        return -(-counted * 1_000_000 // (1_000_000 - core.config.drift_ppm_max))\n",
        "        return counted\n",
        TESTS + "reads.py",
    ),
    _mutant(
        "age_counts_from_the_answer",
        "raft.md §2",
        "reads.py",
        "        reads.coming = (reads.attempt_at, m.index)\n",
        "        reads.coming = (core.now, m.index)\n",
    ),
)
"""Those with `directed` are searched by the rule's own tests, the others by seeds."""
