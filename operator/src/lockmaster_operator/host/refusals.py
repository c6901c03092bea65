"""Why pods are missing, by the word of a StatefulSet's or a Job's controller: events are the only place that has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lockmaster_operator.host.kube import Json, Kube, KubeError

_SECONDS: Final = len("2026-01-01T00:00:00")


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
