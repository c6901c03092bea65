"""Ends the sessions of pods that are certainly over: live sessions → pods and nodes → plan → EndSession → event.

The sessions are read first: whatever is decided is about one that was alive before its pod and node were looked at.

A look is due when something says that it would find another thing than the last: a pod that changes, or a leader by
whose word a pod has opened a session since (`heard`). Where the leader can't say so, and while a node decides, about
which nothing is heard, looks come by time.

The LockCluster as read, and the client of its members, are kept from look to look: until an event or the resync says
that it is another, until a look fails, and for CALM_S at most.
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
from lockmaster_operator.plan import read_cluster
from lockmaster_operator.plan.transitions import EVENTS_MAX, Event

_log = logging.getLogger(__name__)
INTERVAL_S: Final = 10.0
"""Between two looks while a pod with sessions is in doubt, and where the leader can't tell of new ones."""
IDLE_S: Final = 30.0
"""The same, while no pod has any: what is begun meanwhile is watched that much later."""
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
    _due: dict[Key, float] = field(default_factory=dict)
    _began: dict[Key, float] = field(default_factory=dict)
    _kept: dict[Key, _Kept] = field(default_factory=dict)
    _unchanged: set[Key] = field(default_factory=set)
    """LockClusters of which nothing was heard since they were read."""
    _marks: dict[Key, int] = field(default_factory=dict)
    """EngineSeen.pods_mark as last heard, of those that are looked at."""

    def look_soon(self, key: Key) -> None:
        """A pod has changed: due at once, or SOON_S after the last look began."""
        if key in self._due:
            self._due[key] = self._began[key] + SOON_S

    def heard(self, key: Key, mark: int | None) -> bool:
        """The leader's EngineSeen.pods_mark. Whether a look is due sooner now than it was."""
        if key not in self._due or self._marks.get(key) == mark:
            return False
        if mark is None:
            del self._marks[key]
        else:
            self._marks[key] = mark
        self.look_soon(key)
        return True

    def changed(self, key: Key) -> None:
        """The LockCluster is another by now, may be, or is gone: the next look reads it."""
        self._unchanged.discard(key)

    async def close(self) -> None:
        """Close the clients."""
        while self._kept:
            _, kept = self._kept.popitem()
            await kept.closing.aclose()

    async def make(self, key: Key) -> float | None:
        """One pass. Seconds until the next; None: there is no such LockCluster. Raises PassFailed."""
        due = self._due.get(key, 0.0)
        if due > self.now():
            return due - self.now()
        try:
            return await self._look(key)
        except Unreachable:
            self._due[key] = self.now() + AWAY_S
            return AWAY_S
        except (KubeError, LockmasterError, TimeoutError) as error:
            self._due.pop(key, None)
            raise PassFailed(str(error) or type(error).__name__, getattr(error, "retry_after_s", 0.0)) from error

    async def _look(self, key: Key) -> float | None:
        self._began[key] = began = self.now()
        self._due[key] = began + OFF_S  # before the pass: a pod that changes meanwhile makes it due sooner
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
            wait = await self._pass(key, kept.stored, kept.client) or kept.until - began
            if len(self._kept) < KEPT_MAX:
                self._kept[key] = replace(kept, closing=closing.pop_all())
        self._due[key] = min(self._due[key], began + wait)
        return max(0.0, self._due[key] - self.now())

    def _forget(self, key: Key) -> None:
        self._due.pop(key, None)
        self._began.pop(key, None)
        self._unchanged.discard(key)
        self._marks.pop(key, None)
        self.watches.want(key, ())

    async def _pass(self, key: Key, stored: Json, client: AsyncClient) -> float:
        """Seconds until the next look; 0: until something is heard."""
        sessions = await _bound(client)
        self.watches.want(key, {one.namespace for one in sessions})
        suspect = nodes_wanted(sessions, self.watches.pods)
        nodes = await self._nodes(suspect)
        ends, more = plan_ends(sessions, self.watches.pods, nodes)
        ended = 0
        for end in ends:
            try:
                answer = await client.admin.end_session(
                    end.session.session_id, end.session.pod_uid, end.reason, idempotency_key=end.idempotency_key()
                )
            except PreconditionFailed as error:
                _log.warning("%s/%s: session %d is left to its TTL: %s", *key, end.session.session_id, error)
                return AWAY_S
            if answer.ended:
                ended += 1
                await self._tell(stored, end, ended)
        if more:
            return SOON_S
        if key in self._marks and not suspect:
            return 0.0
        return INTERVAL_S if sessions else IDLE_S

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
