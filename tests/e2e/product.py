"""The product on a Kubernetes: its charts by Helm, LockClusters and what becomes of them, load and what it saw."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import load
from .bed import host
from .bed.cluster import Bed
from .kubernetes import Kubernetes

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
OPERATOR_CHART = ROOT / "charts" / "lockmaster-operator"
SYSTEM = "lockmaster-e2e"
"""Namespace of the operator."""
READY_SECONDS = 120.0
MEMBERS = "app.kubernetes.io/component=member"
LOAD_SECONDS = 5.0
"""A load must have written for so long before trouble begins: gaps are held against what it is without."""


class Product:
    """The operator installed by its chart, for all namespaces, and one namespace for LockClusters."""

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        self.kubernetes = kubernetes
        self.namespace = namespace
        self.server_image = ""

    def install(self, chart: Path = OPERATOR_CHART) -> None:
        """The operator, ready; images first."""
        self.server_image, operator = (self.kubernetes.image(part) for part in ("server", "operator"))
        repository, _, tag = operator.rpartition(":")
        values = {
            "image": {"repository": repository, "tag": tag},
            "members": {"imageRepository": self.server_image.rpartition(":")[0]},
        }
        self._space(SYSTEM)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            self.kubernetes.helm(
                "upgrade", "--install", "e2e", str(chart), "-n", SYSTEM,
                "-f", file.name, "--take-ownership", "--wait", f"--timeout={READY_SECONDS:g}s",
            )  # fmt: skip

    def _space(self, name: str) -> None:
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}}
        self.kubernetes.kubectl("apply", "-f", "-", text_in=json.dumps(space))

    def begin(self) -> None:
        """The namespace for LockClusters, blank, beside an operator that runs."""
        self.end(wait=True)
        self._space(self.namespace)
        self.install()

    def end(self, *, wait: bool = False) -> None:
        """The namespace and all in it are removed."""
        waits = ("--timeout=100s",) if wait else ("--wait=false",)
        self.kubernetes.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", *waits, seconds=110)

    def uninstall(self) -> None:
        """The operator's chart is removed; LockClusters and the CRDs stay."""
        self.kubernetes.helm("uninstall", "e2e", "-n", SYSTEM, "--ignore-not-found", "--wait")

    def remove(self) -> None:
        """The operator and its namespace; not the CRDs, which the chart keeps."""
        self.uninstall()
        self.kubernetes.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=60s")

    def kubectl(self, *arguments: str, text_in: str | None = None) -> str:
        """In the namespace of the LockClusters."""
        return self.kubernetes.kubectl("-n", self.namespace, *arguments, text_in=text_in)

    def apply(self, body: Json) -> None:
        """One object, into the namespace."""
        self.kubectl("apply", "-f", "-", text_in=json.dumps(body))

    def cluster(self, name: str, **spec: Any) -> Json:
        """A LockCluster of the members' image; `spec` on top."""
        from importlib import metadata

        whole = {"version": metadata.version("lockmaster"), "image": self.server_image, "storage": {"size": "1Gi"}}
        return {
            "apiVersion": "lockmaster.dev/v1alpha1",
            "kind": "LockCluster",
            "metadata": {"name": name},
            "spec": {**whole, **spec},
        }

    def get(self, *arguments: str) -> Json:
        """An object as stored."""
        found: Json = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def notes(self, reason: str) -> list[str]:
        """Of the events in its namespace with this reason."""
        events = self.get("events.events.k8s.io")["items"]
        return [str(one.get("note", "")) for one in events if one.get("reason") == reason]

    def status(self, name: str) -> Json:
        """A LockCluster's status; {} before the first."""
        found: Json = self.get("lockcluster", name).get("status", {})
        return found

    def wait(self, name: str, what: str, check: Callable[[Json], bool], seconds: float = READY_SECONDS) -> float:
        """The seconds until a LockCluster's status is so. Raises Failed with its last status."""
        try:
            return host.wait_until(what, seconds, lambda: check(self.status(name)))
        except host.Failed as error:
            raise host.Failed(f"{error}: {json.dumps(self.status(name))}") from None

    def counted(self, metric: str) -> float:
        """A counter of the operator's page, over all labels."""
        path = f"/api/v1/namespaces/{SYSTEM}/services/e2e-lockmaster-operator-metrics:metrics/proxy/metrics"
        lines = self.kubernetes.kubectl("get", "--raw", path).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(metric))

    def passes(self) -> int:
        """How many passes the operator has ended so far, by its own metric."""
        return int(self.counted("lockmaster_operator_reconcile_seconds_count"))

    def wait_passes(self, count: int) -> None:
        """Until the operator has ended so many passes. Raises Failed."""
        host.wait_until(f"{count} passes", READY_SECONDS, lambda: self.passes() >= count, every=0.5)

    def start(self, name: str, code: str, secret: str, node: str = "", claim: str = "") -> None:
        """A Python program in a pod of the members' image, with the Secret's files in /tls; on `node`, if given, and
        with that volume claim in /archives."""
        restricted = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        container: Json = {
            "name": "app",
            "image": self.server_image,
            "command": ["python3", "-c", code],
            "securityContext": restricted,
            "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
        }
        spec: Json = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": "tls", "secret": {"secretName": secret}}],
        }
        if node:
            spec["nodeName"] = node
        if claim:
            spec["volumes"].append({"name": "archives", "persistentVolumeClaim": {"claimName": claim}})
            container["volumeMounts"].append({"name": "archives", "mountPath": "/archives"})
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})

    def run(self, name: str, code: str, secret: str, claim: str = "") -> str:
        """What a program printed, once it has ended well. Raises Failed with its output."""
        self.start(name, code, secret, claim=claim)
        try:
            self.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=60s")
        except (host.Failed, subprocess.SubprocessError) as error:
            raise host.Failed(f"{error}\n{self.kubectl('logs', name)}") from None
        return self.kubectl("logs", name)

    def wait_log(self, name: str, word: str) -> str:
        """The first line of a pod's log that begins with a word, once it is there. Raises Failed with the log."""

        def found() -> str:
            try:
                lines = self.kubectl("logs", name).splitlines()
            except host.Failed:
                return ""
            return next((line for line in lines if line.startswith(word)), "")

        try:
            host.wait_until(f"{word!r} in the log of {name}", READY_SECONDS, lambda: bool(found()), every=0.5)
        except host.Failed as error:
            raise host.Failed(f"{error}: {self.kubectl('logs', name)}") from None
        return found()

    def start_load(self, node: str = "") -> None:
        """load.PROGRAM, once it holds its lock and has written for LOAD_SECONDS."""
        self.start("load", load.PROGRAM, "locks-operator-tls", node)
        self.wait_log("load", "holds")
        time.sleep(LOAD_SECONDS)

    def end_load(self) -> load.Seen:
        """What the load saw. Raises Failed where it didn't end well."""
        self.kubectl("exec", "load", "--", "python3", "-c", "open('/tmp/stop', 'w')")
        self.wait_log("load", "done")
        seen = load.parsed(self.kubectl("logs", "load"))
        self.kubectl("delete", "pod", "load", "--grace-period=0")
        return seen

    def ready(self, name: str = "locks", seconds: float = READY_SECONDS, **spec: Any) -> Json:
        """The status of a LockCluster of this spec, Ready."""
        self.apply(self.cluster(name, **spec))
        generation = self.get("lockcluster", name)["metadata"]["generation"]

        def there(status: Json) -> bool:
            return status.get("observedGeneration") == generation and is_ready(status)

        self.wait(name, "Ready", there, seconds)
        return self.status(name)

    def pods(self) -> dict[str, Json]:
        """The members' pods by name."""
        return {one["metadata"]["name"]: one for one in self.get("pods", "-l", MEMBERS)["items"]}

    def operator_node(self) -> str:
        """Where the operator's pod runs."""
        path = "jsonpath={.items[0].spec.nodeName}"
        return self.kubernetes.kubectl("-n", SYSTEM, "get", "pods", "-o", path)


def remove_definitions(bed: Bed) -> None:
    """Our custom resource definitions, which the chart keeps, and with them every object of theirs."""
    names = bed.kubectl("get", "crds", "-o", "name").split()
    ours = [name for name in names if name.endswith(".lockmaster.dev")]
    if ours:
        bed.kubectl("delete", *ours, "--timeout=100s", seconds=110)


def roles(status: Json) -> list[str]:
    """Role/phase by ordinal."""
    return [f"{row['role']}/{row['phase']}" for row in sorted(status.get("members", ()), key=lambda r: r["ordinal"])]


def member_at(status: Json, ordinal: int) -> int:
    """The id of the member at an ordinal; 0 where there is none."""
    return next((int(row["memberId"]) for row in status.get("members", ()) if row["ordinal"] == ordinal), 0)


def reason(status: Json, kind: str) -> str:
    """Of a condition; "" where it is not there."""
    return next((str(one["reason"]) for one in status.get("conditions", ()) if one["type"] == kind), "")


def message(status: Json, kind: str) -> str:
    """Of a condition, for people; "" where it is not there."""
    return next((str(one["message"]) for one in status.get("conditions", ()) if one["type"] == kind), "")


def condition(status: Json, kind: str) -> str:
    """True, False, Unknown, or "" where the condition is not there."""
    return next((str(one["status"]) for one in status.get("conditions", ()) if one["type"] == kind), "")


def is_ready(status: Json) -> bool:
    """Ready is True."""
    return condition(status, "Ready") == "True"
