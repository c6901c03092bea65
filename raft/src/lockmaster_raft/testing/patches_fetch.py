"""Mutants of the fetch protocol (raft.md §2, §3): pieces, ranges, sources, the pipeline and the boost."""

from __future__ import annotations

from typing import Final

from lockmaster_raft.testing.mutants import Edit, Mutant

CORE: Final = "lockmaster_raft/"
_PYTEST: Final = "pytest -q -x -p no:cacheprovider "
RANGES: Final = _PYTEST + "tests/raft/test_range_fetch.py"
SOURCES: Final = _PYTEST + "tests/raft/test_snapshot_sources.py"
PIPELINE: Final = _PYTEST + "tests/raft/test_pipeline.py"


def _one(name: str, file: str, find: str, replace: str, directed: str) -> Mutant:
    return Mutant(name, "raft.md §3", (Edit(CORE + file, find, replace),), directed)


FETCH_MUTANTS: Final = (
    _one(
        "snapshot_beyond_the_new_leader_s_commit_index_is_refused",
        "leader.py",
        "    if m.last_index > p.offered_max:\n",
        "    if m.last_index > core.commit_index:\n",
        SOURCES,
    ),
    _one(
        "source_serves_beyond_its_commit",
        "ranges.py",
        "    stop = min(m.last_index, core.commit_index) + 1\n",
        "    stop = min(m.last_index, core.log.last_index) + 1\n",
        RANGES,
    ),
    _one(
        "range_piece_not_compared_with_its_anchor",
        "ranges.py",
        "    if last.index == anchor[0] and last.term != anchor[1]:\n",
        "    if False:\n",
        RANGES,
    ),
    _one(
        "range_piece_of_anybody_is_taken",
        "ranges.py",
        "    if not asked or fetch.pieces.outstanding[number].source != sender:\n",
        "    if not asked:\n",
        RANGES,
    ),
    _one(
        "range_pieces_appended_as_they_come",
        "ranges.py",
        "    while fetch.done in fetch.pieces.used:\n",
        "    fetch.done = number\n    while fetch.done in fetch.pieces.used:\n",
        RANGES,
    ),
    _one(
        "range_reported_before_it_is_durable",
        "ranges.py",
        "    core.send(reply, after=core.after(max(match, core.log.base.index)))\n",
        "    core.send(reply, after=core.after())\n",
        RANGES,
    ),
    _one(
        "range_that_does_not_join_is_fetched",
        "ranges.py",
        "    if joint_index > log.last_index or (",
        "    if False and (",
        RANGES,
    ),
    _one(
        "range_outlives_its_term",
        "core.py",
        "            self.ranges = None  # what",
        "            pass  # what",
        RANGES,
    ),
    _one(
        "range_fetched_anew_after_a_crash",
        "ranges.py",
        "        if index <= core.commit_index or log.term(index) == term:\n",
        "        if False:\n",
        RANGES,
    ),
    _one(
        "missing_piece_is_waited_for_while_a_later_one_waits",
        "pieces.py",
        " and not self.outstanding and not self._left()\n",
        " and not self.outstanding and not self.used and not self._left()\n",
        RANGES,
    ),
    _one(
        "range_fetched_on_while_the_leader_sends_it",
        "follower.py",
        "        core.ranges = None  # raft.md §3: the leader has fallen back",
        "        pass  # raft.md §3: the leader has fallen back",
        RANGES,
    ),
    _one(
        "range_piece_of_any_size_is_kept",
        "ranges.py",
        " > PIECE_BYTES_MAX:\n",
        " > PIECE_BYTES_MAX << 40:\n",
        RANGES,
    ),
    _one(
        "anchors_any_distance_apart_are_believed",
        "validate_fetch.py",
        "        if not 1 <= index - before_index <= RANGE_ENTRIES_MAX:\n",
        "        if not 1 <= index - before_index:\n",
        RANGES,
    ),
    _one(
        "leader_never_falls_back",
        "replication.py",
        "        return p.fetch_deadline\n",
        "        return NEVER\n",
        RANGES,
    ),
    _one(
        "leader_sends_a_fetching_member_all_the_same",
        "ranges.py",
        "    p.state = FETCHING\n",
        "    p.state = REPLICATE\n",
        RANGES,
    ),
    _one(
        "leader_takes_any_match_of_a_fetch",
        "ranges.py",
        "    if m.match_index > p.fetch_upto:\n",
        "    if False:\n",
        RANGES,
    ),
    _one(
        "fetch_below_level_2",
        "ranges.py",
        " or not core.witness_level or core.is_caretaker:\n        return False\n",
        " or core.is_caretaker:\n        return False\n",
        RANGES,
    ),
    _one(
        "source_of_another_snapshot_is_named",
        "sources.py",
        "        and q.manifest == snapshot.manifest\n",
        "",
        SOURCES,
    ),
    _one(
        "snapshot_at_a_named_index_is_of_a_later_state",
        "core.py",
        "        if self.emitted < self.cut_at:\n",
        "        if False:\n",
        SOURCES,
    ),
    _one(
        "snapshot_made_though_the_state_has_passed_its_index",
        "sources.py",
        " if own is not None else 0, core.emitted - 1)",
        " if own is not None else 0)",
        SOURCES,
    ),
    _one(
        "held_chunks_are_fetched_again",
        "snapshot.py",
        "        if 0 <= number < fetch.pieces.total:\n",
        "        if False:\n",
        SOURCES,
    ),
    _one(
        "damaged_chunk_is_asked_of_the_same_source",
        "pieces.py",
        "        if source != NO_NODE:\n            self.bad.add(source)\n",
        "",
        SOURCES,
    ),
    _one(
        "silent_source_is_asked_again",
        "pieces.py",
        "        self.bad |= silent & self.silent\n",
        "",
        SOURCES,
    ),
    _one(
        "chunks_all_asked_of_the_first_source",
        "pieces.py",
        "        source = min(left, key=lambda s: (s in self.silent, busy.count(s)))\n",
        "        source = left[0]\n",
        SOURCES,
    ),
    _one(
        "leader_installs_what_it_has_passed",
        "commit.py",
        "    if core.fetch is not None:\n",
        "    if core.fetch is not None and core.role is not LEADER:\n",
        _PYTEST + "tests/raft/test_snapshot_fetch.py",
    ),
    _one(
        "followers_forget_the_log_that_a_member_lacks",
        "snapshot.py",
        "        keep = min(keep, sources.floor(core))\n",
        "        pass\n",
        SOURCES,
    ),
    _one(
        "window_narrowed_for_every_request_of_it",
        "pipeline.py",
        "        if request_id > p.narrowed_at:\n",
        "        if True:\n",
        PIPELINE,
    ),
    _one(
        "boost_while_commits_are_slow",
        "pipeline.py",
        "    if core.latency.worst_ns(core.now) > core.config.heartbeat_interval_ns:\n",
        "    if False:\n",
        PIPELINE,
    ),
    _one(
        "boost_beyond_the_members_room",
        "pipeline.py",
        "        if p.free_bytes:\n",
        "        if False:\n",
        PIPELINE,
    ),
    _one(
        "log_cut_under_a_boosted_member",
        "snapshot.py",
        "        if p.boost_until or (p.state is CATCHUP",
        "        if (p.state is CATCHUP",
        PIPELINE,
    ),
    _one(
        "log_cut_under_a_member_that_fetches_a_snapshot",
        "snapshot.py",
        "        if p.boost_until or (p.state is CATCHUP and p.is_live(core.now, wait)):\n",
        "        if p.boost_until:\n",
        SOURCES,
    ),
    _one(
        "source_that_may_have_been_rolled_back_is_named",
        "sources.py",
        "        and promised(core, q)\n        and q.snapshot_index",
        "        and q.snapshot_index",
        SOURCES,
    ),
)
