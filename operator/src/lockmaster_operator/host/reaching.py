"""A client of a LockCluster's members, for what is asked of them as any client asks: keys and locks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final, Protocol

from lockmaster import AsyncClient, Unavailable

from lockmaster_operator.desired.certificates import Purpose, secret_name
from lockmaster_operator.desired.names import CLIENT_PORT, Settings
from lockmaster_operator.host.issuing import BadSecret, pems_of
from lockmaster_operator.host.kube import Kube
from lockmaster_operator.host.pem_files import PemFiles
from lockmaster_operator.plan import read_cluster

OPERATION_SECONDS: Final = 5.0
LABEL: Final = "lockmaster-operator"


class Unreachable(Exception):
    """The members can't be asked; the text says why. `there`: the LockCluster exists and is not being deleted."""

    def __init__(self, why: str, there: bool) -> None:
        super().__init__(why)
        self.there = there


class Reach(Protocol):
    """How a LockCluster's members are reached."""

    def open(self, namespace: str, name: str) -> contextlib.AbstractAsyncContextManager[AsyncClient]:
        """A client, open within: its session, if it opens one, ends with it. Raises Unreachable, KubeError."""


class Members:
    """By the Service over ready full members, with the operator's own certificate."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube = kube
        self._settings = settings

    @contextlib.asynccontextmanager
    async def open(self, namespace: str, name: str) -> AsyncIterator[AsyncClient]:
        """As Reach."""
        stored = await self._kube.get("LockCluster", namespace, name)
        if stored is None or "deletionTimestamp" in stored["metadata"]:
            raise Unreachable(f"there is no LockCluster {name} in {namespace}", there=False)
        cluster = read_cluster(stored)
        if isinstance(cluster, str):
            raise Unreachable(f"LockCluster {name}: {cluster}", there=True)
        secret = await self._kube.get("Secret", namespace, secret_name(cluster, Purpose.OPERATOR))
        if secret is None:
            raise Unreachable(f"LockCluster {name} has no certificate for the operator yet", there=True)
        try:
            pems = pems_of(secret)
        except BadSecret as error:
            raise Unreachable(str(error), there=True) from None
        files = PemFiles(pems)
        address = f"{name}.{namespace}.svc.{self._settings.cluster_domain}:{CLIENT_PORT}"
        try:
            opened = files.client(address, OPERATION_SECONDS, LABEL)
        except Unavailable as error:
            raise Unreachable(f"LockCluster {name}: {error}", there=True) from None
        try:
            async with opened as client:
                yield client
        finally:
            files.remove()
