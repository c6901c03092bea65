"""An API server over real HTTP for the host's tests: objects, versions, preconditions, and faults.

It has no schema, no controllers and no real server-side apply: those are tested on the bed.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from lockmaster_operator.host.kube import RESOURCES

Json = dict[str, Any]
KINDS = {(root, plural): kind for kind, (root, plural) in RESOURCES.items()}
DISCOVERED = KINDS | {
    ("api/v1", "namespaces"): "Namespace",
    ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions"): "CustomResourceDefinition",
}
"""What kopf wants to be there, too."""


@dataclass(slots=True)
class Fault:
    """What happens to the next requests that match."""

    method: str
    kind: str
    status: int = 500
    count: int = 1
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    """Answer so late; with status 200 the request is carried out."""
    message: str = "as told"


class FakeApi:
    """The server. `requests` is every (method, kind, name) that it has answered."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.faults: list[Fault] = []
        self.before: Callable[[str, str, str], None] = lambda method, kind, name: None
        """Called before a request is carried out: the world changes in between."""
        self.watches: list[tuple[str, str, asyncio.Queue[Json | None]]] = []
        """(kind, namespace, events to be sent; None ends it) of every watch that is open."""
        self.watched_from: list[str] = []
        """The resourceVersion of each watch."""
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        for _, _, queue in self.watches:
            queue.put_nowait(None)
        if self._runner is not None:
            await self._runner.cleanup()

    def kubeconfig(self, folder: Path) -> str:
        """The path of one for this server."""
        entry = {"name": "fake"}
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{**entry, "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{**entry, "cluster": {"server": self.url}}],
            "users": [{**entry, "user": {"token": "of-nobody"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(body))
        return str(path)

    def put(self, body: Json) -> Json:
        """Store an object as if somebody else had."""
        metadata = {"uid": f"uid-{next(self._numbers)}", "generation": 1, **body.get("metadata", {})}
        metadata["resourceVersion"] = str(next(self._numbers))
        stored = {**body, "metadata": metadata}
        key = (body["kind"], metadata.get("namespace", ""), metadata["name"])
        self._tell("MODIFIED" if key in self.objects else "ADDED", stored)
        self.objects[key] = stored
        return stored

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object as if somebody else had."""
        self._tell("DELETED", self.objects.pop((kind, namespace, name)))

    def _tell(self, event: str, stored: Json) -> None:
        for kind, namespace, queue in self.watches:
            if kind == stored["kind"] and namespace in ("", stored["metadata"].get("namespace", "")):
                queue.put_nowait({"type": event, "object": stored})

    async def _watch(self, request: web.Request, kind: str, namespace: str) -> web.StreamResponse:
        response = web.StreamResponse()
        watch = (kind, namespace, asyncio.Queue[Json | None]())
        self.watches.append(watch)
        self.watched_from.append(request.query["resourceVersion"])
        try:
            await response.prepare(request)
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                while (event := await watch[2].get()) is not None:
                    await response.write(json.dumps(event).encode() + b"\n")
        except TimeoutError:
            pass
        finally:
            self.watches.remove(watch)
        return response

    def writes(self) -> list[tuple[str, str, str]]:
        return [one for one in self.requests if one[0] != "GET"]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        root = "/".join(parts[: 2 if parts[0] == "api" else 3])
        rest = parts[2 if parts[0] == "api" else 3 :]
        namespace = ""
        if not rest:
            return web.json_response(discovered("/".join(parts)))
        if rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        kind = KINDS[root, rest[0]]
        name, subresource = (*rest[1:], "", "")[:2]
        fault = next((f for f in self.faults if f.count and (f.method, f.kind) == (request.method, kind)), None)
        if fault is not None:
            fault.count -= 1
            await asyncio.sleep(fault.delay_s)
            if fault.status != 200:
                return self._refuse(fault.status, fault.message, dict(fault.headers))
        self.before(request.method, kind, name)
        self.requests.append((request.method, kind, name))
        if request.query.get("watch"):
            return await self._watch(request, kind, namespace)
        body = with_data(await request.json()) if request.can_read_body else {}
        return self._carry_out(request, (kind, namespace, name), subresource, body)

    def _refuse(self, status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
        return web.json_response({"kind": "Status", "message": message}, status=status, headers=headers)

    def _carry_out(self, request: web.Request, key: tuple[str, str, str], subresource: str, body: Json) -> web.Response:
        kind, namespace, name = key
        if request.method == "GET" and not name:
            return self._list(kind, namespace, request.query)
        if request.method == "POST":
            name = body["metadata"].get("name") or f"{body['metadata']['generateName']}{next(self._numbers)}"
            if (kind, namespace, name) in self.objects:
                return self._refuse(409, "already exists")
            return web.json_response(self.put({**body, "metadata": {**body["metadata"], "name": name}}), status=201)
        live = self.objects.get(key)
        if live is None and request.content_type == "application/apply-patch+yaml":
            return web.json_response(self.put(body), status=201)
        if live is None:
            return self._refuse(404, "not found")
        if request.method == "GET":
            return web.json_response(live)
        given = body.get("preconditions") or body.get("metadata", {})
        for part in ("uid", "resourceVersion"):
            if given.get(part, live["metadata"][part]) != live["metadata"][part]:
                return self._refuse(409, f"{part} is another")
        if request.method == "DELETE":
            self.remove(*key)
            return web.json_response({"kind": "Status"})
        after = {**live, "status": body["status"]} if subresource == "status" else merged(live, body)
        after["metadata"] = {**after["metadata"], "resourceVersion": str(next(self._numbers))}
        self.objects[key] = after
        return web.json_response(after)

    def _list(self, kind: str, namespace: str, query: Mapping[str, str]) -> web.Response:
        wanted, fields = (pairs(query.get(name, "")) for name in ("labelSelector", "fieldSelector"))
        found = [
            {part: value for part, value in item.items() if part not in ("kind", "apiVersion")}
            for (k, n, _), item in sorted(self.objects.items())
            if k == kind
            and (not namespace or n == namespace)
            and wanted.items() <= (item["metadata"].get("labels") or {}).items()
            and all(at(item, path) == value for path, value in fields.items())
        ]
        root = RESOURCES[kind][0].split("/", 1)[1]
        return web.json_response(
            {"apiVersion": root, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": found}
        )


def discovered(path: str) -> Json:
    """What there is: versions of the core, groups, or the resources of one group and version."""
    if path == "api":
        return {"versions": ["v1"]}
    if path == "apis":
        roots = sorted({root for root, _ in DISCOVERED if root.startswith("apis/")})
        groups = [(root.split("/")[1], {"version": root.split("/")[2]}) for root in roots]
        return {"groups": [{"name": name, "versions": [one], "preferredVersion": one} for name, one in groups]}
    common = {"namespaced": True, "verbs": ["get", "list", "watch", "patch"]}
    found = [(kind, plural) for (root, plural), kind in DISCOVERED.items() if root == path]
    return {"resources": [{"kind": k, "singularName": k.lower(), "name": plural, **common} for k, plural in found]}


def pairs(selector: str) -> dict[str, str]:
    """Of a selector of equalities."""
    return dict(pair.split("=", 1) for pair in selector.split(",") if pair)


def at(item: Json, path: str) -> Any:
    """What stands at a.b.c."""
    return functools.reduce(lambda part, name: part[name], path.split("."), item)


def with_data(body: Json) -> Json:
    """As the API server stores a Secret."""
    texts = body.pop("stringData", {})
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    return {**body, "data": {**body.get("data", {}), **encoded}} if texts else body


def merged(live: Json, patch: Json) -> Json:
    """A JSON merge patch (RFC 7386)."""
    found = dict(live)
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict):
            found[name] = merged(found.get(name) or {}, value)
        else:
            found[name] = value
    return found
