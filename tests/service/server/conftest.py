"""What the front's tests share: an engine that applies at once, and a real server of one member over loopback."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster.api import session_pb2
from lockmaster.errors import LockmasterError
from lockmaster.server.app import Server, dev_settings
from lockmaster.statemachine.apply import EntryHeader, StateMachine
from lockmaster.statemachine.commands import Command, Event, Result
from lockmaster.statemachine.memory import DictView
from lockmaster_raft.entry import EntryKind
from lockmaster_raft.ids import Index, Nanos, Term

START_REVISION = 1 << 50


class MachineEngine:
    """The Engine's interface over a state machine in memory: an entry of its own per command, applied at once."""

    def __init__(self) -> None:
        view = DictView()
        StateMachine.initialise(view, index=1, term=1, revision=START_REVISION)
        self.machine = StateMachine(view)
        self.now = 0
        self.is_leader = True
        self.listeners: list[Callable[[Sequence[Event], int], None]] = []
        self.refusal: LockmasterError | None = None
        self.unconfirmed: LockmasterError | None = None
        """What a read index ends with."""
        self.indexes_read: list[bool] = []
        """By lease or not, one for each that was asked for."""
        self.age_ns: int | None = None
        self.proposed: list[Command] = []
        self.held: list[Callable[[], None]] | None = None
        """A list: answers wait in it instead of being given."""

    @property
    def revision(self) -> int:
        return self.machine.revision

    def leader_address(self) -> str:
        return "" if self.is_leader else "leader.example:7420"

    def subscribe(self, listener: Callable[[Sequence[Event], int], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def apply(self, *commands: Command) -> list[Result]:
        """One entry with these commands."""
        header = EntryHeader(Index(self.machine.applied + 1), Term(1), EntryKind.DATA, Nanos(self.now))
        applied = self.machine.apply(header, commands)
        for listener in self.listeners:
            listener(applied.events, self.machine.revision)
        return applied.results

    def propose(self, command: Command, done: Callable[[Any], None], *, reserved: bool = False) -> None:
        self.proposed.append(command)
        if self.refusal is not None:
            self._answer(lambda: done(self.refusal))
        else:
            result = self.apply(command)[0]
            self._answer(lambda: done(result))

    def keep_alive(self, session_ids: Sequence[int], done: Callable[[Any], None]) -> None:
        self._answer(lambda: done(()))

    def read_index(self, done: Callable[[LockmasterError | None], None], *, by_lease: bool = False) -> None:
        self.indexes_read.append(by_lease)
        self._answer(lambda: done(self.unconfirmed))

    def state_age_ns(self) -> int | None:
        return self.age_ns

    def _answer(self, answer: Callable[[], None]) -> None:
        if self.held is not None:
            self.held.append(answer)
        else:
            asyncio.get_running_loop().call_soon(answer)


@pytest.fixture
def engine() -> Any:
    return MachineEngine()


@pytest.fixture(scope="session")
def make_engine() -> Callable[[], Any]:
    return MachineEngine


async def until_it_admits_writes(server: Server) -> None:
    """Started is not elected: a raw call (no client that retries) before this may be answered UNAVAILABLE."""
    async with asyncio.timeout(10):
        leads = asyncio.Event()
        server.engine.subscribe_role(lambda leading, address: leads.set())
        while not server.engine.admits_writes:
            leads.clear()
            # The entry that opens the term for writes is applied right after the role is told.
            await asyncio.wait({asyncio.ensure_future(leads.wait())}, timeout=0.02)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A cluster of one member in this process that admits writes."""
    running = Server(dev_settings(tmp_path / "data"))
    await running.start()
    await until_it_admits_writes(running)
    yield running
    await running.stop()


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.bound_address) as opened:
        yield opened


@pytest.fixture
def open_request() -> Callable[[], session_pb2.OpenSessionRequest]:
    return lambda: session_pb2.OpenSessionRequest(nonce=os.urandom(16), ttl_ms=15_000, label="test")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Any]:
    """A Place (test_login) that admits writes."""
    from tests.service.server.test_login import Place

    made = Place(tmp_path)
    await made.start()
    yield made
    await made.stop()
