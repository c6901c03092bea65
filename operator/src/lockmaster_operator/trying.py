"""What `helm test` runs: makes a LockCluster, takes a lock from it, and removes it with its volumes.

`python3 -m lockmaster_operator.trying NAMESPACE NAME VERSION SECONDS DOMAIN`. Exit codes: 0 it works, 1 it doesn't, and
the last line says what; whatever was made is removed in both cases, and a LockCluster that it did not make never is.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

from lockmaster import LockmasterError

from lockmaster_operator.desired.names import Settings
from lockmaster_operator.host.app import connect
from lockmaster_operator.host.kube import Kube, KubeError
from lockmaster_operator.host.reaching import Members, Reach, Unreachable
from lockmaster_operator.models.part import API_VERSION

POLL_S: Final = 1.0
LOCK: Final = "helm-test"


class NotWorking(Exception):
    """What does not work, in words."""


def throw_away(namespace: str, name: str, version: str) -> dict[str, Any]:
    """The LockCluster: the smallest with a witness, and gone with its volumes when it is deleted."""
    spec = {"version": version, "deletionPolicy": "Delete", "storage": {"size": "1Gi"}}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": "LockCluster", "metadata": metadata, "spec": spec}


async def try_out(kube: Kube, reach: Reach, cluster: dict[str, Any], seconds: float) -> int:
    """The token of a lock that was taken and released. Raises NotWorking, KubeError."""
    namespace, name = cluster["metadata"]["namespace"], cluster["metadata"]["name"]
    made = await kube.create(cluster)
    try:
        await _ready(kube, namespace, name, time.monotonic() + seconds)
        try:
            async with reach.open(namespace, name) as client, client.lock(LOCK, timeout=seconds) as held:
                return held.fencing_token
        except (Unreachable, LockmasterError, TimeoutError) as error:
            raise NotWorking(f"the lock was not granted: {error}") from None
    finally:
        await kube.delete("LockCluster", namespace, name, made["metadata"]["uid"])


async def _ready(kube: Kube, namespace: str, name: str, deadline: float) -> None:
    said = "the operator has not seen it: does it run, and for this namespace?"
    while time.monotonic() < deadline:
        stored = await kube.get("LockCluster", namespace, name) or {}
        for condition in stored.get("status", {}).get("conditions") or ():
            if condition.get("type") == "Ready":
                if condition.get("status") == "True":
                    return
                said = f"{condition.get('reason')}: {condition.get('message')}"
        await asyncio.sleep(POLL_S)
    raise NotWorking(f"LockCluster {name} is not ready in time; {said}")


async def _run(namespace: str, name: str, version: str, seconds: str, domain: str) -> int:
    client = await connect()
    kube = Kube(client)
    try:
        reach = Members(kube, Settings(cluster_domain=domain))
        token = await try_out(kube, reach, throw_away(namespace, name, version), float(seconds))
    except (NotWorking, KubeError) as error:
        print(f"does not work: {error}", flush=True)
        return 1
    finally:
        await client.close()
    print(f"works: a lock was granted with fencing token {token}, and released", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_run(*sys.argv[1:6])))
