"""One operator process: Lease, watches, workers, resync, page. Which of them ends decides how the process ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import secrets
import signal
import socket
from collections.abc import Callable
from typing import Final

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from lockmaster_operator.desired.names import Settings
from lockmaster_operator.host.engine import Engine, MembersEngine
from lockmaster_operator.host.kube import Json, Kube, KubeError, client_of
from lockmaster_operator.host.lease import Lease
from lockmaster_operator.host.metrics import Metrics
from lockmaster_operator.host.minded import Minded
from lockmaster_operator.host.minding import Minder, makers
from lockmaster_operator.host.page import start_page
from lockmaster_operator.host.passes import Passes, PassFailed
from lockmaster_operator.host.pod_sessions import PodSessions
from lockmaster_operator.host.pod_watch import PodWatches
from lockmaster_operator.host.projection import Projection
from lockmaster_operator.host.queue import Key, Queue
from lockmaster_operator.host.reaching import Members
from lockmaster_operator.host.reviewers import Reviewers
from lockmaster_operator.host.settings import HostSettings
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.host.tracing import start_traces
from lockmaster_operator.host.watch_ages import WatchAges
from lockmaster_operator.host.watching import RESOURCES_WATCHED, watch

_log = logging.getLogger(__name__)
RESYNC_S: Final = 60.0
"""All LockClusters are listed so often, and those queued that are not as remembered: what a watch of them has missed
costs no more than this. Those too whose members are silent about sessions of pods."""
RESYNC_AGE_MAX_S: Final = 300.0
"""The process is not alive when it has not listed them, or not opened one of its watches, for so long."""
PASS_SECONDS_MAX: Final = 120.0
GC_ALLOCATIONS: Final = 20_000
"""Net new containers between two young collections: at the default of 700 they took a fifth of an idle one's time."""
EXIT_OK: Final = 0
EXIT_LEASE_LOST: Final = 1
EXIT_WATCH_ENDED: Final = 2


async def connect() -> ApiClient:
    """To the API server of the pod's ServiceAccount, else of the kubeconfig. Raises ConfigException."""
    found = Configuration()
    try:
        config.load_incluster_config(client_configuration=found)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=found)
    found.retries = None  # the queue tries again, with its own back-off
    return client_of(found)


class Operator:
    """The running parts of one process. `run` once."""

    def __init__(self, settings: HostSettings, kube: Kube, engine: Engine) -> None:
        self.settings = settings
        self.kube = kube
        self.metrics = Metrics()
        self.queue: Queue[Key] = Queue()
        self.identity = settings.identity or f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self.lease = Lease(kube, settings.namespace, settings.lease, self.identity)
        told = Settings(settings.image_repository, settings.cluster_domain, bool(settings.login_binding))
        teller = Teller(kube, self.identity)
        self.reviewers = Reviewers(kube, settings.login_binding, told)
        self.passes = Passes(kube, engine, told, teller, self.metrics, settings.reads_cluster, self.reviewers)
        self.passes.heard = self._pods_mark_heard
        others = Minded(kube, engine, told, teller, settings.reads_cluster)
        reach = Members(kube, told)
        self.pods = PodWatches(kube, settings.namespaces, self._pods_changed)
        self.sessions = PodSessions(kube, reach, teller, told, self.pods, settings.reads_cluster)
        self.locks = Projection(kube, reach)
        makes = makers(kube, reach, teller, others, self.sessions, self.locks)
        self.minder = Minder(kube, makes, self.metrics, settings.namespaces)
        self._clock = asyncio.get_running_loop().time
        self._resynced = self._clock()
        self._watching = asyncio.Event()
        self.watches = WatchAges(RESOURCES_WATCHED * max(1, len(settings.namespaces)))

    def enqueue(self, key: Key) -> None:
        """Something about this LockCluster has changed: look at it soon, and at everything."""
        self.passes.quiet.changed(key)
        if not self.queue.add(key):
            _log.error("%s/%s: too many LockClusters, found again by the resync", *key)

    def mind(self, kind: str, key: Key) -> None:
        """This object of one of minding.KINDS may be another by now, or is gone."""
        if kind == "LockCluster":
            self.sessions.changed(key)
            self.locks.changed(key)
        self.minder.enqueue(kind, key)

    def _pods_changed(self, key: Key) -> None:
        self.sessions.look_soon(key)
        self.minder.enqueue("LockCluster", key)

    def _pods_mark_heard(self, key: Key, mark: int) -> None:
        if self.sessions.heard(key, mark):
            self.minder.enqueue("LockCluster", key)

    def alive(self) -> str:
        """ "" or why the process should be restarted."""
        last = self._resynced if self.lease.held else self.lease.asked_at
        age = self._clock() - last
        if age >= RESYNC_AGE_MAX_S:
            return f"the API server has not answered for {age:.0f} s"
        age = self._watch_age_s()
        return "" if age < RESYNC_AGE_MAX_S else f"a watch was not opened for {age:.0f} s"

    def _watch_age_s(self) -> float:
        return self.watches.age_s() if self.lease.held else 0.0

    def ready(self) -> str:
        """ "" or why nothing is looked after here."""
        if not self.lease.held:
            return "another operator holds the Lease"
        return "" if self._watching.is_set() else "the watches have not begun"

    def page(self) -> bytes:
        """The metrics, brought up to date."""
        resync_age_s = self._clock() - self._resynced
        self.metrics.observe(self.queue.waiting(), resync_age_s, self._watch_age_s(), self.lease.held)
        return self.metrics.page()

    async def run(self, stop: asyncio.Event) -> int:
        """Until `stop`, or until the Lease or the watches are lost. The exit code; a lost Lease: end at once."""
        gc.set_threshold(GC_ALLOCATIONS, 20, 20)
        runner = await start_page(self.settings.listen, self.alive, self.ready, self.page)
        try:
            if not await self._acquire(stop):
                return EXIT_OK
            return await self._serve(stop)
        finally:
            await self.lease.release()
            await runner.cleanup()

    async def _acquire(self, stop: asyncio.Event) -> bool:
        acquiring = asyncio.create_task(self.lease.acquire(), name="lease")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({acquiring, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (acquiring, stopping):
            task.cancel()
        return self.lease.held and not stop.is_set()

    async def _serve(self, stop: asyncio.Event) -> int:
        self._resynced = self._clock()
        self.watches.begin()
        keeper = asyncio.create_task(self.lease.keep(), name="lease")
        namespaces = self.settings.namespaces
        watcher = asyncio.create_task(
            watch(self.enqueue, self.mind, self.watches, namespaces, self.identity, self._watching, stop),
            name="watches",
        )
        workers = [asyncio.create_task(self._work(), name=f"worker-{n}") for n in range(self.settings.workers)]
        others = [*workers, *self.minder.tasks(), asyncio.create_task(self._resync(), name="resync")]
        done, _ = await asyncio.wait({keeper, watcher, *others}, return_when=asyncio.FIRST_COMPLETED)
        for task in (keeper, *others):
            task.cancel()
        if keeper in done:  # nothing is waited for, and from here nothing is written
            return EXIT_LEASE_LOST
        await asyncio.gather(*others, self.pods.close(), return_exceptions=True)
        await self.sessions.close()
        # kopf takes the process's signals for itself while it runs, and ends in peace only because of one.
        if stop.is_set() or (watcher in done and watcher.exception() is None):
            await asyncio.wait({watcher})
            return EXIT_OK
        for task in done:
            _log.error("%s ended: %s", task.get_name(), task.exception())
        return EXIT_WATCH_ENDED

    async def _clusters(self) -> list[Json]:
        return [one for space in self._spaces() for one in await self.kube.list("LockCluster", space)]

    def _spaces(self) -> tuple[str, ...]:
        return self.settings.namespaces or ("",)

    async def _resync(self) -> None:
        while True:
            for key in self.sessions.unheard():
                self.minder.enqueue("LockCluster", key)
            try:
                versions: dict[Key, str] = {}
                for space in self._spaces():
                    versions |= await self.kube.versions("LockCluster", space)
                for key in self.passes.quiet.differing(versions):
                    self.enqueue(key)
                    self.mind("LockCluster", key)
                await self.reviewers.resync(versions, self._clusters)
                await self.minder.resync()
                self._resynced = self._clock()
            except KubeError as error:
                _log.warning("resync: %s", error)
            await asyncio.sleep(RESYNC_S * (0.9 + 0.2 * random.random()))

    async def _work(self) -> None:
        while True:
            await self._one_pass(await self.queue.take())

    async def _one_pass(self, key: Key) -> None:
        started, outcome = self._clock(), "done"
        try:
            async with asyncio.timeout(PASS_SECONDS_MAX):
                again = await self.passes.visit(key)
            self.queue.done(key, again)
            outcome = "done" if again is not None else "gone"
        except (PassFailed, TimeoutError) as error:
            outcome = "failed"
            wait = self.queue.failed(key, getattr(error, "retry_after_s", 0.0))
            _log.warning("%s/%s: %s; again in %.1f s", *key, error or "the pass took too long", wait)
        except Exception:
            # A bug in one cluster's pass must not end the others'.
            outcome = "failed"
            self.queue.failed(key)
            _log.exception("%s/%s: the pass failed in a way nobody foresaw", *key)
        finally:
            self.metrics.reconciled(self._clock() - started, outcome)


async def serve(settings: HostSettings, exit_now: Callable[[int], None]) -> int:
    """Runs until SIGTERM or SIGINT; `exit_now` is called when the Lease is lost: nothing more may be written then."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    traces = start_traces(settings)
    engine = MembersEngine()
    client = await connect()
    try:
        code = await Operator(settings, Kube(client), engine).run(stop)
        if code == EXIT_LEASE_LOST:
            exit_now(code)
        return code
    finally:
        await engine.close()
        await client.close()
        if traces is not None:
            traces.shutdown()
