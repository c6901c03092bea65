"""One LockCluster: found by name, its pods, and its members through forwards with the operator's certificate."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from lockmaster.cli import exit_codes
from lockmaster.cli.connection import Target
from lockmaster.cli.refusals import Refused
from lockmaster.kubectl.access import Api, Json
from lockmaster.kubectl.forwarding import Forward, pod_dial

CLIENT_PORT: Final = 7420
PODS_MAX: Final = 16
PEMS: Final = ("ca.crt", "tls.crt", "tls.key")


def selector(cluster: str) -> str:
    """Of a cluster's members' pods (operator: desired/names.py)."""
    return f"app.kubernetes.io/name=lockmaster,app.kubernetes.io/instance={cluster}"


def cluster_named(api: Api, name: str) -> Json:
    """The LockCluster as stored. Refused, with the names that there are, where it is not."""
    found = api.get("lockclusters", name)
    if found is None:
        there = sorted(each["metadata"]["name"] for each in api.list("lockclusters"))
        known = f"there are {', '.join(there)}" if there else "there is none; choose the namespace by -n"
        raise Refused(f"no LockCluster {name} in namespace {api.namespace}: {known}", exit_codes.NOT_FOUND)
    return found


def pods_of(api: Api, cluster: str) -> list[Json]:
    """Its members' pods by name."""
    return sorted(api.list("pods", selector(cluster)), key=lambda pod: str(pod["metadata"]["name"]))[:PODS_MAX]


def secret_name(cluster: Json) -> str:
    """The Secret with the operator's client certificate (operator: desired/certificates.py)."""
    tls = cluster.get("spec", {}).get("tls") or {}
    given = (tls.get("secrets") or {}).get("operator") if tls.get("mode") == "secret" else None
    return str(given or f"{cluster['metadata']['name']}-operator-tls")


@contextlib.contextmanager
def reached(api: Api, cluster: Json, timeout: float) -> Iterator[Target]:
    """The members, dialled through the API server; the certificate's files are there as long as this is.

    Refused: no pod runs, or the Secret may not be read or is not there yet.
    """
    name = cluster["metadata"]["name"]
    running = [pod for pod in pods_of(api, name) if pod.get("status", {}).get("phase") == "Running"]
    if not running:
        raise Refused(
            f"LockCluster {name} has no running pod: kubectl -n {api.namespace} describe lockcluster {name}",
            exit_codes.UNAVAILABLE,
        )
    secret = api.get("secrets", secret_name(cluster))
    if secret is None:
        raise Refused(
            f"no Secret {secret_name(cluster)} in namespace {api.namespace}: the operator has not made it yet",
            exit_codes.UNAVAILABLE,
        )
    with tempfile.TemporaryDirectory(prefix="kubectl-lockmaster-") as folder, contextlib.ExitStack() as open_:
        ca, cert, key = _written(secret, Path(folder))
        forwards = []
        for pod in (each["metadata"]["name"] for each in running):
            forward = Forward(pod_dial(api.client, api.namespace, pod, CLIENT_PORT))
            open_.callback(forward.close)
            # As the pods advertise themselves (operator: desired/names.py), whatever the cluster's domain.
            forwards.append((f"{pod}.{name}-peers.{api.namespace}.svc.", forward.address))
        addresses = tuple(address for _, address in forwards)
        yield Target(addresses, ca, cert, key, insecure=False, timeout=timeout, forwards=tuple(forwards))


def _written(secret: Json, folder: Path) -> Sequence[Path]:
    data: dict[str, Any] = secret.get("data") or {}
    paths = [folder / part for part in PEMS]
    try:
        for path in paths:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(base64.b64decode(data[path.name], validate=True))
    except (KeyError, binascii.Error):
        name = secret["metadata"]["name"]
        raise Refused(f"Secret {name} does not hold {', '.join(PEMS)}", exit_codes.FAILED) from None
    return paths
