"""The workloads, over the public SDK: what an application's tasks would do.

`clients` tasks share `connections` clients of the SDK, each with one session and one stream; benchmarks/etcd/cmd/driver
does the same with etcd's client. A lock operation is one acquire or one release; latency is the acquire's.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lockmaster import AsyncClient
from lockmaster.cli.bench.samples import Samples
from lockmaster.errors import LockmasterError

WARM_UP_SECONDS = 1.0
KEYS_OF_ONE_WORKER = 16
WATCHERS = 1000
RETRY_SECONDS = 0.005
NAMESPACE = "lockmaster-bench"

clock = time.perf_counter


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    clients: int
    seconds: float
    value_size: int
    prefix: str
    """Unique to this run, so that runs don't meet."""


H = TypeVar("H")
Work = Callable[[int, Samples], Awaitable[None]]
Workload = Callable[[Sequence[AsyncClient], Plan], Awaitable[Samples]]


def unique_prefix() -> str:
    """A prefix for this run's locks and keys."""
    return f"bench-{os.getpid()}-{random.randrange(1 << 32):08x}"


async def workers(plan: Plan, work: Work) -> Samples:
    """Runs `work` in `plan.clients` tasks until the measured time is over."""
    start = clock() + WARM_UP_SECONDS
    samples = Samples(start, start + plan.seconds)

    async def loop(worker: int) -> None:
        while clock() < samples.until:
            await work(worker, samples)

    async with asyncio.TaskGroup() as group:
        for worker in range(plan.clients):
            group.create_task(loop(worker))
    return samples


async def locks(clients: Sequence[AsyncClient], plan: Plan) -> Samples:
    """Each task acquires and releases its own lock in a loop."""
    own = [clients[n % len(clients)].lock(f"{plan.prefix}/{n}") for n in range(plan.clients)]

    async def work(worker: int, samples: Samples) -> None:
        started = clock()
        held = await own[worker].acquire()
        ended = clock()
        await held.release()
        samples.add(started, ended, 2)

    return await workers(plan, work)


async def put(clients: Sequence[AsyncClient], plan: Plan) -> Samples:
    """Each task writes one of its own keys in a loop."""
    value = b"v" * plan.value_size
    configs = [client.config(NAMESPACE) for client in clients]

    async def work(worker: int, samples: Samples) -> None:
        key = f"{plan.prefix}/{worker}/{random.randrange(KEYS_OF_ONE_WORKER)}"
        started = clock()
        await configs[worker % len(configs)].put(key, value)
        samples.add(started, clock(), 1)

    return await workers(plan, work)


async def get(clients: Sequence[AsyncClient], plan: Plan) -> Samples:
    """Each task reads one of its own keys linearizably in a loop."""
    value = b"v" * plan.value_size
    configs = [client.config(NAMESPACE) for client in clients]
    async with asyncio.TaskGroup() as group:
        for worker in range(plan.clients):
            for key in range(KEYS_OF_ONE_WORKER):
                group.create_task(configs[worker % len(configs)].put(f"{plan.prefix}/{worker}/{key}", value))

    async def work(worker: int, samples: Samples) -> None:
        key = f"{plan.prefix}/{worker}/{random.randrange(KEYS_OF_ONE_WORKER)}"
        started = clock()
        await configs[worker % len(configs)].get(key)
        samples.add(started, clock(), 1)

    return await workers(plan, work)


async def watch(clients: Sequence[AsyncClient], plan: Plan) -> Samples:
    """1,000 watchers of one key; the next write goes out once all have seen the last one."""
    key = f"{plan.prefix}/watched"
    value = b"v" * plan.value_size
    ready, seen = asyncio.Semaphore(0), asyncio.Semaphore(0)
    written = 0.0
    start = clock() + WARM_UP_SECONDS
    samples = Samples(start, start + plan.seconds)

    async def follow(client: AsyncClient) -> None:
        async with client.config(NAMESPACE).watch(key) as changes:
            ready.release()
            async for _ in changes:
                samples.add(written, clock(), 1)
                seen.release()

    followers = [asyncio.ensure_future(follow(clients[n % len(clients)])) for n in range(WATCHERS)]
    try:
        for _ in followers:
            await ready.acquire()
        samples.start = clock() + WARM_UP_SECONDS
        samples.until = samples.start + plan.seconds
        while clock() < samples.until:
            written = clock()
            await clients[0].config(NAMESPACE).put(key, value)
            for _ in followers:
                await seen.acquire()
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
    return samples


async def handoff(clients: Sequence[AsyncClient], plan: Plan) -> Samples:
    """All tasks want one lock; measured from the holder's release to the next holder's return from acquire."""
    locks_of = [client.lock(f"{plan.prefix}/handoff") for client in clients]
    return await handed_on(plan, lambda worker: locks_of[worker % len(locks_of)].acquire(), lambda held: held.release())


async def handed_on(
    plan: Plan, acquire: Callable[[int], Awaitable[H]], release: Callable[[H], Awaitable[object]]
) -> Samples:
    """The loop of `handoff` over any lock: `acquire(worker)` gives what `release` takes."""
    released = 0.0

    async def work(worker: int, samples: Samples) -> None:
        nonlocal released
        held = await acquire(worker)
        now = clock()
        if released:
            samples.add(released, now, 1)
        released = clock()
        await release(held)

    return await workers(plan, work)


async def failover(clients: Sequence[AsyncClient], plan: Plan) -> Samples:
    """Tasks write all the time while somebody kills the leader: `gap` is the longest time without a success."""
    configs = [client.config(NAMESPACE) for client in clients]
    return await outlived(
        plan, lambda worker, _: configs[worker % len(configs)].put(f"{plan.prefix}/{worker}", b"v"), LockmasterError
    )


async def outlived(plan: Plan, write: Callable[[int, int], Awaitable[object]], failure: type[BaseException]) -> Samples:
    """The loop of `failover` over any write: it gets the worker and how many writes have failed by `failure` so far."""
    last = clock()

    async def work(worker: int, samples: Samples) -> None:
        nonlocal last
        started = clock()
        try:
            await write(worker, samples.errors)
        except failure:
            samples.errors += 1
            await asyncio.sleep(RETRY_SECONDS)
            return
        now = clock()
        samples.add(started, now, 1)
        if last >= samples.start:
            samples.gap = max(samples.gap, now - last)
        last = now

    return await workers(plan, work)


WORKLOADS: dict[str, Workload] = {
    "locks": locks,
    "put": put,
    "get": get,
    "watch": watch,
    "handoff": handoff,
    "failover": failover,
}
