"""One active operator: a Lease that its holder renews, and whose loss ends the process.

How long a Lease is old is told by this process's own clock, from when it saw it change; clocks of two machines are
never compared. A holder that can't renew for RENEW_SECONDS_MAX ends before another may take over.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Callable
from typing import Any, Final

from lockmaster_operator.host.kube import Json, Kube, KubeError

_log = logging.getLogger(__name__)
DURATION_S: Final = 15
RENEW_SECONDS_MAX: Final = 10.0
RETRY_S: Final = 2.0
ATTEMPT_SECONDS_MAX: Final = 3.0
"""A renewal that takes longer is tried again, while there is time."""


def _stamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Lease:
    """One Lease and who wants it. For one event loop."""

    def __init__(
        self, kube: Kube, namespace: str, name: str, identity: str, clock: Callable[[], float] | None = None
    ) -> None:
        self._kube = kube
        self._where = (namespace, name)
        self._identity = identity
        self._clock = clock or asyncio.get_running_loop().time
        self._seen: tuple[Any, Any] = (None, None)
        self._seen_at = self._clock()
        self._mine: Json | None = None
        """As this process wrote it last, where that was taken: one request renews it, unless another has changed it."""
        self._renewed = 0.0
        """When the last request that was taken was sent: its answer may have been late."""
        self.held = False
        self.asked_at = self._clock()
        """When the API server answered last, by the clock."""

    async def acquire(self, retry_s: float = RETRY_S) -> None:
        """Returns once this process holds the Lease; asks until then."""
        while not await self._attempt():
            await asyncio.sleep(retry_s)
        _log.info("%s holds Lease %s/%s", self._identity, *self._where)

    async def keep(self, retry_s: float = RETRY_S) -> None:
        """Renews; returns when the Lease is lost: the caller ends the process at once. Cancelled, it is still held."""
        try:
            while self._clock() - self._renewed < RENEW_SECONDS_MAX:
                await asyncio.sleep(retry_s)
                left = self._renewed + RENEW_SECONDS_MAX - self._clock()
                with contextlib.suppress(TimeoutError):  # a connection that hangs is given up for a new one
                    async with asyncio.timeout(max(0.1, min(ATTEMPT_SECONDS_MAX, left))):
                        if not await self._attempt() and self._taken_by_another():
                            break
        except Exception:
            self.held = False
            raise
        self.held = False
        _log.error("%s has lost Lease %s/%s", self._identity, *self._where)

    async def release(self) -> None:
        """Leave it to the next one at once; does nothing if it is not held or can't be written."""
        if not self.held:
            return
        self.held = False
        try:
            live = await self._kube.get("Lease", *self._where)
            if live is not None and live.get("spec", {}).get("holderIdentity") == self._identity:
                await self._kube.replace(
                    {**live, "spec": {**live["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}
                )
        except KubeError as error:
            _log.warning("Lease not released: %s", error)

    def _taken_by_another(self) -> bool:
        return self._seen[0] not in (None, "", self._identity)

    async def _attempt(self) -> bool:
        """Take or renew it. False: another holds it, or the API server did not take it."""
        mine, self._mine = self._mine, None
        if mine is not None:
            try:
                return await self._hold(mine)
            except KubeError as error:
                _log.info("Lease %s/%s is read again: %s", *self._where, error)
        try:
            live = await self._kube.get("Lease", *self._where)
            self.asked_at = self._clock()
            return await self._hold(live) if live is None or self._free(live) else False
        except KubeError as error:
            _log.warning("Lease %s/%s: %s", *self._where, error)
            return False

    async def _hold(self, live: Json | None) -> bool:
        """Write it, if it still is as it was seen. Raises KubeError."""
        asked, body = self._clock(), self._body(live or {})
        written = await (self._kube.create(body) if live is None else self._kube.replace(body))
        if (written.get("spec") or {}).get("holderIdentity") != self._identity:
            raise KubeError(0, "the answer to its write is no Lease")
        self._mine = written
        self.asked_at = self._clock()
        self._renewed = asked
        self._seen = (self._identity, None)
        self.held = True
        return True

    def _free(self, live: Json) -> bool:
        spec = live.setdefault("spec", {})
        holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
        if not holder or holder == self._identity:
            return True
        if self._seen != (holder, renewed):
            self._seen, self._seen_at = (holder, renewed), self._clock()
        return self._clock() - self._seen_at > int(spec.get("leaseDurationSeconds") or DURATION_S)

    def _body(self, live: Json) -> Json:
        """What follows on `live`, which is empty where there is none."""
        namespace, name = self._where
        now, spec = _stamp(), live.get("spec", {})
        mine = spec.get("holderIdentity") == self._identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": live.get("metadata") or {"name": name, "namespace": namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": DURATION_S,
                "acquireTime": spec.get("acquireTime", now) if mine else now,
                "renewTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + bool(live and not mine),
            },
        }
