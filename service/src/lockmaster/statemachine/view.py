"""What the state machine sees of its state: typed tables of records, read and written through a StateView.

Theory of operation. `apply` never holds state of its own: it reads and writes records through a StateView, which
keeps an overlay of records not yet stored above whatever holds the rest (RocksDB in a server, a dict in tests). A
record is a Python object; its bytes are made once, when the overlay is sealed for storing, so a record that is
rewritten a thousand times between two batches is encoded once.

Laws.
1. A record handed to `put` belongs to the view from then on: change it only by `put` of the same or a new object.
2. A record from `get` may be changed in place only if it is `put` again in the same apply.
3. Tables with `local=True` are outside of hash and snapshots; `apply` never uses them.
4. The state hash is the sum modulo 2**64 of one 64-bit hash per (key bytes, value bytes): a function of the
   contents alone, so it does not depend on when batches were sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, eq=False)
class Table(Generic[K, V]):
    """One kind of record. Keys sort in the order of their encoded bytes; `prefix` is one byte, unique (FORMAT.md)."""

    name: str
    prefix: bytes
    encode_key: Callable[[K], bytes]
    decode_key: Callable[[bytes], K]
    encode_value: Callable[[V], bytes]
    decode_value: Callable[[bytes], V]
    large_values: bool = False
    """Values may exceed 64 KiB: stored ahead of their batch under a key that nothing reaches before it."""


def record_hash(key: bytes, value: bytes) -> int:
    """64 bits of one record for the state hash; `key` is with its table's prefix. Never 0 ("no record")."""
    return int.from_bytes(blake2b(len(key).to_bytes(4, "big") + key + value, digest_size=8).digest(), "big") or 1


class StateView(Protocol):
    """Ordered, typed, transactional-by-entry access to the state. Single-threaded: one task applies."""

    def get(self, table: Table[K, V], key: K) -> V | None:
        """The record, or None."""

    def put(self, table: Table[K, V], key: K, value: V) -> None:
        """Write a record."""

    def insert(self, table: Table[K, V], key: K, value: V) -> None:
        """Write a record that certainly does not exist; a put that spares the look-up."""

    def delete(self, table: Table[K, V], key: K) -> None:
        """Remove a record; no error if it is absent."""

    def scan(
        self, table: Table[K, V], first: bytes, stop: bytes | None, reverse: bool = False
    ) -> Iterator[tuple[K, V]]:
        """Records whose encoded key k (without prefix) has first <= k < stop (None: to the table's end), in key order
        or reversed. Sees writes made before the call; writing the same table while iterating is an error."""
