"""`kubectl get locks`: which Lock objects are to be made, changed and removed. Pure and total.

Laws: at most `max` objects, those of the locks held longest; nothing is written for a lock whose holder, token and
number of waiters are what its object says (keepalives change none of them); at most STEPS_MAX writes a pass, the rest
in the next; switched off, every one of them goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lockmaster_operator.desired.names import MANAGER, Cluster
from lockmaster_operator.models.lock import LockStatus
from lockmaster_operator.models.part import API_VERSION
from lockmaster_operator.models.timestamps import timestamp_of

STEPS_MAX: Final = 100
CLUSTER_LABEL: Final = "lockmaster.dev/cluster"
HELD_MAX: Final = 10_000
"""Most locks that one look takes in; the rest is not shown."""


@dataclass(frozen=True, slots=True)
class Held:
    """One lock that is held now."""

    name: str
    holder: str
    session: int
    token: int
    held_s: float
    waiters: int
    pod: str = ""
    """Namespace and name; empty: no pod's token opened the session."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A Lock object as stored."""

    name: str
    uid: str
    status: LockStatus


@dataclass(frozen=True, slots=True)
class Show:
    """Make the object if it is not there, and write its status."""

    body: Mapping[str, Any]
    status: LockStatus


@dataclass(frozen=True, slots=True)
class Hide:
    """Remove this very object."""

    name: str
    uid: str


def object_name(cluster: str, lock: str) -> str:
    """A lock's name may be anything; an object's may not."""
    return f"{cluster}-{hashlib.sha256(lock.encode()).hexdigest()[:16]}"


def plan_locks(
    cluster: Cluster, held: Sequence[Held], shown: Sequence[Shown], now: int
) -> tuple[tuple[Show | Hide, ...], bool]:
    """(what to write, whether more is left for the next pass)."""
    there = {one.name: one for one in shown}
    wanted: dict[str, Held] = {}
    if cluster.spec.lock_projection.enabled and not cluster.deleting:
        longest = sorted(held, key=lambda one: (-one.held_s, one.name))[: cluster.spec.lock_projection.max]
        wanted = {object_name(cluster.name, one.name): one for one in longest}
    steps: list[Show | Hide] = [Hide(one.name, one.uid) for name, one in sorted(there.items()) if name not in wanted]
    for name, one in sorted(wanted.items()):
        old = there.get(name)
        status = _status(one, old.status if old is not None else None, now)
        if old is None or status != old.status:
            steps.append(Show(_body(cluster, name, one), status))
    return tuple(steps[:STEPS_MAX]), len(steps) > STEPS_MAX


def _status(one: Held, old: LockStatus | None, now: int) -> LockStatus:
    status = LockStatus(
        holder=one.holder[:512],
        pod=one.pod[:253],
        session=one.session,
        token=one.token,
        since=timestamp_of(now - int(one.held_s)),
        waiters=one.waiters,
        seen=timestamp_of(now),
    )
    if old is None:
        return status
    if old.token == status.token:  # the same grant: its time is not counted anew, a second here and there
        status = status.model_copy(update={"since": old.since})
    return old if status.model_copy(update={"seen": old.seen}) == old else status


def _body(cluster: Cluster, name: str, one: Held) -> dict[str, Any]:
    owner = {"apiVersion": API_VERSION, "kind": "LockCluster", "name": cluster.name, "uid": cluster.uid}
    return {
        "apiVersion": API_VERSION,
        "kind": "Lock",
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            "labels": {"app.kubernetes.io/managed-by": MANAGER, CLUSTER_LABEL: cluster.name},
            "ownerReferences": [owner],
        },
        "spec": {"clusterRef": {"name": cluster.name}, "name": one.name},
    }
