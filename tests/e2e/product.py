"""The product on the bed: its images from the checkout, its charts by Helm, LockClusters and what becomes of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools import image_context

from .bed import host, images
from .bed.cluster import Bed

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
OPERATOR_CHART = ROOT / "charts" / "lockmaster-operator"
SYSTEM = "lockmaster-e2e"
"""Namespace of the operator."""
READY_SECONDS = 120.0
SOURCES = {
    "server": ("raft/src", "service/src", "service/Dockerfile", "constraints.txt"),
    "operator": ("raft/src", "service/src", "operator/src", "operator/Dockerfile", "constraints.txt"),
}


def fingerprint(part: str) -> str:
    """Ten hex digits of everything that goes into a part's image."""
    digest = hashlib.sha256()
    for source in SOURCES[part]:
        path = ROOT / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:10]


def load(bed: Bed, part: str) -> str:
    """The image of a part on every node of the bed, built from this checkout where the cache lacks it; its tag."""
    tag = f"e2e-{fingerprint(part)}"
    name = f"localhost/lockmaster/{part}:{tag}"
    tar = bed.places.cache / "images" / (name.replace("/", "_").replace(":", "_") + ".tar")
    if tar.exists():
        images.import_all(bed.places, [node.name for node in bed.layout.nodes], [tar])
        return tag
    for old in tar.parent.glob(f"localhost_lockmaster_{part}_e2e-*.tar"):
        old.unlink()
    python = shutil.which("python3") or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        context = image_context.make(part, Path(folder, part), python)
        bed.load_image(name, images.Dockerfile(context, arguments={"BASE": images.PYTHON_IMAGE}))
    # The tar is what is kept: layers of every state of the checkout would fill the disk.
    images.buildah(bed.places, "rmi", "--force", name)
    images.buildah(bed.places, "rmi", "--prune", "--force")
    return tag


class Product:
    """The operator installed by its chart, and one namespace for LockClusters."""

    def __init__(self, bed: Bed, namespace: str) -> None:
        self.bed = bed
        self.namespace = namespace
        self.server_tag = ""
        self.server_image = ""

    def helm(self, *arguments: str) -> str:
        """What Helm printed. Raises Failed."""
        program = str(self.bed.program("helm"))
        return host.run((program, f"--kubeconfig={self.bed.places.kubeconfig}", *arguments), seconds=READY_SECONDS)

    def install(self) -> None:
        """The operator, ready; images first."""
        self.server_tag, operator = load(self.bed, "server"), load(self.bed, "operator")
        self.server_image = f"localhost/lockmaster/server:{self.server_tag}"
        values = {
            "image": {"repository": "localhost/lockmaster/operator", "tag": operator},
            "members": {"imageRepository": "localhost/lockmaster/server"},
            "namespaces": [self.namespace],
        }
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        for name in (SYSTEM, self.namespace):
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}}
            self.bed.kubectl("apply", "-f", "-", text_in=json.dumps(space))
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            self.helm(
                "upgrade", "--install", "e2e", str(OPERATOR_CHART), "-n", SYSTEM,
                "-f", file.name, "--take-ownership", "--wait", f"--timeout={READY_SECONDS:g}s",
            )  # fmt: skip

    def uninstall(self) -> None:
        """The operator's chart is removed; LockClusters and the CRDs stay."""
        self.helm("uninstall", "e2e", "-n", SYSTEM, "--ignore-not-found", "--wait")

    def remove(self) -> None:
        """Everything of it but the CRDs, which the chart keeps."""
        self.bed.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=100s")
        self.uninstall()
        self.bed.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=60s")

    def kubectl(self, *arguments: str, text_in: str | None = None) -> str:
        """In the namespace of the LockClusters."""
        return self.bed.kubectl("-n", self.namespace, *arguments, text_in=text_in)

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

    def passes(self) -> int:
        """How many passes the operator has ended so far, by its own metric."""
        path = f"/api/v1/namespaces/{SYSTEM}/services/e2e-lockmaster-operator-metrics:metrics/proxy/metrics"
        page = self.bed.kubectl("get", "--raw", path)
        lines = [line for line in page.splitlines() if line.startswith("lockmaster_operator_reconcile_seconds_count")]
        return int(sum(float(line.split()[-1]) for line in lines))

    def wait_passes(self, count: int) -> None:
        """Until the operator has ended so many passes. Raises Failed."""
        host.wait_until(f"{count} passes", READY_SECONDS, lambda: self.passes() >= count, every=0.5)

    def start(self, name: str, code: str, secret: str) -> None:
        """A Python program in a pod of the members' image, with the Secret's files in /tls."""
        restricted = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        container = {
            "name": "app",
            "image": self.server_image,
            "command": ["python3", "-c", code],
            "securityContext": restricted,
            "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
        }
        spec = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": "tls", "secret": {"secretName": secret}}],
        }
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})

    def run(self, name: str, code: str, secret: str) -> str:
        """What a program printed, once it has ended well. Raises Failed with its output."""
        self.start(name, code, secret)
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


def condition(status: Json, kind: str) -> str:
    """True, False, Unknown, or "" where the condition is not there."""
    return next((str(one["status"]) for one in status.get("conditions", ()) if one["type"] == kind), "")


def is_ready(status: Json) -> bool:
    """Ready is True."""
    return condition(status, "Ready") == "True"
