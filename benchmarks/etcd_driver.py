"""The etcd driver for machines without a Go toolchain: etcd's gRPC API from Python, its lock API for locks.

Same flags and answer as benchmarks/etcd/cmd/driver. A Python driver flatters nobody: the table says which one it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from lockmaster.cli.bench.command import loop_factory
from lockmaster.cli.bench.samples import Samples, summary
from lockmaster.cli.bench.workloads import (
    KEYS_OF_ONE_WORKER,
    WARM_UP_SECONDS,
    WATCHERS,
    Plan,
    clock,
    handed_on,
    outlived,
    unique_prefix,
    workers,
)

LEASE_SECONDS = 60
ATTEMPT_SECONDS = 2.0
PACKAGE = "lockmaster.bench"

# The part of etcd's public messages that is used here: (field, number, type); * = repeated, a name = a message.
MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Header": (("member_id", 2, "uint64"), ("revision", 3, "int64")),
    "StatusRequest": (),
    "StatusResponse": (("header", 1, "Header"), ("leader", 4, "uint64")),
    "RangeRequest": (("key", 1, "bytes"),),
    "RangeResponse": (("count", 4, "int64"),),
    "PutRequest": (("key", 1, "bytes"), ("value", 2, "bytes")),
    "PutResponse": (("header", 1, "Header"),),
    "LeaseGrantRequest": (("ttl", 1, "int64"),),
    "LeaseGrantResponse": (("id", 2, "int64"),),
    "LockRequest": (("name", 1, "bytes"), ("lease", 2, "int64")),
    "LockResponse": (("key", 2, "bytes"),),
    "UnlockRequest": (("key", 1, "bytes"),),
    "UnlockResponse": (),
    "WatchCreate": (("key", 1, "bytes"),),
    "WatchRequest": (("create", 1, "WatchCreate"),),
    "Event": (("kind", 1, "int32"),),
    "WatchResponse": (("watch_id", 2, "int64"), ("created", 3, "bool"), ("events", 11, "*Event")),
}


def message_classes() -> dict[str, Any]:
    """Message classes for MESSAGES, without generated code."""
    file = descriptor_pb2.FileDescriptorProto(name="lockmaster_bench_etcd.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number)
            added.label = added.LABEL_REPEATED if kind.startswith("*") else added.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in MESSAGES:
                added.type, added.type_name = added.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                added.type = getattr(added, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


M = message_classes()


class Etcd:
    """One connection: its calls, and one lease."""

    def __init__(self, endpoint: str, ca: bytes | None) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        if ca is None:
            self.channel = grpc.aio.insecure_channel(endpoint, options=options)
        else:
            self.channel = grpc.aio.secure_channel(endpoint, grpc.ssl_channel_credentials(ca), options=options)
        self.endpoint = endpoint
        self.put = self.unary("etcdserverpb.KV/Put", "Put")
        self.range = self.unary("etcdserverpb.KV/Range", "Range")
        self.status = self.unary("etcdserverpb.Maintenance/Status", "Status")
        self.grant = self.unary("etcdserverpb.Lease/LeaseGrant", "LeaseGrant")
        self.lock = self.unary("v3lockpb.Lock/Lock", "Lock")
        self.unlock = self.unary("v3lockpb.Lock/Unlock", "Unlock")

    def unary(self, method: str, name: str) -> Callable[..., Any]:
        answer = M[f"{name}Response"]
        call: Callable[..., Any] = self.channel.unary_unary(
            f"/{method}",
            request_serializer=M[f"{name}Request"].SerializeToString,
            response_deserializer=answer.FromString,
        )
        return call

    async def lease(self) -> int:
        """A lease that outlives the run, so that nothing needs to be kept alive."""
        lease: int = (await self.grant(M["LeaseGrantRequest"](ttl=LEASE_SECONDS))).id
        return lease


def spread(clients: Sequence[Etcd], worker: int) -> Etcd:
    return clients[worker % len(clients)]


async def locks(clients: Sequence[Etcd], plan: Plan) -> Samples:
    leases = [await client.lease() for client in clients]

    async def work(worker: int, samples: Samples) -> None:
        client, lease = spread(clients, worker), leases[worker % len(clients)]
        started = clock()
        key = (await client.lock(M["LockRequest"](name=f"{plan.prefix}/{worker}".encode(), lease=lease))).key
        ended = clock()
        await client.unlock(M["UnlockRequest"](key=key))
        samples.add(started, ended, 2)

    return await workers(plan, work)


async def handoff(clients: Sequence[Etcd], plan: Plan) -> Samples:
    leases = [await spread(clients, worker).lease() for worker in range(plan.clients)]

    async def acquire(worker: int) -> tuple[Etcd, bytes]:
        client = spread(clients, worker)
        locked = await client.lock(M["LockRequest"](name=plan.prefix.encode(), lease=leases[worker]))
        return client, locked.key

    async def release(held: tuple[Etcd, bytes]) -> None:
        await held[0].unlock(M["UnlockRequest"](key=held[1]))

    return await handed_on(plan, acquire, release)


def key_of(plan: Plan, worker: int, key: int) -> bytes:
    return f"{plan.prefix}/{worker}/{key}".encode()


async def put(clients: Sequence[Etcd], plan: Plan) -> Samples:
    value = b"v" * plan.value_size

    async def work(worker: int, samples: Samples) -> None:
        key = key_of(plan, worker, random.randrange(KEYS_OF_ONE_WORKER))
        started = clock()
        await spread(clients, worker).put(M["PutRequest"](key=key, value=value))
        samples.add(started, clock(), 1)

    return await workers(plan, work)


async def get(clients: Sequence[Etcd], plan: Plan) -> Samples:
    value = b"v" * plan.value_size
    for worker in range(plan.clients):
        writes = [M["PutRequest"](key=key_of(plan, worker, n), value=value) for n in range(KEYS_OF_ONE_WORKER)]
        await asyncio.gather(*(spread(clients, worker).put(write) for write in writes))

    async def work(worker: int, samples: Samples) -> None:
        key = key_of(plan, worker, random.randrange(KEYS_OF_ONE_WORKER))
        started = clock()
        await spread(clients, worker).range(M["RangeRequest"](key=key))
        samples.add(started, clock(), 1)

    return await workers(plan, work)


async def watch(clients: Sequence[Etcd], plan: Plan) -> Samples:
    """All watches of one client share one stream, as etcd's own client does it."""
    key, value = plan.prefix.encode(), b"v" * plan.value_size
    arrived = asyncio.Semaphore(0)
    written = 0.0
    samples = Samples(float("inf"), float("inf"))

    async def follow(number: int, client: Etcd) -> None:
        connect: Any = client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=M["WatchRequest"].SerializeToString,
            response_deserializer=M["WatchResponse"].FromString,
        )
        stream = connect()
        for _ in range(number, WATCHERS, len(clients)):
            await stream.write(M["WatchRequest"](create=M["WatchCreate"](key=key)))
        async for answer in stream:
            for _ in range(answer.created + len(answer.events)):
                if answer.events:
                    samples.add(written, clock(), 1)
                arrived.release()

    followers = [asyncio.ensure_future(follow(number, client)) for number, client in enumerate(clients)]
    for _ in range(WATCHERS):
        await arrived.acquire()
    samples.start = clock() + WARM_UP_SECONDS
    samples.until = samples.start + plan.seconds
    while clock() < samples.until:
        written = clock()
        await clients[0].put(M["PutRequest"](key=key, value=value))
        for _ in range(WATCHERS):
            await arrived.acquire()
    for follower in followers:
        follower.cancel()
    await asyncio.gather(*followers, return_exceptions=True)
    return samples


async def failover(clients: Sequence[Etcd], plan: Plan) -> Samples:
    async def write(worker: int, failed: int) -> None:
        client = clients[(worker + failed) % len(clients)]
        await client.put(M["PutRequest"](key=key_of(plan, worker, 0), value=b"v"), timeout=ATTEMPT_SECONDS)

    return await outlived(plan, write, grpc.RpcError)


async def leader(clients: Sequence[Etcd]) -> str:
    """The endpoint of the member that leads. Raises LookupError if none does."""
    for client in clients:
        answer = await client.status(M["StatusRequest"](), timeout=ATTEMPT_SECONDS)
        if answer.leader == answer.header.member_id:
            return client.endpoint
    raise LookupError("no leader yet")


WORKLOADS = {"locks": locks, "put": put, "get": get, "watch": watch, "handoff": handoff, "failover": failover}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-endpoints", required=True)
    parser.add_argument("-workload", choices=[*WORKLOADS, "leader"], required=True)
    parser.add_argument("-clients", type=int, default=1)
    parser.add_argument("-connections", type=int, default=1)
    parser.add_argument("-seconds", type=float, default=5.0)
    parser.add_argument("-value-size", type=int, default=256)
    parser.add_argument("-ca", type=Path)
    return parser.parse_args()


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    ca = arguments.ca.read_bytes() if arguments.ca else None
    endpoints = arguments.endpoints.split(",")
    everywhere = arguments.workload in ("leader", "failover")
    count = len(endpoints) if everywhere else min(arguments.connections, arguments.clients)
    clients = [Etcd(endpoints[n % len(endpoints)], ca) for n in range(count)]
    try:
        if arguments.workload == "leader":
            return {"workload": await leader(clients)}
        plan = Plan(arguments.clients, arguments.seconds, arguments.value_size, unique_prefix())
        samples = await WORKLOADS[arguments.workload](clients, plan)
        return summary(arguments.workload, arguments.clients, samples)
    finally:
        for client in clients:
            await client.channel.close(None)


def main() -> int:
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            print(json.dumps(runner.run(run(parse_arguments()))))
    except (grpc.RpcError, LookupError, OSError) as error:
        print(f"driver: {error}".splitlines()[0], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
