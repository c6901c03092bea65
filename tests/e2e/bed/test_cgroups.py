"""Which hierarchies hold the bed's groups."""

from __future__ import annotations

from pathlib import Path

from .cgroups import hierarchies_in, removed

FIRST = """cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
/dev/vda / ext4 rw 0 0
"""


def test_with_v1_it_is_every_hierarchy_the_named_one_too_and_not_the_empty_v2() -> None:
    assert [str(one.mount) for one in hierarchies_in(FIRST)] == ["/sys/fs/cgroup/cpuset", "/sys/fs/cgroup/systemd"]
    assert "cpuset" in hierarchies_in(FIRST)[0].controllers


def test_with_v2_alone_it_is_that_one() -> None:
    (only,) = hierarchies_in("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n")
    assert (str(only.mount), only.version) == ("/sys/fs/cgroup", 2)


def test_a_group_goes_with_all_groups_below(tmp_path: Path) -> None:
    (tmp_path / "bed" / "n1" / "pods").mkdir(parents=True)
    (tmp_path / "bed" / "n2").mkdir()
    assert removed(tmp_path / "bed")
    assert not (tmp_path / "bed").exists()


def test_a_busy_group_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "bed" / "n1").mkdir(parents=True)
    (tmp_path / "bed" / "n1" / "held").touch()
    assert not removed(tmp_path / "bed")
