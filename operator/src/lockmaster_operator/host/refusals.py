"""What the API server refuses: a pass of ours, and pods of a StatefulSet's or a Job's controller (events have that)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.plan.transitions import Event

REFUSALS: Final = frozenset({400, 403, 422})
"""Statuses of the API server that another try alone does not mend: a right that is missing, a webhook that says no."""
ALIKE_CHARACTERS: Final = 64
"""Refusals that begin alike are one: what follows may have the time in it."""
K = TypeVar("K")
_SECONDS: Final = len("2026-01-01T00:00:00")


@dataclass(slots=True)
class Refusals(Generic[K]):
    """The refusal that the last pass over each object ended with, where it did: for its next plan, and told once.

    At most one for each object that there is: `over` forgets it.
    """

    teller: Teller
    _words: dict[K, str] = field(default_factory=dict)

    def of(self, key: K) -> str:
        """In the API server's words; the first of those alike. "": nothing was refused."""
        return self._words.get(key, "")

    def over(self, key: K) -> bool:
        """Nothing is refused any more, or the object is gone. Whether something was."""
        return self._words.pop(key, None) is not None

    async def note(self, key: K, stored: Json | None, error: Exception) -> None:
        """What a pass ended with: one event for the first of a row of refusals alike. Never raises."""
        status = error.status if isinstance(error, KubeError) else 0
        if stored is None or status not in REFUSALS:
            return
        words = str(error)
        if self.of(key)[:ALIKE_CHARACTERS] == words[:ALIKE_CHARACTERS]:
            return
        self._words[key] = words
        await self.teller.tell(stored, Event(True, "ApiServerRefused", words))


async def pods_refused(kube: Kube, stateful_set: Mapping[str, Any] | None, pods: Sequence[Json]) -> str:
    """The refusal in force of a StatefulSet's pods; "" where none is missing. Raises KubeError."""
    if stateful_set is None or len(pods) >= int(stateful_set.get("spec", {}).get("replicas", 0)):
        return ""
    return await refused(kube, "StatefulSet", stateful_set["metadata"], pods)


async def refused(kube: Kube, kind: str, metadata: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str:
    """The refusal in force of a controller's pods; "" where none was refused, or we may not list events.

    Ask only while pods are missing: no request more where all is well. Raises KubeError.
    """
    chosen = f"regarding.kind={kind},regarding.name={metadata['name']},reason=FailedCreate"
    try:
        events = await kube.list("Event", metadata["namespace"], fields=chosen)
    except KubeError as error:
        if error.status == 403:
            return ""
        raise
    return refusal(str(metadata["uid"]), events, pods)


def refusal(uid: str, events: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]) -> str:
    """The last FailedCreate event of the controller `uid` that is not older than its newest pod, in its own words.

    A pod made since then shows that the refusal is over. Times are RFC 3339 in UTC; compared to the second.
    """
    newest = max((str(pod["metadata"].get("creationTimestamp", "")) for pod in pods), default="")
    told = [
        (at, str(event.get("note", "")))
        for event in events
        if event.get("regarding", {}).get("uid") == uid and (at := _last(event)) >= newest[:_SECONDS]
    ]
    return max(told, default=("", ""))[1]


def _last(event: Mapping[str, Any]) -> str:
    """When it happened last, to the second, by a controller of either kind of events."""
    series = event.get("series") or {}
    at = series.get("lastObservedTime") or event.get("deprecatedLastTimestamp") or event.get("eventTime") or ""
    return str(at)[:_SECONDS]
