"""gRPC health: "" is liveness, a service's name its readiness, two more names what this member is good for.

A witness serves no client: its Sessions, Locks and Config are never SERVING. Whether it does what it is there for, as
any member, is `lockmaster.member`.
"""

from __future__ import annotations

import time
from typing import Final

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

from lockmaster.server.runtime import Engine

STATE_SERVICES: Final = ("lockmaster.v1.Sessions", "lockmaster.v1.Locks", "lockmaster.v1.Config")
"""Ready once this member has a state and knows a leader."""
ADMIN_SERVICE: Final = "lockmaster.v1.Admin"
"""Ready from the start: a blank member is administered too."""
LEADER_SERVICE: Final = "lockmaster.leader"
"""Serving on the member that leads and admits writes."""


MEMBER_SERVICE: Final = "lockmaster.member"
"""Serving while this member does what its role asks: a full one can be asked, a witness has a log and a leader."""


STALLED_S: Final = 10.0
"""The loop counts as stalled when it has not come round for so long; it does four times a second."""


class Health:
    """Keeps the health servicer at what the engine says."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: dict[str, bool] = {}
        self._stopping = False
        self.updated = 0.0
        """When the loop came round last, by the monotonic clock; 0: not yet."""
        self.servicer = HealthServicer()

    async def update(self) -> None:
        """Tell what changed since the last time; cheap when nothing did."""
        self.updated = time.monotonic()
        ready = self._engine.ready and not self._stopping
        leads = self._engine.admits_writes and not self._stopping
        whole = self._engine.ready_for_role and not self._stopping
        wanted = {"": True, ADMIN_SERVICE: True, LEADER_SERVICE: leads, MEMBER_SERVICE: whole}
        wanted.update(dict.fromkeys(STATE_SERVICES, ready))
        for service, serving in wanted.items():
            if self._told.get(service) is not serving:
                self._told[service] = serving
                status = (
                    health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
                )
                await self.servicer.set(service, status)

    def alive(self, now: float | None = None) -> bool:
        """The loop turns, whatever the quorum does: for the kubelet's liveness probe. From any thread."""
        return self.updated > 0 and (time.monotonic() if now is None else now) - self.updated < STALLED_S

    def whole(self) -> bool:
        """As the health name lockmaster.member: for the readiness probe. From any thread."""
        return self.alive() and self._told.get(MEMBER_SERVICE, False)

    async def stop(self) -> None:
        """Not ready any more; still alive."""
        self._stopping = True
        await self.update()
