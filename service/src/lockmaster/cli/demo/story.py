"""The demo's chapters, in order. Each shows something and checks it."""

from __future__ import annotations

import asyncio
import contextlib
import time

from lockmaster import AsyncClient, Held
from lockmaster.cli.demo.failing import Failing
from lockmaster.cli.demo.narrator import Narrator
from lockmaster.cli.demo.traffic import NAMESPACE, Traffic
from lockmaster.cli.local_cluster import LocalCluster

LOCK = "orders/42"
FLAG = "feature/checkout"
QUEUE_SECONDS = 5.0
FORM_SECONDS = 60.0


async def tell(cluster: LocalCluster, narrator: Narrator) -> None:
    """Runs every chapter. Raises ClusterFailed or LockmasterError where the story can't go on."""
    await form(cluster, narrator)
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(client(cluster, "alice"))
        bob = await stack.enter_async_context(client(cluster, "bob"))
        held, bobs_turn = await locks(alice, bob, narrator)
        await configuration(alice, bob, narrator)
        await Failing(cluster, narrator, alice, bob, held, LOCK, Traffic(alice)).tell()
        await hand_over(held, bobs_turn, narrator)


def client(cluster: LocalCluster, label: str) -> AsyncClient:
    """One application: its own session, its own stream."""
    return AsyncClient(cluster.endpoints, label=label, insecure=True)


async def form(cluster: LocalCluster, narrator: Narrator) -> None:
    """Three processes become a cluster."""
    narrator.chapter("Two full servers on RocksDB and a witness that holds the log alone, each its own process")
    await asyncio.to_thread(cluster.start, timeout=FORM_SECONDS)
    listed = await asyncio.to_thread(
        cluster.wait_for_roles, {member.name: member.role for member in cluster.members}, FORM_SECONDS
    )
    leaders = {member.name for member in listed.members if member.leader}
    for member in cluster.members:
        pid = member.process.pid if member.process is not None else 0
        mark = "  ← leader" if member.name in leaders else ""
        narrator.say(f"{member.name}  {member.role}  pid {pid}  clients {member.client_address}{mark}")
    voters = sorted(member.member_role for member in listed.members if member.voter)
    narrator.claim("all three vote, and two hold the state", voters == ["full", "full", "witness"], f"{voters}")


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
