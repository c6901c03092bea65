"""Pieces of something immutable, each named by its content: which are asked for, of whom, and until when (raft.md §2).

Theory of operation. A fetch is a numbered row of pieces: the chunks of a snapshot, named by their digests, or parts of
a committed range, named by the (index, term) at their end. Several are asked for at once, each of the source that has
the fewest of them to serve. A source that has not what it is asked for, or sends what is no good, is not asked again
while there is another: what it was asked for is had elsewhere. So it is with one that sends nothing in time, but a
request or its answer may have been lost (the two have only just connected): it is asked once more when there is no
better one, and each time waited for half as long. With no source left the fall-back serves: for a snapshot the leader;
a range has none, and its leader sends the entries itself.

Laws: a piece is asked of one source at a time; outstanding and unfinished ones together are at most
PIECES_OUTSTANDING_MAX; what is held is never asked for again unless it turns out to be damaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lockmaster_raft.entry import Entry
from lockmaster_raft.ids import INDEX_MAX, NO_NODE, Index, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels
from lockmaster_raft.messages import InstallSnapshot

PIECES_OUTSTANDING_MAX: Final = 8
"""Pieces asked for and not yet stored: a fetch holds no more of them in memory."""
TIMEOUT_NS_MIN: Final = 1_000_000_000


def timeout_ns(election_timeout_ns: int) -> int:
    """How long a source that is asked may send nothing: two election timeouts, for a busy disk at least a second."""
    return max(2 * election_timeout_ns, TIMEOUT_NS_MIN)


class Asked(NamedTuple):
    """Of whom a piece was asked, and when it is asked for elsewhere or again."""

    source: NodeId
    deadline: int


class Pieces:
    """The scheduling of one fetch."""

    __slots__ = (
        "again",
        "bad",
        "fall_back",
        "held",
        "next_number",
        "outstanding",
        "served",
        "silent",
        "sources",
        "total",
        "used",
    )

    def __init__(self, total: int, sources: Sequence[NodeId], fall_back: NodeId) -> None:
        self.total = total
        self.sources = tuple(sources)
        self.fall_back = fall_back
        """Asked when no source is left; NO_NODE: nobody is."""
        self.held: set[int] = set()
        self.outstanding: dict[int, Asked] = {}
        self.used: dict[int, NodeId] = {}
        """Came of that source, but being stored or waiting for the ones before it."""
        self.bad: set[NodeId] = set()
        self.silent: set[NodeId] = set()
        """Sent nothing in time, and nothing since: asked for the last time."""
        self.served: set[NodeId] = set()
        """Sources of which a piece came."""
        self.next_number = 0
        """Every piece below it is held, used or outstanding, but for those in `again`."""
        self.again: list[int] = []

    @property
    def is_whole(self) -> bool:
        """Everything is held."""
        return len(self.held) == self.total

    @property
    def is_exhausted(self) -> bool:
        """Nothing is on its way and nobody is left to ask, though pieces are missing.

        Never with a fall-back. Pieces that came and wait for a missing one before them wait in vain.
        """
        return not self.is_whole and not self.outstanding and not self._left()

    def _left(self) -> tuple[NodeId, ...]:
        left = tuple(s for s in self.sources if s not in self.bad)
        if not left and self.fall_back != NO_NODE:
            return (self.fall_back,)
        return left

    def renew(self, sources: Sequence[NodeId], fall_back: NodeId) -> None:
        """These are the sources from now on, none of them bad."""
        self.sources, self.fall_back = tuple(sources), fall_back
        self.bad.clear()
        self.silent.clear()

    def ask(self, now: int, timeout: int) -> tuple[int, NodeId] | None:
        """The next (piece, source) to ask for, noted as outstanding; None while there is nothing to be asked."""
        left = self._left()
        if not left or len(self.outstanding) + len(self.used) >= PIECES_OUTSTANDING_MAX:
            return None
        number = self._next_number()
        if number is None:
            return None
        busy = [asked.source for asked in self.outstanding.values()]
        source = min(left, key=lambda s: (s in self.silent, busy.count(s)))
        self.outstanding[number] = Asked(source, now + timeout // 2)
        return number, source

    def _next_number(self) -> int | None:
        if self.again:
            return self.again.pop()
        while self.next_number < self.total and self.next_number in self.held:
            self.next_number += 1
        if self.next_number >= self.total:
            return None
        self.next_number += 1
        return self.next_number - 1

    def came(self, number: int, source: NodeId, deadline: int) -> None:
        """A piece that was asked for is here, not yet stored; its source is alive: see `goes_on`."""
        del self.outstanding[number]
        self.used[number] = source
        self.served.add(source)
        self.goes_on(source, deadline)

    def goes_on(self, source: NodeId, deadline: int) -> None:
        """This source has sent something: it has until then for the next piece, or part, that was asked of it."""
        self.silent.discard(source)
        for number, asked in self.outstanding.items():
            if asked.source == source:
                self.outstanding[number] = Asked(source, deadline)

    def hold(self, number: int) -> None:
        """A piece is verified and stored, whether it was asked for or found."""
        self.used.pop(number, None)
        if self.outstanding.pop(number, None) is not None and number in self.again:
            self.again.remove(number)
        self.held.add(number)

    def refused(self, number: int) -> None:
        """A piece that came, or was held, is no good; who served it is not asked again while there is another."""
        source = self.used.pop(number, NO_NODE)
        if source != NO_NODE:
            self.bad.add(source)
        self.held.discard(number)
        if number not in self.outstanding and number not in self.again:
            self.again.append(number)

    def not_there(self, number: int, source: NodeId) -> None:
        """The source it was asked of has it not: elsewhere at once; with nobody else left, again at its deadline."""
        self.bad.add(source)
        left = self._left()
        if left != (source,) and (left or self.fall_back == NO_NODE):
            del self.outstanding[number]
            self.again.append(number)

    def expire(self, now: int) -> None:
        """What did not come in time is asked for elsewhere, or once more."""
        late = sorted(n for n, asked in self.outstanding.items() if asked.deadline <= now)
        silent = {self.outstanding.pop(number).source for number in late}
        self.again += late
        self.bad |= silent & self.silent
        self.silent |= silent

    def deadline(self) -> int:
        """When the oldest outstanding piece is asked for elsewhere."""
        return min((asked.deadline for asked in self.outstanding.values()), default=INDEX_MAX)


@dataclass(slots=True)
class Fetch:
    """A snapshot being fetched."""

    snapshot: InstallSnapshot
    leader: NodeId
    pieces: Pieces
    begun: bool = False
    """The host has said which chunks it holds; nothing is asked for before."""
    installing: bool = False


@dataclass(slots=True)
class RangeFetch:
    """A committed range being fetched: piece n is the entries after anchors[n] up to anchors[n + 1]."""

    leader: NodeId
    stream_epoch: int
    anchors: tuple[tuple[Index, Term], ...]
    pieces: Pieces
    done: int = 0
    """Pieces appended: all before it are in the own log."""
    parts: dict[int, list[Entry]] = field(default_factory=dict)
    """What has come of pieces that are not appended; at most PIECES_OUTSTANDING_MAX of them."""


@dataclass(slots=True)
class OwnSnapshot:
    """The snapshot of this member's own state that can be served."""

    last_index: Index
    last_term: Term
    configuration: Configuration
    configuration_index: Index
    levels: Levels
    chunk_digests: tuple[bytes, ...]
    bytes_total: int
    manifest: bytes
    """BLAKE2b of the digests: equal where the snapshots are."""
