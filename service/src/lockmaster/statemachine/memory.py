"""DictView: the whole state in dicts, for tests, the simulator and tools."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

from lockmaster_raft.errors import InvariantViolation

from lockmaster.statemachine.records import ALL_TABLES
from lockmaster.statemachine.view import Table, record_hash

K = TypeVar("K")
V = TypeVar("V")


class _Rows:
    """One table: records by key, and their encoded keys in order, brought up to date when a scan asks."""

    __slots__ = ("added", "order", "records")

    def __init__(self) -> None:
        self.records: dict[Any, Any] = {}
        self.order: list[tuple[bytes, Any]] = []
        self.added: dict[Any, None] = {}

    def ordered(self, table: Table[Any, Any]) -> list[tuple[bytes, Any]]:
        """(key bytes, key) of what may be there, in order: a key without record has been deleted since."""
        if self.added:
            self.order.extend([(table.encode_key(key), key) for key in self.added])
            self.added = {}
            self.order.sort()
            fresh: list[tuple[bytes, Any]] = []
            last: bytes | None = None
            for item in self.order:
                if item[0] != last and item[1] in self.records:
                    fresh.append(item)
                    last = item[0]
            self.order = fresh
        return self.order


class DictView:
    """A StateView that keeps records as the objects they are. See view.py for the laws."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._rows: dict[Table[Any, Any], _Rows] = {table: _Rows() for table in ALL_TABLES}
        by_prefix = {table.prefix: table for table in ALL_TABLES}
        for key, value in pairs:
            table = by_prefix[key[:1]]
            self.put(table, table.decode_key(key[1:]), table.decode_value(value))

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The record, or None."""
        return cast("V | None", self._rows[table].records.get(key))

    def put(self, table: Table[K, V], key: K, value: V) -> None:
        """Write a record."""
        rows = self._rows[table]
        if key not in rows.records:
            rows.added[key] = None
        rows.records[key] = value

    def insert(self, table: Table[K, V], key: K, value: V) -> None:
        """Write a record that does not exist."""
        if key in self._rows[table].records:
            raise InvariantViolation(f"table {table.name}: insert of {key!r}, which exists")
        self.put(table, key, value)

    def delete(self, table: Table[K, V], key: K) -> None:
        """Remove a record."""
        rows = self._rows[table]
        rows.records.pop(key, None)
        rows.added.pop(key, None)

    def scan(
        self, table: Table[K, V], first: bytes, stop: bytes | None, reverse: bool = False
    ) -> Iterator[tuple[K, V]]:
        """Records with first <= key bytes < stop, in order."""
        rows = self._rows[table]
        order = rows.ordered(table)
        low = bisect_left(order, first, key=lambda item: item[0])
        high = len(order) if stop is None else bisect_left(order, stop, key=lambda item: item[0])
        positions = range(high - 1, low - 1, -1) if reverse else range(low, high)
        for position in positions:
            key = order[position][1]
            record = rows.records.get(key)
            if record is not None:
                yield key, record

    def dump(self) -> list[tuple[bytes, bytes]]:
        """Every record as (prefixed key bytes, value bytes), in key order: give it to DictView() for a copy."""
        pairs = [
            (table.prefix + table.encode_key(key), table.encode_value(value))
            for table in ALL_TABLES
            for key, value in self._rows[table].records.items()
        ]
        return sorted(pairs)

    @property
    def hash(self) -> int:
        """The state hash (view.py law 4), computed anew."""
        return sum(record_hash(key, value) for key, value in self.dump()) % 2**64
