"""What each LockCluster was like at its last full look, where nothing is to be decided for a while (plan/calm.py).

Laws.
1. Nothing is done by what is remembered here: it only says that a look may be left out.
2. Whatever may have changed after a look began ends what that look has found: an event, and a resourceVersion in the
   resync that is another.
3. At most one entry for each LockCluster that is looked after (queue.KEYS_MAX).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lockmaster_operator.host.issuing import Pems
from lockmaster_operator.host.queue import Key
from lockmaster_operator.models.lock_cluster_status import LockClusterStatus
from lockmaster_operator.plan.calm import CALM_S, Told


def phase(key: Key) -> float:
    """When in each period of CALM_S a cluster has its whole look, in seconds: those of many are spread evenly over it,
    after a restart, too."""
    return float(hash(key) % CALM_S)


def next_whole_look(now: float, phase: float) -> float:
    """The first time after `now` at this phase; at most CALM_S away."""
    return now + CALM_S - (now - phase) % CALM_S


@dataclass(frozen=True, slots=True)
class Calm:
    """The last full look at a cluster that needed nothing."""

    uid: str
    version: str
    """resourceVersion of the LockCluster."""
    asked: Mapping[int, str]
    """host:port of the members that were asked, by ordinal."""
    tls: Pems | None
    """By which certificate; None: nobody was asked."""
    secret: str
    """Its Secret, where somebody else than the operator renews it: asked for each time. "": the operator does."""
    status: LockClusterStatus
    said: Told


class Quiet:
    """What is remembered; for one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, phase: Callable[[Key], float] = phase) -> None:
        self._clock = clock
        self._phase = phase
        self._known: dict[Key, tuple[float, Calm] | None] = {}
        """With the time until which it stands; None: a look has begun, and nothing has changed since then."""

    def begin(self, key: Key) -> None:
        """A full look at it begins."""
        self._known[key] = None

    def keep(self, key: Key, calm: Calm) -> None:
        """What the look has found, unless something has changed since it began."""
        if key in self._known:
            self._known[key] = (next_whole_look(self._clock(), self._phase(key)), calm)

    def changed(self, key: Key) -> None:
        """It is another by now, may be, or is gone."""
        self._known.pop(key, None)

    def of(self, key: Key) -> Calm | None:
        """What it was like, if that still stands: for CALM_S at most."""
        found = self._known.get(key)
        return found[1] if found is not None and self._clock() < found[0] else None

    def differing(self, versions: Mapping[Key, str]) -> list[Key]:
        """Those to be looked at, by the resourceVersions of all LockClusters that there are: of which nothing else is
        remembered than another version, or nothing at all, or which are gone."""
        known = {key: found[1].version for key, found in self._known.items() if found is not None}
        return [key for key, version in versions.items() if known.get(key) != version] + [
            key for key in known if key not in versions
        ]
