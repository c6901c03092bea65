"""Sequences of messages that fit the node they are sent to: near its log, its term and what is under way, mostly.

A message made of numbers that do not belong together is refused by the first check that it meets. What gets past it,
and stands against what the node knows, takes several of them in a row: an offer and its pieces, a promotion and its
end. So each is made from the state of the node that it goes to, and the host does what it is told.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from lockmaster_raft.config import SECOND
from lockmaster_raft.core import Core
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.events import (
    Event,
    PiecesHeld,
    PieceStored,
    SideOpened,
    SideReady,
    SnapshotInstalled,
    StorageReport,
)
from lockmaster_raft.gates import Gate, GateOperation, encode_gate
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels, MemberPhase, MemberRole, encode_configuration
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CatchUp,
    CatchUpReply,
    Coverage,
    FetchPieceReply,
    FetchRangeReply,
    Header,
    Heartbeat,
    HeartbeatReply,
    InstallAnchor,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVoteReply,
    ReadIndexReply,
    RequestVoteReply,
    Retain,
    TimeoutNow,
    WitnessReport,
)
from lockmaster_raft.ready import BeginPieces, FinishSide, InstallPieces, OpenSide, Ready, StorePiece

from .rig import CLUSTER, Rig, member

DIGEST = b"d" * 32
WAITS = (1000, SECOND // 10, SECOND, 2 * SECOND)


class Talk:
    """What is said to one node, drawn from one random number generator."""

    def __init__(self, rig: Rig, rng: random.Random) -> None:
        self.rig, self.rng = rig, rng
        self.makers: tuple[Callable[[], Message], ...] = (
            *(self.append,) * 6,
            *(self.heartbeat, self.anchor, self.snapshot, self.catch_up) * 2,
            *(self.range_reply, self.append_reply) * 2,
            *(self.piece_reply, self.small, self.report, self.vote_reply),
        )

    @property
    def core(self) -> Core:
        return self.rig.node._core

    def message(self) -> Message:
        """The next one."""
        return self.rng.choice(self.makers)()

    def host(self, ready: Ready) -> list[Event]:
        """What a host answers to this Ready, most of the time."""
        done: list[Event] = []
        for piece in ready.pieces:
            if isinstance(piece, BeginPieces):
                done.append(PiecesHeld(piece.snapshot.last_index, ()))
            elif isinstance(piece, StorePiece):
                done.append(PieceStored(piece.last_index, piece.number))
            elif isinstance(piece, InstallPieces):
                done.append(SnapshotInstalled(piece.snapshot.last_index, piece.snapshot.last_term))
        for action in ready.state:
            if isinstance(action, OpenSide):
                done.append(SideOpened(action.epoch, action.snapshot.last_index))
            elif isinstance(action, FinishSide):
                done.append(SideReady(action.epoch, self.core.applied))
        done += [StorageReport(self.core.applied, 1 << 30, 0)] * (self.rng.random() < 0.1)
        return [event for event in done if self.rng.random() < 0.9]

    # --- numbers ---------------------------------------------------------------------------------------------------

    def few(self, *chances: tuple[int, Any]) -> Any:
        """One of these, each as often as its number says."""
        return self.rng.choices([what for _, what in chances], [often for often, _ in chances])[0]

    def header(self, sender: int = 0) -> Header:
        core = self.core
        who = sender or self.few((6, core.leader_id or 2), (3, self.rng.randint(1, 3)), (1, self.rng.choice((4, 99))))
        if who == core.node_id:
            who = 2 if who != 2 else 3
        term = max(1, core.term + self.few((14, 0), (2, 1), (1, -1)))
        return Header(CLUSTER, NodeId(who), core.node_id, Term(term), 1, 2)

    def index(self) -> int:
        """A place in the log, or a little beyond it."""
        log = self.core.log
        near = self.rng.choice((log.last_index, self.core.commit_index, log.base.index, log.configuration_index))
        return int(max(0, near + self.few((6, 0), (2, 1), (2, -1), (1, 2), (1, 5))))

    def term_of(self, index: int, most: int) -> int:
        """The term at that place, or another one."""
        known = self.core.log.term(index) if index <= self.core.log.last_index else None
        if known is None:
            known = Term(self.rng.choice((self.core.log.last_term, self.core.term)))
        return int(max(0, min(most, known + self.few((10, 0), (1, 1), (1, -1)))))

    def configuration(self, old: Configuration) -> Configuration:
        """A change of that one, as a leader makes them, or one that it does not make."""
        there = [m.member_id for m in old.members] or [NodeId(1)]
        who = self.few((4, self.core.node_id), (4, self.rng.choice(there)), (1, old.next_member_id))
        role = self.rng.choice((MemberRole.FULL, MemberRole.FULL, MemberRole.WITNESS))
        phase = self.few(
            (5, MemberPhase.STEADY), (2, MemberPhase.PROMOTING), (1, MemberPhase.DEMOTING), (1, MemberPhase.LEAVING)
        )
        if phase is MemberPhase.PROMOTING and self.rng.random() < 0.8:
            role = MemberRole.WITNESS
        new = old.with_member(member(who, role=role, phase=phase, voter=self.rng.random() < 0.8))
        if self.rng.random() < 0.15:
            new = old.without_member(who)
        if self.rng.random() < 0.1:
            new = dataclasses.replace(new, outgoing=old.voter_ids)
        return dataclasses.replace(new, epoch=max(1, new.epoch + self.few((12, 0), (1, 1), (1, -2))))

    def entries(self, prev: int, term: int, most: int) -> tuple[Entry, ...]:
        """Up to three that follow."""
        made: list[Entry] = []
        configuration = self.core.log.configuration
        for index in range(prev + 1, prev + 1 + self.rng.choice((0, 1, 1, 2, 3))):
            term = min(most, max(term, self.term_of(index, most)))
            kind, payload = self.few((6, EntryKind.DATA), (4, EntryKind.CONFIG), (1, EntryKind.GATE)), b"x"
            if kind is EntryKind.CONFIG:
                configuration = self.configuration(configuration)
                payload = encode_configuration(configuration)
            elif kind is EntryKind.GATE:
                payload = self.gate()
            made.append(make_entry(Index(index), Term(term), kind, Nanos(0), payload))
        return tuple(made)

    def gate(self) -> bytes:
        levels = self.core.log.levels
        ends = Gate(self.rng.choice((GateOperation.CANCEL, GateOperation.ACTIVATE)), levels.fence, levels.index)
        fence = Gate(GateOperation.FENCE, 2)
        return self.rng.choice((encode_gate(fence), encode_gate(ends), encode_gate(ends), b"garbage"))

    # --- messages --------------------------------------------------------------------------------------------------

    def append(self) -> Message:
        head = self.header()
        prev = self.index()
        term = self.term_of(prev, head.term)
        new = self.entries(prev, term, head.term)
        commit = self.few((3, 0), (3, prev + len(new)), (1, self.index()))
        epoch, request = self.rng.randint(1, 3), self.rng.randint(1, 4)
        return AppendEntries(head, epoch, request, Index(prev), Term(term), new, Index(commit))

    def heartbeat(self) -> Message:
        return Heartbeat(self.header(), self.rng.randint(0, 4), Nanos(0), Index(self.index()), Nanos(0), 1)

    def place(self, head: Header) -> tuple[Index, Term, Configuration, Index, Levels]:
        """A log's start."""
        index = max(1, self.index())
        term = max(1, self.term_of(index, head.term))
        levels = self.few((4, self.core.log.levels), (1, Levels()), (1, Levels(2, 2)))
        old = self.core.log.configuration
        new = self.few((1, old), (3, None)) or self.configuration(old)
        return Index(index), Term(term), new, Index(self.rng.randint(0, index)), levels

    def anchor(self) -> Message:
        head = self.header()
        return InstallAnchor(head, self.rng.randint(1, 3), *self.place(head))

    def snapshot(self) -> Message:
        head = self.header()
        digests = (DIGEST,) * self.rng.randint(1, 2)
        return InstallSnapshot(head, self.rng.randint(1, 3), *self.place(head), digests, 9, (NodeId(2), NodeId(3)))

    def piece_reply(self) -> Message:
        fetch = self.core.fetch
        at = fetch.snapshot.last_index if fetch is not None else Index(self.index())
        head = self.header(self.rng.choice((1, 2, 3)))
        return FetchPieceReply(head, at, self.rng.randint(0, 1), self.rng.random() < 0.8, b"data")

    def catch_up(self) -> Message:
        head = self.header()
        index = self.index()
        term = self.term_of(index, head.term)
        anchors = [(Index(index), Term(term))]
        for _ in range(self.rng.randint(1, 3)):
            index += self.rng.randint(1, 2)
            term = min(head.term, max(term, self.term_of(index, head.term)))
            anchors.append((Index(index), Term(term)))
        return CatchUp(head, self.rng.randint(1, 5), tuple(anchors), (NodeId(3), NodeId(4), NodeId(1)))

    def range_reply(self) -> Message:
        """Of a piece that is asked for, if any is."""
        fetch = self.core.ranges
        if fetch is None or not fetch.pieces.outstanding:
            return self.catch_up()
        number, asked = self.rng.choice(sorted(fetch.pieces.outstanding.items()))
        prev, last = fetch.anchors[number], fetch.anchors[number + 1]
        new = list(self.entries(prev[0], prev[1], last[1]))[: last[0] - prev[0]]
        while len(new) < last[0] - prev[0] and self.rng.random() < 0.9:
            new += entries_to(prev[0] + len(new), last)
        return FetchRangeReply(self.header(asked.source), prev[0], last[0], tuple(new))

    def small(self) -> Message:
        head, index = self.header(), Index(self.index())
        coverage, retain = Coverage(head, index), Retain(head, index, Index(self.index()))
        read = ReadIndexReply(head, self.core.reads.attempt_id, self.rng.random() < 0.8, index)
        return self.rng.choice((coverage, coverage, retain, read, TimeoutNow(head)))

    # --- what members say to a leader ------------------------------------------------------------------------------

    def append_reply(self) -> Message:
        head = self.header(self.rng.choice((1, 2, 3)))
        p = self.core.progress.get(head.sender)
        epoch, request = (p.epoch, p.request_id) if p is not None else (1, 1)
        applied, commit, match, last = sorted(self.index() for _ in range(4))
        if self.rng.random() < 0.3:
            reply = InstallSnapshotReply(head, epoch, Index(match), self.rng.random() < 0.5, 0, Index(commit))
            return self.rng.choice(
                (reply, CatchUpReply(head, epoch, Index(match), Index(applied), Index(self.index()), 0))
            )
        where = (Index(match), Index(last), Index(commit), Index(self.rng.randint(0, commit + 1)), Index(applied))
        conflict = (Term(self.rng.randint(0, head.term)), Index(self.rng.randint(0, last)))
        return AppendEntriesReply(head, epoch, request, self.rng.random() < 0.6, *where, *conflict, 1 << 30)

    def report(self) -> Message:
        head = self.header(self.rng.choice((1, 2, 3)))
        applied, commit, last = sorted(Index(self.index()) for _ in range(3))
        if self.rng.random() < 0.5:
            return HeartbeatReply(head, self.core.round_id, Nanos(self.core.now), last, commit, applied, 0)
        return WitnessReport(head, Index(applied + 1), 9, 99, 1 << 30, applied, self.rng.randint(0, 4), commit)

    def vote_reply(self) -> Message:
        head, core = self.header(self.rng.choice((1, 2, 3))), self.core
        place = (Index(self.index()), Term(min(head.term, core.log.last_term)))
        yes = self.rng.random() < 0.8
        pre = PreVoteReply(head, Term(core.term + 1), core.vote_round, yes, "" if yes else "log", *place)
        return self.rng.choice((pre, RequestVoteReply(head, yes, "" if yes else "log", *place)))


def entries_to(prev: int, last: tuple[Index, Term]) -> list[Entry]:
    """The one after `prev` of a piece that ends with `last`."""
    return [make_entry(Index(prev + 1), last[1], EntryKind.DATA, Nanos(0), b"x")]
