"""Mutants for bugs of the field that no other file of patches stands for: rows of raft-bugs.md and of microraft.md."""

from __future__ import annotations

from typing import Final

from lockmaster_raft.testing.mutants import CORE, MACHINE, PYTEST, STORAGE, Edit, Mutant, one_edit

_TESTS: Final = PYTEST + "tests/"
ELECTIONS: Final = _TESTS + "raft/test_elections.py"
LOG: Final = _TESTS + "raft/test_log_replication.py"
MICRORAFT: Final = _TESTS + "raft/microraft/"

ELECTION_MUTANTS: Final = (
    one_edit(
        "stale_vote_request_is_granted",
        "row 8, row 4",
        CORE + "election.py",
        '    if term < core.term:\n        reason = "term"\n    elif not m.transfer and is_sticky(core):',
        "    if not m.transfer and is_sticky(core):",
        ELECTIONS,
    ),
    one_edit(
        "duplicate_vote_counts_twice",
        "row 7",
        CORE + "election.py",
        "    core.votes[m.header.sender] = m.granted or core.votes.get(m.header.sender, False)\n",
        "    voter = m.header.sender\n"
        "    if m.granted and core.votes.get(voter):\n"
        "        voter = next((v for v in _peers(core) if v not in core.votes), voter)\n"
        "    core.votes[voter] = m.granted or core.votes.get(voter, False)\n",
        ELECTIONS,
    ),
    one_edit(
        "pre_vote_of_a_short_term_is_ignored",
        "row 14, row 15",
        CORE + "election.py",
        '    if m.next_term <= core.term:\n        reason = "term"\n',
        "    if m.next_term <= core.term:\n        return\n",
        ELECTIONS,
    ),
    one_edit(
        "jitter_is_the_same_each_time",
        "row 18",
        CORE + "core.py",
        "        return base + base * draw // 0x100000000\n",
        "        return base + base * self.node_id // 10\n",
        _TESTS + "raft/test_rules_elections.py tests/raft/test_elections.py tests/raft/microraft/test_elections.py",
    ),
    one_edit(
        "rivals_all_wait_as_if_there_were_none",
        "row 18, §3.4",
        CORE + "core.py",
        "self.leader_id == self.only_rival != NO_NODE",
        "self.leader_id != NO_NODE",
        _TESTS + "raft/test_rules_elections.py",
    ),
    one_edit(
        "heir_campaigns_while_others_are_sticky",
        "§4.2.3",
        CORE + "core.py",
        "base + self.config.heartbeat_interval_ns * 3 // 2 + base",
        "base + base",
        _TESTS + "raft/test_rules_elections.py",
    ),
    one_edit(
        "promoted_learner_refuses_to_vote",
        "row 20",
        CORE + "election.py",
        "        elif not _log_is_current(core, m):\n"
        '            reason = "log"\n'
        "        elif core.voted_for == NO_NODE:\n",
        "        elif not core.is_voter() or not _log_is_current(core, m):\n"
        '            reason = "log"\n'
        "        elif core.voted_for == NO_NODE:\n",
        MICRORAFT + "test_membership.py",
    ),
    one_edit(
        "removed_member_is_told_nothing",
        "row 22, D23",
        CORE + "election.py",
        "        core.send(Removed(core.header(sender), configuration.epoch), after=core.after())\n",
        "",
        ELECTIONS,
    ),
    one_edit(
        "nobody_is_sticky",
        "row 22",
        CORE + "election.py",
        "    return core.now - core.contact_at < core.config.election_timeout_ns\n",
        "    return False\n",
        ELECTIONS,
    ),
    one_edit(
        "restarted_voter_votes_at_once",
        "D5",
        CORE + "core.py",
        "        self.contact_at: int = self.now if self.term > 0 else self.now",
        "        self.contact_at: int = self.now",
        ELECTIONS,
    ),
    one_edit(
        "check_quorum_counts_learners",
        "D1",
        CORE + "leader.py",
        "    oldest = core.commit_value(contacts)\n    if not core.voters:",
        "    oldest = sorted(contacts.values(), reverse=True)[len(core.voters) // 2]\n    if not core.voters:",
        ELECTIONS,
    ),
    one_edit(
        "candidate_tries_again_without_a_pre_vote",
        "D15",
        CORE + "node.py",
        "        start_pre_vote(core)\n    elif core.now >= core.campaign_at:",
        "        if core.role is CANDIDATE:\n"
        "            from lockmaster_raft.election import start_election\n\n"
        "            start_election(core, transfer=False)\n"
        "        else:\n"
        "            start_pre_vote(core)\n"
        "    elif core.now >= core.campaign_at:",
        _TESTS + "raft/test_rules_elections.py tests/raft/test_elections.py tests/raft/microraft/test_elections.py",
    ),
)
REPLICATION_MUTANTS: Final = (
    one_edit(
        "match_index_may_fall",
        "row 28",
        CORE + "replication.py",
        "    if rose:\n        p.match = m.match_index\n",
        "    p.match = m.match_index\n    if rose:\n",
        LOG,
    ),
    one_edit(
        "next_index_falls_by_one_with_each_probe",
        "D6",
        CORE + "replication.py",
        "    guess = max(1, min(max(guess, m.commit + 1), asked.prev_index, log.last_index + 1))\n",
        "    guess = max(1, asked.prev_index)\n",
        LOG,
    ),
    one_edit(
        "batch_of_one_entry_too_many",
        "D7",
        CORE + "log.py",
        "        stop = min(stop, first + count_max, self.last_index + 1)\n",
        "        stop = min(stop, first + count_max + 1, self.last_index + 1)\n",
        LOG,
    ),
    one_edit(
        "prefix_below_the_snapshot_is_compared",
        "D10, D12",
        CORE + "follower.py",
        "    if prev > core.commit_index and log.term(prev) != m.prev_term:",
        "    if log.term(prev) != m.prev_term:",
        MICRORAFT + "test_snapshots.py",
    ),
    one_edit(
        "read_error_is_taken_for_the_end_of_the_log",
        "row 31",
        CORE + "log.py",
        "            if not found or found[0].index != first:\n"
        '                raise StorageFailed(f"the store did not give index {first}")\n',
        "",
        _TESTS + "raft/test_rules_log.py",
    ),
    one_edit(
        "leader_that_is_no_voter_counts_itself",
        "row 34",
        CORE + "commit.py",
        "    index = core.commit_value(matches)\n",
        "    group = {v: matches.get(v, 0) for v in (*core.voters, core.node_id)}\n"
        "    index = core.commit_value(matches) if core.outgoing else sorted(group.values())[(len(group) - 1) // 2]\n",
        _TESTS + "raft/test_membership.py",
    ),
    one_edit(
        "configurations_not_rolled_back_with_the_log",
        "row 39",
        CORE + "log.py",
        "        while self.configurations[-1][0] >= first and len(self.configurations) > 1:\n"
        "            self.configurations.pop()\n",
        "",
        _TESTS + "raft/test_log_twin.py",
    ),
    one_edit(
        "only_one_configuration_is_rolled_back",
        "row 40",
        CORE + "log.py",
        "        while self.configurations[-1][0] >= first and len(self.configurations) > 1:\n",
        "        if self.configurations[-1][0] >= first and len(self.configurations) > 1:\n",
        _TESTS + "raft/test_log_twin.py",
    ),
    one_edit(
        "snapshot_joins_a_log_of_another_term",
        "row 43",
        CORE + "snapshot.py",
        "    if core.log.term(m.last_index) == m.last_term and m.last_index >= core.log.base.index:\n",
        "    if core.log.last_index >= m.last_index >= core.log.base.index:\n",
        _TESTS + "raft/test_snapshot_fetch.py",
    ),
    one_edit(
        "snapshot_keeps_the_logs_later_configuration",
        "row 43",
        CORE + "log.py",
        "        self.configurations = [(base.configuration_index, base.configuration)]\n"
        "        self.gates = [self._gate_of(base)]\n"
        "        self.unsynced_bytes = 0\n",
        "        if base.configuration_index >= self.configuration_index:\n"
        "            self.configurations = [(base.configuration_index, base.configuration)]\n"
        "        self.gates = [self._gate_of(base)]\n"
        "        self.unsynced_bytes = 0\n",
        MICRORAFT + "test_snapshots.py",
    ),
    one_edit(
        "old_snapshot_is_not_answered",
        "D13",
        CORE + "snapshot.py",
        "    elif m.last_index <= core.commit_index:\n        _reply(core, m, installed=True)\n        return\n",
        "    elif m.last_index <= core.commit_index:\n        return\n",
        MICRORAFT + "test_snapshots.py",
    ),
    one_edit(
        "refused_change_is_told_to_nobody",
        "row 47",
        CORE + "members.py",
        "            error = why_not_voters(core, core.configuration.without_member(e.member_id))\n"
        "    if error is not None:\n"
        "        core.proposals.append(Refused(e.proposal_id, error))\n",
        "            error = why_not_voters(core, core.configuration.without_member(e.member_id))\n"
        "    if error is not None:\n",
        _TESTS + "raft/test_membership.py",
    ),
    one_edit(
        "applied_while_a_snapshot_is_switched_in",
        "row 60",
        CORE + "core.py",
        "        if count <= 0 or (self.fetch is not None and self.fetch.installing):\n",
        "        if count <= 0:\n",
        _TESTS + "raft/test_snapshot_fetch.py",
    ),
    one_edit(
        "reads_outlive_a_leadership",
        "row 79",
        CORE + "roles.py",
        "    core.leader_time = core.cluster_time(core.now)\n    reads.fail_all(core)\n",
        "    core.leader_time = core.cluster_time(core.now)\n",
        _TESTS + "raft/test_reads.py",
    ),
    one_edit(
        "lease_before_an_own_term_commit",
        "D3",
        CORE + "lease.py",
        "    if core.role is not LEADER or not core.full_here or not core.own_term_committed:\n",
        "    if core.role is not LEADER or not core.full_here:\n",
        _TESTS + "raft/test_reads.py",
    ),
    one_edit(
        "entries_are_applied_again_after_a_restart",
        "row 54",
        CORE + "core.py",
        "        self.emitted: Index = applied\n",
        "        self.emitted: Index = base.index\n",
    ),
)
SERVICE_MUTANTS: Final = (
    one_edit(
        "applied_index_is_not_in_the_batch",
        "row 54, row 56",
        STORAGE + "state.py",
        "        batch.append((META_KEY, generation.meta.encode()))\n        self._db.write(batch)\n",
        "        self._db.write(batch)\n        self._db.write(((META_KEY, generation.meta.encode()),))\n",
        _TESTS + "service/storage/test_directory_crash_states.py",
    ),
    Mutant(
        "entry_that_cannot_be_applied_is_passed_over",
        "row 55",
        (
            Edit(
                "lockmaster/server/applying.py",
                "        applied = machine.apply(EntryHeader(",
                "        try:\n            applied = machine.apply(EntryHeader(",
            ),
            Edit(
                "lockmaster/server/applying.py",
                "        full = self._directory.state.sealed(entry.index, entry.term)\n",
                "        except ValueError:\n"
                "            return\n"
                "        full = self._directory.state.sealed(entry.index, entry.term)\n",
            ),
        ),
        _TESTS + "service/server/test_applying.py",
    ),
    one_edit(
        "failed_write_is_forgotten",
        "row 64, D17",
        STORAGE + "journal.py",
        "                self._write_frame(write.number, write.offset, write.data)\n"
        "        except StorageFailed as error:\n"
        "            self._failed = error\n"
        "            raise\n",
        "                self._write_frame(write.number, write.offset, write.data)\n"
        "        except StorageFailed:\n"
        "            raise\n",
        _TESTS + "service/storage/test_crash_states.py",
    ),
    one_edit(
        "journal_is_not_synced",
        "row 63",
        STORAGE + "files.py",
        "os.O_WRONLY | os.O_DSYNC | os.O_CLOEXEC",
        "os.O_WRONLY | os.O_CLOEXEC",
        _TESTS + "service/storage/test_files.py",
    ),
    one_edit(
        "short_write_is_taken_for_a_whole_one",
        "row 67",
        STORAGE + "files.py",
        "        if written != len(data):\n",
        "        if written < 0:\n",
        _TESTS + "service/storage/test_files.py",
    ),
    one_edit(
        "new_segment_without_its_directory_entry",
        "row 74",
        STORAGE + "journal.py",
        "            self._files.create_zeroed(path, size)\n            self._files.sync_dir(self._directory)\n",
        "            self._files.create_zeroed(path, size)\n",
        _TESTS + "service/storage/test_crash_states.py",
    ),
    one_edit(
        "cancelled_acquire_still_takes_effect",
        "row 92",
        MACHINE + "locks.py",
        "    context.view.put(WINDOWS, session_id, window)\n"
        "    context.view.put(COMPLETIONS, (session_id, seq), "
        'Completion(b"", ResultStatus.CANCELLED, 0, 0))\n',
        "    context.view.put(WINDOWS, session_id, window)\n",
        _TESTS + "service/statemachine/test_exactly_once.py",
    ),
    one_edit(
        "watch_goes_on_over_a_compaction",
        "row 94",
        MACHINE + "queries.py",
        "        self._check_held(namespace, from_revision)\n        stem = text_stem(namespace)\n",
        "        stem = text_stem(namespace)\n",
    ),
    one_edit(
        "retries_are_executed_again",
        "row 95",
        MACHINE + "dedup.py",
        "        if record is not None:\n"
        "            view.put(WINDOWS, session_id, window)\n"
        "            return stored_answer(context, record, operation, dedup)\n",
        "        if record is not None:\n"
        "            view.delete(COMPLETIONS, (session_id, seq))\n"
        "            window.record_bytes -= RECORD_BYTES\n",
    ),
)
FIELD_MUTANTS: Final = (*ELECTION_MUTANTS, *REPLICATION_MUTANTS, *SERVICE_MUTANTS)
