"""A bundle for support: what is stored about one LockCluster and what its members say; bounded, and without secrets."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from lockmaster.cli.refusals import Refused
from lockmaster.kubectl.access import Api, Json
from lockmaster.kubectl.reaching import PODS_MAX, selector

PART_BYTES_MAX: Final = 4 << 20
"""Of one file in it; the rest of a longer one is cut off."""
LOG_LINES: Final = 2000
EVENTS_MAX: Final = 200
HIDDEN: Final = "(left out)"
OWN_PREFIX: Final = "LOCKMASTER_"
"""Variables that the operator sets, none of them secret; the values of all others are left out."""


def write(path: Path, api: Api, cluster: Json, states: list[dict[str, Any]]) -> list[str]:
    """Write the bundle as a tar.gz; returns what could not be read, in words. Replaces a file of the name."""
    missing: list[str] = []
    with tarfile.open(path, "w:gz") as bundle:
        _add(bundle, "lockcluster.json", _dump(cluster))
        _add(bundle, "members.json", _dump(states))
        for name, read in _parts(api, cluster["metadata"]["name"]):
            try:
                _add(bundle, name, read())
            except Refused as error:
                missing.append(error.format_message())
        _add(bundle, "left-out.txt", "\n".join(missing))
    return missing


def _parts(api: Api, name: str) -> Iterator[tuple[str, Callable[[], str]]]:
    pods: list[Json] = []

    def read_pods() -> str:
        pods.extend(api.list("pods", selector(name))[:PODS_MAX])
        return _dump(pods)

    yield "pods.json", read_pods
    for kind in ("statefulsets", "persistentvolumeclaims", "poddisruptionbudgets"):
        yield f"{kind}.json", lambda kind=kind: _dump(api.list(kind, selector(name)))  # type: ignore[misc]
    yield "events.json", lambda: _dump(_events(api, name))
    for pod in pods:
        for previous in ("false", "true"):
            query = {"tailLines": str(LOG_LINES), "limitBytes": str(PART_BYTES_MAX), "previous": previous}
            if previous == "true" and not _restarted(pod):
                continue
            where = pod["metadata"]["name"]
            suffix = ".previous" if previous == "true" else ""
            yield f"logs/{where}{suffix}.log", lambda w=where, q=query: "\n".join(api.log_lines(w, q))  # type: ignore[misc]


def _restarted(pod: Json) -> bool:
    return any(each.get("restartCount") for each in pod.get("status", {}).get("containerStatuses") or ())


def _events(api: Api, name: str) -> list[Json]:
    """About the cluster and what is named after it, the newest last."""
    found = [e for e in api.list("events") if _about(str(e.get("regarding", {}).get("name", "")), name)]
    return sorted(found, key=lambda e: str(e.get("eventTime") or e.get("deprecatedLastTimestamp") or ""))[-EVENTS_MAX:]


def _about(regarding: str, name: str) -> bool:
    return regarding == name or regarding.startswith((f"{name}-", f"data-{name}-"))


def _dump(value: object) -> str:
    return json.dumps(_cleaned(value), indent=1)


def _cleaned(value: Any) -> Any:
    """Without the values of variables that a person gave, and without what only the API server needs."""
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {k: _cleaned(v) for k, v in value.items() if k not in ("managedFields", "last-applied-configuration")}
    annotations = found.get("annotations")
    if isinstance(annotations, dict):
        found["annotations"] = {k: v for k, v in annotations.items() if not k.endswith("last-applied-configuration")}
    for variable in found.get("env") or () if isinstance(found.get("env"), list) else ():
        if isinstance(variable, dict) and "value" in variable and not str(variable.get("name")).startswith(OWN_PREFIX):
            variable["value"] = HIDDEN
    return found


def _add(bundle: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()[:PART_BYTES_MAX]
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    bundle.addfile(entry, io.BytesIO(data))
