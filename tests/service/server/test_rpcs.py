"""Every RPC over loopback against a real member: one good call, one bad one. A new RPC without a row fails here."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from lockmaster.api import admin_pb2, config_pb2, lock_pb2, session_pb2, status_pb2
from lockmaster.server.app import Server
from lockmaster.server.relay import FAILURE_KEY
from lockmaster.server.unary import ROWS, SERVICES

S = status_pb2
METHODS = {
    method.full_name.removeprefix("lockmaster.v1."): method for service in SERVICES for method in service.methods
}


class Caller:
    """Calls by name; a failed call gives its Failure."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.session_id = 0
        self.seq = 0

    async def call(self, name: str, request: Message, timeout: float | None = 5) -> Any:
        method = METHODS[name]
        path = f"/{method.containing_service.full_name}/{method.name}"
        response = message_factory.GetMessageClass(method.output_type)
        stub: Any = self._channel.unary_unary(path, type(request).SerializeToString, response.FromString)
        return await stub(request, timeout=timeout)

    async def refusal(self, name: str, request: Message, timeout: float | None = 5) -> status_pb2.Failure:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(name, request, timeout)
        trailing: dict[str, Any] = dict(caught.value.trailing_metadata() or ())  # type: ignore[arg-type]
        assert "grpc-status-details-bin" in trailing
        return status_pb2.Failure.FromString(trailing[FAILURE_KEY])

    async def open_session(self) -> int:
        opened = await self.call("Sessions.Open", session_pb2.OpenSessionRequest(nonce=os.urandom(16)))
        self.session_id = opened.session_id
        return self.session_id

    def header(self) -> status_pb2.DedupHeader:
        self.seq += 1
        return status_pb2.DedupHeader(session_id=self.session_id, seq=self.seq, first_incomplete=self.seq)

    async def acquire(self, name: str, **fields: Any) -> lock_pb2.AcquireResponse:
        request = lock_pb2.AcquireRequest(name=name, wait=True, header=self.header(), **fields)
        answer: lock_pb2.AcquireResponse = await self.call("Locks.Acquire", request)
        return answer


@pytest.fixture
async def caller(channel: grpc.aio.Channel) -> Caller:
    made = Caller(channel)
    await made.open_session()
    return made


async def sessions_open(c: Caller) -> None:
    request = session_pb2.OpenSessionRequest(nonce=os.urandom(16), ttl_ms=20_000)
    first = await c.call("Sessions.Open", request)
    assert first.ttl_ms == 20_000
    assert (await c.call("Sessions.Open", request)).session_id == first.session_id


async def sessions_keep_alive(c: Caller) -> None:
    request = session_pb2.KeepAliveRequest(session_ids=[c.session_id, 5])
    assert list((await c.call("Sessions.KeepAlive", request)).expired) == [5]


async def sessions_close(c: Caller) -> None:
    granted = await c.acquire("closed")
    await c.call("Sessions.Close", session_pb2.CloseSessionRequest(session_id=c.session_id))
    found = await c.call("Locks.Inspect", lock_pb2.InspectLockRequest(name="closed"))
    assert granted.token
    assert not found.lock.HasField("holder")


async def sessions_direct(c: Caller) -> None:
    found = await c.call("Sessions.Direct", session_pb2.DirectRequest())
    assert 0 < found.port < 65536
    assert len(found.key) == 16


async def sessions_list(c: Caller) -> None:
    found = await c.call("Sessions.List", session_pb2.ListSessionsRequest())
    assert c.session_id in [session.session_id for session in found.sessions]


async def locks_acquire(c: Caller) -> None:
    granted = await c.acquire("one")
    assert granted.state == lock_pb2.ACQUIRE_STATE_GRANTED
    again = lock_pb2.AcquireRequest(name="one", wait=True, header={"session_id": c.session_id, "seq": c.seq})
    assert (await c.call("Locks.Acquire", again)).token == granted.token


async def locks_release(c: Caller) -> None:
    token = (await c.acquire("one")).token
    await c.call("Locks.Release", lock_pb2.ReleaseRequest(name="one", token=token, header=c.header()))
    assert (await c.acquire("one")).token > token


async def locks_cancel(c: Caller) -> None:
    token = (await c.acquire("one")).token
    request = lock_pb2.CancelAcquireRequest(name="one", acquire_seq=c.seq, header={"session_id": c.session_id})
    answer = await c.call("Locks.Cancel", request)
    assert (answer.state, answer.token) == (lock_pb2.ACQUIRE_STATE_GRANTED, token)


async def locks_inspect(c: Caller) -> None:
    token = (await c.acquire("one")).token
    found = await c.call("Locks.Inspect", lock_pb2.InspectLockRequest(name="one"))
    assert (found.lock.holder.session_id, found.lock.holder.token) == (c.session_id, token)


async def locks_list(c: Caller) -> None:
    await c.acquire("x/1")
    await c.acquire("x/2")
    found = await c.call("Locks.List", lock_pb2.ListLocksRequest(prefix="x/", limit=1))
    assert ([lock.name for lock in found.locks], found.more) == (["x/1"], True)


async def locks_force_release(c: Caller) -> None:
    token = (await c.acquire("one")).token
    answer = await c.call("Locks.ForceRelease", lock_pb2.ForceReleaseRequest(name="one", reason="test"))
    assert (answer.released, answer.token) == (True, token)


async def config_put(c: Caller) -> None:
    first = await c.call("Config.Put", config_pb2.PutRequest(namespace="n", key="k", value=b"1", if_revision=0))
    second = config_pb2.PutRequest(namespace="n", key="k", value=b"2", if_revision=first.revision)
    assert (await c.call("Config.Put", second)).version == 2
    failure = await c.refusal("Config.Put", second)
    assert failure.status == S.STATUS_COMPARE_FAILED
    assert failure.current_revision > first.revision


async def config_get(c: Caller) -> None:
    put = await c.call("Config.Put", config_pb2.PutRequest(namespace="n", key="k", value=bytes(1 << 20)))
    found = await c.call("Config.Get", config_pb2.GetRequest(namespace="n", key="k"))
    assert (found.item.mod_revision, len(found.item.value)) == (put.revision, 1 << 20)
    absent = await c.call("Config.Get", config_pb2.GetRequest(namespace="n", key="absent"))
    assert not absent.HasField("item")


async def config_range(c: Caller) -> None:
    for key in ("a", "b", "c"):
        await c.call("Config.Put", config_pb2.PutRequest(namespace="range", key=key, value=bytes(1 << 20)))
    found = await c.call("Config.Range", config_pb2.RangeRequest(namespace="range", limit=2))
    assert ([item.key for item in found.items], found.more) == (["a", "b"], True)
    rest = config_pb2.RangeRequest(namespace="range", after="b", at_revision=found.revision, keys_only=True)
    assert [(item.key, item.value) for item in (await c.call("Config.Range", rest)).items] == [("c", b"")]


async def config_delete(c: Caller) -> None:
    await c.call("Config.Put", config_pb2.PutRequest(namespace="n", key="k"))
    assert (await c.call("Config.Delete", config_pb2.DeleteRequest(namespace="n", key="k"))).deleted
    assert not (await c.call("Config.Delete", config_pb2.DeleteRequest(namespace="n", key="k"))).deleted


async def config_history(c: Caller) -> None:
    for value in (b"1", b"2"):
        await c.call("Config.Put", config_pb2.PutRequest(namespace="history", key="k", value=value))
    found = await c.call("Config.History", config_pb2.HistoryRequest(namespace="history", key="k"))
    assert [change.item.value for change in found.changes] == [b"2", b"1"]


async def admin_status(c: Caller) -> None:
    status = await c.call("Admin.Status", admin_pb2.StatusRequest())
    assert (status.role, status.name) == ("leader", "dev")
    assert status.sessions >= 1


async def admin_list_members(c: Caller) -> None:
    found = await c.call("Admin.ListMembers", admin_pb2.ListMembersRequest())
    assert [(member.name, member.voter, member.leader) for member in found.members] == [("dev", True, True)]


async def admin_add_and_remove(c: Caller) -> None:
    request = admin_pb2.AddMemberRequest(
        name="second",
        peer_address="127.0.0.1:9",
        client_address="127.0.0.1:19",
        incarnation=bytes(range(16)),
        learner=True,
        level_max=2,
    )
    added = await c.call("Admin.AddMember", request)
    assert (await c.call("Admin.AddMember", request)).member_id == added.member_id
    await c.call("Admin.RemoveMember", admin_pb2.RemoveMemberRequest(member_id=added.member_id))


async def admin_change_gate(c: Caller) -> None:
    """A new cluster begins at level 2, the highest: only what is so already succeeds."""
    request = admin_pb2.ChangeGateRequest(operation=admin_pb2.GATE_OPERATION_ACTIVATE, level=2, expected_epoch=0)
    answer = await c.call("Admin.ChangeGate", request)
    assert (answer.level_active, answer.level_fence, answer.gate_epoch) == (2, 2, 0)
    fence = admin_pb2.ChangeGateRequest(operation=admin_pb2.GATE_OPERATION_FENCE, level=3, expected_epoch=0)
    failure = await c.refusal("Admin.ChangeGate", fence)
    assert failure.status == S.STATUS_PRECONDITION_FAILED
    assert failure.message == "FENCE(3) needs level 3 of every member: member 1 (dev) knows up to 2"


async def admin_set_reduced_commit(c: Caller) -> None:
    """Only what is so already succeeds with one member."""
    epoch = (await c.call("Admin.ListMembers", admin_pb2.ListMembersRequest())).configuration_epoch
    answer = await c.call("Admin.SetReducedCommit", admin_pb2.SetReducedCommitRequest(enabled=False))
    assert answer.configuration_epoch == epoch


async def refused(c: Caller, name: str, request: Message, status: int, field: str = "") -> None:
    failure = await c.refusal(name, request)
    assert (failure.status, failure.field) == (status, field), failure


A = lock_pb2.AcquireRequest


async def admin_snapshots(c: Caller) -> None:
    made = await c.call("Admin.MakeSnapshot", admin_pb2.MakeSnapshotRequest())
    again = await c.call("Admin.MakeSnapshot", admin_pb2.MakeSnapshotRequest(index_min=made.snapshot.index))
    assert (again.made, again.snapshot) == (False, made.snapshot)
    listed = await c.call("Admin.ListSnapshots", admin_pb2.ListSnapshotsRequest())
    assert list(listed.snapshots) == [made.snapshot]
    verified = await c.call("Admin.VerifySnapshot", admin_pb2.VerifySnapshotRequest(index=made.snapshot.index))
    assert verified.snapshot == made.snapshot


async def admin_abort_role_change(c: Caller) -> None:
    """Nothing runs: what was to be aborted is over, however often that is asked for."""
    request = admin_pb2.AbortRoleChangeRequest(member_id=1, idempotency_key="abort")
    answer = await c.call("Admin.AbortRoleChange", request)
    assert answer.member_role == "full"
    assert await c.call("Admin.AbortRoleChange", request) == answer


async def admin_transfer_leadership(c: Caller) -> None:
    """To who leads already; to others: tests/integration."""
    request = admin_pb2.TransferLeadershipRequest(target=1)
    assert (await c.call("Admin.TransferLeadership", request)).leader_id == 1


async def admin_end_session(c: Caller) -> None:
    """One that no pod's token opened (test_login.py has those): once, however often it is asked for."""
    opened = await c.call("Sessions.Open", session_pb2.OpenSessionRequest(nonce=b"0123456789abcdef", ttl_ms=60_000))
    request = admin_pb2.EndSessionRequest(session_id=opened.session_id, reason="gone", idempotency_key="end")
    assert (await c.call("Admin.EndSession", request)).ended
    assert (await c.call("Admin.EndSession", request)).ended  # the same answer
    request.idempotency_key = ""
    assert not (await c.call("Admin.EndSession", request)).ended


GOOD: dict[str, Any] = {
    "Admin.EndSession": admin_end_session,
    "Admin.AbortRoleChange": admin_abort_role_change,
    "Admin.TransferLeadership": admin_transfer_leadership,
    "Admin.MakeSnapshot": admin_snapshots,
    "Admin.ListSnapshots": admin_snapshots,
    "Admin.VerifySnapshot": admin_snapshots,
    "Sessions.Open": sessions_open,
    "Sessions.KeepAlive": sessions_keep_alive,
    "Sessions.Close": sessions_close,
    "Sessions.List": sessions_list,
    "Sessions.Direct": sessions_direct,
    "Locks.Acquire": locks_acquire,
    "Locks.Release": locks_release,
    "Locks.Cancel": locks_cancel,
    "Locks.Inspect": locks_inspect,
    "Locks.List": locks_list,
    "Locks.ForceRelease": locks_force_release,
    "Config.Put": config_put,
    "Config.Get": config_get,
    "Config.Range": config_range,
    "Config.Delete": config_delete,
    "Config.History": config_history,
    "Admin.Status": admin_status,
    "Admin.ListMembers": admin_list_members,
    "Admin.AddMember": admin_add_and_remove,
    "Admin.RemoveMember": admin_add_and_remove,
    "Admin.ChangeGate": admin_change_gate,
    "Admin.SetReducedCommit": admin_set_reduced_commit,
}
BAD: list[tuple[str, Message, int, str]] = [
    ("Sessions.Open", session_pb2.OpenSessionRequest(nonce=b"short"), S.STATUS_INVALID_REQUEST, "nonce"),
    ("Sessions.Open", session_pb2.OpenSessionRequest(nonce=bytes(16), ttl_ms=1), S.STATUS_INVALID_REQUEST, "ttl_ms"),
    ("Sessions.KeepAlive", session_pb2.KeepAliveRequest(), S.STATUS_INVALID_REQUEST, "session_ids"),
    ("Sessions.Close", session_pb2.CloseSessionRequest(), S.STATUS_INVALID_REQUEST, "session_id"),
    ("Sessions.List", session_pb2.ListSessionsRequest(limit=1001), S.STATUS_INVALID_REQUEST, "limit"),
    ("Locks.Acquire", A(name="x"), S.STATUS_INVALID_REQUEST, "session_id"),
    ("Locks.Acquire", A(name="x", header={"session_id": 7}), S.STATUS_INVALID_REQUEST, "seq"),
    ("Locks.Acquire", A(name="x", header={"session_id": 7, "seq": 1}), S.STATUS_SESSION_EXPIRED, ""),
    ("Locks.Acquire", A(header={"session_id": 7, "seq": 1}), S.STATUS_INVALID_REQUEST, "name"),
    ("Locks.Release", lock_pb2.ReleaseRequest(name="x"), S.STATUS_INVALID_REQUEST, "token"),
    ("Locks.Cancel", lock_pb2.CancelAcquireRequest(name="x"), S.STATUS_INVALID_REQUEST, "acquire_seq"),
    ("Locks.Inspect", lock_pb2.InspectLockRequest(name="\0"), S.STATUS_INVALID_REQUEST, "name"),
    ("Locks.List", lock_pb2.ListLocksRequest(limit=1001), S.STATUS_INVALID_REQUEST, "limit"),
    ("Locks.ForceRelease", lock_pb2.ForceReleaseRequest(name="x"), S.STATUS_INVALID_REQUEST, "reason"),
    ("Config.Put", config_pb2.PutRequest(namespace="n"), S.STATUS_INVALID_REQUEST, "key"),
    (
        "Config.Put",
        config_pb2.PutRequest(namespace="n", key="k", ephemeral=True),
        S.STATUS_INVALID_REQUEST,
        "session_id",
    ),
    (
        "Config.Put",
        config_pb2.PutRequest(namespace="n", key="k", guard={"lock": "l", "token": 9}),
        S.STATUS_NOT_HELD,
        "",
    ),
    ("Config.Get", config_pb2.GetRequest(namespace="n"), S.STATUS_INVALID_REQUEST, "key"),
    ("Config.Range", config_pb2.RangeRequest(), S.STATUS_INVALID_REQUEST, "namespace"),
    ("Config.Delete", config_pb2.DeleteRequest(namespace="n"), S.STATUS_INVALID_REQUEST, "key"),
    ("Config.History", config_pb2.HistoryRequest(), S.STATUS_INVALID_REQUEST, "namespace"),
    ("Admin.Bootstrap", admin_pb2.BootstrapRequest(full_min=1), S.STATUS_PRECONDITION_FAILED, ""),
    ("Admin.Bootstrap", admin_pb2.BootstrapRequest(), S.STATUS_INVALID_REQUEST, "full_min"),
    ("Admin.AddMember", admin_pb2.AddMemberRequest(), S.STATUS_INVALID_REQUEST, "name"),
    ("Admin.RemoveMember", admin_pb2.RemoveMemberRequest(), S.STATUS_INVALID_REQUEST, "member_id"),
    ("Admin.ReplaceMember", admin_pb2.ReplaceMemberRequest(old_id=1), S.STATUS_INVALID_REQUEST, "new_id"),
    ("Admin.ReplaceMember", admin_pb2.ReplaceMemberRequest(old_id=1, new_id=2), S.STATUS_PRECONDITION_FAILED, ""),
    ("Admin.PromoteMember", admin_pb2.PromoteMemberRequest(member_id=99), S.STATUS_PRECONDITION_FAILED, ""),
    ("Admin.DemoteMember", admin_pb2.DemoteMemberRequest(member_id=1), S.STATUS_PRECONDITION_FAILED, ""),
    ("Admin.AbortRoleChange", admin_pb2.AbortRoleChangeRequest(member_id=99), S.STATUS_PRECONDITION_FAILED, ""),
    (
        "Admin.SetReducedCommit",
        admin_pb2.SetReducedCommitRequest(enabled=True, expected_epoch=99),
        S.STATUS_PRECONDITION_FAILED,
        "",
    ),
    ("Admin.ChangeGate", admin_pb2.ChangeGateRequest(level=2), S.STATUS_INVALID_REQUEST, "operation"),
    ("Admin.ChangeGate", admin_pb2.ChangeGateRequest(operation=1, level=1), S.STATUS_INVALID_REQUEST, "level"),  # type: ignore[arg-type]
    ("Admin.TransferLeadership", admin_pb2.TransferLeadershipRequest(target=99), S.STATUS_PRECONDITION_FAILED, ""),
    (
        "Admin.Bootstrap",
        admin_pb2.BootstrapRequest(full_min=1, cluster_id=b"x"),
        S.STATUS_INVALID_REQUEST,
        "cluster_id",
    ),
    ("Admin.Bootstrap", admin_pb2.BootstrapRequest(full_min=1, level=99), S.STATUS_INVALID_REQUEST, "level"),
    ("Admin.EndSession", admin_pb2.EndSessionRequest(session_id=1), S.STATUS_INVALID_REQUEST, "reason"),
    ("Admin.MakeSnapshot", admin_pb2.MakeSnapshotRequest(index_min=1 << 60), S.STATUS_PRECONDITION_FAILED, ""),
    ("Admin.VerifySnapshot", admin_pb2.VerifySnapshotRequest(index=999), S.STATUS_NOT_FOUND, ""),
]
NO_GOOD_CALL_HERE = {
    "Admin.Bootstrap": "every server of these tests starts by it",
    **dict.fromkeys(
        ("Admin.ReplaceMember", "Admin.PromoteMember", "Admin.DemoteMember"),
        "needs a second member: tests/integration",
    ),
}
NO_BAD_CALL = dict.fromkeys(
    ("Sessions.Direct", "Admin.Status", "Admin.ListMembers", "Admin.ListSnapshots"), "has no field"
)
STREAMS = {"Sessions.Connect", "Config.Watch", "Admin.Backup"}


def test_every_rpc_has_a_row_a_good_and_a_bad_call() -> None:
    assert {f"lockmaster.v1.{name}" for name in METHODS} == set(ROWS)
    assert set(GOOD) | set(NO_GOOD_CALL_HERE) | STREAMS == set(METHODS)
    assert {name for name, *_ in BAD} | set(NO_BAD_CALL) | STREAMS == set(METHODS)


async def test_good_calls(server: Server, channel: grpc.aio.Channel) -> None:
    for name, good in GOOD.items():
        caller = Caller(channel)
        await caller.open_session()
        try:
            await good(caller)
        except Exception as error:
            raise AssertionError(f"{name}: {error}") from error
        await caller.call("Sessions.Close", session_pb2.CloseSessionRequest(session_id=caller.session_id))


async def test_bad_calls(caller: Caller) -> None:
    for name, request, status, field in BAD:
        failure = await caller.refusal(name, request)
        assert (failure.status, failure.field) == (status, field), f"{name}: {failure}"
        assert failure.message
        assert "\n" not in failure.message


async def test_writes_need_a_deadline_and_reads_do_not(caller: Caller) -> None:
    failure = await caller.refusal("Config.Put", config_pb2.PutRequest(namespace="n", key="k"), timeout=None)
    assert (failure.status, failure.field) == (S.STATUS_INVALID_REQUEST, "deadline")
    await caller.call("Config.Get", config_pb2.GetRequest(namespace="n", key="k"), timeout=None)


async def test_acquire_waits_until_the_lock_is_granted(server: Server, channel: grpc.aio.Channel) -> None:
    holder, waiter = Caller(channel), Caller(channel)
    await holder.open_session()
    await waiter.open_session()
    token = (await holder.acquire("one")).token
    waiting = asyncio.create_task(waiter.acquire("one"))
    while (await holder.call("Locks.Inspect", lock_pb2.InspectLockRequest(name="one"))).lock.queue_length == 0:
        pass
    await holder.call("Locks.Release", lock_pb2.ReleaseRequest(name="one", token=token, header=holder.header()))
    granted = await waiting
    assert granted.state == lock_pb2.ACQUIRE_STATE_GRANTED
    assert granted.token > token


async def test_the_end_of_a_call_leaves_the_place_of_its_retry(server: Server, channel: grpc.aio.Channel) -> None:
    holder, waiter = Caller(channel), Caller(channel)
    await holder.open_session()
    await waiter.open_session()
    token = (await holder.acquire("one")).token
    inspect = lock_pb2.InspectLockRequest(name="one")
    first = asyncio.create_task(waiter.acquire("one"))
    while (await holder.call("Locks.Inspect", inspect)).lock.queue_length == 0:
        pass
    waiter.seq -= 1
    retry = asyncio.create_task(waiter.acquire("one"))
    for _ in range(20):  # reads behind it on the same channel: it has taken the first call's place
        await holder.call("Locks.Inspect", inspect)
    first.cancel()
    await asyncio.wait({first})
    for _ in range(20):  # and the end of the first call has been noticed
        assert (await holder.call("Locks.Inspect", inspect)).lock.queue_length == 1
    request = lock_pb2.ReleaseRequest(name="one", token=token, header=holder.header())
    await holder.call("Locks.Release", request)
    assert (await retry).state == lock_pb2.ACQUIRE_STATE_GRANTED


async def test_an_acquire_that_ends_early_withdraws_its_place(server: Server, channel: grpc.aio.Channel) -> None:
    holder, waiter = Caller(channel), Caller(channel)
    await holder.open_session()
    await waiter.open_session()
    await holder.acquire("one")
    inspect = lock_pb2.InspectLockRequest(name="one")
    waiting = asyncio.create_task(waiter.acquire("one"))
    while (await holder.call("Locks.Inspect", inspect)).lock.queue_length == 0:
        pass
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5):
        while (await holder.call("Locks.Inspect", inspect)).lock.queue_length:
            pass


async def test_unary_watch_tells_changes_from_a_revision_on(caller: Caller, channel: grpc.aio.Channel) -> None:
    first = await caller.call("Config.Put", config_pb2.PutRequest(namespace="n", key="k", value=b"1"))
    stub: Any = channel.unary_stream(
        "/lockmaster.v1.Config/Watch",
        config_pb2.WatchRequest.SerializeToString,
        config_pb2.WatchEvents.FromString,
    )
    call = stub(config_pb2.WatchRequest(namespace="n", key="k", from_revision=first.revision))
    seen: list[bytes] = []
    while len(seen) < 1:
        seen += [change.item.value for change in (await call.read()).changes]
    await caller.call("Config.Put", config_pb2.PutRequest(namespace="n", key="k", value=b"2"))
    while len(seen) < 2:
        seen += [change.item.value for change in (await call.read()).changes]
    call.cancel()
    assert seen == [b"1", b"2"]
    refused = stub(config_pb2.WatchRequest(namespace="n"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refused.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_eventual_read_waits_for_a_revision_no_longer_than_its_deadline(caller: Caller) -> None:
    put = await caller.call("Config.Put", config_pb2.PutRequest(namespace="n", key="k"))
    read = status_pb2.ReadOptions(consistency=S.CONSISTENCY_EVENTUAL, revision_min=put.revision)
    await caller.call("Config.Get", config_pb2.GetRequest(namespace="n", key="k", read=read))
    read.revision_min = put.revision + 1
    get = config_pb2.GetRequest(namespace="n", key="k", read=read)
    waiting = asyncio.create_task(caller.call("Config.Get", get))
    await caller.call("Config.Put", config_pb2.PutRequest(namespace="n", key="k"))
    assert (await waiting).revision >= put.revision + 1


async def test_a_change_under_a_key_is_made_once(caller: Caller) -> None:
    request = admin_pb2.MakeSnapshotRequest(idempotency_key="one")
    made = await caller.call("Admin.MakeSnapshot", request)
    await caller.call("Config.Put", config_pb2.PutRequest(namespace="n", key="k"))
    assert await caller.call("Admin.MakeSnapshot", request) == made
    request.index_min = 1
    failure = await caller.refusal("Admin.MakeSnapshot", request)
    assert (failure.status, failure.field) == (S.STATUS_INVALID_REQUEST, "idempotency_key")
    other = await caller.call("Admin.MakeSnapshot", admin_pb2.MakeSnapshotRequest(idempotency_key="two"))
    assert other.snapshot.index > made.snapshot.index


async def test_health_and_reflection(server: Server, channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    await server.health.update()
    for service in ("", "lockmaster.v1.Locks", "lockmaster.v1.Admin", "lockmaster.leader"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    await server.health.stop()
    answer = await health.Check(health_pb2.HealthCheckRequest(service="lockmaster.v1.Locks"))
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = reflection.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await call.read()).list_services_response.service}
    call.cancel()
    assert {service.full_name for service in SERVICES} <= listed


async def test_a_relayed_call_in_another_s_name_is_refused_for_a_stranger(caller: Caller, server: Server) -> None:
    metadata = (("lockmaster-relayed-for-bin", b"somebody"),)
    async with grpc.aio.insecure_channel(server.bound_address) as channel:
        stub: Any = channel.unary_unary(
            "/lockmaster.v1.Config/Put",
            config_pb2.PutRequest.SerializeToString,
            config_pb2.PutResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(config_pb2.PutRequest(namespace="n", key="k"), timeout=5, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
