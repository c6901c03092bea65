"""Engine: one member's node, state machine, disk and peers, and the only task that steps the node.

Theory of operation. Everything happens on one event loop. An event (a message, a proposal, a durable write, a
deadline) goes through `_step`, which hands it to the node and then does what the Ready says, in the order that
lockmaster_raft.ready states: sends that wait for nothing, the write, later the sends that waited for it, apply,
answers, the rest. Two things leave the loop: the sync thread (persisting.py) and short-lived worker threads (flush,
snapshots, chunk reads), each of which comes back through the loop.

The data path of a write: `propose` queues; `_form` makes everything queued one entry as soon as the own disk is free
or all before it is committed; the ack that commits it applies it and calls the callers back, all inside the
transport's callback, without a task or an event in between; storing the state comes afterwards.

Laws.
1. `_step` is never nested: an event that arises while one is being worked on is queued behind it.
2. A caller's `done` is called exactly once, and never from inside the call that passed it.
3. A storage error or a broken invariant ends the process at once: nothing is retried and nothing is guessed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Final

from lockmaster_raft import errors as raft_errors
from lockmaster_raft import events, ready
from lockmaster_raft.ids import Index, Nanos, PersistSeq, Term
from lockmaster_raft.node import Node

from lockmaster import errors as public
from lockmaster.errors import LockmasterError
from lockmaster.server.applying import Applier, Listener
from lockmaster.server.batching import Batch, Done, ProposalQueue, admitted_when_full, may_form
from lockmaster.server.integrity import Integrity
from lockmaster.server.peering import Peering
from lockmaster.server.peers.hub import Me, PeerHub
from lockmaster.server.persisting import Persister
from lockmaster.server.promotion import PromotionHost
from lockmaster.server.snapshots import SnapshotHost
from lockmaster.server.state_keeper import StateKeeper
from lockmaster.server.status import EXIT_INVARIANT, EngineSettings
from lockmaster.server.waiting import KeepAliveCalls, KeepAliveDone, ReadBarrier, ReadDone
from lockmaster.statemachine.apply import StateMachine
from lockmaster.statemachine.codec import encode_command, join_commands
from lockmaster.statemachine.commands import Command, KeepAlive, Result
from lockmaster.statemachine.duties import LeaderDuties
from lockmaster.statemachine.faults import InvalidEntry
from lockmaster.storage.directory import DataDirectory
from lockmaster.storage.errors import exit_code

__all__ = ["Done", "Engine", "KeepAliveDone", "Listener", "ReadDone", "RoleListener"]

RoleListener = Callable[[bool, str], None]

LOG: Final = logging.getLogger("lockmaster.server")
SPACE_RETRY_AFTER: Final = 1.0
SWITCH_INTERVAL: Final = 0.001
"""Seconds after which a busy loop gives way to the sync thread; the default 5 ms would be paid twice per write."""
ALARMS_MAX: Final = 64
"""Most distinct alarm codes remembered."""
HAND_OVER_TIMEOUT: Final = 2.0
"""Seconds that a stopping leader waits for somebody else to take over."""


def boot_clock() -> Nanos:
    """CLOCK_BOOTTIME in nanoseconds: goes on through suspend, never jumps."""
    return Nanos(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Engine(Peering):
    """One member. All methods are for the loop's thread only."""

    def __init__(self, settings: EngineSettings, *, exit_process: Callable[[int], object] = os._exit) -> None:
        super().__init__(settings)
        self.started_at = boot_clock()
        self._exit_process = exit_process
        self._dead = False
        self.stopping = False
        """Once set, for good: the node is stepped no more, so that nothing is begun while the parts are closed."""
        self._duties = LeaderDuties(settings.raft.election_timeout_ns, settings.raft.heartbeat_interval_ns)
        self._queue = ProposalQueue()
        self._proposed: dict[int, Batch] = {}
        self._reads = ReadBarrier()
        self._keep_alives = KeepAliveCalls()
        self._listeners: list[Listener] = []
        self._events: deque[events.Event] = deque()
        self._stepping = False
        self._pump_scheduled = False
        self._leading = False
        self._own_term_told = False
        self._durable_seq = 0
        self._apply_due = False
        self._applying = False
        self._apply_scheduled = False
        self._held: deque[ready.Send] = deque()
        # order of sending: one may wait for a later write than its own, so that nothing overtakes on a channel
        self._node_deadline = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._context = Context()
        # of the timers, which arm each other: a traced call's, copied, would be in every log line from then on
        self._role_listeners: list[RoleListener] = []

    # ------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        """Open the directory, listen for peers, start the node if this member has an id.

        Raises StorageFailed (Amnesia, WrongFormat, DirectoryBusy, CorruptLog) or OSError; nothing is left open then.
        """
        self._loop = asyncio.get_running_loop()
        self._directory = DataDirectory.open(
            self.settings.data_dir,
            create=True,
            witness=self.settings.witness,
            level_max=self.settings.level_max,
        )
        try:
            identity = self._directory.identity
            me = Me(identity.cluster_id, identity.member_id or None, identity.incarnation)
            self._persister = Persister(self._directory, self._durable, self._fail)
            self._persister.meters = self.meters
            self._hub = PeerHub(self, me, self.settings.peer_tls, self.started_at, self.settings.level_max)
            await self._hub.listen(self.settings.listen_peer, self.settings.advertise_peer)
            self.counters = self._hub.counters
            if identity.member_id:
                self._build_node()
        except BaseException:
            await self.stop()
            raise
        sys.setswitchinterval(SWITCH_INTERVAL)

    def _build_node(self) -> None:
        """Make state machine and node from what the directory holds; this member has an id now."""
        directory = self.directory
        identity = directory.identity
        if not identity.member_id or identity.cluster_id is None:
            raise raft_errors.InvariantViolation("a node is built without an identity")
        state = directory.store
        machine = StateMachine(state) if state is not None and state.applied_stored > 0 else None
        self._applier = Applier(directory, machine, self._listeners, self._admin)
        self._applier.meters = self.meters
        self._keeper = StateKeeper(self, self._applier, identity.member_id)
        self._snapshots = SnapshotHost(self)
        self._promotion = PromotionHost(self, self._snapshots)
        self.integrity = Integrity(self)
        boot = directory.boot_state
        self._node = Node(
            node_id=identity.member_id,
            cluster_id=identity.cluster_id,
            config=self.settings.raft,
            boot=boot,
            now=boot_clock(),
            draw=random.getrandbits(64),
            level_max=self.settings.level_max,
        )
        LOG.info("member %d of %s starts at index %d", identity.member_id, identity.cluster_id.hex(), boot.applied)
        self._contacts_changed()
        self._standing_changed()
        self._keeper.report()
        self._snapshots.offer_existing()
        for member in self._node.configuration.members:
            if self._hub is not None and self._hub.is_up(member.member_id):
                self._step(events.PeerConnected(member.member_id))

    async def stop(self, transfer: bool = True) -> None:
        """Hand over leadership if leading, fail what waits, store and flush, close. Idempotent."""
        if self.stopping:
            return
        if transfer and self._leading and not self._dead and len(self.node.configuration.voter_ids) > 1:
            with suppress(LockmasterError, TimeoutError):
                async with asyncio.timeout(HAND_OVER_TIMEOUT):
                    await self.transfer()
        self.stopping = True
        self._leading = False
        self._fail_waiting(public.Unavailable("this member stops"), public.Indeterminate("this member stops"))
        if self._timer is not None:
            self._timer.cancel()
        if self._hub is not None:
            await self._hub.close()
        if self.integrity is not None:
            await self.integrity.close()
        if self._promotion is not None:
            await self._promotion.close()
        if self._snapshots is not None:
            await self._snapshots.close()
        if self._keeper is not None:
            await self._keeper.close()
        if self._persister is not None:
            await self._loop.run_in_executor(None, self._persister.close)
            await asyncio.sleep(0)  # the last writes are reported through the loop
        self._node = None
        if self._applier is not None:
            self._applier.machine = None  # a read that comes late is refused; the closed store would fail it
        if self._directory is not None:
            if self._dead:
                self._directory.abandon()
            else:
                self._directory.close()

    # ------------------------------------------------------------------ the data path

    def propose(self, command: Command, done: Done, *, reserved: bool = False) -> None:
        """Queue a command for the next entry; `done` is called once, never from inside this call.

        Errors: NotLeader, Overloaded, Unavailable (certainly not done), Indeterminate (perhaps done).
        """
        if not self._leading or self.stopping:
            self._loop.call_soon(done, self._not_leader())
            return
        if self.keeper.space_low and not admitted_when_full(command, reserved, self.keeper.free_bytes):
            self._loop.call_soon(done, public.Overloaded("the leader's disk is nearly full", SPACE_RETRY_AFTER))
            return
        try:
            encoded = encode_command(command)
        except InvalidEntry as error:
            self._loop.call_soon(done, public.InvalidRequest("command", str(error)))
            return
        if not self._queue.offer(command, encoded, done, reserved):
            self._loop.call_soon(done, public.Overloaded("too many commands wait"))
        elif not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def keep_alive(self, session_ids: Sequence[int], done: KeepAliveDone) -> None:
        """Renew sessions with the next coalesced entry; done(those of them that are expired) after it committed."""
        if not self._leading or self.stopping:
            self._loop.call_soon(done, self._not_leader())
            return
        if not session_ids:
            self._loop.call_soon(done, ())
            return
        error = self._keep_alives.add(session_ids, done)
        if error is not None:
            self._loop.call_soon(done, error)
            return
        try:
            for session_id in session_ids:
                self._duties.keep_alive(session_id)
        except public.Overloaded as full:
            self._loop.call_soon(self._keep_alives.fail, session_ids, full)
        self._arm()

    def read_index(self, done: ReadDone, *, by_lease: bool = False) -> None:
        """done(None) once this member has applied everything that was acknowledged before the call.

        `by_lease`: a leader whose lease holds asks nobody (lockmaster_raft.lease says at what price).
        Errors: Unavailable (no leader, stepped down, blank), Overloaded.
        """
        if self._node is None or self.stopping:
            self._loop.call_soon(done, public.Unavailable("this member is not part of a running cluster"))
        elif self.is_witness:
            self._loop.call_soon(done, self.refusal())
        elif not self._reads.add(done, by_lease=by_lease):
            self._loop.call_soon(done, public.Overloaded("too many reads wait"))
        elif not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def state_age_ns(self) -> int | None:
        """At most how old the applied state is now; None: not known, or not to be served."""
        return None if self._node is None or self.stopping else self._node.state_age_ns(boot_clock())

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """listener(events, revision) after each applied entry; returns the unsubscribe."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def subscribe_role(self, listener: RoleListener) -> Callable[[], None]:
        """listener(leading, the leader's client address or "") after each change of role, term or leader."""
        self._role_listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._role_listeners:
                self._role_listeners.remove(listener)

        return unsubscribe

    def _pump(self) -> None:
        self._pump_scheduled = False
        if self._node is None:
            return
        for by_lease in (False, True):
            request_id = self._reads.ask(by_lease=by_lease)
            if request_id is not None:
                self._step(events.RequestRead(request_id, by_lease=by_lease))
        self._form()

    def _form(self) -> None:
        """Make everything queued the next entry, as often as the rule of batching.may_form allows."""
        node, persister = self._node, self._persister
        if node is None or persister is None or self._stepping:
            return
        while self._leading and may_form(persister.in_flight, node.commit_index, node.last_index):
            batch = self._queue.take()
            if batch is None:
                return
            if self.meters is not None:
                batch.formed_ns = time.perf_counter_ns()
            self._proposal_id += 1
            self._proposed[self._proposal_id] = batch
            self._step(events.Propose(self._proposal_id, join_commands(batch.encoded), batch.reserved), form=False)

    # ------------------------------------------------------------------ stepping

    def step(self, event: events.Event) -> None:
        """For the engine's own parts: step the node and do what it asks."""
        self._step(event)

    def _step(self, event: events.Event, *, form: bool = True) -> None:
        self._events.append(event)
        node = self._node
        if self._stepping or node is None or self._dead or self.stopping:
            return
        self._stepping = True
        try:
            while self._events:
                now = boot_clock()
                if self._leading:
                    self._duties.turn(now)
                self._perform(node.step(self._events.popleft(), now, random.getrandbits(64)))
            if (
                self._configuration is not node.configuration
                or self._committed_configuration is not node.committed_configuration
            ):
                self._contacts_changed()
                self._standing_changed()
            if self._leading and not self._own_term_told and node.own_term_committed:
                self._own_term_told = True
                self._duties.own_term_committed(boot_clock())
        except Exception as error:
            self._fail(error)
            return
        finally:
            self._stepping = False
        if form and self._queue:
            self._form()  # before applying: followers write the next entry while this member applies the last
        if self._apply_due:
            self._apply_guarded()
        self._arm()

    def _perform(self, todo: ready.Ready) -> None:
        hub, persister, applier = self._hub, self._persister, self._applier
        if hub is None or persister is None or applier is None:
            raise raft_errors.InvariantViolation("a node steps without its host")
        self._node_deadline = todo.next_deadline
        for proposal in todo.proposals:
            self._proposal(proposal)
        if todo.role_changed is not None:
            self._role_changed(todo.role_changed)
        for send in todo.send:
            if send.after <= self._durable_seq:
                hub.send(send.to, send.message, send.channel)
            else:
                self._held.append(send)
        if todo.persist is not None and persister.persist(todo.persist, leading=self._leading):
            self._durable(todo.persist.seq)
        if todo.state and self._promotion is not None:
            for action in todo.state:
                self._promotion.perform(action)
            self._standing_changed()
        if todo.apply:
            applier.extend(todo.apply)
            # A follower that is writing applies after its ack: until then its leader waits for it.
            self._apply_due = self._leading or persister.in_flight == 0
        for read in todo.reads:
            dones, failed = self._reads.told(read.request_id, read.index, applier.applied)
            error = public.Unavailable("no leader confirmed the read; try again") if failed else None
            for done in dones:
                done(error)
            self._schedule_pump()
        for alarm in todo.alarms:
            self.raise_alarm(alarm)
        if todo.pieces and self._snapshots is not None:
            for piece in todo.pieces:
                self._snapshots.perform(piece)

    def _schedule_pump(self) -> None:
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _durable(self, seq: int) -> None:
        """Write `seq` is durable: send what waited for it, then tell the node, then apply what waited."""
        self._durable_seq = seq
        self._apply_due = self._applier is not None and self._applier.waiting > 0
        held, hub = self._held, self._hub
        while held and held[0].after <= seq:
            send = held.popleft()
            if hub is not None:
                hub.send(send.to, send.message, send.channel)
        self._step(events.Persisted(PersistSeq(seq)))

    def _proposal(self, outcome: ready.Appended | ready.Refused | ready.Resolved) -> None:
        if isinstance(outcome, ready.Appended):
            batch = self._proposed.pop(outcome.proposal_id, None)
            if batch is None:
                self._admin.appended(outcome.proposal_id, outcome.index, outcome.term, outcome.member_id)
            elif self._applier is not None:
                batch.term = outcome.term
                self._applier.own[outcome.index] = batch
        elif isinstance(outcome, ready.Refused):
            batch = self._proposed.pop(outcome.proposal_id, None)
            error = self._translate(outcome.error, administrative=batch is None)
            if batch is None:
                self._admin.refused(outcome.proposal_id, error)
                return
            for done in batch.dones:
                if done is not None:
                    done(error)
        else:
            self._admin.resolved(outcome.proposal_id, outcome.member_id)

    def _apply_some(self) -> None:
        """Apply for at most one slice, tell the node, go on in the next turn if there is more."""
        applier = self._applier
        if applier is None or self._dead or self.stopping:
            return
        more = applier.run(self.keeper)
        if applier.machine is None:
            return
        self._step(events.Applied(Index(applier.applied)))
        for done in self._reads.applied(applier.applied):
            done(None)
        if (more or self._apply_due) and not self._apply_scheduled:
            self._apply_scheduled = True
            self._loop.call_soon(self._apply_next)

    def _apply_next(self) -> None:
        self._apply_scheduled = False
        self._apply_guarded()

    def _apply_guarded(self) -> None:
        if self._applying:  # by what the node handed out on being told: in the next turn, not deeper and deeper
            return
        self._apply_due = False
        self._applying = True
        try:
            self._apply_some()
        except Exception as error:
            self._fail(error)
        finally:
            self._applying = False

    def state_moved(self) -> None:
        """For the engine's own parts: a snapshot was installed, or room was made: what waits is applied, reads go."""
        self._apply_guarded()

    # ------------------------------------------------------------------ time and duties

    def _arm(self) -> None:
        """See to it that the loop wakes no later than the earliest deadline; a timer that is early enough stays."""
        target = self._node_deadline
        if self._leading:
            target = min(target, self._duties.next_deadline(boot_clock()))
        if self._timer is not None:
            if self._timer_at <= target:
                return
            self._timer.cancel()
        if self.stopping:
            return
        self._timer_at = target
        delay = max(0, target - boot_clock()) / 1e9
        self._timer = self._loop.call_later(delay, self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self._timer = None
        node = self._node
        if node is None or self._dead:
            return
        now = boot_clock()
        if self._leading:
            self._duties.turn(now)
            if self._duties.next_deadline(now) <= now:
                self._do_duties(node, now)
        if self._node_deadline <= now:
            self._step(events.Wake())
        else:
            self._arm()

    def _do_duties(self, node: Node, now: int) -> None:
        """Queue what the leader owes: coalesced keepalives and expiry."""
        machine = self._applier.machine if self._applier is not None else None
        if machine is None:
            return
        for command in self._duties.due(now, node.cluster_time(Nanos(now)), machine.expiry):
            done = self._keep_alive_done(command.operation) if isinstance(command.operation, KeepAlive) else None
            if not self._queue.offer(command, encode_command(command), done, True) and done is not None:
                self._loop.call_soon(done, public.Overloaded("too many commands wait"))
        self._schedule_pump()

    def _keep_alive_done(self, operation: KeepAlive) -> Done:
        batch = self._keep_alives.take(operation.session_ids)

        def done(outcome: Result | LockmasterError) -> None:
            if isinstance(outcome, Result):
                batch.renewed(outcome.expired)
            else:
                batch.fail(outcome)

        return done

    # ------------------------------------------------------------------ roles, errors, alarms

    def _role_changed(self, change: ready.RoleChanged) -> None:
        LOG.info("member is %s in term %d; leader: %d", change.role.value, change.term, change.leader_id)
        self.counters["role_changes"] = self.counters.get("role_changes", 0) + 1
        self._standing_changed()
        if change.leader_id:
            self.alarms.pop("quorum_lost", None)  # somebody was elected: there is a quorum again
        self._loop.call_soon(self._tell_role)

    def _standing_changed(self) -> None:
        """Role, phase or leadership is another: who may be served here, and whether this member leads for clients."""
        node, applier = self._node, self._applier
        if node is None or applier is None:
            return
        serving = node.serves_state
        if applier.serving is not serving:
            applier.serving = serving
            LOG.info("member %s clients", "serves" if serving else "does not serve")
            for read_done in self._reads.drain() if not serving else ():
                read_done(self.refusal())
            self._loop.call_soon(self._tell_role)
        was_leading, self._leading = self._leading, node.role is ready.LEADER and not node.is_caretaker
        if self._leading and not was_leading:
            self._own_term_told = False
            self._duties.leading(Term(node.term), boot_clock())
        elif was_leading and not self._leading:
            self._duties.stopped()
            self._fail_waiting(self._not_leader(), public.Indeterminate("leadership was lost before it was committed"))

    def _tell_role(self) -> None:
        for listener in self._role_listeners:
            listener(self._leading, self.leader_address())

    def _fail_waiting(self, refused: LockmasterError, unknown: LockmasterError) -> None:
        """Tell everybody who waits for a write: what was never appended is refused, the rest is unknown."""
        for done in self._queue.drain():
            done(refused)
        if self._applier is not None:
            for batch in self._applier.own.values():
                dones, batch.dones = batch.dones, []
                for done_or_none in dones:
                    if done_or_none is not None:
                        done_or_none(unknown)
        self._keep_alives.fail(None, refused)
        self._admin.fail(unknown)
        if self.stopping:
            for read_done in self._reads.drain():
                read_done(refused)

    def raise_alarm(self, alarm: ready.Alarm) -> None:
        """Log it and show it in the status."""
        LOG.warning("alarm %s: %s", alarm.code, alarm.text)
        self.counters["alarms"] = self.counters.get("alarms", 0) + 1
        if alarm.code in self.alarms or len(self.alarms) < ALARMS_MAX:
            self.alarms[alarm.code] = alarm.text

    def _fail(self, error: BaseException) -> None:
        """Law 3: one line, and out."""
        if self._dead:
            return
        self._dead, code = True, EXIT_INVARIANT
        try:
            if isinstance(error, raft_errors.StorageFailed):
                code = exit_code(error)
            if code == EXIT_INVARIANT:
                LOG.critical(
                    "invariant broken, exit code %d: %s: %s", code, type(error).__name__, error, exc_info=error
                )
            else:
                LOG.critical("storage failed, exit code %d: %s", code, error)
            for handler in logging.getLogger().handlers:
                handler.flush()
        except Exception as trouble:  # nothing may keep it: a member that is dead and there holds up all others
            os.write(2, f"exit code {code}: {error!r}, which could not be logged: {trouble!r}\n".encode())
        finally:
            self._exit_process(code)

    def fail(self, error: BaseException) -> None:
        """For the engine's own parts: end the process for this error."""
        self._fail(error)
