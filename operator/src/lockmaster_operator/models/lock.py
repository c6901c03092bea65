"""Lock: who holds what, for `kubectl get locks` (operator.md §1). Written by the operator only, off by default."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from lockmaster_operator.models.part import LocalReference, Part, Rule, Timestamp, rules

LOCKS_MAX: Final = 1_000
"""Most Lock objects of one cluster: the operator shows the longest held ones."""


class LockSpec(Part):
    """Which lock."""

    model_config = rules(Rule("self == oldSelf", "spec can't change: a Lock only shows what the cluster holds"))

    cluster_ref: LocalReference
    """The LockCluster, in the same namespace."""
    name: Annotated[str, Field(min_length=1, max_length=1024)]
    """The lock's whole name in the cluster."""


class LockStatus(Part):
    """Who holds it. As of `seen`: keepalives do not change it, so it costs the API server nothing."""

    holder: Annotated[str, Field(max_length=512)] = ""
    """Who the session says it is."""
    pod: Annotated[str, Field(max_length=253)] = ""
    """Namespace and name of the pod whose token opened the session; empty: it was not a pod."""
    session: Annotated[int, Field(ge=0)] = 0
    """The session's id."""
    token: Annotated[int, Field(ge=0)] = 0
    """The fencing token."""
    since: Timestamp | None = None
    """When it was granted."""
    waiters: Annotated[int, Field(ge=0)] = 0
    """How many wait for it."""
    seen: Timestamp | None = None
    """When the operator looked."""
