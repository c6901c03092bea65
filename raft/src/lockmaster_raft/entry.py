"""Log entries: what the core orders and never looks into."""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import Final

from lockmaster_raft.errors import LevelUnsupported
from lockmaster_raft.ids import Index, Nanos, Term
from lockmaster_raft.record import record


class EntryKind(IntEnum):
    """What an entry is; in the header, never sniffed from the payload. An unknown kind stops the node."""

    NOOP = 0
    """A new leader's first entry of its term (§6.4, §8)."""
    DATA = 1
    """Client commands, packed by the service; opaque to the core."""
    CONFIG = 2
    """A Configuration, effective when appended (§4.1)."""
    GATE = 3
    """A level gate (FENCE, ACTIVATE, CANCEL, DEACTIVATE); reserved in the format from the first byte."""


DATA: Final = EntryKind.DATA
"""Plain names, as in ready.py: Enum look-ups are slow on Python 3.11."""
NOOP: Final = EntryKind.NOOP
CONFIG: Final = EntryKind.CONFIG
GATE: Final = EntryKind.GATE


_CRC_HEADER: Final = struct.Struct(">QQBq")


@record
class Entry:
    """One entry of the replicated log.

    `leader_time` is cluster time in nanoseconds, stamped by the leader that appended the entry.
    `crc32` covers index, term, kind, leader_time and payload; it is checked wherever an entry enters a process.
    """

    index: Index
    term: Term
    kind: EntryKind
    leader_time: Nanos
    payload: bytes
    crc32: int

    @property
    def size(self) -> int:
        """Bytes this entry counts for in windows and budgets: payload plus a fixed header allowance."""
        return len(self.payload) + ENTRY_OVERHEAD


ENTRY_OVERHEAD: Final = 48
"""Bytes added to a payload's length when windows, batches and budgets are counted."""


_KINDS: Final = {int(kind): kind for kind in EntryKind}


def known_kind(index: Index, kind: int) -> EntryKind:
    """The kind with this number. Raises LevelUnsupported for one that this binary does not know (raft.md §6)."""
    known = _KINDS.get(kind)
    if known is None:
        raise LevelUnsupported(f"entry {index} is of kind {kind}, which this binary does not know: start a newer one")
    return known


def entry_crc32(index: Index, term: Term, kind: int, leader_time: Nanos, payload: bytes) -> int:
    """The checksum of an entry's header fields and payload."""
    return zlib.crc32(payload, zlib.crc32(_CRC_HEADER.pack(index, term, kind, leader_time)))


def make_entry(index: Index, term: Term, kind: EntryKind, leader_time: Nanos, payload: bytes) -> Entry:
    """A new entry with its checksum computed."""
    return Entry(index, term, kind, leader_time, payload, entry_crc32(index, term, kind, leader_time, payload))
