"""Witnesses, role churn and gates in the simulator: a fixed list of seeds meets every rare event named (raft.md §7)."""

from __future__ import annotations

from collections import Counter

from lockmaster_raft.testing.cover import shortest
from lockmaster_raft.testing.invariants.rare_events import RARE, too_rare
from lockmaster_raft.testing.runner import Totals, run_seeds

SEEDS = (7004, 7008, 7023, 7026, 7027, 7046, 7047, 7061, 7064, 107029, 107059)
"""Made by `python -m lockmaster_raft.testing.cover`; to be made anew when a change moves the runs."""


def test_every_rare_event_is_met_and_no_invariant_breaks() -> None:
    totals = Totals()
    for result in run_seeds(SEEDS, "register", workers=1):
        totals.add(result)
    assert [f"seed {f.seed}: {f.failure}" for f in totals.failures] == []
    assert [event for event in RARE if not totals.counts[event]] == []


def test_a_long_run_that_meets_an_event_too_seldom_is_told() -> None:
    often = Counter(dict.fromkeys(RARE, 20))
    assert too_rare(5000, often) == []
    assert too_rare(5000, often - Counter({RARE[0]: 1})) == [RARE[0]]
    assert too_rare(50, Counter()) == []


def test_the_shortest_list_meets_what_all_seeds_meet() -> None:
    met = {1: frozenset("ab"), 2: frozenset("b"), 3: frozenset("c"), 4: frozenset("abd")}
    assert shortest(met) == [3, 4]
