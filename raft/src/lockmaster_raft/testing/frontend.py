"""What stands between clients and a host's node: group commit, answers after commit and apply, reads, leader duties."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from lockmaster_raft.entry import DATA, Entry
from lockmaster_raft.errors import NotLeader, Overloaded
from lockmaster_raft.events import Propose, RequestRead
from lockmaster_raft.ids import Nanos
from lockmaster_raft.ready import LEADER, Appended, Ready, Refused
from lockmaster_raft.record import record

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.application import Duties, Outcome
    from lockmaster_raft.testing.host import Host

QUEUE_MAX: Final = 256
COMMANDS_PER_ENTRY_MAX: Final = 32
IDLE_NS: Final = 3_600_000_000_000
"""When a host that doesn't lead looks at its duties again."""


@record
class Answer:
    """What a client hears: `error` empty for an answer, else not_leader, overloaded, unavailable or indeterminate."""

    error: str
    value: Any = None
    hint: int = 0
    index: int = 0
    """Index of the entry that did it, or the applied index that a read saw."""
    applied_on: int = 0


Reply = Callable[[Answer], None]


@record
class _Write:
    command: Any
    reserved: bool
    reply: Reply


class Frontend:
    """One boot's queues; thrown away with it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._ids = count(1)
        self._queue: deque[_Write] = deque()
        self._proposed: dict[int, list[Reply]] = {}
        self._appended: dict[int, tuple[int, list[Reply]]] = {}
        self._renewals: dict[int, list[Reply]] = {}
        self._reads: dict[int, tuple[object, Reply]] = {}
        self._standing: list[tuple[int, object, Reply]] = []
        self._last_index = 0
        mix = host.cluster.mix
        self._leases = not mix.reorder and not mix.duplication
        """Leases rely on ordered channels (lease.py)."""
        self._duties: Duties = host.cluster.application.duties(host.cluster.mix)
        self._led = False
        """Whether the duties have been told of a leadership that goes on, as far as they know."""
        self._admin: dict[int, Callable[[Appended | Refused | object], None]] = {}

    def write(self, command: object, reserved: bool, reply: Reply) -> None:
        """A mutation from a client."""
        node = self._host.node
        if node is None:
            return
        if node.role is not LEADER:
            reply(Answer("not_leader", hint=self._host.cluster.number_of(node.leader_id)))
        elif not node.admits_writes:
            reply(Answer("unavailable"))
        elif self._host.law.low and not reserved:
            self._host.cluster.count("refused on a nearly full disk")
            reply(Answer("overloaded"))
        elif len(self._queue) >= QUEUE_MAX:
            reply(Answer("overloaded"))
        else:
            self._queue.append(_Write(command, reserved, reply))
            self._host.when_awake(self._host.turn)

    def keep_alive(self, session: int, reply: Reply) -> None:
        """Renew with the leader's next batch; answered once that is applied."""
        node = self._host.node
        if node is None:
            return
        if node.role is not LEADER or not node.admits_writes:
            reply(Answer("not_leader", hint=self._host.cluster.number_of(node.leader_id)))
            return
        self._duties.keep_alive(session)
        self._renewals.setdefault(session, []).append(reply)
        self._host.when_awake(self._host.turn)

    def read(self, query: object, reply: Reply) -> None:
        """A linearizable read, on any full replica."""
        if self._host.node is None:
            return
        request_id = next(self._ids)
        self._reads[request_id] = (query, reply)
        self._host.step(RequestRead(request_id, by_lease=self._leases and request_id % 2 == 0))

    def stale(self, query: object, reply: Reply) -> None:
        """An EVENTUAL read of this replica's state as it is."""
        replica, node = self._host.replica, self._host.node
        if replica is not None and node is not None and node.serves_state:
            reply(Answer("", replica.query(query), index=self._host.meta.index, applied_on=self._host.number))

    def admin(self, event: Callable[[int], object], done: Callable[[object], None]) -> None:
        """Step a membership or transfer proposal made from a fresh id; `done` hears of its fate in this Ready."""
        if self._host.node is not None:
            proposal_id = next(self._ids)
            self._admin[proposal_id] = done
            self._host.step(event(proposal_id))  # type: ignore[arg-type]

    # --- turns of the loop --------------------------------------------------------------------------------------

    def turn(self, now: int) -> int:
        """After each step: leader duties, then the next group of commands if the one before is safe somewhere.

        Returns the local time of the next duty, far away when not leading.
        """
        node, host = self._host.node, self._host
        if node is None:
            return now + IDLE_NS
        leading = node.role is LEADER
        if not leading and not self._led:
            return now + IDLE_NS
        if host.replica is not None:
            self._led = leading
            committed = leading and node.own_term_committed
            self._duties.turn(now, node.term, leading, committed)
            if committed:
                commands = self._duties.due(now, node.cluster_time(Nanos(now)), host.replica)
                if commands:
                    self._propose(list(commands), [], True)
            if leading and self._queue:
                self._propose_group(node)
        return max(self._duties.next_deadline(now), now + 1_000_000) if leading else now + IDLE_NS

    def _propose_group(self, node: Node) -> None:
        durable = self._host.disk.store.last_index if self._host.disk is not None else 0
        if self._last_index <= max(durable, node.commit_index) or len(self._queue) > 16:
            group = [self._queue.popleft() for _ in range(min(len(self._queue), COMMANDS_PER_ENTRY_MAX))]
            reserved = all(write.reserved for write in group)
            self._propose([write.command for write in group], [write.reply for write in group], reserved)

    def _propose(self, commands: list[object], replies: list[Reply], reserved: bool) -> None:
        proposal_id = next(self._ids)
        self._proposed[proposal_id] = replies
        self._last_index = self._host.node.last_index + 1 if self._host.node is not None else 0
        payload = self._host.cluster.application.encode(commands)
        self._host.step(Propose(proposal_id, payload, reserved))

    # --- outcomes -----------------------------------------------------------------------------------------------

    def done(self, ready: Ready) -> None:
        """Fates of proposals and reads in this Ready."""
        for outcome in ready.proposals:
            if outcome.proposal_id in self._admin:
                self._admin.pop(outcome.proposal_id)(outcome)
                continue
            replies = self._proposed.pop(outcome.proposal_id, [])
            if isinstance(outcome, Appended):
                self._appended[outcome.index] = (outcome.term, replies)
            elif isinstance(outcome, Refused):
                self._refuse(outcome, replies)
        for read in ready.reads:
            query, reply = self._reads.pop(read.request_id, (None, None))
            if reply is None:
                continue
            if read.index is None:
                reply(Answer("unavailable"))
            elif read.index <= self._host.meta.index:
                self._serve(query, reply)
            else:
                self._standing.append((read.index, query, reply))
        if ready.role_changed is not None and ready.role_changed.role is not LEADER:
            self._step_down()

    def _refuse(self, outcome: Refused, replies: list[Reply]) -> None:
        error = outcome.error
        for reply in replies:
            if isinstance(error, NotLeader):
                reply(Answer("not_leader", hint=self._host.cluster.number_of(error.leader_hint)))
            elif isinstance(error, Overloaded):
                self._host.cluster.count("overloaded")
                reply(Answer("overloaded"))
            else:
                reply(Answer("unavailable"))

    def _step_down(self) -> None:
        lost = [reply for _, replies in self._appended.values() for reply in replies]
        waiting = [write.reply for write in self._queue]
        renewals = [reply for replies in self._renewals.values() for reply in replies]
        self._appended.clear()
        self._queue.clear()
        self._renewals.clear()
        for reply in lost:
            reply(Answer("indeterminate"))
        for reply in [*waiting, *renewals]:
            reply(Answer("unavailable"))

    def _serve(self, query: object, reply: Reply) -> None:
        replica = self._host.replica
        if replica is not None:
            reply(Answer("", replica.query(query), index=self._host.meta.index, applied_on=self._host.number))

    def applied(self, entry: Entry, outcome: Outcome) -> None:
        """An entry was applied: answer its writers, renewals and the reads that waited for it."""
        for seen in outcome.renewed:
            for reply in self._renewals.pop(seen, ()):
                reply(Answer("", "renewed", index=entry.index))
        for gone in outcome.over:
            for reply in self._renewals.pop(gone, ()):
                reply(Answer("", "expired", index=entry.index))
        if entry.kind is DATA:
            term, replies = self._appended.pop(entry.index, (0, []))
            if term == entry.term:
                for reply, result in zip(replies, outcome.results, strict=False):
                    reply(Answer("", result, index=entry.index))
            else:
                for reply in replies:
                    reply(Answer("indeterminate"))
        self._release_reads()

    def restored(self) -> None:
        """The state jumped: serve what waited."""
        self._release_reads()

    def _release_reads(self) -> None:
        if not self._standing:
            return
        at = self._host.meta.index
        ready = [read for read in self._standing if read[0] <= at]
        self._standing = [read for read in self._standing if read[0] > at]
        for _, query, reply in ready:
            self._serve(query, reply)

    def lost(self) -> None:
        """The host crashed: nobody hears anything."""
        self._queue.clear()
        self._appended.clear()
