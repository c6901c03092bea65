"""The Kubernetes that tests run on: the bed, or a kubectl context of the user's. What both can do is a `Kubernetes`."""

from __future__ import annotations

import os
import shutil
from typing import Final, Protocol

from . import product_images
from .bed import host
from .bed.cluster import Bed

HELM_SECONDS: Final = 150.0
IMAGES: Final = {"server": "E2E_SERVER_IMAGE", "operator": "E2E_OPERATOR_IMAGE"}
"""Where a user's cluster can't be given images by us: they name those that it can pull."""


class Kubernetes(Protocol):
    """A Kubernetes with Helm beside it."""

    def kubectl(self, *arguments: str, text_in: str | None = None, seconds: float = host.COMMAND_SECONDS) -> str:
        """What kubectl printed. Raises Failed with its message."""

    def helm(self, *arguments: str) -> str:
        """What Helm printed. Raises Failed with its message."""

    def image(self, part: str, version: str = "") -> str:
        """An image of this checkout that its nodes have; `version`: as if it were of that release. Raises Cannot."""

    def nodes(self) -> list[str]:
        """Names of the nodes that take pods."""


class OnBed:
    """The bed. `helm`: which of its programs, Helm 4 or helm3."""

    def __init__(self, bed: Bed, helm: str = "helm") -> None:
        self.bed = bed
        self._helm = helm

    def kubectl(self, *arguments: str, text_in: str | None = None, seconds: float = host.COMMAND_SECONDS) -> str:
        """As administrator."""
        return self.bed.kubectl(*arguments, text_in=text_in, seconds=seconds)

    def helm(self, *arguments: str) -> str:
        """The bed's Helm."""
        program = str(self.bed.program(self._helm))
        return host.run((program, f"--kubeconfig={self.bed.places.kubeconfig}", *arguments), seconds=HELM_SECONDS)

    def image(self, part: str, version: str = "") -> str:
        """Built where the cache lacks it."""
        return product_images.load(self.bed, part, version)

    def nodes(self) -> list[str]:
        """All."""
        return [node.name for node in self.bed.layout.nodes]


class Context:
    """A kubectl context of the user's, by the kubectl and Helm of PATH."""

    def __init__(self, name: str) -> None:
        missing = [program for program in ("kubectl", "helm") if shutil.which(program) is None]
        if missing:
            raise host.Cannot(f"E2E_CONTEXT needs {' and '.join(missing)} in PATH")
        self.name = name

    def kubectl(self, *arguments: str, text_in: str | None = None, seconds: float = host.COMMAND_SECONDS) -> str:
        """With the user's own rights."""
        return host.run(("kubectl", f"--context={self.name}", *arguments), text_in, seconds)

    def helm(self, *arguments: str) -> str:
        """With the user's own rights."""
        return host.run(("helm", f"--kube-context={self.name}", *arguments), seconds=HELM_SECONDS)

    def image(self, part: str, version: str = "") -> str:
        """The one that the user's variable names."""
        if version:
            raise host.Cannot(f"an image of version {version} is made only for the bed")
        found = os.environ.get(IMAGES[part], "")
        if ":" not in found.rpartition("/")[2]:
            raise host.Cannot(f"set {IMAGES[part]} to an image with a tag that the cluster can pull")
        return found

    def nodes(self) -> list[str]:
        """Those without a taint that keeps pods away."""
        template = '{range .items[*]}{.metadata.name}={.spec.taints[*].effect}{"\\n"}{end}'
        rows = [line.partition("=") for line in self.kubectl("get", "nodes", "-o", f"jsonpath={template}").splitlines()]
        return [name for name, _, effects in rows if name and not effects]
