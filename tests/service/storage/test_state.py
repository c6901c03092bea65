"""StateStore against DictView: same answers, same hash, never beyond the durable log, whole batches across crashes."""

from __future__ import annotations

import ast
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lockmaster.storage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster.statemachine.memory import DictView
from lockmaster.statemachine.records import ALL_TABLES, NONCES
from lockmaster.statemachine.view import Table
from lockmaster.storage.errors import StorageFailed
from lockmaster.storage.records import LARGE_PREFIX
from lockmaster.storage.rocks import Database
from lockmaster.storage.state import StateStore
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index, Term

BLOBS: Table[bytes, bytes] = Table("blobs", b"\x70", bytes, bytes, bytes, bytes, large_values=True)
TERM = Term(1)


def test_the_tables_of_the_state_machine_fit_beside_the_store_s_own_keys(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")))
    for table in ALL_TABLES:
        assert list(store.scan(table, b"", None)) == []
    store.close()


@dataclass(frozen=True)
class Put:
    key: bytes
    value: int | None


@dataclass(frozen=True)
class Step:
    """One entry's writes, then what the host does."""

    puts: tuple[Put, ...]
    then: str


_keys = st.sampled_from([bytes([a, b]) for a in b"abc" for b in b"xyz"])
_puts = st.builds(Put, _keys, st.one_of(st.none(), st.integers(0, 2**63)))
_steps = st.builds(
    Step,
    st.lists(_puts, max_size=6).map(tuple),
    st.sampled_from(["nothing", "store", "late", "close", "cut", "flush", "reopen"]),
)


def _apply(view: DictView | StateStore, step: Step) -> None:
    for put in step.puts:
        if put.value is None:
            view.delete(NONCES, put.key)
        else:
            view.put(NONCES, put.key, put.value)


def _compare(store: StateStore, twin: DictView) -> None:
    for first, stop in ((b"", None), (b"b", b"c"), (b"ay", b"cx")):
        for reverse in (False, True):
            expected = list(twin.scan(NONCES, first, stop, reverse))
            assert list(store.scan(NONCES, first, stop, reverse)) == expected
    for key in (b"ax", b"bz", b"cy"):
        assert store.get(NONCES, key) == twin.get(NONCES, key)


@settings(max_examples=30, deadline=None)
@given(st.lists(_steps, max_size=25))
def test_equals_the_dict_view_through_storing_crashes_and_replay(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        twin, store = DictView(), StateStore(Database(f"{directory}/s"), cache_weight_max=4096)
        for index, step in enumerate(steps, start=1):
            _apply(twin, step)
            _apply(store, step)
            store.sealed(Index(index), TERM)
            if step.then == "store":
                while store.store(Index(index)):
                    pass
            elif step.then == "late":
                store.store(Index(index - 1))
            elif step.then == "close":
                store.cut()
                store.release()
            elif step.then == "cut":
                assert store.cut() == index
                while store.store(Index(index)):
                    pass
                assert store.hash == twin.hash
                store.release()
            elif step.then == "flush":
                store.flush()
            elif step.then == "reopen":
                store.close()
                store = StateStore(Database(f"{directory}/s"), cache_weight_max=4096)
                for replayed in range(store.applied_stored + 1, index + 1):
                    _apply(store, steps[replayed - 1])
                    store.sealed(Index(replayed), TERM)
            assert store.applied_stored <= index
            _compare(store, twin)
        store.cut()
        assert store.hash == twin.hash
        store.close()


def test_a_record_that_was_removed_never_comes_back(tmp_path: Path) -> None:
    """Of one record that comes and goes: written, closed, stored and read at every possible place between."""
    for seed in range(150):
        draw = random.Random(seed)
        twin, store = DictView(), StateStore(Database(str(tmp_path / str(seed))))
        for index in range(1, 60):
            absent = twin.get(NONCES, b"k") is None
            for view in (twin, store):
                if absent:
                    view.insert(NONCES, b"k", index)
                else:
                    view.delete(NONCES, b"k")
            store.sealed(Index(index), TERM)
            if draw.random() < 0.4:
                store.cut()
                store.release()
            if draw.random() < 0.4:
                store.store(Index(index))
            assert store.get(NONCES, b"k") == twin.get(NONCES, b"k"), (seed, index)
        store.cut()
        assert store.hash == twin.hash
        store.close()


def test_no_batch_holds_an_entry_above_the_durable_index(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")))
    for index in range(1, 6):
        store.put(NONCES, b"k", index)
        store.sealed(Index(index), TERM)
        if index == 3:
            store.cut()
            store.release()
    assert not store.store(Index(2))
    assert store.applied_stored == 0
    store.store(Index(4))
    assert store.applied_stored == 3
    store.flush()
    store.close()
    assert StateStore(Database(str(tmp_path / "s"))).get(NONCES, b"k") == 3


def test_a_record_changed_after_its_generation_closed_is_stored_as_it_was(tmp_path: Path) -> None:
    boxes: Table[bytes, list[int]] = Table("boxes", b"\x71", bytes, bytes, bytes, list)
    store = StateStore(Database(str(tmp_path / "s")))
    box = [1]
    store.put(boxes, b"k", box)
    store.sealed(Index(1), TERM)
    store.cut()
    store.release()
    box.append(2)
    store.put(boxes, b"k", box)
    store.sealed(Index(2), TERM)
    store.store(Index(1))
    store.flush()
    assert store.get(boxes, b"k") == [1, 2]
    store.close()
    assert StateStore(Database(str(tmp_path / "s"))).get(boxes, b"k") == [1]


def test_made_and_removed_between_two_batches_costs_no_write(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")))
    for key in range(100):
        store.put(NONCES, bytes([key]), 1)
        store.delete(NONCES, bytes([key]))
    store.sealed(Index(1), TERM)
    store.cut()
    assert store.overlay_bytes == 0
    assert store.hash == 0
    store.close()


def test_large_values_lie_in_parts_and_leave_none_behind(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")))
    big = random.Random(1).randbytes(1 << 20)
    for index, value in enumerate((big, big[: 200 << 10], b"small", big, None), start=1):
        if value is None:
            store.delete(BLOBS, b"k")
        else:
            store.put(BLOBS, b"k", value)
        store.sealed(Index(index), TERM)
        while store.store(Index(index)):
            pass
        parts = list(store.database.scan(LARGE_PREFIX, None))
        assert sum(len(part) for _, part in parts) == (len(value) if value and len(value) > 65536 else 0)
        assert [record for _, record in store.scan(BLOBS, b"", None)] == ([value] if value else [])
    assert store.hash == 0
    store.close()


def test_parts_without_their_batch_are_removed_at_open(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")))
    store.put(BLOBS, b"k", bytes(100_000))
    store.sealed(Index(1), TERM)
    store.cut()
    generation = store._queue[0]
    store.database.write(generation.parts)
    store.flush()
    store.close()
    store = StateStore(Database(str(tmp_path / "s")))
    assert store.get(BLOBS, b"k") is None
    assert list(store.database.scan(LARGE_PREFIX, None)) == []
    store.close()


def test_two_tables_with_one_prefix_are_refused(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")))
    store.get(BLOBS, b"")
    with pytest.raises(InvariantViolation, match="taken"):
        store.get(Table("other", b"\x70", bytes, bytes, bytes, bytes), b"")
    store.close()


def test_a_flipped_bit_in_rocksdb_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    """Sampled: every answer is right or StorageFailed; a scan never just ends early."""
    store, twin = StateStore(Database(str(tmp_path / "s"))), DictView()
    for index in range(1, 3000):
        store.put(NONCES, b"%06d" % index, index)
        twin.put(NONCES, b"%06d" % index, index)
        store.sealed(Index(index), TERM)
        while store.store(Index(index)):
            pass
    store.cut()
    store.release()
    while store.store(Index(3000)):
        pass
    store.flush()
    store.close()
    (table,) = [p for p in (tmp_path / "s").iterdir() if p.suffix == ".sst" and p.stat().st_size > 20_000]
    whole, draw, refused = table.read_bytes(), random.Random(7), 0
    expected = list(twin.scan(NONCES, b"", None))
    for _ in range(40):
        at = draw.randrange(len(whole))
        table.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        try:
            damaged = StateStore(Database(str(tmp_path / "s")))
        except StorageFailed:
            refused += 1
            continue
        try:
            found = list(damaged.scan(NONCES, b"", None))
        except StorageFailed:
            refused += 1
            found = expected
        damaged.close()
        assert found == expected, f"flip at {at}"
    assert refused > 25


_CHILD = """
import sys
from lockmaster.storage.rocks import Database
from lockmaster.storage.state import StateStore
from lockmaster.statemachine.records import NONCES
from lockmaster_raft.ids import Index, Term
store = StateStore(Database(sys.argv[1]))
for index in range(store.applied_stored + 1, 10**9):
    for key in range(8):
        store.put(NONCES, b"k%d" % key, index)
    store.put(NONCES, b"e%d" % index, index)
    store.sealed(Index(index), Term(1))
    if index % 7 == 0:
        while store.store(Index(index)):
            pass
    if index % 400 == 0:
        print(store.flush(), flush=True)
"""


def test_kill_9_leaves_whole_batches_at_or_above_the_last_flush(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    for flushes in (1, 3):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, path], stdout=subprocess.PIPE, text=True)
        if child.stdout is None:
            raise AssertionError("no pipe")
        flushed = [int(child.stdout.readline()) for _ in range(flushes)][-1]
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store, twin = StateStore(Database(path)), DictView()
        applied = store.applied_stored
        assert applied >= flushed
        for key in range(8):
            twin.put(NONCES, b"k%d" % key, applied)
        for index in range(1, applied + 1):
            twin.put(NONCES, b"e%d" % index, index)
        assert list(store.scan(NONCES, b"", None)) == list(twin.scan(NONCES, b"", None))
        assert store.hash == twin.hash
        store.close()


def test_nothing_scans_rocksdb_by_items_keys_or_values() -> None:
    """They end silently at a bad block. Only rocks.py touches rocksdict, and only by iter() with status()."""
    root = Path(next(iter(lockmaster.storage.__path__)))
    for path in sorted(root.glob("*.py")):
        tree = ast.parse(path.read_text())
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom | ast.Import)]
        names = [getattr(n, "module", None) or n.names[0].name for n in imports]
        assert ("rocksdict" in names) == (path.name == "rocks.py"), path
        if path.name != "rocks.py":
            continue
        calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
        attributes = [c.attr for c in calls if isinstance(c, ast.Attribute)]
        assert not {"items", "keys", "values", "entities", "columns"} & set(attributes)
        assert {"iter", "status"} <= set(attributes)


CACHE_BYTES = 1 << 20


def _held(store: StateStore, work: Callable[[], None]) -> int:
    """Bytes that Python holds more than before once everything is stored."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        while store.store(store.applied):
            pass
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def _write_large(store: StateStore, numbers: range) -> None:
    for number in numbers:
        store.put(BLOBS, b"%06d" % number, os.urandom(32 << 10))
        store.sealed(Index(number + 1), TERM)
        while store.store(store.applied):
            pass


def test_large_values_that_are_stored_do_not_fill_the_memory(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")), cache_weight_max=CACHE_BYTES)
    assert _held(store, lambda: _write_large(store, range(128))) < 2 * CACHE_BYTES  # 4 MiB were written
    store.close()


def test_records_that_are_read_again_and_again_do_not_fill_the_memory(tmp_path: Path) -> None:
    store = StateStore(Database(str(tmp_path / "s")), cache_weight_max=CACHE_BYTES)
    _write_large(store, range(128))

    def read_while_others_are_written() -> None:
        for more in range(128, 160):
            for number in range(128):
                store.get(BLOBS, b"%06d" % number)
            _write_large(store, range(more, more + 1))

    assert _held(store, read_while_others_are_written) < 2 * CACHE_BYTES
    store.close()
