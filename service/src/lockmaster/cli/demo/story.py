"""The demo's chapters, in order. Each shows something and checks it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time

from lockmaster import AsyncClient, Held
from lockmaster.cli.demo.narrator import Narrator
from lockmaster.cli.demo.traffic import NAMESPACE, Traffic
from lockmaster.cli.local_cluster import LocalCluster, Member

LOCK = "orders/42"
FLAG = "feature/checkout"
QUEUE_SECONDS = 5.0
FLOW_SECONDS = 1.5
RECOVERY_SECONDS = 20.0
CATCH_UP_SECONDS = 20.0
PAUSE_SECONDS_MAX = 10.0


async def tell(cluster: LocalCluster, narrator: Narrator) -> None:
    """Runs every chapter. Raises ClusterFailed or LockmasterError where the story can't go on."""
    await form(cluster, narrator)
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(client(cluster, "alice"))
        bob = await stack.enter_async_context(client(cluster, "bob"))
        held, bobs_turn = await locks(alice, bob, narrator)
        await configuration(alice, bob, narrator)
        killed = await failover(cluster, alice, bob, held, narrator)
        await hand_over(held, bobs_turn, narrator)
        await restart(cluster, killed, narrator)


def client(cluster: LocalCluster, label: str) -> AsyncClient:
    """One application: its own session, its own stream."""
    return AsyncClient(cluster.endpoints, label=label, insecure=True)


async def form(cluster: LocalCluster, narrator: Narrator) -> None:
    """Three processes become a cluster."""
    narrator.chapter("Three servers on RocksDB, each its own process")
    await asyncio.to_thread(cluster.start)
    leader = await asyncio.to_thread(cluster.leader)
    for member in cluster.members:
        pid = member.process.pid if member.process is not None else 0
        narrator.say(
            f"{member.name}  pid {pid}  clients {member.client_address}{'  ← leader' if member is leader else ''}"
        )
    narrator.claim("a leader sees two followers, all three vote", leader is not None)


async def locks(alice: AsyncClient, bob: AsyncClient, narrator: Narrator) -> tuple[Held, asyncio.Task[Held]]:
    """Alice holds, Bob waits."""
    narrator.chapter(f"Two clients want the lock {LOCK!r}")
    held = await alice.lock(LOCK).acquire()
    narrator.say(f"alice holds it with fencing token {held.fencing_token}")
    bobs_turn = asyncio.create_task(bob.lock(LOCK).acquire())
    queue: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUEUE_SECONDS):
            while not queue:
                await asyncio.sleep(0.01)
                queue = [waiter.label for waiter in (await alice.locks.inspect(LOCK)).queue]
    narrator.say(f"in the queue: {', '.join(f'{n + 1}. {label}' for n, label in enumerate(queue)) or 'nobody'}")
    narrator.claim("bob waits in the queue, in order of arrival", queue == ["bob"] and not bobs_turn.done(), f"{queue}")
    return held, bobs_turn


async def configuration(alice: AsyncClient, bob: AsyncClient, narrator: Narrator) -> None:
    """Bob watches what Alice writes."""
    narrator.chapter("Live configuration: alice writes, bob watches")
    written: list[tuple[int, bytes]] = []
    seen: list[tuple[int, bytes]] = []
    config = alice.config(NAMESPACE)
    async with bob.config(NAMESPACE).watch(FLAG) as changes:
        for value in (b"off", b"10 %", b"on"):
            written.append((await config.put(FLAG, value, author="alice"), value))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUEUE_SECONDS):
                async for change in changes:
                    seen.append((change.revision, change.item.value))
                    narrator.say(f"bob sees revision {change.revision}: {FLAG} = {change.item.text}")
                    if len(seen) == len(written):
                        break
    narrator.claim("bob saw every change once, in order", seen == written, f"he saw {len(seen)} of {len(written)}")
    log = [(change.revision, change.item.value) for change in await config.history(FLAG)]
    narrator.claim("every version is kept", log == list(reversed(written)), f"{len(log)} of {len(written)} are there")


async def failover(
    cluster: LocalCluster, alice: AsyncClient, bob: AsyncClient, held: Held, narrator: Narrator
) -> Member | None:
    """The leader dies by kill -9 while the lock is held and writes flow."""
    narrator.chapter("kill -9 to the leader: the lock is held, writes are flowing")
    leader = await asyncio.to_thread(cluster.leader)
    token = held.fencing_token
    watched: list[tuple[str, int]] = []
    traffic = Traffic(alice)
    async with bob.config(NAMESPACE).watch(prefix="writer-") as changes:
        watcher = asyncio.create_task(collect(changes, watched))
        traffic.start()
        await asyncio.sleep(FLOW_SECONDS)
        before, steady = len(traffic.acknowledged), traffic.longest_gap
        if leader is not None:
            narrator.say(f"{before:,} writes acknowledged so far; killing {leader.name}")
            await asyncio.to_thread(cluster.kill, leader)
        killed_at = time.monotonic()
        while len(traffic.acknowledged) < before + 8 * 20 and time.monotonic() < killed_at + RECOVERY_SECONDS:
            await asyncio.sleep(0.02)
        await asyncio.sleep(FLOW_SECONDS)
        await traffic.stop()
        await settle(watched, traffic)
        watcher.cancel()
    after = len(traffic.acknowledged) - before
    successor = await asyncio.to_thread(cluster.leader)
    narrator.say(f"{successor.name if successor else 'nobody'} leads now; {after:,} more writes acknowledged")
    narrator.say(f"writes paused for {traffic.longest_gap * 1e3:,.0f} ms (before: at most {steady * 1e3:,.0f} ms)")
    narrator.claim(
        f"writes went on after a pause below {PAUSE_SECONDS_MAX:.0f} s",
        after > 0 and successor not in (None, leader) and traffic.longest_gap < PAUSE_SECONDS_MAX,
        f"{after} writes, longest pause {traffic.longest_gap:.1f} s",
    )
    await verify(alice, bob, held, token, traffic, watched, narrator)
    return leader


async def verify(
    alice: AsyncClient,
    bob: AsyncClient,
    held: Held,
    token: int,
    traffic: Traffic,
    watched: list[tuple[str, int]],
    narrator: Narrator,
) -> None:
    """The lock, every acknowledged write, and the watch, after the failover."""
    seen = await bob.locks.inspect(LOCK)
    holder = seen.holder
    narrator.claim(
        f"alice still holds {LOCK!r} with the same token {token}",
        holder is not None and holder.token == token == held.fencing_token and held.valid,
        f"the cluster says {holder}",
    )
    missing = await traffic.missing(bob)
    total = len(traffic.acknowledged)
    narrator.claim(
        f"all {total:,} acknowledged writes are there, value and revision", not missing, f"{len(missing)} are not"
    )
    narrator.say(f"outcome unknown to the writer: {traffic.unknown}")
    known = {(key, revision) for key, (_, revision) in traffic.acknowledged.items()}
    ordered = all(first[1] < second[1] for first, second in itertools.pairwise(watched))
    narrator.claim(
        "bob's watch went through the failover: every write once, in order",
        ordered and known <= set(watched),
        f"{len(known - set(watched))} are missing",
    )


async def hand_over(held: Held, bobs_turn: asyncio.Task[Held], narrator: Narrator) -> None:
    """Alice releases, Bob's turn comes."""
    narrator.chapter("alice releases, bob is next")
    token = held.fencing_token
    narrator.claim("bob did not get the lock while alice held it", not bobs_turn.done())
    started = time.monotonic()
    await held.release()
    next_held = await asyncio.wait_for(bobs_turn, QUEUE_SECONDS)
    narrator.say(f"bob holds it {(time.monotonic() - started) * 1e3:.1f} ms later, token {next_held.fencing_token}")
    narrator.claim("his token is higher: whatever alice still sends can be fenced off", next_held.fencing_token > token)
    await next_held.release()


async def restart(cluster: LocalCluster, killed: Member | None, narrator: Narrator) -> None:
    """The killed member comes back with what it had and catches up."""
    narrator.chapter("The killed server is started again")
    if killed is None:
        narrator.claim("there was a leader to kill", False)
        return
    leader = await asyncio.to_thread(cluster.leader)
    status = await asyncio.to_thread(cluster.status, leader) if leader is not None else None
    target = status.commit_index if status is not None else 0
    started = time.monotonic()
    cluster.start_member(killed)
    reached = await asyncio.to_thread(cluster.wait_until_caught_up, killed, target, CATCH_UP_SECONDS)
    seconds = time.monotonic() - started
    narrator.say(f"{killed.name} is at entry {reached:,} of {target:,} after {seconds:.1f} s")
    narrator.claim(f"{killed.name} has caught up", reached >= target > 0)
    await asyncio.to_thread(cluster.wait_until_whole, CATCH_UP_SECONDS)
    index, hashes = await same_index(cluster)
    narrator.claim(
        f"all three hold the same state: equal hashes at entry {index:,}", len(set(hashes)) == 1, f"{hashes}"
    )


async def same_index(cluster: LocalCluster) -> tuple[int, list[int]]:
    """The state hashes of all members at a moment when all had applied the same entry; (0, []) if there was none."""
    deadline = time.monotonic() + QUEUE_SECONDS
    while time.monotonic() < deadline:
        answers = [await asyncio.to_thread(cluster.status, member) for member in cluster.members]
        found = [(answer.applied_index, answer.state_hash) for answer in answers if answer is not None]
        known = len(found) == len(cluster.members) and all(state_hash for _, state_hash in found)
        if known and len({index for index, _ in found}) == 1:
            return found[0][0], [state_hash for _, state_hash in found]
        await asyncio.sleep(0.02)
    return 0, []


async def collect(changes: object, into: list[tuple[str, int]]) -> None:
    """Remembers (key, revision) of every change."""
    async for change in changes:  # type: ignore[attr-defined]  # Watch, which lockmaster does not name publicly
        into.append((change.key, change.revision))


async def settle(watched: list[tuple[str, int]], traffic: Traffic) -> None:
    """Waits until the watch has delivered as many changes as were acknowledged, within QUEUE_SECONDS."""
    deadline = time.monotonic() + QUEUE_SECONDS
    while len(watched) < len(traffic.acknowledged) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
