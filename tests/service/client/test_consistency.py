"""The `consistency` of reads as the wire carries it, by every method that reads; the idempotency keys of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import grpc
import grpc.aio
import pytest
from lockmaster import AsyncClient, Bounded, Client, Consistency, Eventual, LeaderLease, Linearizable
from lockmaster.api import admin_pb2, config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.client.consistency import AGE_SECONDS_MAX, REVISION_MAX, WAIT_SECONDS_MAX, read_options

S = status_pb2


@dataclass(frozen=True, slots=True)
class Settings:
    """One value of typed configuration."""

    rate: int = 1


# ---- the wire's form -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consistency", "fields"),
    [
        (Linearizable(), {}),
        (LeaderLease(), {"consistency": S.CONSISTENCY_LEADER_LEASE}),
        (Eventual(), {"consistency": S.CONSISTENCY_EVENTUAL}),
        (Eventual(7), {"consistency": S.CONSISTENCY_EVENTUAL, "revision_min": 7, "wait_ms_max": 2_000}),
        (
            Eventual(REVISION_MAX, WAIT_SECONDS_MAX),
            {"consistency": S.CONSISTENCY_EVENTUAL, "revision_min": REVISION_MAX, "wait_ms_max": 10_000},
        ),
        (Eventual(7, 0.001), {"consistency": S.CONSISTENCY_EVENTUAL, "revision_min": 7, "wait_ms_max": 1}),
        (Bounded(0.001), {"consistency": S.CONSISTENCY_BOUNDED, "age_ms_max": 1}),
        (Bounded(1.9999), {"consistency": S.CONSISTENCY_BOUNDED, "age_ms_max": 1_999}),  # never a laxer bound
        (Bounded(AGE_SECONDS_MAX), {"consistency": S.CONSISTENCY_BOUNDED, "age_ms_max": 86_400_000}),
    ],
)
def test_each_consistency_on_the_wire(consistency: Consistency, fields: dict[str, Any]) -> None:
    assert (read_options(consistency) or S.ReadOptions()) == S.ReadOptions(**fields)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Eventual(-1), "revision_min must be 0 to 2"),
        (lambda: Eventual(REVISION_MAX + 1), "revision_min must be 0 to 2"),
        (lambda: Eventual(1, 0.0), "wait must be 0.001 to 10 seconds"),
        (lambda: Eventual(1, 10.001), "wait must be 0.001 to 10 seconds"),
        (lambda: Eventual(1, float("nan")), "wait must be 0.001 to 10 seconds"),
        (lambda: Bounded(0.0), "age_max must be 0.001 to 86,400 seconds"),
        (lambda: Bounded(86_400.1), "age_max must be 0.001 to 86,400 seconds"),
        (lambda: Bounded(float("nan")), "age_max must be 0.001 to 86,400 seconds"),
    ],
)
def test_a_bound_outside_its_range_is_named_with_its_limits(make: Callable[[], Consistency], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


# ---- every method that reads -----------------------------------------------------------------------------------------

Read = Callable[[Any, Consistency], Any]
"""Asks a client, either one, for something so fresh; the asynchronous one's has to be awaited."""
READS: dict[str, Read] = {
    "get": lambda client, how: client.config("n").get("k", consistency=how),
    "range": lambda client, how: client.config("n").range(consistency=how),
    "scan": lambda client, how: client.config("n").scan("k", exact=True, consistency=how),
    "history": lambda client, how: client.config("n").history(consistency=how),
    "typed": lambda client, how: client.config("n", model=Settings).get(consistency=how),
    "inspect": lambda client, how: client.locks.inspect("x", consistency=how),
    "list": lambda client, how: client.locks.list(consistency=how),
}
ANSWERS = {
    "get": session_pb2.Response(get=config_pb2.GetResponse()),
    "range": session_pb2.Response(range=config_pb2.RangeResponse()),
    "history": session_pb2.Response(history=config_pb2.HistoryResponse()),
    "inspect_lock": session_pb2.Response(inspect_lock=lock_pb2.InspectLockResponse()),
}


class Unary:
    """Answers unary calls with an empty message, after so many refusals, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.refusals = 0

    def handlers(self, service: str, methods: Iterable[str]) -> Any:
        """What a server has to be given."""
        handlers = {name: grpc.unary_unary_rpc_method_handler(partial(self._answer, name)) for name in methods}
        return grpc.method_handlers_generic_handler(service, handlers)

    async def _answer(self, method: str, request: bytes, context: Any) -> bytes:
        self.asked.append((method, request))
        if self.refusals:
            self.refusals -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "an election")
        return b""


@pytest.fixture
async def unary() -> AsyncIterator[tuple[Unary, str]]:
    """The calls, and the address of a server that takes them."""
    calls = Unary()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    locks, admin = calls.handlers("lockmaster.v1.Locks", ["List"]), calls.handlers("lockmaster.v1.Admin", CHANGES)
    server.add_generic_rpc_handlers((locks, admin))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield calls, f"127.0.0.1:{port}"
    await server.stop(0)


def streamed(cluster: Any) -> list[status_pb2.ReadOptions]:
    """Fills with what each read asked for on the stream; all are answered with nothing."""
    seen: list[status_pb2.ReadOptions] = []

    def answer(request: session_pb2.Request) -> session_pb2.Response:
        kind = str(request.WhichOneof("operation"))
        seen.append(getattr(request, kind).read)
        return ANSWERS[kind]

    cluster.member.fault = answer
    return seen


HOWS = (LeaderLease(), Eventual(9, 1.5), Bounded(0.25), Linearizable())
WIRES = [read_options(how) or S.ReadOptions() for how in HOWS]


def in_order(seen: list[status_pb2.ReadOptions]) -> list[status_pb2.ReadOptions]:
    """Without repeats: a read whose answer is late is asked again."""
    return [read for read, _ in groupby(seen)]


@pytest.mark.parametrize("name", [name for name in READS if name != "list"])
async def test_every_read_of_both_clients_carries_what_it_was_told(cluster: Any, name: str) -> None:
    seen = streamed(cluster)
    async with cluster.client() as client:
        for how in HOWS:
            await READS[name](client, how)
    assert in_order(seen) == WIRES

    def synchronous() -> None:
        with Client(cluster.endpoints) as client:
            for how in HOWS:
                READS[name](client, how)

    await asyncio.to_thread(synchronous)
    assert in_order(seen) == WIRES + WIRES


async def test_the_list_of_locks_carries_it_too(unary: tuple[Unary, str]) -> None:
    calls, address = unary
    async with AsyncClient(address) as client:
        for how in HOWS:
            await READS["list"](client, how)
    assert [lock_pb2.ListLocksRequest.FromString(request).read for _, request in calls.asked] == WIRES


async def test_each_page_of_a_range_carries_it_and_stays_at_the_first_ones_revision(cluster: Any) -> None:
    asked: list[config_pb2.RangeRequest] = []

    def answer(request: session_pb2.Request) -> session_pb2.Response:
        asked.append(request.range)
        item = config_pb2.KeyValue(namespace="n", key=f"k{len(asked)}", mod_revision=1)
        page = config_pb2.RangeResponse(items=[item], more=len(asked) < 3, revision=40 + len(asked))
        return session_pb2.Response(range=page)

    cluster.member.fault = answer
    async with cluster.client() as client:
        found, revision = await client.config("n").scan(consistency=Bounded(1.0))
    assert ([item.key for item in found], revision) == (["k1", "k2", "k3"], 41)
    assert [page.at_revision for page in asked] == [0, 41, 41]
    assert {page.read.age_ms_max for page in asked} == {1_000}


async def test_a_member_that_cannot_meet_a_bound_is_left_for_the_next_one(three: Any) -> None:
    told: list[str] = []

    def stale(request: session_pb2.Request) -> session_pb2.Response:
        told.append("stale")
        failure = S.Failure(status=S.STATUS_UNAVAILABLE, message="the state here may be older than 1 s")
        return session_pb2.Response(status=failure.status, failure=failure)

    for member in three.members[:2]:
        member.fault = stale
    async with three.client() as client:
        for _ in range(4):
            assert await client.config("n").get("k", consistency=Bounded(1.0)) is None
    assert len(told) <= 2, "a client stays with the member that answers"


# ---- idempotency keys ------------------------------------------------------------------------------------------------

Change = Callable[[AsyncClient, str], Awaitable[Any]]
CHANGES: dict[str, Change] = {
    "AddMember": lambda c, key: c.admin.add_member("m", "p:1", "c:1", bytes(16), idempotency_key=key),
    "RemoveMember": lambda c, key: c.admin.remove_member(3, idempotency_key=key),
    "ReplaceMember": lambda c, key: c.admin.replace_member(3, 4, idempotency_key=key),
    "PromoteMember": lambda c, key: c.admin.promote_member(3, idempotency_key=key),
    "DemoteMember": lambda c, key: c.admin.demote_member(3, idempotency_key=key),
    "AbortRoleChange": lambda c, key: c.admin.abort_role_change(3, idempotency_key=key),
    "SetReducedCommit": lambda c, key: c.admin.set_reduced_commit(True, idempotency_key=key),
    "ChangeGate": lambda c, key: c.admin.change_gate(admin_pb2.GATE_OPERATION_FENCE, 2, idempotency_key=key),
    "TransferLeadership": lambda c, key: c.admin.transfer(expected_term=7, idempotency_key=key),
    "EndSession": lambda c, key: c.admin.end_session(7, "uid", "its pod is gone", idempotency_key=key),
}


def keys_of(asked: list[tuple[str, bytes]]) -> list[str]:
    requests = [getattr(admin_pb2, method + "Request").FromString(request) for method, request in asked]
    return [request.idempotency_key for request in requests]


@pytest.mark.parametrize("method", CHANGES)
async def test_a_change_draws_a_key_for_all_its_attempts_and_another_for_the_next(
    unary: tuple[Unary, str], method: str
) -> None:
    calls, address = unary
    async with AsyncClient(address) as client:
        calls.refusals = 2
        await CHANGES[method](client, "")
        await CHANGES[method](client, "")
        await CHANGES[method](client, "mine")
    assert {asked for asked, _ in calls.asked} == {method}
    first, second, third, other, mine = keys_of(calls.asked)
    assert first == second == third
    assert len({first, other, mine}) == 3
    assert mine == "mine"
    assert all(1 <= len(key.encode()) <= 128 for key in (first, other))


def test_every_change_that_the_protocol_gives_a_key_is_in_the_list_above() -> None:
    """But MakeSnapshot, which is asked of one named member, by the command line alone."""
    methods = admin_pb2.DESCRIPTOR.services_by_name["Admin"].methods
    with_key = {method.name for method in methods if "idempotency_key" in method.input_type.fields_by_name}
    assert with_key == {*CHANGES, "MakeSnapshot"}
