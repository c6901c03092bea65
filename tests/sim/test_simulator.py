"""The seeded simulator, bounded: a failure prints the one command that replays it. `make sim SEEDS=500` runs more."""

import os
from pathlib import Path

import pytest
from lockmaster_raft.testing.__main__ import replay_command
from lockmaster_raft.testing.application import load_application
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.mutants import (
    StaleMutant,
    all_mutants,
    apply_edit,
    hunt_once,
    named,
    package_root,
    read_records,
    replay,
)
from lockmaster_raft.testing.runner import Totals, run_seeds
from lockmaster_raft.testing.swarm import FAULTS_MIN, OPERATIONS_MIN, SIMULATED_SECONDS_MIN

SEEDS = int(os.environ.get("LOCKMASTER_SIM_SEEDS", "30"))
TWICE_EVERY = 10
REGRESSIONS = (4, 9, 17, 26)
"""Seeds that found bugs of the product: an idle cluster that never formed, a joiner that took an old configuration
for its removal, a request that told a term before it was durable."""


def _run(application: str, seeds: list[int]) -> Totals:
    totals = Totals()
    for result in run_seeds(seeds, application, workers=2):
        totals.add(result)
    failures = [f"{f.failure}\n  {replay_command(f.seed, application)}" for f in totals.failures]
    assert not failures, "\n".join(failures)
    return totals


def test_service_holds_its_invariants_on_seeded_clusters() -> None:
    totals = _run("service", sorted({*range(1, SEEDS + 1), *REGRESSIONS}))
    assert totals.simulated_ns >= totals.seeds * SIMULATED_SECONDS_MIN * 10**9
    assert totals.operations >= totals.seeds * OPERATIONS_MIN
    assert totals.faults >= totals.seeds * FAULTS_MIN
    for event in ("crashed at a sync", "snapshot installed", "elections won", "sessions expired", "waits", "joined"):
        assert totals.counts[event] > 0, f"the seeds never meet: {event}"


def test_registers_hold_their_invariants_on_seeded_clusters() -> None:
    _run("register", list(range(5001, 5001 + SEEDS // 6)))


def test_same_seed_twice_gives_the_same_trace() -> None:
    for seed in range(1, SEEDS + 1, TWICE_EVERY):
        first, second = (Cluster(seed, load_application("service")).run() for _ in range(2))
        assert first.trace == second.trace, f"seed {seed} ran differently the second time"


def test_every_mutant_still_matches_the_source() -> None:
    assert len(all_mutants()) >= 20
    for mutant in all_mutants():
        for edit in mutant.edits:
            package, rest = edit.file.split("/", 1)
            root = package_root(package)
            assert root is not None
            assert (root / rest).read_text().count(edit.find) == 1, f"{mutant.name}: stale text in {edit.file}"


def test_a_stale_mutant_fails_loudly(tmp_path: Path) -> None:
    with pytest.raises(StaleMutant, match="occurs 0 times"):
        apply_edit(tmp_path, all_mutants()[0].edits[0], "stale")


@pytest.mark.parametrize("name", [mutant.name for mutant in all_mutants()])
def test_each_mutant_is_found_again(name: str) -> None:
    """The recorded seed, else one of the next few: a change that moves the draws need not record all seeds anew."""
    mutant, seed = named(name), read_records()[name].seed
    assert replay(mutant, seed).seed or hunt_once(mutant, seed + 1, 4).seed
