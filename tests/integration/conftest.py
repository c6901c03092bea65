from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lockmaster.cli.local_cluster import LocalCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Three members on real directories and loopback ports, whole."""
    with LocalCluster(tmp_path, arguments=("--profile", "fast")) as three:
        three.start()
        yield three
