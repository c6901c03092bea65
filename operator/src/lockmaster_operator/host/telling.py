"""Posts Kubernetes Events about our objects. Only transitions get here; one that can't be posted is logged."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from lockmaster_operator.desired.names import MANAGER
from lockmaster_operator.host.kube import Kube, KubeError
from lockmaster_operator.models.part import API_VERSION
from lockmaster_operator.plan.transitions import Event

_log = logging.getLogger(__name__)
NOTE_MAX: Final = 1000
"""Bytes of a note; the API server takes 1,024."""


class Teller:
    """Posts events as this operator."""

    def __init__(self, kube: Kube, identity: str, now: Callable[[], datetime.datetime] | None = None) -> None:
        self._kube = kube
        self._identity = identity
        self._now = now or (lambda: datetime.datetime.now(datetime.UTC))

    async def tell(self, about: Mapping[str, Any], event: Event) -> None:
        """One event about a stored object. Never raises: a missing event is no reason to stop."""
        metadata = about["metadata"]
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
            "eventTime": self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Warning" if event.warning else "Normal",
            "reason": event.reason[:128],
            "note": event.message.encode()[:NOTE_MAX].decode(errors="ignore"),
            "action": "Reconcile",
            "reportingController": f"lockmaster.dev/{MANAGER}",
            "reportingInstance": self._identity[:128],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": about.get("kind", "LockCluster"),
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
        }
        try:
            await self._kube.create(body)
        except KubeError as error:
            _log.warning("%s/%s: event %s not posted: %s", metadata["namespace"], metadata["name"], event.reason, error)
