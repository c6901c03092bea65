"""Looks after every kind but LockCluster: one queue and few workers, so that LockClusters never wait for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from opentelemetry import trace

from lockmaster_operator.host import minded
from lockmaster_operator.host.config_sets import ConfigSets
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.pod_sessions import PodSessions
from lockmaster_operator.host.projection import Projection
from lockmaster_operator.host.queue import Key, Queue
from lockmaster_operator.host.reaching import Reach
from lockmaster_operator.host.telling import Teller

_log = logging.getLogger(__name__)
_tracer = trace.get_tracer("lockmaster.operator")
Make = Callable[[Key], Awaitable[float | None]]
"""One pass over an object: seconds until the next, None if it is gone. Raises PassFailed."""
KINDS: Final = ("ConfigSet", *minded.KINDS, "LockCluster")
"""What is watched and looked after here; of a LockCluster the locks that it shows and
the sessions of clients' pods."""
WORKERS: Final = 4
PASS_SECONDS_MAX: Final = 120.0


def makers(
    kube: Kube, reach: Reach, teller: Teller, others: minded.Minded, sessions: PodSessions, locks: Projection
) -> dict[str, Make]:
    """A pass of each of KINDS."""
    return {
        "ConfigSet": ConfigSets(kube, reach, teller).make,
        "LockCluster": both(sessions.make, locks.make),
        **{kind: others.maker(kind) for kind in minded.KINDS},
    }


def both(first: Make, second: Make) -> Make:
    """Two passes over one object, each with its own time: due when the earlier one is."""

    async def make(key: Key) -> float | None:
        waits = [await first(key), await second(key)]
        return min((wait for wait in waits if wait is not None), default=None)

    return make


class Minder:
    """The queue and its workers; for one event loop."""

    def __init__(self, kube: Kube, makes: Mapping[str, Make], metrics: Metrics, namespaces: tuple[str, ...]) -> None:
        self._kube = kube
        self._makes = makes
        self._metrics = metrics
        self._namespaces = namespaces
        self.queue: Queue[tuple[str, str, str]] = Queue()

    def enqueue(self, kind: str, key: Key) -> None:
        """Look at this object soon."""
        if not self.queue.add((kind, *key)):
            _log.error("%s %s/%s: too many objects, found again by the resync", kind, *key)

    async def resync(self) -> None:
        """Queue all that there are, but for LockClusters: whoever lists them knows which. Raises KubeError."""
        for kind in (one for one in self._makes if one != "LockCluster"):
            for namespace in self._namespaces or ("",):
                for item in await self._kube.list(kind, namespace):
                    self.enqueue(kind, (item["metadata"]["namespace"], item["metadata"]["name"]))

    def tasks(self) -> list[asyncio.Task[None]]:
        """The workers, running until they are cancelled."""
        return [asyncio.create_task(self._work(), name=f"minder-{n}") for n in range(WORKERS)]

    async def _work(self) -> None:
        while True:
            await self.one_pass(await self.queue.take())

    async def one_pass(self, item: tuple[str, str, str]) -> None:
        """A pass over what was taken, and when it is due again. Never raises for what one object does."""
        kind, *where = item
        started = asyncio.get_running_loop().time()
        outcome = "failed"
        try:
            attributes = {"k8s.namespace.name": where[0], "name": where[1]}
            with _tracer.start_as_current_span(f"mind {kind}", attributes=attributes):
                async with asyncio.timeout(PASS_SECONDS_MAX):
                    again = await self._makes[kind]((where[0], where[1]))
            self.queue.done(item, again)
            outcome = "done" if again is not None else "gone"
        except (PassFailed, TimeoutError) as error:
            wait = self.queue.failed(item, getattr(error, "retry_after_s", 0.0))
            _log.warning("%s %s/%s: %s; again in %.1f s", *item, error or "the pass took too long", wait)
        except Exception:
            # A bug in one object's pass must not end the others'.
            self.queue.failed(item)
            _log.exception("%s %s/%s: the pass failed in a way nobody foresaw", *item)
        self._metrics.minded(kind, asyncio.get_running_loop().time() - started, outcome)
