"""`kubectl lockmaster` and `helm test` on a real Kubernetes: what goes through the kubelet, and the plan's order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from .bed import host
from .kubernetes import OnBed
from .product import SYSTEM, Product, condition, is_ready, roles
from .product_images import name_as
from .test_scenarios import QUICK, SHAPE

pytestmark = pytest.mark.e2e
SECONDS = 120


def plugin(product: Product, *arguments: str) -> tuple[int, str]:
    """Exit code, and what was printed; with the bed's kubeconfig or the context of E2E_CONTEXT."""
    environment, context = dict(os.environ), os.environ.get("E2E_CONTEXT", "")
    if isinstance(product.kubernetes, OnBed):
        environment["KUBECONFIG"] = str(product.kubernetes.bed.places.kubeconfig)
        context = ""
    chosen = ["-n", product.namespace, *(["--context", context] if context else [])]
    command = [sys.executable, "-m", "lockmaster.kubectl.main", *arguments, *chosen]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.returncode, done.stdout + done.stderr


def asked(product: Product, *arguments: str) -> Any:
    code, text = plugin(product, *arguments, "-o", "json")
    assert code == 0, text
    return json.loads(text)


def test_the_plugin_looks_and_changes_through_port_forwards(product: Product, tmp_path: Path) -> None:
    product.ready(witness=QUICK)
    told = asked(product, "status", "locks")
    assert sorted(row["name"] for row in told["members"]) == ["locks-0", "locks-1", "locks-2"]
    members = asked(product, "members", "locks")
    assert len(members) == 3
    follower = next(row["name"] for row in members if not row["leader"] and "full" in row["role"])
    asked(product, "transfer", "locks", follower)
    assert next(row["name"] for row in asked(product, "members", "locks") if row["leader"]) == follower
    code, text = plugin(product, "promote", "locks", "locks-2", "--expected-epoch", "1")
    assert code == 4, text
    archive = tmp_path / "archive"
    assert asked(product, "backup", "locks", "--file", str(archive))["bytes"] > 0
    code, text = plugin(product, "logs", "locks", "--tail", "20")
    assert code == 0
    assert {line.split("  ")[0] for line in text.splitlines()} == {"locks-0", "locks-1", "locks-2"}
    bundle = tmp_path / "bundle.tar.gz"
    asked(product, "report", "locks", "--file", str(bundle))
    with tarfile.open(bundle) as opened:
        assert {"lockcluster.json", "members.json", "logs/locks-0.log"} <= set(opened.getnames())


def test_a_witness_is_promoted_by_hand_and_the_shape_comes_back_after_resume(product: Product) -> None:
    """`gate` beside it: what is active, and that what is active already changes nothing."""
    product.ready(witness=QUICK)
    gate = asked(product, "gate", "locks")
    assert gate["level_active"] == 2
    asked(product, "gate", "locks", "activate", "2")
    assert asked(product, "gate", "locks") == gate
    assert asked(product, "pause", "locks") == {"name": "locks", "paused": True}
    product.wait("locks", "Paused", lambda s: condition(s, "Paused") == "True")
    asked(product, "promote", "locks", "locks-2", "--wait", "60")
    members = asked(product, "members", "locks")
    assert {row["name"] for row in members if "full" in row["role"]} == {"locks-0", "locks-1", "locks-2"}
    assert "locks-2" in plugin(product, "members", "locks")[1]
    asked(product, "resume", "locks")
    product.wait("locks", "the shape", lambda s: roles(s) == SHAPE and is_ready(s), 90)


WRONG = (
    (("status", "lokcs"), 3, "no LockCluster lokcs in namespace"),
    (("members", "lokcs"), 3, "there are locks"),
    (("promote", "locks", "locks-9"), 3, "locks-9"),
    (("promote", "locks", "locks-0"), 0, "member 1 is full"),
    (("transfer", "locks", "locks-2"), 4, "not a full voter"),
    (("transfer", "locks", "locks-9"), 3, "locks-9"),
    (("gate", "locks", "fence"), 2, "gate fence: give the LEVEL"),
    (("gate", "locks", "status", "2"), 2, "takes no LEVEL"),
    (("gate", "locks", "fence", "1"), 2, "LEVEL"),
    (("gate", "locks", "fence", "99"), 4, "99"),
    (("backup", "locks"), 2, "--file"),
    (("backup", "locks", "--file", "a", "--claim", "b"), 2, "--claim"),
    (("backup", "locks", "--file", "/nowhere/archive"), 2, "there is no folder /nowhere"),
    (("logs", "locks", "--tail", "-1"), 2, "--tail"),
    (("logs", "lokcs"), 3, "lokcs"),
    (("report", "locks", "--file", "/nowhere/report"), 2, "there is no folder /nowhere"),
    (("restart", "lokcs"), 3, "lokcs"),
    (("pause",), 2, "CLUSTER"),
    (("fly",), 2, "fly"),
)


def test_wrong_words_are_one_line_with_its_exit_code_and_change_nothing(product: Product) -> None:
    product.ready()
    before = product.get("lockcluster", "locks")["metadata"]["generation"], product.status("locks")["members"]
    wrong = []
    for words, code, part in WRONG:
        found, text = plugin(product, *words)
        if found != code or part not in text or "Traceback" in text:
            wrong.append(f"{' '.join(words)}: {found}, not {code}: {text!r}")
    assert not wrong, "\n".join(wrong)
    after = product.get("lockcluster", "locks")["metadata"]["generation"], product.status("locks")["members"]
    assert after == before


def test_a_restart_is_a_roll_that_loses_nothing_and_waits_while_paused(product: Product) -> None:
    product.ready(witness=QUICK)
    before = {name: pod["metadata"]["uid"] for name, pod in product.pods().items()}
    product.start_load()
    asked(product, "pause", "locks")
    asked(product, "restart", "locks")
    passes = product.passes()
    product.wait_passes(passes + 3)
    assert {name: pod["metadata"]["uid"] for name, pod in product.pods().items()} == before
    asked(product, "resume", "locks")
    host.wait_until("all pods are new", 300, lambda: not set(uids(product)) & set(before.values()), every=2)
    product.wait("locks", "Ready", lambda s: is_ready(s) and roles(s) == SHAPE, 120)
    seen = product.end_load()
    assert (seen.lost, seen.failures, seen.held) == ((), (), True)


def uids(product: Product) -> list[str]:
    return [pod["metadata"]["uid"] for pod in product.pods().values()]


def test_helm_test_takes_a_lock_and_leaves_nothing(product: Product) -> None:
    """Its LockCluster has no image of its own: that of the chart's repository and version."""
    if isinstance(product.kubernetes, OnBed):
        name_as(product.kubernetes.bed, product.server_image, metadata.version("lockmaster"))
    told = product.kubernetes.helm("test", "e2e", "-n", SYSTEM, "--logs", "--timeout=300s")
    assert "works: a lock was granted" in told
    left = product.kubernetes.kubectl("-n", SYSTEM, "get", "lockclusters", "-o", "name")
    assert left.strip() == ""
