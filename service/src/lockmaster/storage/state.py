"""The state machine's state on RocksDB: a StateView with an overlay of what is not stored yet.

Theory of operation. `put` and `delete` change `dirty` records of their table and note them in the open generation.
At an entry boundary (`sealed`) the open generation may be closed: its records are encoded once, their hashes taken,
and it joins the queue. `store` writes the oldest closed generation as one batch once this member's own log has its
last index durable. A stored record that nothing changed since becomes a clean one of the bounded read cache.

Laws.
1. A generation holds whole entries and is one batch: records, applied index, term and hash are never apart.
2. No batch holds the effect of an entry above the durable index given to `store`.
3. Dirty records are never evicted; clean ones are bounded by `cache_weight_max`: what a hit in the old age brings back
   counts again, and a value as many bytes as it has.
4. hash == sum modulo 2**64 of record_hash(key, value) over all records, as of `applied` rounded down to the last closed
   generation; keys under LOCAL_PREFIX and the representation of large values don't count.
5. A large value's parts lie in RocksDB before the batch that makes them reachable, under (key, generation's index).
6. A clean record is what RocksDB holds, unless a closed generation waits that has its key: `_forget` uncovers it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index, Term
from lockmaster_raft.ready import Base

from lockmaster.statemachine.view import Table, record_hash
from lockmaster.storage.frame import decode_base_body, encode_base_body
from lockmaster.storage.records import (
    BASE_KEY,
    INLINE,
    LARGE_BYTES_MIN,
    LARGE_PREFIX,
    LOCAL_PREFIX,
    META_KEY,
    Meta,
    Pointer,
    part_key,
    part_owner,
    resolve,
    split_parts,
)
from lockmaster.storage.rocks import StateDatabase

K = TypeVar("K")
V = TypeVar("V")

HASH_GRID: Final = 1024
"""A generation is closed at every index that this divides, on every replica: there the hashes can be compared."""
GRID_HASHES_KEPT: Final = 64
GENERATION_KEYS_MAX: Final = 2048
GENERATION_BYTES_MAX: Final = 128 << 10
"""A generation is closed at the first entry boundary at which it has this many keys or (estimated) bytes."""
PARTS_PER_STORE: Final = 4
"""Parts of large values (64 KiB each) written by one `store`: 1 MiB in one go would hold the loop for 13 ms."""
RECORD_WEIGHT: Final = 64
"""Estimated bytes of a batch that a record which was not encoded yet takes."""
CACHED_WEIGHT: Final = 192
"""Estimated bytes of a record in the read cache, if its encoded value has at most LIGHT_BYTES_MAX; else that more."""
LIGHT_BYTES_MAX: Final = 256
CACHE_WEIGHT_MAX: Final = 64 << 20
HASH_MASK: Final = (1 << 64) - 1

_MISSING: Final[Any] = object()


class _TableState:
    """One table's records in memory."""

    __slots__ = ("added", "clean", "dirty", "hashes", "heavy", "old", "open", "order", "pending", "table")

    def __init__(self, table: Table[Any, Any]) -> None:
        self.table = table
        self.dirty: dict[Any, Any] = {}
        """Latest value (None: deleted) of every record with a change that is not stored."""
        self.open: dict[Any, bytes | None] = {}
        """Keys changed in the open generation; the encoded value if the table has large ones."""
        self.pending: dict[Any, int] = {}
        """Number of the last closed, not yet stored generation that holds the key."""
        self.hashes: dict[Any, int] = {}
        """record_hash of the value as of the last closed generation; 0: no such record."""
        self.clean: dict[Any, Any] = {}
        self.old: dict[Any, Any] = {}
        """Two ages of clean records: a hit in the old one moves to the young one; the old one is dropped whole."""
        self.heavy: dict[Any, int] = {}
        """Bytes of the values above LIGHT_BYTES_MAX among them, and among those that are to be stored."""
        self.order: list[tuple[bytes, Any]] = []
        self.added: dict[Any, None] = {}
        """Dirty keys in order of their bytes, brought up to date by `ordered`; those that came since."""

    def weigh(self, key: Any, size: int) -> None:
        """Note how large the record's encoded value is."""
        if size > LIGHT_BYTES_MAX:
            self.heavy[key] = size
        else:
            self.heavy.pop(key, None)

    def ordered(self) -> list[tuple[bytes, Any]]:
        """Dirty keys in order. Only a scan pays for it, not every write."""
        encode_key, dirty = self.table.encode_key, self.dirty
        kept = [item for item in self.order if item[1] in dirty and item[1] not in self.added]
        kept.extend([(encode_key(key), key) for key in self.added if key in dirty])
        kept.sort(key=_key_bytes)
        self.order, self.added = kept, {}
        return kept


@dataclass(slots=True)
class Generation:
    """Closed changes, ready to be one batch."""

    number: int
    meta: Meta
    writes: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    """(full key, stored value or None to delete)."""
    parts: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Parts of large values, written ahead."""
    keys: list[tuple[_TableState, Any]] = field(default_factory=list)
    size: int = 0


class StateStore:
    """StateView on RocksDB. One task uses it, but `flush` may run in a thread beside."""

    def __init__(self, database: StateDatabase, *, cache_weight_max: int = CACHE_WEIGHT_MAX) -> None:
        self.path = database.path
        self._db = database
        self._tables: dict[Table[Any, Any], _TableState] = {}
        self._queue: deque[Generation] = deque()
        self._cache_weight = 0
        self._cache_weight_max = cache_weight_max
        self._open_weight = 0
        self._queued_bytes = 0
        self._hold = 0
        self._large_prefixes: set[int] = set()
        raw = self._db.get(META_KEY)
        self._stored = Meta.decode(raw) if raw is not None else Meta(0, 0, 0)
        self._flushed = self._stored.applied
        self._closed = self._stored
        self._sealed_index, self._sealed_term = self._stored.applied, self._stored.term
        self._number = 0
        self.grid_hashes: deque[tuple[int, int]] = deque(maxlen=GRID_HASHES_KEPT)
        """(applied index, state hash) at the latest indexes of the hash grid, ascending."""
        self._drop_orphans()

    # StateView.

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The record, or None."""
        state = self._tables.get(table)
        if state is None:
            state = self._table(table)
        value: Any = state.dirty.get(key, _MISSING)
        if value is _MISSING:
            value = state.clean.get(key, _MISSING)
            if value is _MISSING:
                value = self._fetch(state, key)
        return value  # type: ignore[no-any-return]  # tables are heterogeneous: the Table object says the type

    def put(self, table: Table[K, V], key: K, value: V) -> None:
        """Write a record."""
        state = self._tables.get(table)
        if state is None:
            state = self._table(table)
        if key not in state.dirty:
            state.added[key] = None
        state.dirty[key] = value
        if table.large_values:
            encoded = table.encode_value(value)
            self._open_weight += len(encoded)
            state.open[key] = encoded
        else:
            state.open[key] = None

    def insert(self, table: Table[K, V], key: K, value: V) -> None:
        """Write a record that does not exist: it costs no look-up, and nothing if it is deleted before it is stored."""
        state = self._tables.get(table)
        if state is None:
            state = self._table(table)
        if key not in state.dirty:
            state.hashes.setdefault(key, 0)
        self.put(table, key, value)

    def delete(self, table: Table[K, V], key: K) -> None:
        """Remove a record; no error if it is absent."""
        state = self._tables.get(table)
        if state is None:
            state = self._table(table)
        if key in state.open and state.hashes.get(key) == 0 and key not in state.pending:
            self._forget(state, key)
            return
        if key not in state.dirty:
            state.added[key] = None
        state.dirty[key] = None
        state.open[key] = None

    def scan(
        self, table: Table[K, V], first: bytes, stop: bytes | None, reverse: bool = False
    ) -> Iterator[tuple[K, V]]:
        """Records with first <= encoded key < stop in key order (or reversed), as of this call."""
        state = self._tables.get(table)
        if state is None:
            state = self._table(table)
        order = state.ordered()
        low = bisect_left(order, first, key=_key_bytes)
        high = len(order) if stop is None else bisect_left(order, stop, key=_key_bytes)
        overlay = [(raw, key, state.dirty[key]) for raw, key in order[low:high]]
        prefix = table.prefix
        stop_key = prefix + stop if stop is not None else bytes([prefix[0] + 1])
        if reverse:
            overlay.reverse()
            stored = self._db.scan_back(prefix + first, stop_key)
        else:
            stored = self._db.scan(prefix + first, stop_key)
        return self._merge(state, overlay, stored, reverse)

    # Entry boundaries and storing.

    def sealed(self, index: Index, term: Term) -> bool:
        """The entry at `index` is wholly applied. True if a generation waits for `store`. Cheap."""
        self._sealed_index, self._sealed_term = index, term
        keys = 0
        for state in self._tables.values():
            keys += len(state.open)
        if index % HASH_GRID == 0:
            self._close_generation()
            self.grid_hashes.append((index, self._closed.state_hash))
        elif keys >= GENERATION_KEYS_MAX or self._open_weight + keys * RECORD_WEIGHT >= GENERATION_BYTES_MAX:
            self._close_generation()
        return bool(self._queue)

    def cut(self) -> Index:
        """Close the generation at the last sealed entry and store nothing past it until `release`; its index."""
        self._close_generation()
        self._hold = self._closed.applied
        return Index(self._hold)

    def release(self) -> None:
        """End what `cut` began."""
        self._hold = 0

    def store(self, durable_index: Index) -> bool:
        """Write the oldest generation that is wholly durable in the own log, as one batch, or some large values.

        Returns whether more could be stored at once. Call every <= 100 ms and when `sealed` is True.
        Raises StorageFailed: exit then.
        """
        if not self._queue and self._sealed_index > self._closed.applied and self._sealed_index <= durable_index:
            self._close_generation()
        if not self._storable(durable_index):
            return False
        if self._queue[0].parts:
            self._write_parts(self._queue[0].parts)
        else:
            self._write(self._queue.popleft())
        self._db.check()
        return self._storable(durable_index)

    def _storable(self, durable_index: Index) -> bool:
        if not self._queue:
            return False
        applied = self._queue[0].meta.applied
        return applied <= durable_index and (not self._hold or applied <= self._hold)

    def flush(self) -> Index:
        """Make what is stored durable; the applied index that now survives a power cut. Blocks: call it in a thread."""
        stored = self._stored.applied
        self._db.flush()
        self._flushed = max(self._flushed, stored)
        return Index(self._flushed)

    def close(self) -> None:
        """Close RocksDB; what was not flushed is replayed from the log."""
        self._db.close()

    @property
    def hash(self) -> int:
        """The state hash as of `hash_index`."""
        return self._closed.state_hash

    @property
    def hash_index(self) -> Index:
        """The applied index that `hash` belongs to."""
        return Index(self._closed.applied)

    @property
    def applied(self) -> Index:
        """Index of the last sealed entry."""
        return Index(self._sealed_index)

    @property
    def applied_stored(self) -> Index:
        """Applied index of the last batch."""
        return Index(self._stored.applied)

    @property
    def applied_term(self) -> Term:
        """Term of the entry at applied_stored."""
        return Term(self._stored.term)

    @property
    def applied_flushed(self) -> Index:
        """Applied index that survives a power cut."""
        return Index(self._flushed)

    @property
    def overlay_bytes(self) -> int:
        """Estimated bytes of changes not stored yet; the host bounds them."""
        keys = sum(len(state.open) for state in self._tables.values())
        return self._queued_bytes + self._open_weight + keys * RECORD_WEIGHT

    @property
    def database(self) -> StateDatabase:
        """The open database, for snapshots."""
        return self._db

    def base(self) -> Base | None:
        """The Base this state was installed or made at, if any."""
        raw = self._db.get(BASE_KEY)
        return decode_base_body(raw) if raw is not None else None

    def write_base(self, base: Base) -> None:
        """Note the Base that this state directory stands at; durable with the next flush."""
        write_base(self._db, base)

    # Inside.

    def _table(self, table: Table[Any, Any]) -> _TableState:
        if len(table.prefix) != 1 or not LOCAL_PREFIX < table.prefix < LARGE_PREFIX:
            raise InvariantViolation(f"table {table.name}: prefix {table.prefix!r} is not one byte in 01 … fe")
        if any(known.prefix == table.prefix for known in self._tables):
            raise InvariantViolation(f"table {table.name}: prefix {table.prefix!r} is taken")
        if table.large_values:
            self._large_prefixes.add(table.prefix[0])
        state = self._tables[table] = _TableState(table)
        return state

    def _forget(self, state: _TableState, key: Any) -> None:
        """Made and removed between two batches: as if it had never been."""
        del state.dirty[key]
        del state.open[key]
        if key not in state.clean:
            del state.hashes[key]
        state.added.pop(key, None)

    def _fetch(self, state: _TableState, key: Any) -> Any:
        value = state.old.pop(key, _MISSING)
        if value is _MISSING:
            table = state.table
            raw = self._load(table.prefix + table.encode_key(key))
            if raw is None:
                value = None
                state.hashes[key] = 0
            else:
                value = table.decode_value(raw)
            state.weigh(key, 0 if raw is None else len(raw))
        self._keep(state, key, value)
        return value

    def _load(self, full_key: bytes) -> bytes | None:
        stored = self._db.get(full_key)
        return None if stored is None else resolve(self._db.get, full_key, stored)

    def _keep(self, state: _TableState, key: Any, value: Any) -> None:
        state.clean[key] = value
        self._cache_weight += CACHED_WEIGHT + state.heavy.get(key, 0)
        if self._cache_weight > self._cache_weight_max // 2:
            self._age()

    def _age(self) -> None:
        """Young becomes old, old is gone. Amortised: once per half a cache of loads."""
        self._cache_weight = 0
        for state in self._tables.values():
            state.old, state.clean = state.clean, {}
            state.hashes = {k: h for k, h in state.hashes.items() if k in state.dirty or k in state.old}
            state.heavy = {k: size for k, size in state.heavy.items() if k in state.dirty or k in state.old}

    def _close_generation(self) -> None:
        """Encode the open generation and queue it. Bounded by GENERATION_KEYS_MAX and one entry's changes."""
        if self._sealed_index == self._closed.applied:
            return
        self._number += 1
        total = self._closed.state_hash
        generation = Generation(self._number, self._closed)
        for state in self._tables.values():
            if state.open:
                total = self._close_table(state, generation, total)
        generation.meta = Meta(self._sealed_index, self._sealed_term, total & HASH_MASK)
        self._closed = generation.meta
        self._open_weight = 0
        self._queued_bytes += generation.size
        self._queue.append(generation)

    def _close_table(self, state: _TableState, generation: Generation, total: int) -> int:
        table, hashes, number = state.table, state.hashes, generation.number
        prefix, encode_key = table.prefix, table.encode_key
        for key, encoded in state.open.items():
            full_key = prefix + encode_key(key)
            value = state.dirty[key]
            before = hashes.get(key)
            if before is None:
                stored = self._load(full_key)
                before = 0 if stored is None else record_hash(full_key, stored)
            generation.keys.append((state, key))
            if value is None:
                hashes[key] = after = 0
                state.pending[key] = number
                if before == 0:
                    continue  # made and removed between two batches: nothing to store
                generation.writes.append((full_key, None))
                generation.size += len(full_key) + 32
            else:
                raw = table.encode_value(value) if encoded is None else encoded
                hashes[key] = after = record_hash(full_key, raw)
                state.pending[key] = number
                state.weigh(key, len(raw))
                self._close_value(generation, full_key, raw)
            total += after - before
        state.open = {}
        return total

    def _close_value(self, generation: Generation, full_key: bytes, raw: bytes) -> None:
        generation.size += len(full_key) + len(raw) + 32
        if len(raw) <= LARGE_BYTES_MIN:
            generation.writes.append((full_key, INLINE + raw))
            return
        self._large_prefixes.add(full_key[0])
        pointer = Pointer(self._sealed_index, len(raw))
        for number, part in enumerate(split_parts(raw)):
            generation.parts.append((part_key(full_key, pointer.index, number), part))
        generation.writes.append((full_key, pointer.encode()))

    def _write(self, generation: Generation) -> None:
        batch: list[tuple[bytes, bytes | None]] = []
        for write in generation.writes:
            if write[0][0] in self._large_prefixes:
                self._drop_parts(batch, write[0])
            batch.append(write)
        batch.append((META_KEY, generation.meta.encode()))
        self._db.write(batch)
        self._stored = generation.meta
        self._queued_bytes -= generation.size
        self._settle(generation)

    def _write_parts(self, parts: list[tuple[bytes, bytes]]) -> None:
        """Law 5: some of a generation's large values, ahead of its batch; one write each, so that none is long."""
        for _ in range(min(PARTS_PER_STORE, len(parts))):
            self._db.write((parts.pop(),))

    def _drop_parts(self, batch: list[tuple[bytes, bytes | None]], full_key: bytes) -> None:
        """Remove the parts of the large value that this write replaces."""
        before = self._db.get(full_key)
        pointer = Pointer.decode(before) if before is not None else None
        if pointer is not None:
            for number in range(pointer.part_count):
                batch.append((part_key(full_key, pointer.index, number), None))

    def _settle(self, generation: Generation) -> None:
        """Records that nothing changed since are clean now."""
        for state, key in generation.keys:
            if state.pending.get(key) != generation.number:
                continue
            del state.pending[key]
            if key not in state.open:
                self._keep(state, key, state.dirty.pop(key))
                state.added.pop(key, None)
            else:  # law 6: what was clean before this batch is not what RocksDB holds now
                state.clean.pop(key, None)
                state.old.pop(key, None)

    def _merge(
        self,
        state: _TableState,
        overlay: list[tuple[bytes, Any, Any]],
        stored: Iterator[tuple[bytes, bytes]],
        reverse: bool,
    ) -> Iterator[tuple[Any, Any]]:
        """Overlay and RocksDB in one order; at equal keys the overlay's record counts."""
        table, at, count = state.table, 0, len(overlay)
        for full_key, value in stored:
            raw = full_key[1:]
            while at < count and (overlay[at][0] > raw if reverse else overlay[at][0] < raw):
                if overlay[at][2] is not None:
                    yield overlay[at][1], overlay[at][2]
                at += 1
            if at < count and overlay[at][0] == raw:
                if overlay[at][2] is not None:
                    yield overlay[at][1], overlay[at][2]
                at += 1
                continue
            yield table.decode_key(raw), table.decode_value(resolve(self._db.get, full_key, value))
        for _, key, record in overlay[at:]:
            if record is not None:
                yield key, record

    def _drop_orphans(self) -> None:
        """Remove parts that a crash left without the batch that was to make them reachable."""
        orphans: list[tuple[bytes, bytes | None]] = []
        for key, _ in self._db.scan(LARGE_PREFIX, None):
            owner, index = part_owner(key)
            stored = self._db.get(owner)
            pointer = Pointer.decode(stored) if stored is not None else None
            if pointer is None or pointer.index != index:
                orphans.append((key, None))
        if orphans:
            self._db.write(orphans)


def _key_bytes(item: tuple[bytes, Any]) -> bytes:
    return item[0]


def write_base(database: StateDatabase, base: Base) -> None:
    """Note the Base that a state directory stands at; durable with the next flush."""
    database.write(((BASE_KEY, encode_base_body(base)),))
