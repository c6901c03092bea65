"""Mutants of the level gates (raft.md §6): hunted in seeds that have gates, or by the rule's own tests."""

from __future__ import annotations

from typing import Final

from lockmaster_raft.testing.gate_churn import GATE_SEEDS_FROM
from lockmaster_raft.testing.mutants import CORE, PYTEST, Edit, Mutant

TESTS: Final = PYTEST + "tests/raft/test_gates.py"

GATE_MUTANTS: Final = (
    Mutant(
        "activate_counts_a_report_of_any_fence",
        "raft.md §6",
        (
            Edit(
                CORE + "gates.py",
                "    late = [_promised(m) for m in members if m.fence_index != levels.index]\n",
                "    late = [_promised(m) for m in members if not m.fence_index]\n",
            ),
        ),
        first_seed=GATE_SEEDS_FROM,
    ),
    Mutant(
        "activate_does_not_wait_for_the_silent",
        "raft.md §6",
        (
            Edit(
                CORE + "gates.py",
                "    late = [_promised(m) for m in members if m.fence_index != levels.index]\n",
                "    late = [_promised(m) for m in members if m.level_max and m.fence_index != levels.index]\n",
            ),
        ),
        directed=TESTS,
    ),
    Mutant(
        "level_reported_before_it_is_durable",
        "raft.md §6, S2",
        (
            Edit(
                CORE + "core.py",
                "        self.hard_seq = self.level_seq = self.write_seq\n",
                "        self.level_seq = self.write_seq\n",
            ),
        ),
        first_seed=GATE_SEEDS_FROM,
    ),
    Mutant(
        "promise_given_back_below_a_later_fence",
        "raft.md §6",
        (Edit(CORE + "promise.py", "    elif core.level > keep:\n", "    elif core.level > due:\n"),),
        directed=TESTS,
    ),
    Mutant(
        "gates_not_rolled_back_with_the_log",
        "row 39",
        (
            Edit(
                CORE + "log.py",
                "        while self.gates[-1][0] >= first and len(self.gates) > 1:\n            self.gates.pop()\n",
                "",
            ),
        ),
        first_seed=GATE_SEEDS_FROM,
    ),
    Mutant(
        "base_carries_the_latest_gate_state",
        "row 42",
        (Edit(CORE + "snapshot.py", "configuration, at, log.levels_at(keep)))", "configuration, at, log.levels))"),),
        first_seed=GATE_SEEDS_FROM,
    ),
    Mutant(
        "own_promise_counts_before_it_is_durable",
        "raft.md §6, row 32",
        (
            Edit(
                CORE + "gating.py",
                "            durable = core.level_seq <= core.persisted_seq\n",
                "            durable = True\n",
            ),
        ),
        directed=PYTEST + "tests/raft/test_gates_level_2.py",
    ),
    Mutant(
        "levels_of_an_older_boot_count",
        "raft.md §6",
        (Edit(CORE + "gating.py", "    if m.round_id < p.report_round:\n        return\n", ""),),
        directed=TESTS,
    ),
    Mutant(
        "joins_below_the_fence_are_taken",
        "raft.md §6",
        (Edit(CORE + "members.py", "    if e.level_max < needed:\n", "    if e.level_max < levels.active:\n"),),
        directed=TESTS,
    ),
)
