"""The groups that a bed's containers live in: `/BED/MACHINE` in every hierarchy of this machine.

The kubelet wants its root made beforehand in each (with cgroup v1 also in the named one), and a group of v1's cpuset
takes no process until it has processors and memory. With cgroup v2 there is one hierarchy, and the controllers have
to be handed down to the bed's group.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from .host import Failed

CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
REMOVE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy."""

    mount: Path
    controllers: frozenset[str]
    version: int


def hierarchies_in(mounts: str) -> list[Hierarchy]:
    """Those that hold containers, from the text of /proc/mounts: all of v1, or the one of v2 where there is none."""
    found: list[Hierarchy] = []
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) >= 4 and fields[2] in ("cgroup", "cgroup2"):
            version = 1 if fields[2] == "cgroup" else 2
            found.append(Hierarchy(Path(fields[1]), frozenset(fields[3].split(",")), version))
    first = [one for one in found if one.version == 1]
    return first or found


def hierarchies() -> list[Hierarchy]:
    return hierarchies_in(Path("/proc/mounts").read_text())


def make(group: str) -> None:
    """Makes "/BED" and "/BED/MACHINE" everywhere, ready for processes."""
    for hierarchy in hierarchies():
        folder = hierarchy.mount
        for part in group.strip("/").split("/"):
            if hierarchy.version == 2:
                hand_down(folder)
            folder /= part
            folder.mkdir(exist_ok=True)
            if "cpuset" in hierarchy.controllers and hierarchy.version == 1:
                for name in CPUSET_FILES:
                    (folder / name).write_text((folder.parent / name).read_text())


def hand_down(folder: Path) -> None:
    """Lets the groups below use every controller that this one has."""
    has = (folder / "cgroup.controllers").read_text().split()
    for controller in CONTROLLERS:
        if controller in has:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(group: str) -> None:
    """Removes a group and all below it, once its processes have been killed. Raises Failed where one stays busy."""
    deadline = time.monotonic() + REMOVE_SECONDS
    for hierarchy in hierarchies():
        top = hierarchy.mount / group.strip("/")
        while not removed(top):
            if time.monotonic() > deadline:
                raise Failed(f"{top}: still busy {REMOVE_SECONDS:g} s after its processes were killed")
            time.sleep(0.05)


def removed(top: Path) -> bool:
    """One try, the deepest first: the kernel takes a moment to let go of ended processes."""
    if not top.exists():
        return True
    folders = sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    try:
        for folder in (*folders, top):
            folder.rmdir()
    except OSError:
        return False
    return True
