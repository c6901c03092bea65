"""Seeds with level gates: mixed binaries that are swapped, and requests for every operation (testing/gate_churn.py)."""

import os
from collections import Counter

from lockmaster_raft.testing.__main__ import replay_command
from lockmaster_raft.testing.gate_churn import GATE_SEEDS_FROM
from lockmaster_raft.testing.runner import run_seeds

SEEDS = max(4, int(os.environ.get("LOCKMASTER_SIM_SEEDS", "30")) // 5)


def test_gates_hold_on_seeded_clusters() -> None:
    counts: Counter[str] = Counter()
    failures = []
    for application, first in (("service", GATE_SEEDS_FROM), ("register", GATE_SEEDS_FROM + 5000)):
        for result in run_seeds(range(first, first + SEEDS), application, workers=2):
            counts.update(result.counts)
            if result.failure:
                failures.append(f"{result.failure}\n  {replay_command(result.seed, application)}")
    assert not failures, "\n".join(failures)
    for number in (1, 2, 3, 4):
        assert counts[f"gate {number} committed"] > 0, f"the seeds never commit gate operation {number}"
    for event in ("binary installed", "binary refused to boot", "gate fence refused", "gate activate refused"):
        assert counts[event] > 0, f"the seeds never meet: {event}"
