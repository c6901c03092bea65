"""Ends the sessions of pods that are certainly over: live sessions → pods and nodes → plan → EndSession → event.

The sessions are read first: whatever is decided is about one that was alive before its pod and node were looked at.

Looks come by time, but for one: as long as the leader goes on saying that no pod has opened a session since (`heard`),
and no pod changes, the next would find what the last has found, and is left out: nobody wakes up for it until that word
is old (`unheard`). Not where a node decides, of which nothing is heard.

The LockCluster as read, and the client of its members, are kept from look to look: until an event or the resync says
that it is another, until one fails, until looks are left out where no pod has a session, and for CALM_S at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from lockmaster import AsyncClient, LockmasterError, PreconditionFailed

from lockmaster_operator.desired.names import Cluster, Settings, logs_in
from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.host.observe import out_of_service
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.pod_watch import PodWatches
from lockmaster_operator.host.queue import Key
from lockmaster_operator.host.quiet import next_whole_look, phase
from lockmaster_operator.host.reaching import Reach, Unreachable
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.kinds.pod_sessions import EVENT, Bound, End, NodeSeen, nodes_wanted, plan_ends
from lockmaster_operator.plan import RESYNC_S, read_cluster
from lockmaster_operator.plan.transitions import EVENTS_MAX, Event

_log = logging.getLogger(__name__)
INTERVAL_S: Final = 10.0
"""How often the sessions are asked for, and at most where new ones are heard of; a change of a pod asks at once."""
IDLE_S: Final = 30.0
"""How often while no pod has any: what is begun meanwhile is watched that much later."""
STANDS_S: Final = 2.0 * RESYNC_S + 5.0
"""How long a leader's word stands: it is asked at each pass over its cluster, every RESYNC_S where all is well."""
SOON_S: Final = 1.0
"""Least time between two looks, however often pods change."""
OFF_S: Final = 1_800.0
"""Until another look whether login is on by then; any event of the LockCluster asks for one."""
AWAY_S: Final = 30.0
PAGES_MAX: Final = 100
"""Most pages of sessions of one look, of 1,000 each."""
KEPT_MAX: Final = 1_024
"""Most clients kept open; further ones are opened for each look."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What one look leaves to the next."""

    stored: Json
    client: AsyncClient
    until: float
    closing: contextlib.AsyncExitStack


@dataclass(slots=True)
class _Look:
    """The last look at one LockCluster, and the next."""

    began: float
    due: float
    rests_until: float = 0.0
    """Until then it may be left out, while the leader's word stands; 0: it may not."""
    found: bool = False
    """Pods had sessions."""

    def sooner(self, after_s: float) -> bool:
        """Not to be left out, and due so long after the last. Whether that is sooner than it was."""
        before = max(self.due, self.rests_until)
        self.due, self.rests_until = min(self.due, self.began + after_s), 0.0
        return self.due < before


@dataclass(slots=True)
class PodSessions:
    """Makes passes; for one event loop, and for one LockCluster at a time."""

    kube: Kube
    reach: Reach
    teller: Teller
    settings: Settings
    watches: PodWatches
    reads_cluster: bool = True
    now: Callable[[], float] = time.monotonic
    phase: Callable[[Key], float] = phase
    _looks: dict[Key, _Look] = field(default_factory=dict)
    _kept: dict[Key, _Kept] = field(default_factory=dict)
    _unchanged: set[Key] = field(default_factory=set)
    """LockClusters of which nothing was heard since they were read."""
    _marks: dict[Key, tuple[int, float]] = field(default_factory=dict)
    """EngineSeen.pods_mark as last heard, and until when it stands."""

    def look_soon(self, key: Key) -> None:
        """A pod has changed: due at once, or SOON_S after the last look began."""
        if key in self._looks:
            self._looks[key].sooner(SOON_S)

    def heard(self, key: Key, mark: int) -> bool:
        """The leader's EngineSeen.pods_mark, now. Whether a look is due sooner than it was."""
        before, _ = self._marks.get(key, (None, 0.0))
        self._marks[key] = (mark, self.now() + STANDS_S)
        look = self._looks.get(key)  # where there is none, one is to come, and sees all
        return look is not None and mark != before and look.sooner(INTERVAL_S)

    def unheard(self) -> list[Key]:
        """Where looks come by time, though they may have been left out so far, as the leader's word is old."""
        now = self.now()
        return [key for key, one in self._looks.items() if now < one.rests_until and not self._stands(key)]

    def _stands(self, key: Key) -> bool:
        return key in self._marks and self.now() < self._marks[key][1]

    def changed(self, key: Key) -> None:
        """The LockCluster is another by now, may be, or is gone: the next look reads it."""
        self._unchanged.discard(key)

    async def close(self) -> None:
        """Close the clients."""
        kept, self._kept = list(self._kept.values()), {}
        await asyncio.gather(*(one.closing.aclose() for one in kept))

    async def make(self, key: Key) -> float | None:
        """One pass. Seconds until the next, if nothing is `unheard`; None: there is no such LockCluster. Raises
        PassFailed."""
        now, look = self.now(), self._looks.get(key)
        if look is not None:
            due = max(look.due, look.rests_until) if self._stands(key) else look.due
            if due > look.due and not look.found and (kept := self._kept.pop(key, None)) is not None:
                await kept.closing.aclose()  # hardly needed again; members probe their connections
            if due > now:
                return due - now
        try:
            return await self._look(key)
        except Unreachable:
            self._looks[key].due = self.now() + AWAY_S
            return AWAY_S
        except BaseException as error:
            self._looks.pop(key, None)  # however it ended, the next pass looks
            if isinstance(error, KubeError | LockmasterError | TimeoutError):
                raise PassFailed(str(error) or type(error).__name__, getattr(error, "retry_after_s", 0.0)) from error
            raise

    async def _look(self, key: Key) -> float | None:
        began = self.now()
        look = self._looks[key] = _Look(began, began + OFF_S)  # what is heard meanwhile makes the next due sooner
        kept = self._kept.pop(key, None)
        closing = kept.closing if kept is not None else contextlib.AsyncExitStack()
        async with closing:  # however the look ends: what is not kept is closed
            if kept is None or key not in self._unchanged or began >= kept.until:
                await closing.aclose()
                self._unchanged.add(key)
                stored = await self.kube.get("LockCluster", *key)
                cluster = read_cluster(stored) if stored is not None else None
                if stored is None or not isinstance(cluster, Cluster):
                    self._forget(key)
                    return None
                if not logs_in(cluster, self.settings) or cluster.deleting:
                    self._forget(key)  # whatever comes is worth a look
                    return OFF_S
                client = await closing.enter_async_context(self.reach.open(*key))
                kept = _Kept(stored, client, next_whole_look(began, self.phase(key)), closing)
            wait, rests = await self._pass(key, kept.stored, kept.client)
            if len(self._kept) < KEPT_MAX:
                self._kept[key] = replace(kept, closing=closing.pop_all())
        if rests and look.due == began + OFF_S:  # nothing was heard
            look.rests_until = kept.until
        look.due = min(look.due, began + wait)
        return max(0.0, look.due - self.now())

    def _forget(self, key: Key) -> None:
        self._looks.pop(key, None)
        self._marks.pop(key, None)
        self._unchanged.discard(key)
        self.watches.want(key, ())

    async def _pass(self, key: Key, stored: Json, client: AsyncClient) -> tuple[float, bool]:
        """Seconds until the next look, and whether it may be left out."""
        sessions = await _bound(client)
        self._looks[key].found = bool(sessions)
        self.watches.want(key, {one.namespace for one in sessions})
        suspect = nodes_wanted(sessions, self.watches.pods)
        ends, more = plan_ends(sessions, self.watches.pods, await self._nodes(suspect))
        ended = 0
        for end in ends:
            try:
                answer = await client.admin.end_session(
                    end.session.session_id, end.session.pod_uid, end.reason, idempotency_key=end.idempotency_key()
                )
            except PreconditionFailed as error:
                _log.warning("%s/%s: session %d is left to its TTL: %s", *key, end.session.session_id, error)
                return AWAY_S, False
            if answer.ended:
                ended += 1
                await self._tell(stored, end, ended)
        return (SOON_S, False) if more else (INTERVAL_S if sessions else IDLE_S, not suspect)

    async def _tell(self, stored: Json, end: End, count: int) -> None:
        _log.info("session %d ended: %s", end.session.session_id, end.reason)
        if count <= EVENTS_MAX:
            await self.teller.tell(stored, Event(False, EVENT, f"session {end.session.session_id}: {end.reason}"))

    async def _nodes(self, names: tuple[str, ...]) -> dict[str, NodeSeen]:
        """As they are now; what may not or can't be read is left out."""
        if not self.reads_cluster:
            return {}
        found = await asyncio.gather(*(self._node(name) for name in names))
        return {name: node_of(name, node) for name, node in zip(names, found) if node is not None}

    async def _node(self, name: str) -> Json | None:
        try:
            return await self.kube.get("Node", "", name)
        except KubeError as error:
            _log.warning("node %s can't be read, so its pods are in doubt: %s", name, error)
            return None


def node_of(name: str, node: dict[str, Any]) -> NodeSeen:
    """A node as stored."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = [one.get("status") for one in conditions if one.get("type") == "Ready"]
    # Without the condition nobody has said that it is away.
    made = str((node.get("metadata") or {}).get("creationTimestamp") or "")
    return NodeSeen(name, out_of_service(node), not ready or ready[0] == "True", made)


async def _bound(client: AsyncClient) -> list[Bound]:
    found: list[Bound] = []
    after = 0
    for _ in range(PAGES_MAX):
        page = await client.admin.sessions(after, 1_000, pod_bound=True)
        found += [Bound(one.session_id, one.pod_namespace, one.pod, one.pod_uid) for one in page.sessions]
        if not page.more:
            break
        after = page.after
    return found
