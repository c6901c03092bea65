"""The charts by Helm on a real Kubernetes: a cluster by its chart, an upgrade from the last release, what stays."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

import pytest

from .bed import host
from .bed.recipes import HELM_3
from .kubernetes import Kubernetes, OnBed
from .product import OPERATOR_CHART, ROOT, Product, is_ready
from .test_backups import READ, WRITE, told_by
from .test_more_scenarios import changed

pytestmark = pytest.mark.e2e
CLUSTER_CHART = ROOT / "charts" / "lockmaster-cluster"
OLD_CHARTS = "E2E_OLD_CHARTS"
"""A folder with the charts to upgrade from; without it those of the last release, by its tag."""


def last_charts(folder: Path) -> Path:
    """The charts of the newest tag v* that has any, unpacked below `folder`; or a skip."""
    if os.environ.get(OLD_CHARTS):
        return Path(os.environ[OLD_CHARTS])
    git = ("git", "-C", str(ROOT))
    tags = host.run((*git, "tag", "--list", "v*", "--sort=-v:refname")).split()
    for tag in tags:
        packed = subprocess.run([*git, "archive", tag, "charts"], capture_output=True, check=False, timeout=60)
        if packed.returncode == 0:
            with tarfile.open(fileobj=BytesIO(packed.stdout)) as opened:
                opened.extractall(folder, filter="data")
            return folder / "charts"
    pytest.skip(f"no release has charts yet: set {OLD_CHARTS} to a folder with those to upgrade from")


def test_an_upgrade_from_the_last_charts_keeps_clusters_and_pods(product: Product) -> None:
    """The old operator makes a cluster; the new chart is put over it: no pod restarts, nothing is lost."""
    with tempfile.TemporaryDirectory() as folder:
        old = last_charts(Path(folder))
        product.uninstall()
        try:
            product.install(old / OPERATOR_CHART.name)
            product.ready()
            before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
            product.start_load()
        finally:
            product.install()
    product.kubectl(
        "patch", "lockcluster", "locks", "--type=merge", "-p", '{"spec":{"lockProjection":{"enabled":true}}}'
    )
    product.wait("locks", "Ready", is_ready)
    host.wait_until("a Lock", 60, lambda: bool(product.get("locks.lockmaster.dev")["items"]), every=1)
    assert changed(product, before) == 0
    seen = product.end_load()
    assert (seen.lost, seen.failures, seen.held) == ((), (), True)


def test_91_helm_3_installs_and_helm_4_takes_over(product: Product, kubernetes: Kubernetes) -> None:
    """Both charts by the Helm before; then the one of now upgrades what that made, and no pod restarts."""
    if not isinstance(kubernetes, OnBed):
        pytest.skip("a second Helm is the bed's alone")
    older = OnBed(kubernetes.bed, HELM_3.name)
    assert older.helm("version", "--template={{.Version}}").startswith("v3.")
    with_older = Product(older, product.namespace)
    product.uninstall()
    try:
        with_older.install()
        values = json.dumps({"image": with_older.server_image, "storage": {"size": "1Gi"}})
        chart = ("upgrade", "--install", "locks", str(CLUSTER_CHART), "-n", product.namespace)
        older.helm(*chart, "--set-json", f"spec={values}")
        product.wait("locks", "Ready", is_ready)
        before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    finally:
        product.install()
    kubernetes.helm(*chart, "--reset-then-reuse-values")
    product.wait("locks", "Ready", is_ready)
    assert changed(product, before) == 0
    older.helm("uninstall", "locks", "-n", product.namespace, "--wait")
    assert is_ready(product.status("locks"))


def test_a_cluster_by_its_chart_is_left_with_its_data_when_the_chart_goes(
    product: Product, kubernetes: Kubernetes
) -> None:
    """`keep`: LockCluster, members and volumes stay; the chart put back takes them over. Custom resource definitions
    stay when the operator's chart goes."""
    space = ("-n", product.namespace)
    values = json.dumps({"image": product.server_image, "storage": {"size": "1Gi"}})
    install = ("upgrade", "--install", "locks", str(CLUSTER_CHART), *space, "--set-json", f"spec={values}")
    told = kubernetes.helm(*install)
    assert f"kubectl -n {product.namespace} wait --for=condition=Ready lockcluster/locks" in told
    product.wait("locks", "Ready", is_ready)
    saw = told_by(product, "write", "locks", WRITE, "kept")
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    kubernetes.helm("uninstall", "locks", *space, "--wait")
    product.uninstall()
    crds = kubernetes.kubectl("get", "crds", "-o", "name").split()
    assert sum(name.endswith(".lockmaster.dev") for name in crds) == 6
    assert is_ready(product.status("locks"))
    again = told_by(product, "read", "locks", READ, "kept")
    assert again.revision > saw.revision
    product.install()
    kubernetes.helm(*install, "--take-ownership")
    product.wait("locks", "Ready", is_ready)
    assert changed(product, before) == 0
    assert len(product.get("pvc")["items"]) == 3
