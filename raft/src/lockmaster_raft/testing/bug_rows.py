"""Bugs seen in other systems and the mutants that stand for each: the second table of docs/mutants.md.

`row` is the number in the project's list of bugs of the field, or the D number of a defect of MicroRaft.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug. Where no patch puts it back into this product, `instead` says why not, or what shows it."""

    row: str
    text: str
    mutants: tuple[str, ...] = ()
    instead: str = ""


ELECTIONS: Final = (
    Bug(
        "2",
        "a vote leaves before it is durable",
        ("vote_answered_before_its_sync", "votes_asked_before_own_vote_is_durable"),
    ),
    Bug("3", "stepping down within a term forgets the vote", ("step_down_clears_the_vote",)),
    Bug("4", "an older leader's message sets the vote's term back", ("stale_vote_request_is_granted",)),
    Bug("6", "a leader votes for another in its term", instead="a leader has voted for itself: the vote's one check"),
    Bug("7", "a repeated vote is counted twice", ("duplicate_vote_counts_twice",)),
    Bug("8", "a stale message lowers the term", ("stale_vote_request_is_granted",)),
    Bug(
        "10",
        "a deposed leader's heartbeat has the new term",
        instead="a header is made with its message; no step sends as a leader after it has stepped down (check-quorum "
        "first, I1 election safety)",
    ),
    Bug("11", "the term is back after a restart", ("vote_not_saved_with_its_term",)),
    Bug("12", "a wiped disk votes again under the same id", ("missing_tail_accepted",)),
    Bug("14", "whose term is lower gets no answer to its pre-vote", ("pre_vote_of_a_short_term_is_ignored",)),
    Bug(
        "15",
        "pre-vote deadlock: the longest log has the lowest term",
        ("pre_vote_of_a_short_term_is_ignored", "joint_change_decided_by_the_new_voters_alone"),
    ),
    Bug("16", "a pre-vote is granted without a look at the log", ("vote_without_a_log_check",)),
    Bug(
        "18",
        "votes split for ever: the jitter is drawn once",
        ("jitter_is_the_same_each_time", "rivals_all_wait_as_if_there_were_none"),
    ),
    Bug(
        "19",
        "elections under load: votes take longer than the timeout",
        instead="a matter of measured time: tests/integration/test_disk_faults.py, `make bench`",
    ),
    Bug("20", "a promoted learner refuses to vote", ("promoted_learner_refuses_to_vote",)),
    Bug("22", "a removed member disturbs the others", ("removed_member_is_told_nothing", "nobody_is_sticky")),
)
REPLICATION: Final = (
    Bug("23", "an older term's entry is committed by counting (Figure 8)", ("commit_without_own_term_entry",)),
    Bug("24", "the commit index falls", ("commit_index_may_fall",)),
    Bug(
        "26",
        "committed beyond what matches or is durable",
        ("heartbeat_commits_beyond_the_match", "append_commits_beyond_its_entries"),
    ),
    Bug(
        "27",
        "an append without a conflict truncates",
        ("empty_append_truncates", "append_truncates_without_a_conflict"),
    ),
    Bug("28", "a late reply lowers the match index", ("match_index_may_fall",)),
    Bug(
        "30",
        "committed entries are rolled back",
        ("vote_without_a_log_check", "superseded_entry_read_back_after_restart"),
    ),
    Bug("31", "a read error becomes a malformed append", ("read_error_is_taken_for_the_end_of_the_log",)),
    Bug(
        "32",
        "committed without the own copy being durable",
        ("leader_counts_its_unsynced_copy", "own_promise_counts_before_it_is_durable"),
    ),
    Bug("34", "a leader that is no voter counts itself", ("leader_that_is_no_voter_counts_itself",)),
    Bug("35", "a conflict rolls back too much", ("append_truncates_without_a_conflict",)),
    Bug(
        "36",
        "what is known as committed is not applied again after a restart",
        instead="S12 progress demands that of every member after healing; tests/raft/test_membership.py",
    ),
)
MEMBERSHIP: Final = (
    Bug("38", "single-server changes with disjoint quorums", ("change_before_own_term_commit", "two_changes_at_once")),
    Bug(
        "39",
        "a configuration is not rolled back with the log",
        ("configurations_not_rolled_back_with_the_log", "gates_not_rolled_back_with_the_log"),
    ),
    Bug("40", "only one of two configurations is rolled back", ("only_one_configuration_is_rolled_back",)),
    Bug("42", "a snapshot has an uncommitted configuration", ("base_carries_the_latest_gate_state",)),
    Bug(
        "43",
        "an installed snapshot leaves a stale configuration in force",
        ("snapshot_joins_a_log_of_another_term", "snapshot_keeps_the_logs_later_configuration"),
    ),
    Bug("44", "a restored state and configurations differ", ("old_snapshot_installed_over_newer_state",)),
    Bug("46", "a joint change is left before it is committed", ("joint_change_left_before_it_is_committed",)),
    Bug("47", "a refused change answers nobody", ("refused_change_is_told_to_nobody",)),
    Bug(
        "48",
        "replacing a voter leaves too few",
        ("demotion_leaves_one_full_voter",),
        "a swap is joint: the new voter is there before the old one goes (I10, I11)",
    ),
    Bug(
        "50",
        "an update of a member makes a learner a voter",
        instead="an update carries the member's whole record, and one that is not fit to vote is refused: "
        "tests/raft/test_membership.py",
    ),
    Bug(
        "51", "two stores of membership differ", instead="there is one: CONFIG entries and the base that replaces them"
    ),
    Bug(
        "52",
        "a strict health rule blocks the repair",
        instead="the check counts who is left, not who is ill: tests/raft/test_membership.py",
    ),
)
STATE: Final = (
    Bug(
        "54",
        "an entry is applied twice",
        ("entries_are_applied_again_after_a_restart", "applied_index_is_not_in_the_batch"),
    ),
    Bug("55", "an entry that can't be applied is passed over", ("entry_that_cannot_be_applied_is_passed_over",)),
    Bug("56", "index and data are saved apart", ("applied_index_is_not_in_the_batch",)),
    Bug("58", "a gap between snapshot and log", ("base_above_the_flush", "base_at_an_uncommitted_index")),
    Bug("59", "a state older than the snapshot is accepted", ("old_snapshot_installed_over_newer_state",)),
    Bug("60", "a snapshot is applied while something else writes", ("applied_while_a_snapshot_is_switched_in",)),
)
DISKS: Final = (
    Bug("62", "acknowledged data is silently missing after damage", ("missing_tail_accepted",)),
    Bug("63", "the log is not synced", ("journal_is_not_synced",)),
    Bug("64", "a failed sync is tried again and succeeds", ("failed_write_is_forgotten",)),
    Bug(
        "66",
        "writes go on after the disk was full",
        ("failed_write_is_forgotten",),
        "tests/integration/test_full_disk.py",
    ),
    Bug("67", "a short write leaves a wrong offset", ("short_write_is_taken_for_a_whole_one",)),
    Bug("68", "metadata are ahead of the log", ("guard_mark_ahead_of_its_frame",)),
    Bug("70", "a torn tail and damage are confused", ("damage_before_valid_frames_taken_for_the_end",)),
    Bug(
        "71",
        "background syncs of newer files leave holes",
        instead="RocksDB holds no log; the journal syncs each frame",
    ),
    Bug("72", "closing without a sync loses the tail", instead="a frame is durable when its write returns (row 63)"),
    Bug("74", "a new file's directory entry is not synced", ("new_segment_without_its_directory_entry",)),
    Bug(
        "75",
        "a slow sync holds up the loop",
        ("event_before_check_quorum",),
        "writes have a thread of their own; slow and hung syncs are faults of the simulator",
    ),
)
CLIENTS: Final = (
    Bug("76", "a read at a leader that only believes it is one", ("read_at_believed_leader",)),
    Bug("78", "a read is released by an earlier round", ("read_joins_a_round_already_started",)),
    Bug("79", "reads race with a change of leaders", ("reads_outlive_a_leadership", "read_without_own_term_commit")),
    Bug("80", "a lease by a clock that errs", ("lease_counts_from_the_ack", "lease_without_the_drift_margin")),
    Bug("82", "a lease outlives a transfer", ("lease_survives_a_transfer",)),
    Bug(
        "83",
        "a follower without a quorum serves old state",
        ("age_counts_from_the_answer", "age_without_the_drift_margin"),
    ),
    Bug("84", "a lock is granted to a dead session", ("dead_session_keeps_its_places",)),
    Bug("86", "an old leader ends sessions", ("expiry_trusts_the_proposer", "expiry_right_after_a_pause")),
    Bug("87", "a keepalive of the dead is answered well", ("keepalive_of_the_dead_is_answered_ok",)),
    Bug(
        "88",
        "a session's time begins anew with each leader",
        ("cluster_clock_restarts_with_the_leader", "boot_forgets_the_cluster_time"),
    ),
    Bug("90", "an expiry that failed is not tried again", ("expiry_is_never_retried",)),
    Bug(
        "91",
        "a grant and a keepalive race; a negative id diverges",
        instead="both are commands of one log; ids are checked as unsigned: tests/service/statemachine/test_codec.py",
    ),
    Bug("92", "a withdrawn acquire still gets the lock", ("cancelled_acquire_still_takes_effect",)),
    Bug("94", "a watch skips what was compacted away", ("watch_goes_on_over_a_compaction",)),
    Bug("95", "a retry takes effect twice", ("retries_are_executed_again",)),
    Bug("96", "an operator shrinks what is only away", instead="tests/operator/test_random_worlds.py"),
)
MICRORAFT: Final = (
    Bug("D1", "check-quorum counts learners", ("check_quorum_counts_learners",)),
    Bug("D2", "a read joins a round under way", ("read_joins_a_round_already_started",)),
    Bug("D3", "a lease before a commit in the own term", ("lease_before_an_own_term_commit",)),
    Bug(
        "D4",
        "a lease from the answer, and through a transfer",
        ("lease_counts_from_the_ack", "lease_survives_a_transfer"),
    ),
    Bug("D5", "a restarted voter votes at once", ("restarted_voter_votes_at_once",)),
    Bug("D6", "one probe per entry", ("next_index_falls_by_one_with_each_probe",)),
    Bug("D7", "one entry more than a batch may have", ("batch_of_one_entry_too_many",)),
    Bug("D8", "a lost append is sent again a second later", instead="tests/raft/test_log_replication.py"),
    Bug("D9", "one append on its way at a time", instead="tests/raft/test_pipeline.py"),
    Bug("D10", "an append below the log's start crashes", ("prefix_below_the_snapshot_is_compared",)),
    Bug("D11", "the commit index falls", ("commit_index_may_fall",)),
    Bug("D12", "terms are compared below the log's start", ("prefix_below_the_snapshot_is_compared",)),
    Bug("D13", "an old snapshot gets no answer", ("old_snapshot_is_not_answered",)),
    Bug("D14", "a waiting read runs many times", instead="tests/service/server/test_host_decisions.py"),
    Bug("D15", "a candidate tries again without a pre-vote", ("candidate_tries_again_without_a_pre_vote",)),
    Bug(
        "D16",
        "a log without a vote counts as nothing",
        instead="FORMAT and the guard file tell a data directory, no vote",
    ),
    Bug("D17", "a failed flush is passed over", ("failed_write_is_forgotten",)),
    Bug(
        "D18",
        "keys whose order is not that of their numbers",
        instead="frames lie in order; tests/service/storage/test_state.py",
    ),
    Bug("D19", "a snapshot before the first commit", instead="tests/raft/microraft/test_snapshots.py"),
    Bug(
        "D20",
        "one thread for all",
        instead="snapshots and syncs run beside the loop: tests/integration/test_promotion.py",
    ),
    Bug(
        "D21",
        "a stranger's message is believed",
        instead="tests/raft/test_ranges.py, tests/service/server/test_peer_hub.py",
    ),
    Bug("D22", "timeouts by wall clock", instead="the core has no clock: tests/packaging/test_pure_imports.py"),
    Bug("D23", "a removed member is not told", ("removed_member_is_told_nothing",)),
)
BUGS: Final = (*ELECTIONS, *REPLICATION, *MEMBERSHIP, *STATE, *DISKS, *CLIENTS, *MICRORAFT)
"""Every row of both lists."""
