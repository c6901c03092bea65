"""The README's Kubernetes quick start, line by line, in a fresh clone (issue: "copied line by line works")."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from .bed import host
from .bed.cluster import Bed
from .product import ROOT, Product, remove_definitions
from .product_images import name_as
from .quick_start import RECORD, Shell, commands_of, page_of

pytestmark = pytest.mark.e2e
SPACES = ("locks", "lockmaster")


@pytest.fixture
def untouched(bed: Bed, operator: Product) -> Iterator[Bed]:
    """The bed without operator, custom resource definitions and namespaces of the quick start."""

    def clear() -> None:
        bed.kubectl("uncordon", *(node.name for node in bed.layout.nodes))
        for space in SPACES:
            bed.kubectl("delete", "namespace", space, "--ignore-not-found", "--timeout=100s")
        remove_definitions(bed)

    operator.uninstall()
    clear()
    yield bed
    helm, config = str(bed.program("helm")), f"--kubeconfig={bed.places.kubeconfig}"
    host.run((helm, config, "uninstall", "lockmaster", "-n", "lockmaster", "--ignore-not-found", "--wait"))
    clear()
    operator.install()


def test_the_readmes_quick_start_works_line_by_line(untouched: Bed, operator: Product, tmp_path: Path) -> None:
    version = metadata.version("lockmaster")
    images = {
        part.upper(): name_as(untouched, operator.kubernetes.image(part), version) for part in ("server", "operator")
    }
    clone = tmp_path / "lockmaster"
    host.run(("git", "clone", "--quiet", str(ROOT), str(clone)))
    programs = {name: untouched.program(name) for name in ("kubectl", "helm")}
    shell = Shell(clone, untouched.places.kubeconfig, programs, images)
    commands = commands_of((clone / "README.md").read_text())
    said = {command: shell.run(command) for command in commands}
    lines = next(
        text for command, text in said.items() if command.startswith("kubectl -n locks logs taker")
    ).splitlines()
    tokens = {re.sub(r"^\d+ s: held, fencing token ", "", line) for line in lines}
    assert len(tokens) == 1, lines
    assert int(tokens.pop()) > 0
    page = page_of(shell.steps)
    print(page)
    if os.environ.get("E2E_RECORD"):
        (ROOT / RECORD).write_text(page)
