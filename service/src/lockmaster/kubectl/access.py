"""The API server as kubectl finds it: kubeconfig, context, namespace; every refusal in words, with an exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from lockmaster.cli import exit_codes
from lockmaster.cli.refusals import Refused

Json = dict[str, Any]
TIMEOUT_S: Final = 15.0
OBJECTS_MAX: Final = 500
"""Most objects of a list that are looked at."""
GROUP: Final = "apis/lockmaster.dev/v1alpha1"
_VERBS: Final = {"GET": "get", "POST": "create", "PATCH": "patch"}
ROOTS: Final[Mapping[str, str]] = {
    "lockclusters": GROUP,
    "lockbackups": GROUP,
    "pods": "api/v1",
    "secrets": "api/v1",
    "persistentvolumeclaims": "api/v1",
    "statefulsets": "apis/apps/v1",
    "poddisruptionbudgets": "apis/policy/v1",
    "events": "apis/events.k8s.io/v1",
}
"""Resource: the API it belongs to."""


class Api:
    """One API server, one namespace. Raises Refused, and nothing else, when it refuses or does not answer."""

    def __init__(self, context: str | None, namespace: str | None) -> None:
        self.client, self.context, own = _connect(context)
        self.namespace = namespace or own

    def get(self, resource: str, name: str) -> Json | None:
        """An object of the namespace; None if it is not there."""
        return self._json("GET", resource, name)

    def list(self, resource: str, labels: str = "") -> list[Json]:
        """Objects of the namespace with these labels, at most OBJECTS_MAX."""
        query = {"limit": str(OBJECTS_MAX), **({"labelSelector": labels} if labels else {})}
        answer = self._json("GET", resource, query=query, verb="list")
        if answer is None:
            raise Refused(
                f"the API server of context {self.context} knows no {resource}: is the chart lockmaster-operator "
                "installed there?",
                exit_codes.NOT_FOUND,
            )
        return list(answer.get("items") or ())

    def merge(self, resource: str, name: str, patch: Mapping[str, Any]) -> Json:
        """A merge patch. Refused where the object is not there."""
        answer = self._json("PATCH", resource, name, body=patch)
        if answer is None:
            raise Refused(f"{resource} {name} is gone from namespace {self.namespace}", exit_codes.NOT_FOUND)
        return answer

    def create(self, resource: str, body: Mapping[str, Any]) -> Json:
        """A new object. Refused where one of its name is there."""
        answer = self._json("POST", resource, body=body)
        if answer is None:
            raise Refused(f"the API server knows no {resource}: is the chart installed?", exit_codes.NOT_FOUND)
        return answer

    def log_lines(self, pod: str, query: Mapping[str, str], timeout_s: float | None = TIMEOUT_S) -> Iterator[str]:
        """The log of a member's container, line by line; `timeout_s` None while it is followed."""
        path = self._path("pods", pod) + "/log?" + urlencode({"container": "lockmaster", **query})
        answer = self._request("GET", path, None, timeout_s)
        if answer.status >= 400:
            self._refuse(answer, "get", "pods/log", pod)
        rest = b""
        for piece in answer.response.stream(1 << 16):
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def _path(self, resource: str, name: str = "") -> str:
        path = f"/{ROOTS[resource]}/namespaces/{quote(self.namespace)}/{resource}"
        return f"{path}/{quote(name)}" if name else path

    def _json(
        self,
        method: str,
        resource: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        verb: str = "",
    ) -> Json | None:
        path = self._path(resource, name) + (f"?{urlencode(query)}" if query else "")
        answer = self._request(method, path, body, TIMEOUT_S)
        if answer.status == 404:
            return None
        if answer.status >= 400:
            self._refuse(answer, verb or _VERBS[method], resource, name)
        found = json.loads(answer.read())
        return found if isinstance(found, dict) else {}

    def _request(self, method: str, path: str, body: Any, timeout_s: float | None) -> Any:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json, */*", "Content-Type": kind}
        self.client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self.client.configuration.host + path
        try:
            return self.client.rest_client.request(method, url, headers=headers, body=body, _request_timeout=timeout_s)
        except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
            raise Refused(
                f"the API server of context {self.context} ({self.client.configuration.host}) does not answer: {error}",
                exit_codes.UNAVAILABLE,
            ) from None

    def _refuse(self, answer: Any, verb: str, resource: str, name: str) -> None:
        what = f"{resource} {name}".strip()
        try:
            said = str(json.loads(answer.read()).get("message", ""))
        except (ValueError, AttributeError):
            said = ""
        where = f"in namespace {self.namespace} (context {self.context})"
        if answer.status == 401:
            raise Refused(f"the credentials of context {self.context} are not accepted", exit_codes.DENIED)
        if answer.status == 403:
            raise Refused(f"you may not {verb} {what} {where}: ask for a Role with that verb", exit_codes.DENIED)
        if answer.status in (409, 422):
            code = exit_codes.CONFLICT if answer.status == 409 else exit_codes.USAGE
            raise Refused(f"{verb} {what} {where}: {said}", code)
        code = exit_codes.UNAVAILABLE if answer.status in (429, 500, 502, 503, 504) else exit_codes.FAILED
        raise Refused(f"{verb} {what} {where}: {answer.status} {said}", code)


def _connect(context: str | None) -> tuple[client.ApiClient, str, str]:
    """A client, the context's name and its namespace. Refused where there is no such context."""
    try:
        contexts, active = config.list_kube_config_contexts()
    except ConfigException as error:
        raise Refused(
            f"no kubeconfig: {error}; set KUBECONFIG, or try `kubectl config view`", exit_codes.USAGE
        ) from None
    names = {each["name"]: each for each in contexts}
    chosen = names.get(context) if context else active
    if chosen is None:
        raise Refused(
            f"no context {context!r} in the kubeconfig; there are {', '.join(sorted(names))}", exit_codes.USAGE
        )
    try:
        made = config.new_client_from_config(context=chosen["name"])
    except ConfigException as error:
        raise Refused(f"context {chosen['name']}: {error}", exit_codes.USAGE) from None
    made.configuration.retries = 0
    return made, chosen["name"], chosen["context"].get("namespace") or "default"
