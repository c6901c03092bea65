"""The table of mutants: one small patch each. Rows are those of reference/raft-bugs.md, rules those of the design."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lockmaster_raft.testing.mutants import CORE, PYTEST, Edit, Mutant
from lockmaster_raft.testing.patches_fetch import FETCH_MUTANTS
from lockmaster_raft.testing.patches_field import FIELD_MUTANTS
from lockmaster_raft.testing.patches_gates import GATE_MUTANTS
from lockmaster_raft.testing.patches_service import SERVICE_MUTANTS
from lockmaster_raft.testing.patches_storage import STORAGE_MUTANTS
from lockmaster_raft.testing.patches_witness import WITNESS_MUTANTS

CORE_MUTANTS: Final = (
    Mutant(
        "vote_answered_before_its_sync",
        "row 2",
        (
            Edit(
                CORE + "election.py",
                "    reply = RequestVoteReply(core.header(sender), not reason, reason, core.log.last_index, "
                "core.log.last_term)\n    core.send(reply, after=core.after())",
                "    reply = RequestVoteReply(core.header(sender), not reason, reason, core.log.last_index, "
                "core.log.last_term)\n    core.send(reply)",
            ),
        ),
    ),
    Mutant(
        "votes_asked_before_own_vote_is_durable",
        "row 2",
        (
            Edit(
                CORE + "election.py",
                "core.log.last_index, core.log.last_term, transfer), after=core.after()",
                "core.log.last_index, core.log.last_term, transfer)",
            ),
        ),
    ),
    Mutant(
        "step_down_clears_the_vote",
        "row 3",
        (
            Edit(
                CORE + "roles.py",
                "    core.role = resting_role(core)\n    core.leader_id = leader_id\n",
                "    core.voted_for = NO_NODE\n    core.role = resting_role(core)\n    core.leader_id = leader_id\n",
            ),
        ),
    ),
    Mutant(
        "vote_not_saved_with_its_term",
        "row 11",
        (
            Edit(
                CORE + "core.py",
                "            HardState(self.term, self.voted_for) if",
                "            HardState(self.term, NO_NODE) if",
            ),
        ),
    ),
    Mutant(
        "vote_without_a_log_check",
        "§3.6.1",
        (
            Edit(
                CORE + "election.py",
                "        return theirs > ours\n    return theirs >= ours",
                "        return True\n    return True",
            ),
        ),
    ),
    Mutant(
        "logs_compared_by_index_alone",
        "§3.6.1, I3",
        (
            Edit(
                CORE + "election.py",
                "        return theirs > ours\n    return theirs >= ours",
                "        return theirs[1] > ours[1]\n    return theirs[1] >= ours[1]",
            ),
        ),
    ),
    Mutant(
        "election_majority_one_too_small",
        "§3.4",
        (Edit(CORE + "quorum.py", "    return count // 2 + 1", "    return max(1, count // 2)"),),
    ),
    Mutant(
        "commit_majority_one_too_small",
        "§3.5",
        (
            Edit(
                CORE + "quorum.py",
                "    return sorted(values)[(len(values) - 1) // 2]",
                "    return sorted(values)[min(len(values) - 1, (len(values) + 1) // 2)]",
            ),
        ),
    ),
    Mutant(
        "commit_without_own_term_entry",
        "row 23",
        (
            Edit(
                CORE + "commit.py",
                "    if index <= core.commit_index or core.log.term(index) != core.term:",
                "    if index <= core.commit_index:",
            ),
        ),
    ),
    Mutant(
        "leader_counts_its_unsynced_copy",
        "row 32",
        (
            Edit(
                CORE + "commit.py",
                "    matches[core.node_id] = core.log.durable_index",
                "    matches[core.node_id] = core.log.last_index",
            ),
        ),
    ),
    Mutant(
        "commit_index_may_fall",
        "row 24",
        (
            Edit(
                CORE + "commit.py",
                "    if index <= old:\n        return\n    core.commit_index = index",
                "    core.commit_index = index",
            ),
            Edit(
                CORE + "follower.py",
                "    commit = min(m.commit, core.log.last_index)\n    if commit > core.commit_index:",
                "    commit = min(m.commit, core.log.last_index)\n    if commit != core.commit_index:",
            ),
        ),
    ),
    Mutant(
        "durable_by_index_instead_of_by_write",
        "raft.md §1",
        (
            Edit(
                CORE + "log.py",
                "        for write in self._writes:\n            write.last = min(write.last, self.last_index)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "ack_before_its_flush",
        "S2",
        (Edit(CORE + "follower.py", "        after=core.after(match),\n", ""),),
    ),
    Mutant(
        "empty_append_truncates",
        "row 27",
        (
            Edit(
                CORE + "follower.py",
                "    if m.entries:\n        merge(core, m.entries)\n",
                "    if m.entries:\n        merge(core, m.entries)\n"
                "    elif match < log.last_index and match >= core.commit_index:\n"
                "        core.truncate(Index(match + 1))\n",
            ),
        ),
    ),
    Mutant(
        "append_truncates_without_a_conflict",
        "row 27",
        (
            Edit(
                CORE + "follower.py",
                "            if index > core.commit_index and log.term(index) != entry.term:",
                "            if index > core.commit_index:",
            ),
        ),
    ),
    Mutant(
        "joint_not_compared",
        "§3.5",
        (
            Edit(
                CORE + "follower.py",
                "    if prev > core.commit_index and log.term(prev) != m.prev_term:",
                "    if prev > core.commit_index and log.term(prev) is None:",
            ),
        ),
    ),
    Mutant(
        "heartbeat_commits_beyond_the_match",
        "row 26",
        (
            Edit(
                CORE + "replication.py",
                "        commit = min(core.commit_index, p.match)\n",
                "        commit = core.commit_index\n",
            ),
        ),
    ),
    Mutant(
        "append_commits_beyond_its_entries",
        "row 26",
        (
            Edit(
                CORE + "follower.py",
                "    commit = min(m.commit, match)\n",
                "    commit = min(m.commit, log.last_index)\n",
            ),
        ),
    ),
    Mutant(
        "read_at_believed_leader",
        "row 76",
        (
            Edit(
                CORE + "reads.py",
                "    reads.pending_count += 1\n    reads.waiting.append((origin, read_id))\n    kick(core)\n",
                "    _answer(core, origin, read_id, core.commit_index)\n",
            ),
        ),
    ),
    Mutant(
        "read_joins_a_round_already_started",
        "row 78",
        (
            Edit(
                CORE + "reads.py",
                "    reads.waiting.append((origin, read_id))\n    kick(core)\n",
                "    if reads.rounds:\n        reads.rounds[-1][2].append((origin, read_id))\n        return\n"
                "    reads.waiting.append((origin, read_id))\n    kick(core)\n",
            ),
        ),
    ),
    Mutant(
        "read_without_own_term_commit",
        "§6.4",
        (
            Edit(
                CORE + "reads.py",
                "    if reads.waiting and core.own_term_committed and not reads.rounds:",
                "    if reads.waiting and not reads.rounds:",
            ),
            Edit(
                CORE + "reads.py",
                "    if reads.waiting and core.own_term_committed:\n",
                "    if reads.waiting:\n",
            ),
        ),
    ),
    Mutant(
        "change_before_own_term_commit",
        "row 38",
        (
            Edit(
                CORE + "members.py",
                "    if not core.own_term_committed:\n"
                '        return NotYet("no entry of this leader\'s term is committed yet")\n',
                "",
            ),
        ),
    ),
    Mutant(
        "two_changes_at_once",
        "I10",
        (
            Edit(
                CORE + "members.py",
                "    if core.log.configuration_index > core.commit_index:\n        return NotYet(",
                "    if core.log.configuration_index > core.log.last_index:\n        return NotYet(",
            ),
        ),
    ),
    Mutant(
        "base_at_an_uncommitted_index",
        "service.md §5",
        (
            Edit(
                CORE + "snapshot.py",
                "    ceiling: int = min(core.flushed_applied, core.commit_index, core.applied)\n",
                "    ceiling: int = core.log.durable_index\n",
            ),
        ),
    ),
    Mutant(
        "base_above_the_flush",
        "row 58",
        (
            Edit(
                CORE + "snapshot.py",
                "    ceiling: int = min(core.flushed_applied, core.commit_index, core.applied)\n",
                "    ceiling: int = min(core.commit_index, core.applied)\n",
            ),
        ),
    ),
    Mutant(
        "old_snapshot_installed_over_newer_state",
        "row 59",
        (
            Edit(
                CORE + "snapshot.py",
                "    elif m.last_index <= core.commit_index:\n"
                "        _reply(core, m, installed=True)\n        return\n",
                "",
            ),
        ),
    ),
    Mutant(
        "idle_learner_is_never_promoted",
        "found here, seed 4",
        (
            Edit(
                CORE + "members.py",
                "    if p.match >= p.catch_target:\n        # Nothing was",
                "    if False:\n        # Nothing was",
            ),
            Edit(
                CORE + "leader.py",
                "    if not p.caught_up and p.member_id not in core.voters:\n"
                "        members.note_learner_match(core, p)\n    replicate(core, p)\n\n\ndef on_install_reply",
                "    replicate(core, p)\n\n\ndef on_install_reply",
            ),
        ),
    ),
    Mutant(
        "joiner_takes_old_configuration_for_removal",
        "found here, seed 9",
        (
            Edit(
                CORE + "commit.py",
                "    minted = core.node_id < configuration.next_member_id ",
                "    minted = True ",
            ),
        ),
    ),
    Mutant(
        "event_before_check_quorum",
        "expiry before check-quorum after a long pause; raft.md §1",
        (
            Edit(
                CORE + "node.py",
                "        if core.now >= self._next_deadline:\n            _deadlines(core)\n"
                "        _dispatch(core, event)\n",
                "        passed = core.now >= self._next_deadline\n        _dispatch(core, event)\n"
                "        if passed:\n            _deadlines(core)\n",
            ),
        ),
    ),
    Mutant(
        "cluster_clock_restarts_with_the_leader",
        "row 88",
        (
            Edit(
                CORE + "roles.py",
                "    core.clock = ClusterClock(core.last_stamp(), now",
                "    core.clock = ClusterClock(type(now)(0), now",
            ),
        ),
    ),
    Mutant(
        "boot_forgets_the_cluster_time",
        "found here, seed 171",
        (Edit(CORE + "core.py", "emitted_time: Nanos = leader_time\n", "emitted_time: Nanos = Nanos(0)\n"),),
    ),
    Mutant(
        "leader_clock_on_from_heartbeats",
        "found here, seed 282",
        (
            Edit(
                CORE + "roles.py",
                "    core.clock = ClusterClock(core.last_stamp(), now",
                "    core.clock = ClusterClock(max(core.last_stamp(), core.leader_time), now",
            ),
        ),
    ),
    Mutant(
        "older_snapshot_of_the_next_leader_is_refused",
        "found here, seed 5071 of the registers",
        (
            Edit(
                CORE + "snapshot.py",
                "    elif m.header.term > old.header.term and fetch.pieces.bad.issuperset(old.sources):\n",
                "    elif False:\n",
            ),
        ),
    ),
    Mutant(
        "alone_by_the_uncommitted_configuration",
        "§4.1: found by review",
        (
            Edit(
                CORE + "core.py",
                "        both = (self.configuration, self.committed_configuration)\n        return all(c.voter",
                "        both = (self.configuration,)\n        return all(c.voter",
            ),
        ),
    ),
)

DIRECTED: Final = {
    "step_down_clears_the_vote": PYTEST + "tests/raft/test_elections.py",
    "alone_by_the_uncommitted_configuration": PYTEST + "tests/raft/test_rules_elections.py",
    "durable_by_index_instead_of_by_write": PYTEST + "tests/raft/test_log_replication.py",
    "empty_append_truncates": PYTEST + "tests/raft/test_log_replication.py",
    "logs_compared_by_index_alone": PYTEST + "tests/raft/test_elections.py",
    "joint_not_compared": PYTEST + "tests/raft/test_log_replication.py",
    "append_commits_beyond_its_entries": PYTEST + "tests/raft/test_log_replication.py",
    "gates_not_rolled_back_with_the_log": PYTEST + "tests/raft/test_gates.py",
    "read_at_believed_leader": PYTEST + "tests/raft/test_reads.py",
    "read_joins_a_round_already_started": PYTEST + "tests/raft/test_reads.py",
    "cluster_clock_restarts_with_the_leader": PYTEST + "tests/raft/test_reads.py",
    "older_snapshot_of_the_next_leader_is_refused": PYTEST + "tests/raft/test_snapshot_fetch.py",
    "boot_forgets_the_cluster_time": PYTEST + "tests/raft/test_reads.py",
    "leader_clock_on_from_heartbeats": PYTEST + "tests/raft/test_reads.py",
    "expiry_grants_as_it_removes": PYTEST + "tests/service/statemachine/test_sessions.py",
    "keepalive_of_the_dead_is_answered_ok": PYTEST + "tests/service/statemachine/test_sessions.py",
    "expiry_is_never_retried": PYTEST + "tests/service/statemachine/test_duties.py",
    "expiry_right_after_a_pause": PYTEST + "tests/service/statemachine/test_duties.py",
}
"""Mutants that seeds find too seldom: the rule's own tests are their search."""
MUTANTS: Final[tuple[Mutant, ...]] = tuple(
    replace(mutant, directed=DIRECTED.get(mutant.name, mutant.directed))
    for mutant in (
        *CORE_MUTANTS,
        *WITNESS_MUTANTS,
        *GATE_MUTANTS,
        *FETCH_MUTANTS,
        *SERVICE_MUTANTS,
        *STORAGE_MUTANTS,
        *FIELD_MUTANTS,
    )
)
"""All of them: `mutants` demands that each is found."""
