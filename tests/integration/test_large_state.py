"""A state that no member may hold in memory: made into a snapshot, sent and installed while commits go on (MR X23)."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.consensus.catch_up import until_it_answers
from benchmarks.consensus.measured import Load, MeasuredCluster, cluster, cost, fill
from benchmarks.consensus.part import Setting
from benchmarks.consensus.snapshots import SHORT_LOG, VALUE_BYTES, mib

from .processes import snapshot_children

STATE_BYTES = 128 << 20
INSTALLING_MAX = 140 << 20
CHILD_MAX = {"make": 100 << 20, "build": 200 << 20}
"""Most memory of the member that installs it, of the child that makes the snapshot, and of that which makes a state of
the chunks. Measured: 97, 44 and 140 MiB; 293 and 171 where the first two took the whole state into memory,
and 164 where the member made it by itself."""
GAP_SECONDS_MAX = 15.0
"""Longest time without a commit meanwhile: 4 to 6 s were measured with a twentieth of two processors."""
WAIT = 120.0
LOOK_SECONDS = 0.02


def peak(process: int | str) -> int:
    """The most memory that a process has had, in bytes; 0 if it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0


class SnapshotChildren:
    """Looks for the snapshot children, until it is closed, and notes the most memory that one of each kind has had."""

    def __init__(self, group: MeasuredCluster) -> None:
        self._group = group
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak = dict.fromkeys(CHILD_MAX, 0)

    def __enter__(self) -> SnapshotChildren:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, at: Any) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            for parent in [member.process.pid for member in self._group.members if member.process is not None]:
                for kind, child in snapshot_children(parent):
                    self.peak[kind] = max(self.peak[kind], peak(child))


def test_memory_is_bounded_and_commits_go_on_while_a_large_state_is_installed(tmp_path: Path) -> None:
    setting = Setting(tls=None, scratch=tmp_path, quick=True, rounds=1, say=print)
    with cluster(setting, ("full", "full"), {"": SHORT_LOG}) as group:
        assert fill(group, setting, STATE_BYTES, 1_000_000, VALUE_BYTES, WAIT) >= STATE_BYTES
        leader = group.the_leader()
        joiner = group.prepare(group.add(arguments=("--learner",)), SHORT_LOG)
        load = Load(group, setting, clients=4, pause_ms=20.0)
        with load, SnapshotChildren(group) as children:
            tip, began = group.tip(), time.monotonic()
            group.start_member(joiner)
            answers = until_it_answers(group, joiner)
            assert joiner.process is not None
            blank = peak(joiner.process.pid)
            group.wait_until_caught_up(joiner, tip, WAIT)
            ended = time.monotonic()
            time.sleep(0.5)  # its samples are written four times a second
            installing = peak(joiner.process.pid)
        stalls = [1e3 * cost(member, start, ended).stall for member, start in ((leader, began), (joiner, answers))]
        print(f"{ended - began:.1f} s; most memory: {mib(blank):.0f} MiB blank, {mib(installing):.0f} once installed")
        made, built = (mib(children.peak[kind]) for kind in ("make", "build"))
        print(f"most memory of a child that makes the snapshot: {made:.0f} MiB; a state of it: {built:.0f} MiB")
        print(f"longest stall of the loop: leader {stalls[0]:.0f} ms, installing member {stalls[1]:.0f} ms")
        status = group.status(joiner, WAIT)
        assert status is not None
        assert status.log_first_index > 1  # it has not all come as log
    gap = load.gap(began, ended)
    print(f"longest time without a commit: {gap:.2f} s, {len(load.done)} writes")
    for kind, most in CHILD_MAX.items():
        assert 0 < children.peak[kind] <= most, kind
    assert installing <= INSTALLING_MAX
    assert gap <= GAP_SECONDS_MAX, load.errors[:5]
