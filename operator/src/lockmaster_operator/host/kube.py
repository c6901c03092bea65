"""Kubernetes' API as plain objects: get, list, apply, patch, delete, each with a deadline. Nothing is cached.

kubernetes.aio does credentials, certificates and connections; its typed models are left aside: what the operator
reads and writes is JSON anyway, and a newer server's fields must not be lost.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject

from lockmaster_operator.desired.names import MANAGER
from lockmaster_operator.models.part import GROUP, VERSION

Json = dict[str, Any]
TIMEOUT: Final = aiohttp.ClientTimeout(total=15, connect=5)
KEEPALIVE_S: Final = 45.0
"""An open connection waits so long for its next request: API servers wait 90 s, and TLS costs as much as a request."""
PAGE: Final = 500
PAGES_MAX: Final = 40
"""Most pages of a list: 20,000 objects; what is beyond is an error, not a silent gap."""
JSON_TYPE: Final = "application/json"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
WATCH_SECONDS: Final = 300
EVENT_BYTES_MAX: Final = 4 << 20
"""Longest event of a watch: above what an object can be."""
RESOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "LockCluster": (f"apis/{GROUP}/{VERSION}", "lockclusters"),
    "ConfigSet": (f"apis/{GROUP}/{VERSION}", "configsets"),
    "LockBackup": (f"apis/{GROUP}/{VERSION}", "lockbackups"),
    "Lock": (f"apis/{GROUP}/{VERSION}", "locks"),
    "QuorumRecovery": (f"apis/{GROUP}/{VERSION}", "quorumrecoveries"),
    "LockRestore": (f"apis/{GROUP}/{VERSION}", "lockrestores"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Service": ("api/v1", "services"),
    "Secret": ("api/v1", "secrets"),
    "Pod": ("api/v1", "pods"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "PersistentVolume": ("api/v1", "persistentvolumes"),
    "Node": ("api/v1", "nodes"),
    "Job": ("apis/batch/v1", "jobs"),
    "StatefulSet": ("apis/apps/v1", "statefulsets"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "Certificate": ("apis/cert-manager.io/v1", "certificates"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "ClusterRoleBinding": ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "Event": ("apis/events.k8s.io/v1", "events"),
}
"""Kind: group and version, and plural, of all that the operator touches."""


class KubeError(Exception):
    """The API server refused, failed, or did not answer.

    `status`: the HTTP status, 0 if there was no answer. `retry_after_s`: what the server asked for, else 0.
    """

    def __init__(self, status: int, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{status or 'no answer'}: {message}")
        self.status = status
        self.retry_after_s = retry_after_s


def path_of(kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    """Path of an object, or of all of a kind without a name; "" as namespace: of the whole cluster."""
    root, plural = RESOURCES[kind]
    parts = [root]
    if namespace:
        parts += ["namespaces", quote(namespace)]
    parts += [plural, quote(name), subresource]
    return "/" + "/".join(part for part in parts if part)


def quick(configuration: Configuration) -> Configuration:
    """The same configuration, its proxy taken from the environment (HTTPS_PROXY, NO_PROXY) once, here.

    Left to itself the client looks for a proxy and for a .netrc in two threads per request, which costs more than the
    request. Passwords of a .netrc are not for an API server: it is given none from there.
    """
    where = urlsplit(configuration.host)
    if not configuration.proxy and not proxy_bypass(where.hostname or ""):
        configuration.proxy = getproxies().get(where.scheme)
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


class KeptConnections(RESTClientObject):
    """Closes a connection once it was not used for KEEPALIVE_S."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, keepalive_timeout=KEEPALIVE_S)


def client_of(configuration: Configuration) -> ApiClient:
    """A client of this API server that keeps its connections. Close it yourself."""
    found = ApiClient(quick(configuration))
    found.rest_client = KeptConnections(found.configuration)
    return found


class Kube:
    """One API server. For one event loop; close the ApiClient yourself."""

    def __init__(self, client: ApiClient, timeout: aiohttp.ClientTimeout = TIMEOUT) -> None:
        self._client = client
        self._timeout = timeout

    async def get(self, kind: str, namespace: str, name: str) -> Json | None:
        """An object as it is stored now; None if there is none. Raises KubeError."""
        try:
            return await self.call("GET", path_of(kind, namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> list[Json]:
        """All objects of a kind with these labels and fields, page by page, as they are now. Raises KubeError."""
        return (await self.list_at(kind, namespace, labels, fields))[0]

    async def list_at(
        self, kind: str, namespace: str, labels: str = "", fields: str = ""
    ) -> tuple[builtins.list[Json], str]:
        """The same, and the resourceVersion from which on `watch` tells what changes."""
        found: builtins.list[Json] = []
        version = ""
        async for page in self._pages(kind, namespace, {"labelSelector": labels, "fieldSelector": fields}):
            # Items of a list don't say what they are: the list does.
            of = page.get("apiVersion", "")
            found += [{"apiVersion": of, "kind": kind, **item} for item in page.get("items") or ()]
            version = str(page.get("metadata", {}).get("resourceVersion", ""))
        return found, version

    async def versions(self, kind: str, namespace: str) -> dict[tuple[str, str], str]:
        """The resourceVersion of each object of a kind by namespace and name, as they are now. Raises KubeError.

        Asked for without specs and statuses; a server that sends them all the same is understood.
        """
        found: dict[tuple[str, str], str] = {}
        async for page in self._pages(kind, namespace, {}, METADATA_ONLY):
            for item in page.get("items") or ():
                metadata = item["metadata"]
                found[str(metadata["namespace"]), str(metadata["name"])] = str(metadata["resourceVersion"])
        return found

    async def _pages(
        self, kind: str, namespace: str, selectors: Mapping[str, str], accept: str = JSON_TYPE
    ) -> AsyncIterator[Json]:
        """The pages of a list, PAGES_MAX at most. Raises KubeError, also where there are more."""
        query = {"limit": str(PAGE), **{name: text for name, text in selectors.items() if text}}
        for _ in range(PAGES_MAX):
            page = await self.call("GET", path_of(kind, namespace), query, accept=accept)
            yield page
            following = page.get("metadata", {}).get("continue")
            if not following:
                return
            query["continue"] = following
        raise KubeError(0, f"more than {PAGE * PAGES_MAX} objects of kind {kind}")

    async def watch(self, kind: str, namespace: str, version: str) -> AsyncIterator[tuple[str, Json]]:
        """(ADDED, MODIFIED or DELETED, object) of each change after a resourceVersion, for WATCH_SECONDS at most.

        Raises KubeError: 410 where the version is too old by now.
        """
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        path = path_of(kind, namespace)
        timeout = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30, connect=5)
        response = await self._request("GET", path, query, None, JSON_TYPE, timeout)
        try:
            if response.status >= 400:
                raise KubeError(response.status, f"watch of {path}", retry_after(response.headers))
            waiting = bytearray()
            async for chunk in response.response.content.iter_any():
                waiting += chunk
                *lines, rest = waiting.split(b"\n")
                waiting = bytearray(rest)
                if len(waiting) > EVENT_BYTES_MAX:
                    raise KubeError(0, f"watch of {path}: an event of more than {EVENT_BYTES_MAX} bytes")
                for line in filter(None, lines):
                    yield _event(path, bytes(line))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(0, f"watch of {path}: {error or type(error).__name__}") from None
        finally:
            response.response.close()

    async def apply(self, body: Mapping[str, Any]) -> Json:
        """Server-side apply of a whole object, conflicts decided for the operator. Raises KubeError."""
        metadata = body["metadata"]
        path = path_of(body["kind"], metadata.get("namespace", ""), metadata["name"])
        query = {"fieldManager": MANAGER, "force": "true"}
        return await self.call("PATCH", path, query, body, "application/apply-patch+yaml")

    async def merge(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Json:
        """A merge patch; a metadata.uid in it is a precondition (409 if it is another's). Raises KubeError."""
        path = path_of(kind, namespace, name)
        return await self.call("PATCH", path, {"fieldManager": MANAGER}, patch, "application/merge-patch+json")

    async def create(self, body: Mapping[str, Any]) -> Json:
        """A new object. Raises KubeError, 409 if it is there."""
        path = path_of(body["kind"], body["metadata"].get("namespace", ""))
        return await self.call("POST", path, {"fieldManager": MANAGER}, body)

    async def replace(self, body: Mapping[str, Any], subresource: str = "") -> Json:
        """The whole object, or its subresource, only at the resourceVersion in `body`. Raises KubeError, 409 if not."""
        metadata = body["metadata"]
        path = path_of(body["kind"], metadata.get("namespace", ""), metadata["name"], subresource)
        return await self.call("PUT", path, {"fieldManager": MANAGER}, body)

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        uid: str,
        version: str = "",
        orphan: bool = False,
        background: bool = False,
    ) -> None:
        """Delete this very object: another uid, or another resourceVersion if given, is a 409. Raises KubeError.

        What it owns stays (`orphan`), goes after it (`background`), or as its kind has it.
        """
        conditions = {"uid": uid, **({"resourceVersion": version} if version else {})}
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        if orphan:
            body["propagationPolicy"] = "Orphan"
        elif background:
            body["propagationPolicy"] = "Background"
        await self.call("DELETE", path_of(kind, namespace, name), {}, body)

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = JSON_TYPE,
        accept: str = JSON_TYPE,
    ) -> Json:
        """One request, tried once. Raises KubeError."""
        response = await self._request(method, path, query, body, content, self._timeout, accept)
        try:
            text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(0, f"{method} {path}: {error or type(error).__name__}") from None
        try:
            answer = json.loads(text) if text else {}
        except ValueError:
            answer = {"message": text[:200].decode(errors="replace")}
        if response.status >= 400:
            message = str(answer.get("message", "")) if isinstance(answer, dict) else ""
            raise KubeError(response.status, f"{method} {path}: {message}", retry_after(response.headers))
        return answer if isinstance(answer, dict) else {}

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        content: str,
        timeout: aiohttp.ClientTimeout,
        accept: str = JSON_TYPE,
    ) -> Any:
        """The response before its body is read. Raises KubeError."""
        headers = {"Accept": accept, "Content-Type": content}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            return await self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(0, f"{method} {path}: {error or type(error).__name__}") from None


def _event(path: str, line: bytes) -> tuple[str, Json]:
    try:
        told = json.loads(line)
        kind, body = str(told["type"]), told["object"]
        if kind == "ERROR":
            raise KubeError(int(body.get("code", 0)), f"watch of {path}: {body.get('message', '')}")
        return kind, body if isinstance(body, dict) else {}
    except (ValueError, KeyError, TypeError) as error:
        raise KubeError(0, f"watch of {path}: {type(error).__name__} in an event") from None


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait, at most 60; 0 if it does not say."""
    text = headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isdecimal() else 0.0
