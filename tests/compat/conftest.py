from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lockmaster.cli.local_cluster import LocalCluster

from .rolling import RELEASES, unpack


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """What a process needs in its environment to be of this release."""
    return unpack(request.param, tmp_path / "release")


@pytest.fixture
def cluster(release: dict[str, str], tmp_path: Path) -> Iterator[LocalCluster]:
    """Three members of the release, whole."""
    with LocalCluster(tmp_path, arguments=("--profile", "fast")) as three:
        for member in three.members:
            member.environment.update(release)
        three.start()
        yield three
