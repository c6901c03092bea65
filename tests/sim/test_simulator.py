"""The mutants: every one matches the source and is found again. The seeds have a file of their own, test_seeds.py."""

from pathlib import Path

import pytest
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
