"""The demo's heart: a full member is killed, the witness stands in for it, and steps back when it returns.

Writes flow all the time and one lock is held throughout; every acknowledged write is looked for at the end of each
chapter, by a linearizable read of another client.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lockmaster import AsyncClient, Held
from lockmaster.api import admin_pb2
from lockmaster.cli.demo.narrator import Narrator
from lockmaster.cli.demo.traffic import NAMESPACE, Traffic
from lockmaster.cli.local_cluster import LocalCluster, Member

FLOW_SECONDS = 1.0
RECOVERY_SECONDS = 20.0
ROLE_SECONDS = 45.0
PAUSE_SECONDS_MAX = 10.0
SETTLE_SECONDS = 10.0
CATCH_UP_SECONDS = 30.0
MIB = 1 << 20


@dataclass(slots=True)
class Failing:
    """Who is who while the demo kills and revives: `held` is held by `alice`, `traffic` is hers, `bob` watches it."""

    cluster: LocalCluster
    narrator: Narrator
    alice: AsyncClient
    bob: AsyncClient
    held: Held
    lock: str
    traffic: Traffic
    watched: list[tuple[str, int]] = field(default_factory=list)
    victim: Member | None = None

    @property
    def witness(self) -> Member:
        """The one witness."""
        return self.cluster.witnesses[0]

    async def tell(self) -> None:
        """All chapters of it. Raises ClusterFailed where a role does not change in time."""
        async with self.bob.config(NAMESPACE).watch(prefix="writer-") as changes:
            watcher = asyncio.create_task(self._collect(changes))
            try:
                self.traffic.start()
                await asyncio.sleep(FLOW_SECONDS)
                await self.kill()
                await self.promotion()
                await self.restoration()
                await self.traffic.stop()
                await self._settle()
            finally:
                watcher.cancel()
        await self.verdict_on_writes()

    async def kill(self) -> None:
        """The leader dies by kill -9 while the lock is held: full + witness are a majority."""
        narrator, cluster, traffic = self.narrator, self.cluster, self.traffic
        narrator.chapter("kill -9 to the leader, a full server: the lock is held, writes are flowing")
        victim = self.victim = await asyncio.to_thread(cluster.leader)
        before, steady = len(traffic.acknowledged), traffic.longest_gap
        if victim is not None:
            narrator.say(f"{before:,} writes acknowledged so far; killing {victim.name}")
            await asyncio.to_thread(cluster.kill, victim)
        await self._flow(before + 8 * 20)
        after = len(traffic.acknowledged) - before
        successor = await asyncio.to_thread(cluster.leader)
        narrator.say(f"{successor.name if successor else 'nobody'} leads now; {after:,} more writes acknowledged")
        narrator.say(f"writes paused for {traffic.longest_gap * 1e3:,.0f} ms (before: at most {steady * 1e3:,.0f} ms)")
        narrator.claim(
            f"one full server and the witness went on writing, after a pause below {PAUSE_SECONDS_MAX:.0f} s",
            after > 0 and successor not in (None, victim) and traffic.longest_gap < PAUSE_SECONDS_MAX,
            f"{after} writes, longest pause {traffic.longest_gap:.1f} s",
        )
        await self.verify()

    async def promotion(self) -> None:
        """The witness becomes full while nothing stops."""
        narrator, cluster, witness = self.narrator, self.cluster, self.witness
        narrator.chapter("The witness is promoted: it builds the state beside its log while it goes on voting")
        survivor = next(member for member in cluster.full if member is not self.victim)
        before, started = len(self.traffic.acknowledged), time.monotonic()
        wanted = {survivor.name: "full", witness.name: "full"}
        await asyncio.to_thread(cluster.wait_for_roles, wanted, ROLE_SECONDS)
        seconds = time.monotonic() - started
        during = len(self.traffic.acknowledged) - before
        status = await self._status_when(witness, lambda s: s.serves_state)
        narrator.say(f"{witness.name} is full {seconds:.1f} s later; {during:,} writes were acknowledged meanwhile")
        narrator.claim(
            f"{witness.name} holds the state now and serves it, entry {status.applied_index:,}",
            status.serves_state and status.applied_index > 0,
            f"its status is {status.member_role} {status.phase}",
        )
        narrator.claim(
            "writes went on while it was built", during > 0 or seconds < FLOW_SECONDS, f"{during} in {seconds:.1f} s"
        )
        await self.verify()
        await self._equal_states([survivor, witness])

    async def restoration(self) -> None:
        """The killed one comes back, and the witness is a witness again."""
        narrator, cluster, witness = self.narrator, self.cluster, self.witness
        narrator.chapter("The killed server is started again: it catches up, and the shape is restored")
        if self.victim is None:
            narrator.claim("there was a leader to kill", False)
            return
        before, started = len(self.traffic.acknowledged), time.monotonic()
        cluster.start_member(self.victim)
        wanted = {member.name: member.role for member in cluster.members}
        await asyncio.to_thread(cluster.wait_for_roles, wanted, ROLE_SECONDS)
        status = await self._status_when(witness, lambda s: not s.serves_state)
        during = len(self.traffic.acknowledged) - before
        narrator.say(
            f"two full servers and a witness again after {time.monotonic() - started:.1f} s; {during:,} writes"
        )
        has_state = any(path.name.startswith(("state-", "side-")) for path in witness.directory.iterdir())
        deadline = time.monotonic() + SETTLE_SECONDS
        while has_state and time.monotonic() < deadline:  # it is removed right after the change is committed
            await asyncio.sleep(0.05)
            has_state = any(path.name.startswith(("state-", "side-")) for path in witness.directory.iterdir())
        narrator.claim(
            f"{witness.name} has given its state back: a log of {status.log_bytes / MIB:.1f} MiB is all it holds",
            status.member_role == "witness" and not has_state,
            f"it is {status.member_role}, with{'' if has_state else 'out'} a state on its disk",
        )
        await self.verify()

    async def verdict_on_writes(self) -> None:
        """The watch, and the states of both full members."""
        known = {(key, revision) for key, (_, revision) in self.traffic.acknowledged.items()}
        ordered = all(first[1] < second[1] for first, second in itertools.pairwise(self.watched))
        self.narrator.claim(
            "bob's watch went through all of it: every write once, in order",
            ordered and known <= set(self.watched),
            f"{len(known - set(self.watched))} are missing",
        )
        await self._equal_states(self.cluster.full)

    async def verify(self) -> None:
        """The lock, and every write acknowledged so far."""
        token = self.held.fencing_token
        acknowledged = dict(self.traffic.acknowledged)
        holder = (await self.bob.locks.inspect(self.lock)).holder
        self.narrator.claim(
            f"alice still holds {self.lock!r} with the same token {token}",
            holder is not None and holder.token == token and self.held.valid,
            f"the cluster says {holder}",
        )
        missing = await self.traffic.missing(self.bob, acknowledged)
        self.narrator.claim(
            f"all {len(acknowledged):,} acknowledged writes are there, value and revision",
            not missing,
            f"{len(missing)} are not",
        )

    async def _flow(self, target: int) -> None:
        deadline = time.monotonic() + RECOVERY_SECONDS
        while len(self.traffic.acknowledged) < target and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _status_when(
        self, member: Member, what: Callable[[admin_pb2.StatusResponse], bool]
    ) -> admin_pb2.StatusResponse:
        """What a member says once it is so, or last within SETTLE_SECONDS."""
        deadline = time.monotonic() + SETTLE_SECONDS
        answer = None
        while time.monotonic() < deadline:
            answer = await asyncio.to_thread(self.cluster.status, member)
            if answer is not None and what(answer):
                break
            await asyncio.sleep(0.05)
        return answer or admin_pb2.StatusResponse()

    async def _equal_states(self, members: list[Member]) -> None:
        """They hold the same state at one entry: both have a hash there. Writes may flow."""
        hashes: dict[str, dict[int, int]] = {member.name: {} for member in members}
        deadline = time.monotonic() + CATCH_UP_SECONDS
        common: set[int] = set()
        while not common and time.monotonic() < deadline:
            for member in members:
                answer = await asyncio.to_thread(self.cluster.status, member)
                if answer is not None and answer.state_hash:
                    hashes[member.name][answer.applied_index] = answer.state_hash
            common = set.intersection(*(set(found) for found in hashes.values()))
            await asyncio.sleep(0.005)
        index = max(common, default=0)
        found = {known[index] for known in hashes.values()} if common else set()
        self.narrator.claim(
            f"{' and '.join(hashes)} hold the same state: equal hashes at entry {index:,}", len(found) == 1, f"{found}"
        )

    async def _collect(self, changes: object) -> None:
        async for change in changes:  # type: ignore[attr-defined]  # Watch, which lockmaster does not name publicly
            self.watched.append((change.key, change.revision))

    async def _settle(self) -> None:
        """Waits until the watch has delivered as many changes as were acknowledged."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while len(self.watched) < len(self.traffic.acknowledged):
                    await asyncio.sleep(0.02)
